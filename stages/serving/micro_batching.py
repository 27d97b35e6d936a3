"""Dynamic batching without a delay: images that arrive during a run form the next batch."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

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
        self.lock = threading.Lock()
        """Protects `free`, `waiting` and `seconds_per_image`."""
        self.pool = ThreadPoolExecutor(parallel, "run")

    async def predict(self, image: Integer[Array, "H W C"]) -> Any:
        """Return the prediction for one image; exceptions of the model are raised."""
        loop = asyncio.get_running_loop()
        queued = QueuedImage(image, loop.create_future())
        with self.lock:
            self.waiting.append(queued)
            starts = self.free > 0
            self.free -= starts
        if starts:
            self.pool.submit(self._work, loop)
        return await queued.answer

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run one batch in a thread of the pool, and submit the next."""
        with self.lock:
            batch = self._next_batch()
            if not batch:
                self.free += 1
                return
        started = time.perf_counter()
        predictions = self._run_batch([queued.image for queued in batch])
        seconds = time.perf_counter() - started
        with self.lock:
            before = self.seconds_per_image or seconds / len(batch)
            self.seconds_per_image = (1 - SMOOTHING) * before + SMOOTHING * seconds / len(batch)
        self.pool.submit(self._work, loop)
        loop.call_soon_threadsafe(_set_results, batch, predictions)
        self.metrics.record_run(len(batch), seconds)
        for queued in batch:
            self.metrics.step("wait", started - queued.since)

    def _next_batch(self) -> list[QueuedImage]:
        """Return the first image of the queue and those of its size, up to the limit, without cancelled requests."""
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
            return self.run(images)
        except Exception as error:  # raised in the waiting request
            if len(images) == 1:
                return [error]
        return [prediction for image in images for prediction in self._run_batch([image])]

    def close(self) -> None:
        """Stop the threads; all images must have been predicted."""
        self.pool.shutdown(wait=False)


def _set_results(batch: list[QueuedImage], predictions: list[Any]) -> None:
    """Set the results of the requests that still wait; runs in the event loop."""
    for queued, prediction in zip(batch, predictions, strict=True):
        if queued.answer.done():
            continue
        if isinstance(prediction, BaseException):
            queued.answer.set_exception(prediction)
        else:
            queued.answer.set_result(prediction)
