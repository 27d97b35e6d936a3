"""Tests of the published page in a real Chromium: refused files, displayed text and blocked requests."""

import io
import json
import shutil
import socket
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.core.errors import UserError
from stages.images.decode import Unreadable, decode_image
from stages.publish import publish
from tests.conftest import png
from tests.published import PATIENCE, Page, exported, npy, spec
from tests.toys import scene


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory, runtime: Path, served: tuple[Path, str]) -> str:
    """Publish a classifier whose labels contain HTML; return the name of the folder."""
    task_spec = spec("classification", "class", "label", labels=("<img src=x onerror=alert(1)>", "square"))
    scores = {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}
    file = exported(
        task_spec, tmp_path_factory.mktemp("simple") / "model.onnx", name="</script><b>toy", scores=scores,
        objective={"score": "accuracy"},
    )  # fmt: skip
    publish(file, served[0] / "simple", runtime)
    return "simple"


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Return files that Python refuses, and the message of the page for each."""
    array = scene(np.random.default_rng(1), 3)[0]
    image = Image.fromarray(array)

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    transparent = image.convert("RGBA")
    transparent.putpixel((3, 3), (0, 0, 0, 254))
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    jpeg, plain = saved(image, "JPEG"), png(array)
    return {
        "empty.png": (b"", "is empty (0 bytes)"),
        "words.png": (b"no image", "is not a JPEG, PNG, GIF, BMP, WebP or npy"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "is not a JPEG, PNG"),
        "short.png": (plain[:-30], "is a damaged PNG"),
        "short.jpg": (jpeg[: len(jpeg) // 2], "is a damaged JPEG"),
        "corrupt.png": (plain[:200] + bytes(60) + plain[260:], "is a damaged PNG"),
        "deep.png": (
            png(array[:, :, 0].astype(np.uint16) * 200),
            "is a PNG of 16 bits, but a browser's canvas has 8",
        ),
        "deep.npy": (npy(array.astype(np.uint16)), "has 16 bits per value; the model requires 8"),
        "many.npy": (npy(np.zeros((9, 9, 5), np.uint8)), "has 5 channels; the model requires 3"),
        "floats.npy": (npy(np.zeros((9, 9))), "contains <f8 of shape"),
        "short.npy": (npy(array)[:-1], "is a damaged npy"),
        "clear.png": (saved(transparent, "PNG"), "is partly transparent"),
        "moving.gif": (saved(image, "GIF", **frames), "contains 2 frames"),
        "moving.png": (saved(image, "PNG", **frames), "contains 2 frames"),
        "moving.webp": (saved(image, "WEBP", **frames), "contains several frames"),
        "print.jpg": (saved(image.convert("CMYK"), "JPEG"), "contains CMYK colours, which are not supported"),
        "section.tif": (saved(image, "TIFF"), "is a TIFF, which browsers do not decode"),
    }


def test_unreadable_files_are_refused_with_the_reason(simple: str, served: tuple[Path, str], browser: Any) -> None:
    page, broken = Page(browser, f"{served[1]}/{simple}/"), broken_files()
    image = scene(np.random.default_rng(1), 3)[0]
    rows = page.predict({name: data for name, (data, _) in broken.items()} | {"good.png": png(image)})
    assert "error" not in rows[-1]
    for row, (name, (data, message)) in zip(rows, broken.items(), strict=False):
        assert row["path"] == name and message in row.get("error", ""), row
        # Python decodes these, and the page or the model refuses them
        if name not in ("section.tif", "deep.png", "deep.npy", "many.npy"):
            with pytest.raises(Unreadable):
                decode_image(data)
    assert page.page.locator(".failed").count() == len(broken)


def test_saved_predictions_have_the_format_of_predict(simple: str, served: tuple[Path, str], browser: Any) -> None:
    page = Page(browser, f"{served[1]}/{simple}/")
    page.predict({"one.png": png(scene(np.random.default_rng(1), 3)[0]), "two.png": b"no image"})
    with page.page.expect_download() as saved:
        page.page.click("#save")
    good, bad = json.loads(Path(saved.value.path()).read_text())
    assert good["path"] == "one.png" and good["error"] == "" and sum(good["probabilities"].values()) == pytest.approx(1)
    assert bad["path"] == "two.png" and "is not a JPEG" in bad["error"]


def test_names_are_escaped_and_the_score_has_an_interval(simple: str, served: tuple[Path, str], browser: Any) -> None:
    page = Page(browser, f"{served[1]}/{simple}/")
    page.predict({"<b>x.png": png(scene(np.random.default_rng(1), 3)[0])})
    shown = page.page.inner_text("main")
    for text in (
        "</script><b>toy",
        "<img src=x onerror=alert(1)>",
        "<b>x.png",
        "0.9",
        "between 0.8 and 0.95 on validation",
    ):
        assert text in shown
    assert page.page.locator("main img").count() == 1 and not page.errors


def test_page_and_worker_cannot_reach_another_host(simple: str, served: tuple[Path, str], browser: Any) -> None:
    page = Page(browser, f"{served[1]}/{simple}/")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.5)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        fetch_script = f"""fetch("{address}", {{ mode: "no-cors" }}).then(() => "reached", (error) => error.name)"""
        assert page.page.evaluate(fetch_script) == "TypeError"
        assert page.page.workers[0].evaluate(fetch_script) == "TypeError"
        with pytest.raises(TimeoutError):
            listening.accept()


def test_page_opened_as_a_file_explains_what_to_do(simple: str, served: tuple[Path, str], browser: Any) -> None:
    page = browser.new_page()
    page.goto((served[0] / simple / "index.html").as_uri())
    shown = page.inner_text("main")
    assert "not from a file" in shown and "python3 -m http.server" in shown and "Drop images" not in shown


def test_missing_model_is_reported(simple: str, served: tuple[Path, str], browser: Any) -> None:
    shutil.copytree(served[0] / simple, served[0] / "without_model")
    (served[0] / "without_model" / "model.onnx").unlink()
    page = browser.new_page()
    page.goto(f"{served[1]}/without_model/")
    page.wait_for_selector("#state.bad", timeout=PATIENCE)
    assert "model.onnx could not be downloaded: 404" in page.inner_text("#state")


def test_publish_replaces_only_published_folders(
    simple: str, served: tuple[Path, str], runtime: Path, tmp_path: Path
) -> None:
    model = served[0] / simple / "model.onnx"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="mine exists and is not a published model; name another folder"):
        publish(model, tmp_path / "mine", runtime)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with pytest.raises(UserError, match="so it is not the npm package onnxruntime-web; `make publish` downloads it"):
        publish(model, tmp_path / "new", tmp_path)
    for _ in range(2):
        assert publish(model, tmp_path / "new", runtime) > 14e6
    assert (tmp_path / "new" / "model.onnx").read_bytes() == model.read_bytes()
    assert not list(tmp_path.glob("*.part"))


def test_card_is_published_only_with_its_model(
    simple: str, served: tuple[Path, str], runtime: Path, tmp_path: Path, browser: Any
) -> None:
    model, card = served[0] / simple / "model.onnx", tmp_path / "model-card.md"
    for digest, links in ((sha256(model.read_bytes()).hexdigest(), 1), ("0123456789abcdef", 0)):
        card.write_text(f"SHA-256 {digest}\n")
        publish(model, served[0] / "with_card", runtime, card)
        assert (served[0] / "with_card" / "model-card.md").exists() == bool(links)
        page = browser.new_page()
        page.goto(f"{served[1]}/with_card/")
        page.wait_for_selector("#about dl", timeout=PATIENCE)
        assert page.locator("#about a[href='model-card.md']").count() == links
