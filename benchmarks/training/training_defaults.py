"""Compare losses, class weights and learning rates in small trainings on scikit-learn's digits.

Run `OMP_NUM_THREADS=1 python -m benchmarks.training.training_defaults`; it takes a few minutes. The results are written
to docs/results/training-defaults.json and the tables to docs/results/training-defaults.md.

- points: a digit at a random place of 32x32 pixels, whose centre is predicted as coordinates; `coordinate_huber` as it
  is, quadratic up to half the image as it was (torch's default), and the absolute distance;
- class weights: the digit 8 against all others, at 100:1 with and without label smoothing, at 500:1 and at 1500:1; the
  weight as a factor of the image's loss, with limits, and torch's weighted loss, which weights the smoothed target and
  normalizes by batch;
- learning rates: ten classes, at rates from 1e-5 to 1, for each optimizer.

The networks are small: three convolutions with batch normalization, or two linear layers for class weights.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from benchmarks.result_pages import add_run_arguments, output_folder, replace_block
from stages.tasks.task_spec import TaskSpec
from stages.training.class_weights import balanced_weights
from stages.training.loss_context import Loss, LossContext
from stages.training.losses import LOSSES
from stages.training.optimizers import ParameterGroups, build_optimizer

Tensor = torch.Tensor
Row = dict[str, Any]
PAGE = "training-defaults.md"
CANVAS = 32  # pixels per side of the images with points
BATCH = 32
COMMON = 1500
WEIGHT_SETTINGS = ((15, 0.0), (15, 0.05), (3, 0.05), (1, 0.05))
"""Number of rare training images, and label smoothing."""
MAX_RARE = 15
LIMITS = (100, 1000)
"""Limits of the weight of the rare class relative to that of the common one."""
RATES = [float(f"{rate:.2g}") for rate in np.geomspace(1e-5, 1, 11)]
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "lion")
USABLE = 0.02
"""A rate is usable if its mean accuracy is lower than the best by at most this."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of seeds, images and epochs."""

    seeds: int = 5
    point_images: int = 400
    point_epochs: int = 30
    weight_seeds: int = 6
    weight_epochs: int = 20
    rate_seeds: int = 3
    rate_images: int = 400
    rate_epochs: int = 5


TINY = Sizes(1, 32, 1, 1, 1, 1, 32, 1)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return 1,797 images [N, 8, 8] in 0..1, and their classes [N]."""
    found = load_digits()
    return torch.from_numpy(found.images / 16).float(), torch.from_numpy(found.target)


def train(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, data: tuple[Tensor, Tensor], epochs: int
) -> None:
    """Train in batches of `BATCH` images with a cosine schedule, in random order.

    Args:
        network: network, which is changed.
        optimizer: optimizer of its weights.
        loss: loss per image, or their mean.
        data: images and targets.
        epochs: passes over the images.
    """
    batches = [part for _ in range(epochs) for part in torch.split(torch.randperm(len(data[0])), BATCH)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    network.train()
    for index_B in batches:
        optimizer.zero_grad()
        loss(network(data[0][index_B]), data[1][index_B]).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()


def compare_points(sizes: Sizes) -> list[Row]:
    """Return the mean distance in pixels on new images by loss and learning rate, for each seed."""
    spec = TaskSpec("landmarks", "coordinates", "points", points=("centre",), size=CANVAS)
    context = LossContext(spec, torch.ones(1), torch.ones(1), 0.0)
    losses: dict[str, Loss] = {
        "coordinate_huber": LOSSES["coordinates"]["coordinate_huber"](context),
        "squared distance, as before": squared_distance,
        "coordinate_l1": LOSSES["coordinates"]["coordinate_l1"](context),
    }
    rows = []
    for name, loss in losses.items():
        for rate in (0.001, 0.003):
            errors = [_point_error(loss, rate, sizes, seed) for seed in range(sizes.seeds)]
            rows.append({"loss": name, "rate": rate, "pixels": errors})
    return rows


def squared_distance(raw_BQ: Tensor, xy_BP2: Tensor) -> Tensor:
    """Return the earlier `coordinate_huber` of visible points: quadratic up to half the image, linear beyond."""
    target_BP2 = (xy_BP2 + 0.5) / CANVAS * 2 - 1
    raw_BP3 = raw_BQ.reshape(len(raw_BQ), -1, 3)
    distance_BP = functional.smooth_l1_loss(raw_BP3[..., :2], target_BP2, reduction="none").sum(dim=2)
    visibility_BP = functional.softplus(-raw_BP3[..., 2])
    return (distance_BP + 0.1 * visibility_BP).mean(dim=1)


def _point_error(loss: Loss, rate: float, sizes: Sizes, seed: int) -> float:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    image_BCHW, xy_BP2 = placed_digits(2 * sizes.point_images, rng)
    half = sizes.point_images
    network = _network(CANVAS, 3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01, fused=True)
    train(network, optimizer, loss, (image_BCHW[:half], xy_BP2[:half]), sizes.point_epochs)
    with torch.inference_mode():
        found_B2 = (network(image_BCHW[half:])[:, :2] + 1) / 2 * CANVAS - 0.5
    return float((found_B2 - xy_BP2[half:, 0]).norm(dim=1).mean())


def _network(size: int, outputs: int) -> nn.Sequential:
    """Return three convolutions of stride 2 and a linear layer, for images [B, 1, size, size]."""
    layers: list[nn.Module] = []
    for before, features in pairwise((1, 16, 32, 64)):
        layers += [nn.Conv2d(before, features, 3, 2, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (size // 8) ** 2, outputs))


def placed_digits(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return images [count, 1, 32, 32] with one digit each, and the coordinates of its centre [count, 1, 2]."""
    image_N88, _ = digits()
    image_BCHW = torch.from_numpy(rng.uniform(0, 0.3, (count, 1, CANVAS, CANVAS))).float()
    corner_B2 = rng.integers(0, CANVAS - 8, (count, 2))
    for n, (x, y) in enumerate(corner_B2.tolist()):
        image_BCHW[n, 0, y : y + 8, x : x + 8] += image_N88[int(rng.integers(len(image_N88)))]
    return image_BCHW, torch.from_numpy(corner_B2 + 3.5).float()[:, None]


def compare_class_weights(sizes: Sizes) -> list[Row]:
    """Return the balanced accuracy on held-out images by number of rare images, smoothing and loss, for each seed."""
    rows = []
    for rare, smoothing in WEIGHT_SETTINGS:
        share_K = np.array([COMMON, rare]) / (COMMON + rare)
        unlimited_K = 1 / (2 * share_K)
        torch_loss = nn.CrossEntropyLoss(torch.from_numpy(unlimited_K).float(), label_smoothing=smoothing)
        losses: dict[str, Loss] = {"none": _weighted(np.ones(2), smoothing)}
        losses |= {f"at most {limit}:1": _weighted(balanced_weights(share_K, limit), smoothing) for limit in LIMITS}
        losses |= {"without a limit": _weighted(unlimited_K, smoothing), "torch's weighted loss, as before": torch_loss}
        for name, loss in losses.items():
            scores = [_balanced_accuracy(loss, rare, sizes, seed) for seed in range(sizes.weight_seeds)]
            rows.append({"rare": rare, "smoothing": smoothing, "weights": name, "balanced_accuracy": scores})
    return rows


def _weighted(weight_K: "np.ndarray[Any, Any]", smoothing: float) -> Loss:
    spec = TaskSpec("classification", "class", "label", labels=("other", "eight"))
    context = LossContext(spec, torch.from_numpy(weight_K).float(), torch.ones(2), smoothing)
    return LOSSES["class"]["cross_entropy"](context)


def _balanced_accuracy(loss: Loss, rare: int, sizes: Sizes, seed: int) -> float:
    torch.manual_seed(seed)
    image_N88, class_N = digits()
    x_NF, is_eight_N = image_N88.flatten(1), (class_N == 8).long()
    shuffled_N = torch.randperm(len(x_NF))
    other_N, eight_N = (shuffled_N[is_eight_N[shuffled_N] == k] for k in (0, 1))
    train_N = torch.cat([other_N[:COMMON], eight_N[:rare]])
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.01, fused=True)
    train(network, optimizer, loss, (x_NF[train_N], is_eight_N[train_N]), sizes.weight_epochs)
    with torch.inference_mode():
        recalls = [
            (network(x_NF[held_N]).argmax(dim=1) == k).float().mean()
            for k, held_N in enumerate((other_N[COMMON:], eight_N[MAX_RARE:]))
        ]
    return float(sum(recalls) / 2)


def compare_rates(sizes: Sizes) -> list[Row]:
    """Return the mean accuracy at each rate, and the usable rates, by optimizer."""
    rows = []
    for name in OPTIMIZERS:
        accuracy = [
            statistics.mean(_accuracy(name, rate, sizes, seed) for seed in range(sizes.rate_seeds)) for rate in RATES
        ]
        usable = [rate for rate, found in zip(RATES, accuracy, strict=True) if found >= max(accuracy) - USABLE]
        rows.append({"optimizer": name, "rates": RATES, "accuracy": accuracy, "usable": usable})
    return rows


def _accuracy(optimizer: str, rate: float, sizes: Sizes, seed: int) -> float:
    torch.manual_seed(seed)
    image_N88, class_N = digits()
    shuffled_N = torch.randperm(len(class_N))
    train_N, held_N = shuffled_N[: sizes.rate_images], shuffled_N[-400:]
    network = _network(8, 10)
    groups = ParameterGroups([], list(network.parameters()), 1.0).with_rate(rate)
    made = build_optimizer(optimizer, groups, momentum=0.9, weight_decay=0.01)
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    train(network, made, loss, (image_N88[train_N, None], class_N[train_N]), sizes.rate_epochs)
    with torch.inference_mode():
        return float((network(image_N88[held_N, None]).argmax(dim=1) == class_N[held_N]).float().mean())


def _mean_and_deviation(values: list[float], digits_shown: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits_shown}f} ± {deviation:.{digits_shown}f}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def points_table(rows: list[Row]) -> str:
    """Return the mean distances, with standard deviations over seeds."""
    lines = [[r["loss"], f"{r['rate']:g}", _mean_and_deviation(r["pixels"], 2)] for r in rows]
    return _table(["loss", "learning rate", f"mean distance, pixels of {CANVAS}"], lines)


def class_weights_table(rows: list[Row]) -> str:
    """Return the balanced accuracy, with standard deviations over seeds, by weights and by ratio and smoothing."""
    settings = list(dict.fromkeys((r["rare"], r["smoothing"]) for r in rows))
    scores = {(r["weights"], r["rare"], r["smoothing"]): _mean_and_deviation(r["balanced_accuracy"], 3) for r in rows}
    names = list(dict.fromkeys(r["weights"] for r in rows))
    head = ["class weights", *(f"{COMMON}:{rare}, smoothing {smoothing:g}" for rare, smoothing in settings)]
    return _table(head, [[name, *(scores[(name, *setting)] for setting in settings)] for name in names])


def rates_table(rows: list[Row]) -> str:
    """Return the usable and the best learning rate, and the accuracy with the best one."""
    lines = []
    for row in rows:
        best = max(row["accuracy"])
        rate, usable = row["rates"][row["accuracy"].index(best)], row["usable"]
        lines.append([row["optimizer"], f"{min(usable):g} to {max(usable):g}", f"{rate:g}", f"{best:.3f}"])
    return _table(["optimizer", "usable rates", "best rate", "accuracy"], lines)


PARTS: dict[str, tuple[Callable[[Sizes], list[Row]], Callable[[list[Row]], str]]] = {
    "points": (compare_points, points_table),
    "class weights": (compare_class_weights, class_weights_table),
    "learning rates": (compare_rates, rates_table),
}
"""Comparison and table by name of the part."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run all comparisons, write the tables and return the file with the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="part to measure; the others stay as they are")
    add_run_arguments(parser)
    asked_for = parser.parse_args(arguments)
    sizes = TINY if asked_for.tiny else Sizes()
    folder = output_folder(asked_for.output, asked_for.tiny)
    file, page = folder / "training-defaults.json", folder / PAGE
    found: dict[str, list[Row]] = json.loads(file.read_text()) if asked_for.only and file.exists() else {}
    for name in asked_for.only or PARTS:
        compare, table = PARTS[name]
        found[name] = compare(sizes)
        print(f"{name}\n{table(found[name])}\n", flush=True)
        if page.exists():
            page.write_text(replace_block(page.read_text(), name, table(found[name])))
    file.write_text(json.dumps(found, indent=1) + "\n")
    return file


if __name__ == "__main__":
    print(main())
