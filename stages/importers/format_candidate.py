"""A label format in which a source can be read, as a candidate for `configure`."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import is_image_path
from stages.importers import Sample
from stages.importers.table_columns import NO_COLUMNS

MAX_LISTED = 3  # files that a reason names
SOURCE_DEFAULTS: dict[str, Any] = {
    "files": [], "images": "", "targets": "", "name_regex": "", "mask_values": {}, "ignore_values": [],
    "group_regex": "", "sequence_block": 1, "session_gap": 0.0, "group_table": "", "unlabelled": "reject",
    "coco_group": "", "overlaps": "reject", "crowd": "ignore", "columns": NO_COLUMNS,
}  # fmt: skip
"""Neutral values of the keys of `ingest` that describe a data set."""


@dataclass(frozen=True)
class FormatCandidate:
    """A label format in which a source can be read."""

    format: str
    inside: str
    reason: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Values that differ from `SOURCE_DEFAULTS`, by key."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Reason by key of `ingest`, for example `targets` or `columns.group`."""
    asks: tuple[str, ...] = ()
    """Questions about this interpretation, each beginning with the key of the params."""
    has_split: bool = False
    """Whether the source defines all three splits."""
    targets: frozenset[str] = frozenset()
    """Sidecar files that contain the labels."""
    doubt: str = ""
    """Reason why other target files of the same images are the annotation; empty if there is none."""
    samples: tuple[Sample, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    unused: tuple[Rejection, ...] = ()
    """Files that are not images or not part of the data set."""
    question: str = ""
    """Question to ask if this format is chosen, or another one for the same images; empty if the evidence decides."""
    is_doubtful: bool = False
    """Whether any other candidate is preferred, because there is no positive evidence for this one."""

    @cached_property
    def coverage(self) -> int:
        """Number of image files that are samples or targets."""
        pictures = {path for path in self.targets if is_image_path(path)}
        return len(self.samples) + len(pictures)


def image_paths(files: SourceFiles) -> list[str]:
    """Return the paths of the images in a source."""
    return [path for path in files if is_image_path(path)]
