"""Compare JPEG decoders: `python -m benchmarks.inference.decoder_speed FOLDER` prints JSON.

The files are real ones from FOLDER (clothing10.zip, bccd.zip, fundus_dr600.zip), written by cameras and web shops, and
two images of clothing10 that are enlarged to 12 megapixels. The decoders take turns with one thread each, and their
pixels are compared with Pillow's. Times are processor times. Pillow can also let libjpeg decode at a half, a quarter or
an eighth of the size; there the resized image is compared, because it is the input of a network.
"""

import io
import json
import statistics
import sys
import time
import zipfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.images.decode import decode_image

FILES, ROUNDS = 6, 7
LIBRARIES = ("cv2", "imagecodecs", "kornia_rs", "simplejpeg", "torchvision")
WORKING = 224
SETS = {
    "clothing10": ("clothing10.zip", 0, 1e6),
    "bccd": ("bccd.zip", 0, 1e6),
    "fundus_dr600, small": ("fundus_dr600.zip", 0, 1e6),
    "fundus_dr600, 10 megapixels": ("fundus_dr600.zip", 9e6, 1e9),
}
"""Archive, and the range of the number of pixels."""

Array = np.ndarray[Any, Any]


def decoders() -> dict[str, Callable[[bytes], Array]]:
    """Return the decoders by name: functions from bytes to uint8 [H, W, 3] in the order red, green, blue."""
    found: dict[str, Callable[[bytes], Array]] = {
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "Macula": lambda data: decode_image(data).image,
    }
    for library in LIBRARIES:
        if find_spec(library) is None:
            print(f"skipped: {library} is not installed", file=sys.stderr)
        else:
            found |= _decoders_of(library)
    return found


def _decoders_of(library: str) -> dict[str, Callable[[bytes], Array]]:
    """Return the decoders of an installed library."""
    module = import_module(library)
    if library == "cv2":
        module.setNumThreads(1)
        return {"OpenCV": lambda data: module.imdecode(np.frombuffer(data, np.uint8), module.IMREAD_COLOR_RGB)}
    if library == "imagecodecs":
        return {"imagecodecs": module.jpeg8_decode}
    if library == "kornia_rs":
        return {
            "kornia-rs": lambda data: np.asarray(module.io.decode_image_jpeg(data)),
            "kornia-rs, libjpeg-turbo": lambda data: np.asarray(module.io.decode_image_jpegturbo(data, "rgb")),
        }
    if library == "simplejpeg":
        return {"simplejpeg": lambda data: module.decode_jpeg(data, "RGB")}
    import torch

    torch.set_num_threads(1)

    def decode(data: bytes) -> Array:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return module.io.decode_jpeg(buffer, module.io.ImageReadMode.RGB).permute(1, 2, 0).numpy()

    return {"torchvision": decode}


def read_images(folder: Path) -> dict[str, list[bytes]]:
    """Return up to `FILES` JPEGs of each set, and enlarged ones; `folder` contains the archives.

    Every n-th of the matching colour JPEGs is taken, in the order of the file names.
    """
    found: dict[str, list[bytes]] = {}
    for name, (archive, low, high) in SETS.items():
        with zipfile.ZipFile(folder / archive) as packed:
            names = [one for one in sorted(packed.namelist()) if one.lower().endswith((".jpg", ".jpeg"))]
            matching = []
            for one in names:
                data = packed.read(one)
                image = Image.open(io.BytesIO(data))
                if low < image.width * image.height < high and image.mode == "RGB":
                    matching.append(data)
        found[name] = matching[:: max(1, len(matching) // FILES)][:FILES]
    found["enlarged to 12 megapixels"] = [_enlarged(data) for data in found["clothing10"][:2]]
    return found


def _enlarged(data: bytes) -> bytes:
    """Return the image enlarged to 4000 x 3000 pixels, as a JPEG of quality 90, as phones write it."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((4000, 3000), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def time_decoders(
    calls: dict[str, Callable[[bytes], Any]], files: list[bytes], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Time several functions in turn.

    Args:
        calls: functions by name.
        files: bytes of the files on which each function is called.
        rounds: number of rounds.

    Returns:
        Processor milliseconds per file, by function: one value per round.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            for data in files:
                call(data)
            taken[name].append(1000 * (time.process_time() - began) / len(files))
    return taken


def pixel_differences(ours: list[Array], theirs: list[Array]) -> dict[str, float]:
    """Return the largest and the mean difference between two lists of images, in grey levels."""
    off = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(ours, theirs, strict=True)]
    return {"most": float(max(one.max() for one in off)), "mean": float(np.mean([one.mean() for one in off]))}


def decode_reduced(data: bytes, min_side: int) -> Image.Image:
    """Decode at the smallest scale of libjpeg (1, 1/2, 1/4, 1/8) that leaves at least `min_side` pixels per side."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (min_side, min_side))
    return image.convert("RGB")


def resize_to_working(image: Image.Image) -> Array:
    """Resize an image to the network's input, uint8 [224, 224, 3]."""
    return np.asarray(image.resize((WORKING, WORKING), Image.Resampling.BILINEAR))


def main(folder: Path) -> dict[str, Any]:
    """Measure all decoders on all sets; `folder` contains the archives."""
    return measure(read_images(folder))


def measure(sets: dict[str, list[bytes]], rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all decoders.

    Args:
        sets: bytes of JPEGs by name.
        rounds: number of rounds.

    Returns:
        By set: size of the images, processor milliseconds and differences from Pillow of each decoder, and the same for
        reduced decoding, with the differences of the resized images.
    """
    found: dict[str, Any] = {}
    for name, files in sets.items():
        calls = decoders()
        whole = [calls["Pillow"](data) for data in files]
        cell: dict[str, Any] = {
            "files": len(files),
            "megapixels": statistics.mean(one.shape[0] * one.shape[1] / 1e6 for one in whole),
            "kilobytes": statistics.mean(len(data) / 1000 for data in files),
            "decoders": {},
        }
        taken = time_decoders(calls, files, rounds)
        for decoder, call in calls.items():
            differences = pixel_differences(whole, [call(data) for data in files])
            cell["decoders"][decoder] = {"milliseconds": taken[decoder], "difference": differences}
        seen = [resize_to_working(Image.fromarray(one)) for one in whole]
        scales: dict[str, Callable[[bytes], Array]] = {
            "full size": lambda data: resize_to_working(Image.open(io.BytesIO(data)).convert("RGB")),
            "at least the working size": lambda data: resize_to_working(decode_reduced(data, WORKING)),
            "at least twice the working size": lambda data: resize_to_working(decode_reduced(data, 2 * WORKING)),
        }
        taken = time_decoders(scales, files, rounds)
        cell["working"] = {
            scale: {"milliseconds": taken[scale], "difference": pixel_differences(seen, [call(data) for data in files])}
            for scale, call in scales.items()
        }
        found[name] = cell
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
