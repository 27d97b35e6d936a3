"""Schemas of requests and responses for the OpenAPI documentation."""

from typing import Any

from pydantic import BaseModel, Field


class ErrorResponse(BaseModel):
    """Reason of an error."""

    error: str


FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": why}
    for status, why in {
        400: "Malformed request",
        401: "API key required",
        404: "Unknown model",
        413: "Too many bytes, pixels or images",
        422: "The image cannot be read",
        429: "The queue is full; try again after Retry-After seconds",
        503: "No response within the time limit; try again after Retry-After seconds",
    }.items()
}
"""Error responses by status."""


class ClassPrediction(BaseModel):
    """Predicted class."""

    label: str
    confidence: float = Field(ge=0, le=1)
    probabilities: dict[str, float]


class GradePrediction(BaseModel):
    """Predicted grade."""

    label: str
    probabilities: dict[str, float]


class MultiLabelPrediction(BaseModel):
    """Predicted classes, any number."""

    labels: list[str]
    probabilities: dict[str, float]


class PointPrediction(BaseModel):
    """Predicted point, in pixels of the original image; the centre of its first pixel is 0, 0."""

    x: float
    y: float
    confidence: float


class InstancePrediction(BaseModel):
    """Predicted instance in the format of COCO."""

    label: str
    score: float
    bbox: list[float] = Field(description="x, y, width, height, pixels")
    segmentation: dict[str, Any] | None = Field(
        default=None, description="size: height, width; counts: run lengths, column by column"
    )


class InstancePredictions(BaseModel):
    """All predicted instances, and the number of confident ones by class."""

    counts: dict[str, int]
    things: list[InstancePrediction]


PREDICTIONS: dict[str, Any] = {
    "classification": ClassPrediction,
    "ordinal": GradePrediction,
    "multilabel": MultiLabelPrediction,
    "regression": dict[str, float],
    "landmarks": dict[str, PointPrediction],
    "segmentation": dict[str, float],
    "instances": InstancePredictions,
    "image": dict[str, Any],
}
"""Schema by task. A segmentation has the area share of each class except for the background; an image is returned as
`picture` only."""


def response_model(task: str) -> type[BaseModel]:
    """Return the schema of the response to one image."""
    fields: dict[str, Any] = {
        "task": str,
        "width": int,
        "height": int,
        "answer": PREDICTIONS[task],
        "drawing": str | None,
        "picture": str | None,
        "model": dict[str, str],
    }
    namespace: dict[str, Any] = {
        "__annotations__": fields,
        "drawing": None,
        "picture": None,
        "__doc__": "Prediction of an image.",
    }
    return type("PredictionResponse", (BaseModel,), namespace)


class BatchResponse(BaseModel):
    """Responses to several images in their order; each has `name` and either a prediction or `error`."""

    answers: list[dict[str, Any]]


BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "bytes of an image file as base64, also with the prefix of a data URI (data:image/jpeg;base64,)",
}
"""Schema of an image in JSON."""


def request_body(kinds: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that FastAPI does not parse itself."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in kinds.items()}}}


def tensor_schema(channels: int, kind: str) -> dict[str, Any]:
    """Return the schema of a request of the Open Inference Protocol for images with this datatype and channels."""
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
            "description": "integers, nested or flat; or binary data after the JSON",
        },
    }
    tensor = {"type": "object", "required": ["name", "datatype", "shape"], "properties": properties}
    pixel = {"name": "image", "datatype": kind, "shape": [1, 1, 1, channels], "data": [0] * channels}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": tensor}},
        "example": {"inputs": [pixel]},
    }
