"""Confounder audit: can image statistics or file metadata alone predict the label?

In the tank anecdote, a network trained to detect tanks had learned to distinguish sunny from overcast days. This audit
fits a linear model to image statistics only, and to file metadata only, and predicts the label of groups that the model
has not seen. A network may use whatever predicts the label better than chance instead of the object.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stages.audits import border_confounders, informative_part
from stages.audits.audit_data import AuditData
from stages.audits.power import TRIALS, Power, merge_unchecked, require_power
from stages.augmentations import AUGMENTATIONS
from stages.config.schema_data import Audit
from stages.core.findings import Finding, Severity
from stages.core.plurals import quantity
from stages.dataset.capture_times import parse_times
from stages.dataset.manifest import parse_annotations
from stages.images.image_statistics import EXPOSURE, METADATA, STRUCTURE, unpack_thumbnails
from stages.probes.linear_probe import FOLDS, Skill, probe
from stages.probes.univariate import single_feature_separation

COLOURS = ("redness", "blueness")  # statistics of colours
MAX_COLOUR_LOSS = 0.2  # share of the skill of thumbnails lost without colours, from which colours may be the signal
MAX_AMOUNT = 0.5  # largest amount of a suggested augmentation; a larger one destroys the image
BINS = 5  # number of quantile bins of a regression target
CONTENT_DEPENDENT = ("bytes", "bytes_per_pixel")
"""Metadata that depend on the content: a class with little detail has small compressed files. They block by skill, not
by AUC: digit 1 of USPS has a skill of 0.84 and an AUC of 0.99 although nothing is wrong."""
BLOCKING_SKILL = 0.5  # skill of metadata without the file size, from which the finding blocks; below it, it warns
MIN_GROUPS = 20  # with 8 groups, the test had no power
LEVELS = ("brightness", "darkest", "brightest", "border")  # statistics that a change of the exposure shifts


def find(data: AuditData, audit: Audit) -> list[Finding]:
    """Report whether image statistics, the border, file metadata or file names predict the label.

    `confounder/statistics` warns if image statistics predict the label; it blocks if one statistic of `EXPOSURE` alone
    separates a class, or instead of a warning if `audit.block_on_content` is true. `confounder/metadata` blocks if the
    skill over all classes is at least `audit.min_skill`, if that for one class without the file size is at least
    `BLOCKING_SKILL`, or if that of the file size alone is at least `audit.blocking_auc`; it warns if one class is
    predicted without the file size with a lower skill, but at least `audit.min_skill`. `confounder/file-names` never
    warns or blocks. All require a p-value of at most `audit.max_p`. A regression target is predicted as one of at
    most five quantile bins.
    """
    labelled = _with_label(data)
    if labelled is None:
        message = (
            "Confounders were not checked: the audit requires that every image has exactly one class, or that every "
            "image has exactly one number."
        )
        return [Finding("confounder/not-checked", "info", message)]
    rows, left_out = _with_enough_groups(labelled)
    groups = rows["group"].nunique()
    classes = rows["label"].nunique()
    if classes < 2 or groups < MIN_GROUPS:
        message = (
            f"Confounders could not be checked: {quantity(classes, 'class has', 'classes have')} at least {FOLDS} "
            f"groups, with {quantity(groups, 'group')} in total. At least two such classes with {MIN_GROUPS} groups in "
            "total are required. Confounders may be present."
        )
        evidence = {"groups": groups, "classes_left_out": left_out}
        return [Finding("confounder/not-checked", "warning", message, evidence)]
    rows = _sample(rows, audit.max_images)
    findings = [
        *_statistics(rows, audit),
        informative_part.find(rows, data.folder),
        *border_confounders.find(rows, audit),
        *_metadata(rows, audit),
        *_names(rows, audit),
    ]
    if left_out:
        message = (
            f"{quantity(len(left_out), 'class', 'classes')} with fewer than {FOLDS} groups "
            f"{'was' if len(left_out) == 1 else 'were'} excluded from the confounder audit: "
            f"{', '.join(left_out[:10])}{', ...' if len(left_out) > 10 else ''}."
        )
        findings.append(Finding("confounder/not-checked", "info", message, {"classes": left_out}))
    findings = merge_unchecked(findings)
    return findings if data.one_class_each else [_about_ranges(finding) for finding in findings]


def _about_ranges(finding: Finding) -> Finding:
    """Return a finding about the bins of a number, which the audit treats as classes, without the word class."""
    message = re.sub(r"\bclass(es)?\b", lambda found: "ranges" if found[1] else "range", finding.message)
    return replace(finding, message=message)


def _statistics(rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    features = rows[[*EXPOSURE, *STRUCTURE]]
    skill = probe(features, rows["label"], rows["group"], audit.permutations, audit.min_skill)
    tells = single_feature_separation(features, rows["label"], rows["group"])
    evidence = {
        "skill": skill.skill,
        "of_one_class": skill.best,
        "p": skill.p,
        "images": len(rows),
        "tells": tells[:20],
    }
    message = f"Image statistics ({', '.join(features)}) predict the label with skill {_skill_text(skill)}."
    alone = [t for t in tells if t["feature"] in EXPOSURE and t["p"] <= audit.max_p and t["auc"] >= audit.blocking_auc]
    if alone:
        separations = "; ".join(
            f"{t['feature']} alone separates class `{t['label']}` with balanced accuracy {t['accuracy']:.2f} (AUC "
            f"{t['auc']:.2f}, {t['direction']})"
            for t in alone[:5]
        ) + ("; ..." if len(alone) > 5 else "")
        message = (
            f"{separations[0].upper()}{separations[1:]}. {message} A network may learn this instead of the object: "
            f"find out how these images were recorded.{_augmentation_advice(alone[:3], rows)}"
        )
        images = [path for t in alone[:3] for path in rows.loc[rows["label"] == t["label"], "path"].head(6)]
        return [Finding("confounder/statistics", "blocking", message, evidence, list(dict.fromkeys(images)))]
    if _is_significant(skill, audit):
        strongest = ", ".join(f"{t['feature']} for class `{t['label']}` (AUC {t['auc']:.2f})" for t in tells[:3])
        message += f" This may be a true difference between the classes. It is largest in {strongest}."
        message += f" Compare the score of the model with this skill.{_augmentation_advice(tells[:1], rows)}"
        severity: Severity = "blocking" if audit.block_on_content else "warning"
        return [Finding("confounder/statistics", severity, message, evidence)]
    found = Finding("confounder/statistics", "passed", f"{message} {_limits_text(audit)}", evidence)
    step = max(1.0, float(rows["brightness"].std()))
    fault = f"one class that is {step:.0f} levels brighter or darker"

    def other_exposure(label: str, trial: int) -> pd.DataFrame:
        """Shift the exposure of a class by a standard deviation of the brightness of all images."""
        shift_N = (rows["label"] == label) * (step if trial % 2 else -step)
        return features.assign(**{name: (features[name] + shift_N).clip(0, 255) for name in LEVELS})

    return require_power(found, [_power(fault, other_exposure, rows, skill, audit)])


def _power(
    fault: str, change: Callable[[str, int], pd.DataFrame], rows: pd.DataFrame, skill: Skill, audit: Audit
) -> Power:
    """Return how often a probe finds a fault that is planted in one class of the data.

    Args:
        fault: the fault in words.
        change: function from the class and the number of the trial to the features with the fault.
        rows: rows of the manifest with the column `label`.
        skill: result for the features without a fault.
        audit: thresholds.
    """
    found = 0
    for trial, label in enumerate(drawn_classes(rows["label"], TRIALS)):
        result = probe(change(label, trial), rows["label"], rows["group"], permutations=0)
        found += skill.p_of(result.margin) <= audit.max_p and result.best >= audit.min_skill
    alarms, permutations = skill.false_alarms(audit.max_p, audit.min_skill)
    missing = "More images, in more groups per class, are required."
    return Power(fault, found, TRIALS, missing, f"false alarms in {alarms} of {permutations} permutations")


def drawn_classes(labels: pd.Series, count: int) -> list[str]:
    """Return `count` random classes, as different ones as possible; the same for the same labels."""
    names = sorted(labels.unique())
    return [names[i] for i in np.resize(np.random.default_rng(0).permutation(len(names)), count)]


def _augmentation_advice(tells: list[dict[str, Any]], rows: pd.DataFrame) -> str:
    """Return advice on augmentations that make these statistics uninformative; empty if there are none.

    Colours are not removed if thumbnails without colours predict the label clearly worse: they may be the signal.
    """
    coloured = [tell for tell in tells if tell["feature"] in COLOURS]
    skill, grey = _skill_of_colours(rows) if coloured else (0.0, 0.0)
    is_signal = grey < (1 - MAX_COLOUR_LOSS) * skill
    warning = (
        f" Do not remove this information by augmentation if colours are a property of the objects: the skill of "
        f"thumbnails is {skill:.2f} with colours and {grey:.2f} without."
        if is_signal
        else ""
    )
    amounts: dict[str, str] = {}
    for tell in tells:
        if is_signal and tell["feature"] in COLOURS:
            continue
        for name, augmentation in AUGMENTATIONS.items():
            if tell["feature"] in augmentation.breaks:
                amount_for = augmentation.enough
                enough = math.ceil(100 * amount_for(tell["inside"], tell["outside"])) / 100 if amount_for else None
                if enough is None:
                    amounts[name] = "true"
                elif 0 < enough <= MAX_AMOUNT:
                    amounts[name] = max(amounts.get(name, ""), f"{enough:.2f}")
    if not amounts:
        return warning
    listed = ", ".join(f"{name}: {amount}" for name, amount in amounts.items())
    return (
        f" Augmentation can remove this information: set augment.amounts to {{{listed}}} and inspect the results."
        f"{warning}"
    )


def _skill_of_colours(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the skills with which thumbnails predict the label, with colours and without."""
    cells = unpack_thumbnails(rows["thumbnail"]).reshape(len(rows), -1, 3).astype(float)
    tables = (pd.DataFrame(values.reshape(len(rows), -1)) for values in (cells, cells.mean(axis=2)))
    skills = [probe(table, rows["label"], rows["group"], permutations=0).skill for table in tables]
    return skills[0], max(skills[1], 0.0)


def _metadata(rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    if not rows["has_file"].all():
        count = int((~rows["has_file"]).sum())
        message = (
            f"File metadata were not checked: {count:,} of {quantity(len(rows), 'image')} "
            f"{'comes' if count == 1 else 'come'} from arrays, which have none."
        )
        return [Finding("confounder/metadata", "info", message)]
    varying = [name for name in METADATA if rows[name].nunique() > 1]
    if not varying:
        message = "All files have the same metadata, which therefore cannot predict the label."
        return [Finding("confounder/metadata", "passed", message)]  # not a test: any difference would be seen
    features = rows[varying].assign(**({"taken": _days(rows["taken"])} if "taken" in varying else {}))
    skill = probe(features, rows["label"], rows["group"], audit.permutations, audit.min_skill)
    skill_of = {name: probe(features[[name]], rows["label"], rows["group"], permutations=0).best for name in varying}
    evidence = {"skill": skill.skill, "p": skill.p, "images": len(rows), "skill_alone": skill_of}
    message = f"File metadata ({', '.join(varying)}) predict the label with skill {_skill_text(skill)}."
    blocks = [skill.p <= audit.max_p and skill.skill >= audit.min_skill]
    blocks += [
        skill.p <= audit.max_p and skill_of[name] >= audit.blocking_auc
        for name in CONTENT_DEPENDENT
        if name in skill_of
    ]
    warns = False
    independent = [name for name in varying if name not in CONTENT_DEPENDENT]
    without = skill
    if independent:
        without = probe(features[independent], rows["label"], rows["group"], audit.permutations, audit.min_skill)
        evidence |= {"without_bytes": without.best, "p_without_bytes": without.p}
        message += f" Without the file size, the skill is {_skill_text(without)}."
        warns = _is_significant(without, audit)
        blocks.append(warns and without.best >= BLOCKING_SKILL)
    if warns or any(blocks):
        ranked = sorted(skill_of, key=lambda name: -skill_of[name])[:3]
        strongest = ", ".join(f"{name} {skill_of[name]:.2f}" for name in ranked if skill_of[name] > 0)
        message += f" Highest skills of single properties: {strongest}." if strongest else ""
        message += (
            " The label should not depend on properties of the file: find out why they differ between the classes, and "
            "record and store all images in the same way."
        )
        return [Finding("confounder/metadata", "blocking" if any(blocks) else "warning", message, evidence)]
    message += (
        f" This is reported if the skill without the file size is at least {audit.min_skill:g} with p of at most "
        f"{audit.max_p:g}."
    )
    found = Finding("confounder/metadata", "passed", message, evidence)

    def other_camera(label: str, trial: int) -> pd.DataFrame:
        return features[independent].assign(camera=rows["camera"].astype(str).where(rows["label"] != label, "another"))

    return require_power(found, [_power("one class from another camera", other_camera, rows, without, audit)])


def _days(taken: pd.Series) -> pd.Series:
    """Return days since 1970 for EXIF dates; -1 for a missing date."""
    return pd.Series(parse_times(taken.tolist()) / 86_400, taken.index).fillna(-1.0)


def _names(rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    """Report whether the numbers in file names predict the label: consecutive numbers often come from one session.

    The result is empty if images come from arrays, a name has no number, or fewer than half the numbers are distinct.
    """
    if not rows["has_file"].all():
        return []
    number = rows["path"].str.extract(r"(\d{1,15})\D*$")[0].astype(float)
    if number.isna().any() or number.nunique() < len(number) / 2:
        return []  # images without numbers, or numbered separately in each class
    skill = probe(pd.DataFrame({"number": number}), rows["label"], rows["group"], audit.permutations, audit.min_skill)
    evidence = {"skill": skill.skill, "of_one_class": skill.best, "p": skill.p}
    message = f"The numbers in file names predict the label with skill {_skill_text(skill)}."
    if not _is_significant(skill, audit):
        found = Finding("confounder/file-names", "passed", f"{message} {_limits_text(audit)}", evidence)

        def own_session(label: str, trial: int) -> pd.DataFrame:
            """Number the images of a class after those of all others."""
            return pd.DataFrame({"number": number.rank(method="first") + len(number) * (rows["label"] == label)})

        return require_power(found, [_power("one class numbered after the others", own_session, rows, skill, audit)])
    message += (
        " A network does not see file names. However, if a camera assigned the numbers, each class may have been "
        "recorded in one session with its own light and background, which the network does see. If the images were "
        "numbered after they were sorted by class, nothing is wrong."
    )
    return [Finding("confounder/file-names", "info", message, evidence)]


def _with_label(data: AuditData) -> pd.DataFrame | None:
    """Return the rows with the class, or the quantile bin of the only number, as `label`; None if there is neither."""
    if data.one_class_each:
        return data.rows
    scalars = [a.scalars for a in parse_annotations(data.rows)]
    if not all(numbers is not None and len(numbers) == 1 for numbers in scalars):
        return None
    values = pd.Series([next(iter(numbers.values())) for numbers in scalars if numbers], index=data.rows.index)
    few = values.nunique() <= BINS  # equal numbers stay in one bin
    bins = pd.Series(pd.factorize(values)[0], values.index) if few else _quantile_bins(values)
    bounds = values.groupby(bins).agg(["min", "max"])
    (name,) = next(numbers for numbers in scalars if numbers)
    return data.rows.assign(label=bins.map({number: _range_text(name, *ends) for number, *ends in bounds.itertuples()}))


def _range_text(name: str, low: float, high: float) -> str:
    """Return a range of a number in words.

    >>> _range_text("weight", 68, 102), _range_text("legs", 4, 4)
    ('weight from 68 to 102', 'legs of 4')
    """
    return f"{name} of {low:g}" if low == high else f"{name} from {low:g} to {high:g}"


def _quantile_bins(values: pd.Series) -> pd.Series:
    return pd.qcut(values, BINS, labels=False, duplicates="drop")


def _is_significant(skill: Skill, audit: Audit) -> bool:
    return skill.p <= audit.max_p and skill.best >= audit.min_skill


def _limits_text(audit: Audit) -> str:
    """Return a sentence that states from which skill and p-value a finding is reported."""
    return f"This is reported from a skill of {audit.min_skill:g} with p of at most {audit.max_p:g}."


def _skill_text(skill: Skill) -> str:
    best = skill.by_class.idxmax()
    one = f", and {skill.best:.2f} for class `{best}`" if skill.best > skill.skill and len(skill.by_class) > 2 else ""
    return f"{skill.skill:.2f}{one} (0: chance, 1: perfect; p = {skill.p:.3f})"


def _with_enough_groups(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    per_class = rows.groupby("label")["group"].nunique()
    left_out = sorted(per_class[per_class < FOLDS].index)
    return rows[~rows["label"].isin(left_out)], left_out


def _sample(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return about `most` random images of all classes: images of large groups are omitted first, then groups."""
    if len(rows) <= most:
        return rows
    shuffled = rows.sample(frac=1, random_state=0)
    each = max(1, most // rows["group"].nunique())
    thinned = shuffled[shuffled.groupby(["group", "label"]).cumcount() < each]
    if len(thinned) <= most:
        return thinned.sort_index()
    share, kept = most / len(thinned), set()
    for _, groups in thinned.groupby("label")["group"]:
        names = groups.unique()
        kept |= set(names[: max(FOLDS, math.ceil(share * len(names)))])
    return thinned[thinned["group"].isin(kept)].sort_index()
