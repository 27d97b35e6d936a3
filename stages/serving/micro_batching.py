"""Dynamic batching without a delay: images that arrive during a run form the next batch."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from stages.core.plurals import quantity
from stages.core.shapes import Array, Integer
from stages.serving.metrics import Metrics

SMOOTHING = 0.2
"""Weight of the last run in the expected time per image."""
MAX_BATCH_PIXELS = 2**24
"""Maximum pixels of a batch of several images; batching does not speed up large images, and 16 of 50 MP need 10 GB."""


@dataclass
class QueuedImage:
    """An image in the queue, and the future of its prediction."""

    image: Integer[Array, "H W C"]
    answer: "asyncio.Future[Any]"
    since: float = field(default_factory=time.perf_counter)


class MicroBatcher:
    """Runs a model on batches of images of one size, with a limit of the expected duration of a batch.

    A free thread starts a batch immediately, so images are queued only while all threads are busy: a single client
    never waits, and many clients get the throughput of batches (adaptive batching, Crankshaw et al. 2017, without the
    delay).
    """

    def __init__(
        self, run: Callable[[list[Array]], list[Any]], parallel: int, most: int, latency: float, metrics: Metrics
    ) -> None:
        """Create a batcher.

        Args:
            run: returns the prediction of each image of a list.
            parallel: number of concurrent runs.
            most: maximum number of images per batch.
            latency: maximum expected duration of a batch of several images, or the waiting time of the first if
                longer, seconds.
            metrics: Prometheus metrics.
        """
        self.run, self.most, self.latency, self.metrics = run, most, latency, metrics
        self.free = parallel
        self.seconds_per_image = 0.0
        self.waiting: deque[QueuedImage] = deque()
        self.closed = False
        self.lock = threading.Lock()
        """Protects `free`, `waiting`, `seconds_per_image` and `closed`."""
        self.pool = ThreadPoolExecutor(parallel, "run")

    async def predict(self, image: Integer[Array, "H W C"]) -> Any:
        """Return the prediction for one image; exceptions of the model are raised.

        Raises:
            RuntimeError: the batcher is closed.
        """
        loop = asyncio.get_running_loop()
        queued = QueuedImage(image, loop.create_future())
        with self.lock:
            if self.closed:
                raise RuntimeError("the batcher is closed")
            self.waiting.append(queued)
            if self.free:
                self.free -= 1
                self.pool.submit(self._work, loop)
        return await queued.answer

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run one batch in a thread of the pool, and submit the next; after `close`, run all batches."""
        while self._run_next(loop):
            with self.lock:  # the pool accepts no task after `close`
                if not self.closed:
                    self.pool.submit(self._work, loop)
                    return

    def _run_next(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Run the next batch; return whether there was one."""
        with self.lock:
            batch = self._next_batch()
            if not batch:
                self.free += 1
                return False
        started = time.perf_counter()
        predictions = self._run_batch([queued.image for queued in batch])
        seconds = time.perf_counter() - started
        with self.lock:
            before = self.seconds_per_image or seconds / len(batch)
            self.seconds_per_image = (1 - SMOOTHING) * before + SMOOTHING * seconds / len(batch)
        loop.call_soon_threadsafe(_set_results, batch, predictions)
        self.metrics.record_run(len(batch), seconds)
        for queued in batch:
            self.metrics.step("wait", started - queued.since)
        return True

    def _next_batch(self) -> list[QueuedImage]:
        """Take from the queue the first image and those of its size, up to the limit; drop cancelled requests."""
        while self.waiting and self.waiting[0].answer.done():
            self.waiting.popleft()
        if not self.waiting:
            return []
        first = self.waiting[0]
        allowed = max(self.latency, time.perf_counter() - first.since)  # after a long wait, a larger batch is faster
        limit = self.most if not self.seconds_per_image else int(allowed / self.seconds_per_image)
        shape, others = first.image.shape, deque[QueuedImage]()
        limit = max(1, min(self.most, limit, MAX_BATCH_PIXELS // (shape[0] * shape[1])))
        batch: list[QueuedImage] = []
        while self.waiting and len(batch) < limit:
            queued = self.waiting.popleft()
            if queued.image.shape != shape:
                others.append(queued)
            elif not queued.answer.done():
                batch.append(queued)
        others.extend(self.waiting)
        self.waiting = others
        return batch

    def _run_batch(self, images: list[Integer[Array, "H W C"]]) -> list[Any]:
        """Return a prediction or an exception for each image; if a batch fails, its images are run separately."""
        try:
            return _with_length(self.run(images), len(images))
        except Exception as error:  # raised in the waiting request
            if len(images) == 1:
                return [error]
        return [prediction for image in images for prediction in self._run_batch([image])]

    def close(self) -> None:
        """Accept no further image, predict the queued images, and then stop the threads; return immediately."""
        with self.lock:
            self.closed = True
            self.pool.shutdown(wait=False)


def _with_length(predictions: list[Any], length: int) -> list[Any]:
    """Return the predictions; raise RuntimeError if there is not one per image."""
    if len(predictions) != length:
        raise RuntimeError(f"the model returned {len(predictions)} predictions for {quantity(length, 'image')}")
    return predictions


def _set_results(batch: list[QueuedImage], predictions: list[Any]) -> None:
    """Set the results of the requests that still wait; runs in the event loop."""
    for queued, prediction in zip(batch, predictions, strict=True):
        if queued.answer.done():
            continue
        if isinstance(prediction, BaseException):
            queued.answer.set_exception(prediction)
        else:
            queued.answer.set_result(prediction)
