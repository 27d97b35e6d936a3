"""Interface of a task, which is implemented by a module of functions: ground truth, decoding, scores, drawing.

Axes: R resamples (row 0: the original data), N images, P parts (classes, grades, points or scalars).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from stages.core.shapes import Array, Bool, Float, Integer, UInt8
from stages.dataset.annotations import Annotation
from stages.tasks.task_spec import TaskSpec

SCALAR = "scalar"


@dataclass(frozen=True)
class Score:
    """Properties of a score."""

    better: Literal["higher", "lower"]
    unit: str = ""
    """Unit; empty if there is none, `SCALAR` if it is the unit of the scalars."""
    share: bool = True
    """True if the score is in 0..1."""
    requires: str = ""
    """Labels among the scored images without which the score is undefined; empty if it is always defined."""


@dataclass(frozen=True)
class Parts:
    """Scores of each part: class, grade, point or scalar."""

    kind: str
    """Kind of the parts: class, grade, point, scalar, or image if there are no parts."""
    names: tuple[str, ...]
    support: tuple[int, ...]
    """Number of images or objects of each part in the ground truth."""
    member_NP: Bool[Array, "N P"]
    """Images that contribute to each part; the number of their groups determines the interval of a score of 0 or 1."""
    scores: dict[str, Float[Array, "R P"]]
    """Scores by name; NaN if undefined. The table is sorted by the first one."""
    rests_on: dict[str, Bool[Array, "N P"]] = field(default_factory=dict)
    """Images that contribute to a score, by name of the score, if they differ from `member_NP`."""
    better: dict[str, str] = field(default_factory=dict)
    """`lower` by name of the score, for scores of which lower values are better."""
    share: bool = True
    """True if all scores are in 0..1."""


class Task(Protocol):
    """Interface of a task. No function requires torch; all work at the size of the original image."""

    SCORES: dict[str, Score]
    """Scores that `task.score` may select; `configure` proposes the first."""
    TRUTHS: tuple[str, ...]
    """Supported targets. The first of which the images have labels is the default, except for `count` and `area`."""
    DRAWN: bool
    """True if truths and predictions can be drawn over the image."""

    def truth(self, annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Any:
        """Return the ground truth of one image.

        Args:
            annotation: labels of the image.
            target: decoded mask or target image, if the annotation names one.
            height: height of the image in pixels.
            width: width of the image in pixels.
            spec: specification of the task.

        Raises:
            ValueError: the annotation does not contain the ground truth.
        """

    def decode(self, outputs: dict[str, Array], spec: TaskSpec) -> Any:
        """Return the prediction for one image from the outputs of the graph, which have no batch axis."""

    def as_prediction(self, truth: Any, spec: TaskSpec) -> Any:
        """Return the prediction that equals a truth, with full confidence."""

    def scores(
        self, truths: Sequence[Any], predictions: Sequence[Any], weight_RN: Float[Array, "R N"], spec: TaskSpec
    ) -> dict[str, Float[Array, " R"]]:
        """Return all `SCORES` under all bootstrap weights.

        Args:
            truths: ground truths of N images.
            predictions: predictions of the same images.
            weight_RN: bootstrap weights; R resamples.
            spec: specification of the task.
        """

    def parts(
        self, truths: Sequence[Any], predictions: Sequence[Any], weight_RN: Float[Array, "R N"], spec: TaskSpec
    ) -> Parts:
        """Return the scores of each class, grade, point or scalar.

        Args:
            truths: ground truths of N images.
            predictions: predictions of the same images.
            weight_RN: bootstrap weights; R resamples.
            spec: specification of the task.
        """

    def error(self, truth: Any, prediction: Any, spec: TaskSpec) -> float:
        """Return the error of one prediction (0 is perfect), by which the worst predictions are sorted.

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

    def draw(self, image: Integer[Array, "H W *C"], value: Any, spec: TaskSpec) -> UInt8[Array, "H W 3"]:
        """Return the image with a truth or a prediction drawn over it.

        Args:
            image: pixels, uint8 or uint16.
            value: truth or prediction.
            spec: specification of the task.
        """

    def record(self, prediction: Any, spec: TaskSpec) -> dict[str, Any]:
        """Return the prediction as values for JSON; predicted images and segmentation masks are separate files."""

    def details(self, truths: Sequence[Any], predictions: Sequence[Any], spec: TaskSpec, bins: int) -> dict[str, Any]:
        """Return results for the report that only this task has, JSON-ready and without intervals.

        Args:
            truths: ground truths of N images.
            predictions: predictions of the same images.
            spec: specification of the task.
            bins: number of bins of calibration curves.
        """
