"""Sessions of images: images whose capture times follow one another without a longer gap.

Axes: N images.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.shapes import Array, Float, Integer

EXIF_TIME = "%Y:%m:%d %H:%M:%S"


def parse_times(taken: Sequence[str]) -> Float[Array, " N"]:
    """Return the seconds since 1970 of EXIF times; NaN for a missing or invalid time.

    >>> parse_times(["1970:01:01 00:01:00", ""])
    array([60., nan])
    """
    when = pd.to_datetime(pd.Series(list(taken), dtype=str), format=EXIF_TIME, errors="coerce")
    return ((when - pd.Timestamp(0)) / pd.Timedelta(seconds=1)).to_numpy(float)


def number_sessions(seconds_N: Float[Array, " N"], gap: float) -> Integer[Array, " N"]:
    """Return the number of the session of each image, in the order of time; -1 for images without a time.

    A new session begins where no image was taken for longer than `gap` seconds.

    Args:
        seconds_N: capture times, NaN if unknown.
        gap: longest gap within a session, seconds.

    >>> number_sessions(np.array([100.0, 0.0, 30.0, np.nan]), gap=60).tolist()
    [1, 0, 0, -1]
    """
    order = np.argsort(seconds_N, kind="stable")[: int(np.isfinite(seconds_N).sum())]
    number_N = np.full(len(seconds_N), -1)
    number_N[order] = np.cumsum(np.diff(seconds_N[order], prepend=seconds_N[order][:1]) > gap)
    return number_N


def name_intervals(seconds_N: Float[Array, " N"], gap: float) -> list[str]:
    """Return the interval of `gap` seconds in which each image was taken, as in `taken 2024-05-01T12:30:00`.

    Images of one interval are always in one session. Unlike a session, an interval does not change when images are
    added, so that the split table can list it.

    Args:
        seconds_N: capture times, all known.
        gap: length of an interval, seconds.
    """
    starts = pd.to_datetime(np.floor(seconds_N / gap) * gap, unit="s")
    return [f"taken {start.isoformat(timespec='seconds')}" for start in starts]
