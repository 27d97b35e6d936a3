"""A published page beside Python on the same files: `python -m benchmarks.inference.browser_speed MODEL IMAGES [MODEL IMAGES ...]`.

Of each model and folder of images, a row of a table: from opening the page, in a browser that is new, to the first
answer; then milliseconds an image, read and answered, the median; and the same by `stages.runtime.Model` on one
thread. Both take turns in one process at a time: the browser is closed while Python works. Needs Chromium.
"""

import base64
import functools
import shutil
import statistics
import sys
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Playwright, expect, sync_playwright

from stages.batch_prediction.inputs import asked
from stages.images.decode import read
from stages.publish import publish
from stages.runtime import Model

MOST = 12  # images of a folder
ROUNDS = 3
PATIENCE = 300_000  # milliseconds


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing of it."""

    def log_message(self, *words: Any) -> None:
        """Nothing."""


def by_browser(playwright: Playwright, folder: Path, files: list[Path]) -> dict[str, Any]:
    """Seconds to the first answer, milliseconds of each further one, and how far JPEGs lie apart."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page()
    begun = time.perf_counter()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    expect(page.locator("#served")).to_be_visible(timeout=PATIENCE)
    page.set_input_files("#files", files[0])
    page.wait_for_selector(".answer .body :not(.waiting)", timeout=PATIENCE)
    first = time.perf_counter() - begun
    page.set_input_files("#files", files[1:])
    expect(page.locator(".waiting")).to_have_count(0, timeout=PATIENCE)
    spent = page.evaluate("import('./page.js').then(({ rows }) => rows.map((row) => row.milliseconds))")
    levels = apart(page, files[:4])
    browser.close()
    server.shutdown()
    return {"first": first, "each": [s["read"] + s["answer"] for s in spent[1:]], "levels": levels}


APART = """async ([file, pixels]) => {
  const { read } = await import("./reading.js");
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


def apart(page: Page, files: list[Path]) -> list[list[float]]:
    """Of colour JPEGs: how far the browser's grey levels lie from Pillow's, the mean and the largest."""
    texts = [[file.read_bytes(), read(file.read_bytes()).image.tobytes()] for file in files if file.suffix == ".jpg"]
    return [page.evaluate(APART, [base64.b64encode(part).decode() for part in pair]) for pair in texts]


def by_python(model: Path, files: list[Path]) -> tuple[float, list[float]]:
    """Seconds from opening the file to the first answer, and milliseconds of each further one."""
    begun = time.perf_counter()
    opened = Model(model, threads=1)
    opened.answer_file(files[0].read_bytes())
    first, each = time.perf_counter() - begun, []
    for file in files[1:]:
        begun = time.perf_counter()
        opened.answer_file(file.read_bytes())
        each.append(1000 * (time.perf_counter() - begun))
    return first, each


def main() -> None:
    """Print the table."""
    given = [Path(word) for word in sys.argv[1:]]
    head = [
        "model",
        "network",
        "MB",
        "browser: first answer, s",
        "ms an image",
        "Python: ms an image",
        "times",
        "JPEG apart",
    ]
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        for number, (model, images) in enumerate(zip(given[::2], given[1::2], strict=True)):
            files, folder = [Path(one.path) for one in islice(asked([str(images)]), MOST)], Path(place) / str(number)
            publish(model, folder)
            said = Model(model).metadata
            firsts, shown, python, levels = [], [], [], []
            for _ in range(ROUNDS):
                seen = by_browser(playwright, folder, files)
                firsts.append(seen["first"])
                shown += seen["each"]
                levels = seen["levels"]
                python += by_python(model, files)[1]
            told = (
                f"{statistics.mean(mean for mean, _ in levels):.3f} (most {max(most for _, most in levels):.0f})"
                if levels
                else "no JPEG"
            )
            ms, beside = statistics.median(shown), statistics.median(python)
            kind = f"{said['representation']}, {said['size']} px, {said['fit']}"
            print(
                f"| {said['name']} | {kind} | {model.stat().st_size / 1e6:.0f} | {statistics.median(firsts):.1f} "
                f"({min(firsts):.1f} to {max(firsts):.1f}) | {ms:.0f} | {beside:.0f} | {ms / beside:.1f} "
                f"| {told} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
