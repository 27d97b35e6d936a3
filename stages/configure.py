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
from stages.frame.editing import edited, nested, one_line
from stages.frame.params import load
from stages.frame.sections import Params
from stages.images.annotations import Annotation
from stages.images.files import Files, files_of
from stages.images.frames import frames
from stages.images.reading import SUFFIXES, Unreadable, read
from stages.images.sources import FORMS
from stages.images.sources.columns import NO_COLUMNS
from stages.images.sources.detection import PLAIN, Reading, readings
from stages.images.sources.item import NOT_DATA
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS, representation_of

LOOKED_AT = 64  # images that are opened
MOST_TOLD = 5
FEW, SHARE, SHARE_OF_FEW = 300, 0.15, 0.2  # of fewer images a larger share validates
GOAL = {"image": 25.0, "instances": 0.5}
"""Of the task's first score, to begin with; 0.8 elsewhere."""
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
    """Of all images where that is known without opening them, else of those that were opened."""
    unusable: dict[str, str]
    """Path: why."""


def main(argv: list[str] | None = None) -> None:
    """Write the proposal and say why; an existing file is left alone unless asked."""
    arguments = _arguments(argv)
    try:
        params, text = load(Path("params.yaml")), Path("params.yaml").read_text(encoding="utf-8")
        if arguments.output.exists() and not arguments.replace:
            raise UserError(f"{arguments.output} exists; name another --output, or say --replace")
        with ExitStack() as stack:
            files, _ = files_of(arguments.source, stack)
            found, failures = readings(files, params.ingest)
            found = [one for one in found if _is_wanted(one, arguments)]
            chosen, facts = _first_usable(found, params, failures, arguments)
            left_out = _left_out(files, chosen)
        choices = _choices(chosen, facts, arguments.source, params)
        values = nested({choice.key: choice.value for choice in choices})
        proposed = edited(text, [values], "what is proposed", {c.key: c.why for c in choices if c.why})
        try:
            arguments.output.write_text(proposed, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--output {arguments.output} cannot be written: {error.strerror}") from None
    except UserError as error:
        sys.exit(f"error: {error}")
    rivals = [one for one in found if one is not chosen]
    said = [*_proposed(chosen, choices), *_rivals(rivals), *_asks(chosen), *_refused(chosen, facts, left_out)]
    print("\n".join(one_line(line) for line in said))
    print(f"\nWritten to {arguments.output}, with the reasons beside the values. Read it, then")
    print(f"  mv {arguments.output} params.yaml && make repro")


def _is_wanted(reading: Reading, arguments: argparse.Namespace) -> bool:
    if arguments.form and reading.form != arguments.form:
        return False
    if arguments.inside == ".":
        return reading.inside == ""
    return not arguments.inside or f"{reading.inside}/".startswith(f"{arguments.inside.strip('/')}/")


def _first_usable(
    found: list[Reading], params: Params, failures: list[str], arguments: argparse.Namespace
) -> tuple[Reading, Facts]:
    """The first reading of which images can be used, and what was seen of them."""
    for reading in found:
        try:
            return reading, _looked(reading, params.ingest.max_megapixels)
        except UserError as error:
            failures.append(f"{reading.form} in {reading.inside or 'the source'}: {error}")
    where = f"{arguments.source}/{arguments.inside}".rstrip("/")
    reasons = "".join(f"\n  {one_line(failure)}" for failure in failures[:MOST_TOLD])
    raise UserError(
        f"{where} holds no labelled images in a form that is known: a folder per class, a table of paths, masks or "
        "other files beside images, COCO, Pascal VOC, YOLO, DeepLabCut, npz; docs/guides/your-images.md shows each"
        + (f". What came near:{reasons}" if reasons else "")
    )


def _looked(reading: Reading, max_megapixels: float) -> Facts:
    """Open some of the images, and what belongs to them."""
    spread = np.unique(np.linspace(0, len(reading.items) - 1, LOOKED_AT).round().astype(int))
    sides, channels, annotations, unusable = [], set(), [], {}
    for item in [reading.items[i] for i in spread]:
        try:
            image = read(item.read(), max_megapixels).image
            annotation = item.annotate(*image.shape[:2])
            if item.target is not None and read(item.target()).image.shape[:2] != image.shape[:2]:
                raise Unreadable("what belongs to it has another size")
        except (Unreadable, OSError) as error:
            unusable[item.path] = str(error)
            continue
        annotations.append(annotation)
        sides.append(image.shape[:2])
        grey = image.ndim == 2 or (image.shape[2] == 3 and bool((image == image[:, :, :1]).all()))
        channels.add(1 if grey else image.shape[2])
    if not sides:
        first, why = next(iter(unusable.items()))
        raise UserError(f"none of {len(unusable)} images that were opened can be used; {first}: {why}")
    if reading.form in WHOLE_LABELS:
        annotations = [item.annotate(*sides[0]) for item in reading.items]
    return Facts(len(reading.items), np.array(sides), max(channels), annotations, unusable)


def _choices(reading: Reading, facts: Facts, source: Path, params: Params) -> list[Choice]:
    asked = list(_asked(reading, facts))
    value = {choice.key: choice.value for choice in asked}
    gives = REPRESENTATIONS[representation_of(value["task.name"], value["representation.name"])].gives
    pixels = list(_pixels(facts, gives, value["task.name"], params))
    size = {choice.key: choice.value for choice in pixels}
    return [
        *asked,
        *_source(reading, source, params),
        *_split(reading, facts),
        *pixels,
        *_learning(reading, facts, gives, _tiles(facts, size["prepare.size"], size["prepare.fit"], params)),
        Choice("gate.waive", {}, "what was waived before was of other data" if params.gate.waive else ""),
    ]


def _asked(reading: Reading, facts: Facts) -> Iterator[Choice]:
    """The task, and the score that says how well it is done."""
    first = next((one for one in facts.annotations if one.points), facts.annotations[0])
    name, why = _task(reading, facts, first)
    counted = name == "regression" and first.scalars is None
    goal = ("at_most", _quarter(facts.annotations)) if name == "regression" else ("at_least", GOAL.get(name, 0.8))
    yield Choice("task.name", name, why)
    yield Choice("task.truth", "count" if counted else "auto", "how many dots there are" if counted else "")
    yield Choice("task.score", next(iter(TASKS[name].SCORES)), "docs/reference/tasks.md has the others")
    near = {"segmentation": (2.0, "pixels off a boundary"), "landmarks": (0.05, "share of the diagonal")}
    tolerance, unit = near.get(name, (0.05, ""))
    yield Choice("task.tolerance", tolerance, f"what is right nevertheless, {unit}; a placeholder" if unit else "")
    yield Choice("task.classes", [])
    yield Choice("task.units", {})
    pairs = _mirrored(list(first.points or ()))
    yield Choice("task.flip_pairs", pairs, "their names are those of left and right" if pairs else "")
    yield Choice("task.skeleton", [])
    yield Choice("representation.name", "density" if counted else "auto", "a blob a thing, summed" if counted else "")
    for key in ("at_least", "at_most"):
        placeholder = "a placeholder: what must be reached for the answer to be worth something to you?"
        yield Choice(f"objective.{key}", goal[1] if key == goal[0] else None, placeholder if key == goal[0] else "")


def _task(reading: Reading, facts: Facts, first: Annotation) -> tuple[str, str]:
    """What can be asked of images with such labels, and why."""
    if first.labels is not None:
        several = reading.changes.get("columns", {}).get("separator") or any(
            len(one.labels or ()) != 1 for one in facts.annotations
        )
        if several:
            return "multilabel", "an image has any number of classes"
        classes = sorted({label for one in facts.annotations for label in one.labels or ()})
        grades = "; if these are grades: ordinal, and task.classes from the lowest to the highest"
        told = f"{len(classes)} classes: {', '.join(classes[:6])}{' ...' if len(classes) > 6 else ''}"
        return "classification", told + (grades if all(label.isdecimal() for label in classes) else "")
    if first.scalars is not None:
        return "regression", "images have numbers; say their units in task.units"
    if first.points is not None:
        return "landmarks", f"{len(first.points)} named points"
    if first.mask is not None:
        return "segmentation", "images have masks"
    if first.image:
        return "image", "images have an image beside them"
    if reading.form == "dots":
        return "regression", "a dot a thing: they are counted"
    return "instances", "single things are outlined"


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


def _source(reading: Reading, source: Path, params: Params) -> Iterator[Choice]:
    named = re.sub(r"[^a-z0-9_-]+", "_", source.name.split(".")[0].lower()).strip("_-") or "images"
    yield Choice("ingest.name", named, "names data/splits/NAME.json")
    yield Choice("ingest.source", str(source))
    yield Choice("ingest.inside", reading.inside)
    yield Choice("ingest.form", reading.form, reading.why)
    for key, value in (PLAIN | reading.changes).items():
        if key != "columns":
            yield Choice(f"ingest.{key}", value, reading.reasons.get(key, ""))
    for key, value in (NO_COLUMNS | reading.changes.get("columns", {})).items():
        yield Choice(f"ingest.columns.{key}", value, reading.reasons.get(f"columns.{key}", ""))
    share = len(reading.refused) / (len(reading.refused) + len(reading.items))
    pictures = [r for r in reading.refused if Path(r.path).suffix.lower() in SUFFIXES]
    if share > params.ingest.max_rejected and not pictures:
        why = f"{len(reading.refused)} files are no images, as {reading.refused[0].path}"
        yield Choice("ingest.max_rejected", math.ceil(100 * share) / 100, why)


def _split(reading: Reading, facts: Facts) -> Iterator[Choice]:
    known = sorted({item.split for item in reading.items if item.split})
    if reading.own_split:
        yield Choice("split.by", "source", "the source names train, val and test for every image")
    elif known:
        yield Choice("split.by", "hash", f"the source names {', '.join(known)} alone: the images are divided anew")
    else:
        yield Choice("split.by", "hash", "the source names no split")
    few = facts.count < FEW
    for part in ("validation", "test"):
        share = SHARE_OF_FEW if few else SHARE
        yield Choice(
            f"split.{part}", share, "" if reading.own_split or not few else f"some {share * facts.count:.0f} images"
        )


def _pixels(facts: Facts, gives: str, task: str, params: Params) -> Iterator[Choice]:
    """The working size."""
    middle = float(np.median(np.sqrt(facts.sides.prod(axis=1))))
    height, width = np.median(facts.sides, axis=0).round().astype(int)
    sizes = SIDES[gives]
    size = max([side for side in sizes if side <= middle] or sizes[:1])
    slim = float(np.median(facts.sides.max(axis=1) / facts.sides.min(axis=1)))
    shapes = gives != "vector" or slim >= SLIM or task == "landmarks"
    fit, why = ("letterbox", "shapes are kept") if shapes else ("stretch", "the images are nearly square")
    if task in ("segmentation", "image") and facts.sides.max() > size:
        fit, why = "tile", f"images of up to {facts.sides.max()} pixels keep their scale in tiles"
    yield Choice(
        "prepare.size", size, f"the middle image has {width}x{height}; more shows finer things and takes longer"
    )
    yield Choice("prepare.fit", fit, why)
    colour = {1: "the images are grey", 3: "the images are in colour"}
    yield Choice("prepare.parts", "auto")
    yield Choice("prepare.channels", facts.channels, colour.get(facts.channels, "as the images have"))


def _tiles(facts: Facts, size: int, fit: str, params: Params) -> float:
    """Working images that one image becomes, on average."""
    overlap = params.prepare.overlap
    return float(np.mean([len(frames(int(h), int(w), fit, size, overlap)) for h, w in facts.sides]))


def _learning(reading: Reading, facts: Facts, gives: str, tiles: float) -> Iterator[Choice]:
    """Network and training: the simplest that is known to work first."""
    network, why = NETWORK[gives]
    yield Choice("network.name", network, f"{why}: a simple standard architecture first")
    yield Choice("network.encoder", "resnet18")
    yield Choice("network.weights", "none", "default: published weights, which help where images are few")
    share = 1 - 2 * (SHARE_OF_FEW if facts.count < FEW else SHARE)
    images = sum(item.split == "train" for item in reading.items) if reading.own_split else share * facts.count
    training = max(1.0, images * tiles)
    batch = int(np.clip(2 ** round(math.log2(max(1, training / 12))), *BATCHES)) if gives != "boxes" else 2
    epochs = int(np.clip(math.ceil(STEPS * batch / training), *EPOCHS))
    what = "tiles" if tiles > 1 else "images"
    yield Choice("train.batch_size", batch, f"some {training:.0f} {what} to learn from; small sets need steps")
    yield Choice("train.epochs", epochs, f"some {epochs * math.ceil(training / batch)} steps")
    yield Choice("train.learning_rate", 0.001 if gives == "boxes" else 0.002)
    yield Choice("train.loss", "auto")
    yield Choice("train.class_weights", "none")
    yield Choice("tune.trials", 0, "search when the first run has been looked at")
    yield Choice("augment.preset", "auto", "what suits task and images; the report says what that is, and why")
    yield Choice("augment.outside", "auto")
    yield Choice("augment.amounts", {})


def _proposed(chosen: Reading, choices: list[Choice]) -> Iterator[str]:
    yield f"{len(chosen.items)} images, read as {chosen.form}: {chosen.why}"
    for choice in choices:
        if choice.why:
            yield f"  {choice.key}: {choice.value}"
            yield f"      {choice.why}"


def _rivals(rivals: list[Reading]) -> Iterator[str]:
    if rivals:
        yield "The source could also be read as"
    for other in rivals[:MOST_TOLD]:
        yield f"  --inside {other.inside or '.'} --form {other.form}: {len(other.items)} images; {other.why}"


def _asks(chosen: Reading) -> Iterator[str]:
    yield "Only you know"
    yield "  objective: what must be reached for the answer to be worth something?"
    if not chosen.changes.get("columns", {}).get("group"):
        yield "  ingest.group, ingest.block: which images belong together, of one patient, scene or film?"
    yield "  augment: is what the report shows under `What training sees` still right, each with its label?"
    if reason := chosen.reasons.get("columns"):
        yield f"  ingest.columns: {reason}; is it needed?"


def _refused(chosen: Reading, facts: Facts, left_out: list[str]) -> Iterator[str]:
    """Files that ingest will refuse, or not see."""
    if chosen.refused or facts.unusable or left_out:
        yield "Not read"
    if left_out:
        yield f"  {len(left_out)} images lie elsewhere, as {left_out[0]}"
    if chosen.refused:
        first, share = chosen.refused[0], len(chosen.refused) / (len(chosen.refused) + len(chosen.items))
        yield f"  {len(chosen.refused)} files ({share:.1%}) are refused, as {first.path}: {first.reason[:80]}"
    if facts.unusable:
        path, reason = next(iter(facts.unusable.items()))
        opened = len(facts.unusable) + len(facts.sides)
        yield f"  of {opened} images that were opened {len(facts.unusable)} cannot be used, as {path}: {reason}"


def _left_out(files: Files, chosen: Reading) -> list[str]:
    """Images of the source that the reading gives no meaning to."""
    folder = chosen.inside if chosen.inside not in files else chosen.inside.rpartition("/")[0]
    used = {f"{folder}/{item.path}".removeprefix("/") for item in chosen.items} | chosen.targets
    used |= {f"{folder}/{one.path}".removeprefix("/") for one in chosen.refused} | {item.path for item in chosen.items}
    images = (path for path in files if Path(path).suffix.lower() in SUFFIXES and not NOT_DATA.search(path))
    return [path for path in images if path not in used]


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.configure", description=__doc__)
    parser.add_argument("source", type=Path, help="folder, zip, tar or npz")
    parser.add_argument("--inside", default="", help="folder or file inside it, where it holds several data sets")
    parser.add_argument("--form", default="", choices=["", *FORMS], help="how the labels are written")
    parser.add_argument("--output", type=Path, default=Path("params.proposed.yaml"), help="default: %(default)s")
    parser.add_argument("--replace", action="store_true", help="write over an existing --output")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
