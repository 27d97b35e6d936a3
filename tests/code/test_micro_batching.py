"""Tests of micro-batching: the composition of batches, and the prediction that each request receives."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from stages.serving import micro_batching
from stages.serving.metrics import Metrics
from stages.serving.micro_batching import MicroBatcher


class Runs:
    """A model that predicts the maximum of an image, records its batch sizes, and blocks until `release` is set."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.started, self.release = threading.Event(), threading.Event()

    def __call__(self, images: list[Any]) -> list[float]:
        self.sizes.append(len(images))
        self.started.set()
        assert self.release.wait(10)
        if any(image.max() == 255 for image in images):
            raise ValueError("white")
        return [float(image.max()) for image in images]


def image(value: int, size: int = 4) -> Any:
    return np.full((size, size, 3), value, np.uint8)


@pytest.fixture
def runs() -> Runs:
    return Runs()


def predict_while_busy(
    runs: Runs, images: list[Any], most: int = 8, latency: float = 10.0, waited: float = 0.0, pace: float = 0.0
) -> list[Any]:
    """Return the predictions for images that are queued while the run of the first is held for `waited` seconds."""

    async def predict_all() -> list[Any]:
        batcher = MicroBatcher(runs, 1, most, latency, Metrics())
        batcher.seconds_per_image = pace
        first = asyncio.create_task(batcher.predict(images[0]))
        await asyncio.to_thread(runs.started.wait, 10)
        others = [asyncio.create_task(batcher.predict(one)) for one in images[1:]]
        await asyncio.sleep(waited)
        runs.release.set()
        predictions = await asyncio.gather(first, *others, return_exceptions=True)
        batcher.close()
        return predictions

    return run(predict_all)


def run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(function(), 20))


def test_images_queued_during_a_run_form_the_next_batch(runs: Runs) -> None:
    assert predict_while_busy(runs, [image(value) for value in range(6)]) == [0, 1, 2, 3, 4, 5]
    assert runs.sizes == [1, 5]


def test_no_batch_exceeds_the_maximum_number_of_images(runs: Runs) -> None:
    predict_while_busy(runs, [image(value) for value in range(8)], most=3)
    assert runs.sizes == [1, 3, 3, 1]


def test_large_images_are_run_in_small_batches(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batching, "MAX_BATCH_PIXELS", 40)  # two and a half of 4 x 4
    predict_while_busy(runs, [image(value) for value in range(6)])
    assert runs.sizes == [1, 2, 2, 1]


def test_images_of_different_sizes_are_in_separate_batches(runs: Runs) -> None:
    images = [image(0), image(1), image(2, size=5), image(3), image(4, size=5)]
    assert predict_while_busy(runs, images) == [0, 1, 2, 3, 4]
    assert runs.sizes == [1, 2, 2]


def test_a_failing_image_does_not_fail_its_batch(runs: Runs) -> None:
    first, good, bad, other = predict_while_busy(runs, [image(0), image(1), image(255), image(3)])
    assert (first, good, other) == (0, 1, 3)
    assert isinstance(bad, ValueError)


def test_the_latency_limits_the_batch_size(runs: Runs) -> None:
    predict_while_busy(runs, [image(value) for value in range(5)], latency=2.0, pace=1.0)
    assert runs.sizes[:2] == [1, 2]


def test_after_a_wait_beyond_the_latency_the_batch_grows(runs: Runs) -> None:
    predict_while_busy(runs, [image(value) for value in range(5)], latency=0.01, pace=0.01, waited=0.5)
    assert runs.sizes == [1, 4]


def test_a_disconnected_request_is_not_run(runs: Runs) -> None:
    async def cancel_one() -> None:
        batcher = MicroBatcher(runs, 1, 8, 10.0, Metrics())
        first = asyncio.create_task(batcher.predict(image(0)))
        await asyncio.to_thread(runs.started.wait, 10)
        cancelled, remaining = (asyncio.create_task(batcher.predict(image(value))) for value in (1, 2))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        runs.release.set()
        assert list(await asyncio.gather(first, remaining)) == [0, 2]
        batcher.close()

    run(cancel_one)
    assert runs.sizes == [1, 1]


@pytest.mark.parametrize("parallel", [1, 2])
def test_running_and_queued_images_are_predicted_after_close(runs: Runs, parallel: int) -> None:
    async def close_while_busy() -> list[Any]:
        batcher = MicroBatcher(runs, parallel, 2, 10.0, Metrics())
        tasks = [asyncio.create_task(batcher.predict(image(value))) for value in range(7)]
        await asyncio.to_thread(runs.started.wait, 10)
        batcher.close()
        with pytest.raises(RuntimeError, match="the batcher is closed"):
            await batcher.predict(image(9))
        runs.release.set()
        return list(await asyncio.gather(*tasks))

    assert run(close_while_busy) == [0, 1, 2, 3, 4, 5, 6]


def test_a_wrong_number_of_predictions_fails_the_waiting_requests() -> None:
    async def predict() -> None:
        batcher = MicroBatcher(lambda images: [], 1, 8, 10.0, Metrics())
        with pytest.raises(RuntimeError, match="returned 0 predictions for 1 image"):
            await batcher.predict(image(1))
        batcher.close()

    run(predict)


def test_predictions_continue_after_an_idle_period(runs: Runs) -> None:
    async def predict_with_pauses() -> None:
        batcher = MicroBatcher(runs, 2, 8, 10.0, Metrics())
        runs.release.set()
        for value in (1, 2, 3):
            assert await batcher.predict(image(value)) == value
            await asyncio.sleep(0.02)
        batcher.close()

    run(predict_with_pauses)
    assert runs.sizes == [1, 1, 1]


def test_many_concurrent_requests_get_their_own_predictions(runs: Runs) -> None:
    async def predict_many() -> list[Any]:
        batcher = MicroBatcher(runs, 3, 4, 10.0, Metrics())
        runs.release.set()
        predictions = await asyncio.gather(
            *(batcher.predict(image(value % 200, 2 + value % 3)) for value in range(600))
        )
        batcher.close()
        return list(predictions)

    assert run(predict_many) == [value % 200 for value in range(600)]
    assert sum(runs.sizes) == 600 > len(runs.sizes)
