"""Output heads of the ONNX graph, which convert raw network outputs to predictions for the original image.

Axes: B images, K classes, T thresholds, P points, Q = 3 P, C channels, S scalars or working size, H and W of the
original image.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from stages.preprocessing.resize import letterbox_size
from stages.tasks.task_spec import TaskSpec

Head = Callable[[torch.Tensor, int, int, TaskSpec], torch.Tensor]
"""Function (raw outputs, H, W, task spec) -> graph output; all images of a call have the same original size."""


def _class(raw_BK: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    return raw_BK.softmax(dim=1)


def _classes(raw_BK: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    return raw_BK.sigmoid()


def _cumulative(raw_BT: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """Return class probabilities as differences of P(grade > t), made non-increasing in t (Frank and Hall 2001)."""
    falling = [raw_BT[:, 0].sigmoid()]
    for t in range(1, raw_BT.shape[1]):  # ONNX has no operator for cummin
        falling.append(torch.minimum(falling[-1], raw_BT[:, t].sigmoid()))
    above_BT = torch.stack(falling, dim=1)
    one = torch.ones_like(above_BT[:, :1])
    return torch.cat([one, above_BT], dim=1) - torch.cat([above_BT, 0 * one], dim=1)


def _scalar(raw_BS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    mean_S = torch.tensor(spec.mean, device=raw_BS.device)
    deviation_S = torch.tensor(spec.deviation, device=raw_BS.device)
    return raw_BS * deviation_S + mean_S


def _density(raw_BSHW: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """Return the sum of each density map, without the padding of a letterboxed image."""
    return _crop_padding(raw_BSHW, height, width, spec).sum(dim=(2, 3)) / DENSITY_SCALE


DENSITY_SCALE = 100.0
"""Factor of the predicted densities; without it, the values of a blob of sum 1 would be close to 0."""


def _coordinates(raw_BQ: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """Return points from three outputs per point: x and y in -1..1 over the working image, and visibility."""
    raw_BP3 = raw_BQ.reshape(raw_BQ.shape[0], len(spec.points), 3)
    xy_BP2 = (raw_BP3[..., :2] + 1) / 2 * spec.size - 0.5
    return _to_original_pixels(xy_BP2, raw_BP3[..., 2].sigmoid(), height, width, spec)


def _heatmap(raw_BPSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """Return the position of the maximum of each heatmap, refined to the centre of mass within two deviations."""
    heat_BPSS = raw_BPSS.sigmoid()
    return _local_centroid(heat_BPSS, heat_BPSS, height, width, spec)


def _disc(raw_BPSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    """Return the centre of mass of values from half the maximum, around the position with the largest local sum."""
    heat_BPSS = raw_BPSS.sigmoid()
    highest_BP11 = heat_BPSS.amax(dim=(2, 3), keepdim=True)
    weight_BPSS = heat_BPSS * (heat_BPSS >= highest_BP11 / 2).float()
    side = 2 * int(spec.radius) + 1
    full_BPSS = functional.avg_pool2d(weight_BPSS, side, stride=1, padding=side // 2)
    return _local_centroid(weight_BPSS, full_BPSS, height, width, spec)


def _local_centroid(
    weight_BPSS: torch.Tensor, peaked_BPSS: torch.Tensor, height: int, width: int, spec: TaskSpec
) -> torch.Tensor:
    """Return the centre of mass of the weights near the maximum of `peaked_BPSS`, ignoring similar regions."""
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
    return _to_original_pixels(_centroid(near_BPSS, x_W, y_H), highest_BP, height, width, spec)


def _centroid(weight_BPSS: torch.Tensor, x_W: torch.Tensor, y_H: torch.Tensor) -> torch.Tensor:
    """Return the centre of mass (x, y), [B, P, 2]."""
    total_BP = weight_BPSS.sum(dim=(2, 3)).clamp(min=1e-12)
    x_BP = (weight_BPSS.sum(dim=2) * x_W).sum(dim=2) / total_BP
    y_BP = (weight_BPSS.sum(dim=3) * y_H).sum(dim=2) / total_BP
    return torch.stack([x_BP, y_BP], dim=2)


def _to_original_pixels(
    xy_BP2: torch.Tensor, confidence_BP: torch.Tensor, height: int, width: int, spec: TaskSpec
) -> torch.Tensor:
    """Return points in pixels of the original image, with their confidence, [B, P, 3]."""
    inner_height, inner_width = _inner_size(height, width, spec)
    x_BP = (xy_BP2[..., 0] + 0.5) * width / inner_width - 0.5
    y_BP = (xy_BP2[..., 1] + 0.5) * height / inner_height - 0.5
    return torch.stack([x_BP, y_BP, confidence_BP], dim=2)


def _inner_size(height: int, width: int, spec: TaskSpec) -> tuple[int, int]:
    match spec.fit:
        case "stretch":
            return spec.size, spec.size
        case "letterbox":
            return letterbox_size(height, width, spec.size)
        case _:
            return height, width


def _crop_padding(map_BCSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    if spec.fit == "stretch":
        return map_BCSS
    inner_height, inner_width = _inner_size(height, width, spec)
    return map_BCSS[:, :, :inner_height, :inner_width]


def _at_original_size(map_BCSS: torch.Tensor, height: int, width: int, spec: TaskSpec) -> torch.Tensor:
    if spec.fit == "tile":
        return map_BCSS
    inner = _crop_padding(map_BCSS, height, width, spec)
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
"""Head by representation; that of `boxes` is in `stages.networks.mask_rcnn_export`."""
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
"""Output name of the graph by representation."""
