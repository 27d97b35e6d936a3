"""cleanvision, cleanlab's Datalab, deepchecks and imagededup as their documentation has them, with their defaults.

Runs in an environment that has them and nothing of Macula (infra/locks/audit-peers.txt): a line of JSON in, a line out.
"""

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pandas as pd

NAMES = ("cleanvision", "cleanlab", "deepchecks", "imagededup", "numpy", "pandas", "scikit-learn", "torch", "pillow")


class Files:
    """The files of a case."""

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
        """Relative to the case."""
        return str(Path(file).relative_to(self.folder))


def cleanvision(files: Files) -> dict[str, Any]:
    """`Imagelab.find_issues()`."""
    from cleanvision import Imagelab

    lab = Imagelab(filepaths=list(files.table["file"]), verbose=False)
    lab.find_issues(n_jobs=1, verbose=False)
    answer = empty()
    for issue in lab.issue_summary["issue_type"]:
        flagged = lab.issues.index[lab.issues[f"is_{issue}_issue"]]
        answer["alarms"] += [[issue, "warning" if len(flagged) else "passed"]]
        answer["images"][issue] = [files.path(file) for file in flagged]
    for issue in ("exact_duplicates", "near_duplicates"):
        answer["sets"][issue] = [[files.path(file) for file in one] for one in lab.info[issue]["sets"]]
    return answer


def datalab(files: Files) -> dict[str, Any]:
    """`Datalab(..., image_key=...).find_issues(pred_probs=..., features=...)`."""
    from cleanlab import Datalab
    from datasets import Dataset, Image, disable_progress_bars

    disable_progress_bars()
    told = {"image": list(files.table["file"]), "label": list(files.table["label"])}
    data = Dataset.from_dict(told).cast_column("image", Image())
    lab = Datalab(data=data, label_name="label", image_key="image", verbosity=0)
    given = {"pred_probs": files.arrays.get("probabilities"), "features": files.arrays.get("features")}
    lab.find_issues(**{name: array for name, array in given.items() if array is not None})
    answer, paths = empty(), list(files.table["path"])
    issues = lab.get_issues()
    for issue in lab.get_issue_summary()["issue_type"]:
        flagged = np.flatnonzero(issues[f"is_{issue}_issue"])
        answer["alarms"] += [[issue, "warning" if len(flagged) else "passed"]]
        answer["images"][issue] = [paths[i] for i in flagged]
    if "near_duplicate" in set(lab.get_issue_summary()["issue_type"]):
        near = lab.get_issues("near_duplicate")
        flagged = near.index[near["is_near_duplicate_issue"]]
        answer["sets"]["near_duplicate"] = [
            [paths[i], *(paths[j] for j in near["near_duplicate_sets"][i])] for i in flagged
        ]
    told = lab.get_info("spurious_correlations")
    found = told["correlations_df"].query("score < @told['threshold']")
    answer["alarms"] += [["spurious_correlations", "warning" if len(found) else "passed"]]
    answer["figures"]["spurious_correlations"] = dict(zip(found["property"], found["score"].astype(float), strict=True))
    return answer


def deepchecks(files: Files) -> dict[str, Any]:
    """The checks of its suites `data_integrity` and `train_test_validation` with their default conditions."""
    from deepchecks.vision.checks import (
        ImageDatasetDrift,
        ImagePropertyDrift,
        ImagePropertyOutliers,
        PropertyLabelCorrelation,
        PropertyLabelCorrelationChange,
    )

    whole, train, val = (vision_data(files, split) for split in (None, "train", "val"))
    answer = empty()
    correlation = PropertyLabelCorrelation().add_condition_property_pps_less_than().run(whole, with_display=False)
    conditions = {"property_label_correlation": correlation}
    if val is not None and train is not None:
        drift = ImagePropertyDrift().add_condition_drift_score_less_than()
        conditions["property_drift"] = drift.run(train, val, with_display=False)
        change = PropertyLabelCorrelationChange().add_condition_property_pps_difference_less_than()
        conditions["property_label_correlation_change"] = change.run(train, val, with_display=False)
        found = ImageDatasetDrift().run(train, val, with_display=False).value["domain_classifier_drift_score"]
        answer["figures"]["dataset_drift"] = {"score": float(found)}
    for name, result in conditions.items():
        passed = all(condition.is_pass() for condition in result.conditions_results)
        answer["alarms"] += [[name, "passed" if passed else "warning"]]
    outliers = ImagePropertyOutliers().run(whole, with_display=False).value
    for name, found in outliers.items():
        if isinstance(found, dict) and "outliers_identifiers" in found:
            named = list(found["outliers_identifiers"])
            answer["images"][f"outliers: {name}"] = named
            answer["alarms"] += [[f"outliers: {name}", "warning" if named else "passed"]]
    return answer


def properties(files: Files) -> dict[str, Any]:
    """Of deepchecks, one pass over the images for their properties: the check `ImagePropertyOutliers` alone."""
    from deepchecks.vision.checks import ImagePropertyOutliers

    ImagePropertyOutliers().run(vision_data(files, None), with_display=False)
    return empty()


def vision_data(files: Files, split: str | None) -> Any:
    """Its form of data, of a split or of all; shuffled, as it wants them."""
    from deepchecks.vision import VisionData
    from PIL import Image

    keep = np.ones(len(files.table), bool) if split is None else (files.table["split"] == split).to_numpy()
    order = np.random.default_rng(0).permutation(np.flatnonzero(keep))
    if not len(order):
        return None

    class Loader:
        def __iter__(self):
            for first in range(0, len(order), 64):
                those = order[first : first + 64]
                arrays = [np.asarray(Image.open(files.table["file"][i])) for i in those]
                yield {
                    "images": [array if array.ndim == 3 else array[:, :, None] for array in arrays],
                    "labels": [files.codes[i] for i in those],
                    "image_identifiers": [files.table["path"][i] for i in those],
                }

    names = dict(enumerate(files.classes))
    return VisionData(Loader(), task_type="classification", label_map=names, reshuffle_data=False)


def imagededup(files: Files) -> dict[str, Any]:
    """`PHash().find_duplicates(...)`; its CNN needs weights that are downloaded."""
    from imagededup.methods import PHash

    found = PHash(verbose=False).find_duplicates(
        image_dir=str(files.folder), recursive=True, num_enc_workers=0, num_dist_workers=0
    )
    answer = empty()
    answer["sets"]["phash"] = [[one, other] for one, others in found.items() for other in others if one < other]
    answer["alarms"] = [["phash", "warning" if answer["sets"]["phash"] else "passed"]]
    return answer


PEERS = {
    "cleanvision": cleanvision,
    "datalab": datalab,
    "deepchecks": deepchecks,
    "deepchecks properties": properties,
    "imagededup": imagededup,
}


def empty() -> dict[str, Any]:
    """An answer that says nothing yet."""
    return {"alarms": [], "sets": {}, "images": {}, "figures": {}}


def main() -> None:
    """Answer until there are no more questions."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    answers = sys.stdout
    with (
        contextlib.redirect_stdout(sys.stderr),
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        print(json.dumps({name: version(name) for name in NAMES}), file=answers, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            files, found = Files(Path(asked["folder"])), {}
            for name in asked["names"]:
                began, before = time.perf_counter(), os.times()
                try:
                    found[name] = PEERS[name](files)
                except Exception as error:
                    found[name] = empty() | {"error": f"{type(error).__name__}: {error}"[:500]}
                after = os.times()
                found[name]["seconds"] = time.perf_counter() - began
                found[name]["cpu_seconds"] = sum(after[:4]) - sum(before[:4])
            print(json.dumps(found, default=float), file=answers, flush=True)


if __name__ == "__main__":
    main()
