"""Interface of a task, which a module of functions implements: ground truth, decoding, scores, drawing.

Axes: R resamples (row 0: the original data), N images, P parts (classes, points or scalars).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from stages.dataset.annotations import Annotation
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
SCALAR = "scalar"


@dataclass(frozen=True)
class Score:
    """A score of predictions."""

    better: Literal["higher", "lower"]
    unit: str = ""
    """Unit; empty if there is none, `SCALAR` if it is the unit of the scalars."""
    share: bool = True
    """True if the score is in 0..1."""


@dataclass(frozen=True)
class Parts:
    """Scores of each part: class, point or scalar."""

    kind: str
    """Kind of a part: class, point, scalar or grade."""
    names: tuple[str, ...]
    support: tuple[int, ...]
    """Number of images or objects of each part in the ground truth."""
    member_NP: Array
    """Boolean [N, P]: images that contribute to each part; their groups determine the interval."""
    scores: dict[str, Array]
    """Scores [R, P] by name; NaN if undefined. The first one sorts the table."""
    rests_on: dict[str, Array] = field(default_factory=dict)
    """Boolean [N, P] by score, if a score uses other images than `member_NP`."""
    better: dict[str, str] = field(default_factory=dict)
    """`lower` by score, if lower is better."""
    share: bool = True
    """True if all scores are in 0..1."""


class Task(Protocol):
    """A task. All functions use numpy only, at the size of the original image."""

    SCORES: dict[str, Score]
    """Scores that `task.score` may select; the first is the default."""
    TRUTHS: tuple[str, ...]
    """Parts of an annotation that can be the target; the first is the default."""
    DRAWN: bool
    """True if truths and predictions can be drawn over the image."""

    def truth(self, annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Any:
        """Return the ground truth of one image; raise ValueError if the annotation does not contain it.

        Args:
            annotation: labels of the image.
            target: decoded mask or target image, if the annotation names one.
            height: height of the image in pixels.
            width: width of the image in pixels.
            spec: specification of the task.
        """

    def decode(self, outputs: dict[str, Array], spec: TaskSpec) -> Any:
        """Return the prediction from the outputs of the graph for one image, without batch axis."""

    def scores(
        self, truths: Sequence[Any], predictions: Sequence[Any], weight_RN: Array, spec: TaskSpec
    ) -> dict[str, Array]:
        """Return all `SCORES` under all bootstrap weights, each [R].

        Args:
            truths: ground truths of N images.
            predictions: predictions of the same images.
            weight_RN: bootstrap weights; R resamples.
            spec: specification of the task.
        """

    def parts(self, truths: Sequence[Any], predictions: Sequence[Any], weight_RN: Array, spec: TaskSpec) -> Parts:
        """Return the scores of each class, point or scalar.

        Args:
            truths: ground truths of N images.
            predictions: predictions of the same images.
            weight_RN: bootstrap weights; R resamples.
            spec: specification of the task.
        """

    def error(self, truth: Any, prediction: Any, spec: TaskSpec) -> float:
        """Return the error of one prediction: 0 is perfect; it sorts the worst predictions.

        Args:
            truth: ground truth of one image.
            prediction: prediction of the same image.
            spec: specification of the task.
        """

    def wrong(self, truth: Any, prediction: Any, spec: TaskSpec) -> bool:
        """Return True if the prediction may be listed as an error.

        Args:
            truth: ground truth of one image.
            prediction: prediction of the same image.
            spec: specification of the task.
        """

    def describe(self, value: Any, spec: TaskSpec) -> str:
        """Return a short caption of a truth or a prediction."""

    def draw(self, image: Array, value: Any, spec: TaskSpec) -> Array:
        """Return the image, uint8 [H, W] or [H, W, 3], with a truth or a prediction drawn over it, uint8 [H, W, 3].

        Args:
            image: pixels, uint8 [H, W] or [H, W, 3].
            value: truth or prediction.
            spec: specification of the task.
        """

    def record(self, prediction: Any, spec: TaskSpec) -> dict[str, Any]:
        """Return the prediction as JSON, without masks and images, which are separate files."""

    def details(self, truths: Sequence[Any], predictions: Sequence[Any], spec: TaskSpec, bins: int) -> dict[str, Any]:
        """Return figures that only this task has, JSON-ready and without intervals, for the report.

        Args:
            truths: ground truths of N images.
            predictions: predictions of the same images.
            spec: specification of the task.
            bins: number of bins of calibration curves.
        """
