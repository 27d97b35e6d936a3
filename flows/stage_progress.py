"""Progress of a long stage as an artifact of Prefect, read from the lines that the stage prints."""

import re
import time
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

FINISHED = re.compile(r"^(?:epoch|trial) (\d+)/(\d+)\b|^\w+: ([\d,]+) of ([\d,]+) \w+, \d+%")
"""Lines about finished units: epochs of a training, trials of a search, images."""
STARTED = re.compile(r"^\w+ (\d+) of (\d+): ")
"""Lines about the unit that starts, such as an audit."""
INTERVAL = 5.0
"""Seconds from the start of a stage to its artifact, and between two updates."""


def share(line: str) -> float | None:
    """Return the finished share of the work, 0..1, that a line states; None if it states none.

    >>> share("epoch 3/12  loss 0.4 train"), share("ingest: 1,500 of 2,000 images, 75%"), share("audit 3 of 11: power")
    (0.25, 0.75, 0.18181818181818182)
    """
    if found := FINISHED.match(line):
        done, total = (int(number.replace(",", "")) for number in found.groups() if number)
    elif found := STARTED.match(line):
        done, total = int(found[1]) - 1, int(found[2])
    else:
        return None
    return done / total if total else None


class StageProgress:
    """Progress artifact of one stage; a stage that ends within `INTERVAL`, or prints no progress, has none."""

    def __init__(self, stage: str) -> None:
        """Start the clock.

        Args:
            stage: name of the stage.
        """
        self._stage = stage
        self._updated = time.monotonic()
        self._artifact: UUID | None = None

    def read(self, line: str) -> None:
        """Update the artifact if a line states the progress, at most every `INTERVAL`."""
        done = share(line)
        if done is not None and time.monotonic() - self._updated >= INTERVAL:
            self._publish(done)

    def finish(self) -> None:
        """Set an artifact that exists to 100 %."""
        if self._artifact is not None:
            self._publish(1.0)

    def _publish(self, done: float) -> None:
        self._updated = time.monotonic()
        key = re.sub(r"[^a-z0-9]+", "-", self._stage.lower()).strip("-")
        try:
            if self._artifact is None:
                words = f"Progress of `{self._stage}`"
                self._artifact = create_progress_artifact(100 * done, key=f"{key}-progress", description=words)  # type: ignore[assignment]
            else:
                update_progress_artifact(self._artifact, 100 * done)
        except Exception as error:  # the server may be away; the stage continues
            get_run_logger().warning("the progress of %s was not published: %s", self._stage, error)
