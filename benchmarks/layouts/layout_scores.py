"""Score the outcome of a layout as right, asked, refused or wrong.

- **right**: the proposal is one of the acceptable answers and states what it must; or a refusal is acceptable and its
  reason is correct.
- **asked**: something is not as in the answer, but a question about it is asked, or the summary states what would stop
  the run or is left out. Nothing is wrong silently.
- **refused**: no params were proposed although they could have been, or the reason is not the correct one.
- **wrong**: a fault of the proposal is not asked about, or `ingest.max_rejected` was raised so that it does not show.

A question counts only if it is about the fault and names something of the source: a file, a folder, or a text in
backticks. The standing question of every proposal, which images are related, names nothing and does not count. A
question about groups must name a pattern that keeps related images together, two images of one scene, or what relates
the images according to the answer. Files that are used although they are not images of the data set, such as masks, are
excused by a question only, files that are left out also by a statement.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from benchmarks.layouts.layout_answers import Answer, Layout
from benchmarks.layouts.layout_outcomes import Outcome
from benchmarks.layouts.miniature import ImageTruth, Miniature
from stages.config.schema_data import Checks, Ingest
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import parse_annotations

RIGHT, ASKED, REFUSED, WRONG = SCORES = ("right", "asked", "refused", "wrong")
MAX_NEIGHBOURS = 0.5  # share of held-out images of a series with a neighbour in training; blocks of four reach it
TOPICS = {
    "task": r"task|format|class|label|mask|target|predict|column",
    "left out": r"image|file|folder|elsewhere|rejected|mask",
    "misused": r"mask|label|target|not images|thumbnail|copy|copies|pair",
    "labels": r"label|class|column|target|value|mask",
    "split": r"split|train",
    "groups": r"group|sequence|related|similar|copies|copy|neighbour|consecutive|series|same",
}
"""Words by topic, of which a question or statement about it must have one."""
GUARDS = ("min_train_per_class", "min_validation_per_class", "min_classes", "min_side", "max_aspect", "max_blank")
MIN_NAME = 3  # characters of a name in the source that a question can mention
PLAIN_WORDS = frozenset("name names image images folder folders number numbers before across column series".split())
"""Words of an answer that do not state what relates images."""
Faults = list[tuple[str, str]]
"""Pairs of topic and description."""


@dataclass(frozen=True)
class LayoutScore:
    """Score of a layout with its reasons."""

    score: str
    reasons: tuple[str, ...] = ()
    leak: float | None = None
    """Share of the held-out images whose scene, or more than chance of whose neighbours, is in training."""
    relaxed: tuple[str, ...] = ()
    """Keys of guards that the proposal relaxes; reported, and part of the score only for `ingest.max_rejected`."""


def score_layout(layout: Layout, outcome: Outcome) -> LayoutScore:
    """Score the outcome of a layout; see the module for the rules."""
    answer, source = layout.answer, layout.build()
    if outcome.params is None:
        reason = outcome.refusal.replace("\n", " ")
        if answer.refusal and re.search(answer.refusal, reason, re.IGNORECASE):
            return LayoutScore(RIGHT, ("refused with the correct reason",))
        return LayoutScore(REFUSED, (reason,))
    if not answer.tasks:
        stated = bool(answer.asks) and not list(_unstated(answer, outcome.lines))
        found = f"proposed {outcome.params.task.name} as {outcome.params.ingest.format} where a refusal is correct"
        return LayoutScore(ASKED if stated else WRONG, (found,))
    faults, leak = find_faults(answer, source, outcome)
    relaxed = tuple(_relaxed(outcome))
    silent = [text for topic, text in faults if not is_stated(topic, layout, source, outcome)]
    silent += [f"states nothing like `{pattern}`" for pattern in _unstated(answer, outcome.lines)]
    if "ingest.max_rejected" in relaxed:
        silent.append(f"raises ingest.max_rejected to {outcome.params.ingest.max_rejected:g}")
    reasons = (*silent, *(text for _, text in faults if text not in silent))
    if silent:
        return LayoutScore(WRONG, reasons, leak, relaxed)
    if faults and not (answer.ask_groups and {topic for topic, _ in faults} == {"groups"}):
        return LayoutScore(ASKED, reasons, leak, relaxed)
    return LayoutScore(RIGHT, reasons, leak, relaxed)


def find_faults(answer: Answer, source: Miniature, outcome: Outcome) -> tuple[Faults, float | None]:
    """Return what differs from the answer, and the leak.

    Args:
        answer: correct answer.
        source: the miniature folder with its truth.
        outcome: a proposal.

    Returns:
        pairs of topic and description, and the share of held-out images that are related to training images; None if
        the manifest is missing.
    """
    params, manifest = outcome.params, outcome.manifest
    assert params is not None
    faults: Faults = []
    if params.task.name not in answer.tasks:
        faults.append(("task", f"task {params.task.name} is not {' or '.join(answer.tasks)}"))
    if answer.formats and params.ingest.format not in answer.formats:
        faults.append(("task", f"format {params.ingest.format} is not {' or '.join(answer.formats)}"))
    read = f"{params.ingest.inside}/{params.ingest.targets}"
    if answer.targets and not re.search(answer.targets, read):
        faults.append(("task", f"targets {read} do not match `{answer.targets}`"))
    if answer.split not in ("either", params.split.by):
        faults.append(("split", f"split.by is {params.split.by}, not {answer.split}"))
    if manifest is None:
        return [*faults, ("left out", f"ingest fails: {outcome.ingest_error.splitlines()[0]}")], None
    rows = with_truth(manifest, source, params.ingest.inside)
    faults += _wrong_images(rows, source)
    if params.task.name in answer.tasks:
        faults += _wrong_labels(rows)
    leak = related_share(rows)
    if leak:
        faults.append(("groups", f"{leak:.0%} of the held-out images are related to training images"))
    fewest = answer.fewest_groups or _default_fewest(rows)
    if (groups := rows["group"].nunique()) < fewest and params.split.by == "hash":
        faults.append(("groups", f"{groups} groups merge unrelated images; at least {fewest} are expected"))
    return faults, leak


def with_truth(manifest: pd.DataFrame, source: Miniature, inside: str) -> pd.DataFrame:
    """Return the manifest with the columns `source_path` and `truth`, which are None for images without a truth.

    Args:
        manifest: images with their path inside `inside`.
        source: the miniature folder with its truth.
        inside: `ingest.inside` of the proposal.
    """
    folder = inside if inside not in source.files else inside.rpartition("/")[0]
    rows = manifest.copy()
    rows["source_path"] = [_locate(path, folder, source) for path in rows["path"]]
    rows["truth"] = [source.truth.get(path) if path else None for path in rows["source_path"]]
    return rows


def _locate(path: str, folder: str, source: Miniature) -> str | None:
    candidates = [f"{folder}/{path}".removeprefix("/"), path]
    ends = [one for one in source.files if one.endswith(f"/{path}")]
    return next((one for one in candidates if one in source.files), ends[0] if len(ends) == 1 else None)


def _wrong_images(rows: pd.DataFrame, source: Miniature) -> Iterator[tuple[str, str]]:
    if not source.truth:
        return
    used = {*rows["source_path"].dropna()}
    missing = [path for path, truth in source.truth.items() if path not in used and not truth.optional]
    extra = [row.source_path or row.path for row in rows.itertuples() if row.truth is None]
    if missing:
        yield "left out", f"{len(missing)} of {len(source.truth)} images are left out, such as {missing[0]}"
    if extra:
        yield "misused", f"{len(extra)} files are not images of the data set but used as such, for example {extra[0]}"


def _wrong_labels(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    known = rows[rows["truth"].notna()]
    found = [
        (row.source_path, row.truth.label)
        for row, annotation in zip(known.itertuples(), parse_annotations(known), strict=True)
        if not label_agrees(row.truth.label, annotation)
    ]
    if found:
        yield "labels", f"{len(found)} labels are wrong: {found[0][0]} is {found[0][1]}"


def label_agrees(label: Any, annotation: Annotation) -> bool:
    """Return whether an annotation has the label of the truth; True if the truth has no label of this kind.

    >>> label_agrees("cat", Annotation(labels=("cat",))), label_agrees(("cat", 2.5), Annotation(scalars={"kg": 3.0}))
    (True, False)
    """
    options = [*label] if isinstance(label, tuple) else [label]
    if annotation.labels is not None:
        options = [one for one in options if isinstance(one, str | frozenset)]
        return not options or any(
            set(annotation.labels) == (one if isinstance(one, frozenset) else {one}) for one in options
        )
    if annotation.scalars is not None:
        values = annotation.scalars
        options = [one for one in options if isinstance(one, float | int | dict)]
        return not options or any(
            one.items() <= values.items() if isinstance(one, dict) else one in values.values() for one in options
        )
    counted = [one for one in options if isinstance(one, int)]
    if annotation.shapes is not None:
        return not counted or len(annotation.shapes) in counted
    if annotation.points is not None:
        return not counted or sum(xy is not None for xy in annotation.points.values()) in counted
    return True


def related_share(rows: pd.DataFrame) -> float:
    """Return the share of held-out images whose scene is in training, or of a series whose neighbours are.

    Neighbours count only above `MAX_NEIGHBOURS`, because adjacent blocks of a series always touch.
    """
    known = [(row.truth, row.split) for row in rows.itertuples() if row.truth is not None]
    scenes = {truth.scene for truth, split in known if split == "train"}
    places = {(truth.film, truth.frame) for truth, split in known if split == "train" and truth.film}
    held_out = [truth for truth, split in known if split != "train"]
    if not held_out:
        return 0.0
    same = sum(truth.scene in scenes for truth in held_out) / len(held_out)
    series = [truth for truth in held_out if truth.film]
    near = sum(_has_neighbour(truth, places) for truth in series) / len(series) if series else 0.0
    return max(same, near if near > MAX_NEIGHBOURS else 0.0)


def _has_neighbour(truth: ImageTruth, places: set[tuple[str, int]]) -> bool:
    return any((truth.film, truth.frame + step) in places for step in (-1, 1))


def _default_fewest(rows: pd.DataFrame) -> int:
    """Return half of the scenes, and 4 for series, whose images blocks keep together."""
    truths = [truth for truth in rows["truth"] if truth is not None]
    if any(truth.film for truth in truths):
        return 4
    return len({truth.scene for truth in truths}) // 2


def _relaxed(outcome: Outcome) -> Iterator[str]:
    """Yield the keys of guards that are weaker than their defaults."""
    assert outcome.params is not None
    if outcome.params.ingest.max_rejected > Ingest.model_fields["max_rejected"].default:
        yield "ingest.max_rejected"
    for name in GUARDS:
        value, default = getattr(outcome.params.checks, name), getattr(Checks(), name)
        if value != default and (value > default) == name.startswith("max"):
            yield f"checks.{name}"


def _unstated(answer: Answer, lines: tuple[str, ...]) -> Iterator[str]:
    stated = "\n".join(text for title, text in _statements(lines) if title != "rival")
    yield from (pattern for pattern in answer.asks if not re.search(pattern, stated, re.IGNORECASE))


def _statements(lines: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the statements of a summary, each with the kind of its section; reasons of values are not statements."""
    kind = ""
    for line in lines:
        if not line.startswith(" "):
            kinds = {
                "question": r"question",
                "stop": r"stop",
                "unread": r"not read|not understood|ignored",
                "observation": r"observ|warn|finding",
                "rival": r"could also",
            }
            kind = next((name for name, title in kinds.items() if re.search(title, line, re.IGNORECASE)), "")
        elif kind:
            yield kind, line.strip()


def is_stated(topic: str, layout: Layout, source: Miniature, outcome: Outcome) -> bool:
    """Return whether a fault of a topic is asked about or stated, with something that the source has.

    Args:
        topic: key of `TOPICS`.
        layout: the layout with its answer.
        source: the miniature folder.
        outcome: a proposal with its summary.
    """
    names = {part for path in source.files for part in (*PurePosixPath(path).parts, PurePosixPath(path).stem)}
    mentioned = re.compile("|".join(re.escape(name) for name in names if len(name) >= MIN_NAME) or r"(?!)")
    accepted = {"left out": ("question", "stop", "unread"), "misused": ("question", "stop")}
    for kind, text in _statements(outcome.lines):
        if kind not in accepted.get(topic, ("question", "stop", "observation")) or re.match(
            r"objective:|augment", text
        ):
            continue
        about = re.search(TOPICS[topic], text, re.IGNORECASE)
        if (
            about
            and ("`" in text or mentioned.search(text))
            and (topic != "groups" or _is_pertinent(text, layout, source))
        ):
            return True
    return False


def _is_pertinent(text: str, layout: Layout, source: Miniature) -> bool:
    """Return whether a question about groups names a pattern that is correct, two related images, or their relation."""
    if any(_keeps_together(pattern, source) for pattern in re.findall(r"`([^`]+)`", text) if "(" in pattern):
        return True
    words = {*re.findall(r"[a-z_]{4,}", layout.answer.related.lower())} - PLAIN_WORDS
    if any(word in text.lower() for word in words):
        return True
    scenes = [truth.scene for path, truth in source.truth.items() if PurePosixPath(path).name in text]
    return len(scenes) > len(set(scenes))


def _keeps_together(pattern: str, source: Miniature) -> bool:
    try:
        found = {path: re.search(pattern, path) for path in source.truth}
        groups = {path: match[1] if match else path for path, match in found.items()}
    except (re.error, IndexError):
        return False
    pairs = {(source.truth[path].scene, group) for path, group in groups.items()}
    return len(pairs) == len({scene for scene, _ in pairs})
