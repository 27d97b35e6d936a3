"""Tests that every channel and value of a TIFF is decoded as it was written, or that the file is rejected."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from stages.images.decode import Unreadable, decode_image
from stages.images.label_images import decode_label_image

Array = np.ndarray[Any, Any]
TAG_COMPRESSION = 259
CODES = {"packbits": 32773, "lzw": 5}


def encode_lzw(data: bytes) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(stream, "TIFF", compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
        page: Any = file.pages[0]
        start, length = page.dataoffsets[0], page.databytecounts[0]
    return stream.getvalue()[start : start + length]


def encode_packbits(data: bytes) -> bytes:
    """Encode as literal runs of up to 128 bytes."""
    parts = [data[i : i + 128] for i in range(0, len(data), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def encode_tiff(values: Array, byteorder: str, compression: str = "", predictor: bool = False, **tags: Any) -> bytes:
    """Encode a TIFF; tifffile writes PackBits and LZW only with a further package, so that these are put in here."""
    stream = io.BytesIO()
    tags |= {"byteorder": byteorder, "predictor": predictor or None}
    if compression not in CODES:
        tifffile.imwrite(stream, values, compression=compression or None, **tags)
        return stream.getvalue()
    stored = values.copy()
    if predictor:
        stored[:, 1:] = values[:, 1:] - values[:, :-1]
    raw = stored.astype(values.dtype.newbyteorder(byteorder)).tobytes()
    strip = encode_lzw(raw) if compression == "lzw" else encode_packbits(raw)
    shape: dict[str, Any] = {"shape": values.shape, "dtype": values.dtype, "rowsperstrip": len(values)}
    tifffile.imwrite(stream, iter([strip]), compression="zlib", **shape, **tags)
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
        page: Any = file.pages[0]
        place = page.tags[TAG_COMPRESSION].valueoffset
    data = bytearray(stream.getvalue())
    data[place : place + 2] = CODES[compression].to_bytes(2, "little" if byteorder == "<" else "big")
    return bytes(data)


def draw(dtype: str, *shape: int) -> Array:
    most = 127 if dtype == "i1" else 255 if dtype == "u1" else 30_000
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


CODINGS = [("", False), ("zlib", False), ("zlib", True), ("packbits", False), ("packbits", True), ("lzw", False),
           ("lzw", True)]  # fmt: skip


@pytest.mark.parametrize(("compression", "predictor"), CODINGS)
@pytest.mark.parametrize("byteorder", "<>")
def test_all_channels_of_a_tiff_are_decoded_or_the_file_is_rejected(
    byteorder: str, compression: str, predictor: bool
) -> None:
    decoded, rejected = set(), set()
    for dtype, samples, photometric in itertools.product(
        ("u1", "i1", "u2", "i2", "u4"), range(1, 6), ("minisblack", "miniswhite", "rgb")
    ):
        if photometric == "rgb" and samples < 3:
            continue
        tags: dict[str, Any] = {"photometric": photometric}
        values = draw(dtype, 9, 11, samples)
        extra = samples - (3 if photometric == "rgb" else 1)
        tags |= {"extrasamples": [0] * extra} if extra else {}
        values, tags = (values[:, :, 0], tags) if samples == 1 else (values, tags | {"planarconfig": "contig"})
        data = encode_tiff(values, byteorder, compression, predictor, **tags)
        expected = np.iinfo(values.dtype).max - values if photometric == "miniswhite" else values
        try:
            image = decode_image(data).image
        except Unreadable:
            rejected.add((dtype, photometric, samples))
            continue
        assert image.dtype == ("u1" if dtype in ("u1", "i1") else "u2")
        assert np.array_equal(image, expected), (dtype, photometric, samples)
        decoded.add((dtype, photometric, samples))
    assert {("u1", "minisblack", 1), ("u1", "miniswhite", 1), ("u2", "minisblack", 1), ("u1", "rgb", 3)} <= decoded
    if compression != "lzw":  # without a further package, LZW is decoded by Pillow
        assert {(t, "minisblack", n) for t in ("u1", "u2") for n in range(1, 6)} <= decoded
        assert {(t, "rgb", n) for t in ("u1", "u2") for n in (3, 4, 5)} <= decoded
    assert {("u1", "miniswhite", 2), ("u2", "miniswhite", 3)} <= rejected


@pytest.mark.parametrize("samples", [2, 4])
def test_an_opaque_alpha_channel_of_a_tiff_is_dropped_and_a_transparent_one_rejected(samples: int) -> None:
    values = draw("u1", 9, 11, samples)
    tags: dict[str, Any] = {"photometric": "rgb" if samples == 4 else "minisblack", "extrasamples": ["unassalpha"]}
    with pytest.raises(Unreadable, match="partly transparent"):
        decode_image(encode_tiff(values, "<", planarconfig="contig", **tags))
    values[:, :, -1] = 255
    image = decode_image(encode_tiff(values, "<", planarconfig="contig", **tags)).image
    assert np.array_equal(image, values[:, :, :3] if samples == 4 else values[:, :, 0])


def test_negative_values_of_signed_bytes_are_rejected() -> None:
    with pytest.raises(Unreadable, match="levels from -3 to 5"):
        decode_image(encode_tiff(np.array([[-3, 5]], np.int8), "<", photometric="minisblack"))


@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied_for_any_number_of_channels(orientation: int, samples: int) -> None:
    values = draw("u1", 4, 7, samples)
    if samples == 1:
        values = values[:, :, 0]
    image = values.swapaxes(0, 1) if orientation > 4 else values
    image = image[::-1] if orientation in (3, 4, 7, 8) else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    tags: dict[str, Any] = {"photometric": "minisblack", "extratags": [(0x0112, 3, 1, orientation, True)]}
    tags |= {"planarconfig": "contig"} if samples > 1 else {}
    data = encode_tiff(values, "<", **tags)
    assert np.array_equal(decode_image(data).image, image)
    if samples == 1:
        labels = decode_label_image(encode_tiff(values % 3, "<", **tags), image.shape)
        assert np.array_equal(labels.value_HW, image % 3)


LABELS = np.array([[0, 1, 7, 100], [1, 7, 100, 0]])


@pytest.mark.parametrize(("compression", "predictor"), CODINGS)
@pytest.mark.parametrize("byteorder", "<>")
def test_label_values_are_the_stored_numbers_in_every_tiff(byteorder: str, compression: str, predictor: bool) -> None:
    """The reference is tifffile, and for LZW the written array."""
    decoded, rejected = set(), set()
    for dtype, photometric in itertools.product(
        ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"), ("minisblack", "miniswhite", "rgb")
    ):
        if predictor and dtype[0] == "f":
            continue
        values = np.where(LABELS == 100, {"u1": 255, "i1": -1}.get(dtype, 1000), LABELS).astype(dtype)
        values[values == 7] = 7 if dtype[1] == "1" else 300
        stored, tags = values, {"photometric": photometric}
        if photometric == "rgb":
            stored, tags = np.dstack([values] * 3), tags | {"planarconfig": "contig"}
        data = encode_tiff(stored, byteorder, compression, predictor, **tags)
        if compression != "lzw":
            assert np.array_equal(tifffile.imread(io.BytesIO(data)), stored)
        try:
            label_image = decode_label_image(data, values.shape)
        except Unreadable as error:
            assert compression == "lzw" and "compressed by LZW" in str(error)
            rejected.add((dtype, photometric))
            continue
        assert np.array_equal(label_image.value_HW, values), (dtype, photometric)
        decoded.add((dtype, photometric))
    assert {("u1", "minisblack"), ("u1", "miniswhite"), ("u2", "minisblack")} <= decoded
    assert not rejected or compression == "lzw"


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", ["", "zlib"])
def test_a_one_bit_label_image_is_255_where_white_is_shown(compression: str, photometric: str) -> None:
    bits = LABELS > 1
    white = ~bits if photometric == "miniswhite" else bits
    data = encode_tiff(bits, "<", compression, photometric=photometric)
    assert np.array_equal(decode_label_image(data, bits.shape).value_HW, 255 * white)
    assert np.array_equal(decode_image(data).image, 255 * white)


@pytest.mark.parametrize(("value", "shown"), [(0.7, "0.7"), (np.nan, "nan"), (np.inf, "inf")])
@pytest.mark.parametrize("byteorder", "<>")
def test_fractions_in_a_label_image_are_rejected(byteorder: str, value: float, shown: str) -> None:
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = value
    with pytest.raises(Unreadable, match=rf"contains {shown} at x 2, y 1; the values of a mask must be whole numbers"):
        decode_label_image(encode_tiff(values, byteorder, photometric="minisblack"), (3, 4))


def test_a_16_bit_ppm_is_rejected_and_a_pgm_keeps_its_label_values() -> None:
    deep = np.array([0, 1, 2, 300, 1000, 40_000], ">u2").tobytes()
    with pytest.raises(Unreadable, match="16-bit colour PPM, which would be reduced to 8 bits"):
        decode_image(b"P6 2 1 65535\n" + deep)
    for maximum, values in ((20, [0, 1, 19]), (255, [0, 1, 19]), (4095, [0, 1, 300]), (65_535, [0, 1, 300])):
        raw = np.array(values, ">u2" if maximum > 255 else "u1").tobytes()
        data = b"P5\n# a comment\n3 1\n%d\n" % maximum + raw
        assert decode_label_image(data, (1, 3)).value_HW.tolist() == [values]
