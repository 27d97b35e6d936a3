"""Memory of a process and its children."""

import subprocess
import time

import psutil


def tree_memory(pid: int) -> float:
    """Return the memory of a process and its children in bytes, 0 if the process has ended.

    Pages that several of them share count once (PSS).
    """
    total = 0.0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # the process has just ended
    return total


def peak_memory(process: subprocess.Popen[bytes], interval: float) -> float:
    """Wait until a process ends and return the highest memory of its process tree in bytes.

    Args:
        process: a running process.
        interval: seconds between two samples.
    """
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(interval)
    return peak
