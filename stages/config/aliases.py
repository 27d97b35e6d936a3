"""Names that have changed: tables, and functions that rename, so that old params, waivers and models remain usable."""

from collections.abc import Iterator, Mapping
from typing import Any

PARAMS = {
    "task.truth": "task.target",
    "ingest.form": "ingest.format",
    "ingest.values": "ingest.mask_values",
    "ingest.ignore": "ingest.ignore_values",
    "ingest.group": "ingest.group_regex",
    "ingest.block": "ingest.sequence_block",
    "ingest.origin": "ingest.origin_regex",
    "audit.content_blocks": "audit.block_on_content",
    "audit.alone": "audit.blocking_auc",
    "prepare.parts": "prepare.articulated_parts",
    "augment.outside": "augment.padding",
    "network.pretrained_rate": "network.pretrained_lr_factor",
    "train.accumulate": "train.gradient_accumulation",
    "train.clip": "train.gradient_clip",
    "train.average": "train.ema_decay",
    "train.not_finite": "train.nonfinite_loss",
    "train.checkpoint": "train.checkpoint_seconds",
    "train.layout": "train.memory_format",
    "train.resident": "train.cache_on_device",
    "tune.together": "tune.parallel_trials",
    "evaluate.worst": "evaluate.worst_images",
    "export.max_drop": "export.max_score_drop",
    "export.calibration": "export.calibration_images",
    "benchmark.batches": "benchmark.batch_sizes",
}
"""Old dotted key of a params file: its current key, in the same section."""
FINDINGS = {
    "leakage/same-picture": "leakage/same-image",
    "leakage/near-copies": "leakage/near-duplicates",
    "leakage/test-look-alikes": "leakage/test-near-duplicates",
    "duplicates/near-copies": "duplicates/near-duplicates",
    "duplicates/near-conflicts": "duplicates/near-duplicate-conflicts",
    "neighbours/alike": "sequence_leakage/similar-neighbours",
    "neighbours/not-checked": "sequence_leakage/not-checked",
    "domain/gap": "domain_gap/origins",
    "domain/not-checked": "domain_gap/not-checked",
    "confounder/spot": "confounder/border-spot",
    "confounder/names": "confounder/file-names",
    "oddities/images": "outliers/images",
    "oddities/not-checked": "outliers/not-checked",
    "oddities/dark": "outliers/dark",
    "oddities/washed-out": "outliers/washed-out",
    "oddities/flat": "outliers/low-contrast",
    "oddities/blurred": "outliers/blurred",
    "oddities/small": "outliers/small",
    "oddities/large": "outliers/large",
    "oddities/long": "outliers/elongated",
    "levels/range": "dynamic_range/unused",
    "labels/classes": "label_errors/classes",
    "labels/grades": "label_errors/grades",
    "labels/numbers": "label_errors/numbers",
    "labels/points": "label_errors/points",
    "labels/masks": "label_errors/masks",
    "labels/odd-masks": "label_errors/unusual-masks",
    "labels/things": "label_errors/objects",
    "labels/not-checked": "label_errors/not-checked",
    "checks/picture_in_one_split": "checks/image_in_one_split",
}
"""Old id of a finding, as in `gate.waive`: its current id."""
METADATA = {
    "truth": "target",
    "told_apart": "symmetry_auc",
    "answers_lost": "symmetry_score_drop",
    "black_rim": "black_border_share",
    "front": "preprocessing",
    "working": "preprocessing_output",
    "probe": "self_test",
    "inputs": "input_quantiles",
    "openvino": "openvino_precisions",
}
"""Old key of a model file's metadata: its current key. Metrics of `prepare` with these names have changed likewise."""
TABLES = {("tune", "space"): PARAMS, ("gate", "waive"): FINDINGS}
"""Section and key of a mapping whose own keys are names that may have changed, with their table."""


def renamed(values: Any) -> tuple[Any, list[str]]:
    """Return the values of a params file under their current names, and a line for each name that has changed.

    If a file has a key under both names, neither is renamed: the schema then reports the old one, except in
    `gate.waive`. Values that are not a mapping are returned unchanged.

    >>> renamed({"train": {"clip": 1.0, "epochs": 3}})
    ({'train': {'gradient_clip': 1.0, 'epochs': 3}}, ['train.clip is now train.gradient_clip'])
    """
    if not isinstance(values, Mapping):
        return values, []
    changes = list(_changes(values))
    current: dict[str, Any] = {
        section: _with_keys(inner, dict(_pairs(changes, (section,)))) for section, inner in values.items()
    }
    for place in TABLES:
        section, key = place
        inner = _inner(current, section, key)
        if inner is not None:
            current[section] = {**current[section], key: _with_keys(inner, dict(_pairs(changes, place)))}
    return current, [notice(*_names(*change)) for change in changes]


def rename_in_place(values: Any) -> list[str]:
    """Rename old keys of a params file that was read with its comments; return a line for each renamed key.

    Args:
        values: mapping of `ruamel.yaml` that keeps comments and order.
    """
    changes = list(_changes(values))
    for place, old, new in changes:
        inner = values
        for name in place:
            inner = inner[name]
        _rename_key(inner, old, new)
    return [notice(*_names(*change)) for change in changes]


def renamed_metadata(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the metadata of a model under current keys, and a line for each key that has changed.

    >>> renamed_metadata({"truth": "label", "size": 32})
    ({'target': 'label', 'size': 32}, ['truth is now target'])
    """
    names = {old: new for old, new in METADATA.items() if old in metadata and new not in metadata}
    return _with_keys(metadata, names) if names else dict(metadata), [notice(*pair) for pair in names.items()]


def current_key(key: str) -> str:
    """Return the current name of a dotted params key.

    >>> current_key("train.clip"), current_key("train.epochs")
    ('train.gradient_clip', 'train.epochs')
    """
    return PARAMS.get(key, key)


def notice(old: str, new: str) -> str:
    """Return the sentence that reports a changed name."""
    return f"{old} is now {new}"


Change = tuple[tuple[str, ...], str, str]
"""Path of the mapping that holds the key, the old key, the current key."""


def _changes(values: Mapping[str, Any]) -> Iterator[Change]:
    for old, new in PARAMS.items():
        section, _, key = old.partition(".")
        inner, current = _inner(values, section), new.partition(".")[2]
        if inner is not None and key in inner and current not in inner:
            yield (section,), key, current
    for place, names in TABLES.items():
        inner = _inner(values, *place) or {}
        for key in inner:
            if key in names and names[key] not in inner:
                yield place, key, names[key]


def _inner(values: Any, *names: str) -> Mapping[str, Any] | None:
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else None


def _pairs(changes: list[Change], place: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return ((old, new) for at, old, new in changes if at == place)


def _with_keys(values: Any, names: Mapping[str, str]) -> Any:
    return {names.get(key, key): value for key, value in values.items()} if names else values


def _names(place: tuple[str, ...], old: str, new: str) -> tuple[str, str]:
    if place in TABLES:
        return f"{'.'.join(place)}: {old}", new
    return f"{place[0]}.{old}", f"{place[0]}.{new}"


def _rename_key(values: Any, old: str, new: str) -> None:
    """Rename a key of a commented mapping; keep its position and the comment beside it."""
    at, comment = list(values).index(old), values.ca.items.pop(old, None)
    values.insert(at, new, values.pop(old))
    if comment is not None:
        values.ca.items[new] = comment
