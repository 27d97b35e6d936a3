"""Informative part of the image: which part alone predicts the label best, and how well does a thumbnail predict it?

Axes: N images, S side of the downsampled image, P parts per side.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.audits.border_confounders import cell_columns
from stages.core.findings import Finding
from stages.core.shapes import Array, Float, UInt8
from stages.images.image_statistics import THUMBNAIL_SIZE, unpack_thumbnails
from stages.probes.downsampled import downsample_images
from stages.probes.linear_probe import probe

PARTS, MIN_SKILL = 4, 0.2  # parts of an image per side; skill from which the most informative one is reported
MAX_COMPARED = 1000  # images of which the parts are compared, at random
MAX_EXAMPLES = 8  # images in which the part is outlined


def find(rows: pd.DataFrame, folder: Path) -> Finding:
    """Report the skill of a thumbnail, and the part of the image that alone predicts the label best, outlined (info).

    Args:
        rows: manifest rows with a column `label`.
        folder: output folder of ingest.
    """
    thumbnail = cell_columns(unpack_thumbnails(rows["thumbnail"]))
    skill = probe(thumbnail, rows["label"], rows["group"], permutations=0).skill
    message = (
        f"A linear model predicts the label from a thumbnail of {THUMBNAIL_SIZE}x{THUMBNAIL_SIZE} pixels with skill "
        f"{skill:.2f} (0: chance, 1: perfect). A network should exceed this."
    )
    compared = rows if len(rows) <= MAX_COMPARED else rows.sample(MAX_COMPARED, random_state=0)
    skill_PP = _skills_of_parts(downsample_images(compared, folder), compared)
    row, column = divmod(int(skill_PP.argmax()), PARTS)
    best, median = float(skill_PP.max()), float(np.median(skill_PP))
    evidence = {"skill": skill, "skill_of_parts": skill_PP.round(3).tolist()}
    if best < MIN_SKILL:
        return Finding("confounder/thumbnail", "info", message, evidence)
    message += (
        f" Of a grid of {PARTS}x{PARTS} parts, the most informative one is in row {row + 1} and column {column + 1} "
        f"from the upper left: alone, it has skill {best:.2f}, the median part {median:.2f}. It is outlined: if it "
        "shows a display, a ruler, a date or the background instead of the object, crop it off."
    )
    shown = rows.drop_duplicates("label").head(MAX_EXAMPLES)
    places = {
        path: [(column * w / PARTS, row * h / PARTS, (column + 1) * w / PARTS, (row + 1) * h / PARTS)]
        for path, w, h in zip(shown["path"], shown["width"], shown["height"], strict=True)
    }
    return Finding("confounder/thumbnail", "info", message, evidence, list(places), {}, places)


def _skills_of_parts(small_NSSC: UInt8[Array, "N S S C"], rows: pd.DataFrame) -> Float[Array, "P P"]:
    """Return the skill with which the grey levels of each part alone predict the label."""
    grey_NSS = small_NSSC.mean(axis=3)
    side, skill_PP = grey_NSS.shape[1] // PARTS, np.zeros((PARTS, PARTS))
    for row, column in np.ndindex(PARTS, PARTS):
        part_NSS = grey_NSS[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        varying_NF = part_NSS.reshape(len(rows), -1)
        varying_NF = varying_NF[:, np.ptp(varying_NF, axis=0) > 0]
        if varying_NF.shape[1]:
            skill_PP[row, column] = probe(pd.DataFrame(varying_NF), rows["label"], rows["group"], permutations=0).skill
    return skill_PP
