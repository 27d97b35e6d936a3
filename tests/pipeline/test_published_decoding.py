"""Compare image decoding of the published page with Python, pixel by pixel, in a real Chromium."""

import base64
import io
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stages.images.decode import Unreadable, decode_image, to_channels
from stages.publish import publish
from stages.runtime import Model
from tests.published import Page, exported, spec
from tests.toys import scene

ORIENTATION = 0x0112
READ = """async (data) => {
  const { read } = await import("./decode_images.js");
  try {
    const { height, width, channels, values } = await read(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), 178);
    const letters = Array.from(values, (value) => String.fromCharCode(value)).join("");
    return { shape: [height, width, channels], values: btoa(letters) };
  } catch (error) {
    return { name: error.constructor.name, error: error.message };
  }
}"""
IMAGE = Image.fromarray(scene(np.random.default_rng(1), 3)[0][:40, :56])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, runtime: Path, served: tuple[Path, str]) -> str:
    """Publish an image-to-image model, whose output has the orientation of the image; return the address."""
    file = exported(spec("image", "image", "image", channels=3), tmp_path_factory.mktemp("reading") / "model.onnx")
    publish(file, served[0] / "reading", runtime)
    return f"{served[1]}/reading/"


@pytest.fixture(scope="module")
def page(address: str, browser: Any) -> Page:
    return Page(browser, address)


def by_page(page: Page, data: bytes) -> np.ndarray | str:
    """Return the pixels that the page decodes from a file, or the reason why it refuses the file."""
    result = page.page.evaluate(READ, base64.b64encode(data).decode())
    if "error" in result:
        assert result["name"] == "Unreadable", result
        return result["error"]
    return np.frombuffer(base64.b64decode(result["values"]), np.uint8).reshape(result["shape"])


def by_python(data: bytes) -> np.ndarray | str:
    try:
        image = decode_image(data).image
    except Unreadable as error:
        return str(error)
    return to_channels(image, 3) if image.ndim == 2 or image.shape[2] == 3 else image


def saved(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    IMAGE.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def xmp(orientation: int) -> bytes:
    return f'<rdf:Description tiff:Orientation="{orientation}"/>'.encode()


def text(keyword: str, words: str, compressed: bool = False, international: bool = False) -> PngInfo:
    info = PngInfo()
    (info.add_itxt if international else info.add_text)(keyword, words, zip=compressed)
    return info


def profile(orientation: int, compressed: bool = False) -> PngInfo:
    """Return EXIF as ImageMagick writes it to a PNG."""
    data = exif(orientation)
    return text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", compressed)


def png_xmp(orientation: int, compressed: bool = False) -> PngInfo:
    return text("XML:com.adobe.xmp", xmp(orientation).decode(), compressed, international=True)


FILES_WITH_ORIENTATION = {
    "JPEG, EXIF": lambda n: saved("JPEG", exif=exif(n)),
    "JPEG, XMP": lambda n: saved("JPEG", xmp=xmp(n)),
    "JPEG, both": lambda n: saved("JPEG", exif=exif(n), xmp=xmp(3)),
    "JPEG, broken EXIF and XMP": lambda n: saved("JPEG", exif=b"Exif\0\0no directory", xmp=xmp(n)),
    "WebP, EXIF": lambda n: saved("WEBP", exif=exif(n)),
    "WebP, XMP": lambda n: saved("WEBP", xmp=xmp(n), lossless=True),
    "PNG, EXIF": lambda n: saved("PNG", exif=exif(n)),
    "PNG, profile": lambda n: saved("PNG", pnginfo=profile(n)),
    "PNG, compressed profile": lambda n: saved("PNG", pnginfo=profile(n, compressed=True)),
    "PNG, EXIF and profile": lambda n: saved("PNG", exif=exif(n), pnginfo=profile(3)),
    "PNG, XMP": lambda n: saved("PNG", pnginfo=png_xmp(n)),
    "PNG, compressed XMP": lambda n: saved("PNG", pnginfo=png_xmp(n, compressed=True)),
}
"""Functions that write a file with a given orientation."""


@pytest.mark.parametrize("kind_of_file", FILES_WITH_ORIENTATION)
def test_decoded_orientation_matches_python(kind_of_file: str, page: Page) -> None:
    seen = set()
    for orientation in range(1, 9):
        data = FILES_WITH_ORIENTATION[kind_of_file](orientation)
        given, expected = by_page(page, data), by_python(data)
        assert isinstance(given, np.ndarray) and isinstance(expected, np.ndarray), (given, expected)
        assert np.array_equal(given, expected), orientation
        seen.add(given.tobytes())
    assert len(seen) == (1 if "broken" in kind_of_file else 8)


@pytest.mark.parametrize("kind", [1, 3, 4, 5, 6, 8, 9, 11, 12, 16])
def test_exif_number_types_match_python(kind: int, page: Page) -> None:
    formats = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q"}
    for order, head in ("<", b"II*\0"), (">", b"MM\0*"):
        number = struct.pack(order + formats[kind], *((6, 1) if kind == 5 else (6,)))
        value, behind = (number.ljust(4, b"\0"), b"") if len(number) <= 4 else (struct.pack(order + "I", 26), number)
        entry = struct.pack(order + "IHHHI", 8, 1, ORIENTATION, kind, 1) + value
        data = saved("WEBP", exif=head + entry + bytes(4) + behind, xmp=xmp(8))
        assert np.array_equal(by_page(page, data), by_python(data))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def transparent_png(depth: int, level: int) -> bytes:
    """Return a grey PNG with all levels from left to right, one of them transparent."""
    row = b"\0" + int("".join(f"{n % 2**depth:0{depth}b}" for n in range(8)), 2).to_bytes(depth, "big")
    head = struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0)
    body = [(b"IHDR", head), (b"tRNS", struct.pack(">H", level)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in body)


def bmp(masks: tuple[int, ...], pixel: bytes, head: int = 56, bits: int = 32) -> bytes:
    """Return a BMP of 4 x 2 equal pixels."""
    start = struct.pack("<IiiHHIIiiII", head, 4, 2, 1, bits, 3, 8 * len(pixel), 0, 0, 0, 0)
    start = (start + struct.pack("<4I", *masks)).ljust(head, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(start) + 8 * len(pixel), 0, 0, 14 + len(start)) + start + 8 * pixel


LAST = (0xFF000000, 0xFF0000, 0xFF00, 0xFF)


def test_files_refused_by_python_are_refused(page: Page) -> None:
    bomb, invalid = text("Comment", "a" * 2_000_000, compressed=True), text("Raw profile type exif", "\n\n\nxyz")
    unknown = saved("PNG", pnginfo=text("Comment", "a", compressed=True)).replace(b"Comment\0\0", b"Comment\0\1")
    refused = {
        "a transparent level that no pixel has": (transparent_png(1, 255), "is partly transparent"),
        "alpha in the first byte": (bmp(LAST, b"\x80\1\2\3"), "is partly transparent"),
        "unusual bit masks": (bmp((0xF00, 0xF0, 0xF, 0), b"\1\2\3\4"), "is a BMP with an unsupported channel layout"),
        "a decompression bomb in a text": (saved("PNG", pnginfo=bomb), "contains a compressed text of more than"),
        "an unknown compression method of a text": (unknown, "text compressed by the unknown method 1"),
        "EXIF that is not hexadecimal": (saved("PNG", pnginfo=invalid), "contains EXIF that cannot be read"),
        "a truncated BMP": (bmp(LAST, b"\xff\1\2\3")[:20], "is a damaged BMP: it ends too early"),
    }
    for name, (data, message) in refused.items():
        assert isinstance(by_python(data), str), name
        assert message in by_page(page, data), name


def test_valid_variants_of_refused_files_are_read(page: Page) -> None:
    several = {"save_all": True, "append_images": [IMAGE.rotate(90)]}
    valid = {
        "one image": saved("MPO", save_all=True),
        "several images, of which the first is the primary one": saved("MPO", **several),
        "full alpha": bmp(LAST, b"\xff\1\2\3"),
        "no alpha": bmp((0xFF0000, 0xFF00, 0xFF, 0), b"\1\2\3\4"),
        "text": saved("PNG", pnginfo=text("Comment", "a", compressed=True)),
    }
    for name, data in valid.items():
        assert np.array_equal(by_page(page, data), by_python(data)), name


def test_colours_that_browsers_round_differently_are_refused(page: Page) -> None:
    data = bmp((0xF800, 0x7E0, 0x1F, 0), b"\x35\x7a", bits=16)
    assert isinstance(by_python(data), np.ndarray) and "is a BMP of 16 bits" in by_page(page, data)


def test_rotated_files_match_the_python_runtime(page: Page, address: str, served: tuple[Path, str]) -> None:
    model = Model(served[0] / "reading" / "model.onnx")
    given = {f"{n}": FILES_WITH_ORIENTATION[kind_of_file](6) for n, kind_of_file in enumerate(FILES_WITH_ORIENTATION)}
    rows = page.predict(given)
    for row, data in zip(rows, given.values(), strict=True):
        shown = np.asarray(Image.open(io.BytesIO(row["file"])))[:, :, :3].astype(float)
        assert np.abs(shown - 255 * model.predict_file(data).clip(0, 1)).max() < 1.01, row["path"]
    assert len({row["file"] for row in rows}) > 1


def test_unusual_images_match_python_or_are_refused(page: Page, reference_data: Path) -> None:
    with zipfile.ZipFile(reference_data / "odd_images.zip") as archive:
        odd = {name: archive.read(name) for name in archive.namelist() if Path(name).parts[1:-1]}
    counted: Counter[str] = Counter()
    for name, data in odd.items():
        given = by_page(page, data)
        if name.endswith((".tif", ".tiff", ".pgm", ".ppm")):
            assert isinstance(given, str), name
            counted["not decoded by browsers"] += 1
        elif isinstance(given, str):
            assert isinstance(by_python(data), str), (name, given)
            counted["refused by both"] += 1
        else:
            assert np.array_equal(given, by_python(data)), name
            counted["equal pixels"] += 1
    assert counted == {"equal pixels": 54, "refused by both": 31, "not decoded by browsers": 61}
