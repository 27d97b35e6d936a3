"""Tests that ingest reads or rejects each untrusted file without affecting other files."""

import functools
import io
import os
import signal
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from stages import ingest as stage
from stages.batch_prediction.inputs import iterate_images
from stages.core.errors import UserError
from stages.dataset.manifest import decode_images, read_manifest
from stages.images import archives, sandbox
from stages.images.decode import Unreadable, decode_image
from stages.images.image_metadata import describe_image
from stages.images.sandbox import run_isolated
from stages.runtime import Model
from tests.conftest import Ingest, digit_images, png, write_folders
from tests.shipped import colour_model

RAMP = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
COLOUR = (np.stack([RAMP, RAMP[::-1], RAMP.T.reshape(40, 50)], axis=2) // 8).astype(np.uint8)


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def tiff(image: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG whose header states this size and which contains no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


GREY, RGB = Image.fromarray(COLOUR[:, :, 0]), Image.fromarray(COLOUR)
TRANSPARENT = Image.merge("RGBA", [*RGB.split(), GREY])
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [GREY.rotate(90), GREY.rotate(180)]}
THIN = (np.arange(60_000) % 256).astype(np.uint8)[None]
NAN = np.where(RAMP > 99, np.nan, RAMP).astype(np.float32)
REJECTED: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "0 bytes"),
    "text.png": (b"not an image at all\n" * 99, "it is damaged at its beginning"),
    "page.jpg": (b"<html><body>404</body></html>", "it is damaged at its beginning"),
    "cut.jpg": (saved(RGB, "JPEG")[:400], "truncated|Truncated|broken"),
    "cut.png": (saved(RGB, "PNG")[:-300], "truncated|Truncated|broken"),
    "cut.tif": (tiff(COLOUR)[:2500], "."),
    "cut.webp": (saved(RGB, "WEBP")[:-200], "."),
    "bomb.png": (png_of_size(60_000, 60_000), "3600|3.6e|exceeds"),
    "large.png": (png_of_size(20_000, 6_000), r"120.0 megapixels \(20000x6000\), above the limit of 100"),
    "cmyk.jpg": (saved(RGB.convert("CMYK"), "JPEG"), "CMYK colours"),
    "cmyk16.tif": (tiff(np.zeros((9, 9, 4), np.uint16), photometric="separated"), "SEPARATED"),
    "lab.tif": (saved(RGB.convert("LAB"), "TIFF"), "CIE L"),
    "nan.tif": (tiff(NAN), "floating-point values"),
    "deep.png": (b"\x89PNG\r\n\x1a\n" + bytes(16) + b"\x10\x02" + bytes(99), "16-bit"),
    "clear.png": (saved(TRANSPARENT, "PNG"), "transparent"),
    "clear_palette.png": (saved(RGB.quantize(16), "PNG", transparency=3), "transparent"),
    "clear_level.png": (saved(Image.fromarray(RAMP), "PNG", transparency=7), "transparent"),
    "moving.gif": (saved(GREY, "GIF", **FRAMES), "several frames"),
    "moving.png": (saved(GREY, "PNG", **FRAMES), "several frames"),
    "pages.tif": (saved(GREY, "TIFF", **FRAMES), "several frames"),
    "object.npy": (b"\x93NUMPY\x01\x00" + b"\xff" * 200, "npy"),
}
READ: dict[str, tuple[bytes, np.ndarray[Any, Any]]] = {
    "a_png.jpg": (saved(RGB, "PNG"), COLOUR),
    "noise\nin\tname.png": (saved(RGB, "PNG"), COLOUR),
    "Upper.png": (saved(GREY, "PNG"), COLOUR[:, :, 0]),
    "upper.png": (saved(GREY.rotate(180), "PNG"), COLOUR[::-1, ::-1, 0]),
    "thin.png": (png(THIN), THIN),
    "one.png": (png(np.full((1, 1), 7, np.uint8)), np.full((1, 1), 7, np.uint8)),
    "bits.png": (saved(GREY.point(lambda v: 255 * (v > 99)).convert("1"), "PNG"), 255 * (COLOUR[:, :, 0] > 99)),
    "deep.tif": (tiff(RAMP * 32), RAMP * 32),
    "white_is_zero.tif": (tiff(RAMP * 32, photometric="miniswhite"), 65535 - RAMP * 32),
    "palette.gif": (saved(RGB.quantize(200), "GIF"), np.asarray(RGB.quantize(200).convert("RGB"))),
    "ü" * 100 + ".png": (saved(GREY, "PNG"), COLOUR[:, :, 0]),
}  # fmt: skip


def test_every_hostile_file_is_read_correctly_or_rejected(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=30))
    for name, (data, _) in (REJECTED | READ).items():
        (source / "0" / name).write_bytes(data)
    (source / "0" / "link.png").symlink_to(tmp_path)
    (source / "0" / ".hidden.png").write_bytes(b"ignored")
    os.mkfifo(source / "0" / "pipe.png")
    folder = ingest(source, max_rejected=0.2)
    rejected = pd.read_csv(folder / "rejected.csv").set_index("path")["reason"]
    for name, (_, reason) in REJECTED.items():
        assert pd.Series([rejected[f"0/{name}"]]).str.contains(reason).all(), f"{name}: {rejected[f'0/{name}']}"
    assert set(rejected.index) == {f"0/{name}" for name in [*REJECTED, "link.png", "pipe.png"]}
    assert "outside the source" in rejected["0/link.png"]
    parts = [(read_manifest(part), part) for part in (folder, tmp_path / "sealed")]
    image_of = {
        row.path: decoded.image
        for rows, part in parts
        for row, decoded in zip(rows.itertuples(), decode_images(rows, part), strict=True)
    }
    for name, (_, image) in READ.items():
        assert np.array_equal(image_of[f"0/{name}"], image), name
    assert len(image_of) == 300 + len(READ)


def test_mutated_files_are_read_or_rejected_without_crashing_the_run() -> None:
    rng = np.random.default_rng(0)
    files = [saved(RGB, format_) for format_ in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM")] + [tiff(RAMP)]
    outcomes = []
    for data in files:
        for _ in range(25):
            mutated = bytearray(data)
            for position in rng.integers(0, len(data), 12):
                mutated[position] = int(rng.integers(0, 256))
            try:
                outcomes.append(run_isolated(describe_image, bytes(mutated), 10.0)["width"] > 0)
            except Unreadable:
                outcomes.append(False)
    assert len(outcomes) == 25 * len(files) and 0 < sum(outcomes) < len(outcomes)


def crash(data: bytes) -> None:
    os.kill(os.getpid(), 11)


def hang(data: bytes) -> None:
    time.sleep(600)


def exhaust_memory(data: bytes) -> int:
    return int(np.ones(sandbox.MEMORY_BYTES // 4).sum())


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (crash, "crashed the worker .* .SIGSEGV"),
        (hang, "longer than 1 s"),
        (exhaust_memory, "more than 4 GiB of memory"),
    ],
)
def test_a_decoder_crash_hang_or_memory_excess_rejects_one_file(
    decoder: Callable[[bytes], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_isolated(len, b"")  # start the processes before the timeout is shortened
    monkeypatch.setattr(sandbox, "TIMEOUT_SECONDS", 1.0)
    with pytest.raises(Unreadable, match=message):
        run_isolated(decoder, b"")
    monkeypatch.setattr(sandbox, "TIMEOUT_SECONDS", 60.0)
    assert run_isolated(len, b"four") == 4, "the next file is decoded"


def test_threads_share_one_pool_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the threads of ingest start several pools, and each of their processes imports all libraries."""
    pool, starts = sandbox._pool(), []

    def start() -> Any:
        starts.append(1)
        time.sleep(0.1)  # other threads ask for the pool while it starts
        return pool

    monkeypatch.setattr(sandbox, "_pool", functools.cache(start))
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda data: run_isolated(len, data), [b"four"] * 4)) == [4] * 4
    assert len(starts) == 1


def interrupts_are_blocked(data: bytes) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_processes_start_with_interrupts_blocked() -> None:
    """Without this, Ctrl-C prints a traceback of each process whose interpreter is still starting."""
    assert run_isolated(interrupts_are_blocked, b"")
    with pytest.raises(Unreadable):
        run_isolated(crash, b"")
    assert all(run_isolated(interrupts_are_blocked, b"") for _ in range(8)), (
        "replacement processes block interrupts too"
    )
    assert not interrupts_are_blocked(b""), "the main process does not block interrupts"


def test_a_file_above_the_size_limit_is_rejected_without_reading(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 10_000)
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    (source / "0" / "film.png").write_bytes(bytes(20_000))
    with zipfile.ZipFile(tmp_path / "digits.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*.png")):
            archive.write(path, path.relative_to(source))
    for location in (source, tmp_path / "digits.zip"):
        rejected = pd.read_csv(ingest(location, max_rejected=0.1) / "rejected.csv")
        assert rejected["path"].tolist() == ["0/film.png"] and "GiB, above" in rejected["reason"][0]


def test_an_archive_above_the_unpacked_size_limit_is_rejected(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/bomb.png", bytes(10**7))
    assert (tmp_path / "bomb.zip").stat().st_size < 20_000
    with pytest.raises(UserError, match="unpacks to"):
        ingest(tmp_path / "bomb.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damage", ["content", "offset"])
def test_a_damaged_zip_member_is_unreadable(tmp_path: Path, method: int, damage: str) -> None:
    source = tmp_path / "source.zip"
    with zipfile.ZipFile(source, "w", method) as archive:
        archive.writestr("a.png", np.random.default_rng(0).bytes(5000))
    data = bytearray(source.read_bytes())
    directory = data.rindex(b"PK\1\2")
    if damage == "content":
        data[2000:2020] = bytes(20)
    else:
        data[directory + 42 : directory + 46] = (2**31).to_bytes(4, "little")
    source.write_bytes(data)
    assert_only_member_is_unreadable(source)


def test_a_zip_that_ends_within_a_member_has_an_unreadable_member(tmp_path: Path) -> None:
    source = tmp_path / "source.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("a.png", bytes(5000))
    data = bytearray(source.read_bytes())
    directory = data.rindex(b"PK\1\2")
    data[directory + 20 : directory + 28] = 2 * (2**20).to_bytes(4, "little")  # its sizes, packed and unpacked
    source.write_bytes(data)
    assert_only_member_is_unreadable(source)


def assert_only_member_is_unreadable(source: Path) -> None:
    with ExitStack() as stack:
        ((_, read),) = archives.list_source_files(source, stack)[0].items()
        with pytest.raises(Unreadable, match="cannot be unpacked: ."):
            read()
    (image,) = iterate_images([str(source)])
    with pytest.raises(Unreadable, match="cannot be unpacked: ."):
        image.read()


def bzip2_tar() -> bytes:
    """Return a tar with one file in several blocks of bzip2."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2", compresslevel=1) as archive:
        member = tarfile.TarInfo("a.png")
        member.size = 400_000
        archive.addfile(member, io.BytesIO(np.random.default_rng(0).bytes(member.size)))
    return buffer.getvalue()


def zip_of(name: str, version: int = 20) -> bytes:
    """Return a zip with one member, whose directory states a version that is required to unpack it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"content")
    data = bytearray(buffer.getvalue())
    data[data.rindex(b"PK\1\2") + 6] = version
    return bytes(data)


DAMAGED_ARCHIVES = {
    "bzip2.tar.bz2": bzip2_tar()[:150_000] + bytes(1000) + bzip2_tar()[151_000:],
    "version.zip": zip_of("a.png", version=99),
    "name.zip": zip_of("ü.png").replace("ü".encode(), b"\xc3\xff"),
}


@pytest.mark.parametrize("name", DAMAGED_ARCHIVES)
def test_a_damaged_archive_is_reported(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(DAMAGED_ARCHIVES[name])
    with ExitStack() as stack, pytest.raises(UserError, match=f"{name} is a damaged archive: .*; copy it again"):
        archives.list_source_files(source, stack)


def test_a_tar_with_names_that_the_file_system_refuses_is_reported(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a" * 300 + ".png"))
    with ExitStack() as stack, pytest.raises(UserError, match=r"long.tar cannot be unpacked: .* too long"):
        archives.list_source_files(tmp_path / "long.tar", stack)


def test_only_new_files_are_decoded(ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=30))
    before = read_manifest(ingest(source))
    decoded: list[bytes] = []

    def counted(function: Callable[..., Any], data: bytes, *rest: Any) -> Any:
        decoded.append(data)
        return function(data, *rest)

    monkeypatch.setattr(stage, "run_isolated", counted)
    assert ingest(source) and read_manifest(tmp_path / "ingested").equals(before) and not decoded
    new = png(255 - digit_images(per_class=1)[0][1])
    (source / "0" / "new.png").write_bytes(new)
    ingest(source)
    assert decoded == [new]
    with pytest.raises(UserError, match="above the limit of 5e-05"):
        ingest(source, max_megapixels=0.00005)


def test_a_damaged_cache_is_reported_and_rebuilt(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    before = read_manifest(ingest(source))
    cache = tmp_path / "work" / "ingest" / "digits.parquet"
    cache.write_bytes(cache.read_bytes()[:-100])
    assert read_manifest(ingest(source)).equals(before)
    assert "every image is decoded again" in capsys.readouterr().out
    ingest(source)
    assert "decoded again" not in capsys.readouterr().out


def test_ingest_succeeds_if_the_cache_cannot_be_written(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work").write_text("in the way")
    assert len(read_manifest(ingest(write_folders(tmp_path / "digits", digit_images(per_class=20)))))
    assert "cannot be written" in capsys.readouterr().out


def test_groups_added_later_get_a_new_arrival_number(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=40)
    source = write_folders(tmp_path / "digits", images[::2])
    assert set(read_manifest(ingest(source))["arrival"]) == {1}
    first = (tmp_path / "ingested" / "images-1.tar").read_bytes()
    for round_, added in enumerate((images[1::4], images[3::4]), start=2):
        for number, (label, image) in enumerate(added):
            (source / label / f"new{round_}{number}.png").write_bytes(png(image))
        for _ in range(2):  # the second run finds no new files
            rows = read_manifest(ingest(source))
            assert set(rows["arrival"]) == set(range(1, round_ + 1))
    old = rows[~rows["path"].str.contains("new")]
    assert (old["arrival"] == 1).all() and len(old) > 100
    assert (tmp_path / "ingested" / "images-1.tar").read_bytes() == first, "the first shard is unchanged"


def test_origins_are_read_from_paths_or_a_column(ingest: Ingest, tmp_path: Path, params: Any) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=30))
    rows = read_manifest(ingest(source, origin_regex=r"\d+(\d)\.png"))
    assert (rows["origin"] == rows["path"].str[-5]).all()
    with pytest.raises(UserError, match=r"origin_regex: '.site.' does not match"):
        ingest(source, origin_regex=r"(site)")
    table = pd.DataFrame({"path": rows["path"], "label": rows["label"], "made": "by hand"})
    table.to_csv(source / "labels.csv", index=False)
    columns = params.ingest.columns.model_copy(update={"origin": "made"})
    by_table = read_manifest(ingest(source, inside="labels.csv", columns=columns, name="table", max_rejected=0.4))
    assert set(by_table["origin"]) == {"by hand"}


def test_quality_date_and_software_are_read_from_the_file() -> None:
    exif = Image.Exif()
    exif[0x0131], exif[0x0132] = "Painter\0", "2020:01:02 03:04:05"
    decoded = decode_image(saved(RGB, "JPEG", quality=80, exif=exif))
    assert (decoded.software, decoded.taken) == ("Painter", "2020:01:02 03:04:05")
    for quality in (30, 50, 80, 95):
        assert abs(decode_image(saved(RGB, "JPEG", quality=quality)).quality - quality) < 2
    assert decode_image(saved(RGB, "PNG")).quality == 0


@pytest.mark.parametrize(("dtype", "words"), [(np.uint8, "100 channels"), (np.uint16, "16 bits")])
def test_a_tiff_unsuitable_for_the_model_is_rejected_before_decoding(
    dtype: type, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: pytest.fail("decoded"))
    data = tiff(np.zeros((8, 8, 100), dtype), photometric="minisblack", planarconfig="contig")
    with pytest.raises(Unreadable, match=f"has {words}"):
        Model(colour_model(tmp_path / "model.onnx")).decode_file(data)
