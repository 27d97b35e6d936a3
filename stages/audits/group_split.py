"""Group-split audit: how much higher would the score of a simple probe be if images were split without their groups?

The probe is the one of the learning curve. It is scored in folds of whole groups, as Macula splits the data, and in
folds of single images, as a random split would.
"""

from collections.abc import Sequence

import numpy as np

from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.probes.cross_validation import FOLDS
from stages.probes.regression_targets import RegressionTargets, regression_targets
from stages.probes.split_comparison import Interval, SplitComparison, compare_splits

ID = "group_split/scores"
MIN_GROUPS = 8  # minimum number of groups
FEW_IMAGES = 1000  # number of images up to which cross-validation has more repeats
REPEATS, REPEATS_OF_MANY = 3, 2  # random partitions into folds


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report the score of the probe by group, beside the score that a random split would have reported (info).

    The result is empty if no group has different images, or if the labels are not classes or numbers.
    """
    rows = data.sample
    if rows.groupby("group")["pixels"].nunique().max() < 2:
        return []
    targets = regression_targets(rows, data.folder)
    if isinstance(targets, str):
        return []
    groups_N = rows["group"].to_numpy()
    kept_N, targets, left_out = _in_enough_groups(targets, groups_N)
    groups, images = len(np.unique(groups_N[kept_N])), int(kept_N.sum())
    if groups < MIN_GROUPS or (targets.classes and targets.target_ND.shape[1] < 2):
        what = f", and two classes with at least {FOLDS} groups each" if targets.classes else ""
        message = (
            f"The score of a random split was not compared with that by group: at least {MIN_GROUPS} groups are "
            f"required{what}, but the images are in {quantity(len(np.unique(groups_N)), 'group')}."
        )
        return [Finding("group_split/not-checked", "info", message)]
    repeats = REPEATS if images <= FEW_IMAGES else REPEATS_OF_MANY
    found = compare_splits(data.features[kept_N], targets, groups_N[kept_N], repeats)
    score = "a balanced accuracy" if targets.classes else "an R2"
    message = (
        f"For groups that it was not trained on, a simple probe predicts {targets.name} with {score} of "
        f"{_shown(found.by_group)}, in {quantity(images, 'image')} of {groups} groups. {_compare(found)}"
    )
    if left_out:
        message += (
            f" {quantity(left_out, 'class', 'classes')} with fewer than {FOLDS} groups "
            f"{'was' if left_out == 1 else 'were'} left out."
        )
    evidence = {
        "by_group": _figures(found.by_group),
        "by_image": _figures(found.by_image),
        "difference": _figures(found.difference),
        "constant": found.constant,
        "groups": groups,
        "images": images,
    }
    return [Finding(ID, "info", message, evidence)]


def _compare(found: SplitComparison) -> str:
    """Return sentences on the score that a random split would have reported, and on the constant prediction."""
    value, low, high = found.difference
    interval = f"{value:+.2f} (95% interval {low:+.2f} to {high:+.2f})"
    random = f"A random split of single images would have reported {found.by_image[0]:.2f}"
    if found.by_image[1] <= found.constant:
        return (
            f"{random}. Neither is better than a constant prediction ({found.constant:.2f}) beyond noise, so that the "
            "probe cannot show how much a random split overstates the score."
        )
    constant = f"A constant prediction has {found.constant:.2f}."
    if found.is_overstated:
        return (
            f"{random}, because the probe is then trained on other images of the same groups: a difference of "
            f"{interval}. {constant}"
        )
    return (
        f"{random}: the difference of {interval} is not beyond noise, so that the probe does not gain from other "
        f"images of the same groups; a network may. {constant}"
    )


def _in_enough_groups(targets: RegressionTargets, groups_N: np.ndarray) -> tuple[np.ndarray, RegressionTargets, int]:
    """Return which images have a class with at least `FOLDS` groups, their targets, and the number of other classes.

    A probe cannot predict a class of a single group without that group.
    """
    if not targets.classes:
        return np.ones(len(groups_N), bool), targets, 0
    code_N = targets.target_ND.argmax(axis=1)
    kept = [k for k in np.unique(code_N) if len(np.unique(groups_N[code_N == k])) >= FOLDS]
    kept_N = np.isin(code_N, kept)
    target_ND = targets.target_ND[kept_N][:, kept]
    return kept_N, RegressionTargets(targets.name, target_ND, True), targets.target_ND.shape[1] - len(kept)


def _shown(score: Interval) -> str:
    return "{:.2f} (95% interval {:.2f} to {:.2f})".format(*score)


def _figures(score: Sequence[float]) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), score, strict=True))
