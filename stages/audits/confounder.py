"""The tank lesson: the label must not be foretold by what has nothing to do with the thing.

A network trained to find tanks had learned to tell sunny from overcast days. So a plain linear model is given nothing
but statistics of the images, then nothing but properties of their files, and asked for the label, across groups that
it has not seen. What it foretells better than chance, a network may have learned instead of the thing.
"""

import math
from typing import Any

import pandas as pd

from stages.audits import border_confounders
from stages.audits.audit_data import Subject
from stages.augmentations import AUGMENTATIONS
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.dataset.manifest import parse_annotations
from stages.images.image_statistics import EXPOSURE, METADATA, STRUCTURE
from stages.probes.linear_probe import FOLDS, Skill, probe
from stages.probes.univariate import single_tells

MOST_BROKEN = 0.5  # of an augmentation: with more of it little is left of the image
FIFTHS = 5
CONTENT_TOO = ("bytes", "bytes_per_pixel")
"""Of a compressed file they follow from what is in the image: a class of little detail has small files. That they tell
one class alone blocks by skill and not by AUC: the ones of USPS have .84 and .99, with nothing wrong."""
CLEAR = 0.5  # skill, without the bytes, for one class of many, from which metadata block; below it they warn
FEWEST_GROUPS = 20  # with 8 scenes the test had no power: silence would not mean clean


def find(subject: Subject, audit: Audit) -> list[Finding]:
    """`confounder/statistics` warns, or blocks when one statistic alone tells a class; `confounder/metadata` blocks.

    Of `places` and of names see there. Numbers are foretold as the fifth of the images to which they belong.
    """
    told = _told(subject)
    if told is None:
        says = (
            "Whether image statistics or file metadata give the label away was not looked at: "
            "the labels are neither one class nor one number an image."
        )
        return [Finding("confounder/not-checked", "info", says)]
    rows, left_out = _with_enough_groups(told)
    groups = rows["group"].nunique()
    if rows["label"].nunique() < 2 or groups < FEWEST_GROUPS:
        says = (
            "Too few groups to tell whether image statistics or file metadata give the label away: "
            f"{groups} groups in classes of at least {FOLDS}; at least {FEWEST_GROUPS} in two classes are needed. "
            "This does not mean that they don't."
        )
        evidence = {"groups": groups, "classes_left_out": left_out}
        return [Finding("confounder/not-checked", "warning", says, evidence)]
    rows = _sample(rows, audit.max_images)
    findings = [
        _statistics(rows, audit),
        *border_confounders.find(rows, audit),
        _metadata(rows, audit),
        *_names(rows, audit),
    ]
    if left_out:
        says = (
            f"{len(left_out)} classes have fewer than {FOLDS} groups and were left out of the confounder audit: "
            f"{', '.join(left_out[:10])}."
        )
        findings.append(Finding("confounder/not-checked", "info", says, {"classes": left_out}))
    return findings


def _statistics(rows: pd.DataFrame, audit: Audit) -> Finding:
    features = rows[[*EXPOSURE, *STRUCTURE]]
    skill = probe(features, rows["label"], rows["group"], audit.permutations, audit.min_skill)
    tells = single_tells(features, rows["label"], rows["group"])
    evidence = {
        "skill": skill.skill,
        "of_one_class": skill.most,
        "p": skill.p,
        "images": len(rows),
        "tells": tells[:20],
    }
    says = f"Image statistics ({', '.join(features)}) foretell the label with skill {_in_words(skill)}."
    alone = [t for t in tells if t["feature"] in EXPOSURE and t["p"] <= audit.max_p and t["auc"] >= audit.blocking_auc]
    if alone:
        told = "; ".join(
            f"{t['feature']} alone tells class `{t['label']}` at {t['accuracy']:.2f} balanced accuracy (AUC "
            f"{t['auc']:.2f}, {t['direction']})"
            for t in alone[:5]
        )
        says = (
            f"{told[0].upper()}{told[1:]}. {says} A network may learn that instead of the thing: "
            f"find out how these images were made.{_breaking(alone[:3])}"
        )
        images = [path for t in alone[:3] for path in rows.loc[rows["label"] == t["label"], "path"].head(6)]
        return Finding("confounder/statistics", "blocking", says, evidence, list(dict.fromkeys(images)))
    if _matters(skill, audit):
        strongest = "; ".join(f"{t['feature']} for class `{t['label']}` (AUC {t['auc']:.2f})" for t in tells[:3])
        says += f" The classes may truly differ so; strongest: {strongest}. Hold the model's score against this one."
        says += _breaking(tells[:1])
        return Finding("confounder/statistics", "blocking" if audit.block_on_content else "warning", says, evidence)
    return Finding("confounder/statistics", "passed", says, evidence)


def _breaking(tells: list[dict[str, Any]]) -> str:
    """Which augmentations make such statistics say little, and how much of them it takes."""
    amounts: dict[str, str] = {}
    for tell in tells:
        for name, one in AUGMENTATIONS.items():
            if tell["feature"] in one.breaks:
                enough = math.ceil(100 * one.enough(tell["inside"], tell["outside"])) / 100 if one.enough else None
                if enough is None:
                    amounts[name] = "true"
                elif 0 < enough <= MOST_BROKEN:
                    amounts[name] = max(amounts.get(name, ""), f"{enough:.2f}")
    if not amounts:
        return ""
    listed = ", ".join(f"{name}: {amount}" for name, amount in amounts.items())
    return f" Augmentation can break the tie, as {{{listed}}} in augment.amounts; look at what training then sees."


def _metadata(rows: pd.DataFrame, audit: Audit) -> Finding:
    if not rows["has_file"].all():
        says = "The images came out of arrays: there is no file metadata to foretell the label."
        return Finding("confounder/metadata", "info", says)
    varying = [name for name in METADATA if rows[name].nunique() > 1]
    if not varying:
        says = "All files have one size, format and length: nothing in them can foretell the label."
        return Finding("confounder/metadata", "passed", says)
    features = rows[varying].assign(**({"taken": _days(rows["taken"])} if "taken" in varying else {}))
    skill = probe(features, rows["label"], rows["group"], audit.permutations, audit.min_skill)
    skill_of = {name: probe(features[[name]], rows["label"], rows["group"], permutations=0).most for name in varying}
    evidence = {"skill": skill.skill, "p": skill.p, "images": len(rows), "skill_alone": skill_of}
    says = f"File metadata ({', '.join(varying)}) foretell the label with skill {_in_words(skill)}."
    blocks = [skill.p <= audit.max_p and skill.skill >= audit.min_skill]
    blocks += [
        skill.p <= audit.max_p and skill_of[name] >= audit.blocking_auc for name in CONTENT_TOO if name in skill_of
    ]
    warns = False
    given = [name for name in varying if name not in CONTENT_TOO]
    if given:
        without = probe(features[given], rows["label"], rows["group"], audit.permutations, audit.min_skill)
        evidence |= {"without_bytes": without.most, "p_without_bytes": without.p}
        says += f" Without the size of the file: {_in_words(without)}."
        warns = _matters(without, audit)
        blocks.append(warns and without.most >= CLEAR)
    if warns or any(blocks):
        ranked = sorted(skill_of, key=lambda name: -skill_of[name])[:3]
        strongest = ", ".join(f"{name} {skill_of[name]:.2f}" for name in ranked if skill_of[name] > 0)
        says += (
            f" Skill of each alone, of the class that it tells best: {strongest}. A file cannot make an image what it "
            "is: find out why the classes were stored differently."
        )
        return Finding("confounder/metadata", "blocking" if any(blocks) else "warning", says, evidence)
    return Finding("confounder/metadata", "passed", says, evidence)


def _days(taken: pd.Series) -> pd.Series:
    """Days since 1970 of dates as EXIF has them; -1 where there is none."""
    when = pd.to_datetime(taken, format="%Y:%m:%d %H:%M:%S", errors="coerce")
    return ((when - pd.Timestamp(0)) / pd.Timedelta(days=1)).fillna(-1.0)


def _names(rows: pd.DataFrame, audit: Audit) -> list[Finding]:
    """A network never sees a name, so that this only warns; but numbers in a row come from one session."""
    if not rows["has_file"].all():
        return []
    number = rows["path"].str.extract(r"(\d{1,15})\D*$")[0].astype(float)
    if number.isna().any() or number.nunique() < len(number) / 2:
        return []  # images without numbers, or numbered anew in each class
    skill = probe(pd.DataFrame({"number": number}), rows["label"], rows["group"], audit.permutations, audit.min_skill)
    evidence = {"skill": skill.skill, "of_one_class": skill.most, "p": skill.p}
    says = f"The numbers in the files' names foretell the label with skill {_in_words(skill)}."
    if not _matters(skill, audit):
        return [Finding("confounder/file-names", "passed", says, evidence)]
    says += (
        " No network sees a name; but if the numbers are a camera's, each class was taken in one session, with one "
        "light and one background, and those it does see. If the images were numbered when they were sorted, nothing "
        "is wrong."
    )
    return [Finding("confounder/file-names", "info", says, evidence)]


def _told(subject: Subject) -> pd.DataFrame | None:
    """The rows with what is to be foretold as their `label`: the class, or the fifth in which the one number is."""
    if subject.one_class_each:
        return subject.rows
    scalars = [a.scalars for a in parse_annotations(subject.rows)]
    if not all(found is not None and len(found) == 1 for found in scalars):
        return None
    values = pd.Series([next(iter(found.values())) for found in scalars if found], index=subject.rows.index)
    few = values.nunique() <= FIFTHS  # equal numbers stay together
    fifths = pd.Series(pd.factorize(values)[0], values.index) if few else _fifths(values)
    bounds = values.groupby(fifths).agg(["min", "max"])
    words = {fifth: f"{low:g} to {high:g}" for fifth, low, high in bounds.itertuples()}
    return subject.rows.assign(label=fifths.map(words))


def _fifths(values: pd.Series) -> pd.Series:
    return pd.qcut(values, FIFTHS, labels=False, duplicates="drop")


def _matters(skill: Skill, audit: Audit) -> bool:
    return skill.p <= audit.max_p and skill.most >= audit.min_skill


def _in_words(skill: Skill) -> str:
    best = skill.by_class.idxmax()
    one = f", class `{best}` {skill.most:.2f}" if skill.most > skill.skill and len(skill.by_class) > 2 else ""
    return f"{skill.skill:.2f}{one} (0 chance, 1 certain; p = {skill.p:.3f})"


def _with_enough_groups(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    per_class = rows.groupby("label")["group"].nunique()
    left_out = sorted(per_class[per_class < FOLDS].index)
    return rows[~rows["label"].isin(left_out)], left_out


def _sample(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """About `most` images at random: fewer of each group first, and only then fewer groups; no class is lost."""
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
