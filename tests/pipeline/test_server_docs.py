"""The page of a server's routes, in a real Chromium: of this server alone, and to be read without its key."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from stages.serving.app import create_app
from stages.serving.settings import KEY, Settings
from tests.conftest import png
from tests.shipped import colour_model, plain, served

SECRET = "correct-horse"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_model(tmp_path_factory.mktemp("docs") / "model.onnx")


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    """Return the OpenAPI page of a server that requires a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, SECRET)
        with served(model) as (host, port):
            yield f"http://{host}:{port}"


def app(model: Path, key: str = "") -> FastAPI:
    return create_app(Settings(model=str(model)), key)


def test_routes_are_described_without_the_key_and_asked_with_it(model: Path) -> None:
    with TestClient(app(model, SECRET)) as server:
        for path in ("/docs", "/docs.js", "/openapi.json"):
            assert server.get(path).status_code == 200, path
        described = server.get("/openapi.json").json()
        for path, methods in described["paths"].items():
            needed = methods.get("get", {}).get("security", described["security"])
            if "get" in methods and "{" not in path:
                assert server.get(path).status_code == (401 if needed else 200), path
        assert described["components"]["securitySchemes"].keys() == {"X-API-Key", "Bearer"}
        assert "colours" in server.get("/v1/model", headers={"X-API-Key": SECRET}).text
        assert "colours" not in json.dumps(described), "the model's name is readable without the key"


def test_without_a_key_none_is_described(model: Path) -> None:
    with TestClient(app(model)) as server:
        described = server.get("/openapi.json").json()
        assert "security" not in described and "securitySchemes" not in described["components"]
        assert described["info"]["title"] == "Macula: colours"


def test_the_page_asks_nothing_of_another_host_and_shows_every_route(address: str, browser: Any) -> None:
    page, asked, said = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{address}/docs")
    page.wait_for_selector("section:last-of-type")
    shown = page.locator("h2").all_inner_texts()
    described = page.evaluate("fetch('openapi.json').then((response) => response.json())")
    assert shown == [f"{m.upper()} {path}" for path, methods in described["paths"].items() for m in methods]
    assert len(shown) > 5 and page.locator("#keyed").is_visible() and not said
    assert all(url.startswith(address) for url in asked)


def test_the_commands_on_the_page_are_answered(address: str, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(plain("green")))
    asking = urllib.request.Request(f"{address}/v2/models/colours", headers={"X-API-Key": SECRET})
    with urllib.request.urlopen(asking) as told:
        version = json.load(told)["versions"][0]
    page = browser.new_page()
    page.goto(f"{address}/docs")
    page.wait_for_selector("section:last-of-type")
    answered = {}
    for route in page.locator("section").all():
        command = route.locator("pre").first.text_content().replace("NAME", "colours").replace("VERSION", version)
        done = subprocess.run(
            ["bash", "-c", f"{command} -sS -w '\\n%{{http_code}}'"], cwd=tmp_path, capture_output=True, text=True,
            check=True, env={**os.environ, KEY: SECRET},
        )  # fmt: skip
        *body, status = done.stdout.splitlines()
        answered[route.locator("h2").inner_text()] = "\n".join(body)
        assert status == "200", (command, done.stdout)
    assert json.loads(answered["POST /v1/predict"])["answer"]["label"] == "green"
    assert json.loads(answered["POST /v1/predict-many"])["answers"][0]["answer"]["label"] == "green"
