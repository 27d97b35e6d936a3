"""Look at images and propose params for them: `python -m stages.configure SOURCE`, or `make configure SOURCE=...`.

Every value comes with its reason, what else the source could be is listed, and what files cannot tell is asked.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.frame import UserError
from stages.frame.editing import edited, remarked
from stages.frame.params import load
from stages.frame.sections import Params
from stages.images.annotations import Annotation
from stages.images.files import files_of
from stages.images.reading import Unreadable, read
from stages.images.sources.detection import Reading, readings
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS, representation_of

LOOKED_AT = 64  # images that are opened
FEW = 300  # images; below it a larger share validates
STEPS = 600  # of the optimizer that a first training should take
EPOCHS, BATCHES = (10, 60), (4, 64)
SIDES = {"vector": (32, 64, 128), "map": (64, 128, 256), "boxes": (128, 256)}
"""Working sizes that two CPU cores train in minutes, in pixels."""
NETWORK = {
    "vector": ("resnet18", "an answer an image"),
    "map": ("unet", "an answer a pixel"),
    "boxes": ("mask_rcnn", "single things"),
}
SLIM = 1.25  # longer over shorter side, from which stretching is not nothing
WHOLE_LABELS = ("folders", "table", "arrays", "deeplabcut")
"""Forms of which the labels are known without opening images."""
LEFT, RIGHT = "left", "right"


@dataclass(frozen=True)
class Choice:
    """A value that is proposed."""

    key: str
    """Dotted."""
    value: Any
    why: str = ""
    """Empty where it is merely as it must be."""


@dataclass(frozen=True)
class Facts:
    """What was seen of the images."""

    count: int
    sides: np.ndarray[Any, Any]
    """[images, 2]: height and width in pixels."""
    channels: int
    annotations: list[Annotation]
    unreadable: dict[str, str]


def main(argv: list[str] | None = None) -> None:
    """Write the proposal and say why; an existing file is left alone unless asked."""
    arguments = _arguments(argv)
    try:
        params, text = load(Path("params.yaml")), Path("params.yaml").read_text(encoding="utf-8")
        if arguments.output.exists() and not arguments.replace:
            raise UserError(f"{arguments.output} exists; name another --output, or say --replace")
        with ExitStack() as stack:
            files, _ = files_of(arguments.source, stack)
            found = [one for one in readings(files, params.ingest) if _is_below(one.inside, arguments.inside)]
            if not found:
                raise UserError(_nothing(arguments))
            chosen, facts = found[0], _looked(found[0], params.ingest.max_megapixels)
        choices = list(_choices(chosen, facts, arguments.source, params))
        nested = _nested({choice.key: choice.value for choice in choices})
        proposed = remarked(edited(text, [nested], "what is proposed"), {c.key: c.why for c in choices if c.why})
    except UserError as error:
        sys.exit(f"error: {error}")
    arguments.output.write_text(proposed, encoding="utf-8")
    print("\n".join(_said(choices, found, facts, arguments)))


def _is_below(inside: str, wanted: str) -> bool:
    return not wanted or f"{inside}/".startswith(f"{wanted.strip('/')}/")


def _nothing(arguments: argparse.Namespace) -> str:
    where = f"{arguments.source}/{arguments.inside}".rstrip("/")
    return (
        f"{where} holds no labelled images in a form that is known: a folder per class, a table of paths, masks or "
        "other files beside images, COCO, Pascal VOC, YOLO, DeepLabCut, npz; docs/guides/your-images.md shows each"
    )


def _looked(reading: Reading, max_megapixels: float) -> Facts:
    """Open some of the images."""
    spread = np.unique(np.linspace(0, len(reading.items) - 1, LOOKED_AT).round().astype(int))
    sides, channels, annotations, unreadable = [], set(), [], {}
    for item in [reading.items[i] for i in spread]:
        try:
            image = read(item.read(), max_megapixels).image
            annotations.append(item.annotate(*image.shape[:2]))
        except (Unreadable, OSError) as error:
            unreadable[item.path] = str(error)
            continue
        sides.append(image.shape[:2])
        grey = image.ndim == 2 or (image.shape[2] == 3 and bool((image == image[:, :, :1]).all()))
        channels.add(1 if grey else image.shape[2])
    if not sides:
        first, why = next(iter(unreadable.items()))
        raise UserError(f"none of {len(unreadable)} images that were opened can be used; {first}: {why}")
    if reading.form in WHOLE_LABELS:
        annotations = [item.annotate(*sides[0]) for item in reading.items]
    return Facts(len(reading.items), np.array(sides), max(channels), annotations, unreadable)


def _choices(reading: Reading, facts: Facts, source: Path, params: Params) -> Iterator[Choice]:
    yield from _asked(reading, facts)
    yield from _source(reading, source)
    asked = {choice.key: choice.value for choice in _asked(reading, facts)}
    gives = REPRESENTATIONS[representation_of(asked["task.name"], asked["representation.name"])].gives
    yield from _split(reading, facts)
    yield from _pixels(facts, gives, asked["task.name"])
    yield from _learning(reading, facts, gives, params)


def _asked(reading: Reading, facts: Facts) -> Iterator[Choice]:
    """The task, and the score that says how well it is done."""
    first, goal = facts.annotations[0], ("at_least", 0.8)
    truth = representation = "auto"
    match first:
        case Annotation(labels=tuple()) if reading.changes.get("columns", {}).get("separator"):
            name, why = "multilabel", "an image has any number of classes"
        case Annotation(labels=tuple()) if any(len(a.labels or ()) != 1 for a in facts.annotations):
            name, why = "multilabel", "an image has any number of classes"
        case Annotation(labels=tuple()):
            classes = sorted({label for a in facts.annotations for label in a.labels or ()})
            name, why = "classification", f"{len(classes)} classes: {', '.join(classes[:6])}"
            if all(label.isdecimal() for label in classes):
                why += "; if these are grades: ordinal, and task.classes from the lowest to the highest"
        case Annotation(scalars=dict()):
            name, why = "regression", "images have numbers; say their units in task.units"
        case Annotation(points=dict()):
            name, why = "landmarks", f"{len(first.points or ())} named points"
        case Annotation(mask=tuple()):
            name, why = "segmentation", "images have masks"
        case Annotation(image=True):
            name, why, goal = "image", "images have an image beside them", ("at_least", 25.0)
        case _ if reading.form == "dots":
            name, why, truth, representation = "regression", "a dot a thing: they are counted", "count", "density"
        case _:
            name, why, goal = "instances", "single things are outlined", ("at_least", 0.5)
    if name == "regression":
        goal = ("at_most", _quarter(facts.annotations))
    yield Choice("task.name", name, why)
    yield Choice("task.truth", truth, "how many dots there are" if truth == "count" else "")
    yield Choice("task.score", next(iter(TASKS[name].SCORES)), "docs/reference/tasks.md has the others")
    if name == "segmentation":
        yield Choice("task.tolerance", 2.0, "a boundary within two pixels is right")
    yield Choice("task.classes", [])
    yield Choice("task.units", {})
    pairs = _mirrored(list(first.points or ()))
    yield Choice("task.flip_pairs", pairs, "their names are those of left and right" if pairs else "")
    yield Choice("representation.name", representation, "a blob a thing, summed" if representation == "density" else "")
    for key in ("at_least", "at_most"):
        placeholder = "a placeholder: what must be reached for the answer to be worth something to you?"
        yield Choice(f"objective.{key}", goal[1] if key == goal[0] else None, placeholder if key == goal[0] else "")


def _quarter(annotations: list[Annotation]) -> float:
    """A quarter of the error of always answering the median, over scalars or counts."""
    values = np.array([list(a.scalars.values()) if a.scalars else [len(a.shapes or ())] for a in annotations], float)
    error = float(np.abs(values - np.median(values, axis=0)).mean())
    return float(f"{error / 4:.2g}") or 1.0


def _mirrored(points: list[str]) -> list[list[str]]:
    """Pairs that change names in a mirror."""
    other = {name: re.sub(LEFT, RIGHT, name, flags=re.IGNORECASE) for name in points if LEFT in name.lower()}
    known = {name.lower(): name for name in points}
    return [[name, known[twin.lower()]] for name, twin in other.items() if twin.lower() in known]


def _source(reading: Reading, source: Path) -> Iterator[Choice]:
    named = re.sub(r"[^a-z0-9_-]+", "_", source.name.split(".")[0].lower()).strip("_-") or "images"
    yield Choice("ingest.name", named, "names data/splits/NAME.json")
    yield Choice("ingest.source", str(source))
    yield Choice("ingest.inside", reading.inside)
    yield Choice("ingest.form", reading.form, reading.why)
    columns = reading.changes.get("columns", {})
    plain = {"images": "", "targets": "", "values": {}} | {k: v for k, v in reading.changes.items() if k != "columns"}
    for key, value in plain.items():
        yield Choice(f"ingest.{key}", value, reading.reasons.get(key, ""))
    for key, value in columns.items():
        yield Choice(f"ingest.columns.{key}", value, reading.reasons.get(f"columns.{key}", ""))
    yield Choice("ingest.ignore", [])
    yield Choice("ingest.group", "")
    yield Choice("ingest.block", 1)


def _split(reading: Reading, facts: Facts) -> Iterator[Choice]:
    if reading.own_split:
        yield Choice("split.by", "source", "the source names train, val and test for every image")
    else:
        yield Choice("split.by", "hash", "the source names no split for every image")
    share = 0.2 if facts.count < FEW else 0.15
    why = f"of {facts.count} images; fewer say too little"
    yield Choice("split.validation", share, "" if reading.own_split else why)
    yield Choice("split.test", share, "" if reading.own_split else why)


def _pixels(facts: Facts, gives: str, task: str) -> Iterator[Choice]:
    """The working size."""
    middle = float(np.median(np.sqrt(facts.sides.prod(axis=1))))
    height, width = np.median(facts.sides, axis=0).round().astype(int)
    sizes = SIDES[gives]
    size = max([side for side in sizes if side <= middle] or sizes[:1])
    slim = float(np.median(facts.sides.max(axis=1) / facts.sides.min(axis=1)))
    tiled = task in ("segmentation", "image") and facts.sides.max() > size
    shapes = gives == "boxes" or slim >= SLIM or gives == "map" or task == "landmarks"
    fit, why = ("letterbox", "shapes are kept") if shapes else ("stretch", "the images are nearly square")
    if tiled:
        fit, why = "tile", f"images of up to {facts.sides.max()} pixels keep their scale in tiles"
    yield Choice("prepare.size", size, f"the middle image has {width}x{height}; two CPU cores train this in minutes")
    yield Choice("prepare.fit", fit, why)
    colour = {1: "the images are grey", 3: "the images are in colour"}
    yield Choice("prepare.channels", facts.channels, colour.get(facts.channels, "as the images have"))


def _learning(reading: Reading, facts: Facts, gives: str, params: Params) -> Iterator[Choice]:
    """Network and training: the simplest that is known to work first."""
    network, why = NETWORK[gives]
    yield Choice("network.name", network, f"{why}: a simple standard architecture first")
    yield Choice("network.encoder", "resnet18")
    yield Choice("network.weights", "none", "default: published weights, which help where images are few")
    training = sum(item.split == "train" for item in reading.items) if reading.own_split else round(0.65 * facts.count)
    batch = int(np.clip(2 ** round(math.log2(max(1, training / 12))), *BATCHES)) if gives != "boxes" else 2
    epochs = int(np.clip(math.ceil(STEPS * batch / max(1, training)), *EPOCHS))
    yield Choice("train.batch_size", batch, f"some {training} images to learn from; small sets need steps")
    yield Choice("train.epochs", epochs, f"some {epochs * math.ceil(training / batch)} steps")
    yield Choice("train.learning_rate", 0.001 if gives == "boxes" else 0.002)
    yield Choice("train.loss", "auto")
    yield Choice("tune.trials", 0, "search when the first run has been looked at")
    if gives == "boxes" and not any(shape.rle for a in facts.annotations for shape in a.shapes or ()):
        yield Choice("augment.rotation", 0.0, "a turned box is no longer tight")


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return nested


def _said(choices: list[Choice], found: list[Reading], facts: Facts, arguments: argparse.Namespace) -> Iterator[str]:
    chosen = found[0]
    yield f"{len(chosen.items)} images, read as {chosen.form}: {chosen.why}\n"
    for choice in choices:
        if choice.why:
            yield f"  {choice.key}: {choice.value}\n      {choice.why}"
    if len(found) > 1:
        yield "\nThe source could also be read as"
    for other in found[1:6]:
        yield f"  {other.form}, {len(other.items)} images, with --inside {other.inside or '.'}: {other.why}"
    yield "\nOnly you know"
    yield "  objective: what must be reached for the answer to be worth something?"
    if not chosen.changes.get("columns", {}).get("group"):
        yield "  ingest.group, ingest.block: which images belong together, of one patient, scene or film?"
    yield "  augment: is a mirrored, turned, brighter image still one of these? then say so"
    if reason := chosen.reasons.get("columns"):
        yield f"  ingest.columns: {reason}; is it needed?"
    yield from _rejected(chosen, facts)
    yield f"\nWritten to {arguments.output}, with the reasons beside the values. Read it, then"
    yield f"  mv {arguments.output} params.yaml && make repro"


def _rejected(chosen: Reading, facts: Facts) -> Iterator[str]:
    """Files that ingest will refuse."""
    if chosen.refused:
        first, share = chosen.refused[0], len(chosen.refused) / (len(chosen.refused) + len(chosen.items))
        told = f"{first.path}: {first.reason[:80]}"
        yield f"  ingest.max_rejected: {len(chosen.refused)} files ({share:.1%}) are refused, as {told}"
    if facts.unreadable:
        path, reason = next(iter(facts.unreadable.items()))
        opened = len(facts.unreadable) + len(facts.sides)
        yield f"  of {opened} images that were opened, {len(facts.unreadable)} cannot be used, as {path}: {reason}"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.configure", description=__doc__)
    parser.add_argument("source", type=Path, help="folder, zip, tar or npz")
    parser.add_argument("--inside", default="", help="folder or file inside it, where it holds several data sets")
    parser.add_argument("--output", type=Path, default=Path("params.proposed.yaml"), help="default: %(default)s")
    parser.add_argument("--replace", action="store_true", help="write over an existing --output")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
