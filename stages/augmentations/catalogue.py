"""Every augmentation with its amounts, ranges and presets, as text: `make augmentations`."""

from typing import Any, get_args

from stages.augmentations.augmentation_interface import Augmentation, Data, Level
from stages.augmentations.augmentation_registry import AUGMENTATIONS
from stages.config.schema_base import Section
from stages.tasks.task_spec import TaskSpec

LEVELS: tuple[Level, ...] = get_args(Level)
SIZE = 224
EXAMPLE = Data(
    TaskSpec("classification", "class", "label", size=SIZE),
    {"mirror": 0.5, "upside_down": 1.0, "turn": 1.0},
    bones=True,
)
"""Colour photos with an up and a down, and figures with limbs in them."""


def described(name: str, member: Augmentation) -> list[str]:
    """A few lines about one."""
    doc = (member.amounts.__doc__ or "").strip()
    lines = [f"{name}: {doc}"]
    for amount, field in member.amounts.model_fields.items():
        lines.append(f"    {amount} (usually {field.default:g}): {field.description}")
    presets = [f"{level} {_short(member.preset(level, EXAMPLE))}" for level in LEVELS]
    lines.append(f"    presets: {'; '.join(presets)}")
    if member.breaks:
        lines.append(f"    breaks what {', '.join(member.breaks)} say of the label")
    return lines


def _short(amounts: Section | None) -> str:
    values: dict[str, Any] = amounts.model_dump() if amounts else {}
    return ", ".join(f"{key} {value:.3g}" for key, value in values.items()) or "-"


def main() -> None:
    """Print all of them."""
    print(f"In the order in which they are done; presets for colour photos of {SIZE} pixels.")
    for name, member in AUGMENTATIONS.items():
        print("\n" + "\n".join(described(name, member)))


if __name__ == "__main__":
    main()
