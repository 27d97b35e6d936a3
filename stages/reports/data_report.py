"""Sample images, statistics and labelled objects of a data set for the report."""

import json
from typing import Any

import numpy as np
import pandas as pd

from stages.dataset.manifest import sorted_labels
from stages.images.decode import describe_mode
from stages.images.image_statistics import unpack_thumbnails
from stages.reports import charts
from stages.reports.thumbnails import Album, Thumbnail, thumbnail

MAX_SHOWN_CLASSES = 24  # with more classes, the largest and the smallest are shown
SAMPLES = 24  # images shown if there are no classes
PER_CLASS, PER_EXTREME = 8, 6  # thumbnails
SMALL, LARGE = 104, 144  # side of a thumbnail, pixels
MAX_ROWS = 50  # of a table
MAX_OBJECT_NAMES = 16  # classes of objects, or points, that are described
STATISTICS = {
    "width": "width, pixels",
    "height": "height, pixels",
    "bytes": "file size, bytes",
    "brightness": "brightness, 0 to 255",
    "contrast": "contrast, grey levels",
    "sharpness": "sharpness, grey levels",
    "entropy": "entropy, bits",
    "foreground": "foreground, share",
    "quality": "JPEG quality",
}
DESCRIBED = STATISTICS | {
    "black": "pixels at level 0, share",
    "white": "pixels at level 255, share",
    "redness": "redness, red above green, -255 to 255",
    "blueness": "blueness, blue above green, -255 to 255",
}
EXTREMES = (
    ("Darkest", "brightness", True, "grey level {brightness:.0f}"),
    ("Brightest", "brightness", False, "grey level {brightness:.0f}"),
    ("Smallest", "area", True, "{width} \N{MULTIPLICATION SIGN} {height}"),
    ("Largest", "area", False, "{width} \N{MULTIPLICATION SIGN} {height}"),
    ("Emptiest", "entropy", True, "entropy {entropy:.1f} bits"),
    ("Least sharp", "edge_width", False, "edges {edge_width:.1f} pixels wide"),
)


def sample_images(manifest: pd.DataFrame, album: Album) -> dict[str, Any]:
    """Return thumbnails of each class, average images of the classes, and extreme images.

    If there are more than `MAX_SHOWN_CLASSES` classes, only the largest and the smallest are shown. Without classes, a
    sample of all images is returned.
    """
    counts = manifest["label"].value_counts()
    labels = sorted_labels(manifest)
    if labels == [""]:
        labels = []
    if len(labels) > MAX_SHOWN_CLASSES:
        by_size = list(counts.index)
        labels = by_size[: MAX_SHOWN_CLASSES // 2] + by_size[-MAX_SHOWN_CLASSES // 2 :]
    classes = []
    for label in labels:
        paths = manifest.loc[manifest["label"] == label, "path"]
        spread = np.unique(np.linspace(0, len(paths) - 1, PER_CLASS).round().astype(int))
        classes.append((label, int(counts[label]), album.strip(paths.iloc[spread], side=SMALL)))
    spread = np.unique(np.linspace(0, len(manifest) - 1, SAMPLES).round().astype(int))
    samples = [] if classes else album.strip(manifest["path"].iloc[spread], lambda _: "", LARGE)
    rows = manifest.assign(area=manifest["width"] * manifest["height"])
    extremes = []
    for title, column, ascending, template in EXTREMES:
        if rows[column].nunique() > 1:
            paths = rows.sort_values([column, "path"], ascending=ascending)["path"][:PER_EXTREME]
            caption = f"{{label}}\n{template}" if labels else template
            strip = album.strip(paths, lambda row, caption=caption: caption.format_map(row), LARGE)  # type: ignore[misc]
            extremes.append((title, strip))
    averages = [_average(manifest[manifest["label"] == label], label, album) for label in labels]
    return {
        "classes": classes,
        "averages": averages,
        "samples": samples,
        "all_classes": len(sorted_labels(manifest)),
        "extremes": extremes,
    }


def describe_dataset(manifest: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, Any]:
    """Return the images per class, statistics by split, labelled objects, formats and cameras, and rejected files."""
    table = pd.crosstab(manifest["label"], manifest["split"]).reindex(columns=["train", "val"], fill_value=0)
    per_class = [
        (label, int(table.loc[label, "train"]), int(table.loc[label, "val"])) for label in sorted_labels(manifest)
    ]
    per_class = [] if list(table.index) == [""] else per_class
    statistics, histograms = [], []
    for column, title in STATISTICS.items():
        by_split = [manifest.loc[manifest["split"] == split, column] for split in ("train", "val")]
        statistics.append(
            (title, *(f(values) for values in by_split for f in (pd.Series.min, pd.Series.median, pd.Series.max)))
        )
        if manifest[column].nunique() > 2:
            histograms.append(charts.histogram(dict(zip(("training", "validation"), by_split, strict=True)), title))
    titles = {"format": "formats", "mode": "kinds of pixels", "camera": "cameras"}
    named = manifest.assign(mode=manifest["mode"].map(describe_mode))
    kinds = [(title, named[kind].value_counts().to_dict()) for kind, title in titles.items()]
    return {
        "per_class": sorted(per_class, key=lambda row: -row[1] - row[2]),
        "statistics": statistics,
        "statistics_drawn": histograms,
        "objects": _describe_objects(manifest),
        "object_names": len({name for text in manifest["things"] for name, found in json.loads(text).items() if found}),
        "kinds": [
            (title, counts) for title, counts in kinds if any(counts)
        ],  # without columns in which all are unknown
        "rejected_rows": rejected.head(MAX_ROWS).to_numpy().tolist(),
        "rejected_count": len(rejected),
    }


def _average(rows: pd.DataFrame, label: str, album: Album) -> Thumbnail:
    """Return the mean image of a class at 8x8 pixels, with the levels of the album."""
    mean = unpack_thumbnails(rows["thumbnail"]).mean(axis=0)
    low, high = np.array(album.levels) / (257 if (rows["depth"] == 16).any() else 1)  # thumbnails have 8 bits
    drawn = ((mean - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)
    return thumbnail(drawn, f"average of class {label}", label)


def _describe_objects(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Return number, area and position of labelled objects or points for the `MAX_OBJECT_NAMES` most frequent names."""
    rows = [
        (image, name, instance.get("area"), instance["x"], instance["y"])
        for image, text in enumerate(manifest["things"])
        for name, instances in json.loads(text).items()
        for instance in instances
    ]
    table = pd.DataFrame(rows, columns=["image", "name", "area", "x", "y"])
    described = []
    for name in table["name"].value_counts().index[:MAX_OBJECT_NAMES]:
        rows_of_name = table[table["name"] == name]
        counts = rows_of_name.groupby("image").size()
        described.append(
            {
                "name": name,
                "images": len(counts),
                "counts": (int(counts.min()), float(counts.median()), int(counts.max())),
                "areas": None
                if rows_of_name["area"].isna().all()
                else tuple(rows_of_name["area"].quantile((0, 0.5, 1))),
                "map": charts.position_map(rows_of_name["x"].tolist(), rows_of_name["y"].tolist(), str(name)),
            }
        )
    return described
