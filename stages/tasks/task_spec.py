"""Task specification of a data set, stored with the pixels, the weights and the ONNX file."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from stages.config.aliases import renamed_metadata


@dataclass(frozen=True)
class TaskSpec:
    """Specification of the task of a data set; `as_json` and `task_spec_of` convert it."""

    task: str
    """Key of `TASKS`."""
    representation: str
    """Key of `REPRESENTATIONS`: format of the training target."""
    target: str
    """Part of the annotation to predict: label, labels, scalars, count, area, points, mask, shapes or image."""
    labels: tuple[str, ...] = ()
    """Classes in the order of the outputs: grades from lowest to highest, classes of masks by index."""
    points: tuple[str, ...] = ()
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of points that are exchanged when an image is mirrored."""
    scalars: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    """Units by scalar, for display."""
    masks: bool = False
    """True if instances have masks; for counts and areas, True if the labels are label images rather than objects."""
    mask_values: tuple[int, ...] = ()
    """Value of each class in predicted masks, that of the source; empty: its index."""
    channels: int = 3
    depth: int = 8
    """Bit depth of the images: 8 or 16."""
    white: int = 0
    """Level that is scaled to 1; 0: the largest of the bit depth."""
    size: int = 224
    """Working height and width, pixels."""
    fit: str = "stretch"
    """stretch: resized to a square; letterbox: resized with black padding; tile: cut into tiles, not resized."""
    overlap: float = 0.0
    """Minimum overlap of neighbouring tiles, as a share of `size`."""
    radius: float = 0.0
    """Standard deviation of a heatmap or density, or radius of a disc, in working pixels."""
    tolerance: float = 0.0
    """Tolerance of scores: a share of the diagonal for landmarks, or pixels for the boundaries of segmentation."""
    mean: tuple[float, ...] = ()
    """Mean of each scalar over the training images."""
    deviation: tuple[float, ...] = ()
    """Standard deviation of each scalar over the training images; the target is (value - mean) / deviation."""

    @property
    def white_level(self) -> int:
        """Level of the pixels that is scaled to 1."""
        return self.white or (65535 if self.depth == 16 else 255)

    def as_json(self) -> dict[str, Any]:
        """Return the specification as plain values."""
        return asdict(self)


def task_spec_of(values: dict[str, Any]) -> TaskSpec:
    """Return the specification from the values of `as_json`; old keys are renamed, unknown keys are ignored."""
    values, _ = renamed_metadata(values)
    known: dict[str, Any] = {f.name: values[f.name] for f in fields(TaskSpec) if f.name in values}
    pairs = tuple((a, b) for a, b in known.pop("flip_pairs", ()))
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    return TaskSpec(**plain, flip_pairs=pairs)
