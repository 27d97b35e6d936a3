"""Read the source once: `python -m stages.ingest SOURCE SPLITS SEALED OUTPUT`.

Images become one shard of their original bytes and a manifest with a row each. The sealed test images lie in a folder
of their own that no stage of the line reads.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from stages.frame import In, Out, UserError, run
from stages.frame.sections import Ingest, Split
from stages.images.files import TABLES, Refusal
from stages.images.manifest import DATASET, SEALED_INDEX, SPLITS, labels_of, write_manifest
from stages.images.reading import Unreadable, read
from stages.images.shards import SHARD, write_shard
from stages.images.sources import Item, open_source
from stages.images.splits import assign, read_locked, write_locked
from stages.images.statistics import perceptual_hash, statistics

FAR_OFF = 0.05  # share of the images by which a split may miss its param without a word
AT_ONCE = 256  # images in flight: bounds the memory, whatever the size of the source


def main(source: In, splits: In, sealed: Out, output: Out, *, ingest: Ingest, split: Split) -> dict[str, Any]:
    """Write `manifest.parquet`, `images.tar`, `rejected.csv`, `sealed_index.parquet`; and the sealed test beside them.

    `splits` is kept like a lock file: groups that it lists stay in their split, new groups are appended.
    """
    with open_source(source, ingest, own_split=split.by == "source") as (items, refused):
        rows, unreadable = _describe(items, ingest.max_megapixels)
        refused += unreadable
        _write_rejected(refused, output / "rejected.csv")
        _refuse_too_many(refused, len(rows), ingest.max_rejected)
        table = pd.DataFrame(rows)
        by_path = {item.path: item for item in items}
        if split.by == "hash":
            table["split"] = _locked_split(table, ingest, split, splits)
        _refuse_unusable(table)
        test = table["split"] == "test"
        for part, folder in ((table[~test], output), (table[test], sealed)):
            part = part.sort_values("path")
            bytes_of = ((row.path, _unchanged(by_path[row.path], row.content)) for row in part.itertuples())
            write_manifest(part.assign(offset=write_shard(folder / SHARD, bytes_of)), folder)
            (folder / DATASET).write_text(json.dumps({"name": ingest.name, "version": _version(table)}) + "\n")
    index = table.loc[test, list(SEALED_INDEX)].sort_values("content")  # the source's order would tell the classes
    index.to_parquet(output / "sealed_index.parquet", index=False)
    return {
        "images": len(table),
        "rejected": len(refused),
        "classes": len(labels_of(table)),
        "groups": int(table["group"].nunique()),
        **{name: int((table["split"] == name).sum()) for name in SPLITS},
    }


def _describe(items: list[Item], max_megapixels: float) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """A row per readable image, a refusal per other file."""
    rows: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    with ThreadPoolExecutor() as pool, tqdm(total=len(items), desc="ingest", unit="img", disable=None) as progress:
        for start in range(0, len(items), AT_ONCE):
            chunk = items[start : start + AT_ONCE]
            for found in pool.map(lambda item: _row(item, max_megapixels), chunk):
                (refused if isinstance(found, Refusal) else rows).append(found)  # type: ignore[arg-type]
            progress.update(len(chunk))
    return rows, refused


def _row(item: Item, max_megapixels: float) -> dict[str, Any] | Refusal:
    try:
        data = item.read()
        picture = read(data, max_megapixels)
    except (Unreadable, OSError) as error:
        return Refusal(item.path, str(error))
    pixels = sha256(repr(picture.image.shape).encode() + picture.image.tobytes()).hexdigest()[:16]
    return {
        "path": item.path,
        "label": item.label,
        "group": item.group or pixels,  # so that copies of a picture share a split
        "split": item.split,
        "content": _digest(data),
        "pixels": pixels,
        "phash": perceptual_hash(picture.image),
        "bytes": len(data),
        "bytes_per_pixel": len(data) / (picture.image.shape[0] * picture.image.shape[1]),
        "has_file": item.has_file,
        **statistics(picture),
    }


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def _unchanged(item: Item, content: str) -> bytes:
    data = item.read()
    if _digest(data) != content:
        raise UserError(f"{item.path} changed while it was ingested; run again when nothing writes to the source")
    return data


def _version(table: pd.DataFrame) -> str:
    """One short name for exactly these images under these labels in these splits."""
    rows = table.sort_values("path")[["path", "content", "label", "split"]]
    return sha256(rows.to_csv(index=False).encode()).hexdigest()[:12]


def _write_rejected(refused: list[Refusal], file: Path) -> None:
    rows = [(r.path.encode(errors="replace").decode(), r.reason) for r in refused]
    pd.DataFrame(rows, columns=["path", "reason"]).to_csv(file, index=False)


def _refuse_too_many(refused: list[Refusal], accepted: int, max_rejected: float) -> None:
    share = len(refused) / (len(refused) + accepted)
    if share > max_rejected or not accepted:
        shown = "\n".join(f"  {r.path}: {r.reason}" for r in refused[:20])
        more = f"\n  and {len(refused) - 20} more" if len(refused) > 20 else ""
        raise UserError(
            f"{len(refused)} of {len(refused) + accepted} files ({share:.1%}) were rejected, above ingest.max_rejected "
            f"{max_rejected:g}:\n{shown}{more}\nmend or remove them, or raise ingest.max_rejected"
        )


def _refuse_unusable(table: pd.DataFrame) -> None:
    """All three splits, and no class that only the test has, which nobody would see before the seal is opened."""
    missing = [name for name in SPLITS if name not in set(table["split"])]
    if missing:
        raise UserError(
            f"there are no {' and no '.join(missing)} images among {len(table)}: split.by: source takes the split that "
            "the source names, split.by: hash makes one; with hash, more images or larger shares are needed"
        )
    unseen = sorted(set(table["label"]) - set(table.loc[table["split"] != "test", "label"]))
    if unseen:
        raise UserError(f"only the test has images of {', '.join(unseen[:10])}: no model could ever answer that")


def _locked_split(table: pd.DataFrame, ingest: Ingest, split: Split, splits: Path) -> pd.Series:
    file, rule = splits / f"{ingest.name}.json", _rule(ingest)
    locked = read_locked(file, rule)
    if locked and not set(locked) & set(table["group"]):
        raise UserError(
            f"{file} lists {len(locked)} groups, none of which is in the source: it belongs to other data; give this "
            "data set a name of its own in ingest.name, or delete the file to split anew"
        )
    shares = {"train": 1 - split.validation - split.test, "val": split.validation, "test": split.test}
    assigned = assign(table["group"], table["label"], shares, locked)
    write_locked(file, rule, locked | dict(zip(table["group"], assigned, strict=True)))
    for name, wanted in shares.items():
        share = float((assigned == name).mean())
        if locked and abs(share - wanted) > FAR_OFF:
            print(f"split: {name} holds {share:.0%} of the images, not {wanted:.0%}: {file} keeps what it lists")
    return assigned


def _rule(ingest: Ingest) -> str:
    if ingest.inside.lower().endswith(TABLES) and ingest.columns.group is not None:
        return f"column {ingest.columns.group}"
    return f"path {ingest.group}" if ingest.group else "picture"


if __name__ == "__main__":
    run(main)
