"""Tests of the server's page in Chromium: images are dropped on it, and it shows the prediction of every task."""

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.runtime import Model
from stages.serving.app import create_app
from stages.serving.settings import Settings
from stages.tasks import TASKS
from stages.tasks.overlays import legend
from tests.conftest import png
from tests.published import CASES, PATIENCE, exported, npy
from tests.shipped import colour_model, plain, running
from tests.toys import scene

NARROW = {"width": 400, "height": 800}
DROP = """([name, data]) => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
}"""
ARTICLE = "article:first-of-type:not(.waiting)"  # the newest is the first

Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Yield `opened(file, key)`, which opens the page of a model's server; a script error fails the test."""
    with ExitStack() as stack:
        errors: list[str] = []

        def open_page(file: Path, key: str = "") -> Any:
            host, port = stack.enter_context(running(create_app(Settings(model=str(file)), key)))
            page = browser.new_page(viewport=NARROW)
            stack.callback(page.close)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"http://{host}:{port}/")
            page.wait_for_selector("#about:not(:empty)", timeout=PATIENCE)
            return page

        yield open_page
    assert not errors


def dropped(page: Any, name: str, data: bytes) -> Any:
    """Drop a file on the page; return the article that the page shows for it."""
    page.evaluate(DROP, [name, base64.b64encode(data).decode()])
    page.wait_for_selector(ARTICLE, timeout=PATIENCE)
    return page.locator("article").first


def overflow(page: Any) -> int:
    """Return the number of pixels by which the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize("name", CASES)
def test_the_prediction_is_drawn_over_the_image_and_listed_as_text(name: str, tmp_path: Path, opened: Opened) -> None:
    spec = CASES[name]
    file, image = exported(spec, tmp_path / "model.onnx"), scene(np.random.default_rng(3), 4)[0]
    data = npy(image[:, :, 0].astype(np.uint16) * 200) if spec.depth == 16 else png(image)
    page = opened(file)
    article = dropped(page, "photo.png", data)
    assert article.locator(".error").count() == 0, article.inner_text()
    decoded = "a => Promise.all([...a.querySelectorAll('img')].map((i) => i.decode().then(() => i.naturalWidth)))"
    sizes = article.evaluate(decoded)
    assert sizes == [70] * (2 if spec.task == "image" else 1)  # the task image also shows the input
    assert overflow(page) <= 0
    model = Model(file)
    text, record = article.inner_text(), TASKS[spec.task].record(model.predict_file(data), model.spec)
    if spec.task in ("classification", "ordinal"):
        assert record["label"] in article.locator(".prediction").inner_text()
    assert all(name in text for name in record.get("probabilities", record.get("counts", record)))
    names = article.locator("th").all_inner_texts()
    assert article.locator("th i").count() == sum(name in legend(spec) for name in names)


def test_a_file_that_is_not_an_image_is_reported_by_name(tmp_path: Path, opened: Opened) -> None:
    page = opened(colour_model(tmp_path / "model.onnx"))
    long = "notes_of_a_name_that_is_much_too_long_for_a_screen_as_narrow_as_this_one.png"
    article = dropped(page, long, b"no image")
    assert long in article.inner_text()
    assert "the image cannot be decoded: it is damaged at its beginning" in article.locator(".error").inner_text()
    assert overflow(page) <= 0
    assert "green, 100.0%" in dropped(page, "good.png", png(plain("green"))).inner_text()


def test_the_page_requests_the_api_key_and_uses_it(tmp_path: Path, opened: Opened) -> None:
    page = opened(colour_model(tmp_path / "model.onnx"), "secret")
    assert "key is required" in page.inner_text("main") and page.locator("#key").is_visible()
    page.fill("#key", "secret")
    page.press("#key", "Enter")
    page.wait_for_selector("#name:has-text('colours')", timeout=PATIENCE)
    assert "red, 100.0%" in dropped(page, "red.png", png(plain("red"))).inner_text()


def test_names_of_files_and_classes_are_shown_as_text(tmp_path: Path, opened: Opened) -> None:
    page = opened(colour_model(tmp_path / "model.onnx", labels=("<img src=x onerror=alert(1)>", "b", "c")))
    article = dropped(page, "<b>x</b>.png", png(plain("red")))
    assert "<img src=x onerror=alert(1)>" in article.inner_text() and "<b>x</b>.png" in article.inner_text()
    assert article.locator("img").count() == 1 and article.locator("b").count() == 0
