"""Fixtures of several modules: a Prefect server, and for published pages the runtime, a local server and Chromium."""

import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.testing.utilities import prefect_test_harness

from stages.publish import RUNTIME
from tests.conftest import ROOT

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="session")
def runtime() -> Path:
    folder = ROOT / RUNTIME
    if not folder.is_dir():
        pytest.skip(
            f"onnxruntime-web is not in {RUNTIME}; `make {RUNTIME.parent}/.package-lock.json` installs it with npm"
        )
    return folder


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Folder and the address at which it is served."""
    folder = tmp_path_factory.mktemp("served")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Browser that is closed after each module, because the event loop of Playwright prevents others from running."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed on this machine")
    with playwright.sync_playwright() as playwright_api:
        opened = playwright_api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def prefect_api() -> Iterator[None]:
    """Run a temporary Prefect server for a module."""
    with prefect_test_harness(server_startup_timeout=180):
        yield
