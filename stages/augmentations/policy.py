"""What is done to training images: amounts out of a preset and out of params, and how a batch goes through them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from stages.augmentations.augmentation_interface import Augmentation, Data, Level, Scene, Tensor
from stages.augmentations.augmentation_registry import AUGMENTATIONS
from stages.augmentations.rng import Draws
from stages.augmentations.warp import Warp
from stages.config.schema_base import Section
from stages.config.schema_training import Augment
from stages.core.errors import UserError, did_you_mean

MOSTLY = 0.5
OFF = ("off", "Off", "OFF", False, None)
LEVELS: dict[str, Level | None] = {
    "none": None,
    "light": "light",
    "standard": "standard",
    "strong": "strong",
    "auto": "standard",
}
"""What a preset asks of each augmentation."""


@dataclass(frozen=True)
class Chosen:
    """One augmentation as a policy has it."""

    name: str
    amounts: Section | None
    """None: it is not done."""
    why: str


def choose(augment: Augment, data: Data) -> list[Chosen]:
    """What `augment` means for such data: every augmentation, done or not, and why.

    Raises:
        UserError: with all mistakes: an unknown name, an amount out of range, what cannot be done to the data.
    """
    problems = [
        f"augment.amounts.{name}: unknown; {did_you_mean(name, AUGMENTATIONS)}"
        for name in augment.amounts
        if name not in AUGMENTATIONS
    ]
    chosen = []
    for name, member in AUGMENTATIONS.items():
        try:
            chosen.append(_chosen(name, member, augment, data))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return chosen


def _chosen(name: str, member: Augmentation, augment: Augment, data: Data) -> Chosen:
    level = LEVELS[augment.preset]
    preset = member.preset(level, data) if level else None
    if name in augment.amounts:
        given = augment.amounts[name]
        if given in OFF:
            return Chosen(name, None, "params.yaml switches it off")
        amounts = _amounts(name, member, given, preset or member.preset("standard", data))
        if amounts is not None and (reason := member.impossible(data)):
            raise ValueError(f"augment.amounts.{name}: {given!r}: {reason}")
        return Chosen(name, amounts, "params.yaml says so")
    if preset is None:
        return Chosen(name, None, f"not in the preset {augment.preset}")
    if reason := member.impossible(data) or member.unwise(data):
        return Chosen(name, None, reason)
    return Chosen(name, preset, f"in the preset {augment.preset}")


def _amounts(name: str, member: Augmentation, given: Any, usual: Section | None) -> Section:
    """`true`: the usual ones; a number: the first one; a mapping: these, the others as usual."""
    fields = list(member.amounts.model_fields)
    base: dict[str, Any] = usual.model_dump() if usual else {}
    named = {str(key): value for key, value in given.items()} if isinstance(given, Mapping) else None
    own = {} if given is True else {fields[0]: given} if named is None else named
    try:
        return member.amounts.model_validate(base | own)
    except ValidationError as error:
        raise ValueError("\n".join(_mistake(name, fields, one) for one in error.errors())) from None


def _mistake(name: str, fields: list[str], error: Any) -> str:
    key = ".".join(["augment.amounts", name, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown; {did_you_mean(str(error['loc'][-1]), fields)}"
    if error["type"] == "missing":
        return f"{key}: missing; {name} has {', '.join(fields)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {error['input']!r}: {message[0].lower()}{message[1:]}"


def beyond_the_edge(outside: str, data: Data) -> str:
    """What `augment.padding: auto` means.

    Points and things that a mirror repeats would go without their labels, hence black there; the edge continued where
    one thing is said of the whole image, or black where the edge is; a mirror where the label can be mirrored with it.
    """
    if outside != "auto":
        return outside
    match data.spec.representation:
        case "class" | "classes" | "cumulative" | "scalar":
            return "zeros" if data.black_border_share > MOSTLY else "border"
        case "mask" | "image":
            return "reflection"
        case _:
            return "zeros"


class Policy:
    """Random changes of a batch: its pixels move once, whatever moves them, and their levels change once."""

    def __init__(self, amounts: Mapping[str, Any], *, size: int, channels: int, outside: str = "zeros") -> None:
        """Amounts by name, as a section or as params.yaml gives them.

        Raises:
            ValueError: a name or an amount that there is not.
        """
        self.size, self.channels, self.outside = size, channels, outside
        self.amounts: dict[str, Section] = {}
        for name, given in amounts.items():
            if name not in AUGMENTATIONS:
                raise ValueError(f"{name}: unknown; {did_you_mean(name, AUGMENTATIONS)}")
            if isinstance(given, Section):
                self.amounts[name] = given
            elif given not in OFF:
                self.amounts[name] = _amounts(name, AUGMENTATIONS[name], given, None)
        self.members = [(name, member) for name, member in AUGMENTATIONS.items() if name in self.amounts]
        self.mixes = any(member.mix for _, member in self.members)

    def __call__(self, image_BCSS: Tensor, draws: Draws, bone_BK7: Tensor | None = None) -> tuple[Tensor, Warp | None]:
        """Float [B, C, S, S] in 0..1 to the same, changed, and how its pixels moved; None where none did.

        The given images are left as they are.
        """
        warp = self._warp(draws, image_BCSS.device, bone_BK7)
        changed_BCSS = image_BCSS.clone() if warp is None else warp.sample(image_BCSS, "bilinear")
        changed_BCSS = self._levels(changed_BCSS, draws)
        for name, member in self.members:
            if member.pixels:
                stream = draws.stream(name, image_BCSS.device)
                changed_BCSS = member.pixels(self.amounts[name], stream, changed_BCSS).clamp_(0, 1)
        return changed_BCSS, warp

    def kept(self, draws: Draws, device: torch.device) -> Tensor:
        """[B, S, S] or [B, 1, 1]: how much of each image is kept, where others are mixed in."""
        kept = torch.ones((len(draws), 1, 1), device=device)
        for name, member in self.members:
            if member.mix:
                kept = kept * member.mix(self.amounts[name], draws.stream(name, device), self.size)
        return kept

    def _warp(self, draws: Draws, device: torch.device, bone_BK7: Tensor | None) -> Warp | None:
        matrices = [
            member.matrix(self.amounts[name], draws.stream(name, device), self.size)
            for name, member in self.members
            if member.matrix
        ]
        fields = [(name, member) for name, member in self.members if member.field]
        if not matrices and not fields:
            return None
        matrix_B33 = torch.eye(3, device=device).repeat(len(draws), 1, 1)
        for one_B33 in matrices:
            matrix_B33 = one_B33 @ matrix_B33
        warp, scene = Warp(matrix_B33, self.size, self.outside), Scene(self.size, bone_BK7, matrix_B33)
        for name, member in reversed(fields):  # the last one acts on the new image, and so comes first on the way back
            assert member.field and member.spans
            amounts, stream, field = self.amounts[name], draws.stream(name, device), member.field
            warp = warp.displaced(member.spans(amounts, self.size), lambda at: field(amounts, stream, at, scene))  # noqa: B023
        return warp

    def _levels(self, image_BCSS: Tensor, draws: Draws) -> Tensor:
        """In place where no channel takes from another."""
        gain, offset_B1 = None, None
        for name, member in self.members:
            if member.levels:
                one, shift_B1 = member.levels(self.amounts[name], draws.stream(name, image_BCSS.device), self.channels)
                if gain is None or offset_B1 is None:
                    gain, offset_B1 = one, shift_B1
                else:
                    offset_B1 = (one.sum(dim=2) * offset_B1) + shift_B1
                    gain = one * gain if 1 in (one.shape[2], gain.shape[2]) else one @ gain
        if gain is None or offset_B1 is None:
            return image_BCSS
        if gain.shape[2] == 1:
            return image_BCSS.mul_(gain[..., None]).add_(offset_B1[..., None, None]).clamp_(0, 1)
        mixed_BCX = torch.bmm(gain, image_BCSS.flatten(2)).add_(offset_B1[..., None])
        return mixed_BCX.view_as(image_BCSS).clamp_(0, 1)
