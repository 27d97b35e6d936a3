"""Compare normalizations of mask_rcnn in batches of two images.

Run `OMP_NUM_THREADS=1 python -m benchmarks.training.detector_normalization`; it takes about ten minutes. A Faster R-CNN
with ResNet-18 is trained from random weights to find the digits 0 and 1 in images of 64x64 pixels. A quarter of them
are bright with dark digits. If the running statistics of batch normalization were not those of the images, the
loss would be higher in evaluation mode than in training mode. The results are written to
docs/results/detector-normalization.json and the table to docs/results/training-defaults.md.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks.result_pages import add_run_arguments, output_folder, replace_block
from stages.networks import NetworkConfig, build
from stages.networks.mask_rcnn import enable_losses
from stages.networks.mask_rcnn_export import ExportedDetector
from stages.tasks import instances
from stages.tasks.instances import Instances
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
SIDE, SCALE, BATCH = 64, 3, 2
LABELS = ("0", "1")
PAGE = "training-defaults.md"
HEAD = ["normalization", "AP", "AP of bright images", "loss, training mode", "loss, evaluation mode"]


@dataclass(frozen=True)
class Scene:
    """Image with the boxes and classes of its digits."""

    image_HWC: Array
    box_M4: Array
    label_M: Array
    bright: bool


@dataclass(frozen=True)
class Sizes:
    """Numbers of images and training steps."""

    train: int = 48
    test: int = 24
    steps: int = 200


TINY = Sizes(4, 4, 2)


def make_scenes(count: int, digits: list[tuple[Array, int]], rng: np.random.Generator) -> list[Scene]:
    """Return images with up to four digits; every fourth image is inverted.

    Args:
        count: number of images.
        digits: images [8, 8] in 0..1, and their classes.
        rng: random numbers.
    """
    scenes = []
    for number in range(count):
        image_HWC = rng.integers(20, 60, (SIDE, SIDE, 3)).astype(np.float64)
        boxes, labels = [], []
        for quarter in rng.permutation(4)[: rng.integers(0, 5)]:
            pixels, label = digits[int(rng.integers(len(digits)))]
            rows, columns = np.nonzero(np.kron(pixels, np.ones((SCALE, SCALE))) > 0.3)
            corner = np.array([quarter // 2, quarter % 2]) * SIDE // 2 + rng.integers(0, SIDE // 2 - 8 * SCALE, 2)
            y, x = rows + corner[0], columns + corner[1]
            image_HWC[y, x] = 220
            boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
            labels.append(label)
        bright = number % 4 == 3
        scenes.append(
            Scene(
                (255 - image_HWC if bright else image_HWC).astype(np.uint8),
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array(labels, np.int64),
                bright,
            )
        )
    return scenes


def losses_of(model: Any, scenes: list[Scene]) -> Tensor:
    """Return the sum of the detector's losses over a batch."""
    image_BCHW = torch.from_numpy(np.stack([s.image_HWC for s in scenes])).permute(0, 3, 1, 2).float() / 255
    targets = [{"boxes": torch.from_numpy(s.box_M4), "labels": torch.from_numpy(s.label_M)} for s in scenes]
    return torch.stack(list(model(image_BCHW, targets).values())).sum()


def train(norm: str, scenes: list[Scene], steps: int) -> Any:
    """Return a detector that was trained in batches of two.

    Args:
        norm: `batch` or `group`.
        scenes: training images.
        steps: number of batches.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model: Any = build(NetworkConfig("mask_rcnn", "resnet18", 3, len(LABELS), norm, 0.0, SIDE, False, 255)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    for _ in range(steps):
        loss = losses_of(model, [scenes[i] for i in rng.choice(len(scenes), BATCH, replace=False)])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model


def mean_loss(model: Any, scenes: list[Scene]) -> float:
    """Return the mean loss over batches of two, with the modes of the model's layers and fixed random numbers."""
    torch.manual_seed(0)
    with torch.no_grad():
        batches = [scenes[i : i + BATCH] for i in range(0, len(scenes), BATCH)]
        return float(torch.stack([losses_of(model, batch) for batch in batches]).mean())


def average_precision(model: Any, scenes: list[Scene]) -> float:
    """Return the average precision, mean over IoU .5 to .95."""
    spec = TaskSpec("instances", "boxes", "shapes", labels=LABELS, size=SIDE, fit="letterbox")
    detector = ExportedDetector(model.eval(), SIDE, False, 255).eval()
    targets, predictions = [], []
    for scene in scenes:
        with torch.inference_mode():
            found = detector(torch.from_numpy(scene.image_HWC)[None])
        arrays = {name: np.asarray(values) for name, values in zip(("box", "label", "score"), found, strict=True)}
        predictions.append(instances.decode(arrays | {"size": np.array([SIDE, SIDE])}, spec))
        ones = np.ones(len(scene.label_M), np.float32)
        targets.append(Instances(scene.box_M4, scene.label_M, ones, None, ones < 1, SIDE, SIDE))
    return float(instances.scores(targets, predictions, np.ones((1, len(scenes))), spec)["average_precision"][0])


def compare(sizes: Sizes) -> list[dict[str, Any]]:
    """Return the average precision, and the losses in both modes, by normalization."""
    found = load_digits()
    digits = [(image / 16, int(k)) for image, k in zip(found.images, found.target, strict=True) if k < len(LABELS)]
    rng = np.random.default_rng(0)
    half = len(digits) // 2
    scenes, unseen = make_scenes(sizes.train, digits[:half], rng), make_scenes(sizes.test, digits[half:], rng)
    rows = []
    for norm in ("batch", "group"):
        model = train(norm, scenes, sizes.steps)
        enable_losses(model)
        in_evaluation = mean_loss(model, unseen)
        scores = [average_precision(model, part) for part in (unseen, [s for s in unseen if s.bright])]
        in_training = mean_loss(model.train(), unseen)  # last, because it changes the running statistics
        rows.append({"norm": norm, "scores": scores, "losses": [in_training, in_evaluation]})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [HEAD, ["---"] * len(HEAD)]
    lines += [[row["norm"], *(f"{value:.3f}" for value in (*row["scores"], *row["losses"]))] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Compare both normalizations, write the table and return the file with the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help=f"number of batches; default: {Sizes.steps}")
    add_run_arguments(parser)
    asked_for = parser.parse_args(arguments)
    folder = output_folder(asked_for.output, asked_for.tiny)
    sizes = TINY if asked_for.tiny else Sizes()
    rows = compare(replace(sizes, steps=asked_for.steps or sizes.steps))
    file, page = folder / "detector-normalization.json", folder / PAGE
    file.write_text(json.dumps(rows, indent=1) + "\n")
    if page.exists():
        page.write_text(replace_block(page.read_text(), "detector normalization", _table(rows)))
    return file


if __name__ == "__main__":
    print(main())
