"""Candidate groups from capture times: sessions, between which the gaps are much longer than within."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stages.configuration.filename_patterns import FEWEST_IMAGES, CandidateGrouping, is_plausible
from stages.configuration.name_parts import divide
from stages.core.plurals import quantity
from stages.dataset.capture_times import number_sessions, parse_times
from stages.importers.sample import Sample, split_from_path

GAPS = (0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 240, 480)
"""Candidate values of `ingest.session_gap`, minutes."""
UNCLEAR = 0.1  # gaps that differ by less than a factor of 2 from the candidate, per gap that exceeds it
LONGER = 10.0  # ratio of the median gap between sessions to that within
MIN_TIMED = 0.9  # share of the images with a capture time


def find_sessions(
    items: Sequence[Sample], labels: Sequence[str], taken: Mapping[int, str]
) -> Iterator[CandidateGrouping]:
    """Yield the divisions of images into sessions that gaps between capture times show clearly, the finest first.

    Args:
        items: images.
        labels: class of each image, or ''.
        taken: EXIF time by index; images without one are groups of their own.
    """
    seconds_N = parse_times([taken.get(place, "") for place in range(len(items))])
    known_N = np.sort(seconds_N[np.isfinite(seconds_N)])
    if len(known_N) < max(FEWEST_IMAGES, MIN_TIMED * len(items)):
        return
    splits = [split_from_path(item.path) for item in items]
    gaps = np.diff(known_N)
    by_division: dict[tuple[int, ...], list[float]] = defaultdict(list)
    keys_of: dict[tuple[int, ...], tuple[str, ...]] = {}
    for minutes in GAPS:
        if _separates(gaps, 60 * minutes):
            number_N = number_sessions(seconds_N, 60 * minutes)
            keys = tuple(f"session {n}" if n >= 0 else item.path for n, item in zip(number_N, items, strict=True))
            division = divide(keys)
            if is_plausible(division, labels, splits):
                by_division[division].append(minutes)
                keys_of[division] = keys
    read_ = "" if len(known_N) == len(items) else f" that were read, {len(known_N)} of {len(items)},"
    for division, values in by_division.items():
        minutes = values[len(values) // 2]
        within, between = (float(np.median(some)) for some in (gaps[gaps <= 60 * minutes], gaps[gaps > 60 * minutes]))
        sessions = int((gaps > 60 * minutes).sum()) + 1
        why = (
            f"the capture times{read_} divide {quantity(len(known_N), 'image')} into {quantity(sessions, 'session')}, "
            f"with a median gap of {_duration(between)} between sessions and of {_duration(within)} within"
        )
        pattern = f"session_gap: {minutes:g}"
        yield CandidateGrouping(pattern, keys_of[division], division, why, "", False, session_gap=minutes)


def _separates(gaps: np.ndarray, limit: float) -> bool:
    """Return True if hardly any gap is near the limit, and those above it are much longer than those below.

    Args:
        gaps: gaps between successive images, seconds.
        limit: longest gap within a session, seconds.
    """
    above, below = gaps[gaps > limit], gaps[gaps <= limit]
    if not len(above) or not len(below):
        return False
    unclear = int(((gaps > limit / 2) & (gaps <= 2 * limit)).sum())
    return unclear <= UNCLEAR * len(above) and float(np.median(above)) >= LONGER * max(1.0, float(np.median(below)))


def _duration(seconds: float) -> str:
    """Return a duration in its largest unit.

    >>> _duration(3), _duration(5400), _duration(200_000)
    ('3 s', '1.5 h', '2.3 days')
    """
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"
