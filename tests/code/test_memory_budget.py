"""Tests of the memory budget shared by requests: which are admitted, which wait, and which are rejected."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from stages.serving import open_inference_v2
from stages.serving.app import create_app
from stages.serving.http_errors import Refused
from stages.serving.memory_budget import MemoryBudget, bytes_per_pixel, memory_budgets
from stages.serving.settings import Settings
from stages.tasks.task_spec import TaskSpec
from tests.conftest import png
from tests.shipped import colour_model, plain

COLOURS = bytes_per_pixel(TaskSpec("classification", "class", "label"))


@pytest.fixture(autouse=True)
def small_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate the memory use of a new server process; the test process has grown over many tests."""
    monkeypatch.setattr("stages.serving.memory_budget.resident", lambda: 200 * 2**20)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return colour_model(tmp_path / "model.onnx")


def test_requests_are_admitted_in_order_of_arrival() -> None:
    async def order_of_admission() -> list[str]:
        budget, admitted = MemoryBudget(10, "images"), []

        async def request(name: str, size: int) -> None:
            async with budget.reserve(size):
                admitted.append(name)

        async with budget.reserve(6):
            large = asyncio.create_task(request("large", 8))
            await asyncio.sleep(0)
            small = asyncio.create_task(request("small", 2))
            await asyncio.sleep(0)
            assert admitted == [] and not budget.try_acquire(1)
        await asyncio.gather(large, small)
        assert budget.free == budget.size
        return admitted

    assert asyncio.run(order_of_admission()) == ["large", "small"]


@pytest.mark.parametrize("admitted", [False, True])
def test_a_cancelled_request_releases_its_memory(admitted: bool) -> None:
    async def free_after_cancellation() -> int:
        budget = MemoryBudget(10, "images")
        assert budget.try_acquire(10)
        cancelled, remaining = (asyncio.create_task(budget.acquire(size)) for size in (9, 4))
        await asyncio.sleep(0)
        if admitted:
            budget.release(10)
        cancelled.cancel()
        await asyncio.sleep(0)
        if not admitted:
            budget.release(10)
        await asyncio.wait_for(remaining, 5)
        return budget.free

    assert asyncio.run(free_after_cancellation()) == 6


def test_a_request_above_the_budget_is_rejected_naming_the_option() -> None:
    with pytest.raises(Refused, match="--memory") as refused:
        asyncio.run(MemoryBudget(10, "images").acquire(11))
    assert refused.value.status == 413


def test_requests_wait_for_memory_and_all_are_served(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    reserved: list[int] = []
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(10**8, "bodies"), watched(64 * 64 * COLOURS + 1, reserved)),
    )
    app = create_app(Settings(model=str(file), parallel=2))
    colours = ["red", "green", "blue"] * 5

    async def labels() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            requests = [
                client.post("/v1/predict", content=png(plain(c, 64 - 8 * (n % 3)))) for n, c in enumerate(colours)
            ]
            return [response.json()["answer"]["label"] for response in await asyncio.gather(*requests)]

    assert asyncio.run(labels()) == colours
    assert reserved and max(reserved) <= 64 * 64 * COLOURS + 1 and reserved[-1] == 0


def watched(size: int, reserved: list[int]) -> MemoryBudget:
    """Return a budget that appends the reserved bytes to `reserved` before and after each release."""

    class Watched(MemoryBudget):
        def release(self, size: int) -> None:
            reserved.append(self.size - self.free)
            super().release(size)
            reserved.append(self.size - self.free)

    return Watched(size, "images")


def test_an_image_above_the_budget_is_not_decoded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(10**8, "bodies"), MemoryBudget(10**7, "images")),
    )
    with TestClient(create_app(Settings(model=str(file)))) as server:
        response = server.post("/v1/predict", content=png(plain("red", 900)))
        assert server.post("/v1/predict", content=png(plain("red"))).json()["answer"]["label"] == "red"
    assert response.status_code == 413 and "--memory" in response.json()["error"]


def test_tensors_reserve_memory_and_large_outputs_require_binary_data(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(10**8, "bodies"), MemoryBudget(10**6, "images")),
    )
    image = plain("red", 8)[None]

    def infer(server: TestClient, image: Any, binary: bool) -> Any:
        tensor: dict[str, Any] = {"name": "image", "shape": list(image.shape), "datatype": "UINT8", "parameters": {}}
        if binary:
            tensor["parameters"]["binary_data_size"] = image.nbytes
            head = json.dumps({"inputs": [tensor]}).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            return server.post("/v2/models/colours/infer", content=head + image.tobytes(), headers=headers)
        return server.post("/v2/models/colours/infer", json={"inputs": [tensor | {"data": image.tolist()}]})

    with TestClient(create_app(Settings(model=str(file)))) as server:
        assert [infer(server, image, binary).status_code for binary in (True, False)] == [200, 200]
        assert infer(server, plain("red", 300)[None], binary=True).status_code == 413, "pixels"
        assert infer(server, plain("red", 80)[None], binary=False).status_code == 413, "JSON"
        monkeypatch.setattr(open_inference_v2, "MAX_JSON_VALUES", 2)
        rejected = infer(server, image, binary=True)
    assert rejected.status_code == 400 and "binary_data" in rejected.json()["error"]


def test_bodies_reserve_memory_before_they_are_received(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(1000, "bodies"), MemoryBudget(10**7, "images")),
    )
    with TestClient(create_app(Settings(model=str(file), seconds=2))) as server:
        assert server.post("/v1/predict", content=bytes(501)).status_code == 413
        for _ in range(20):
            assert server.post("/v1/predict", content=png(plain("red"))).status_code == 200


def test_the_memory_limit_is_shared_by_bodies_and_images() -> None:
    bodies, images = memory_budgets(Settings("m", memory=4))
    assert 1e9 < bodies.size + images.size < 0.75 * 2**32
    fewer = memory_budgets(Settings("m", memory=4, workers=2))
    assert sum(budget.size for budget in fewer) < (bodies.size + images.size) / 2
