"""Tests of the model card: measured values, and Markdown that is valid for every class name."""

import json
import re
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from stages import model_card
from stages.config.schema import Params
from stages.core.findings import Finding, write_findings
from stages.reports import model_limitations
from stages.reports.html_page import UNDEFINED, figure
from stages.runner.stage import call
from stages.runtime import Model
from stages.tasks.representations import REPRESENTATIONS
from tests.lines import write_openings, write_pipeline_outputs
from tests.shipped import colour_model, plain

INPUTS = "ingest validate audit gate tune train evaluate export benchmark".split()
LABELS = ("red", "green", "blue")
HOSTILE_NAMES = ("a|b *c* `d`", "<script>_x_</script>", "[e](f) # $g$ \\*h\\* &amp;\n- i")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder with the outputs of all stages for a model that predicts colours."""
    write_pipeline_outputs(tmp_path, list(LABELS))
    colour_model(tmp_path / "export" / "model.onnx", LABELS)
    return tmp_path


def card_of(data: Path, params: Params, **changes: Any) -> str:
    """Run the stage with changed `ingest` and `split` params, and return the card."""
    sections = {
        name: type(section).model_validate(section.model_dump() | changes.get(name, {}))
        for name, section in (("ingest", params.ingest), ("split", params.split))
    }
    metrics = call(model_card.main, [*(data / i for i in INPUTS), data / "openings.csv", data / "card"], sections)
    file = data / "card" / "model-card.md"
    text = file.read_text(encoding="utf-8")
    assert metrics["bytes"] == file.stat().st_size
    assert metrics["limits"] == len(re.findall(r"^- ", text[text.index("\n## Limits") :], re.MULTILINE))
    return text


def update_json(file: Path, change: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def section(text: str, name: str) -> str:
    """Return the section of the card under the heading `name`."""
    return text.split(f"\n## {name}\n")[1].split("\n## ", maxsplit=1)[0]


def tables(text: str) -> list[list[list[str]]]:
    """Return the cell texts of all tables, as rendered: [table][row][cell]."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, following in pairwise(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open"):
            found[-1][-1].append("".join(child.content for child in following.children or []))
    return found


def digest_of(data: Path) -> str:
    return sha256((data / "export" / "model.onnx").read_bytes()).hexdigest()


def test_the_card_states_that_the_sealed_test_was_never_opened(data: Path, params: Params) -> None:
    text = card_of(data, params)
    assert "**Sealed test.** Never opened" in text
    assert section(text, "The sealed test").strip().startswith("Never opened. No stage has read these 9 images")
    assert "the best of 9 epochs, and the best of 3 trials" in section(text, "Limits")


def test_the_score_on_an_opened_test_is_stated_first(data: Path, params: Params) -> None:
    write_openings(data / "openings.csv", 1, digest_of(data)[:12])
    text = card_of(data, params)
    head = text[: text.index("## Model")]
    assert "Balanced accuracy 0.963 [0.941, 0.981] on 9 images that were independent of all choices" in head
    assert "opened once, for this model once" in head
    assert "**this model**" in section(text, "The sealed test") and "0.111" not in text, (
        "openings of other data sets are omitted"
    )
    assert "never been opened" not in text


def test_openings_for_other_models_of_the_data_are_counted(data: Path, params: Params) -> None:
    write_openings(data / "openings.csv", 2)
    text = card_of(data, params)
    assert "No score of this model is known; opened twice, for this model never" in text
    assert "**this model**" not in text
    assert "but not for this one" in section(text, "Limits")
    with (data / "openings.csv").open("a") as stream:
        stream.write(f"2026-11-24T18:00,0123456789abcdef,toys,v,{digest_of(data)[:12]},9,balanced_accuracy,,,\n")
    text = card_of(data, params)
    assert "opened 3 times, 2 of them for other models" in section(text, "Limits")
    words = "no value: the test was interrupted, or the score is undefined; this counts as an opening"
    assert words in section(text, "The sealed test")


def test_a_test_score_below_the_validation_interval_is_a_limit(data: Path, params: Params) -> None:
    write_openings(data / "openings.csv", 1, digest_of(data)[:12])
    assert "worse than the whole validation interval" not in card_of(data, params)
    record = (data / "openings.csv").read_text()
    (data / "openings.csv").write_text(record.replace("0.963,0.941,0.981", "0.8,0.7,0.9"))
    limits = section(card_of(data, params), "Limits")
    assert "balanced accuracy is 0.800, worse than the whole validation interval, 0.951 to 0.981" in limits
    assert "On the sealed test, the objective (at least 0.95) is missed: 0.800." in limits


def test_waived_findings_are_listed_with_their_reason(data: Path, params: Params) -> None:
    text = section(card_of(data, params), "Data")
    (waived,) = [row for row in text.splitlines() if row.startswith("- **waived**")]
    assert "`checks/min_side`" in waived and waived.endswith("*Waived, reason:* checked by eye")
    assert "- **warning** `confounder/statistics`: Statistics predict." in text
    assert "- **info** `duplicates/not-checked`: Sixty uniform images were not compared." in text
    remain = section(card_of(data, params), "Limits")
    assert "2 findings about the data remain, listed above: `checks/min_side`, `confounder/statistics`." in remain


def test_class_names_break_no_table_and_become_no_markup(tmp_path: Path, params: Params) -> None:
    write_pipeline_outputs(tmp_path, list(HOSTILE_NAMES))
    colour_model(tmp_path / "export" / "model.onnx", HOSTILE_NAMES)
    text = card_of(tmp_path, params)
    found = tables(text)
    assert len(found) > 5
    assert all(len(row) == len(table[0]) for table in found for row in table)
    (by_class,) = [table for table in found if table[0][0] == "class"]
    assert {row[0] for row in by_class[1:]} == {" ".join(name.split()) for name in HOSTILE_NAMES}
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    assert not [token for token in [*tokens, *inline] if token.type.startswith("html")]
    assert {dict(token.attrs)["href"] for token in inline if token.type == "link_open"} == {"#limits"}
    assert [heading.content for opening, heading in pairwise(tokens) if opening.type == "heading_open"] == [
        "toys: model card", "Model", "Use", "Data", "Scores", "The sealed test", "Limits",
    ]  # fmt: skip


def test_figures_equal_those_in_the_output_files(data: Path, params: Params) -> None:
    text = card_of(data, params)
    size = (data / "export" / "model.onnx").stat().st_size
    model = dict(row for row in tables(section(text, "Model"))[0] if len(row) == 2)
    assert model["SHA-256"] == digest_of(data)
    assert f"({figure(size)} bytes), of which 44.6 MB are weights; ONNX opset 20" in model["file"]
    assert model["network"] == f"resnet18, {figure(11_170_000)} parameters"
    assert model["data version"] == "d41d8cd9" and model["params"] == "p" and model["commit"] == "abc"
    assert model["packages"] == "torch 2.13" and model["trained"].startswith("epoch 8 of 9 selected, 60 s on cpu,")
    overall, by_class, times = tables(section(text, "Scores"))
    scores = {row[0]: row[1] for row in overall}
    assert scores["balanced accuracy, the objective"] == "0.971 [0.951, 0.981]" and scores["AUC"] == UNDEFINED
    assert ["red", "2", "20", "0.500 [0.480, 0.510]", "0.900 [0.880, 0.910]", UNDEFINED] in by_class
    assert ["1", "1", "1.90", "2.10", "526"] in times
    assert "1.9 ms from the bytes of one file to the prediction" in text and "by at most 3.0e-07" in text
    assert "12 images" not in text and "21 images in 12 groups: 6 for training, 6 for validation, 9 sealed" in text
    assert ["brightness, 0 to 255", "31", "34", "41", "63", "66"] in tables(section(text, "Use"))[0]
    assert "level 255" not in text, "constant statistics are omitted"


def test_the_python_code_of_the_card_predicts_like_the_model(
    data: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data / "export")
    Image.fromarray(plain("green")).save("photo.jpg", quality=95)
    metadata = data / "export" / "metadata.json"
    update_json(metadata, {"channels": 3})
    (program,) = re.findall(r"```python\n(.*?)```", card_of(data, params), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(program, namespace)
    expected = Model(Path("model.onnx")).predict_file(Path("photo.jpg").read_bytes())
    assert namespace["outputs"][0][0].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    update_json(metadata, {"fit": "tile"})
    assert "```python" not in card_of(data, params), "the graph alone predicts only tiles"


def test_the_card_states_how_the_data_were_split(data: Path, params: Params) -> None:
    assert "no groups were specified, so each distinct image is a group" in card_of(data, params)
    by_source = card_of(data, params, split={"by": "source"}, ingest={"group_regex": "(p|q)[0-9]"})
    assert "The split is defined by the source." in by_source and "`ingest.group_regex`: `(p|q)[0-9]`" in by_source


def test_a_licence_is_shown_and_its_absence_is_a_limit(data: Path, params: Params) -> None:
    assert "**Licence.** None is set" in card_of(data, params)
    update_json(data / "export" / "metadata.json", {"licence": "CC-BY-4.0", "commit": "abc-dirty"})
    text = card_of(data, params)
    assert "**Licence.** CC-BY-4.0" in text and "licence" not in section(text, "Limits").lower()
    assert "Not reproducible: built from uncommitted changes (abc-dirty)." in section(text, "Limits")


def test_the_possible_loss_of_a_shipped_variant_is_a_limit(data: Path, params: Params) -> None:
    assert "The smaller int8 variant is not shipped: its drop cannot be measured." in card_of(data, params)
    variants = json.loads((data / "export" / "variants.json").read_text())
    variants["variants"][1] |= {
        "holds": True,
        "drop": {"value": 0.004, "low": -0.001, "high": 0.013},
        "verdict": "fine",
    }
    update_json(data / "export" / "variants.json", variants | {"shipped": "int8"})
    text = card_of(data, params)
    assert "its balanced accuracy drops by 0.0040 [-0.0010, 0.0130]" in text
    assert "The shipped variant, int8, may lose up to 1.3 points of balanced accuracy." in section(text, "Limits")


def test_more_images_are_recommended_only_if_the_gain_was_measured(data: Path, params: Params) -> None:
    for low, recommended in ((0.05, True), (-0.01, False)):
        twice = {"gain": 0.07, "low": low, "high": 0.08}
        curve = Finding("learning_curve/images", "info", "A curve.", {"twice": twice})
        write_findings([curve], data / "audit" / "findings.json")
        text = card_of(data, params)
        assert ("twice as many reduce a simple model's error by 7.0 points (5.0 to 8.0)" in text) == recommended
        assert ("More images would help" in text) == recommended


def scores_of_points(values: list[float], support: int, better: str = "higher") -> dict[str, Any]:
    """Return scores of points, one per value, each with an interval of width 0.2 and `support` images."""
    rows = [
        {"label": f"p{n}", "support": support, "error": {"value": v, "low": v - 0.1, "high": v + 0.1}}
        for n, v in enumerate(values)
    ]
    return {
        "objective": {"score": "error", "value": 0.5, "met": True, "better_than_constant": True},
        "shares": ["error"], "images": 90, "groups": 90,
        "confidence": 0.95, "scores": {"error": {"value": 0.5, "low": 0.49, "high": 0.51}}, "better": {"error": better},
        "parts": {"kind": "point", "rows": rows, "better": {"error": better}},
    }  # fmt: skip


@pytest.mark.parametrize(("better", "worst"), [("higher", "p0"), ("lower", "p2")])
def test_a_part_is_worse_only_with_its_whole_interval(better: str, worst: str) -> None:
    (limit,) = model_limitations.score_limits(scores_of_points([0.2, 0.5, 0.8], 50, better), None, [])
    assert limit.startswith("1 point is clearly worse than the median point, whose error is 0.500: `" + worst)
    assert not model_limitations.score_limits(scores_of_points([0.45, 0.5, 0.55], 50, better), None, [])


def test_a_wide_interval_and_parts_with_few_images_are_limits() -> None:
    few = scores_of_points([0.5, 0.5, 0.5], 19)
    few["scores"]["error"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    wide, parts = model_limitations.score_limits(few, None, [])
    assert "0.400 to 0.600 (95% interval): 90 validation images in 90 groups cannot narrow it further" in wide
    assert "fewer than 20" in parts and "`p0` (19), `p1` (19), `p2` (19)" in parts


def test_miscalibration_is_a_limit() -> None:
    scores = scores_of_points([0.5, 0.5, 0.5], 50)
    assert not model_limitations.score_limits(scores, 0.049, [])
    assert "expected calibration error is 0.051" in model_limitations.score_limits(scores, 0.051, [])[0]


def test_the_outputs_of_every_representation_are_described() -> None:
    assert set(model_card.OUTPUT_MEANINGS) == set(REPRESENTATIONS)
