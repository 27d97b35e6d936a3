"""Memory shared by requests to the server: which are admitted, which wait, and which are refused as too large."""

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
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's process, which is smaller than one that has run a thousand tests."""
    monkeypatch.setattr("stages.serving.memory_budget.resident", lambda: 200 * 2**20)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return colour_model(tmp_path / "model.onnx")


def test_who_comes_first_is_let_in_first_though_a_later_one_would_fit() -> None:
    async def three() -> list[str]:
        room, came = MemoryBudget(10, "images"), []

        async def one(name: str, size: int) -> None:
            async with room.reserve(size):
                came.append(name)

        async with room.reserve(6):
            large = asyncio.create_task(one("large", 8))
            await asyncio.sleep(0)
            small = asyncio.create_task(one("small", 2))
            await asyncio.sleep(0)
            assert came == [] and not room.try_acquire(1)
        await asyncio.gather(large, small)
        assert room.free == room.size
        return came

    assert asyncio.run(three()) == ["large", "small"]


@pytest.mark.parametrize("let_in", [False, True])
def test_who_goes_away_leaves_no_bytes_behind(let_in: bool) -> None:
    async def one_leaves() -> int:
        room = MemoryBudget(10, "images")
        assert room.try_acquire(10)
        leaving, staying = (asyncio.create_task(room.acquire(size)) for size in (9, 4))
        await asyncio.sleep(0)
        if let_in:
            room.release(10)
        leaving.cancel()
        await asyncio.sleep(0)
        if not let_in:
            room.release(10)
        await asyncio.wait_for(staying, 5)
        return room.free

    assert asyncio.run(one_leaves()) == 6


def test_what_never_fits_is_told_what_to_set() -> None:
    with pytest.raises(Refused, match="--memory") as refused:
        asyncio.run(MemoryBudget(10, "images").acquire(11))
    assert refused.value.status == 413


def test_images_wait_for_each_other_and_all_are_answered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    held: list[int] = []
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(10**8, "bodies"), watched(64 * 64 * COLOURS + 1, held)),
    )
    app = create_app(Settings(model=str(file), parallel=2))
    colours = ["red", "green", "blue"] * 5

    async def all_of_them() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as asking:
            sent = [asking.post("/v1/predict", content=png(plain(c, 64 - 8 * (n % 3)))) for n, c in enumerate(colours)]
            return [one.json()["answer"]["label"] for one in await asyncio.gather(*sent)]

    assert asyncio.run(all_of_them()) == colours
    assert held and max(held) <= 64 * 64 * COLOURS + 1 and held[-1] == 0


def watched(size: int, held: list[int]) -> MemoryBudget:
    """A room that notes what is taken of it."""

    class Watched(MemoryBudget):
        def release(self, size: int) -> None:
            held.append(self.size - self.free)
            super().release(size)
            held.append(self.size - self.free)

    return Watched(size, "images")


def test_an_image_for_which_there_is_never_room_is_not_decoded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(10**8, "bodies"), MemoryBudget(10**7, "images")),
    )
    with TestClient(create_app(Settings(model=str(file)))) as server:
        response = server.post("/v1/predict", content=png(plain("red", 900)))
        assert server.post("/v1/predict", content=png(plain("red"))).json()["answer"]["label"] == "red"
    assert response.status_code == 413 and "--memory" in response.json()["error"]


def test_tensors_need_room_too_and_large_answers_are_not_written_as_json(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(10**8, "bodies"), MemoryBudget(10**6, "images")),
    )
    image = plain("red", 8)[None]

    def asked(server: TestClient, image: Any, binary: bool) -> Any:
        one: dict[str, Any] = {"name": "image", "shape": list(image.shape), "datatype": "UINT8", "parameters": {}}
        if binary:
            one["parameters"]["binary_data_size"] = image.nbytes
            head = json.dumps({"inputs": [one]}).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            return server.post("/v2/models/colours/infer", content=head + image.tobytes(), headers=headers)
        return server.post("/v2/models/colours/infer", json={"inputs": [one | {"data": image.tolist()}]})

    with TestClient(create_app(Settings(model=str(file)))) as server:
        assert [asked(server, image, binary).status_code for binary in (True, False)] == [200, 200]
        assert asked(server, plain("red", 300)[None], binary=True).status_code == 413, "pixels"
        assert asked(server, plain("red", 80)[None], binary=False).status_code == 413, "JSON"
        monkeypatch.setattr(open_inference_v2, "MAX_JSON_VALUES", 2)
        refused = asked(server, image, binary=True)
    assert refused.status_code == 400 and "binary_data" in refused.json()["error"]


def test_bodies_need_room_before_they_come(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stages.serving.app.memory_budgets",
        lambda settings: (MemoryBudget(1000, "bodies"), MemoryBudget(10**7, "images")),
    )
    with TestClient(create_app(Settings(model=str(file), seconds=2))) as server:
        assert server.post("/v1/predict", content=bytes(501)).status_code == 413
        for _ in range(20):
            assert server.post("/v1/predict", content=png(plain("red"))).status_code == 200


def test_the_limit_of_a_container_is_shared_by_bodies_and_images() -> None:
    bodies, images = memory_budgets(Settings("m", memory=4))
    assert 1e9 < bodies.size + images.size < 0.75 * 2**32
    fewer = memory_budgets(Settings("m", memory=4, workers=2))
    assert sum(room.size for room in fewer) < (bodies.size + images.size) / 2
