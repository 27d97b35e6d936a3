"""Image files that a server must survive: damaged, wrong, huge or unusual ones, and files that are not images."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from PIL import Image

SIDE = 24  # pixels per side of small images


def encode_image(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of an image file.

    Args:
        picture: the image.
        kind: name of the format in Pillow.
        **options: options of the format.
    """
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def tiff(image: np.ndarray[Any, Any], **options: Any) -> bytes:
    """Return the bytes of a TIFF, written by tifffile."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, **options)
    return stream.getvalue()


def npy(image: np.ndarray[Any, Any]) -> bytes:
    """Return the bytes of an npy file."""
    stream = io.BytesIO()
    np.save(stream, image)
    return stream.getvalue()


def whole(rng: np.random.Generator) -> bytes:
    """Draw an image that can be read, in a random format."""
    array = rng.integers(0, 256, (int(rng.integers(1, SIDE)), int(rng.integers(1, SIDE)), 3)).astype(np.uint8)
    picture = Image.fromarray(array)
    formats: list[Callable[[], bytes]] = [
        *(lambda kind=kind: encode_image(picture, kind) for kind in ("PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF")),
        lambda: encode_image(picture.quantize(16), "GIF"),
        lambda: encode_image(picture.quantize(16), "PNG"),
        lambda: encode_image(picture.convert("L"), "JPEG"),
        lambda: encode_image(picture.convert("1"), "TIFF", compression="group4"),
        lambda: encode_image(
            picture, "TIFF", compression=str(rng.choice(["tiff_lzw", "tiff_deflate", "packbits", "jpeg"]))
        ),
        lambda: encode_image(picture, "JPEG", progressive=True, exif=_random_exif(rng)),
        lambda: encode_image(picture, "WEBP", lossless=True, exif=_random_exif(rng)),
        lambda: npy(array),
    ]
    return formats[rng.integers(len(formats))]()


def _random_exif(rng: np.random.Generator) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 10))
    exif[0x9003] = "2026:13:41 25:61:61"
    return exif


def flipped(rng: np.random.Generator) -> bytes:
    """Draw a file with some bytes replaced; half of the time only at the beginning, where sizes and offsets are."""
    data = bytearray(_any(rng))
    reach = len(data) if rng.random() < 0.5 else min(len(data), 200)
    for place in rng.integers(0, reach, int(rng.integers(1, 12))):
        data[place] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
    return bytes(data)


def truncated(rng: np.random.Generator) -> bytes:
    """Draw a truncated file; in some cases, zeros replace the rest."""
    data = _any(rng)
    kept = data[: rng.integers(0, len(data))]
    return kept + bytes(len(data) - len(kept)) if rng.random() < 0.3 else kept


def spliced(rng: np.random.Generator) -> bytes:
    """Draw the beginning of one file joined to the end of another, a file with a repeated part, or two files in one."""
    first, second = _any(rng), _any(rng)
    at, to = sorted(rng.integers(0, len(first), 2))
    kinds = (first[:at] + second[min(at, len(second)) :], first[:to] + first[at:], first + second)
    return kinds[rng.integers(len(kinds))]


def _any(rng: np.random.Generator) -> bytes:
    return odd(rng) if rng.random() < 0.3 else whole(rng)


def odd(rng: np.random.Generator) -> bytes:
    """Draw an intact but unusual file: frames, 16 bits, CMYK, floats, transparency, one row or none, odd metadata."""
    array = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    picture, deep = Image.fromarray(array), (array.astype(np.uint16) * 257)
    more: dict[str, Any] = {"save_all": True, "append_images": [picture.rotate(90 * n) for n in range(1, 4)]}
    kinds: list[Callable[[], bytes]] = [
        *(lambda kind=kind: encode_image(picture, kind, **more) for kind in ("GIF", "PNG", "WEBP", "TIFF")),
        *(
            lambda mode=mode: encode_image(picture.convert(mode), "TIFF")
            for mode in ("CMYK", "LAB", "F", "I", "YCbCr", "1")
        ),
        *(lambda mode=mode: encode_image(picture.convert(mode), "PNG") for mode in ("1", "L", "LA", "RGBA", "P")),
        lambda: encode_image(Image.fromarray(deep[:, :, 0]), "PNG"),
        lambda: encode_image(picture.convert("CMYK"), "JPEG"),
        lambda: encode_image(picture.quantize(8), "PNG", transparency=3),
        lambda: encode_image(picture, "JPEG", icc_profile=rng.bytes(400), comment=rng.bytes(300)),
        lambda: encode_image(picture, "PNG", exif=rng.bytes(200)),
        lambda: tiff(deep),
        lambda: tiff(deep[:, :, 0], photometric="miniswhite"),
        lambda: tiff(np.repeat(array, 4, axis=2), planarconfig="separate", photometric="minisblack"),
        lambda: tiff(deep, compression="zlib", tile=(16, 16)),
        lambda: tiff(np.full((SIDE, SIDE), np.nan, np.float32)),
        lambda: npy(np.full((SIDE, SIDE), np.nan)),
        lambda: npy(deep),
        lambda: npy(np.zeros((0, 5, 3), np.uint8)),
        lambda: npy(array[None, None]),
        lambda: encode_image(Image.new("RGB", (int(rng.integers(1, 9000)), 1)), "PNG"),
        lambda: encode_image(Image.new("RGB", (1, int(rng.integers(1, 9000)))), "BMP"),
    ]
    return kinds[rng.integers(len(kinds))]()


def bomb(rng: np.random.Generator) -> bytes:
    """Draw a small file whose image, chunks or number of channels, frames or pages are huge, or are declared to be."""
    side = int(rng.choice([7_100, 20_000, 65_535, 2**31 - 1]))
    kinds: list[Callable[[], bytes]] = [
        lambda: png_of(side, side),
        lambda: png_of(side, 1),
        lambda: png_of(7_000, 7_000, zlib.compress(bytes(7_001 * 7_000))),
        lambda: png_of(SIDE, SIDE, zlib.compress(bytes(50_000_000))),
        lambda: png_of(SIDE, SIDE, b"", (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(60_000_000)))),
        lambda: png_of(SIDE, SIDE, b"", (b"iCCP", b"name\0\0" + zlib.compress(bytes(60_000_000)))),
        lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(3) + b"," + bytes(9) + b"\x08\x01\0\0;",
        lambda: encode_image(Image.new("1", (9_000, 9_000)), "TIFF", compression="group4"),
        lambda: encode_image(Image.new("1", (9_000, 9_000)), "TIFF", compression="tiff_deflate"),
        lambda: tiff_of_channels(70, 70, 60_000),
        lambda: _tiff_with_wrong_tag(rng),
        lambda: b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2 + b"VP8L\x08\0\0\0/" + b"\xff" * 7,
        lambda: b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, side % 2**31, side % 2**31, 1, 24, 0) + bytes(24),
        lambda: f"P6 {side} {side} 255\n".encode() + bytes(99),
        lambda: _npy_with_wrong_shape((side, side, 3)),
        lambda: _npy_with_wrong_shape((2**62, 2**62)),
        lambda: gif_of_frames(int(rng.integers(1_000, 20_000))),
        lambda: tiff_of_pages(int(rng.integers(1_000, 20_000))),
    ]
    return kinds[rng.integers(len(kinds))]()


def png_of(width: int, height: int, data: bytes = b"", *more: tuple[bytes, bytes]) -> bytes:
    """Return a grey PNG of a declared size.

    Args:
        width: declared width, pixels.
        height: declared height, pixels.
        data: compressed rows; by default there are none.
        *more: further chunks, as pairs of name and data.
    """
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", data or zlib.compress(b"")), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _tiff_with_wrong_tag(rng: np.random.Generator) -> bytes:
    """Return a TIFF in which one tag has an extreme value and, half of the time, an extreme number of values."""
    data = bytearray(tiff(np.zeros((SIDE, SIDE, 3), np.uint8), photometric="rgb"))
    (at,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, at)
    place = at + 2 + 12 * int(rng.integers(tags))
    struct.pack_into("<I", data, place + 8, int(rng.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1])))
    if rng.random() < 0.5:
        struct.pack_into("<I", data, place + 4, int(rng.choice([0, 2, 2**20, 2**32 - 1])))
    return bytes(data)


def _npy_with_wrong_shape(shape: tuple[int, ...]) -> bytes:
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + bytes(99)


def gif_of_frames(frames: int) -> bytes:
    """Return a GIF with a number of frames of one pixel, 15 bytes each."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def tiff_of_channels(height: int, width: int, channels: int) -> bytes:
    """Return a TIFF with few pixels and many channels, uint8 [height, width, channels].

    Args:
        height: height in pixels.
        width: width in pixels.
        channels: values per pixel.
    """
    return tiff(np.zeros((height, width, channels), np.uint8), compression="zlib", planarconfig="contig")


def tiff_of_pages(pages: int) -> bytes:
    """Return a TIFF with a number of pages that all share one pixel."""
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    size = 2 + 12 * len(tags) + 4
    parts = [b"II*\0" + struct.pack("<I", 12) + bytes(4)]
    for page in range(pages):
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        following = 12 + size * (page + 1) if page + 1 < pages else 0
        parts.append(struct.pack("<H", len(tags)) + entries + struct.pack("<I", following))
    return b"".join(parts)


def not_an_image(rng: np.random.Generator) -> bytes:
    """Draw a file that is not an image, or that is also a file of another kind."""
    picture = whole(rng)
    kinds = (
        b"", b"\0", rng.bytes(int(rng.integers(1, 3000))), b"<html><script>alert(1)</script>", b"%PDF-1.7\n%%EOF",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"PK\x03\x04" + rng.bytes(60), b"\x1f\x8b\x08" + rng.bytes(60), b"\0\0\0\x0cjP  \r\n\x87\n" + rng.bytes(60),
        b"\x93NUMPY" + rng.bytes(90), b"\x7fELF" + rng.bytes(90), b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        picture + b"PK\x05\x06" + bytes(18), b"GIF89a=1;alert(1);/*" + picture, picture + b"<script>alert(1)</script>",
        b"\0\0\0\x1cftypavif" + rng.bytes(60), b"II+\0\x08\0\0\0" + rng.bytes(90), b"8BPS\0\x01" + rng.bytes(60),
    )  # fmt: skip
    return kinds[rng.integers(len(kinds))]
