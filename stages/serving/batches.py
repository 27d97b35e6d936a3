"""Micro-batches: what waits while the model runs goes into its next run together; nothing waits for company."""

import asyncio
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
    """

    def __init__(
        self, run: Callable[[list[Array]], list[Any]], parallel: int, most: int, latency: float, metrics: Metrics
    ) -> None:
        """`run` gives an answer for each image of a list; `latency`, seconds, bounds a run of several."""
        self.run, self.most, self.latency, self.metrics = run, most, latency, metrics
        self.free = parallel
        self.seconds_an_image = 0.0
        self.waiting: deque[Waiting] = deque()
        self.pool = ThreadPoolExecutor(parallel, "run")

    async def answer(self, image: Array) -> Any:
        """Of the model for one image [H, W, C]; raises what the model raises."""
        waiting = Waiting(image, asyncio.get_running_loop().create_future())
        self.waiting.append(waiting)
        self._start()
        return await waiting.answer

    def _start(self) -> None:
        while self.free and self.waiting:
            batch = self._taken()
            if batch:
                self.free -= 1
                asyncio.get_running_loop().create_task(self._ran(batch))

    def _taken(self) -> list[Waiting]:
        """The longest waiting image and those of its size behind it; who went away is left out."""
        while self.waiting and self.waiting[0].answer.done():
            self.waiting.popleft()
        if not self.waiting:
            return []
        room = self.most if not self.seconds_an_image else int(self.latency / self.seconds_an_image)
        room = max(1, min(self.most, room))
        shape, others = self.waiting[0].image.shape, deque[Waiting]()
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

    async def _ran(self, batch: list[Waiting]) -> None:
        started = time.perf_counter()
        for one in batch:
            self.metrics.step("wait", started - one.since)
        images = [one.image for one in batch]
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self.pool, self._each, images)
        finally:
            self.free += 1
        taken = time.perf_counter() - started
        share = taken / len(batch)
        before = self.seconds_an_image or share
        self.seconds_an_image = (1 - SMOOTHING) * before + SMOOTHING * share
        self.metrics.ran(len(batch), taken)
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():
                continue
            if isinstance(answer, BaseException):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
        self._start()

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
