"""The current model, and its replacement by a new file while requests are running."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core.cpu import cores
from stages.runtime import compute_digest
from stages.serving.metrics import Metrics
from stages.serving.micro_batching import MicroBatcher
from stages.serving.model_loading import load_model, try_in_subprocess
from stages.serving.settings import Settings
from stages.tasks.image_outputs import class_values
from stages.tasks.overlays import legend
from stages.tasks.task_spec import TaskSpec

log = logging.getLogger("macula.serve")
POLL_SECONDS = 1.0  # between two checks of the file
SETTLE_SECONDS = 0.2  # during which a new file must not change
DESCRIBED = (
    *("task", "representation", "labels", "points", "scalars", "units", "channels", "depth", "size", "fit"),
    *("precision", "scores", "objective", "commit", "data_version", "opset", "licence"),
)
"""Metadata of the model that clients can read."""
Signature = tuple[int, int, int]


class LoadedModel:
    """A loaded model with its micro-batcher and the number of requests that use it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Load `settings.model` and run it once.

        Raises:
            UserError: the model cannot be loaded or run.
        """
        self.digest = compute_digest(settings.file)[:12]
        self.model = load_model(settings)
        self.name = settings.name or str(self.model.metadata.get("name") or settings.file.stem)
        self.version = str(self.model.metadata["version"])
        parallel, _ = settings.runs(cores())
        self.batches = MicroBatcher(self.model.predict_batch, parallel, settings.batch, settings.latency, metrics)
        self.users = 0
        self.unused = asyncio.Event()

    @contextmanager
    def used(self) -> Iterator["LoadedModel"]:
        """Keep the model open during a request."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            if self.users == 0:
                self.unused.set()

    async def close(self) -> None:
        """Close the model after its last request."""
        while self.users:
            self.unused.clear()
            await self.unused.wait()
        self.batches.close()


class ModelHolder:
    """Holds the current model and replaces it when its file changes."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Load the first model.

        Raises:
            UserError: the model cannot be loaded or run.
        """
        self.settings, self.metrics = settings, metrics
        self.seen = _signature(settings.file)
        self.now = LoadedModel(settings, metrics)
        metrics.set_model(self.now.digest, self.now.version)

    async def watch(self) -> None:
        """Watch the model file and load a new one; if the new file is invalid, continue with the current model."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            current = _signature(self.settings.file)
            if current is None or current == self.seen:
                continue
            await asyncio.sleep(SETTLE_SECONDS)
            if _signature(self.settings.file) != current:
                continue  # it is still being written
            self.seen = current
            await self._replace()

    async def _replace(self) -> None:
        try:
            await asyncio.to_thread(try_in_subprocess, self.settings)
            if _signature(self.settings.file) != self.seen:
                return  # the file has changed again; the next check handles it
            new = await asyncio.to_thread(LoadedModel, self.settings, self.metrics)
        except Exception as error:  # after any error of the new file the current model remains in use
            self.metrics.reloads.labels("refused").inc()
            log.error(  # noqa: TRY400 - the log has one line per event
                "reload refused", extra={"fields": {"error": str(error), "model": self.now.digest}}
            )
            return
        old, self.now = self.now, new
        if new.digest != old.digest:
            self.metrics.reloads.labels("taken").inc()
            self.metrics.set_model(new.digest, new.version)
        log.info("reload", extra={"fields": {"from": old.digest, "to": new.digest, "version": new.version}})
        await old.close()


def _signature(file: Path) -> Signature | None:
    """Return the modification time, size and inode, which identify a file; None if it does not exist."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def describe_model(deployed: LoadedModel) -> dict[str, Any]:
    """Return the description of the model for clients, JSON-ready."""
    model = deployed.model
    return {
        "name": deployed.name,
        "version": deployed.version,
        "digest": deployed.digest,
        "engine": model.engine.name,
        **_describe_masks(model.spec),
        "colours": {name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in legend(model.spec).items()},
        **{key: model.metadata[key] for key in DESCRIBED if key in model.metadata},
    }


def _describe_masks(spec: TaskSpec) -> dict[str, Any]:
    """Return the value of each class in `picture`; empty unless the task is segmentation."""
    if spec.task != "segmentation":
        return {}
    return {"mask_values": dict(zip(spec.labels, class_values(spec).tolist(), strict=True))}
