"""What could decode a JPEG, beside Pillow: `python -m benchmarks.inference.decoder_speed FOLDER`, told as JSON.

Real files of FOLDER (clothing10.zip, bccd.zip, fundus_dr600.zip) as cameras and web shops wrote them, and some of
12 megapixels, enlarged from the largest. Each decoder has one thread and its turns in each round; what it gives is held
against Pillow's pixels. Seconds are those of the processor. Pillow can also have libjpeg decode at a half, a quarter or
an eighth of the size; there the working image is compared, since that is what a network would see.
"""

import io
import json
import statistics
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.images.decode import read

FILES, ROUNDS = 6, 7
WORKING = 224
SETS = {
    "clothing10": ("clothing10.zip", 0, 1e6),
    "bccd": ("bccd.zip", 0, 1e6),
    "fundus_dr600, small": ("fundus_dr600.zip", 0, 1e6),
    "fundus_dr600, 10 megapixels": ("fundus_dr600.zip", 9e6, 1e9),
}
"""Archive, and least and most pixels."""

Array = np.ndarray[Any, Any]


def decoders() -> dict[str, Callable[[bytes], Array]]:
    """By name, bytes to uint8 [H, W, 3] in the order red, green, blue."""
    import cv2
    import imagecodecs
    import kornia_rs
    import simplejpeg
    import torch
    import torchvision

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    return {
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "stages.images.decode": lambda data: read(data).image,
        "simplejpeg": lambda data: simplejpeg.decode_jpeg(data, "RGB"),
        "OpenCV": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB),
        "kornia-rs": lambda data: np.asarray(kornia_rs.io.decode_image_jpeg(data)),
        "kornia-rs, libjpeg-turbo": lambda data: np.asarray(kornia_rs.io.decode_image_jpegturbo(data, "rgb")),
        "imagecodecs": lambda data: imagecodecs.jpeg8_decode(data),
        "torchvision": lambda data: (
            torchvision.io.decode_jpeg(
                torch.frombuffer(bytearray(data), dtype=torch.uint8), torchvision.io.ImageReadMode.RGB
            )
            .permute(1, 2, 0)
            .numpy()
        ),
    }


def images(folder: Path) -> dict[str, list[bytes]]:
    """Some files of each set, evenly spread."""
    found: dict[str, list[bytes]] = {}
    for name, (archive, least, most) in SETS.items():
        with zipfile.ZipFile(folder / archive) as packed:
            names = [one for one in sorted(packed.namelist()) if one.lower().endswith((".jpg", ".jpeg"))]
            fitting = []
            for one in names:
                data = packed.read(one)
                image = Image.open(io.BytesIO(data))
                if least < image.width * image.height < most and image.mode == "RGB":
                    fitting.append(data)
        found[name] = fitting[:: max(1, len(fitting) // FILES)][:FILES]
    found["enlarged to 12 megapixels"] = [_enlarged(data) for data in found["clothing10"][:2]]
    return found


def _enlarged(data: bytes) -> bytes:
    """4000 x 3000 pixels in quality 90, as phones write them."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((4000, 3000), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def timed(calls: dict[str, Callable[[bytes], Any]], files: list[bytes]) -> dict[str, list[float]]:
    """Milliseconds of the processor an image, one value a round."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.process_time()
            for data in files:
                call(data)
            taken[name].append(1000 * (time.process_time() - began) / len(files))
    return taken


def apart(ours: list[Array], theirs: list[Array]) -> dict[str, float]:
    """Grey levels: the largest difference and the mean one."""
    off = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(ours, theirs, strict=True)]
    return {"most": float(max(one.max() for one in off)), "mean": float(np.mean([one.mean() for one in off]))}


def drafted(data: bytes, least: int) -> Image.Image:
    """Decoded at the smallest scale of libjpeg (1, 1/2, 1/4, 1/8) that leaves `least` pixels a side."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (least, least))
    return image.convert("RGB")


def working(image: Image.Image) -> Array:
    """What a network sees."""
    return np.asarray(image.resize((WORKING, WORKING), Image.Resampling.BILINEAR))


def main(folder: Path) -> dict[str, Any]:
    """All sets, all decoders."""
    found: dict[str, Any] = {}
    for name, files in images(folder).items():
        calls = decoders()
        whole = [calls["Pillow"](data) for data in files]
        cell: dict[str, Any] = {
            "files": len(files),
            "megapixels": statistics.mean(one.shape[0] * one.shape[1] / 1e6 for one in whole),
            "kilobytes": statistics.mean(len(data) / 1000 for data in files),
            "decoders": {},
        }
        taken = timed(calls, files)
        for decoder, call in calls.items():
            pixels = apart(whole, [call(data) for data in files])
            cell["decoders"][decoder] = {"milliseconds": taken[decoder], "apart": pixels}
        seen = [working(Image.fromarray(one)) for one in whole]
        scales: dict[str, Callable[[bytes], Array]] = {
            "whole": lambda data: working(Image.open(io.BytesIO(data)).convert("RGB")),
            "at least the working size": lambda data: working(drafted(data, WORKING)),
            "at least twice the working size": lambda data: working(drafted(data, 2 * WORKING)),
        }
        taken = timed(scales, files)
        cell["working"] = {
            scale: {"milliseconds": taken[scale], "apart": apart(seen, [call(data) for data in files])}
            for scale, call in scales.items()
        }
        found[name] = cell
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
