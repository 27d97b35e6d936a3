"""Tests of masks: blurred levels, palettes, opacity, orientation, and numbered objects."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.config.schema import Params
from stages.dataset.annotations import annotate_labels, annotate_mask
from stages.images.decode import Unreadable
from stages.images.label_images import decode_label_image
from stages.importers import Sample, open_source
from stages.importers.filename_matching import inspected_pairings
from stages.importers.target_inspection import TargetInspection
from tests.code.test_tiff import encode_tiff
from tests.conftest import png

Array = np.ndarray[Any, Any]
HEIGHT, WIDTH = 96, 120
Y, X = np.mgrid[:HEIGHT, :WIDTH]
OBJECT_OF_19_PIXELS = np.where((Y - 40) ** 2 + (X - 50) ** 2 <= 5, 255, 0).astype(np.uint8)
OBJECT_OF_19_PIXELS[38, 50] = OBJECT_OF_19_PIXELS[42, 50] = 0
DISKS = np.where(np.hypot((Y % 32) - 16, (X % 40) - 18) < 9, 255, 0).astype(np.uint8)
GRADIENT = np.tile(np.arange(WIDTH, dtype=np.uint8) * 2, (HEIGHT, 1))
CELLS = np.where((Y % 24 < 22) & (X % 30 < 27), 1 + Y // 24 * 4 + X // 30, 0)
"""16 numbered rectangles."""


def encode(values: Array, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format_, **options)
    return stream.getvalue()


def scaled(values: Array) -> Array:
    """Return a mask as it is after resizing by half and back with interpolation."""
    small = Image.fromarray(values).resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.NEAREST)
    return np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def values_of(data: bytes) -> Array:
    return decode_label_image(data, (HEIGHT, WIDTH)).value_HW


LOSSY: dict[str, Callable[[Array], bytes]] = {
    **{f"JPEG {quality}": partial(encode, format_="JPEG", quality=quality) for quality in (50, 75, 95, 100)},
    "colour JPEG": lambda mask: encode(np.dstack([mask] * 3), "JPEG", quality=75),
    "WebP": lambda mask: encode(np.dstack([mask] * 3), "WEBP", quality=80),
    "TIFF with JPEG": lambda mask: encode(mask, "TIFF", compression="jpeg"),
    "PNG from JPEG": lambda mask: png(np.asarray(Image.open(io.BytesIO(encode(mask, "JPEG", quality=75))))),
}


@pytest.mark.parametrize("mask", [OBJECT_OF_19_PIXELS, DISKS, DISKS // 2, 0 * DISKS, 0 * DISKS + 255],
                         ids=["small", "disks", "dark disks", "empty", "full"])  # fmt: skip
@pytest.mark.parametrize("name", LOSSY)
def test_lossy_compression_does_not_change_a_mask_of_two_levels(name: str, mask: Array) -> None:
    values = values_of(LOSSY[name](mask))
    assert set(np.unique(values)) <= {0, 255}
    assert np.array_equal(values > 0, mask > 0)


def test_an_object_of_a_mask_keeps_its_area_after_scaling() -> None:
    assert (OBJECT_OF_19_PIXELS > 0).sum() == 19
    blurred = scaled(DISKS)
    values = values_of(png(blurred))
    assert (blurred > 0).sum() > 1.2 * (DISKS > 0).sum(), "every level above 0 would be too much"
    assert abs((values > 0).sum() / (DISKS > 0).sum() - 1) < 0.05 and set(np.unique(values)) == {0, 255}


@pytest.mark.parametrize(
    "values",
    [
        CELLS.astype(np.uint8),
        CELLS.astype(np.uint8) * 15,
        np.where(CELLS == 0, 255, CELLS).astype(np.uint8),
        np.where(DISKS > 0, 255, np.where(np.roll(DISKS, 1, 1) > 0, 128, 0)).astype(np.uint8),
        (X // 4 + 30 * (Y // 4)).astype(np.uint16),
    ],
    ids=["numbers", "spread numbers", "void borders", "contours", "many numbers"],
)
def test_classes_and_numbers_without_lossy_compression_are_not_changed(values: Array) -> None:
    assert np.array_equal(values_of(png(values)), values)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(CELLS.astype(np.uint8) * 15, "JPEG"), "more than two levels, or none above 64, and its lossy compr"),
        (encode(DISKS // 2 + np.where(X < 60, 128, 0).astype(np.uint8), "JPEG"), "save it without loss"),
        (encode(DISKS // 255, "JPEG"), "none above 64"),
        (png(GRADIENT), "levels that change gradually, as in a photo or a map of probabilities"),
    ],
    ids=["numbers", "three classes", "0 and 1", "probabilities"],
)
def test_masks_whose_values_are_lost_are_rejected(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        values_of(data)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "RGB"])
def test_a_partly_transparent_mask_is_rejected_and_an_opaque_one_read(mode: str) -> None:
    picture = Image.fromarray(DISKS).convert(mode)
    if "A" not in mode:
        black: Any = 0 if mode == "L" else (0, 0, 0)
        data = encode(np.asarray(picture), "PNG", transparency=black)
    else:
        opaque = picture.copy()
        picture.putalpha(Image.fromarray(DISKS))
        data = encode(np.asarray(picture), "PNG")
        assert np.array_equal(values_of(encode(np.asarray(opaque), "PNG")), DISKS)
    with pytest.raises(Unreadable, match="partly transparent"):
        values_of(data)


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_the_exif_orientation_of_a_mask_is_applied(format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = DISKS.T[::-1]
    data = encode(np.ascontiguousarray(stored), format_, exif=exif)
    assert np.array_equal(values_of(data), DISKS)
    with pytest.raises(Unreadable, match="is 120x96, but the image is 96x120"):
        decode_label_image(data, (WIDTH, HEIGHT))


Read = Callable[..., list[Sample]]


@pytest.fixture
def read(params: Params, tmp_path: Path) -> Read:
    """Write masks and an image for each; return the samples of the source."""

    def run(masks: dict[str, bytes], format_: str, **changes: Any) -> list[Sample]:
        for name, data in masks.items():
            for folder, content in (("i", png(GRADIENT)), ("m", data)):
                (tmp_path / "source" / folder).mkdir(parents=True, exist_ok=True)
                (tmp_path / "source" / folder / name).write_bytes(content)
        settings = {"format": format_, "images": "i/{key}.*", "targets": "m/{key}.*", **changes}
        with open_source(tmp_path / "source", params.ingest.model_copy(update=settings), False) as (samples, _):
            return sorted(samples, key=lambda sample: sample.path)

    return run


def classes_of(sample: Sample) -> Array:
    assert sample.target is not None
    return np.asarray(Image.open(io.BytesIO(sample.target(HEIGHT, WIDTH))))


def with_palette(index: Array, *colours: str, **options: Any) -> bytes:
    picture = Image.fromarray(index.astype(np.uint8)).convert("L")
    picture.putpalette(bytes.fromhex("".join(colours)))
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


BITS = DISKS // 255
NORMAL, INVERTED = with_palette(BITS, "000000", "ffffff"), with_palette(1 - BITS, "ffffff", "000000")


@pytest.mark.parametrize(
    ("masks", "mask_values"),
    [
        ({"a.png": NORMAL, "b.png": INVERTED}, {}),
        ({"a.png": INVERTED, "b.png": NORMAL}, {0: "background", 255: "disk"}),
        ({"a.png": png(DISKS), "b.png": INVERTED}, {}),
        ({"a.png": NORMAL, "b.png": NORMAL}, {0: "background", 1: "disk"}),
        ({"a.png": with_palette(BITS, "0000ff", "ff0000"), "b.png": with_palette(BITS, "0000ff", "ff0000")}, {}),
        ({"a.png": with_palette(BITS, "ffffff", "000000")}, {0: "background", 1: "disk"}),
        ({"a.png": png(BITS), "b.png": with_palette(BITS, "000000", "ff0000", transparency=0)}, {}),
    ],
    ids=["inverted second", "inverted first", "inverted and grey", "equal", "coloured", "white background", "clear"],
)
def test_masks_with_palettes_are_read_alike(masks: dict[str, bytes], mask_values: dict[int, str], read: Read) -> None:
    samples = read(masks, "masks", mask_values=mask_values)
    assert len(samples) == len(masks)
    for sample in samples:
        assert np.array_equal(classes_of(sample), BITS), sample.path


def test_coloured_palettes_that_differ_are_rejected(read: Read) -> None:
    masks = {
        "a.png": with_palette(BITS, "000000", "ff0000"),
        "b.png": with_palette(1 - BITS, "ff0000", "000000"),
    }
    for sample in read(masks, "masks"):
        with pytest.raises(Unreadable, match="uses the palette index 0, which is #000000 in m/a.png but #ff0000 in m/"):
            classes_of(sample)


NUMBERED: dict[str, bytes] = {
    "8 bits": png(CELLS.astype(np.uint8)),
    "16 bits": png((CELLS * 300).astype(np.uint16)),
    "16 bits, big-endian": encode_tiff((CELLS * 300).astype(np.uint16), ">", photometric="minisblack"),
    "32 bits": encode_tiff((CELLS * 70_000).astype(np.int32), "<", photometric="minisblack"),
    "float": encode_tiff((CELLS * 300).astype(np.float32), ">", "zlib", photometric="minisblack"),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_a_numbered_label_image_gives_one_instance_per_number(name: str, read: Read) -> None:
    (sample,) = read({"a.png": NUMBERED[name]}, "instances")  # the content decides, not the suffix
    shapes = sample.annotate(HEIGHT, WIDTH).shapes
    assert shapes == tuple(annotate_mask("object", np.equal(CELLS, number)) for number in range(1, 17))


def test_ignored_values_are_not_instances_and_a_blurred_mask_is_one_instance(read: Read) -> None:
    masks = {"a.png": png(np.where(CELLS == 0, 255, CELLS).astype(np.uint8)), "b.jpg": encode(DISKS, "JPEG")}
    numbered, blurred = read(masks, "instances", ignore_values=(255,))
    assert [len(sample.annotate(HEIGHT, WIDTH).shapes or ()) for sample in (numbered, blurred)] == [16, 0]
    (_, blurred) = read(masks, "instances")
    assert blurred.annotate(HEIGHT, WIDTH).shapes == (annotate_mask("object", DISKS > 0),)


def test_instances_of_any_shape_equal_those_of_their_masks() -> None:
    number_HW = np.random.default_rng(0).integers(0, 5, (7, 9))
    number_HW[:, 3:5] = 6  # from the bottom of one column to the top of the next
    expected = [annotate_mask("a", number_HW == number) for number in np.unique(number_HW[number_HW > 0])]
    assert annotate_labels("a", number_HW) == expected and len(expected) == 5
    assert annotate_labels("a", 0 * number_HW) == []


def inspect(masks: list[bytes]) -> TargetInspection:
    rng = np.random.default_rng(0)
    suffix = "jpg" if masks[0].startswith(b"\xff\xd8") else "png"
    contents = {f"m/{number}.{suffix}": mask for number, mask in enumerate(masks)}
    for number in range(len(masks)):
        image = np.clip(rng.integers(0, 60, (HEIGHT, WIDTH)) + DISKS * 0.7, 0, 255).astype(np.uint8)
        contents[f"i/{number}.jpg"] = encode(image, "JPEG")
    files: dict[str, Callable[[], bytes]] = {path: partial(bytes, content) for path, content in contents.items()}
    patterns = ("i/{key}.jpg", f"m/{{key}}.{suffix}")
    return next(found for pairing, found in inspected_pairings(files) if (pairing.images, pairing.targets) == patterns)


def test_configure_detects_jpeg_masks_and_numbered_objects() -> None:
    found = inspect([encode(np.roll(DISKS, 7 * n, 1), "JPEG", quality=75) for n in range(5)])
    assert found.format == "masks" and set(found.values) == {0, 255}
    numbered = [np.where(12 + n >= CELLS, CELLS, 0).astype(np.uint16) for n in range(5)]
    assert inspect([png(values) for values in numbered]).format == "instances"
    regions = inspect([png(np.where(CELLS <= 5, CELLS, 0).astype(np.uint8)) for n in range(5)])
    assert regions.format == "masks" and "use format: instances" in regions.reason, "the same values in all images"


def test_configure_compares_the_palettes_of_masks() -> None:
    found = inspect([NORMAL, INVERTED, NORMAL, INVERTED])
    assert found.format == "masks" and found.values == {0: 1 - BITS.mean(), 255: BITS.mean()}
