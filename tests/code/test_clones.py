"""Tests of example parameter sets and variants: changes of params, validity, and the comparison of two runs."""

from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from flows import compare
from flows.example import main as run_example
from flows.worktrees import change_params, clone_name, example, parse_changes
from stages.config.load import load
from stages.core.errors import UserError
from tests.conftest import ROOT, example_params


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "docs/examples").glob("*.yaml")))
def test_example_params_are_valid_and_differ_from_the_defaults(name: str) -> None:
    assert example_params(name).ingest.name == name
    base = load(ROOT / "params.yaml").model_dump(mode="json")
    for section, values in example(name).items():
        for key, value in values.items():
            assert base[section][key] != value, f"{section}.{key} is {value} in params.yaml already"


def test_changes_preserve_comments_and_all_other_values() -> None:
    text = change_params(
        [{"train": {"epochs": 3}}, parse_changes("network.name=vgg11 ingest.columns.label=kind")], "here"
    )
    before, after = (ROOT / "params.yaml").read_text(), text
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    assert comments == [line.partition("#")[2] for line in after.splitlines() if "#" in line] and len(comments) > 5
    expected, values = (YAML(typ="safe", pure=True).load(yaml) for yaml in (before, after))
    expected["train"]["epochs"], expected["network"]["name"] = 3, "vgg11"
    expected["ingest"]["columns"] = {"label": "kind"}
    assert values == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("network=vgg11", "'network=vgg11' is not a change of params; write SECTION.KEY=VALUE"),
        ("network.name", "'network.name' is not a change"),
        ("network.nam=vgg11", "network.nam: 'vgg11': unknown key"),
        ("network.name=[", r"'network.name=\[': '\[' is not a YAML value"),
        ("train.epochs=none", "1 mistake in these words"),
        ("augment.amounts=1 augment.amounts.hue=2", "sets both augment.amounts and augment.amounts.hue"),
    ],
)
def test_an_invalid_change_is_reported(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        change_params([parse_changes(words)], "these words")


def test_invalid_examples_sources_and_variants_are_reported() -> None:
    with pytest.raises(UserError, match="did you mean `clothing10`"):
        example("cloting10")
    with pytest.raises(UserError, match="'nowhere.zip' does not exist"):
        run_example("clothing10", "nowhere.zip")
    with pytest.raises(UserError, match="name two or more variants"):
        compare.main(["network.name=vgg11"])
    with pytest.raises(UserError, match="--example bccd is given without --source"):
        compare.main(["network.name=vgg11", "network.name=vgg16"], name="bccd")


def test_a_clone_is_named_after_its_changes() -> None:
    assert clone_name("nuclei", "network.name=timm/resnet10t train.learning_rate=0.1") == "nuclei-timm_resnet10t-0.1"
    assert clone_name("nuclei", "") == "nuclei"


def variant(values: list[float], **changes: Any) -> dict[str, Any]:
    value = {"value": values[0], "low": min(values), "high": max(values)}
    results = {"score": "dice", "value": value, "better": "higher", "confidence": 0.9, "paths": ["a", "b"]}
    results["constant"] = {"prediction": "a mask of wall only", "value": 0.25, "low": 0.2, "high": 0.3}
    results |= {"train_seconds": 5.0, "onnx_bytes": 2_500_000, "one_image_ms": 1.25}
    return {**results, "replicates": np.array(values)} | changes


def test_differences_are_paired_by_bootstrap_replicate() -> None:
    spread = np.linspace(-0.2, 0.2, 41)
    first = variant([0.5, *(0.5 + spread)])
    other = variant([0.6, *(0.6 + spread)])
    delta = compare.difference(first, other)
    assert [delta[end] for end in ("value", "low", "high")] == pytest.approx([0.1] * 3)
    assert compare.verdict(delta, "higher") == "better"
    assert compare.verdict(delta, "lower") == "worse"
    without_score = variant([float("nan")] * 42, value=dict.fromkeys(("value", "low", "high")))
    assert compare.verdict(compare.difference(first, without_score), "higher") == "undefined"
    assert "| undefined | undefined |" in compare.table({"x=1": first, "x=2": without_score})
    opposite = compare.difference(first, variant([0.6, *(0.6 - spread)]))
    assert compare.verdict(opposite, "higher") == "no difference shown"
    lines = compare.table({"x=1": first, "x=2": other}).splitlines()
    assert "dice (higher is better)" in lines[0]
    assert "+0.100 [+0.100, +0.100] | better | 5 s | 2.5 MB | 1.2 ms |" in lines[3]
    assert lines[4].startswith("| constant: a mask of wall only | 0.250 [0.200, 0.300] |")


def test_a_variant_with_an_undefined_score_is_listed() -> None:
    first = variant([0.5, 0.4, 0.6])
    none = variant([np.nan] * 3, value={"value": None, "low": None, "high": None})
    for order in ({"x=1": first, "x=2": none}, {"x=2": none, "x=1": first}):
        assert "| undefined | undefined | 5 s |" in compare.table(order).splitlines()[3]
    assert "| `x=2` | undefined |" in compare.table({"x=1": first, "x=2": none})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "iou"}, "task.score is dice in the first variant, but iou in another"),
        ({"paths": ["a", "c"]}, "not scored on the same resamples"),
        ({"replicates": np.zeros(2)}, "not scored on the same resamples"),
    ],
)
def test_runs_that_are_not_comparable_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare.difference(variant([0.5, 0.4, 0.6]), variant([0.5, 0.4, 0.6], **change))
