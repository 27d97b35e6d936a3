"""Progress of long work: bars in a terminal, otherwise lines, on standard error."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from stages.core.plurals import quantity

Item = TypeVar("Item")
INTERVAL = 10.0
"""Seconds between two lines."""


class Progress:
    """Progress of work on a known number of images or other units.

    In a terminal it is a bar. Elsewhere, lines appear at once: the first at the start, others at most every `INTERVAL`.
    """

    def __init__(self, task: str, total: int, unit: str = "image") -> None:
        """Print the start.

        Args:
            task: name of the work.
            total: number of units.
            unit: what is counted, in the singular.
        """
        self._task, self._total, self._unit, self._done = task, total, unit, 0
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=task, unit=f" {unit}s")
        else:
            _print(f"{task}: {quantity(total, unit)}")
            self._printed = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Add finished units."""
        self._done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif self._done < self._total and now - self._printed >= INTERVAL:
            share = self._done / self._total
            _print(f"{self._task}: {self._done:,} of {quantity(self._total, self._unit)}, {share:.0%}")
            self._printed = now

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()


def track(items: Iterable[Item], task: str, total: int, unit: str = "image") -> Iterator[Item]:
    """Yield items, and show how many are finished.

    Args:
        items: any items.
        task: name of the work.
        total: number of items.
        unit: what an item is, in the singular.
    """
    progress = Progress(task, total, unit)
    try:
        for item in items:
            yield item
            progress.advance()
    finally:
        progress.close()


@contextmanager
def announce(task: str) -> Iterator[None]:
    """Print that work of unknown length starts, and every `INTERVAL` that it still runs."""
    _print(task)
    ended, began = threading.Event(), time.monotonic()

    def repeat() -> None:
        while not ended.wait(INTERVAL):
            _print(f"{task}: running for {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
