"""Micro-batches: what waits while the model runs goes into its next run together; nothing waits for company."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.serving.metrics import Metrics

Array = np.ndarray[Any, Any]
SMOOTHING = 0.2
"""Weight of the last run in what an image is expected to take."""
MOST_PIXELS = 2**24
"""Of a run of several: large images gain nothing by company, and sixteen of 50 megapixels want 10 GB as floats."""


@dataclass
class Waiting:
    """An image, and who waits for its answer."""

    image: Array
    answer: "asyncio.Future[Any]"
    since: float = field(default_factory=time.perf_counter)


class Batches:
    """Runs of a model, some at once, each with as many images of one size as its latency bound has room for.

    A run that is free takes what is there at once. Images gather only while all runs are taken; a lone client never
    waits, and a crowd gets the throughput of batches (adaptive batching, Crankshaw et al. 2017, without its delay).
    A thread that has run takes what waits by itself: through the event loop it would be idle until that has its turn.
    """

    def __init__(
        self, run: Callable[[list[Array]], list[Any]], parallel: int, most: int, latency: float, metrics: Metrics
    ) -> None:
        """`run` gives an answer for each image of a list; `latency`, seconds, bounds a run of several."""
        self.run, self.most, self.latency, self.metrics = run, most, latency, metrics
        self.free = parallel
        self.seconds_an_image = 0.0
        self.waiting: deque[Waiting] = deque()
        self.lock = threading.Lock()
        """Held to change what stands above."""
        self.pool = ThreadPoolExecutor(parallel, "run")

    async def answer(self, image: Array) -> Any:
        """Of the model for one image [H, W, C]; raises what the model raises."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(image, loop.create_future())
        with self.lock:
            self.waiting.append(waiting)
            starts = self.free > 0
            self.free -= starts
        if starts:
            self.pool.submit(self._work, loop)
        return await waiting.answer

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """One run, in a thread of the pool; the next one is behind all else that the pool was given meanwhile."""
        with self.lock:
            batch = self._taken()
            if not batch:
                self.free += 1
                return
        started = time.perf_counter()
        answers = self._each([one.image for one in batch])
        taken = time.perf_counter() - started
        with self.lock:
            before = self.seconds_an_image or taken / len(batch)
            self.seconds_an_image = (1 - SMOOTHING) * before + SMOOTHING * taken / len(batch)
        self.pool.submit(self._work, loop)
        loop.call_soon_threadsafe(_hand_over, batch, answers)
        self.metrics.ran(len(batch), taken)
        for one in batch:
            self.metrics.step("wait", started - one.since)

    def _taken(self) -> list[Waiting]:
        """The longest waiting image and those of its size behind it; who went away is left out."""
        while self.waiting and self.waiting[0].answer.done():
            self.waiting.popleft()
        if not self.waiting:
            return []
        first = self.waiting[0]
        allowed = max(self.latency, time.perf_counter() - first.since)  # who waited long gains by going with others
        room = self.most if not self.seconds_an_image else int(allowed / self.seconds_an_image)
        shape, others = first.image.shape, deque[Waiting]()
        room = max(1, min(self.most, room, MOST_PIXELS // (shape[0] * shape[1])))
        batch: list[Waiting] = []
        while self.waiting and len(batch) < room:
            one = self.waiting.popleft()
            if one.image.shape != shape:
                others.append(one)
            elif not one.answer.done():
                batch.append(one)
        others.extend(self.waiting)
        self.waiting = others
        return batch

    def _each(self, images: list[Array]) -> list[Any]:
        """An answer or an error for each; where a run of several fails, each gets one of its own."""
        try:
            return self.run(images)
        except Exception as error:  # handed to who waits
            if len(images) == 1:
                return [error]
        return [answer for image in images for answer in self._each([image])]

    def close(self) -> None:
        """Let the threads end, once what waits is answered."""
        self.pool.shutdown(wait=False)


def _hand_over(batch: list[Waiting], answers: list[Any]) -> None:
    """In the event loop, to all who still wait."""
    for one, answer in zip(batch, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, BaseException):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)
