"""What an audit looks at."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.dataset.manifest import parse_annotations
from stages.near_duplicates.search import Copies, copies
from stages.probes.image_features import features


@dataclass(frozen=True)
class Subject:
    """The ingested data, with the sealed test known only by its hashes and groups."""

    rows: pd.DataFrame
    """Manifest of train and val."""
    sealed: pd.DataFrame
    """group, content, pixels, phash of the test images."""
    folder: Path
    """Where ingest wrote; the images of `rows` can be read from it."""
    most: int = 5000
    """Images that audits look at whose cost grows faster than their number, or that look at pixels again."""
    grades: tuple[str, ...] = ()
    """The classes from the lowest to the highest, where the task is to answer a grade."""

    @cached_property
    def one_class_each(self) -> bool:
        """Whether the label of every image is exactly one class, which can be foretold."""
        return all(a.labels is not None and len(a.labels) == 1 for a in parse_annotations(self.rows))

    @cached_property
    def copies(self) -> Copies:
        """Which rows show one picture, or one picture changed."""
        return copies(self.rows, self.folder, len(self.sealed))

    @cached_property
    def sample(self) -> pd.DataFrame:
        """At most `most` of the rows at random: as many groups as there can be, then as even a share of each."""
        if len(self.rows) <= self.most:
            return self.rows
        shuffled = self.rows.sample(frac=1, random_state=0)
        turn = shuffled.groupby("group").cumcount()
        return shuffled.loc[turn.sort_values(kind="stable").index[: self.most]].sort_index()

    @cached_property
    def features(self) -> np.ndarray[Any, Any]:
        """float32 [N, F] of the images of `sample`: see `stages.probes.image_features`."""
        return features(self.sample, self.folder)


Find = Callable[[Subject, Audit], list[Finding]]
"""An audit: never raises for bad data, always says something, `passed` where nothing is wrong."""
