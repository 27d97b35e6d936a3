"""Toy model with the reference of some images, and images of different brightness."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from PIL import Image

from stages.drift import build_reference
from stages.images.image_metadata import describe_image
from stages.images.image_statistics import MONITORED


def write_images(folder: Path, seed: int, count: int, level: int) -> list[bytes]:
    """Write random images, one channel of which is bright; return the contents of all files in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        image = np.clip(rng.normal(level, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
        image[..., rng.integers(3)] = 250
        Image.fromarray(image).save(folder / f"{seed}-{i:03d}.png")
    return [file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()]


def with_reference(file: Path, images: list[bytes]) -> Path:
    """Add the reference of images to a toy model, with the statistics that ingest stores."""
    rows = [describe_image(data, 1.0) for data in images]
    inputs = {name: [float(row[name]) for row in rows] for name in MONITORED}
    classes = {"class": ["red", "green", "blue"] * 20}
    made = {
        "inputs": build_reference(inputs, np.arange(len(rows))),
        "predictions": build_reference(classes, np.arange(60)),
    }
    model = onnx.load(file)
    stored = {prop.key: prop.value for prop in model.metadata_props} | {"drift_reference": json.dumps(made)}
    helper.set_model_props(model, stored)
    onnx.save(model, file)
    return file
