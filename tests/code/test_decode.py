"""Tests of decoding: a file is decoded exactly, or rejected with the reason."""

import io
import re
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
from stages.images.label_images import decode_label_image
from tests.conftest import png

RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
COLOUR = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 9)], axis=-1)


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_grey_images_are_decoded_exactly(format_: str) -> None:
    decoded = decode_image(encode(Image.fromarray(RAMP), format_))
    assert np.array_equal(to_channels(decoded.image, 1)[:, :, 0], RAMP)
    assert decoded.format == format_


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colour_images_are_decoded_exactly(format_: str) -> None:
    assert np.array_equal(decode_image(encode(Image.fromarray(COLOUR), format_)).image, COLOUR)


def test_one_bit_images_become_black_and_white() -> None:
    bits = Image.fromarray(RAMP > 100)
    assert sorted(np.unique(decode_image(encode(bits, "PNG")).image)) == [0, 255]


def test_palette_images_become_rgb() -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    assert np.array_equal(decode_image(encode(palette, "PNG")).image, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int) -> None:
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8] = 255  # a white top left corner
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # `Image.Transpose` by which a camera stores the image
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(inverse[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(stored, "PNG", exif=exif)).image
    assert np.array_equal(decoded, upright)


def test_exif_orientation_is_applied_despite_an_invalid_tag() -> None:
    tags = ((0x0100, 2, 2, b"9\0\0\0"), (0x0112, 3, 1, b"\6\0\0\0"))  # the width as text
    exif = b"II*\0\x08\0\0\0\2\0" + b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags) + bytes(4)
    decoded = decode_image(encode(Image.fromarray(RAMP[:4, :8]), "PNG", exif=exif))
    assert decoded.turned and np.array_equal(decoded.image, np.rot90(RAMP[:4, :8], -1))


def test_the_camera_is_read_from_exif() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model 1"
    assert decode_image(encode(Image.fromarray(COLOUR), "JPEG", exif=exif)).camera == "Maker Model 1"


def encode_npy(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()


DEEP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
DEEP_COLOUR_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x10\x02\0\0\0"
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
JPEG = encode(NOISE, "JPEG")
MPO = encode(NOISE, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 24))])
SECOND_IMAGE = MPO.rfind(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    "data",
    [MPO, MPO[:SECOND_IMAGE], MPO[:-50], MPO.replace(b"\1\xb0", b"\7\xb0", 1), MPO.replace(b"II*\0", b"II*\7", 1)],
    ids=["complete", "without the second image", "second image truncated", "no number of images", "damaged index"],
)
def test_the_primary_image_of_an_mpo_photo_is_decoded(data: bytes) -> None:
    decoded = decode_image(data)
    assert decoded.format == "JPEG" and np.array_equal(decoded.image, decode_image(JPEG).image)


def test_a_mask_in_an_mpo_file_is_its_primary_image() -> None:
    half = Image.fromarray(np.repeat([[0], [255]], 32, axis=0).repeat(64, axis=1).astype(np.uint8))
    mask = encode(half, "MPO", save_all=True, append_images=[half])
    assert np.array_equal(decode_label_image(mask, (64, 64)).value_HW, np.asarray(half))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (bytes(128) + b"DICM", "DICOM"),
    ],
    ids=["HEIC", "HEIC in HEIF", "AVIF", "JPEG 2000", "JPEG XL", "DICOM"],
)
def test_an_unsupported_format_is_named_with_a_conversion_and_the_supported_formats(data: bytes, name: str) -> None:
    message = f"is a {name} file, which is not supported; convert it to PNG.*; supported formats: BMP, .*, NPY"
    with pytest.raises(Unreadable, match=message):
        decode_image(data + bytes(200))
    with pytest.raises(Unreadable, match=message):
        decode_label_image(data + bytes(200), (8, 8))


def test_an_image_is_decoded_if_its_pixels_contain_the_signature_of_dicom() -> None:
    data = bytearray(encode(Image.fromarray(COLOUR), "BMP"))
    data[128:132] = b"DICM"
    assert decode_image(bytes(data)).format == "BMP"


UNREADABLE = {
    "empty": (b"", "0 bytes"),
    "text": (b"not an image at all", "it is damaged at its beginning, or not a BMP, GIF, JPEG"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated PNG": (png(COLOUR)[:60], "it is damaged or of an unsupported kind"),
    "an npy of floats": (encode_npy(np.zeros((8, 8))), "float64 of shape"),
    "a damaged npy": (encode_npy(RAMP)[:40], "not a valid npy file"),
    "16-bit colour PNG": (DEEP_COLOUR_PNG, "16-bit PNG with colour or alpha, which would be reduced to 8 bits"),
    "float": (encode(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), "contains floating-point values"),
    "CMYK": (encode(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "CMYK"),
    "LAB": (encode(Image.fromarray(COLOUR).convert("LAB"), "TIFF"), "contains CIE L\\*a\\*b\\* colours"),
    "animation": (
        encode(Image.fromarray(RAMP), "GIF", save_all=True, append_images=[Image.fromarray(RAMP.T.copy())]),
        "several frames",
    ),
    "transparent": (png(np.dstack([COLOUR, RAMP])), "transparent"),
    "too large": (png(np.zeros((1100, 1000), np.uint8)), r"1.1 megapixels \(1000x1100\), above the limit of 1"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_ambiguous_or_invalid_files_are_rejected_with_the_reason(name: str) -> None:
    data, reason = UNREADABLE[name]
    with pytest.raises(Unreadable, match=reason):
        decode_image(data, max_megapixels=1)


TERMS_OF_DECODERS = re.compile(r"Pillow|PIL|BytesIO|[A-Za-z]+Error\b|\bmode\b|KeyError|<_io")


def test_messages_contain_no_terms_of_the_decoders() -> None:
    seen = set()
    damaged = [png(COLOUR), JPEG, encode(Image.fromarray(RAMP), "TIFF"), encode(Image.fromarray(RAMP), "GIF")]
    cut = [data[:length] for data in damaged for length in (5, 30, len(data) // 2)]
    for data in [*cut, *(data for data, _ in UNREADABLE.values())]:
        for read in (decode_image, lambda data: decode_label_image(data, (64, 64))):
            try:
                read(data)
            except Unreadable as error:
                seen.add(str(error))
    assert len(seen) > 10 and not [text for text in seen if TERMS_OF_DECODERS.search(text)]


def test_an_opaque_alpha_channel_is_dropped() -> None:
    opaque = np.dstack([COLOUR, np.full_like(RAMP, 255)])
    assert np.array_equal(decode_image(png(opaque)).image, COLOUR)


def test_truncated_files_are_rejected_or_decoded_completely() -> None:
    """Truncate a JPEG file at every eighth byte."""
    complete = decode_image(JPEG).image
    rejected = 0
    for length in range(0, len(JPEG), 8):
        try:
            assert np.array_equal(decode_image(JPEG[:length]).image, complete)
        except Unreadable:
            rejected += 1
    assert rejected > len(JPEG) // 8 - 3


def test_grey_and_colour_are_converted_into_each_other() -> None:
    assert np.array_equal(to_channels(to_channels(RAMP, 3), 1)[:, :, 0], RAMP)
    luma = to_channels(COLOUR, 1)[0, 0, 0]
    assert abs(float(luma) - COLOUR[0, 0] @ [0.299, 0.587, 0.114]) <= 1


def test_unusual_images_are_decoded_or_rejected_in_bounded_time(reference_data: Path, tmp_path: Path) -> None:
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
    decoded, rejected = map(int, done.stdout.split())
    assert decoded > 50 and rejected > 30


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_images_keep_their_depth(kind: str) -> None:
    assert np.array_equal(decode_image(encode(Image.fromarray(DEEP), kind)).image, DEEP)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_with_any_number_of_channels_are_decoded(shape: tuple[int, ...], dtype: type) -> None:
    image: np.ndarray = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    assert np.array_equal(
        decode_image(encode_npy(image)).image, image.reshape(shape[:2]) if shape[2:] == (1,) else image
    )


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 3), (np.uint8, 6), (np.uint16, 6)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_with_many_channels_or_16_bit_colour_is_decoded(dtype: type, channels: int, planar: str) -> None:
    import tifffile

    image: np.ndarray = np.random.default_rng(0).integers(0, 250, (12, 10, channels)).astype(dtype)
    buffer = io.BytesIO()
    photometric = "rgb" if channels == 3 else "minisblack"
    stored = np.moveaxis(image, 2, 0) if planar == "separate" else image
    tifffile.imwrite(buffer, stored, photometric=photometric, planarconfig=planar)
    assert np.array_equal(decode_image(buffer.getvalue()).image, image)


@pytest.mark.parametrize(("code", "name"), [(5, "LZW"), (7, "JPEG")])
def test_unsupported_tiff_compression_is_reported_with_a_solution(code: int, name: str) -> None:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((12, 10, 3), np.uint16), photometric="rgb")
    compression = struct.pack("<HHII", 259, 3, 1, 1)  # tag Compression: one short, no compression
    assert buffer.getvalue().count(compression) == 1 and not decode_image(buffer.getvalue()).image.any()
    with pytest.raises(
        Unreadable, match=rf"^is compressed by {name}, .*store it uncompressed or with Deflate \(tiffcp"
    ):
        decode_image(buffer.getvalue().replace(compression, struct.pack("<HHII", 259, 3, 1, code)))


def test_unsupported_channel_conversions_raise_an_error() -> None:
    with pytest.raises(ValueError, match="has 5 channels; the required number is 3"):
        to_channels(np.zeros((4, 4, 5), np.uint8), 3)
    assert to_channels(DEEP, 3).shape == (64, 64, 3) and to_channels(DEEP, 3).dtype == np.uint16
    assert np.array_equal(to_channels(to_channels(DEEP, 3), 1)[:, :, 0], DEEP)


def test_statistics_of_16_bit_images_use_the_8_bit_scale() -> None:
    from stages.images.image_statistics import compute_statistics

    deep = decode_image(encode_npy(RAMP.astype(np.uint16) * 257))
    shallow = decode_image(encode_npy(RAMP))
    for name in ("brightness", "contrast", "sharpness", "phash", "thumbnail"):
        assert compute_statistics(deep)[name] == compute_statistics(shallow)[name]
    assert compute_statistics(decode_image(encode_npy(np.zeros((9, 9, 7), np.uint8))))["redness"] == 0


def test_many_frames_or_channels_are_rejected_without_decoding() -> None:
    files = (
        (gif_of_frames(1_000_000), "several frames"),
        (tiff_of_pages(50_000), "several frames"),  # counting them takes Pillow quadratic time
        (tiff_of_channels(70, 70, 60_000), "MB of pixel values"),
    )
    started = time.monotonic()
    for data, reason in files:
        with pytest.raises(Unreadable, match=reason):
            decode_image(data, 10)
    assert time.monotonic() - started < 60
