"""A file is read right or refused with its reason; never a crash, never a wrong picture."""

import io
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.serving.fuzz_images import gif_of_frames, tiff_of_channels, tiff_of_pages
from stages.images.decode import Unreadable, decode_image, to_channels
from tests.conftest import png

RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
COLOUR = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 9)], axis=-1)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_grey_comes_back_as_it_was(format_: str) -> None:
    picture = decode_image(encoded(Image.fromarray(RAMP), format_))
    assert np.array_equal(to_channels(picture.image, 1)[:, :, 0], RAMP)
    assert picture.format == format_


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colour_comes_back_as_it_was(format_: str) -> None:
    assert np.array_equal(decode_image(encoded(Image.fromarray(COLOUR), format_)).image, COLOUR)


def test_one_bit_becomes_black_and_white() -> None:
    bits = Image.fromarray(RAMP > 100)
    assert sorted(np.unique(decode_image(encoded(bits, "PNG")).image)) == [0, 255]


def test_a_palette_becomes_its_colours() -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    assert np.array_equal(decode_image(encoded(palette, "PNG")).image, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int) -> None:
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8] = 255  # a light top left corner
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that the camera would have made
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    read_back = decode_image(encoded(stored, "PNG", exif=exif)).image
    assert np.array_equal(read_back, upright)


def test_an_image_is_turned_where_another_tag_is_of_a_wrong_type() -> None:
    tags = ((0x0100, 2, 2, b"9\0\0\0"), (0x0112, 3, 1, b"\6\0\0\0"))  # the width as text
    exif = b"II*\0\x08\0\0\0\2\0" + b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags) + bytes(4)
    picture = decode_image(encoded(Image.fromarray(RAMP[:4, :8]), "PNG", exif=exif))
    assert picture.turned and np.array_equal(picture.image, np.rot90(RAMP[:4, :8], -1))


def test_the_camera_is_known_from_exif() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 1"
    assert decode_image(encoded(Image.fromarray(COLOUR), "JPEG", exif=exif)).camera == "Maker Model 1"


def npy(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()


DEEP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
DEEP_COLOUR_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x10\x02\0\0\0"
JPEG = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), "JPEG")
HOSTILE = {
    "empty": (b"", "0 bytes"),
    "text": (b"not an image at all", "UnidentifiedImageError"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated PNG": (png(COLOUR)[:60], "Error"),
    "an npy of floats": (npy(np.zeros((8, 8))), "float64 of shape"),
    "a damaged npy": (npy(RAMP)[:40], "not a valid npy file"),
    "16-bit colour PNG": (DEEP_COLOUR_PNG, "16-bit colour PNG, which would be reduced to 8 bits"),
    "float": (encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), "mode F"),
    "CMYK": (encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "CMYK"),
    "LAB": (encoded(Image.fromarray(COLOUR).convert("LAB"), "TIFF"), "LAB"),
    "animation": (
        encoded(Image.fromarray(RAMP), "GIF", save_all=True, append_images=[Image.fromarray(RAMP.T.copy())]),
        "several frames",
    ),
    "transparent": (png(np.dstack([COLOUR, RAMP])), "transparent"),
    "too large": (png(np.zeros((1100, 1000), np.uint8)), "1.1 megapixels, above 1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_read_without_guessing_is_refused_with_its_reason(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(Unreadable, match=reason):
        decode_image(data, max_megapixels=1)


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    opaque = np.dstack([COLOUR, np.full_like(RAMP, 255)])
    assert np.array_equal(decode_image(png(opaque)).image, COLOUR)


def test_damaged_files_never_give_a_picture_that_differs_from_what_pillow_gives_whole() -> None:
    """Files cut at every eighth length: each is refused, or was complete already."""
    whole = decode_image(JPEG).image
    refused = 0
    for length in range(0, len(JPEG), 8):
        try:
            assert np.array_equal(decode_image(JPEG[:length]).image, whole)
        except Unreadable:
            refused += 1
    assert refused > len(JPEG) // 8 - 3


def test_grey_and_colour_convert_both_ways() -> None:
    assert np.array_equal(to_channels(to_channels(RAMP, 3), 1)[:, :, 0], RAMP)
    luma = to_channels(COLOUR, 1)[0, 0, 0]
    assert abs(float(luma) - COLOUR[0, 0] @ [0.299, 0.587, 0.114]) <= 1


def test_a_zoo_of_odd_images_is_read_or_refused_in_bounded_time(reference_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(reference_data / "odd_images.zip") as archive:
        archive.extractall(tmp_path)
    script = (
        "import sys, pathlib\nfrom stages.images.decode import decode_image, Unreadable\nn = [0, 0]\n"
        "for f in sorted(pathlib.Path(sys.argv[1]).rglob('*')):\n"
        "    if not f.is_file(): continue\n"
        "    try:\n        image = decode_image(f.read_bytes()).image; n[0] += 1\n"
        "        assert image.dtype in ('uint8', 'uint16') and image.ndim in (2, 3) and image.size\n"
        "    except Unreadable as e:\n        n[1] += 1; assert str(e)\n"
        "print(*n)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    taken, refused = map(int, done.stdout.split())
    assert taken > 50 and refused > 30


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_stay_sixteen(kind: str) -> None:
    assert np.array_equal(decode_image(encoded(Image.fromarray(DEEP), kind)).image, DEEP)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_of_any_channels_are_read(shape: tuple[int, ...], dtype: type) -> None:
    image: np.ndarray = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    assert np.array_equal(decode_image(npy(image)).image, image.reshape(shape[:2]) if shape[2:] == (1,) else image)


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 3), (np.uint8, 6), (np.uint16, 6)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_tiff_of_many_channels_or_deep_colour_is_read(dtype: type, channels: int, planar: str) -> None:
    import tifffile

    image: np.ndarray = np.random.default_rng(0).integers(0, 250, (12, 10, channels)).astype(dtype)
    buffer = io.BytesIO()
    photometric = "rgb" if channels == 3 else "minisblack"
    stored = np.moveaxis(image, 2, 0) if planar == "separate" else image
    tifffile.imwrite(buffer, stored, photometric=photometric, planarconfig=planar)
    assert np.array_equal(decode_image(buffer.getvalue()).image, image)


@pytest.mark.parametrize(("code", "name"), [(5, "LZW"), (7, "JPEG")])
def test_a_deep_tiff_whose_packing_is_unknown_says_how_to_store_it(code: int, name: str) -> None:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((12, 10, 3), np.uint16), photometric="rgb")
    packing = struct.pack("<HHII", 259, 3, 1, 1)  # the tag Compression: one short, none
    assert buffer.getvalue().count(packing) == 1 and not decode_image(buffer.getvalue()).image.any()
    with pytest.raises(
        Unreadable, match=rf"^is compressed by {name}, .*store it uncompressed or with Deflate \(tiffcp"
    ):
        decode_image(buffer.getvalue().replace(packing, struct.pack("<HHII", 259, 3, 1, code)))


def test_other_numbers_of_channels_are_not_made_up() -> None:
    with pytest.raises(ValueError, match="has 5 channels, but 3 are required"):
        to_channels(np.zeros((4, 4, 5), np.uint8), 3)
    assert to_channels(DEEP, 3).shape == (64, 64, 3) and to_channels(DEEP, 3).dtype == np.uint16
    assert np.array_equal(to_channels(to_channels(DEEP, 3), 1)[:, :, 0], DEEP)


def test_statistics_of_sixteen_bits_are_on_the_scale_of_eight() -> None:
    from stages.images.image_statistics import compute_statistics

    deep = decode_image(npy(RAMP.astype(np.uint16) * 257))
    plain = decode_image(npy(RAMP))
    for name in ("brightness", "contrast", "sharpness", "phash", "thumbnail"):
        assert compute_statistics(deep)[name] == compute_statistics(plain)[name]
    assert compute_statistics(decode_image(npy(np.zeros((9, 9, 7), np.uint8))))["redness"] == 0


def test_a_million_frames_are_refused_uncounted_and_a_tiff_of_huge_channels_unread() -> None:
    started = time.monotonic()
    for data, words in (
        (gif_of_frames(1_000_000), "several frames"),
        (tiff_of_pages(50_000), "several frames"),  # of which Pillow's count takes seconds, and the square of it
        (tiff_of_channels(70, 70, 60_000), "MB of values"),
    ):
        with pytest.raises(Unreadable, match=words):
            decode_image(data, 10)
    assert time.monotonic() - started < 5
