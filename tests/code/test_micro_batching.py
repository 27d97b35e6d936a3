"""Micro-batches of the server: who is run with whom, and who gets what."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from stages.serving import micro_batching as batches
from stages.serving.metrics import Metrics
from stages.serving.micro_batching import MicroBatcher


class Runs:
    """A model that answers with an image's value, remembers its runs, and holds them while `open` is not set."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, images: list[Any]) -> list[float]:
        self.sizes.append(len(images))
        self.begun.set()
        assert self.open.wait(10)
        if any(image.max() == 255 for image in images):
            raise ValueError("white")
        return [float(image.max()) for image in images]


def image(value: int, size: int = 4) -> Any:
    return np.full((size, size, 3), value, np.uint8)


@pytest.fixture
def runs() -> Runs:
    return Runs()


def while_held(
    runs: Runs, images: list[Any], most: int = 8, latency: float = 10.0, waited: float = 0.0, pace: float = 0.0
) -> list[Any]:
    """Answers to images, of which the first is run while the others come; the run is held for `waited` seconds."""

    async def crowd() -> list[Any]:
        batches = MicroBatcher(runs, 1, most, latency, Metrics())
        batches.seconds_per_image = pace
        first = asyncio.create_task(batches.predict(images[0]))
        await asyncio.to_thread(runs.begun.wait, 10)
        others = [asyncio.create_task(batches.predict(one)) for one in images[1:]]
        await asyncio.sleep(waited)
        runs.open.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        batches.close()
        return found

    return run(crowd)


def run(what: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(what(), 20))


def test_what_comes_while_the_model_runs_goes_together_and_each_gets_its_own_answer(runs: Runs) -> None:
    assert while_held(runs, [image(value) for value in range(6)]) == [0, 1, 2, 3, 4, 5]
    assert runs.sizes == [1, 5]


def test_no_run_has_more_images_than_allowed(runs: Runs) -> None:
    while_held(runs, [image(value) for value in range(8)], most=3)
    assert runs.sizes == [1, 3, 3, 1]


def test_large_images_are_run_with_few_others(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_PIXELS", 40)  # two and a half of 4 x 4
    while_held(runs, [image(value) for value in range(6)])
    assert runs.sizes == [1, 2, 2, 1]


def test_images_of_another_size_go_in_a_run_of_their_own(runs: Runs) -> None:
    given = [image(0), image(1), image(2, size=5), image(3), image(4, size=5)]
    assert while_held(runs, given) == [0, 1, 2, 3, 4]
    assert runs.sizes == [1, 2, 2]


def test_an_image_that_fails_takes_none_of_its_run_with_it(runs: Runs) -> None:
    first, good, bad, other = while_held(runs, [image(0), image(1), image(255), image(3)])
    assert (first, good, other) == (0, 1, 3)
    assert isinstance(bad, ValueError)


def test_a_run_takes_no_more_images_than_its_latency_has_room_for(runs: Runs) -> None:
    while_held(runs, [image(value) for value in range(5)], latency=2.0, pace=1.0)
    assert runs.sizes[:2] == [1, 2]


def test_who_has_waited_longer_than_the_latency_is_run_with_as_many_as_that_has_room_for(runs: Runs) -> None:
    while_held(runs, [image(value) for value in range(5)], latency=0.01, pace=0.01, waited=0.5)
    assert runs.sizes == [1, 4]


def test_who_went_away_is_not_run(runs: Runs) -> None:
    async def one_leaves() -> None:
        batches = MicroBatcher(runs, 1, 8, 10.0, Metrics())
        first = asyncio.create_task(batches.predict(image(0)))
        await asyncio.to_thread(runs.begun.wait, 10)
        leaving, staying = (asyncio.create_task(batches.predict(image(value))) for value in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        runs.open.set()
        assert list(await asyncio.gather(first, staying)) == [0, 2]
        batches.close()

    run(one_leaves)
    assert runs.sizes == [1, 1]


def test_after_a_rest_it_answers_again(runs: Runs) -> None:
    async def twice() -> None:
        batches = MicroBatcher(runs, 2, 8, 10.0, Metrics())
        runs.open.set()
        for value in (1, 2, 3):
            assert await batches.predict(image(value)) == value
            await asyncio.sleep(0.02)
        batches.close()

    run(twice)
    assert runs.sizes == [1, 1, 1]


def test_many_at_once_all_get_their_own_answers(runs: Runs) -> None:
    async def many() -> list[Any]:
        batches = MicroBatcher(runs, 3, 4, 10.0, Metrics())
        runs.open.set()
        found = await asyncio.gather(*(batches.predict(image(value % 200, 2 + value % 3)) for value in range(600)))
        batches.close()
        return list(found)

    assert run(many) == [value % 200 for value in range(600)]
    assert sum(runs.sizes) == 600 > len(runs.sizes)
