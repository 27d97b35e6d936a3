"""Import the source: `python -m stages.ingest SOURCE SPLITS SEALED OUTPUT`.

The original bytes of the images are written to shards, and one row per image to a manifest. The sealed test images are
in a separate folder that no stage of the pipeline reads.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_data import Ingest, Split
from stages.core.errors import UserError
from stages.core.plurals import list_names, quantity
from stages.core.progress import Progress, announce
from stages.dataset.annotations import Annotation, class_names
from stages.dataset.capture_times import name_intervals, number_sessions, parse_times
from stages.dataset.combined_classes import combine, combine_objects, order_labels, refuse_joined_names
from stages.dataset.counters import SCOPES
from stages.dataset.label_statistics import measure_objects, round_measurements
from stages.dataset.manifest import DATASET_FILE, SEALED_INDEX, SPLITS, parse_annotations, write_manifest
from stages.dataset.shards import shard_name, write_shard
from stages.dataset.splits import (
    SplitTable,
    assign_splits,
    merge_linked_groups,
    read_grouping_rule,
    read_split_table,
    write_split_table,
)
from stages.images.archives import TABLE_SUFFIXES, Rejection
from stages.images.decode import Unreadable, decode_image
from stages.images.image_metadata import describe_image, pixel_digest
from stages.images.ingest_cache import IngestCache
from stages.images.sandbox import WORKERS, run_isolated
from stages.importers import Sample, open_source, reject_ambiguous_labels
from stages.importers.group_table import is_project_table
from stages.importers.sample import read_annotation
from stages.importers.sequence_blocks import block_scope, group_blocks, near_held_out
from stages.importers.sidecar_files import values_by_class
from stages.runner.stage import In, Out, run

MAX_SPLIT_ERROR = 0.05  # largest deviation of a split's share from its param that is not reported
BATCH = 256  # images per batch of parallel tasks
MAX_NAMES = 10  # in a message
KINDS = {
    "labels": "classes",
    "scalars": "numbers",
    "points": "points",
    "shapes": "objects",
    "mask": "a mask",
    "image": "a paired image",
}
"""Kinds of labels in an `Annotation`, in words."""


def main(source: In, splits: In, sealed: Out, output: Out, *, ingest: Ingest, split: Split) -> dict[str, Any]:
    """Write `manifest.parquet`, `images-*.tar`, lists of the files that are left out, and the sealed test images.

    With `split.by: hash`, the table in `splits` is a lock file: groups that it lists stay in their split, and new
    groups are appended.

    Args:
        source: folder, archive or npz.
        splits: folder of the split tables.
        sealed: output folder of the test images.
        output: output folder of the other images.
        ingest: params of the source.
        split: params of the split.

    Returns:
        counts of images, rejected files, classes, groups, and images per split.

    Raises:
        UserError: the source cannot be used or changes meanwhile, too many files are rejected, labels are inconsistent,
            a split is empty, a class occurs only in the test split, or the split table belongs to other data.
    """
    file = splits / f"{ingest.name}.json"
    with ExitStack() as stack:
        with announce(f"ingest: listing the images and labels of {source}"):
            listed, left_out = stack.enter_context(open_source(source, ingest, has_split=split.by == "source"))
        scope = _block_scope(listed, file) if split.by == "hash" and ingest.sequence_block > 1 else ""
        rule = _grouping_rule(ingest, scope)
        samples = group_blocks(listed, ingest.sequence_block, scope)
        known = IngestCache(ingest.name)
        table, unreadable = _describe(samples, known, ingest.max_megapixels)
        if len(table):
            known.save(table)
        unused = [one for one in left_out if one.is_unused]
        rejected = [one for one in left_out if not one.is_unused] + unreadable
        _write_rejected(rejected, output / "rejected.csv")
        _write_rejected(unused, output / "unused.csv")
        if unused:
            files = quantity(len(unused), "file is", "files are")
            print(f"ingest: {files} not used, for example {unused[0].path}: {unused[0].reason}", flush=True)
        _check_rejected_share(rejected, len(table), ingest.max_rejected)
        _check_label_kinds(table)
        _check_crowds(table)
        reject_ambiguous_labels(_classes(table))
        combinations = _combinations(table) if ingest.overlaps == "combine" else ()
        by_path = {sample.path: sample for sample in samples}
        locked, unmerged = SplitTable(), table["group"]
        if split.by == "hash":
            locked = read_split_table(file, rule)
        if ingest.session_gap:
            grouped = table["path"].map(lambda path: by_path[path].group is not None)
            unmerged, session = _sessions(table, grouped, 60 * ingest.session_gap)
            table["group"] = merge_linked_groups(unmerged, session, locked)
        if ingest.sequence_block > 1:
            # A static scene gives equal images. Blank images are equal without showing the same scene.
            scene = table["phash"].where(~table["blank"], table["path"])
            table["group"] = merge_linked_groups(unmerged, scene, locked)
        table["arrival"] = 1
        if split.by == "hash":
            table["split"], locked = _split(table, unmerged, split, file, locked)
            table["arrival"] = unmerged.map(locked.arrivals)
            table, left_out_near = _leave_out_near(table, unmerged, split.guard if ingest.sequence_block > 1 else 0)
            _write_rejected(unused + left_out_near, output / "unused.csv")
        _check_splits(table)
        test = table["split"] == "test"
        for part, folder in ((table[~test], output), (table[test], sealed)):
            _write_part(part.sort_values("path"), by_path, folder)
            about = {
                "name": ingest.name,
                "version": _version(table),
                "mask_values": values_by_class(ingest),
                "combinations": combinations,
            }
            (folder / DATASET_FILE).write_text(json.dumps(about) + "\n")
    # The order of the source would reveal the classes.
    index = table.loc[test, list(SEALED_INDEX)].sort_values("content")
    index.to_parquet(output / "sealed_index.parquet", index=False)
    if split.by == "hash":  # last, so that a failed ingest does not assign splits
        write_split_table(file, rule, locked)
    return {
        "images": len(table),
        "rejected": len(rejected),
        "classes": len(_classes(table)),
        "groups": int(table["group"].nunique()),
        **{name: int((table["split"] == name).sum()) for name in SPLITS},
    }


def _describe(samples: list[Sample], known: IngestCache, max_megapixels: float) -> tuple[pd.DataFrame, list[Rejection]]:
    """Return a table with one row per readable image, and the rejected files.

    The threads only wait for the processes that decode the images.
    """
    parts: list[pd.DataFrame] = [pd.DataFrame()]
    rejected: list[Rejection] = []
    progress = Progress("ingest", len(samples))
    with ThreadPoolExecutor(2 * WORKERS) as pool, closing(progress):
        for start in range(0, len(samples), BATCH):
            chunk = samples[start : start + BATCH]
            found = list(pool.map(lambda sample: _row(sample, known, max_megapixels), chunk))
            rejected += [row for row in found if isinstance(row, Rejection)]
            parts.append(pd.DataFrame([row for row in found if not isinstance(row, Rejection)]))
            progress.advance(len(chunk))
    return pd.concat(parts, ignore_index=True), rejected


def _row(sample: Sample, known: IngestCache, max_megapixels: float) -> dict[str, Any] | Rejection:
    try:
        data = sample.read()
        content = _digest(data)
        seen = known.get(content, max_megapixels) or run_isolated(describe_image, data, max_megapixels)
        height, width = seen["height"], seen["width"]
        annotation = read_annotation(sample, data, height, width, seen["turned"])
        _check_points(annotation, height, width)
        target_data, target = _read_target(sample, height, width, max_megapixels)
    except Unreadable as error:
        return Rejection(sample.path, str(error))
    except OSError as error:
        return Rejection(sample.path, f"cannot be read: {error.strerror or error}")
    return {
        "path": sample.path,
        "label": "|".join(annotation.labels or ()),
        "group": sample.group or seen["pixels"],  # so that copies of an image share a split
        "split": sample.split,
        "origin": sample.origin,
        "content": content,
        "bytes": len(data),
        "bytes_per_pixel": len(data) / (height * width),
        "has_file": sample.has_file,
        "annotation": annotation.to_json(),
        "things": json.dumps(
            round_measurements(measure_objects(annotation, height, width, target)), ensure_ascii=False
        ),
        "target_content": _digest(target_data) if sample.target else "",
        "target_pixels": "" if target is None else pixel_digest(target),
        **seen,
    }


def _check_points(annotation: Annotation, height: int, width: int) -> None:
    for name, xy in (annotation.points or {}).items():
        if xy is not None and not (-1 <= xy[0] <= width and -1 <= xy[1] <= height):
            raise Unreadable(f"the point {name} at x {xy[0]:g}, y {xy[1]:g} is outside the {width}x{height} image")


def _read_target(
    sample: Sample, height: int, width: int, max_megapixels: float
) -> tuple[bytes, np.ndarray[Any, Any] | None]:
    """Return the bytes and pixels of the mask or paired image; empty and None if there is none."""
    if sample.target is None:
        return b"", None
    data = sample.target(height, width)
    try:
        target = run_isolated(decode_image, data, max_megapixels).image
    except Unreadable as error:
        raise Unreadable(f"its mask or paired image {error}") from error
    if target.shape[:2] != (height, width):
        raise Unreadable(
            f"its mask or paired image is {target.shape[1]}x{target.shape[0]}, but the image is {width}x{height}"
        )
    return data, target


def _write_part(rows: pd.DataFrame, by_path: dict[str, Sample], folder: Path) -> None:
    """Write one shard per arrival, and the manifest with the offsets of the files."""
    offsets = [
        _write_shard(of_arrival, by_path, folder / shard_name(arrival))
        for arrival, of_arrival in rows.groupby("arrival")
    ]
    write_manifest(rows.join(pd.concat(offsets)), folder)


def _write_shard(rows: pd.DataFrame, by_path: dict[str, Sample], file: Path) -> pd.DataFrame:
    """Write the image files, each followed by its target file, and return their offsets."""
    lengths: list[int] = []

    def members() -> Iterator[tuple[str, bytes]]:
        for row in rows.itertuples():
            sample = by_path[row.path]
            target = partial(sample.target, row.height, row.width) if sample.target else None
            files = [(row.path, sample.read, row.content), (f"{row.path}.target", target, row.target_content)]
            for name, read_bytes, content in files:
                if read_bytes is not None:
                    data = _read_unchanged(row.path, read_bytes, content)
                    lengths.append(len(data))
                    yield name, data

    offsets = write_shard(file, members())
    paired = np.array([by_path[path].target is not None for path in rows["path"]], bool)
    first = np.cumsum(1 + paired) - 1 - paired  # index of each image file among the members
    second = np.where(paired, first + 1, first)
    offset_columns = {
        "offset": np.array(offsets, np.int64)[first],
        "target_offset": np.where(paired, np.array(offsets, np.int64)[second], 0),
        "target_bytes": np.where(paired, np.array(lengths, np.int64)[second], 0),
    }
    return pd.DataFrame(offset_columns, index=rows.index)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


def _read_unchanged(path: str, read_bytes: Callable[[], bytes], content: str) -> bytes:
    data = read_bytes()
    if _digest(data) != content:
        raise UserError(f"{path} changed during ingest; run again when no process writes to the source")
    return data


def _version(table: pd.DataFrame) -> str:
    """Return a short digest of the images, labels and splits."""
    rows = table.sort_values("path")[["path", "content", "annotation", "target_content", "split"]]
    return sha256(rows.to_csv(index=False).encode()).hexdigest()[:12]


def _write_rejected(rejected: list[Rejection], file: Path) -> None:
    rows = [(r.path.encode(errors="replace").decode(), r.reason) for r in rejected]
    pd.DataFrame(rows, columns=["path", "reason"]).to_csv(file, index=False)


def _check_rejected_share(rejected: list[Rejection], accepted: int, max_rejected: float) -> None:
    share = len(rejected) / (len(rejected) + accepted)
    if share > max_rejected or not accepted:
        shown = "\n".join(f"  {r.path}: {r.reason}" for r in rejected[:20])
        more = f"\n  and {len(rejected) - 20} more" if len(rejected) > 20 else ""
        were = "was" if len(rejected) == 1 else "were"
        limit = f", above ingest.max_rejected {max_rejected:g}" if share > max_rejected else ""
        advice = "fix or remove these files, or raise ingest.max_rejected" if accepted else "fix these files"
        raise UserError(
            f"{len(rejected)} of {quantity(len(rejected) + accepted, 'file')} ({share:.2%}) {were} rejected{limit}:\n"
            f"{shown}{more}\n{advice}"
        )


def _check_label_kinds(table: pd.DataFrame) -> None:
    """Raise UserError unless all images have the same kinds of labels and the same points, scalars and mask classes."""
    seen: dict[tuple[Any, ...], tuple[str, Annotation]] = {}
    for path, annotation in zip(table["path"], parse_annotations(table), strict=True):
        seen.setdefault(_label_kinds(annotation), (path, annotation))
    if len(seen) > 1:
        (first, one), (second, other) = list(seen.values())[:2]
        raise UserError(
            f"the annotation of {first} has {_kinds_in_words(one, other)}, but that of {second} has "
            f"{_kinds_in_words(other, one)}; all images must have the same kinds of labels, with the same names in the "
            "same order"
        )


def _check_crowds(table: pd.DataFrame) -> None:
    """Print how many objects are excluded as crowds; raise UserError if no object is left, so that none is learned."""
    annotations = list(parse_annotations(table))
    marks = [shape.crowd for annotation in annotations for shape in annotation.shapes or ()]
    if not marks and all(annotation.shapes is not None for annotation in annotations):
        raise UserError(
            f"the labels of {quantity(len(annotations), 'image')} contain no object, so that nothing can be learned; "
            f"check the label files, such as that of {table['path'].iloc[0]}, and ingest.inside"
        )
    if not any(marks):
        return
    number = f"{sum(marks)} of {quantity(len(marks), 'object')}"
    excluded = f"{number} {'is' if sum(marks) == 1 else 'are'} marked as iscrowd or difficult in the source"
    advice = "if they are ordinary objects, set ingest.crowd to objects"
    if all(marks):
        raise UserError(f"{excluded}, so that no object is left to learn; {advice}")
    print(f"ingest: {excluded} and excluded from training and scoring; {advice}", flush=True)


def _kinds_in_words(annotation: Annotation, other: Annotation) -> str:
    """Return the kinds of labels, each with the names that the other annotation lacks, at most `MAX_NAMES`."""
    words = []
    for kind, text in KINDS.items():
        value = getattr(annotation, kind)
        if value is None or value is False:
            continue
        named = kind in ("scalars", "points", "mask")
        names = [name for name in value if name not in (getattr(other, kind) or ())] if named else []
        words.append(text + (f" ({list_names(names, MAX_NAMES)})" if names else ""))
    return ", ".join(words) or "no labels"


def _label_kinds(annotation: Annotation) -> tuple[Any, ...]:
    kinds = [name for name, value in vars(annotation).items() if value is not None and value is not False]
    return (*kinds, *(annotation.points or ()), *(annotation.scalars or ()), *(annotation.mask or ()))


def _combinations(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the labels of pixels if those in objects of several classes have all of them; empty without objects."""
    found = set()
    for annotation, height, width in zip(parse_annotations(table), table["height"], table["width"], strict=True):
        if annotation.shapes is None:
            return ()
        refuse_joined_names(shape.label for shape in annotation.shapes)
        found |= set(map(combine, combine_objects(annotation, height, width)[1]))
    return order_labels(found)


def _check_splits(table: pd.DataFrame) -> None:
    """Raise UserError if a split is empty, or if a class occurs only in the sealed test split."""
    missing = [name for name in SPLITS if name not in set(table["split"])]
    if missing:
        raise UserError(
            f"no {' or '.join(missing)} images among {quantity(len(table), 'image')}; with split.by: source, assign "
            "images to each split in the source; with split.by: hash, add images or increase the shares in section "
            "split"
        )
    of_test = table["split"] == "test"
    unseen = sorted(_classes(table[of_test]) - _classes(table[~of_test]))
    if unseen:
        more = f" and {len(unseen) - 10} more" if len(unseen) > 10 else ""
        several = f"the classes {', '.join(unseen[:10])}{more} occur"
        subject = f"the class {unseen[0]} occurs" if len(unseen) == 1 else several
        raise UserError(f"{subject} only in the test split, so that no model can learn to predict them; add images")


def _classes(rows: pd.DataFrame) -> set[str]:
    return {label for annotation in parse_annotations(rows) for label in class_names(annotation)}


def _split(
    table: pd.DataFrame, unmerged: pd.Series, split: Split, file: Path, locked: SplitTable
) -> tuple[pd.Series, SplitTable]:
    """Return the split of each image and the extended table of splits.

    The table lists the groups before merging, since the image that links them may be missing at the next ingest.

    Args:
        table: one row per image.
        unmerged: group per image before merging.
        split: params of the split.
        file: split table on disk, for messages.
        locked: content of the split table.
    """
    if locked.splits and not set(locked.splits) & set(unmerged):
        raise UserError(
            f"none of the groups in the source is among the {quantity(len(locked.splits), 'group')} in {file}, which "
            "belongs to other data; set ingest.name to a new name, or delete the file to split again"
        )
    shares = {"train": 1 - split.validation - split.test, "val": split.validation, "test": split.test}
    assigned = assign_splits(table["group"], table["label"], shares, locked.splits)
    for name, target in shares.items():
        share = float((assigned == name).mean())
        if locked.splits and abs(share - target) > MAX_SPLIT_ERROR:
            print(
                f"split: {name} has {share:.0%} of the images instead of {target:.0%}, "
                f"because the groups listed in {file} stay in their splits"
            )
    return assigned, locked.with_new_groups(dict(zip(unmerged, assigned, strict=True)))


def _sessions(table: pd.DataFrame, grouped: pd.Series, gap: float) -> tuple[pd.Series, pd.Series]:
    """Return the group of each image before sessions are merged, and a value that is equal for images of one session.

    Args:
        table: one row per image.
        grouped: True for images whose group is known, which stays as it is.
        gap: longest gap within a session, seconds.
    """
    seconds = parse_times(table["taken"].where(~grouped, "").tolist())
    timed = np.isfinite(seconds)
    if missing := int((~timed & ~grouped.to_numpy(bool)).sum()):
        without = quantity(missing, "image has", "images have")
        print(f"ingest: {without} no capture time, and no session by ingest.session_gap", flush=True)
    unmerged, session = table["group"].copy(), table["path"].copy()
    unmerged[timed] = name_intervals(seconds[timed], gap)
    session[timed] = [f"session {number}" for number in number_sessions(seconds, gap)[timed]]
    return unmerged, session


def _leave_out_near(table: pd.DataFrame, blocks: pd.Series, guard: int) -> tuple[pd.DataFrame, list[Rejection]]:
    """Return the table without the training images that are next to held-out ones, and these images."""
    if not guard:
        return table, []
    near = np.array(near_held_out(blocks.tolist(), table["path"].tolist(), table["split"].tolist(), guard), bool)
    reason = f"is a training image within split.guard {guard} of a validation or test image"
    print(f"split: {quantity(int(near.sum()), 'training image is', 'training images are')} left out by split.guard")
    return table[~near], [Rejection(path, reason, is_unused=True) for path in table["path"][near]]


def _block_scope(samples: list[Sample], file: Path) -> str:
    """Return the scope of the blocks: that of the split table, so that no group changes, or else the widest."""
    widest = block_scope(samples)
    rule = read_grouping_rule(file)
    if rule is None:
        return widest
    stored = next((scope for scope in SCOPES if scope and rule.endswith(f" {scope}")), "")
    if widest and not stored:
        print(
            f"split: the numbers of the images run on {widest}, but the groups listed in {file} count within each "
            "folder and prefix, so that consecutive images may be in two splits; delete the file to split again (this "
            "invalidates scores on a test split that was already unsealed)"
        )
    return stored


def _grouping_rule(ingest: Ingest, scope: str) -> str:
    blocks = f", blocks of {ingest.sequence_block} {scope}".rstrip() if ingest.sequence_block > 1 else ""
    return _grouping(ingest) + blocks


def _grouping(ingest: Ingest) -> str:
    if is_project_table(ingest.group_table):
        return f"table {ingest.group_table}"
    if ingest.inside.lower().endswith(TABLE_SUFFIXES) and ingest.columns.group is not None:
        return f"column {ingest.columns.group}"
    if ingest.group_table:
        return f"column {ingest.columns.group} of {ingest.group_table}"
    if ingest.coco_group:
        return f"key {ingest.coco_group}"
    if "(?P<group>" in ingest.name_regex:
        return f"path {ingest.name_regex}"
    if "{group}" in ingest.images and not ingest.targets:
        return f"path {ingest.images}"
    if ingest.group_regex:
        return f"path {ingest.group_regex}"
    return f"capture times, gaps of {ingest.session_gap:g} minutes" if ingest.session_gap else "picture"


if __name__ == "__main__":
    run(main)
