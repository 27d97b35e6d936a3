"""Build the task specification of a data set from its params and labels."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from stages.config.combinations import (
    class_list_problem,
    fit_problem,
    score_problem,
    target_problem,
    unit_problem,
)
from stages.core.errors import UserError, did_you_mean
from stages.core.natural_sort import natural_sort_key
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import Annotation
from stages.dataset.combined_classes import BACKGROUND, JOINT
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS, representation_of
from stages.tasks.task_spec import TaskSpec

KIND = {
    "label": "labels",
    "labels": "labels",
    "scalars": "scalars",
    "points": "points",
    "mask": "mask",
    "shapes": "shapes",
    "image": "image",
}
"""Kind of annotation that each target requires; count and area accept masks or shapes."""
MAX_LISTED = 10  # classes that a message lists


def build_task_spec(
    task: dict[str, Any], representation: dict[str, Any], prepare: dict[str, Any], facts: dict[str, Any]
) -> TaskSpec:
    """Build and check the task specification of a data set.

    Args:
        task: section `task` of the params.
        representation: section `representation` of the params.
        prepare: section `prepare` of the params.
        facts: `annotations` of all images; `depth`, their bit depth; and optionally `mask_values`, the value of each
            class in the masks of the source, and `combinations`, the labels of pixels in objects that overlap.

    Raises:
        UserError: the labels do not contain the target, or the params are inconsistent.
    """
    annotations: list[Annotation] = facts["annotations"]
    name = representation_of(task["name"], representation["name"])
    _refuse(fit_problem(task["name"], name, prepare["fit"]))
    spec = replace(
        scoring_spec(task, annotations),
        representation=name,
        channels=prepare["channels"],
        depth=facts["depth"],
        size=prepare["size"],
        fit=prepare["fit"],
        overlap=prepare["overlap"],
        radius=representation["radius"],
    )
    if spec.task == "segmentation" and spec.target == "shapes" and facts.get("combinations"):
        spec = replace(spec, labels=_with_combinations(spec.labels, facts["combinations"]))
    spec = replace(spec, mask_values=_mask_values(facts.get("mask_values", {}), spec))
    _report_ignored_masks(spec, annotations)
    if name == "watershed" and len(spec.labels) > 1:
        raise UserError(
            "representation.name: watershed supports only one class, but the objects have the classes "
            f"{list_names(spec.labels, MAX_LISTED)}; use boxes, or label the objects with one class"
        )
    return spec


def scoring_spec(task: dict[str, Any], annotations: list[Annotation]) -> TaskSpec:
    """Return the specification of the section `task` and all labels, as far as ground truth and scores depend on it.

    Raises:
        UserError: the labels do not contain the target, or the section is inconsistent.
    """
    score_of(task["name"], task["score"])
    spec = TaskSpec(
        task=task["name"],
        representation=representation_of(task["name"], "auto"),
        target=_truth(task, annotations[0]),
        tolerance=task["tolerance"],
        flip_pairs=tuple(tuple(pair) for pair in task["flip_pairs"]),
    )
    spec = _with_names(spec, task["classes"], annotations)
    return replace(spec, units=_units(task["units"], spec))


def score_of(task: str, name: str) -> str:
    """Return the score that `task.score` selects.

    Raises:
        UserError: the task has no such score.
    """
    _refuse(score_problem(task, name))
    return name


def training_spec(spec: TaskSpec) -> TaskSpec:
    """Return the specification of the training target; it differs if numbers are trained through objects or masks."""
    taught = REPRESENTATIONS[spec.representation].taught
    if not taught or taught == spec.task:
        return spec
    if taught == "instances":
        return replace(spec, task=taught, labels=spec.scalars, masks=False)
    return replace(spec, task=taught, target="mask" if spec.masks else "shapes")


def _truth(task: dict[str, Any], annotation: Annotation) -> str:
    known = TASKS[task["name"]].TRUTHS
    held = [t for t in known if t not in KIND or getattr(annotation, KIND[t]) not in (None, False)]
    found = ", ".join(_kinds(annotation)) or "none"
    if task["target"] == "auto":
        natural = [t for t in held if t in KIND]
        if natural:
            return natural[0]
        required = " or ".join(dict.fromkeys(KIND[t] for t in known if t in KIND))
        derived = " or ".join(t for t in held if t not in KIND) if _objects(annotation) else ""
        raise UserError(
            f"task.name: {task['name']} requires annotations of the kind {required}; the source has {found}; check "
            f"ingest.format and ingest.columns{derived and f', or set task.target to {derived}'}"
        )
    _refuse(target_problem(task["name"], task["target"]))
    if task["target"] not in held or (task["target"] not in KIND and not _objects(annotation)):
        required = KIND.get(task["target"], "mask or shapes")
        raise UserError(
            f"task.target: {task['target']} requires annotations of the kind {required}; the source has {found}; "
            "check ingest.format"
        )
    return str(task["target"])


def _objects(annotation: Annotation) -> bool:
    return annotation.mask is not None or annotation.shapes is not None


def _kinds(annotation: Annotation) -> list[str]:
    return [kind for kind in dict.fromkeys(KIND.values()) if getattr(annotation, kind) not in (None, False)]


def _with_names(spec: TaskSpec, configured: Iterable[str], annotations: list[Annotation]) -> TaskSpec:
    """Return the specification with the classes, in the configured order, the points and the scalars of the labels."""
    first = annotations[0]
    match spec.target:
        case "label" | "labels":
            found = {label for a in annotations for label in a.labels or ()}
            return replace(spec, labels=_ordered(found, configured))
        case "points":
            points = tuple(first.points or {})
            unknown = [p for pair in spec.flip_pairs for p in pair if p not in points]
            if unknown:
                raise UserError(f"task.flip_pairs: {unknown[0]} is not a point; {did_you_mean(unknown[0], points)}")
            return replace(spec, points=points)
        case "scalars":
            return replace(spec, scalars=tuple(first.scalars or {}))
        case "count" | "area":
            labels = _of_masks(annotations, ())
            if combined := [label for label in labels if JOINT in label]:
                raise UserError(
                    f"task.target: {spec.target} requires masks of one class per pixel, but the masks contain the "
                    f"combination {combined[0]}; use the task segmentation, which predicts the area of each class"
                )
            asked = tuple(name for name in labels if name != BACKGROUND) if BACKGROUND in labels else labels[1:]
            return replace(spec, labels=labels, scalars=asked, masks=first.mask is not None)
        case "mask" | "shapes" if spec.task == "segmentation":
            return replace(spec, labels=_of_masks(annotations, configured))
        case "shapes":
            found = {shape.label for a in annotations for shape in a.shapes or ()}
            return replace(spec, labels=_ordered(found, configured), masks=not _bare_boxes(annotations))
        case _:
            return spec


def _bare_boxes(annotations: list[Annotation]) -> int:
    """Return the number of objects with a box but no mask."""
    return sum(shape.rle is None for a in annotations for shape in a.shapes or ())


def _report_ignored_masks(spec: TaskSpec, annotations: list[Annotation]) -> None:
    bare = _bare_boxes(annotations) if spec.task == "instances" else 0
    if bare and any(shape.rle for a in annotations for shape in a.shapes or ()):
        objects = f"{quantity(bare, 'object')} {'has' if bare == 1 else 'have'}"
        print(f"prepare: {objects} a box but no mask, so training and scores use only boxes", flush=True)


def _units(units: dict[str, str], spec: TaskSpec) -> dict[str, str]:
    _refuse(unit_problem(spec.task, units, spec.scalars))
    return units


def _refuse(problem: str) -> None:
    """Raise UserError if there is a problem."""
    if problem:
        raise UserError(problem)


def _mask_values(values: dict[str, int], spec: TaskSpec) -> tuple[int, ...]:
    """Return the value of each class in the masks of the source, by index; empty unless all are known."""
    if spec.task != "segmentation" or not set(spec.labels) <= set(values):
        return ()
    return tuple(values[label] for label in spec.labels)


def _of_masks(annotations: list[Annotation], configured: Iterable[str]) -> tuple[str, ...]:
    """Return the classes of masks, in the configured order or by index, or those of shapes after the background."""
    if annotations[0].mask is not None:
        names = annotations[0].mask
        return _ordered(set(names), configured) if configured else names
    found = {shape.label for a in annotations for shape in a.shapes or ()} - {BACKGROUND}
    return (BACKGROUND, *_ordered(found, [w for w in configured if w != BACKGROUND]))


def _with_combinations(labels: tuple[str, ...], found: Iterable[str]) -> tuple[str, ...]:
    """Return the labels that occur alone, in their order, and then the combinations."""
    found = tuple(found)
    return (*(label for label in labels if label in found), *(label for label in found if JOINT in label))


def _ordered(found: set[str], configured: Iterable[str]) -> tuple[str, ...]:
    """Return names in the configured order, or in natural order (`2` before `10`) if none is configured.

    Raises:
        UserError: the configured names are not exactly those found, each once.
    """
    configured = tuple(configured)
    if configured:
        _refuse(class_list_problem(configured))
        if set(configured) != found:
            missing, unknown = sorted(found - set(configured)), sorted(set(configured) - found)
            faults = [f"lacks {list_names(missing, MAX_LISTED)}"] if missing else []
            kind = "not a class" if len(unknown) == 1 else "not classes"
            faults += [f"contains {list_names(unknown, MAX_LISTED)}, {kind} of the data"] if unknown else []
            raise UserError(f"task.classes: the list {' and '.join(faults)}; list exactly the classes of the data")
        return configured
    return tuple(sorted(found, key=natural_sort_key))
