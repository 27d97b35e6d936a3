"""The images of a data set as a page shows them: what they look like, what their labels say, what is odd."""

import json
from typing import Any

import numpy as np
import pandas as pd

from stages.dataset.manifest import sorted_labels
from stages.images.image_statistics import unpack_thumbnails
from stages.reports import charts
from stages.reports.thumbnails import Album, Thumbnail, thumbnail

FEW_CLASSES = 24  # up to here every class is shown as pictures
SAMPLES = 24  # images shown where there are no classes
PER_CLASS, PER_EXTREME = 8, 6  # thumbnails
SMALL, LARGE = 104, 144  # pixels of a photo's thumbnail
MOST_ROWS = 50  # of a table
MOST_THINGS = 16  # classes of things, or points, that are described
STATISTICS = {
    "width": "width, pixels",
    "height": "height, pixels",
    "bytes": "file, bytes",
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
    ("Least sharp", "sharpness", True, "sharpness {sharpness:.1f}"),
)


def look(manifest: pd.DataFrame, album: Album) -> dict[str, Any]:
    """Some pictures of each class (of the largest and the smallest, if there are many), and the extremes."""
    counts = manifest["label"].value_counts()
    labels = sorted_labels(manifest)
    if labels == [""]:
        labels = []
    if len(labels) > FEW_CLASSES:
        by_size = list(counts.index)
        labels = by_size[: FEW_CLASSES // 2] + by_size[-FEW_CLASSES // 2 :]
    classes = []
    for label in labels:
        paths = manifest.loc[manifest["label"] == label, "path"]
        spread = np.unique(np.linspace(0, len(paths) - 1, PER_CLASS).round().astype(int))
        classes.append((label, int(counts[label]), album.strip(paths.iloc[spread], side=SMALL)))
    spread = np.unique(np.linspace(0, len(manifest) - 1, SAMPLES).round().astype(int))
    samples = [] if classes else album.strip(manifest["path"].iloc[spread], lambda _: "", LARGE)
    rows = manifest.assign(area=manifest["width"] * manifest["height"])
    extremes = []
    for title, column, ascending, words in EXTREMES:
        if rows[column].nunique() > 1:
            paths = rows.sort_values([column, "path"], ascending=ascending)["path"][:PER_EXTREME]
            caption = f"{{label}}\n{words}" if labels else words
            strip = album.strip(paths, lambda row, caption=caption: caption.format_map(row), LARGE)  # type: ignore[misc]
            extremes.append((title, strip))
    averages = [_average(manifest[manifest["label"] == label], label) for label in labels]
    return {
        "classes": classes,
        "averages": averages,
        "samples": samples,
        "all_classes": len(sorted_labels(manifest)),
        "extremes": extremes,
    }


def told(manifest: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, Any]:
    """Samples per class, statistics by split, what the labels say, and what was rejected."""
    table = pd.crosstab(manifest["label"], manifest["split"]).reindex(columns=["train", "val"], fill_value=0)
    per_class = [
        (label, int(table.loc[label, "train"]), int(table.loc[label, "val"])) for label in sorted_labels(manifest)
    ]
    per_class = [] if list(table.index) == [""] else per_class
    statistics, drawn = [], []
    for column, words in STATISTICS.items():
        by_split = [manifest.loc[manifest["split"] == split, column] for split in ("train", "val")]
        statistics.append(
            (words, *(f(values) for values in by_split for f in (pd.Series.min, pd.Series.median, pd.Series.max)))
        )
        if manifest[column].nunique() > 2:
            drawn.append(charts.histogram(dict(zip(("training", "validation"), by_split, strict=True)), words))
    kinds = [(f"{kind}s", manifest[kind].value_counts().to_dict()) for kind in ("format", "mode", "camera")]
    return {
        "per_class": sorted(per_class, key=lambda row: -row[1] - row[2]),
        "statistics": statistics,
        "statistics_drawn": drawn,
        "things": _things(manifest),
        "kinds": [(words, counts) for words, counts in kinds if any(counts)],  # not where all are unknown
        "rejected_rows": rejected.head(MOST_ROWS).to_numpy().tolist(),
        "rejected_count": len(rejected),
    }


def _average(rows: pd.DataFrame, label: str) -> Thumbnail:
    """The mean of the images of a class at 8x8 pixels: where these differ, a network need not look closer."""
    mean = unpack_thumbnails(rows["thumbnail"]).mean(axis=0).round().astype(np.uint8)
    return thumbnail(mean, f"average of class {label}", label)


def _things(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """How many things, or points, of a name there are in an image, how large and where; the most frequent first."""
    rows = [
        (image, name, thing.get("area"), thing["x"], thing["y"])
        for image, text in enumerate(manifest["things"])
        for name, found in json.loads(text).items()
        for thing in found
    ]
    table = pd.DataFrame(rows, columns=["image", "name", "area", "x", "y"])
    told = []
    for name in table["name"].value_counts().index[:MOST_THINGS]:
        those = table[table["name"] == name]
        counts = those.groupby("image").size()
        told.append(
            {
                "name": name,
                "images": len(counts),
                "counts": (int(counts.min()), float(counts.median()), int(counts.max())),
                "areas": None if those["area"].isna().all() else tuple(those["area"].quantile((0, 0.5, 1))),
                "map": charts.places(those["x"].tolist(), those["y"].tolist(), str(name)),
            }
        )
    return told
