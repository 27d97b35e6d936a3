"""Contents of annotation files of miniature folders: Pascal VOC, COCO, YOLO and run lengths."""

from typing import Any

import numpy as np

from benchmarks.layouts.synthetic_images import Array, Picture

Boxes = list[tuple[int, int, int, int]]
WIDTH, HEIGHT = 44, 32


def voc(name: str, label: str, boxes: Boxes) -> str:
    """Return an annotation file of Pascal VOC.

    Args:
        name: path of the image.
        label: class of all objects.
        boxes: edges in pixels.
    """
    objects = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name.rpartition('/')[2]}</filename>{size}{objects}</annotation>"


def yolo(boxes: Boxes, polygons: bool = False) -> str:
    """Return a label file of YOLO with boxes, or with their corners as polygons; the classes alternate."""
    lines = []
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        corners = [x0, y0, x1, y0, x1, y1, x0, y1] if polygons else [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
        scaled = [value / (HEIGHT if place % 2 else WIDTH) for place, value in enumerate(corners)]
        lines.append(" ".join([str(number % 2), *(f"{value:.5f}" for value in scaled)]))
    return "\n".join(lines) + "\n"


def coco(shots: dict[str, Picture], names: tuple[str, ...] = ("cell", "debris")) -> dict[str, Any]:
    """Return the content of a COCO file with the boxes and polygons of images by file name."""
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, (name, shot) in enumerate(shots.items()):
        height, width = shot.mask.shape
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for place, (x0, y0, x1, y1) in enumerate(shot.boxes):
            objects.append(
                {
                    "id": len(objects),
                    "image_id": number,
                    "category_id": place % len(names) + 1,
                    "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                }
            )
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(names)]
    return {"images": images, "annotations": objects, "categories": categories}


def run_lengths(mask: Array) -> str:
    """Return start and length of the runs of a mask in column-major order, counted from 1, as in tables of Kaggle."""
    flat = np.concatenate([[0], mask.ravel(order="F") > 0, [0]])
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return " ".join(f"{start} {end - start}" for start, end in zip(edges[::2], edges[1::2], strict=True))
