"""Small generated data sets of every kind of label for the shared tests of tasks."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

COUNT = 16
SIZE = 64
COLOURS = {"disc": (230, 60, 60), "square": (60, 90, 230)}


@dataclass(frozen=True)
class Toy:
    """Function that writes a data set, with the parameters to read it and of its task."""

    write: Callable[[Path, np.random.Generator], None]
    task: dict[str, Any]
    ingest: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    representations: tuple[str, ...] = ("auto",)


def scene(
    rng: np.random.Generator, count: int = 1, kinds: tuple[str, ...] = ("disc", "square")
) -> tuple[Any, list[Any]]:
    """Return a grey image with separate discs and squares, and for each of them (kind, x, y, radius)."""
    image = Image.new("RGB", (SIZE + 6, SIZE), (90, 90, 90))
    draw = ImageDraw.Draw(image)
    placed: list[Any] = []
    while len(placed) < count:
        kind, radius = str(rng.choice(kinds)), int(rng.integers(6, 9))
        x, y = (int(v) for v in rng.integers(radius + 2, SIZE - radius - 2, 2))
        if all((x - a) ** 2 + (y - b) ** 2 > (radius + r + 4) ** 2 for _, a, b, r in placed):
            box = (x - radius, y - radius, x + radius, y + radius)
            (draw.ellipse if kind == "disc" else draw.rectangle)(box, fill=COLOURS[kind])
            placed.append((kind, x, y, radius))
    noise = rng.integers(-8, 9, (SIZE, SIZE + 6, 3))
    return (np.asarray(image).astype(int) + noise).clip(0, 255).astype(np.uint8), placed


def mask_of(placed: list[Any]) -> np.ndarray:
    """Return the mask of a scene: 0 background, 1 disc, 2 square."""
    mask = Image.new("L", (SIZE + 6, SIZE))
    for kind, x, y, radius in placed:
        box = (x - radius, y - radius, x + radius, y + radius)
        draw = ImageDraw.Draw(mask)
        (draw.ellipse if kind == "disc" else draw.rectangle)(box, fill=1 if kind == "disc" else 2)
    return np.asarray(mask)


def save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def table(file: Path, rows: list[dict[str, Any]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def classes(folder: Path, rng: np.random.Generator) -> None:
    for number in range(COUNT):
        kind = ("disc", "square")[number % 2]
        save(folder / kind / f"{number}.png", scene(rng, 1, (kind,))[0])


def several_classes(folder: Path, rng: np.random.Generator) -> None:
    rows = []
    for number in range(COUNT):
        kinds = [(), ("disc",), ("square",), ("disc", "square")][number % 4]
        image, _ = scene(rng, 3 * len(kinds), kinds or ("disc",))
        save(folder / f"{number}.png", image)
        rows.append({"path": f"{number}.png", "label": "|".join(kinds)})
    table(folder / "labels.csv", rows)


def grades(folder: Path, rng: np.random.Generator) -> None:
    """Write images whose grade depends on the number of discs."""
    for number in range(COUNT):
        grade = number % 3
        save(folder / ("none", "some", "many")[grade] / f"{number}.png", scene(rng, (0, 2, 5)[grade], ("disc",))[0])


def numbers(folder: Path, rng: np.random.Generator) -> None:
    rows = []
    for number in range(COUNT):
        image, placed = scene(rng, 1 + number % 4)
        save(folder / f"{number}.png", image)
        rows.append({"path": f"{number}.png", "count": len(placed), "size": sum(p[3] for p in placed) * 10})
    table(folder / "numbers.csv", rows)


def discs(folder: Path, rng: np.random.Generator) -> None:
    """Write objects of one class, which a watershed can separate."""
    objects(folder, rng, ("disc",))


def objects(folder: Path, rng: np.random.Generator, kinds: tuple[str, ...] = ("disc", "square")) -> None:
    """Write objects as COCO annotations with boxes and polygons."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(COUNT):
        image, placed = scene(rng, 2 + number % 2, kinds)
        save(folder / f"{number}.png", image)
        images.append({"id": number, "file_name": f"{number}.png", "height": SIZE, "width": SIZE + 6})
        for kind, x, y, radius in placed:
            turn = np.linspace(0, 2 * np.pi, 24 if kind == "disc" else 4, endpoint=False) + (
                0 if kind == "disc" else np.pi / 4
            )
            far = radius + 0.5 if kind == "disc" else (radius + 0.5) * 2**0.5
            spec = np.stack([x + 0.5 + far * np.cos(turn), y + 0.5 + far * np.sin(turn)], axis=1)
            box = [x - radius, y - radius, 2 * radius + 1, 2 * radius + 1]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1 + (kind == "square"), "iscrowd": 0,
                 "bbox": box, "area": box[2] * box[3], "segmentation": [spec.ravel().tolist()]}
            )  # fmt: skip
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    (folder / "things.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )


def points(folder: Path, rng: np.random.Generator) -> None:
    """Write the centres of a disc and a square; the square is missing in every fourth image."""
    rows = []
    for number in range(COUNT):
        image, placed = scene(rng, 1, ("disc",))
        other: Any = ("", "")
        if number % 4 != 3:
            while len({p[0] for p in placed}) < 2:
                image, placed = scene(rng, 2)
            other = next(p[1:3] for p in placed if p[0] == "square")
        disc = next(p[1:3] for p in placed if p[0] == "disc")
        save(folder / f"{number}.png", image)
        rows.append(
            {"path": f"{number}.png", "disc_x": disc[0], "disc_y": disc[1], "square_x": other[0], "square_y": other[1]}
        )
    table(folder / "points.csv", rows)


def masks(folder: Path, rng: np.random.Generator) -> None:
    for number in range(COUNT):
        image, placed = scene(rng, 3)
        save(folder / "images" / f"{number}.png", image)
        save(folder / "masks" / f"{number}.png", mask_of(placed))


def overlapping_masks(folder: Path, rng: np.random.Generator) -> None:
    """Write discs with a dark core, and a mask per class: the core is a part of its disc."""
    y, x = np.mgrid[:SIZE, :SIZE]
    for number in range(COUNT):
        left, top = rng.integers(16, SIZE - 16, 2)
        distance = np.hypot(x - left, y - top)
        disc, core = distance < 13, distance < 6
        image = np.where(core[..., None], (40, 20, 90), np.where(disc[..., None], (220, 60, 60), (90, 90, 90)))
        save(folder / "images" / f"{number}.png", image.astype(np.uint8))
        for name, mask in {"disc": disc, "core": core}.items():
            save(folder / "masks" / name / f"{number}.png", mask.astype(np.uint8) * 255)


def pairs(folder: Path, rng: np.random.Generator) -> None:
    """Write pairs of a noisy and a clean image."""
    for number in range(COUNT):
        image, _ = scene(rng, 3)
        noisy = (image.astype(int) + rng.normal(0, 25, image.shape)).clip(0, 255).astype(np.uint8)
        save(folder / "noisy" / f"{number}.png", noisy)
        save(folder / "clean" / f"{number}.png", image)


MASKS = {
    "format": "masks",
    "images": "images/{key}.png",
    "targets": "masks/{key}.png",
    "mask_values": {0: "ground", 1: "disc", 2: "square"},
}
TOYS = {
    "classification": Toy(classes, {"score": "accuracy"}),
    "multilabel": Toy(several_classes, {"score": "exact_match"}, {"inside": "labels.csv"}, {"separator": "|"}),
    "ordinal": Toy(
        grades,
        {"score": "quadratic_kappa", "classes": ("none", "some", "many")},
        representations=("class", "cumulative"),
    ),
    "regression": Toy(
        numbers,
        {"score": "r2", "units": {"size": "mm"}},
        {"inside": "numbers.csv"},
        {"label": None, "scalars": ("count", "size")},
        representations=("scalar",),
    ),
    "counting": Toy(
        objects,
        {"name": "regression", "score": "r2", "target": "count"},
        {"inside": "things.json"},
        representations=("scalar", "density"),
    ),
    "area": Toy(
        masks, {"name": "regression", "score": "r2", "target": "area"}, MASKS, representations=("scalar", "mask")
    ),
    "landmarks": Toy(
        points,
        {"score": "pck"},
        {"inside": "points.csv"},
        {"label": None, "points": ("disc", "square")},
        representations=("heatmap", "coordinates", "disc"),
    ),
    "objects_as_mask": Toy(
        objects, {"name": "segmentation", "score": "dice", "tolerance": 2.0}, {"inside": "things.json"}
    ),
    "segmentation": Toy(masks, {"score": "dice", "tolerance": 2.0}, MASKS),
    "overlapping": Toy(
        overlapping_masks,
        {"name": "segmentation", "score": "dice", "tolerance": 2.0},
        {
            "format": "masks",
            "images": "images/{key}.png",
            "targets": "masks/{label}/{key}.png",
            "overlaps": "combine",
        },
    ),
    "image": Toy(
        pairs, {"score": "psnr"}, {"format": "pairs", "images": "noisy/{key}.png", "targets": "clean/{key}.png"}
    ),
    "instances": Toy(objects, {"score": "average_precision_50"}, {"inside": "things.json"}, representations=("boxes",)),
    "discs": Toy(
        discs,
        {"name": "instances", "score": "average_precision_50"},
        {"inside": "things.json"},
        representations=("watershed",),
    ),
}
