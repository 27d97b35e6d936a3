"""What the JSON holds, for the documentation at /docs: a model of pydantic for each task."""

from typing import Any

from pydantic import BaseModel, Field


class Failed(BaseModel):
    """Why there is no answer."""

    error: str


FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failed, "description": why}
    for status, why in {
        400: "The request makes no sense",
        401: "A key is needed",
        404: "There is no such model",
        413: "Too many bytes, pixels or images",
        422: "The image cannot be read",
        429: "The queue is full; Retry-After says when to try again",
        503: "No answer in time",
    }.items()
}
"""By status, for the documentation."""


class Classified(BaseModel):
    """One class."""

    label: str
    confidence: float = Field(ge=0, le=1)
    probabilities: dict[str, float]


class Graded(BaseModel):
    """One grade."""

    label: str
    probabilities: dict[str, float]


class Tagged(BaseModel):
    """Any number of classes."""

    labels: list[str]
    probabilities: dict[str, float]


class Point(BaseModel):
    """Pixels of the image as it was sent; the middle of its first pixel is 0, 0."""

    x: float
    y: float
    confidence: float


class Thing(BaseModel):
    """One instance, as COCO has it."""

    label: str
    score: float
    bbox: list[float] = Field(description="x, y, width, height, pixels")
    segmentation: dict[str, Any] | None = Field(
        default=None, description="size: height, width; counts: runs, column by column"
    )


class Things(BaseModel):
    """Counts of the sure ones, and all of them."""

    counts: dict[str, int]
    things: list[Thing]


ANSWERS: dict[str, Any] = {
    "classification": Classified,
    "ordinal": Graded,
    "multilabel": Tagged,
    "regression": dict[str, float],
    "landmarks": dict[str, Point],
    "segmentation": dict[str, float],
    "instances": Things,
    "image": dict[str, Any],
}
"""By task; of a segmentation the share of each class; of an image nothing, which comes as `picture`."""


def answered(task: str) -> type[BaseModel]:
    """The model of one answer of a task."""
    fields: dict[str, Any] = {
        "task": str,
        "width": int,
        "height": int,
        "answer": ANSWERS[task],
        "drawing": str | None,
        "picture": str | None,
        "model": dict[str, str],
    }
    namespace: dict[str, Any] = {
        "__annotations__": fields,
        "drawing": None,
        "picture": None,
        "__doc__": "An image's answer.",
    }
    return type("Answered", (BaseModel,), namespace)


class Several(BaseModel):
    """Of several images, in their order; each with `name` and either what one answer holds or `error`."""

    answers: list[dict[str, Any]]


def body_of(kinds: dict[str, Any]) -> dict[str, Any]:
    """A body that FastAPI does not read itself, as OpenAPI describes it."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": one} for kind, one in kinds.items()}}}


def tensors(channels: int, kind: str) -> dict[str, Any]:
    """The schema of a request of the Open Inference Protocol, for images of so many channels of a datatype."""
    size = {"type": "integer", "minimum": 1}
    properties = {
        "name": {"const": "image"},
        "datatype": {"const": kind},
        "shape": {
            "type": "array",
            "prefixItems": [size, size, size, {"const": channels}],
            "minItems": 4,
            "maxItems": 4,
        },
        "data": {
            "type": "array",
            "description": "whole numbers, nested or one after the other; or binary behind the JSON",
        },
    }
    one = {"type": "object", "required": ["name", "datatype", "shape"], "properties": properties}
    pixel = {"name": "image", "datatype": kind, "shape": [1, 1, 1, channels], "data": [0] * channels}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": one}},
        "example": {"inputs": [pixel]},
    }
