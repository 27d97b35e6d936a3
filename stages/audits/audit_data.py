"""Input of the audits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.shapes import Array, Bool, Float
from stages.dataset.manifest import parse_annotations
from stages.near_duplicates.search import Copies, find_copies
from stages.networks.feature_cache import features_of_rows
from stages.networks.feature_record import describe_features
from stages.probes.feature_blocks import combine_features
from stages.probes.image_features import image_features


@dataclass(frozen=True)
class ProbeFeatures:
    """Features of images for one ridge regression."""

    features_NF: Float[Array, "N F"]
    standardized: bool
    """Whether the regression standardizes them; false if they are combined with chosen weights."""
    share: float
    """Share of the pretrained features in the total variance, 0 to 1."""
    name: str
    """Kinds of features in words."""


@dataclass(frozen=True)
class AuditData:
    """Ingested data. Of the sealed test split, only hashes and groups are available."""

    rows: pd.DataFrame
    """Manifest of the training and validation images."""
    sealed: pd.DataFrame
    """Columns group, content, pixels and phash of the test images."""
    folder: Path
    """Output folder of ingest, from which the images of `rows` can be read."""
    max_images: int = 5000
    """Maximum number of images in `sample`, for audits that decode images or whose cost grows faster than linearly."""
    grades: tuple[str, ...] = ()
    """Classes from lowest to highest if the task is ordinal, else empty."""
    uses_pretrained: bool = False
    """Whether features of a network with ImageNet weights are used as well as those of random patches."""

    @cached_property
    def one_class_each(self) -> bool:
        """True if every image has exactly one class."""
        return all(a.labels is not None and len(a.labels) == 1 for a in parse_annotations(self.rows))

    @cached_property
    def copies(self) -> Copies:
        """Duplicates and near-duplicates among the training and validation images."""
        return find_copies(self.rows, self.folder, len(self.sealed))

    @cached_property
    def sample(self) -> pd.DataFrame:
        """Random sample of at most `max_images` rows: as many groups as possible, each with a similar share."""
        if len(self.rows) <= self.max_images:
            return self.rows
        shuffled = self.rows.sample(frac=1, random_state=0)
        turn = shuffled.groupby("group").cumcount()
        return shuffled.loc[turn.sort_values(kind="stable").index[: self.max_images]].sort_index()

    @cached_property
    def features(self) -> Float[Array, "N F"]:
        """Features of the images of `sample`, float32; see `stages.probes.image_features`."""
        return image_features(self.sample, self.folder)

    @cached_property
    def pretrained(self) -> Float[Array, "N 1280"] | None:
        """Pretrained features of the images of `sample`; None if they are not used."""
        return features_of_rows(self.sample, self.folder) if self.uses_pretrained else None

    def probe_features(self, chosen_N: Bool[Array, " N"], target_MK: Float[Array, "M K"]) -> ProbeFeatures:
        """Return features of some images of `sample`: patches, combined with pretrained features if these are used.

        Args:
            chosen_N: True for M images.
            target_MK: targets of these images, in a common unit, from which the weight of each kind is chosen.
        """
        if self.pretrained is None:
            return ProbeFeatures(self.features[chosen_N], True, 0.0, describe_features(0.0))
        every_M = np.ones(len(target_MK), bool)
        found = combine_features(self.features[chosen_N], self.pretrained[chosen_N], every_M, target_MK)
        return ProbeFeatures(found.features_MF, False, found.share, describe_features(found.share))


Find = Callable[[AuditData, Audit], list[Finding]]
"""An audit. It does not raise on bad data and returns at least one finding, with severity `passed` if all is well; none
if its question does not arise."""
