"""Read the source once: `python -m stages.ingest SOURCE SPLITS SEALED OUTPUT`.

Images become one shard of their original bytes and a manifest with a row each. The sealed test images lie in a folder
of their own that no stage of the line reads.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.config.schema_data import Ingest, Split
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation, class_names
from stages.dataset.label_statistics import measure_objects, round_measurements
from stages.dataset.manifest import DATASET_FILE, SEALED_INDEX, SPLITS, parse_annotations, write_manifest
from stages.dataset.shards import shard_name, write_shard
from stages.dataset.splits import SplitTable, assign_splits, merge_linked_groups, read_split_table, write_split_table
from stages.images.archives import TABLE_SUFFIXES, Rejection
from stages.images.decode import Unreadable, decode_image
from stages.images.image_metadata import describe_image, pixel_digest
from stages.images.ingest_cache import IngestCache
from stages.images.sandbox import WORKERS, run_isolated
from stages.importers import Sample, open_source, reject_ambiguous_labels
from stages.runner.stage import In, Out, run

FAR_OFF = 0.05  # share of the images by which a split may miss its param without a word
AT_ONCE = 256  # images whose rows are waited for at once


def main(source: In, splits: In, sealed: Out, output: Out, *, ingest: Ingest, split: Split) -> dict[str, Any]:
    """Write `manifest.parquet`, `images-*.tar`, `rejected.csv`, `sealed_index.parquet`; and the sealed test.

    `splits` is kept like a lock file: groups that it lists stay in their split, new groups are appended.
    """
    with open_source(source, ingest, own_split=split.by == "source") as (items, refused):
        known = IngestCache(ingest.name)
        table, unreadable = _describe(items, known, ingest.max_megapixels)
        if len(table):
            known.save(table)
        refused.extend(unreadable)
        _write_rejected(refused, output / "rejected.csv")
        _refuse_too_many(refused, len(table), ingest.max_rejected)
        _refuse_mixed(table)
        reject_ambiguous_labels(_classes(table))
        by_path = {item.path: item for item in items}
        file, locked, unjoined = splits / f"{ingest.name}.json", SplitTable(), table["group"]
        if split.by == "hash":
            locked = read_split_table(file, _rule(ingest))
        if ingest.sequence_block > 1:
            seen = table["phash"].where(~table["blank"], table["path"])  # blank pictures are alike without being one
            table["group"] = merge_linked_groups(unjoined, seen, locked)  # a scene that stands still is one picture
        table["arrival"] = 1
        if split.by == "hash":
            table["split"], locked = _split(table, unjoined, split, file, locked)
            table["arrival"] = unjoined.map(locked.arrivals)
        _refuse_unusable(table)
        test = table["split"] == "test"
        for part, folder in ((table[~test], output), (table[test], sealed)):
            _write_part(part.sort_values("path"), by_path, folder)
            (folder / DATASET_FILE).write_text(json.dumps({"name": ingest.name, "version": _version(table)}) + "\n")
    index = table.loc[test, list(SEALED_INDEX)].sort_values("content")  # the source's order would tell the classes
    index.to_parquet(output / "sealed_index.parquet", index=False)
    if split.by == "hash":  # last: of an ingest that is refused no image has come
        write_split_table(file, _rule(ingest), locked)
    return {
        "images": len(table),
        "rejected": len(refused),
        "classes": len(_classes(table)),
        "groups": int(table["group"].nunique()),
        **{name: int((table["split"] == name).sum()) for name in SPLITS},
    }


def _describe(items: list[Sample], known: IngestCache, max_megapixels: float) -> tuple[pd.DataFrame, list[Rejection]]:
    """A row per readable image, a refusal per other file. Threads wait for the processes that decode."""
    parts: list[pd.DataFrame] = [pd.DataFrame()]
    refused: list[Rejection] = []
    with (
        ThreadPoolExecutor(2 * WORKERS) as pool,
        tqdm(total=len(items), desc="ingest", unit="img", disable=None) as bar,
    ):
        for start in range(0, len(items), AT_ONCE):
            chunk = items[start : start + AT_ONCE]
            found = list(pool.map(lambda item: _row(item, known, max_megapixels), chunk))
            refused += [one for one in found if isinstance(one, Rejection)]
            parts.append(pd.DataFrame([one for one in found if not isinstance(one, Rejection)]))
            bar.update(len(chunk))
    return pd.concat(parts, ignore_index=True), refused


def _row(item: Sample, known: IngestCache, max_megapixels: float) -> dict[str, Any] | Rejection:
    try:
        data = item.read()
        content = _digest(data)
        seen = known.get(content, max_megapixels) or run_isolated(describe_image, data, max_megapixels)
        height, width = seen["height"], seen["width"]
        annotation = item.annotate(height, width)
        _refuse_outside(annotation, height, width)
        data_of_target, target = _target(item, height, width, max_megapixels)
    except (Unreadable, OSError) as error:
        return Rejection(item.path, str(error))
    if seen["turned"] and (annotation.points or annotation.shapes or item.target):
        return Rejection(item.path, "EXIF turned it, and whether its labels are of the turned image is not known")
    return {
        "path": item.path,
        "label": "|".join(annotation.labels or ()),
        "group": item.group or seen["pixels"],  # so that copies of a picture share a split
        "split": item.split,
        "origin": item.origin,
        "content": content,
        "bytes": len(data),
        "bytes_per_pixel": len(data) / (height * width),
        "has_file": item.has_file,
        "annotation": annotation.to_json(),
        "things": json.dumps(
            round_measurements(measure_objects(annotation, height, width, target)), ensure_ascii=False
        ),
        "target_content": _digest(data_of_target) if item.target else "",
        "target_pixels": "" if target is None else pixel_digest(target),
        **seen,
    }


def _refuse_outside(annotation: Annotation, height: int, width: int) -> None:
    for name, xy in (annotation.points or {}).items():
        if xy is not None and not (-1 <= xy[0] <= width and -1 <= xy[1] <= height):
            raise Unreadable(f"its point {name} is at x {xy[0]:g}, y {xy[1]:g}, outside of {width}x{height}")


def _target(item: Sample, height: int, width: int, max_megapixels: float) -> tuple[bytes, np.ndarray[Any, Any] | None]:
    """The bytes and the pixels of its mask or paired image; none where there is none."""
    if item.target is None:
        return b"", None
    data = item.target(height, width)
    try:
        target = run_isolated(decode_image, data, max_megapixels).image
    except Unreadable as error:
        raise Unreadable(f"the image paired with it: {error}") from error
    if target.shape[:2] != (height, width):
        raise Unreadable(f"the image paired with it is {target.shape[1]}x{target.shape[0]}, it {width}x{height}")
    return data, target


def _write_part(rows: pd.DataFrame, by_path: dict[str, Sample], folder: Path) -> None:
    """The files of images, a shard an arrival, and the manifest of where they lie."""
    placed = [_write_shard(those, by_path, folder / shard_name(arrival)) for arrival, those in rows.groupby("arrival")]
    write_manifest(rows.join(pd.concat(placed)), folder)


def _write_shard(rows: pd.DataFrame, by_path: dict[str, Sample], file: Path) -> pd.DataFrame:
    """The files of images, each followed by that of its target; returns where they lie."""
    lengths: list[int] = []

    def members() -> Iterator[tuple[str, bytes]]:
        for row in rows.itertuples():
            item = by_path[row.path]
            target = partial(item.target, row.height, row.width) if item.target else None
            files = [(row.path, item.read, row.content), (f"{row.path}.target", target, row.target_content)]
            for name, read_, content in files:
                if read_ is not None:
                    data = _unchanged(row.path, read_, content)
                    lengths.append(len(data))
                    yield name, data

    offsets = write_shard(file, members())
    paired = np.array([by_path[path].target is not None for path in rows["path"]], bool)
    first = np.cumsum(1 + paired) - 1 - paired  # place of each image's file among the members
    second = np.where(paired, first + 1, first)
    placed = {
        "offset": np.array(offsets, np.int64)[first],
        "target_offset": np.where(paired, np.array(offsets, np.int64)[second], 0),
        "target_bytes": np.where(paired, np.array(lengths, np.int64)[second], 0),
    }
    return pd.DataFrame(placed, index=rows.index)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def _unchanged(path: str, read_: Callable[[], bytes], content: str) -> bytes:
    data = read_()
    if _digest(data) != content:
        raise UserError(f"{path} changed while it was ingested; run again when nothing writes to the source")
    return data


def _version(table: pd.DataFrame) -> str:
    """One short name for exactly these images under these labels in these splits."""
    rows = table.sort_values("path")[["path", "content", "annotation", "target_content", "split"]]
    return sha256(rows.to_csv(index=False).encode()).hexdigest()[:12]


def _write_rejected(refused: list[Rejection], file: Path) -> None:
    rows = [(r.path.encode(errors="replace").decode(), r.reason) for r in refused]
    pd.DataFrame(rows, columns=["path", "reason"]).to_csv(file, index=False)


def _refuse_too_many(refused: list[Rejection], accepted: int, max_rejected: float) -> None:
    share = len(refused) / (len(refused) + accepted)
    if share > max_rejected or not accepted:
        shown = "\n".join(f"  {r.path}: {r.reason}" for r in refused[:20])
        more = f"\n  and {len(refused) - 20} more" if len(refused) > 20 else ""
        raise UserError(
            f"{len(refused)} of {len(refused) + accepted} files ({share:.1%}) were rejected, above ingest.max_rejected "
            f"{max_rejected:g}:\n{shown}{more}\nmend or remove them, or raise ingest.max_rejected"
        )


def _refuse_mixed(table: pd.DataFrame) -> None:
    """All images must have labels of one kind, with one set of names where names are common to all."""
    seen: dict[tuple[Any, ...], str] = {}
    for path, annotation in zip(table["path"], parse_annotations(table), strict=True):
        seen.setdefault(_kind(annotation), path)
    if len(seen) > 1:
        (one, first), (other, second) = list(seen.items())[:2]
        raise UserError(f"{first} has the labels {one}, {second} has {other}: all images need labels of one kind")


def _kind(annotation: Annotation) -> tuple[Any, ...]:
    kinds = [name for name, value in vars(annotation).items() if value is not None and value is not False]
    return (*kinds, *(annotation.points or ()), *(annotation.scalars or ()), *(annotation.mask or ()))


def _refuse_unusable(table: pd.DataFrame) -> None:
    """All three splits, and no class that only the test has, which nobody would see before the seal is opened."""
    missing = [name for name in SPLITS if name not in set(table["split"])]
    if missing:
        raise UserError(
            f"there are no {' and no '.join(missing)} images among {len(table)}: split.by: source takes the split that "
            "the source names, split.by: hash makes one; with hash, more images or larger shares are needed"
        )
    of_test = table["split"] == "test"
    unseen = sorted(_classes(table[of_test]) - _classes(table[~of_test]))
    if unseen:
        raise UserError(f"only the test has images of {', '.join(unseen[:10])}: no model could ever answer that")


def _classes(rows: pd.DataFrame) -> set[str]:
    return {label for annotation in parse_annotations(rows) for label in class_names(annotation)}


def _split(
    table: pd.DataFrame, unjoined: pd.Series, split: Split, file: Path, locked: SplitTable
) -> tuple[pd.Series, SplitTable]:
    """Split per image, as `file` has it for those that came before; and what `file` is to hold.

    That is the groups before any were joined: what joined them may be gone the next time, and their split must stay.
    """
    if locked.splits and not set(locked.splits) & set(unjoined):
        raise UserError(
            f"{file} lists {len(locked.splits)} groups, none of which is in the source: it belongs to other data; give "
            "this data set a name of its own in ingest.name, or delete the file to split anew"
        )
    shares = {"train": 1 - split.validation - split.test, "val": split.validation, "test": split.test}
    assigned = assign_splits(table["group"], table["label"], shares, locked.splits)
    for name, wanted in shares.items():
        share = float((assigned == name).mean())
        if locked.splits and abs(share - wanted) > FAR_OFF:
            print(f"split: {name} holds {share:.0%} of the images, not {wanted:.0%}: {file} keeps what it lists")
    return assigned, locked.with_new_groups(dict(zip(unjoined, assigned, strict=True)))


def _rule(ingest: Ingest) -> str:
    return _grouping(ingest) + (f", blocks of {ingest.sequence_block}" if ingest.sequence_block > 1 else "")


def _grouping(ingest: Ingest) -> str:
    if ingest.inside.lower().endswith(TABLE_SUFFIXES) and ingest.columns.group is not None:
        return f"column {ingest.columns.group}"
    return f"path {ingest.group_regex}" if ingest.group_regex else "picture"


if __name__ == "__main__":
    run(main)
