"""Hold the manifest against its rules: `python -m stages.validate INGESTED OUTPUT`.

One Great Expectations suite, built in code on every run, so that no rule can go missing with a stored file. Bad data
never fails this stage: each rule becomes a finding, and `gate` decides what a broken one leads to.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import zip_longest
from typing import Any, Literal

import pandas as pd

from stages.frame import Finding, In, Out, run
from stages.frame.findings import write_findings
from stages.frame.sections import Checks
from stages.images.annotations import classes_in
from stages.images.manifest import COLUMNS, annotations, read_manifest
from stages.images.reading import READ
from stages.pages import Album, cards, write_page

MOST_IMAGES = 24  # offenders shown per finding
MOST_LISTED = 200  # offenders kept in results.json per rule
SEEN_BY_TRAINING = ("train", "val")
Classes = Literal["one", "several", "none"]


@dataclass(frozen=True)
class Rule:
    """One rule of the manifest, one expectation of the suite."""

    name: str
    description: str
    """The rule in plain words."""
    expectation: str
    """Name of a built-in expectation; or of one of `FINDERS`."""
    fault: str
    """What is wrong, in words: `3 of 90 images {fault}`; around {observed}; or after the offences of a finder."""
    wants: dict[str, Any] = field(default_factory=dict)
    """Arguments of the expectation."""

    @property
    def id(self) -> str:
        """Id of its finding."""
        return f"checks/{self.name}"


@dataclass(frozen=True)
class Verdict:
    """What became of a rule; an element of `results.json`."""

    id: str
    description: str
    expectation: str
    wants: dict[str, Any]
    severity: str
    observed: str
    says: str
    offenders: list[str] = field(default_factory=list)
    """Sentences, or paths of images."""
    images: list[str] = field(default_factory=list)


def main(ingested: In, output: Out, *, checks: Checks) -> dict[str, Any]:
    """Write `findings.json`, one finding per rule; `results.json`; and `page.html`, where the offenders can be seen."""
    manifest = read_manifest(ingested)
    rules = list(rules_of(checks, _classes(manifest)))
    verdicts = judge(rules, outcomes(manifest, rules), len(manifest))
    findings = [_finding(verdict) for verdict in verdicts]
    write_findings(findings, output / "findings.json")
    (output / "results.json").write_text(json.dumps([asdict(v) for v in verdicts], indent=1, allow_nan=False) + "\n")
    broken = cards([f for f in findings if f.severity != "passed"], Album(manifest, ingested), most=MOST_IMAGES)
    write_page(output / "page.html", "checks.html.j2", rules=verdicts, broken=broken, images=len(manifest))
    count = Counter(finding.severity for finding in findings)
    return {"checks": len(rules), **{s: count[s] for s in ("passed", "blocking", "warning")}}


# fmt: off
# A rule a paragraph: name and words; expectation; what is wrong, and what it wants.
def rules_of(checks: Checks, classes: Classes = "one") -> Iterator[Rule]:
    """Every rule: first that there is an image at all, since an empty table breaks no other; the contract; `checks`.

    Those about classes only where an image has one, or things that have.
    """
    yield Rule("not_empty", "there is at least one image", "ExpectTableRowCountToBeBetween",
               "the manifest has {observed} images, 1 is required", {"min_value": 1})
    yield Rule("path_unique", "every path occurs once", "ExpectColumnValuesToBeUnique",
               "share their path with another", {"column": "path"})
    yield Rule("split", "the split is train or val: the sealed test is elsewhere", "ExpectColumnValuesToBeInSet",
               "are neither in train nor in val", {"column": "split", "value_set": list(SEEN_BY_TRAINING)})
    if classes != "none":
        yield Rule("labels_in_both", "every class is in training and in validation", "labels_in_both", "")
    for side in ("width", "height"):
        yield Rule(side, f"the {side} is at least 1 pixel", "ExpectColumnValuesToBeBetween",
                   f"have a {side} below 1 pixel", {"column": side, "min_value": 1})
    yield Rule("format", f"the format is one of {', '.join(READ)}", "ExpectColumnValuesToBeInSet",
               "are of another format", {"column": "format", "value_set": list(READ)})
    yield from _rules_of_params(checks, classes)
    for column in COLUMNS:  # the other rules overlook what is missing
        yield Rule(f"not_null_{column}", f"`{column}` is known of every image", "ExpectColumnValuesToNotBeNull",
                   f"have no `{column}`", {"column": column})


def _rules_of_params(checks: Checks, classes: Classes) -> Iterator[Rule]:
    least, blank = checks.min_classes, checks.max_blank
    if classes == "one":
        yield Rule("min_classes", f"there are at least {least} classes", "ExpectColumnUniqueValueCountToBeBetween",
                   f"the number of classes is {{observed}}, {least} are required (checks.min_classes)",
                   {"column": "label", "min_value": least})
    required_images = (
        ("min_train_per_class", "training", checks.min_train_per_class),
        ("min_validation_per_class", "validation", checks.min_validation_per_class),
    )
    for name, split, required in required_images if classes != "none" else ():
        yield Rule(name, f"every class has at least {required} {split} images", name,
                   f", {required} are required (checks.{name})", {"limit": required})
    yield Rule("min_side", f"the shorter side is at least {checks.min_side} pixels", "ExpectColumnValuesToBeBetween",
               f"have a shorter side below {checks.min_side} pixels (checks.min_side)",
               {"column": "shorter_side", "min_value": checks.min_side})
    yield Rule("max_aspect", f"the longer side is at most {checks.max_aspect:g} times the shorter",
               "ExpectColumnValuesToBeBetween",
               f"have a longer side more than {checks.max_aspect:g} times the shorter (checks.max_aspect)",
               {"column": "aspect", "max_value": checks.max_aspect})
    yield Rule("max_blank", f"at most {blank:.1%} of the images are a single grey level", "ExpectColumnValuesToBeInSet",
               f"are a single grey level, at most {blank:.1%} may be (checks.max_blank)",
               {"column": "blank", "value_set": [False], "mostly": 1 - blank})
# fmt: on


def _classes(manifest: pd.DataFrame) -> Classes:
    """Whether every image has one class, or there are images with any number of them, or labels are no classes."""
    labels = [a.labels for a in annotations(manifest)]
    if all(found is not None and len(found) == 1 for found in labels):
        return "one"
    return "several" if any(classes_in(a) for a in annotations(manifest)) else "none"


def _by_class(manifest: pd.DataFrame) -> pd.DataFrame:
    """A row for every class of every image; a damaged annotation is another rule's business."""
    told = manifest.dropna(subset=["annotation"])
    return told.assign(label=[classes_in(a) for a in annotations(told)]).explode("label").dropna(subset=["label"])


def labels_in_both(manifest: pd.DataFrame, limit: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Classes that only training or only validation has; nothing can be learnt or measured of them."""
    for label, rows in _by_class(manifest).groupby("label"):
        seen = set(rows["split"])
        if seen == {"train"}:
            yield f"class `{label}` has {len(rows)} training images but none for validation", rows
        elif seen == {"val"}:
            yield f"class `{label}` has {len(rows)} validation images but none for training", rows


def too_few(split: str, words: str) -> "Finder":
    """A finder of the classes that have fewer images in a split than required, the poorest first."""

    def find(manifest: pd.DataFrame, limit: int) -> Iterator[tuple[str, pd.DataFrame]]:
        manifest = _by_class(manifest)
        counts = manifest["split"].eq(split).groupby(manifest["label"]).sum()
        for label, count in counts[counts < limit].sort_values(kind="stable").items():
            says = f"class `{label}` has {count} {words} image{'' if count == 1 else 's'}"
            yield says, manifest[manifest["label"] == label]

    return find


Finder = Callable[[pd.DataFrame, int], Iterator[tuple[str, pd.DataFrame]]]
FINDERS: dict[str, Finder] = {
    "labels_in_both": labels_in_both,
    "min_train_per_class": too_few("train", "training"),
    "min_validation_per_class": too_few("val", "validation"),
}
"""What Great Expectations has no expectation for: from the manifest and a limit to (sentence, rows) per offence."""


@cache
def _finder_expectation() -> Any:
    """The one custom expectation, over the one custom metric: the whole manifest, looked at by one of `FINDERS`."""
    from great_expectations.core.metric_domain_types import MetricDomainTypes
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import BatchExpectation
    from great_expectations.expectations.metrics.metric_provider import metric_value
    from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

    class ManifestFrame(TableMetricProvider):
        metric_name = "manifest.frame"

        @metric_value(engine=PandasExecutionEngine)
        def _pandas(cls, execution_engine, metric_domain_kwargs, **_):  # type: ignore[no-untyped-def]  # noqa: N805
            domain = {"domain_kwargs": metric_domain_kwargs, "domain_type": MetricDomainTypes.TABLE}
            return execution_engine.get_compute_domain(**domain)[0]

    class ExpectFinderToFindNothing(BatchExpectation):
        metric_dependencies = ("manifest.frame",)
        finder: str
        limit: int = 0

        def _validate(self, metrics, runtime_configuration=None, execution_engine=None):  # type: ignore[no-untyped-def]
            found = list(FINDERS[self.finder](metrics["manifest.frame"], self.limit))
            in_turn = zip_longest(*(rows["path"].dropna()[:MOST_IMAGES] for _, rows in found))  # some of each offence
            paths = [str(path) for turn in in_turn for path in turn if path is not None]
            details = {"offences": [sentence for sentence, _ in found], "paths": paths[:MOST_LISTED]}
            return {"success": not found, "result": {"observed_value": len(found), "details": details}}

    return ExpectFinderToFindNothing


def outcomes(manifest: pd.DataFrame, rules: list[Rule]) -> dict[str, Any]:
    """Validate one suite once; returns Great Expectations' result by rule id, for the rules that it answered."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
    import great_expectations as gx  # 5 to 8 s

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    sides = manifest[["width", "height"]]
    frame = manifest.assign(shorter_side=sides.min(axis=1), aspect=sides.max(axis=1) / sides.min(axis=1).clip(lower=1))
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("manifest")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite("checks", expectations=[_expectation(rule) for rule in rules])
    wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]}
    results = batch.validate(suite, result_format=wanted).results
    return {result.expectation_config.meta["rule"]: result for result in results}  # type: ignore[union-attr]


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as built_in

    told = {"description": rule.description, "meta": {"rule": rule.id}}
    if rule.expectation in FINDERS:
        return _finder_expectation()(finder=rule.expectation, **rule.wants, **told)
    return getattr(built_in, rule.expectation)(**rule.wants, **told)


def judge(rules: list[Rule], results: dict[str, Any], total: int) -> list[Verdict]:
    """A verdict per rule. A rule that crashed, or that has no result, is broken: silence is no pass."""
    return [_verdict(rule, results.get(rule.id), total) for rule in rules]


def _verdict(rule: Rule, result: Any, total: int) -> Verdict:
    identity = (rule.id, rule.description, rule.expectation, rule.wants)
    if result is None:
        return Verdict(*identity, "blocking", "no result", f"`{rule.id}` was not answered, so nothing is known of it")
    if (result.exception_info or {}).get("raised_exception") is not False:
        why = _message(result.exception_info or {})
        return Verdict(*identity, "blocking", "could not be checked", f"`{rule.id}` could not be checked: {why}")
    seen = result.result
    if result.success is True:
        return Verdict(*identity, "passed", _observed(seen), rule.description)
    if "details" in seen:  # ours
        offenders, images = seen["details"]["offences"], seen["details"]["paths"]
        more = f"; and {len(offenders) - 3} more" if len(offenders) > 3 else ""
        says = "; ".join(offenders[:3]) + more + rule.fault
    elif "unexpected_count" in seen:
        worst_first = _worst_first(seen["unexpected_index_list"] or [], rule)
        offenders = images = [str(row["path"]) for row in worst_first if pd.notna(row["path"])]
        values = (
            "" if rule.name.startswith("not_null") else f": {_some([r[rule.wants['column']] for r in worst_first])}"
        )
        says = f"{seen['unexpected_count']} of {total} images {rule.fault}{values}"
    else:
        offenders = images = []
        says = rule.fault.format(observed=seen["observed_value"])
    return Verdict(*identity, "blocking", _observed(seen), says, offenders[:MOST_LISTED], images[:MOST_LISTED])


def _message(info: dict[str, Any]) -> str:
    """Of what a crashed check says of itself: the info itself, or one per metric inside it."""
    found = [i.get("exception_message") for i in (info, *info.values()) if isinstance(i, dict)]
    return "; ".join(dict.fromkeys(str(m) for m in found if m)) or "no reason given"


def _observed(seen: dict[str, Any]) -> str:
    if "details" not in seen and "unexpected_count" not in seen:
        return str(seen.get("observed_value"))
    cases = seen["observed_value"] if "details" in seen else seen["unexpected_count"]
    return "no exception" if cases == 0 else "1 exception" if cases == 1 else f"{cases} exceptions"


def _worst_first(offenders: list[dict[str, Any]], rule: Rule) -> list[dict[str, Any]]:
    if "between" not in rule.expectation.lower():
        return offenders
    return sorted(offenders, key=lambda row: row[rule.wants["column"]], reverse="max_value" in rule.wants)


def _some(values: list[Any]) -> str:
    distinct = list(dict.fromkeys(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values))
    more = f" and {len(distinct) - 5} more" if len(distinct) > 5 else ""
    return ", ".join(f"`{v}`" for v in distinct[:5]) + more


def _finding(verdict: Verdict) -> Finding:
    evidence = {"expectation": verdict.expectation, **verdict.wants, "seen": verdict.observed}
    if verdict.offenders:
        evidence["offenders"] = verdict.offenders
    severity: Any = verdict.severity
    says = verdict.says[0].upper() + verdict.says[1:] + "."
    return Finding(verdict.id, severity, says, evidence, verdict.images[:MOST_IMAGES])


if __name__ == "__main__":
    run(main)
