"""Tests of the page that documents the routes of a server, in a real Chromium."""

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
    """Yield the address of a server that requires a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, SECRET)
        with served(model) as (host, port):
            yield f"http://{host}:{port}"


def app(model: Path, key: str = "") -> FastAPI:
    return create_app(Settings(model=str(model)), key)


def test_routes_are_documented_without_the_key_and_require_it(model: Path) -> None:
    with TestClient(app(model, SECRET)) as server:
        for path in ("/docs", "/docs.js", "/openapi.json"):
            assert server.get(path).status_code == 200, path
        schema = server.get("/openapi.json").json()
        for path, methods in schema["paths"].items():
            key_required = methods.get("get", {}).get("security", schema["security"])
            if "get" in methods and "{" not in path:
                assert server.get(path).status_code == (401 if key_required else 200), path
        assert schema["components"]["securitySchemes"].keys() == {"X-API-Key", "Bearer"}
        assert "colours" in server.get("/v1/model", headers={"X-API-Key": SECRET}).text
        assert "colours" not in json.dumps(schema), "the model's name is not readable without the key"


def test_a_server_without_a_key_documents_none(model: Path) -> None:
    with TestClient(app(model)) as server:
        schema = server.get("/openapi.json").json()
        assert "security" not in schema and "securitySchemes" not in schema["components"]
        assert schema["info"]["title"] == "Macula: colours"


def test_the_page_shows_every_route_and_requests_no_other_host(address: str, browser: Any) -> None:
    page, requests, messages = browser.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"{address}/docs")
    page.wait_for_selector("section:last-of-type")
    shown = page.locator("h2").all_inner_texts()
    schema = page.evaluate("fetch('openapi.json').then((response) => response.json())")
    assert shown == [f"{m.upper()} {path}" for path, methods in schema["paths"].items() for m in methods]
    assert len(shown) > 5 and page.locator("#keyed").is_visible() and not messages
    assert all(url.startswith(address) for url in requests)


def test_the_commands_on_the_page_succeed(address: str, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(plain("green")))
    request = urllib.request.Request(f"{address}/v2/models/colours", headers={"X-API-Key": SECRET})
    with urllib.request.urlopen(request) as response:
        version = json.load(response)["versions"][0]
    page = browser.new_page()
    page.goto(f"{address}/docs")
    page.wait_for_selector("section:last-of-type")
    responses = {}
    for route in page.locator("section").all():
        command = route.locator("pre").first.text_content().replace("NAME", "colours").replace("VERSION", version)
        done = subprocess.run(
            ["bash", "-c", f"{command} -sS -w '\\n%{{http_code}}'"], cwd=tmp_path, capture_output=True, text=True,
            check=True, env={**os.environ, KEY: SECRET},
        )  # fmt: skip
        *body, status = done.stdout.splitlines()
        responses[route.locator("h2").inner_text()] = "\n".join(body)
        assert status == "200", (command, done.stdout)
    assert json.loads(responses["POST /v1/predict"])["answer"]["label"] == "green"
    assert json.loads(responses["POST /v1/predict-many"])["answers"][0]["answer"]["label"] == "green"
