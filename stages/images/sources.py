"""Where labelled images come from: a folder per class, a table, or arrays; loose or in an archive."""

import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.frame import UserError
from stages.frame.errors import did_you_mean
from stages.frame.sections import Columns, Ingest

SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)
TABLES = (".csv", ".parquet")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
MAX_UNPACKED = 64 * 2**30  # bytes; a bomb is refused before the disk is full
NOT_DATA = re.compile(r"(^|/)(\.|__MACOSX/|Thumbs\.db$|desktop\.ini$)")


@dataclass(frozen=True)
class Item:
    """One image that a source names, not yet read."""

    path: str
    """Unique inside the source, with forward slashes."""
    label: str
    group: str | None
    split: str | None
    """train, val or test where the source says so."""
    read: Callable[[], bytes]
    has_file: bool = True
    """False when the bytes are made by us out of an array."""


@dataclass(frozen=True)
class Refusal:
    """A file or row that cannot become an image of the data set, and why."""

    path: str
    reason: str


Files = dict[str, Callable[[], bytes]]
"""Name with forward slashes: a function that reads the bytes."""


@contextmanager
def open_source(source: Path, ingest: Ingest, own_split: bool) -> Iterator[tuple[list[Item], list[Refusal]]]:
    """List the images of a source; their bytes can be read while the context is open.

    Args:
        source: the folder, archive or npz.
        ingest: what to read inside it and how it is labelled.
        own_split: the first folder level names the split, the second the class.

    Raises:
        UserError: the source is missing, empty, damaged, or not of a known form.
    """
    with ExitStack() as stack:
        files, name = _files(source, ingest.inside, stack)
        if name.endswith(TABLES):
            items, refused = _from_table(files, name, ingest.columns)
        elif name.endswith(".npz"):
            items, refused = _from_arrays(files[name]()), []
        else:
            items, refused = _from_folders(files, own_split)
        if not items:
            raise UserError(_nothing_found(source, ingest.inside, refused))
        yield [_grouped(item, ingest.group) for item in items], refused


def _files(source: Path, inside: str, stack: ExitStack) -> tuple[Files, str]:
    """The files below `inside`, named relative to it; and the name of the file that `inside` is, or ''."""
    if not source.exists():
        raise UserError(f"ingest.source: {source} does not exist; point it at a folder, zip, tar or npz of images")
    try:
        if source.is_dir():
            files = _in_folder(source)
        elif source.name.endswith(ARCHIVES):
            files = _in_zip(source, stack) if source.suffix == ".zip" else _in_tar(source, stack)
        elif source.suffix == ".npz":
            return {source.name: source.read_bytes}, source.name
        else:
            hint = (
                f"; set ingest.source: {source.parent} and ingest.inside: {source.name}: the images must be seen too"
                if source.suffix in TABLES
                else f"; known: a folder, {', '.join(ARCHIVES)}, .npz"
            )
            raise UserError(f"ingest.source: {source} is no folder, archive or npz{hint}")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(f"ingest.source: {source} is a damaged archive: {error}; copy it anew") from error
    return _below(files, inside.strip("/"), source)


def _below(files: Files, inside: str, source: Path) -> tuple[Files, str]:
    if not inside:
        return files, ""
    if inside in files:
        root = inside.rpartition("/")[0]
        beside, _ = _below(files, root, source)
        return beside, inside.rpartition("/")[2]
    below = {name.removeprefix(inside + "/"): read for name, read in files.items() if name.startswith(inside + "/")}
    if not below:
        known = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."} or {"(no folders)"}
        raise UserError(f"ingest.inside: {inside} is not in {source}; {did_you_mean(inside, sorted(known)[:20])}")
    return below, ""


def _in_folder(root: Path) -> Files:
    """Regular files below a folder; a pipe would hang a reader, and links may lead out of the folder."""
    paths = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    return {p.relative_to(root).as_posix(): p.read_bytes for p in paths}


def _in_zip(file: Path, stack: ExitStack) -> Files:
    archive = stack.enter_context(zipfile.ZipFile(file))
    members = [m for m in archive.infolist() if not m.is_dir()]
    _refuse_bomb(file, sum(m.file_size for m in members))
    names = [m.filename for m in members]
    if len(set(names)) < len(names):
        doubled = next(n for n in names if names.count(n) > 1)
        raise UserError(f"{file} holds {doubled} twice; which one is meant cannot be known: pack it anew")
    return {m.filename: partial(archive.read, m) for m in sorted(members, key=lambda m: m.filename)}


def _in_tar(file: Path, stack: ExitStack) -> Files:
    """Unpacked first, since a compressed tar can only be read from front to back."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="macula-")))
    with tarfile.open(file) as archive:
        members = [m for m in archive if m.isfile()]
        _refuse_bomb(file, sum(m.size for m in members))
        archive.extractall(folder, members=members, filter="data")  # refuses paths that lead out of the folder
    return _in_folder(folder)


def _refuse_bomb(file: Path, unpacked: int) -> None:
    if unpacked > MAX_UNPACKED:
        raise UserError(
            f"{file} unpacks to {unpacked / 2**30:.0f} GiB, above {MAX_UNPACKED / 2**30:.0f}: unpack it by hand"
        )


def _from_folders(files: Files, own_split: bool) -> tuple[list[Item], list[Refusal]]:
    items, refused = [], []
    files = {name: read for name, read in files.items() if not NOT_DATA.search(name)}
    tops = {name.split("/")[0] for name in files if "/" in name}
    if not own_split and tops and all(top.lower() in SPLIT_WORDS for top in tops):
        raise UserError(f"the folders {sorted(tops)} name splits, not classes; set split.by: source to keep that split")
    for name, read in files.items():
        *folders, _ = name.split("/")
        split = SPLIT_WORDS.get(folders.pop(0).lower()) if own_split and folders else None
        if own_split and split is None:
            refused.append(Refusal(name, f"not in a folder named {', '.join(SPLIT_WORDS)}, as split.by: source wants"))
        elif not folders:
            refused.append(Refusal(name, "not in a class folder"))
        else:
            items.append(Item(name, folders[0], None, split, read))
    return items, refused


def _from_table(files: Files, name: str, columns: Columns) -> tuple[list[Item], list[Refusal]]:
    table = _read_table(files[name](), name)
    wanted = {role: column for role, column in columns.model_dump().items() if column is not None}
    for role, column in wanted.items():
        if column not in table.columns:
            raise UserError(
                f"{name} has no column {column!r} (ingest.columns.{role}); {did_you_mean(column, table.columns)}"
            )
    items, refused, seen = [], [], set()
    for row in table[list(wanted.values())].itertuples(index=False, name=None):
        cell = dict(zip(wanted, row, strict=True))
        path, label = cell["path"].replace("\\", "/").removeprefix("./"), cell["label"].strip()
        split = SPLIT_WORDS.get(cell.get("split", "").strip().lower())
        reason = (
            (path not in files and f"stands in {name} but there is no such file")
            or (path in seen and f"stands in {name} more than once")
            or (not label and f"has no label in {name}")
            or (
                "split" in cell
                and split is None
                and f"split {cell['split']!r} in {name} is none of {', '.join(SPLIT_WORDS)}"
            )
            or ("group" in cell and not cell["group"].strip() and f"has no group in {name}")
        )
        seen.add(path)
        if reason:
            refused.append(Refusal(path, reason))
        else:
            items.append(Item(path, label, cell.get("group"), split, files[path]))
    unlisted = (n for n in files if n not in seen and n != name and not NOT_DATA.search(n))
    return items, refused + [Refusal(n, f"is not listed in {name}") for n in unlisted]


def _read_table(data: bytes, name: str) -> pd.DataFrame:
    """Every cell as text: pandas would read class `NA` as missing and `007` as 7."""
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(io.BytesIO(data)).map(lambda cell: "" if pd.isna(cell) else str(cell))
        return pd.read_csv(
            io.BytesIO(data),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
            index_col=False,
        )
    except ValueError as error:
        raise UserError(f"{name} cannot be read as a table: {error}") from error


def _from_arrays(data: bytes) -> list[Item]:
    """`train_images`, `train_labels`, `val_...`, `test_...` as MedMNIST has them, or just `images` and `labels`."""
    try:
        arrays = dict(np.load(io.BytesIO(data), allow_pickle=False))
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"the npz cannot be read: {error}") from error
    parts = [name.removesuffix("images") for name in arrays if name.endswith("images")]
    if not parts:
        raise UserError(f"the npz holds {sorted(arrays)}, but neither `images` nor `train_images` with their labels")
    items = []
    for part in parts:
        word = part.rstrip("_")
        images, labels = arrays[f"{part}images"], arrays.get(f"{part}labels")
        if labels is None or labels.size != len(images) or images.dtype != np.uint8:
            found = "no labels" if labels is None else f"{labels.size} labels for {len(images)} {images.dtype} images"
            raise UserError(f"npz: {part}images has {found}; uint8 images and one label each are needed")
        for i, label in enumerate(labels.ravel()):
            path = f"{word or 'images'}/{i:06d}.png"
            items.append(Item(path, str(label), None, SPLIT_WORDS.get(word), partial(_png, images[i]), has_file=False))
    return items


def _png(image: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _grouped(item: Item, pattern: str) -> Item:
    """The group that the path names, where the source itself names none."""
    if not pattern or item.group is not None:
        return item
    found = re.search(pattern, item.path)
    if found is None:
        raise UserError(f"ingest.group: {pattern!r} is not found in {item.path}; it must name the group of every image")
    return Item(item.path, item.label, found.group(1), item.split, item.read, item.has_file)


def _nothing_found(source: Path, inside: str, refused: list[Refusal]) -> str:
    where = source / inside
    if not refused:
        return f"ingest.source: {where} holds no files"
    reasons = "; ".join(f"{r.path}: {r.reason}" for r in refused[:3])
    return f"ingest.source: {where} holds no labelled image; {len(refused)} files were refused, as {reasons}"
