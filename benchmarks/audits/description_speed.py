"""Measure the time of Macula's description of an image file, in total and by part.

`python -m benchmarks.audits.description_speed time FOLDER` prints the wall-clock and processor seconds for the images
of `audit_speed`, and `... breakdown FOLDER` prints the processor milliseconds of each part. The module runs in its own
process, so that other imports and their memory do not affect the times.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.core.memory import keep_freed_memory
from stages.images import image_statistics as parts
from stages.images.decode import decode_image
from stages.images.image_metadata import describe_image

BREAKDOWN = 400  # images whose description is timed part by part


def _image_files(folder: Path) -> list[Path]:
    return [folder / "images" / row["path"] for row in json.loads((folder / "case.json").read_text())]


def time_description(folder: Path) -> tuple[float, float]:
    """Return the wall-clock and processor seconds that this process takes to read and describe all files."""
    keep_freed_memory()  # as in the processes in which ingest decodes
    files = _image_files(folder)
    describe_image(files[0].read_bytes(), max_megapixels=100)
    began, before = time.perf_counter(), time.process_time()
    for file in files:
        describe_image(file.read_bytes(), max_megapixels=100)
    return time.perf_counter() - began, time.process_time() - before


def break_down(folder: Path) -> dict[str, float]:
    """Return the processor milliseconds per image of a description (`all`) and of its parts, largest first.

    Each part is timed by itself; the rest, such as the conversion to grey, is `all` minus the other parts.
    """
    keep_freed_memory()
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any], *given: Any) -> Any:
        began = time.process_time()
        result = function(*given)
        spent[part] += time.process_time() - began
        return result

    files = _image_files(folder)[:BREAKDOWN]
    for file in files:
        data = file.read_bytes()
        timed("all", describe_image, data, 100)
        picture = timed("decoding, EXIF", decode_image, data, 100)
        colour = Image.fromarray(picture.image)
        grey = colour.convert("L")
        counts = np.array(grey.histogram())
        timed("histograms of three channels", colour.histogram)
        timed("perceptual hashes", parts.perceptual_hashes, grey)
        timed("sharpness", parts._sharpness, grey)
        rim = timed("border", lambda grey: parts._rim(np.asarray(grey)).std(), grey)
        timed("foreground, entropy", lambda c, r: (parts._foreground(c, r), parts._entropy(c)), counts, rim)
        timed("thumbnail", parts._thumbnail, colour)
        timed("digest of the pixels", lambda image: sha256(image.tobytes()).hexdigest(), picture.image)
    milliseconds = {part: 1000 * seconds / len(files) for part, seconds in spent.items()}
    total = milliseconds.pop("all")
    rest = {"grey, moments, the rest": total - sum(milliseconds.values())}
    return {"all": total} | dict(sorted((milliseconds | rest).items(), key=lambda part: -part[1]))


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(time_description(folder) if what == "time" else break_down(folder)))
