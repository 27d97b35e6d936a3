"""Tests of the number of cores that a process may use, also in a container."""

import os
from pathlib import Path

import pytest

from stages.core.cpu import cores

AVAILABLE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, AVAILABLE),
        ({"cpu.max": "max 100000\n"}, AVAILABLE),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, AVAILABLE),
        ({}, AVAILABLE),
    ],
)
def test_the_cpu_quota_of_a_container_limits_the_cores(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores(tmp_path) == expected


@pytest.mark.skipif(AVAILABLE < 2, reason="takes two cores")
def test_cpu_affinity_limits_the_cores(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
