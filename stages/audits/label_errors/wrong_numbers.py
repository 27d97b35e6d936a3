"""Wrong numbers: numbers far from their out-of-fold prediction."""

import numpy as np

from stages.audits.audit_data import AuditData
from stages.audits.label_errors.not_understood import unless_too_many
from stages.audits.label_errors.wrong_classes import Found
from stages.audits.power import Power, choose_planted, require_power
from stages.core.findings import Finding, Severity
from stages.core.plurals import quantity
from stages.core.shapes import Array, Bool, Float, Real, Shaped
from stages.dataset.manifest import parse_annotations
from stages.probes.cross_validation import out_of_fold_numbers

MIN_R2 = 0.5  # minimum R2 of the out-of-fold predictions
FAR = 5.0  # robust standard deviations
HUBER = 3.0  # robust standard deviations, beyond which residuals are clipped
ROUNDS = 3
MAX_DEVIATION = 1e6  # larger deviations are clipped
USUAL = 0.002  # share of correct numbers beyond `FAR`; a larger share, or one number beyond twice `FAR`, warns


def find(data: AuditData) -> Found:
    """Report wrong numbers as `label_errors/numbers`."""
    scalars = [annotation.scalars for annotation in parse_annotations(data.sample)]
    if not scalars[0]:
        return [], []
    names = list(scalars[0])
    given_ND = np.array([[(numbers or {}).get(name, np.nan) for name in names] for numbers in scalars])
    return compare_numbers(data, names, given_ND)


def compare_numbers(data: AuditData, names: list[str], given_ND: Real[Array, "N D"]) -> Found:
    """Compare numbers with their out-of-fold predictions.

    Args:
        data: input of the audit.
        names: names of the D numbers.
        given_ND: numbers of the images of `data.sample`; images with a number that is not finite are not checked.

    Returns:
        The finding, none if the baseline predicts none of the numbers; and a sentence if some were not checked.
    """
    rows = data.sample
    known_N = np.isfinite(given_ND).all(axis=1)
    paths = rows["path"].to_numpy()[known_N]
    given_ND = given_ND[known_N]
    scaled_ND, median_D, unit_D = _standardize(given_ND)
    predicted_ND, skill_D = _predict(data.features[known_N], scaled_ND, rows["group"].to_numpy()[known_N])
    weak = [f"{name} (R2 {skill:.2f})" for name, skill in zip(names, skill_D, strict=True) if skill < MIN_R2]
    unchecked: list[str] = []
    if weak:
        unchecked = [
            f"Numbers were not checked for {list_weak(weak)}: the R2 of the baseline must be at least {MIN_R2}."
        ]
    residual_ND = scaled_ND - predicted_ND
    center_D, spread_D = np.median(residual_ND, axis=0), _scale(residual_ND, _used_for_spread(scaled_ND))
    deviation_ND = (residual_ND - center_D) / spread_D
    with np.errstate(over="ignore"):  # `median_D` and `unit_D` are those of a quarter of each number
        tenfold_ND = np.clip((2.5 * given_ND - median_D) / unit_D, -MAX_DEVIATION, MAX_DEVIATION)
    planted_ND = np.where(given_ND == 0, np.nan, (tenfold_ND - predicted_ND - center_D) / spread_D)
    predicted_ND = _unstandardize(predicted_ND, median_D, unit_D)
    far = [(abs(deviation_ND[n, d]), n, d) for d in np.flatnonzero(skill_D >= MIN_R2) for n in range(len(paths))]
    far = sorted((entry for entry in far if entry[0] > FAR), reverse=True)
    captions: dict[str, str] = {}
    for _, n, d in far:
        captions.setdefault(paths[n], f"{names[d]} {given_ND[n, d]:.4g} \N{RIGHTWARDS ARROW} {predicted_ND[n, d]:.4g}?")
    evidence = {"r2": dict(zip(names, skill_D.tolist(), strict=True)), "images": len(paths)}
    if len(weak) == len(names):
        return [], unchecked
    if not far:
        images = quantity(len(paths), "image")
        message = (
            f"No checked number of {images} is more than {FAR:g} robust standard deviations from its out-of-fold "
            "prediction."
        )
        found = Finding("label_errors/numbers", "passed", message, evidence)
        return require_power(found, [_power(planted_ND[:, skill_D >= MIN_R2])]), unchecked
    message = (
        f"In {len(captions)} of {quantity(len(paths), 'image')}, a number is more than {FAR:g} robust standard "
        "deviations from its out-of-fold prediction. Check these numbers; the farthest is shown first."
    )
    evidence["far"] = [f"{path} ({words})" for path, words in captions.items()][:50]
    severity: Severity = "warning" if far[0][0] > 2 * FAR or len(far) > USUAL * known_N.sum() * len(names) else "info"
    found = Finding("label_errors/numbers", severity, message, evidence, list(captions)[:24], captions)
    return [unless_too_many(found, len(captions), len(paths), "images")], unchecked


def _power(deviation_ND: Float[Array, "N D"]) -> Power:
    """Return how many numbers are found that are multiplied by ten; the baseline is not trained again.

    Args:
        deviation_ND: deviation of each checked number from its prediction if it is multiplied by ten; NaN for 0, which
            stays the same.
    """
    deviation_M = deviation_ND[np.isfinite(deviation_ND)]
    planted = choose_planted(len(deviation_M))
    found = int((abs(deviation_M[planted]) > FAR).sum())
    missing = "Numbers that the baseline predicts better, from more images, are required."
    alarms = f"false alarms in 0 of {quantity(len(deviation_ND), 'image')}"
    return Power("numbers with a misplaced decimal point (ten times as large)", found, len(planted), missing, alarms)


def _standardize(
    given_ND: Real[Array, "N D"],
) -> tuple[Float[Array, "N D"], Float[Array, " D"], Float[Array, " D"]]:
    """Return numbers in robust standard deviations from their median, the median, and the standard deviation.

    The first are clipped at `MAX_DEVIATION`. The last two are those of a quarter of each number, to prevent overflow.
    """
    median_D = np.median(given_ND / 4, axis=0)
    off_ND = given_ND / 4 - median_D
    unit_D = _scale(off_ND, _used_for_spread(off_ND), least=np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        return np.clip(off_ND / unit_D, -MAX_DEVIATION, MAX_DEVIATION), median_D, unit_D


def _unstandardize(
    scaled_ND: Float[Array, "N D"], median_D: Float[Array, " D"], unit_D: Float[Array, " D"]
) -> Float[Array, "N D"]:
    """Return standardized numbers in their original unit; values beyond the largest float become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(4 * (median_D + scaled_ND * unit_D))


def _predict(
    features_NF: Float[Array, "N F"], given_ND: Float[Array, "N D"], groups_N: Shaped[Array, " N"]
) -> tuple[Float[Array, "N D"], Float[Array, " D"]]:
    """Return out-of-fold predictions of a robust regression, and their R2.

    Values far from their prediction are pulled towards it (Huber 1964): otherwise one misplaced decimal point would
    bend all predictions. Numbers are in deviations from their median. The R2 is that of the pulled values; 0 if
    they are constant.
    """
    used_ND, pulled_ND = _used_for_spread(given_ND), given_ND
    predicted_ND = np.zeros(given_ND.shape)
    for _ in range(ROUNDS):
        pulled_ND = predicted_ND + _pulled(given_ND - predicted_ND, used_ND)
        predicted_ND = out_of_fold_numbers(features_NF, pulled_ND, groups_N)
    pulled_ND = predicted_ND + _pulled(given_ND - predicted_ND, used_ND)
    left_D, variance_D = ((pulled_ND - predicted_ND) ** 2).mean(axis=0), pulled_ND.var(axis=0)
    return predicted_ND, np.where(variance_D > 0, 1 - left_D / np.maximum(variance_D, 1e-12), 0)


def _pulled(off_ND: Float[Array, "N D"], used_ND: Bool[Array, "N D"]) -> Float[Array, "N D"]:
    most_D = HUBER * _scale(off_ND, used_ND)
    return np.clip(off_ND, -most_D, most_D)


def _used_for_spread(value_ND: Float[Array, "N D"]) -> Bool[Array, "N D"]:
    """Return whether each value is used to estimate the spread.

    All values are used or, if more than half but not all are equal, only the others. Counts of rare objects are an
    example.
    """
    other_ND = value_ND != np.median(value_ND, axis=0)
    return other_ND | (other_ND.mean(axis=0) >= 0.5) | ~other_ND.any(axis=0)


def _scale(off_ND: Float[Array, "N D"], used_ND: Bool[Array, "N D"], least: float = 1e-12) -> Float[Array, " D"]:
    """Return 1.4826 times the median absolute deviation, at least `least`: an estimate of the standard deviation."""
    return np.maximum(1.4826 * np.nanmedian(np.where(used_ND, abs(off_ND), np.nan), axis=0), least)


def list_weak(weak: list[str], most: int = 10) -> str:
    """Join the names that the baseline does not predict: at most `most` of them, and `...` if there are more."""
    return ", ".join(weak[:most]) + (", ..." if len(weak) > most else "")


def robust_deviations(value_ND: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Return deviations from the median in robust standard deviations."""
    off_ND = value_ND - np.median(value_ND, axis=0)
    return off_ND / _scale(off_ND, _used_for_spread(value_ND))
