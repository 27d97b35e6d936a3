"""Where labelled images come from: a folder per class, a table, or arrays; loose or in an archive."""

import io
import re
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.frame import UserError
from stages.frame.errors import did_you_mean
from stages.frame.sections import Columns, Ingest
from stages.images.files import TABLES, Files, Refusal, files_of

SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)
NOT_DATA = re.compile(r"(^|/)(\.(?!\.)|__MACOSX/|Thumbs\.db$|desktop\.ini$)")  # hidden, or left by operating systems


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
        files, refused = files_of(source, stack)
        files, name = _below(files, ingest.inside.strip("/"), source)
        if source.suffix == ".npz":
            name = source.name
        if name.lower().endswith(TABLES):
            items, unfit = _from_table(files, name, ingest.columns)
        elif name.lower().endswith(".npz"):
            items, unfit = _from_arrays(files[name]()), []
        elif name:
            raise UserError(f"ingest.inside: {name} is none of {', '.join(TABLES)}, .npz; name a folder, table or npz")
        else:
            items, unfit = _from_folders(files, own_split)
        if own_split:
            nowhere = "the source says no split for it, as split.by: source wants"
            unfit += [Refusal(item.path, nowhere) for item in items if item.split is None]
            items = [item for item in items if item.split is not None]
        if not items:
            raise UserError(_nothing_found(source / ingest.inside, refused + unfit))
        _refuse_twin_labels({item.label for item in items})
        yield [_grouped(item, ingest.group) for item in items], refused + unfit


def _below(files: Files, inside: str, source: Path) -> tuple[Files, str]:
    """The files below `inside`, named relative to it; and the name of the file that `inside` is, or ''."""
    if not inside:
        return files, ""
    if inside in files:
        root, _, name = inside.rpartition("/")
        return _below(files, root, source)[0], name
    below = {name.removeprefix(inside + "/"): read for name, read in files.items() if name.startswith(inside + "/")}
    if not below:
        known = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."} or {"(no folders)"}
        raise UserError(f"ingest.inside: {inside} is not in {source}; {did_you_mean(inside, sorted(known)[:20])}")
    return below, ""


def _refuse_twin_labels(labels: set[str]) -> None:
    """Two spellings of one class, which a person or another file system would take for one."""
    spellings: dict[str, str] = {}
    for label in sorted(labels):
        key = unicodedata.normalize("NFC", label).casefold()
        if key in spellings:
            raise UserError(
                f"the classes {spellings[key]!a} and {label!a} differ only in case or in the encoding of "
                "their letters; give them one name, or names that differ"
            )
        spellings[key] = label


def _from_folders(files: Files, own_split: bool) -> tuple[list[Item], list[Refusal]]:
    items, refused = [], []
    files = {name: read for name, read in files.items() if not NOT_DATA.search(name)}
    tops = {name.split("/")[0] for name in files if "/" in name}
    named = sorted(top for top in tops if top.lower() in SPLIT_WORDS)
    if not own_split and len(named) > 1:
        raise UserError(f"the folders {named} name splits, not classes; set split.by: source to keep that split")
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
            items.append(Item(path, label, cell.get("group", "").strip() or None, split, files[path]))
    unlisted = (n for n in files if n not in seen and n != name and not NOT_DATA.search(n))
    return items, refused + [Refusal(n, f"is not listed in {name}") for n in unlisted]


def _read_table(data: bytes, name: str) -> pd.DataFrame:
    """Every cell as text: pandas would read class `NA` as missing and `007` as 7."""
    try:
        if name.lower().endswith(".parquet"):
            return pd.read_parquet(io.BytesIO(data)).map(_cell)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than columns: which is the label?
            return pd.read_csv(
                io.BytesIO(data),
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                skipinitialspace=True,
                index_col=False,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        raise UserError(f"{name} cannot be read as a table: {error}") from error


def _cell(value: Any) -> str:
    """A cell as text; 3.0, which a column of whole numbers with gaps holds, as 3."""
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float | np.floating) and value == int(value) else str(value)


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
        _refuse_misfit(f"{part}images", images, labels)
        assert labels is not None
        for i, label in enumerate(labels.ravel()):
            path = f"{word or 'images'}/{i:06d}.png"
            pixels = partial(_png, images[i])
            items.append(Item(path, _cell(label), None, SPLIT_WORDS.get(word), pixels, has_file=False))
    return items


def _refuse_misfit(name: str, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any] | None) -> None:
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
        found = f"{images.dtype} of shape {images.shape}"
        raise UserError(f"npz: {name} is {found}; uint8 of shape [N, H, W], [N, H, W, 1] or [N, H, W, 3] is needed")
    if labels is None or labels.size != len(images):
        found = "no labels" if labels is None else f"{labels.size} labels for {len(images)} images"
        raise UserError(f"npz: {name} has {found}; one label per image is needed")


def _png(image: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _grouped(item: Item, pattern: str) -> Item:
    """The group that the path names, where the source itself names none."""
    if not pattern or item.group is not None:
        return item
    found = re.search(pattern, item.path)
    if found is None or not found.group(1):
        raise UserError(
            f"ingest.group: {pattern!r} finds no group in {item.path}; it must name the group of every image"
        )
    return Item(item.path, item.label, found.group(1), item.split, item.read, item.has_file)


def _nothing_found(where: Path, refused: list[Refusal]) -> str:
    if not refused:
        return f"ingest.source: {where} holds no files"
    reasons = "; ".join(f"{r.path!a}: {r.reason}" for r in refused[:3])
    return f"ingest.source: {where} holds no labelled image; {len(refused)} files were refused, as {reasons}"
