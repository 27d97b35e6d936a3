"""Text catalogue of all augmentations with parameters, ranges and presets (`make augmentations`)."""

from typing import Any, get_args

from stages.augmentations.augmentation_interface import Augmentation, AugmentationData, Level
from stages.augmentations.augmentation_registry import AUGMENTATIONS
from stages.config.schema_base import Section
from stages.tasks.task_spec import TaskSpec

LEVELS: tuple[Level, ...] = get_args(Level)
SIZE = 224
EXAMPLE = AugmentationData(
    TaskSpec("classification", "class", "label", size=SIZE),
    {"mirror": 0.5, "upside_down": 1.0, "turn": 1.0},
    bones=True,
)
"""Example data: colour photos that are not symmetric under rotation and show articulated figures."""


def describe_augmentation(name: str, member: Augmentation) -> list[str]:
    """Return the lines that describe one augmentation."""
    doc = (member.amounts.__doc__ or "").strip()
    lines = [f"{name}: {doc}"]
    for amount, field in member.amounts.model_fields.items():
        lines.append(f"    {amount} (default {field.default:g}): {field.description}")
    presets = [f"{level} {_short(member.preset(level, EXAMPLE))}" for level in LEVELS]
    lines.append(f"    presets: {'; '.join(presets)}")
    if member.breaks:
        lines.append(f"    can remove the correlation of the label with {', '.join(member.breaks)}")
    return lines


def _short(amounts: Section | None) -> str:
    values: dict[str, Any] = amounts.model_dump() if amounts else {}
    return ", ".join(f"{key} {value:.3g}" for key, value in values.items()) or "-"


def main() -> None:
    """Print the catalogue."""
    print(f"Augmentations in order of application, with the presets for colour photos of {SIZE} x {SIZE} pixels.")
    print("A preset with - does not apply the augmentation.")
    for name, member in AUGMENTATIONS.items():
        print("\n" + "\n".join(describe_augmentation(name, member)))


if __name__ == "__main__":
    main()
