"""The model that answers, and its exchange for a new file while requests are inside."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core.cpu import cores
from stages.runtime import compute_digest
from stages.serving.metrics import Metrics
from stages.serving.micro_batching import Batches
from stages.serving.model_loading import opened, rehearse
from stages.serving.settings import Settings
from stages.tasks.overlays import legend

log = logging.getLogger("macula.serve")
LOOK = 1.0  # seconds between two looks at the file
SETTLE = 0.2  # seconds for which a new file must stay as it is
TOLD = (
    *("task", "representation", "labels", "points", "scalars", "units", "channels", "depth", "size", "fit"),
    *("precision", "scores", "objective", "commit", "data_version", "opset", "licence"),
)
"""Of a model's metadata."""
Signature = tuple[int, int, int]


class Deployed:
    """An open model, its micro-batches and the requests that use it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Open `settings.model` and run it once.

        Raises:
            UserError: it cannot be opened, or gives no answer.
        """
        self.digest = compute_digest(settings.file)[:12]
        self.model = opened(settings)
        self.name = settings.name or str(self.model.metadata.get("name") or settings.file.stem)
        self.version = str(self.model.metadata["version"])
        parallel, _ = settings.runs(cores())
        self.batches = Batches(self.model.answers, parallel, settings.batch, settings.latency, metrics)
        self.users = 0
        self.left = asyncio.Event()

    @contextmanager
    def used(self) -> Iterator["Deployed"]:
        """Held open for a request."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            if self.users == 0:
                self.left.set()

    async def close(self) -> None:
        """When the last request has its answer."""
        while self.users:
            self.left.clear()
            await self.left.wait()
        self.batches.close()


class ModelHolder:
    """Which model answers now."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Raises `UserError` where the first model cannot be opened."""
        self.settings, self.metrics = settings, metrics
        self.seen = _signature(settings.file)
        self.now = Deployed(settings, metrics)
        metrics.answers_with(self.now.digest, self.now.version)

    async def watch(self) -> None:
        """Look for another file in the model's place, for ever; one that is no model changes nothing."""
        while True:
            await asyncio.sleep(LOOK)
            found = _signature(self.settings.file)
            if found is None or found == self.seen:
                continue
            await asyncio.sleep(SETTLE)
            if _signature(self.settings.file) != found:
                continue  # it is still being written
            self.seen = found
            await self._exchange()

    async def _exchange(self) -> None:
        try:
            await asyncio.to_thread(rehearse, self.settings)
            if _signature(self.settings.file) != self.seen:
                return  # it is another one by now, which has its own turn
            new = await asyncio.to_thread(Deployed, self.settings, self.metrics)
        except Exception as error:  # whatever is wrong with the new file, the old model goes on answering
            self.metrics.reloads.labels("refused").inc()
            log.error(  # noqa: TRY400 - the log has one line per event
                "reload refused", extra={"told": {"error": str(error), "model": self.now.digest}}
            )
            return
        old, self.now = self.now, new
        if new.digest != old.digest:
            self.metrics.reloads.labels("taken").inc()
            self.metrics.answers_with(new.digest, new.version)
        log.info("reload", extra={"told": {"from": old.digest, "to": new.digest, "version": new.version}})
        await old.close()


def _signature(file: Path) -> Signature | None:
    """By which a new file in its place is told; None while there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def about(deployed: Deployed) -> dict[str, Any]:
    """What a client may want to know of the model, JSON-ready."""
    model = deployed.model
    return {
        "name": deployed.name,
        "version": deployed.version,
        "digest": deployed.digest,
        "engine": model.engine.name,
        "colours": {name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in legend(model.spec).items()},
        **{key: model.metadata[key] for key in TOLD if key in model.metadata},
    }
