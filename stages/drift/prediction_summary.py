"""Summary of one prediction: a class or a few numbers, whose distribution over images is compared."""

from collections.abc import Mapping
from typing import Any

from stages.tasks.instances import CONFIDENT
from stages.tasks.task_spec import TaskSpec

MAX_NUMBERS = 20
"""Maximum number of labels, scalars or classes that are compared; the first ones are used."""
Value = float | str
"""A number, or the name of a class."""


def summarize_prediction(record: Mapping[str, Any], spec: TaskSpec) -> dict[str, Value]:
    """Return the summary of a prediction by name; empty for predicted images, which have none.

    Args:
        record: prediction as `stages.tasks` describes it in `Task.record`, which `predict` writes as JSON.
        spec: task specification of the model.
    """
    match spec.task:
        case "classification" | "ordinal":
            return {"class": str(record["label"]), "confidence": max(record["probabilities"].values())}
        case "multilabel":
            chances = {f"probability of {label}": record["probabilities"][label] for label in spec.labels[:MAX_NUMBERS]}
            return {"number of labels": float(len(record["labels"])), **chances}
        case "regression":
            return {name: float(record[name]) for name in spec.scalars[:MAX_NUMBERS]}
        case "landmarks":
            found = [float(record[point]["confidence"]) for point in spec.points]
            return {"mean confidence": sum(found) / len(found)}
        case "segmentation":
            return {f"area of {name}": float(record[name]) for name in list(record)[:MAX_NUMBERS]}
        case "instances":
            return _summarize_instances(record)
        case _:
            return {}


def _summarize_instances(record: Mapping[str, Any]) -> dict[str, Value]:
    """Return the number of instances of each class, and the mean score of the confident ones if there are any."""
    counts = {f"number of {name}": float(record["counts"][name]) for name in list(record["counts"])[:MAX_NUMBERS]}
    sure = [instance["score"] for instance in record["things"] if instance["score"] >= CONFIDENT]
    return {**counts, **({"mean score": sum(sure) / len(sure)} if sure else {})}
