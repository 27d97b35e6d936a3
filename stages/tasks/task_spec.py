"""What is asked of every image of a data set: kept with the pixels, the weights and the ONNX file."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from stages.config.aliases import renamed_metadata


@dataclass(frozen=True)
class TaskSpec:
    """The task as this data set has it; JSON-ready through `as_json` and `outline_of`."""

    task: str
    """Key of `TASKS`: the question and its scores."""
    representation: str
    """Key of `REPRESENTATIONS`: in what form the network is taught the answer."""
    target: str
    """Part of the annotation to predict: label, labels, scalars, count, area, points, mask, shapes or image."""
    labels: tuple[str, ...] = ()
    """Classes in the order of the outputs; of grades, the lowest first; of masks, index 0 first."""
    points: tuple[str, ...] = ()
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """Points that change names when an image is mirrored."""
    scalars: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    """Scalar: its unit, for people."""
    masks: bool = False
    """Instances have masks, not boxes alone."""
    channels: int = 3
    depth: int = 8
    """Bits of a value of the images: 8 or 16."""
    size: int = 224
    """Working height and width, pixels."""
    fit: str = "stretch"
    """stretch: shape not kept; letterbox: shape kept, black below or to the right; tile: cut, not resized."""
    overlap: float = 0.0
    """Of neighbouring tiles, share of `size`."""
    radius: float = 0.0
    """Working pixels: deviation of a heatmap's or a density's blob, radius of a disc."""
    tolerance: float = 0.0
    """What counts as right: landmarks, share of the image's diagonal; segmentation, pixels off a boundary."""
    mean: tuple[float, ...] = ()
    """Of each scalar over the training images; the network learns (value - mean) / deviation."""
    deviation: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def task_spec_of(values: dict[str, Any]) -> TaskSpec:
    """Read what `as_json` gave, with or without other keys beside."""
    values, _ = renamed_metadata(values)
    known: dict[str, Any] = {f.name: values[f.name] for f in fields(TaskSpec) if f.name in values}
    pairs = tuple((a, b) for a, b in known.pop("flip_pairs", ()))
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    return TaskSpec(**plain, flip_pairs=pairs)
