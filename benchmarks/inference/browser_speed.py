"""Compare a model's published page in a browser with Python on the same files.

Run `python -m benchmarks.inference.browser_speed MODEL IMAGES [MODEL IMAGES ...]`; it prints one row per model and
folder of images. A row gives the time from opening the page in a new browser to the first prediction, and the median
milliseconds per further image including reading, in the browser and by `stages.runtime.Model` on one thread. The two
take turns, and the browser is closed while Python works. Chromium is required.
"""

import base64
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from stages.batch_prediction.inputs import iterate_images
from stages.images.decode import decode_image
from stages.publish import publish
from stages.runtime import Model

MAX_IMAGES = 12  # maximum number of images per folder
ROUNDS = 3
Launch = Callable[[], Browser | BrowserContext]
"""Function that starts a browser, or returns a context of a running browser."""
TIMEOUT = 300_000  # milliseconds
HEAD = ["model", "network", "MB", "browser: first prediction, s", "browser: ms per image", "Python: ms per image",
        "ratio", "JPEG difference"]  # fmt: skip


class QuietHandler(SimpleHTTPRequestHandler):
    """Request handler that serves a folder without logging requests."""

    def log_message(self, *words: Any) -> None:
        """Log nothing."""


def measure_browser(launch: Launch, folder: Path, files: list[Path]) -> dict[str, Any]:
    """Open a published page in a new browser and let it predict for some files.

    Args:
        launch: function that starts a browser.
        folder: the published page.
        files: at least two images.

    Returns:
        `first`: seconds to the first prediction; `each`: milliseconds of each further one; `levels`: result of
        `level_differences` for the first four files.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = launch()
    page = browser.new_page()
    began = time.perf_counter()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    expect(page.locator("#served")).to_be_visible(timeout=TIMEOUT)
    page.set_input_files("#files", files[0])
    page.wait_for_selector(".answer .body :not(.waiting)", timeout=TIMEOUT)
    first = time.perf_counter() - began
    page.set_input_files("#files", files[1:])
    expect(page.locator(".waiting")).to_have_count(0, timeout=TIMEOUT)
    spent = page.evaluate("import('./page.js').then(({ rows }) => rows.map((row) => row.milliseconds))")
    levels = level_differences(page, files[:4])
    browser.close()
    server.shutdown()
    server.server_close()
    return {"first": first, "each": [s["read"] + s["answer"] for s in spent[1:]], "levels": levels}


DIFFERENCE = """async ([file, pixels]) => {
  const { read } = await import("./decode_images.js");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const { values } = await read(bytes(file), 178), expected = bytes(pixels);
  let sum = 0, most = 0;
  values.forEach((value, i) => {
    const off = Math.abs(value - expected[i]);
    sum += off;
    most = Math.max(most, off);
  });
  return [sum / values.length, most];
}"""


def level_differences(page: Page, files: list[Path]) -> list[list[float]]:
    """Return the mean and the largest difference in levels of the browser's pixels from Pillow's, by file `*.jpg`."""
    texts = [
        [file.read_bytes(), decode_image(file.read_bytes()).image.tobytes()] for file in files if file.suffix == ".jpg"
    ]
    return [page.evaluate(DIFFERENCE, [base64.b64encode(part).decode() for part in pair]) for pair in texts]


def measure_python(model: Path, files: list[Path]) -> tuple[float, list[float]]:
    """Return the seconds from opening the model to the first prediction, and the milliseconds of each further one."""
    began = time.perf_counter()
    opened = Model(model, threads=1)
    opened.predict_file(files[0].read_bytes())
    first, each = time.perf_counter() - began, []
    for file in files[1:]:
        began = time.perf_counter()
        opened.predict_file(file.read_bytes())
        each.append(1000 * (time.perf_counter() - began))
    return first, each


def measure(launch: Launch, model: Path, files: list[Path], rounds: int = ROUNDS, **publishing: Any) -> dict[str, Any]:
    """Publish a model and measure the browser and Python in turn.

    Args:
        launch: function that starts a browser.
        model: ONNX file that export wrote.
        files: at least two images.
        rounds: number of rounds.
        **publishing: further arguments of `publish`.

    Returns:
        `firsts` in seconds, `browser` and `python` in milliseconds per image, and `levels` (differences of decoded
        JPEGs).
    """
    found: dict[str, Any] = {"firsts": [], "browser": [], "python": [], "levels": []}
    with tempfile.TemporaryDirectory() as folder:
        publish(model, Path(folder) / "page", **publishing)
        for _ in range(rounds):
            seen = measure_browser(launch, Path(folder) / "page", files)
            found["firsts"].append(seen["first"])
            found["browser"] += seen["each"]
            found["levels"] = seen["levels"]
            found["python"] += measure_python(model, files)[1]
    return found


def row(model: Path, found: dict[str, Any]) -> str:
    """Return the row of the table for a model; `found` is the result of `measure`."""
    about, levels, firsts = Model(model).metadata, found["levels"], found["firsts"]
    differences = "no JPEG"
    if levels:
        largest = max(most for _, most in levels)
        differences = f"{statistics.mean(mean for mean, _ in levels):.3f} (at most {largest:.0f})"
    browser, python = statistics.median(found["browser"]), statistics.median(found["python"])
    cells = [
        about["name"],
        f"{about['representation']}, {about['size']} px, {about['fit']}",
        f"{model.stat().st_size / 1e6:.0f}",
        f"{statistics.median(firsts):.1f} ({min(firsts):.1f} to {max(firsts):.1f})",
        f"{browser:.0f}",
        f"{python:.0f}",
        f"{browser / python:.1f}",
        differences,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    given = [Path(word) for word in sys.argv[1:]]
    print(f"| {' | '.join(HEAD)} |")
    print("|---" * len(HEAD) + "|")
    with sync_playwright() as playwright:
        executable = shutil.which("chromium")
        launch = partial(playwright.chromium.launch, executable_path=executable, args=["--no-sandbox"])
        for model, images in zip(given[::2], given[1::2], strict=True):
            files = [Path(one.path) for one in islice(iterate_images([str(images)]), MAX_IMAGES)]
            print(row(model, measure(launch, model, files)), flush=True)


if __name__ == "__main__":
    main()
