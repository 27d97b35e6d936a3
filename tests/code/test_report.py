"""Tests of the report: a complete, self-contained and well-formed page for all names of files and classes."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import report
from stages.config.schema_task import Evaluate
from stages.core.findings import Finding
from stages.reports import charts, html_page
from stages.reports.evaluation_report import objective_verdict, trend_charts
from stages.reports.finding_cards import merge_columns
from stages.reports.open_questions import open_questions
from stages.reports.training_report import overfitting_sentences, time_shares
from stages.runner.stage import call
from tests.lines import HOSTILE, PARAMS, write_pipeline_outputs

EVALUATE = Evaluate(resamples=100, confidence=0.95, calibration_bins=10, worst_images=24)
SECTIONS = re.findall(
    r"\w+", "images data findings augmentation tuning training scores errors model test unchecked how"
)
INPUTS = "ingest validate audit gate prepare augment tune train evaluate export benchmark".split()
EMPTY = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")


def page_of(data: Path) -> str:
    """Run the stage, check its metrics against the page, and return the page."""
    metrics = call(
        report.main, [*(data / i for i in INPUTS), data / "openings.csv", data / "report"], {"evaluate": EVALUATE}
    )
    file = data / "report" / "index.html"
    assert metrics["bytes"] == file.stat().st_size
    assert metrics["findings"] == 2
    return file.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of three classes, one of which has a hostile name."""
    data = tmp_path_factory.mktemp("data")
    write_pipeline_outputs(data, ["cat", "dog", HOSTILE])
    return page_of(data)


class Checker(HTMLParser):
    """Parser that collects addresses, ids, images and headings, and checks that elements are nested correctly."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert tag != "script" and not any(name.startswith("on") for name in values)
        self.open += [tag] if tag not in EMPTY else []
        self.ids += [values["id"] or ""] if "id" in values else []
        self.addresses += [values[n] or "" for n in ("src", "href", "xlink:href", "srcset", "action") if n in values]
        self.images += [values] if tag == "img" else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing, at {self.getpos()}"


def parse(page: str) -> Checker:
    """Return the checker after it has parsed the complete page."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    return checker


def test_every_section_is_present_and_listed_in_the_contents(page: str) -> None:
    checked = parse(page)
    assert [name for name in checked.ids if name in SECTIONS] == SECTIONS
    assert {f"#{name}" for name in SECTIONS} <= set(checked.addresses)
    assert len(checked.ids) == len(set(checked.ids))


def test_the_page_is_well_formed_and_makes_no_network_requests(page: str) -> None:
    checked = parse(page)
    assert checked.addresses
    assert all(address.startswith(("data:", "#")) for address in checked.addresses)
    assert not re.search(r"@import|url\((?!#|data:)", page)
    assert {a[1:] for a in checked.addresses if a.startswith("#")} <= set(checked.ids)


def test_images_have_alt_texts_and_heading_levels_are_in_order(page: str) -> None:
    checked = parse(page)
    assert len(checked.images) > 20
    assert all(image["alt"] for image in checked.images)
    assert checked.headings[0] == 1 and checked.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(checked.headings, checked.headings[1:], strict=False))


def test_hostile_names_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 5


def test_the_score_is_stated_at_the_top_of_the_page(page: str) -> None:
    lede = re.sub(r"<[^>]+>|\s+", " ", page[page.index("<h1") : page.index("<dl")])
    constant = "The best constant prediction, the class &lt;a&gt;, has the balanced accuracy 0.333 [0.313, 0.343]."
    better = "The model is better: the difference is +0.620 [+0.600, +0.630]."
    for figure in ("0.971", "0.951 to 0.981", "at least 0.95", "met", "1.9 ms", "2 findings", constant, better):
        assert figure in re.sub(r" +", " ", lede), figure


def test_findings_waivers_and_unchecked_properties_are_shown(page: str) -> None:
    for words in ("checked by eye", "checks/old", "confounder/statistics", "Sixty uniform images", "Near-duplicates"):
        assert words in page
    assert '<span class="badge waived">' in page and '<span class="badge warning">' in page


def test_columns_without_missing_values_count_as_one_check() -> None:
    found = [Finding(f"checks/not_null_{name}", "passed", "") for name in ("path", "label", "group")]
    found += [Finding("checks/not_null_split", "blocking", "2 are missing"), Finding("checks/split", "passed", "")]
    assert [f.id for f in merge_columns(found)] == ["checks/not_null_split", "checks/split", "checks/not_null"]


@pytest.mark.parametrize(
    ("ids", "grouped", "expected", "absent"),
    [
        ((), False, ("no audit searched", "no audit compared", "no audit examined", "were not specified"), "keeps"),
        (
            ("duplicates/near-duplicates", "sequence_leakage/similar-neighbours", "label_errors/classes"),
            True,
            ("strongly cropped", "a simple model cannot detect", "the split keeps 1 group of images together"),
            "no audit",
        ),
        (("label_errors/not-checked",), False, ("as reported", "no audit examined the labels"), "simple model"),
    ],
)
def test_open_questions_follow_from_what_the_audits_examined(
    ids: tuple[str, ...], grouped: bool, expected: tuple[str, ...], absent: str
) -> None:
    manifest = pd.DataFrame({"group": ["a", "a"] if grouped else ["1", "2"], "pixels": ["1", "2"]})
    text = "\n".join(open_questions([Finding(i, "info", "as reported") for i in ids], manifest, "regression", ()))
    assert all(words in text for words in expected) and absent not in text
    assert "unknown class" not in text


@pytest.mark.parametrize("value", [1797, 1797.0])
def test_reports_group_digits_as_messages_do(value: float) -> None:
    assert html_page.figure(value) == f"{value:,.0f}" == "1,797"


def test_every_text_writes_percentages_without_a_space(root: Path) -> None:
    files = [*(root / "stages").rglob("*.py"), *(root / "flows").glob("*.py")]
    found = [
        f"{file.name}:{line}: {text}"
        for file in files
        for line, text in _texts(ast.parse(file.read_text(encoding="utf-8")))
        if re.search(r"(\d|\}|^)[ \u00a0\u202f]%", text)
    ]
    for template in (*(root / "stages/reports").glob("*.j2"), *(root / "stages/web").rglob("*.js")):
        found += re.findall(r"(?:\d|\}\}|\})(?: |&nbsp;|\\u00a0)%(?![}\w ]).*", template.read_text(encoding="utf-8"))
    assert len(files) > 100 and not found


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and content of the texts in a module, without docstrings; a value in an f-string is `{}`."""
    docstrings = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    parts = {id(part) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr) for part in one.values}
    for one in ast.walk(tree):
        if isinstance(one, ast.JoinedStr):
            yield one.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in one.values)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in docstrings | parts:
            yield one.lineno, one.value


def test_every_time_of_a_prediction_states_what_it_measures(page: str) -> None:
    text = re.sub(r"<[^>]+>|\s+", " ", page)
    assert "1.9 ms on a CPU, from the bytes of a file to the decoded prediction" in text
    assert "from decoded pixels to the prediction, without decoding the file" in text
    assert "from pixels of the working size, without decoding the file" in text


def test_an_unopened_test_is_reported_as_sealed(page: str) -> None:
    assert "Sealed, never opened" in page and "Record of openings" not in page


def test_openings_of_the_sealed_test_are_listed(tmp_path: Path) -> None:
    write_pipeline_outputs(tmp_path, ["cat", "dog"], opened=2)
    page = page_of(tmp_path)
    assert "Sealed, never opened" not in page
    assert page.count("0.941 to 0.981") == 2


@pytest.mark.parametrize("count", [30, 121])
def test_many_classes_and_no_trials_give_a_valid_page(count: int, tmp_path: Path) -> None:
    write_pipeline_outputs(tmp_path, [f"class {i:03}" for i in range(count - 1)] + [r"a$\frac{$ & <i>"], trials=0)
    page = page_of(tmp_path)
    parse(page)
    assert "No search:" in page and "The most frequent confusions" in page
    assert len(page) < 2_000_000


def test_undefined_scores_and_a_missed_objective_are_reported(tmp_path: Path) -> None:
    write_pipeline_outputs(tmp_path, ["cat", "dog"], value=None)
    page = page_of(tmp_path)
    parse(page)
    assert "cannot be judged" in page and ">not judged<" in page


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [(1.0, 0.8, "overfits"), (0.99, 0.94, "overfits slightly"), (0.97, 0.97, "almost no gap"), (0.8, 0.9, "better")],
)
def test_the_gap_between_training_and_validation_is_described(train: float, val: float, words: str) -> None:
    curves = pd.DataFrame({"epoch": [1, 2], "train_score": train, "val_score": val, "val_loss": [1.0, 1.3]})
    goal = {"at_least": 0.95, "at_most": None, "met": False}
    text = " ".join(overfitting_sentences(curves, 2, goal, share=True, params=PARAMS))
    assert words in text
    assert ("To reduce overfitting" in text) == ("overfit" in words)
    assert "lowest at epoch 1 and rose by 30%" in text
    assert ("underfitting" in text) == (max(train, val) < 0.95)


def test_a_training_without_a_defined_score_is_described() -> None:
    undefined = [float("nan")] * 2
    curves = pd.DataFrame({"epoch": [1, 2], "train_score": undefined, "val_score": undefined, "val_loss": undefined})
    goal = {"at_least": 0.95, "at_most": None, "met": False}
    text = " ".join(overfitting_sentences(curves, 2, goal, share=True, params=PARAMS))
    assert text.startswith("The score is undefined on the validation images in every epoch. Epoch 2 was selected")
    assert "svg" in charts.curves({"training": undefined, "validation": [1.0, float("nan")]}, [1, 2], "epoch", "r2", 2)


def test_only_unused_params_are_suggested_with_their_current_values() -> None:
    curves = pd.DataFrame({"epoch": [1, 2], "train_score": 1.0, "val_score": 0.7, "val_loss": [1.0, 1.0]})
    goal = {"at_least": 0.6, "at_most": None, "met": True}
    text = " ".join(overfitting_sentences(curves, 2, goal, True, PARAMS))
    for suggestion in (
        "`augment.preset: strong` (now auto)",
        "`network.dropout: 0.3` (now 0)",
        "weight_decay: 0.03` (now 0.01)",
    ):
        assert suggestion in text
    regularized = PARAMS | {"augment": {"preset": "strong"}, "network": PARAMS["network"] | {"dropout": 0.5}}
    text = " ".join(overfitting_sentences(curves, 2, goal, True, regularized))
    assert "augment.preset" not in text and "network.dropout" not in text and "train.ema_decay: 0.99" in text
    detector = PARAMS | {"network": PARAMS["network"] | {"name": "mask_rcnn"}}
    assert "network.dropout" not in " ".join(overfitting_sentences(curves, 2, goal, True, detector))


@pytest.mark.parametrize(("loading", "bottleneck"), [(0.01, False), (0.2, True)])
def test_slow_loading_is_reported_as_a_bottleneck(loading: float, bottleneck: bool) -> None:
    curves = pd.DataFrame(
        {"seconds": [10.0, 30.0], "loading_share": [loading, loading], "augmentation_share": [0.1, 0.3]}
    )
    text = time_shares(curves)
    assert f"Loading images took {loading:.1%} of the training time, augmentation 25.0%" in text
    assert ("Loading is a bottleneck" in text) == bottleneck


@pytest.mark.parametrize(
    ("value", "low", "high", "goal", "words"),
    [
        (3.0, 2.0, 4.0, 5.0, "The upper end of the interval also meets the objective"),
        (3.0, 2.0, 6.0, 5.0, "the interval extends above the objective"),
        (6.0, 4.0, 8.0, 5.0, "the objective lies within the interval"),
        (7.0, 6.0, 8.0, 5.0, "The lower end of the interval is also above the objective"),
    ],
)
def test_an_error_is_compared_with_the_objective_in_its_direction(
    value: float, low: float, high: float, goal: float, words: str
) -> None:
    objective = {"score": "pixel_error", "at_least": None, "at_most": goal, "value": value, "met": value <= goal}
    objective |= {"reached": value <= goal}
    interval = {"value": value, "low": low, "high": high}
    assert words in objective_verdict(
        {"objective": objective, "scores": {"pixel_error": interval}, "images": 9, "groups": 9}
    )


def test_an_interval_from_few_groups_is_reported_as_unreliable() -> None:
    objective = {"score": "dice", "at_least": 0.8, "at_most": None, "value": 0.9, "met": True, "reached": True}
    scores = {"dice": {"value": 0.9, "low": 0.89, "high": 0.91}}
    assert "based on only 2 groups" in objective_verdict(
        {"objective": objective, "scores": scores, "images": 6, "groups": 2}
    )


def test_an_error_that_grows_with_size_is_reported() -> None:
    paths = [str(n) for n in range(20)]
    predictions = pd.DataFrame({"path": paths, "error": np.arange(20.0)})
    side = np.arange(20) + 10
    manifest = pd.DataFrame({"path": paths, "width": side, "height": side, "brightness": [3.0, 4.0, 5.0, 5.0] * 5})
    (by_size, _), (by_light, _) = trend_charts(predictions, manifest)
    assert "worse for larger images (rank correlation with the error +1.00)" in by_size
    assert "neither better nor worse for brighter images" in by_light
