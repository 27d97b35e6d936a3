"""Augmentation policy: parameters from a preset and from params.yaml, and their application to a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from stages.augmentations.augmentation_interface import Augmentation, AugmentationData, Level, Scene, Tensor
from stages.augmentations.augmentation_registry import AUGMENTATIONS
from stages.augmentations.rng import BatchRandom
from stages.augmentations.warp import Warp
from stages.config.schema_base import Section
from stages.config.schema_training import Augment
from stages.core.errors import UserError, did_you_mean
from stages.core.shapes import Float

MOSTLY = 0.5
OFF = ("off", "Off", "OFF", False, None)
LEVELS: dict[str, Level | None] = {
    "none": None,
    "light": "light",
    "standard": "standard",
    "strong": "strong",
    "auto": "standard",
}
"""Level of each preset; None for the preset without augmentations."""


@dataclass(frozen=True)
class AugmentationChoice:
    """Decision on one augmentation, with its reason."""

    name: str
    amounts: Section | None
    """Parameters; None if the augmentation is not applied."""
    why: str


def choose_augmentations(augment: Augment, data: AugmentationData) -> list[AugmentationChoice]:
    """Decide for every augmentation whether it is applied, with which parameters and why.

    Raises:
        UserError: unknown names, parameters out of range, or augmentations that the data do not permit; the message
            lists all of them.
    """
    problems = [
        f"augment.amounts.{name}: unknown augmentation; {did_you_mean(name, AUGMENTATIONS)}"
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


def _chosen(name: str, member: Augmentation, augment: Augment, data: AugmentationData) -> AugmentationChoice:
    level = LEVELS[augment.preset]
    preset = member.preset(level, data) if level else None
    if name in augment.amounts:
        given = augment.amounts[name]
        if given in OFF:
            return AugmentationChoice(name, None, "switched off in params.yaml")
        amounts = _amounts(name, member, given, preset or member.preset("standard", data))
        if amounts is not None and (reason := member.impossible(data)):
            raise ValueError(f"augment.amounts.{name}: {_shown(given)}{reason}; use off")
        doubt = f", but {reason}" if (reason := member.unwise(data)) else ""
        return AugmentationChoice(name, amounts, f"set in params.yaml{doubt}")
    if preset is None:
        return AugmentationChoice(name, None, f"not in the preset {augment.preset}")
    if reason := member.impossible(data) or member.unwise(data):
        return AugmentationChoice(name, None, reason)
    return AugmentationChoice(name, preset, f"in the preset {augment.preset}")


def _amounts(name: str, member: Augmentation, given: Any, usual: Section | None) -> Section:
    """Return validated parameters.

    `true` selects the usual values, a number sets the first parameter, and a mapping sets parameters by name.
    """
    fields = list(member.amounts.model_fields)
    base: dict[str, Any] = usual.model_dump() if usual else {}
    named = {str(key): value for key, value in given.items()} if isinstance(given, Mapping) else None
    own = {} if given is True else {fields[0]: given} if named is None else named
    try:
        return member.amounts.model_validate(base | own)
    except ValidationError as error:
        raise ValueError("\n".join(_describe_error(name, fields, one) for one in error.errors())) from None


def _shown(value: Any) -> str:
    """Return a value as the beginning of a message; empty for true and for mappings."""
    return "" if value is True or isinstance(value, Mapping) else f"{value!r}: "


def _describe_error(name: str, fields: list[str], error: Any) -> str:
    key = ".".join(["augment.amounts", name, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown parameter; {did_you_mean(str(error['loc'][-1]), fields)}"
    if error["type"] == "missing":
        return f"{key}: missing; the parameters of {name} are {', '.join(fields)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {_shown(error['input'])}{message[0].lower()}{message[1:]}"


def resolve_padding(outside: str, data: AugmentationData) -> str:
    """Return the padding mode used where an augmented image shows positions outside the original.

    For `auto`: `reflection` for masks and images, because their target is reflected too; otherwise `border`, since a
    mirrored object or point would have no label, and a black edge would be foreign to images with another background;
    `zeros` if most of the outermost pixels are black.
    """
    if outside != "auto":
        return outside
    if data.spec.representation in ("mask", "image"):
        return "reflection"
    return "zeros" if data.black_border_share > MOSTLY else "border"


class Policy:
    """Random augmentation of a batch with one resampling and one linear colour matrix per image."""

    def __init__(self, amounts: Mapping[str, Any], *, size: int, channels: int, outside: str = "zeros") -> None:
        """Create a policy.

        Args:
            amounts: parameters by augmentation name, as sections or in the format of params.yaml.
            size: working size S, pixels.
            channels: channels of the images.
            outside: padding mode: `zeros`, `border` or `reflection`.

        Raises:
            ValueError: a name is unknown or a parameter is invalid.
        """
        self.size, self.channels, self.outside = size, channels, outside
        self.amounts: dict[str, Section] = {}
        for name, given in amounts.items():
            if name not in AUGMENTATIONS:
                raise ValueError(f"{name}: unknown augmentation; {did_you_mean(name, AUGMENTATIONS)}")
            if isinstance(given, Section):
                self.amounts[name] = given
            elif given not in OFF:
                self.amounts[name] = _amounts(name, AUGMENTATIONS[name], given, None)
        self.members = [(name, member) for name, member in AUGMENTATIONS.items() if name in self.amounts]
        self.mixes = any(member.mix for _, member in self.members)

    def __call__(
        self,
        image_BCSS: Float[Tensor, "B C S S"],
        draws: BatchRandom,
        bone_BK7: Float[Tensor, "B K 7"] | None = None,
    ) -> tuple[Float[Tensor, "B C S S"], Warp | None]:
        """Return augmented copies of a batch, and the warp of their pixels.

        Args:
            image_BCSS: images in 0..1; not modified.
            draws: random numbers of the batch.
            bone_BK7: bones in the format of `stages.articulation.skeleton`; required by `articulated`.

        Returns:
            Images in 0..1, not yet mixed (`kept`), and the warp, or None if the policy has no geometric augmentation.
        """
        warp = self._warp(draws, image_BCSS.device, bone_BK7)
        changed_BCSS = image_BCSS.clone() if warp is None else warp.sample(image_BCSS, "bilinear")
        changed_BCSS = self._levels(changed_BCSS, draws)
        for name, member in self.members:
            if member.pixels:
                stream = draws.stream(name, image_BCSS.device)
                changed_BCSS = member.pixels(self.amounts[name], stream, changed_BCSS).clamp_(0, 1)
        return changed_BCSS, warp

    def kept(self, draws: BatchRandom, device: torch.device) -> Float[Tensor, "B S S"]:
        """Return the weight of each original image in mixup and CutMix; S is 1 if it is uniform."""
        kept = torch.ones((len(draws), 1, 1), device=device)
        for name, member in self.members:
            if member.mix:
                kept = kept * member.mix(self.amounts[name], draws.stream(name, device), self.size)
        return kept

    def _warp(self, draws: BatchRandom, device: torch.device, bone_BK7: Float[Tensor, "B K 7"] | None) -> Warp | None:
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
        for name, member in reversed(fields):  # the map goes from new to old positions: the last change comes first
            assert member.field and member.spans
            amounts, stream, field = self.amounts[name], draws.stream(name, device), member.field
            warp = warp.displaced(member.spans(amounts, self.size), lambda at: field(amounts, stream, at, scene))  # noqa: B023
        return warp

    def _levels(self, image_BCSS: Float[Tensor, "B C S S"], draws: BatchRandom) -> Float[Tensor, "B C S S"]:
        """Apply all linear colour changes as one matrix; in place if one factor applies to all channels."""
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
