"""Params of the task and its evaluation: task, representation, objective and scores."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.config.schema_base import Section, Text, Unit


class Task(Section):
    """Prediction of the model, and the score that measures it."""

    name: Literal[
        "classification", "multilabel", "ordinal", "regression", "landmarks", "segmentation", "image", "instances"
    ] = "classification"
    """classification: one class per image; multilabel: any number of classes; ordinal: a grade; regression: numbers;
    landmarks: named points; segmentation: a per-pixel class; image: another image; instances: every single object."""
    target: Literal["auto", "label", "labels", "scalars", "count", "area", "points", "mask", "shapes", "image"] = "auto"
    """Part of the labels to predict. auto: determined by the task; count or area (of objects or of a mask): for
    regression."""
    score: Text = "balanced_accuracy"
    """Score that selects the best epoch and trial, and is compared with the objective; docs/reference/tasks.md lists
    the scores of each task."""
    classes: tuple[Text, ...] = ()
    """Grades from lowest to highest, or the classes in the desired order; empty: those of the data in natural order."""
    flip_pairs: tuple[tuple[Text, Text], ...] = ()
    """Points that swap names in a mirrored image, as [[left_eye, right_eye]]."""
    skeleton: tuple[tuple[Text, Text], ...] = ()
    """Pairs of points joined by a part, as [[neck, nose]], from the trunk outwards; empty: joined by proximity. In a
    tree the longest part at the root stays fixed, the others may rotate (`augment.amounts.articulated`)."""
    units: dict[Text, Text] = Field(default_factory=dict)
    """Unit of each predicted number, as {weight: kg}; for a count, the key is its class. Shown with predictions and
    scores."""
    tolerance: Annotated[float, Field(gt=0)] = 0.05
    """Error that still counts as correct. landmarks: share of the image's diagonal; segmentation: pixels from a
    boundary."""


class Representation(Section):
    """Encoding of the target that the network is trained on."""

    name: Literal[
        "auto",
        "class",
        "classes",
        "cumulative",
        "scalar",
        "density",
        "coordinates",
        "heatmap",
        "disc",
        "mask",
        "image",
        "boxes",
        "watershed",
    ] = "auto"
    """auto: the first of the task. ordinal: cumulative, class; regression: scalar, density, mask; landmarks: heatmap,
    coordinates, disc; instances: boxes, watershed; the other tasks have one."""
    radius: Annotated[float, Field(gt=0), Unit("working pixels")] = 2.0
    """Radius of a disc, or standard deviation of the blob of a heatmap or a density."""


class Objective(Section):
    """Target value of `task.score` on validation data: one of the two keys is set, the other is null."""

    at_least: float | None = 0.95
    """Value to reach, where a higher score is better. Null by default if `at_most` is set."""
    at_most: float | None = None
    """Value not to exceed, where a lower score is better."""

    @model_validator(mode="before")
    @classmethod
    def _at_most_replaces_the_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("at_most") is not None and "at_least" not in values:
            return {**values, "at_least": None}
        return values

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Objective":
        if (self.at_least is None) == (self.at_most is None):
            found = (
                "both are null"
                if self.at_least is None
                else f"at_least is {self.at_least:g} and at_most is {self.at_most:g}"
            )
            raise ValueError(f"{found}; set one of at_least and at_most, and the other to null")
        return self


class Evaluate(Section):
    """Scores on validation data."""

    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Number of bootstrap resamples from which an interval is computed."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the intervals."""
    calibration_bins: Annotated[int, Field(ge=2, le=100)] = 10
    """Bins of the reliability diagram."""
    test_time: Literal["none", "auto"] = "none"
    """auto: the outputs of the exported network are averaged over the image and its changes (mirrored, upside down,
    turned by 90 degrees) under which the images look alike, as measured by `prepare`. Each change costs as much time as
    the network. For classes, grades, masks, watersheds and densities."""
    temperature: bool = True
    """Whether class probabilities are calibrated by one temperature, fitted on validation data (Guo et al. 2017), if
    this lowers the log loss of images that did not fit it. It changes no predicted class. For classification, and for
    ordinal as cumulative."""
    thresholds: bool = False
    """multilabel: whether the probabilities of each class are shifted so that 0.5 is the threshold with the highest F1
    on validation data, if this raises the macro F1 of images that did not fit it."""
    worst_images: Annotated[int, Field(ge=0, le=500), Unit("images")] = 24
    """Number of images with the largest errors to show."""
