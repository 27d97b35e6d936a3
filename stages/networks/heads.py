"""What stands behind a network in the ONNX graph: raw outputs to the answer, in the pixels of the original image.

Axes: B images, K classes, P points, S scalars or working size, H and W of the original image.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from stages.preprocessing.resize import letterboxed
from stages.tasks.task_spec import TaskSpec

Head = Callable[[torch.Tensor, int, int, TaskSpec], torch.Tensor]
"""(raw, H, W, outline) -> the graph's output; all images of a call have one original size."""


def _class(raw_BK: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    return raw_BK.softmax(dim=1)


def _classes(raw_BK: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    return raw_BK.sigmoid()


def _cumulative(raw_BT: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """P(grade > t) for each threshold t, made to fall with t, as differences (Frank and Hall 2001)."""
    falling = [raw_BT[:, 0].sigmoid()]
    for t in range(1, raw_BT.shape[1]):  # cummin has no ONNX operator
        falling.append(torch.minimum(falling[-1], raw_BT[:, t].sigmoid()))
    above_BT = torch.stack(falling, dim=1)
    one = torch.ones_like(above_BT[:, :1])
    return torch.cat([one, above_BT], dim=1) - torch.cat([above_BT, 0 * one], dim=1)


def _scalar(raw_BS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    mean_S = torch.tensor(spec.mean, device=raw_BS.device)
    deviation_S = torch.tensor(spec.deviation, device=raw_BS.device)
    return raw_BS * deviation_S + mean_S


def _density(raw_BSHW: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """Sums of the densities; the part of the working image beyond a letterboxed image does not count."""
    return _inner(raw_BSHW, height, width, spec).sum(dim=(2, 3)) / DENSITY_SCALE


DENSITY_SCALE = 100.0
"""A network gives densities times this, since a blob of sum 1 has values near 0."""


def _coordinates(raw_BQ: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """Three numbers a point: x and y, -1 to 1 over the working image, and whether it is seen."""
    raw_BP3 = raw_BQ.reshape(raw_BQ.shape[0], len(spec.points), 3)
    xy_BP2 = (raw_BP3[..., :2] + 1) / 2 * spec.size - 0.5
    return _original(xy_BP2, raw_BP3[..., 2].sigmoid(), height, width, spec)


def _heatmap(raw_BPSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """The highest place, refined to the centre of gravity within two deviations of it."""
    heat_BPSS = raw_BPSS.sigmoid()
    return _around(heat_BPSS, heat_BPSS, height, width, spec)


def _disc(raw_BPSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """The centre of gravity of what is above half of the highest probability, around the fullest place."""
    heat_BPSS = raw_BPSS.sigmoid()
    highest_BP11 = heat_BPSS.amax(dim=(2, 3), keepdim=True)
    weight_BPSS = heat_BPSS * (heat_BPSS >= highest_BP11 / 2).float()
    side = 2 * int(spec.radius) + 1
    full_BPSS = functional.avg_pool2d(weight_BPSS, side, stride=1, padding=side // 2)
    return _around(weight_BPSS, full_BPSS, height, width, spec)


def _around(
    weight_BPSS: torch.Tensor, peaked_BPSS: torch.Tensor, height: int, width: int, spec: TaskSpec
) -> torch.Tensor:
    """The centre of gravity of the weights near the highest place of `peaked`: what is alike elsewhere has no part."""
    place_BP = peaked_BPSS.flatten(2).max(dim=2).indices
    columns = weight_BPSS.shape[3]
    peak_x_BP = (place_BP % columns).float()
    peak_y_BP = torch.div(place_BP, columns, rounding_mode="floor").float()
    x_W = torch.arange(columns, device=weight_BPSS.device).float()
    y_H = torch.arange(weight_BPSS.shape[2], device=weight_BPSS.device).float()
    near_x_BPW = ((x_W - peak_x_BP[..., None]).abs() <= 2 * spec.radius).float()
    near_y_BPH = ((y_H - peak_y_BP[..., None]).abs() <= 2 * spec.radius).float()
    near_BPSS = weight_BPSS * near_y_BPH[..., :, None] * near_x_BPW[..., None, :]
    highest_BP = weight_BPSS.flatten(2).amax(dim=2)
    return _original(_middle(near_BPSS, x_W, y_H), highest_BP, height, width, spec)


def _middle(weight_BPSS: torch.Tensor, x_W: torch.Tensor, y_H: torch.Tensor) -> torch.Tensor:
    """[B, P, 2]: centre of gravity."""
    total_BP = weight_BPSS.sum(dim=(2, 3)).clamp(min=1e-12)
    x_BP = (weight_BPSS.sum(dim=2) * x_W).sum(dim=2) / total_BP
    y_BP = (weight_BPSS.sum(dim=3) * y_H).sum(dim=2) / total_BP
    return torch.stack([x_BP, y_BP], dim=2)


def _original(
    xy_BP2: torch.Tensor, confidence_BP: torch.Tensor, height: int, width: int, spec: TaskSpec
) -> torch.Tensor:
    """[B, P, 3]: working pixels to pixels of the original, and the confidence."""
    inner_height, inner_width = _inner_size(height, width, spec)
    x_BP = (xy_BP2[..., 0] + 0.5) * width / inner_width - 0.5
    y_BP = (xy_BP2[..., 1] + 0.5) * height / inner_height - 0.5
    return torch.stack([x_BP, y_BP, confidence_BP], dim=2)


def _inner_size(height: int, width: int, spec: TaskSpec) -> tuple[int, int]:
    match spec.fit:
        case "stretch":
            return spec.size, spec.size
        case "letterbox":
            return letterboxed(height, width, spec.size)
        case _:
            return height, width


def _inner(map_BCSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    if spec.fit == "stretch":
        return map_BCSS
    inner_height, inner_width = _inner_size(height, width, spec)
    return map_BCSS[:, :, :inner_height, :inner_width]


def _at_original_size(map_BCSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    if spec.fit == "tile":
        return map_BCSS
    inner = _inner(map_BCSS, height, width, spec)
    return functional.interpolate(inner, size=(height, width), mode="bilinear", align_corners=False)


def _mask(raw_BKSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    return _at_original_size(raw_BKSS.softmax(dim=1), height, width, spec)


def _image(raw_BCSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    image_BCHW = _at_original_size(raw_BCSS, height, width, spec).clamp(0, 1)
    return image_BCHW.permute(0, 2, 3, 1)


HEADS: dict[str, Head] = {
    "class": _class,
    "classes": _classes,
    "cumulative": _cumulative,
    "scalar": _scalar,
    "density": _density,
    "coordinates": _coordinates,
    "heatmap": _heatmap,
    "disc": _disc,
    "mask": _mask,
    "image": _image,
    "watershed": _mask,
}
"""By representation; `boxes` has its own in `stages.networks.mask_rcnn_export`."""
OUTPUTS = {
    "class": "probability",
    "classes": "probability",
    "cumulative": "probability",
    "scalar": "value",
    "density": "value",
    "coordinates": "point",
    "heatmap": "point",
    "disc": "point",
    "mask": "probability",
    "image": "restored",
    "watershed": "probability",
}
"""The name of what a head gives."""
