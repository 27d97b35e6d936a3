"""Number of cores that a process may use."""

import math
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def cores(groups: Path = GROUPS) -> int:
    """Return the number of cores that this process may use, by affinity and by the quota of its container, rounded up.

    In a container that is limited to 2 of 64 cores, the system reports 64, and 64 threads would wait most of the time.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(seen, _quota(groups))))


def _quota(groups: Path) -> float:
    """Return the limit of processor time in cores, from control groups of version 2 or 1; infinite if there is none."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((groups / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    return math.inf
