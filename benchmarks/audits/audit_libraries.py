"""Run cleanvision, cleanlab's Datalab, deepchecks and imagededup as in their documentation, with their defaults.

Runs in an environment of these libraries without Macula (infra/locks/audit-peers.txt). The first line on stdout is
the versions of the packages as JSON. Then each line of JSON on stdin is a request, and each line of JSON on stdout
contains its results by library.
"""

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pandas as pd

NAMES = ("cleanvision", "cleanlab", "deepchecks", "imagededup", "numpy", "pandas", "scikit-learn", "torch", "pillow")


class Files:
    """Files, labels and arrays that `audit_competitors.write_case` wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "images"
        table = pd.DataFrame(json.loads((folder / "case.json").read_text()))
        self.table = table.assign(file=[str(self.folder / path) for path in table["path"]])
        self.classes = sorted(table["label"].unique())
        self.codes = [self.classes.index(label) for label in table["label"]]
        self.arrays = {}
        for name in ("probabilities", "features"):
            if (folder / f"{name}.npy").exists():
                self.arrays[name] = np.load(folder / f"{name}.npy")

    def path(self, file: str) -> str:
        """Return the path of a file relative to the folder of the images."""
        return str(Path(file).relative_to(self.folder))


def cleanvision(files: Files) -> dict[str, Any]:
    """Run `Imagelab.find_issues()`."""
    from cleanvision import Imagelab

    lab = Imagelab(filepaths=list(files.table["file"]), verbose=False)
    lab.find_issues(n_jobs=1, verbose=False)
    result = empty()
    for issue in lab.issue_summary["issue_type"]:
        flagged = lab.issues.index[lab.issues[f"is_{issue}_issue"]]
        result["alarms"] += [[issue, "warning" if len(flagged) else "passed"]]
        result["images"][issue] = [files.path(file) for file in flagged]
    for issue in ("exact_duplicates", "near_duplicates"):
        result["sets"][issue] = [[files.path(file) for file in one] for one in lab.info[issue]["sets"]]
    return result


def datalab(files: Files) -> dict[str, Any]:
    """Run `Datalab(..., image_key=...).find_issues(pred_probs=..., features=...)`."""
    from cleanlab import Datalab
    from datasets import Dataset, Image, disable_progress_bars

    disable_progress_bars()
    columns = {"image": list(files.table["file"]), "label": list(files.table["label"])}
    data = Dataset.from_dict(columns).cast_column("image", Image())
    lab = Datalab(data=data, label_name="label", image_key="image", verbosity=0)
    given = {"pred_probs": files.arrays.get("probabilities"), "features": files.arrays.get("features")}
    lab.find_issues(**{name: array for name, array in given.items() if array is not None})
    result, paths = empty(), list(files.table["path"])
    issues = lab.get_issues()
    for issue in lab.get_issue_summary()["issue_type"]:
        flagged = np.flatnonzero(issues[f"is_{issue}_issue"])
        result["alarms"] += [[issue, "warning" if len(flagged) else "passed"]]
        result["images"][issue] = [paths[i] for i in flagged]
    if "near_duplicate" in set(lab.get_issue_summary()["issue_type"]):
        near = lab.get_issues("near_duplicate")
        flagged = near.index[near["is_near_duplicate_issue"]]
        result["sets"]["near_duplicate"] = [
            [paths[i], *(paths[j] for j in near["near_duplicate_sets"][i])] for i in flagged
        ]
    correlations = lab.get_info("spurious_correlations")
    found = correlations["correlations_df"].query("score < @correlations['threshold']")
    result["alarms"] += [["spurious_correlations", "warning" if len(found) else "passed"]]
    result["figures"]["spurious_correlations"] = dict(zip(found["property"], found["score"].astype(float), strict=True))
    return result


def deepchecks(files: Files) -> dict[str, Any]:
    """Run checks of image properties and of drift from the suites `data_integrity` and `train_test_validation`.

    Conditions and other settings are the defaults.
    """
    from deepchecks.vision.checks import (
        ImageDatasetDrift,
        ImagePropertyDrift,
        ImagePropertyOutliers,
        PropertyLabelCorrelation,
        PropertyLabelCorrelationChange,
    )

    whole, train, val = (vision_data(files, split) for split in (None, "train", "val"))
    result = empty()
    correlation = PropertyLabelCorrelation().add_condition_property_pps_less_than().run(whole, with_display=False)
    conditions = {"property_label_correlation": correlation}
    if val is not None and train is not None:
        drift = ImagePropertyDrift().add_condition_drift_score_less_than()
        conditions["property_drift"] = drift.run(train, val, with_display=False)
        change = PropertyLabelCorrelationChange().add_condition_property_pps_difference_less_than()
        conditions["property_label_correlation_change"] = change.run(train, val, with_display=False)
        found = ImageDatasetDrift().run(train, val, with_display=False).value["domain_classifier_drift_score"]
        result["figures"]["dataset_drift"] = {"score": float(found)}
    for name, check in conditions.items():
        passed = all(condition.is_pass() for condition in check.conditions_results)
        result["alarms"] += [[name, "passed" if passed else "warning"]]
    outliers = ImagePropertyOutliers().run(whole, with_display=False).value
    for name, found in outliers.items():
        if isinstance(found, dict) and "outliers_identifiers" in found:
            named = list(found["outliers_identifiers"])
            result["images"][f"outliers: {name}"] = named
            result["alarms"] += [[f"outliers: {name}", "warning" if named else "passed"]]
    return result


def properties(files: Files) -> dict[str, Any]:
    """Run `ImagePropertyOutliers` alone: deepchecks computes the properties of the images in one pass."""
    from deepchecks.vision.checks import ImagePropertyOutliers

    ImagePropertyOutliers().run(vision_data(files, None), with_display=False)
    return empty()


def vision_data(files: Files, split: str | None) -> Any:
    """Return the `VisionData` of a split, or of all images if `split` is None; None if there are no images.

    The images are shuffled, as deepchecks requires.
    """
    from deepchecks.vision import VisionData
    from PIL import Image

    keep = np.ones(len(files.table), bool) if split is None else (files.table["split"] == split).to_numpy()
    order = np.random.default_rng(0).permutation(np.flatnonzero(keep))
    if not len(order):
        return None

    class Loader:
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for first in range(0, len(order), 64):
                batch = order[first : first + 64]
                arrays = [np.asarray(Image.open(files.table["file"][i])) for i in batch]
                yield {
                    "images": [array if array.ndim == 3 else array[:, :, None] for array in arrays],
                    "labels": [files.codes[i] for i in batch],
                    "image_identifiers": [files.table["path"][i] for i in batch],
                }

    names = dict(enumerate(files.classes))
    return VisionData(Loader(), task_type="classification", label_map=names, reshuffle_data=False)


def imagededup(files: Files) -> dict[str, Any]:
    """Run `PHash().find_duplicates(...)`; the CNN is left out because its weights would have to be downloaded."""
    from imagededup.methods import PHash

    found = PHash(verbose=False).find_duplicates(
        image_dir=str(files.folder), recursive=True, num_enc_workers=0, num_dist_workers=0
    )
    result = empty()
    result["sets"]["phash"] = [[one, other] for one, others in found.items() for other in others if one < other]
    result["alarms"] = [["phash", "warning" if result["sets"]["phash"] else "passed"]]
    return result


LIBRARIES = {
    "cleanvision": cleanvision,
    "datalab": datalab,
    "deepchecks": deepchecks,
    "deepchecks properties": properties,
    "imagededup": imagededup,
}


def empty() -> dict[str, Any]:
    """Return a result without findings."""
    return {"alarms": [], "sets": {}, "images": {}, "figures": {}}


def main() -> None:
    """Process requests until stdin ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    results = sys.stdout
    with (
        contextlib.redirect_stdout(sys.stderr),
        Path(os.devnull).open("w") as devnull,
        contextlib.redirect_stderr(devnull),
    ):
        print(json.dumps({name: version(name) for name in NAMES}), file=results, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            files, found = Files(Path(request["folder"])), {}
            for name in request["names"]:
                began, before = time.perf_counter(), os.times()
                try:
                    found[name] = LIBRARIES[name](files)
                except Exception as error:
                    found[name] = empty() | {"error": f"{type(error).__name__}: {error}"[:500]}
                after = os.times()
                found[name]["seconds"] = time.perf_counter() - began
                found[name]["cpu_seconds"] = sum(after[:4]) - sum(before[:4])
            print(json.dumps(found, default=float), file=results, flush=True)


if __name__ == "__main__":
    main()
