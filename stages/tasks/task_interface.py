"""What every task offers: the question, its truth, its answer and its scores. A module of functions fulfils it.

Axes: R resamples (row 0: the data as they are), N images, P parts (classes, points or scalars).
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
    """A figure by which answers are judged."""

    better: Literal["higher", "lower"]
    unit: str = ""
    """Empty where it has none; `SCALAR` where it is that of the scalars."""
    share: bool = True
    """Lies in 0..1."""


@dataclass(frozen=True)
class Parts:
    """Scores of each class, point or scalar."""

    kind: str
    """What a part is: class, point, scalar, grade."""
    names: tuple[str, ...]
    support: tuple[int, ...]
    """How many images or things of each part the truth holds."""
    member_NP: Array
    """Boolean: which images say something of which part; the groups among them bound the interval."""
    scores: dict[str, Array]
    """Score: [R, P]; NaN where it is undefined. The first one sorts the table."""
    rests_on: dict[str, Array] = field(default_factory=dict)
    """Score: boolean [N, P], where it rests on other images than `member_NP`."""
    better: dict[str, str] = field(default_factory=dict)
    """Score: lower, where lower is better."""
    share: bool = True
    """All of them lie in 0..1."""


class Task(Protocol):
    """One question to an image. All functions are numpy only, and work at the size of the original image."""

    SCORES: dict[str, Score]
    """What `task.score` may name; the first is the default."""
    TRUTHS: tuple[str, ...]
    """What of an annotation can be its truth, the natural one first."""
    DRAWN: bool
    """Whether truth and answer can be seen when drawn over the image."""

    def truth(self, annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Any:
        """The truth of one image. Raises ValueError, in words, where the annotation does not hold it."""

    def decode(self, outputs: dict[str, Array], spec: TaskSpec) -> Any:
        """The answer out of the ONNX graph's outputs for one image, without batch axis."""

    def scores(
        self, truths: Sequence[Any], answers: Sequence[Any], weight_RN: Array, spec: TaskSpec
    ) -> dict[str, Array]:
        """Every one of `SCORES` under all weights (how often each image counts): name to [R]."""

    def parts(self, truths: Sequence[Any], answers: Sequence[Any], weight_RN: Array, spec: TaskSpec) -> Parts:
        """Scores by class, point or scalar."""

    def error(self, truth: Any, answer: Any, spec: TaskSpec) -> float:
        """How wrong one answer is: 0 flawless, larger is worse; what sorts the worst first."""

    def wrong(self, truth: Any, answer: Any, spec: TaskSpec) -> bool:
        """Whether it is an error worth a look: another class, or any difference where answers are never exact."""

    def says(self, thing: Any, spec: TaskSpec) -> str:
        """A truth or an answer in a few words, as a caption."""

    def draw(self, image: Array, thing: Any, spec: TaskSpec) -> Array:
        """uint8 [H, W, 3]: the image (uint8 [H, W] or [H, W, 3]) with a truth or an answer drawn over it."""

    def record(self, answer: Any, spec: TaskSpec) -> dict[str, Any]:
        """The answer JSON-ready, as `predict` writes it; without masks and images, which become files."""

    def details(self, truths: Sequence[Any], answers: Sequence[Any], spec: TaskSpec, bins: int) -> dict[str, Any]:
        """Figures that only this task has, for the report: JSON-ready, without intervals."""
