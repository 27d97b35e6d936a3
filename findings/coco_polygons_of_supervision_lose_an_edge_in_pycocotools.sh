#!/usr/bin/env bash
# Versions:  supervision 0.31.2, pycocotools 2.0.11, opencv-python-headless 5.0.0.93, numpy 2.4.6, CPython 3.11
# Behaviour: DetectionDataset.as_coco of supervision writes the outline of a mask through the centres of its outermost
#            pixels: a square of pixels 5 to 24 has corners at 5 and 24. pycocotools, which defines how COCO polygons are
#            read, takes coordinates as edges of pixels and fills pixels 5 to 23. Each mask therefore loses a row and a
#            column, and differs from the `area` in the same file. supervision itself reads the mask unchanged.
# Remedy:    Write the masks as run lengths (pycocotools.mask.encode) instead of polygons.
# Output:    see EXPECTED: numbers of pixels
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
  supervision==0.31.2 pycocotools==2.0.11 opencv-python-headless==5.0.0.93 numpy==2.4.6

cat > export_masks.py <<'PYTHON'
import contextlib
import io
import json
import os

import cv2
import numpy as np
import supervision
from pycocotools.coco import COCO

SHAPES = {"square of 20": (slice(5, 25), slice(5, 25)), "square of 4": (slice(5, 9), slice(5, 9)),
          "20 by 2": (slice(5, 7), slice(5, 25))}
os.mkdir("images")
cv2.imwrite("images/photo.png", np.full((40, 40, 3), 50, np.uint8))
for name, (rows, columns) in SHAPES.items():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, rows, columns] = True
    cells = supervision.Detections(
        xyxy=supervision.mask_to_xyxy(mask).astype(float), mask=mask, class_id=np.array([0])
    )
    dataset = supervision.DetectionDataset(["cell"], ["images/photo.png"], {"images/photo.png": cells})
    dataset.as_coco(annotations_path="cells.json")
    with open("cells.json") as file:
        stated = json.load(file)["annotations"][0]["area"]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO("cells.json")
    read = coco.annToMask(coco.anns[1]).sum()
    again = supervision.DetectionDataset.from_coco("images", "cells.json", force_masks=True)
    own = next(iter(again.annotations.values())).mask.sum()
    print(f"{name}: mask {mask.sum()}, area in the file {stated:g}, pycocotools {read}, supervision {own}")
PYTHON

env/bin/python -W ignore export_masks.py 2> messages.txt | tee seen.txt
diff seen.txt - <<'EXPECTED'
square of 20: mask 400, area in the file 400, pycocotools 361, supervision 400
square of 4: mask 16, area in the file 16, pycocotools 9, supervision 16
20 by 2: mask 40, area in the file 40, pycocotools 19, supervision 40
EXPECTED
