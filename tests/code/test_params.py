"""Tests of params: defaults, descriptions, renamed keys, edits of the file, and reports of mistakes."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from stages.config import aliases, describe
from stages.config.edit import edited
from stages.config.load import check, load
from stages.config.overlay import overlay
from stages.config.resolved import as_yaml, sections_from
from stages.config.schema import Params
from stages.config.schema_data import Gate, Ingest
from stages.core.errors import UserError

BEFORE = Path(__file__).parents[1] / "data/before-renaming"
"""Params file and model of the last commit before keys were renamed."""
DATA = {"name": "a", "source": "b"}


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        keys += keys_of(field.annotation, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]  # type: ignore[arg-type]
    return keys


def test_the_shipped_file_contains_only_decisions(root: Path) -> None:
    lines = (root / "params.yaml").read_text().splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith("#")]) <= 20
    assert len(keys_of(Params)) > 100


def test_all_keys_except_data_name_and_source_have_defaults() -> None:
    required = [row.key for row in describe.rows() if row.default == describe.REQUIRED]
    assert required == ["ingest.name", "ingest.source"]
    assert check({"ingest": DATA}).train.epochs > 0


def test_the_shipped_file_keeps_the_values_of_the_former_file(root: Path) -> None:
    former = load(BEFORE / "params.yaml").model_copy(update={"gate": Gate()})
    assert former == load(root / "params.yaml")


def test_every_key_is_described_with_its_type(root: Path) -> None:
    found = describe.rows(root / "params.yaml")
    assert [row.key for row in found] == keys_of(Params)
    for row in found:
        assert row.description and row.kind != "value", row.key
    by_key = {row.key: row for row in found}
    size, rate, labels = by_key["prepare.size"], by_key["train.learning_rate"], by_key["ingest.columns.label"]
    assert (size.kind, size.span, size.unit, size.value, size.given) == ("integer", "8..2,048", "pixels", 32, True)
    assert (rate.kind, rate.span) == ("number | auto", ">0..10, or auto")
    assert (labels.kind, labels.given, labels.default) == ("text | null", False, "label")
    assert by_key["tune.minutes"].span == ">0.." and by_key["train.seed"].span == "0..<2^31"
    assert by_key["train.seed"].value == 0


def test_text_and_json_show_every_key() -> None:
    found = describe.rows()
    text, values = describe.as_text(found), json.loads(describe.as_json(found))
    assert [value["key"] for value in values] == [row.key for row in found]
    assert all(f"\n{row.key}: " in text for row in found)
    assert max(len(line) for line in text.splitlines() if line.startswith(" ")) <= 100


def test_the_reference_page_is_up_to_date(root: Path) -> None:
    page = (root / "docs/reference/params.md").read_text()
    assert page == describe.as_markdown(describe.rows()) + "\n", "run `make docs`"


def test_resolved_params_contain_every_value_and_round_trip(tmp_path: Path) -> None:
    params = check({"ingest": DATA | {"mask_values": {0: "ground", 255: "cell"}}, "tune": {"minutes": 5}})
    text = as_yaml(params)
    (tmp_path / "resolved.yaml").write_text(text)
    assert load(tmp_path / "resolved.yaml") == params
    assert as_yaml(load(tmp_path / "resolved.yaml")) == text
    sections = sections_from(tmp_path / "resolved.yaml", {"ingest": Ingest, "gate": Gate})
    assert sections == {"ingest": params.ingest, "gate": params.gate}
    assert not [key for key in keys_of(Params) if f"{key.rpartition('.')[2]}:" not in text]


def test_an_objective_for_a_lower_score_replaces_the_default() -> None:
    assert check({"ingest": DATA, "objective": {"at_most": 5}}).objective.at_least is None
    with pytest.raises(UserError, match="set one of at_least and at_most"):
        check({"ingest": DATA, "objective": {"at_least": 0.5, "at_most": 5}})


def test_all_mistakes_are_reported_at_once_with_suggestions(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        """
        ingest: {name: digits, group_regex: patient}
        prepare: {size: 4}
        train: {epochz: 12, optimizer: adamww, clip: 1.0, gradient_clip: 1.0}
        split: {test: 0.95}
        tune: {space: {train.lerning_rate: {low: 0.001, high: 0.01}}}
        """
    )
    with pytest.raises(UserError) as caught:
        load(tmp_path / "params.yaml")
    message = str(caught.value)
    for part in (
        "8 mistakes",
        "prepare.size: 4: input should be greater than or equal to 8",
        "train.epochz: 12: unknown key; did you mean `epochs`?",
        "ingest.source: missing; add it, because it has no default",
        "train.optimizer: 'adamww': did you mean `adamw`?",
        "train.clip: is now train.gradient_clip, which is in the file too; remove train.clip",
        "validation 0.15 + test 0.95 = 1.1 leaves no training images",
        "did you mean `train.learning_rate`?",
        "ingest.group_regex: 'patient': has no parentheses",
    ):
        assert part in message


def test_old_keys_are_read_and_their_current_names_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("ingest: {name: a, source: b, form: table}\ntune:\n  space:\n    train.clip: {low: 0, high: 1}\n")
    params = load(file)
    assert params.ingest.format == "table" and list(params.tune.space) == ["train.gradient_clip"]
    messages = capsys.readouterr().err.splitlines()
    assert messages == [
        f"{file}: ingest.form is now ingest.format; rename it",
        f"{file}: tune.space: train.clip is now train.gradient_clip; rename it",
    ]


def test_every_old_key_maps_to_a_current_key() -> None:
    keys = keys_of(Params)
    assert len(aliases.PARAMS) > 20
    for old, new in aliases.PARAMS.items():
        assert new in keys and old not in keys
        assert old.partition(".")[0] == new.partition(".")[0], "a renamed key stays in its section"


def test_editing_an_old_file_renames_keys_and_preserves_comments() -> None:
    text = "ingest: {name: a, source: b}\ntrain:\n  epochs: 3 # few\n  clip: 1.0 # longest\n  l1: 0.0 # none\n"
    changed = edited(text, [{"train": {"clip": 2.0, "average": 0.9}}], "test")
    assert changed.splitlines()[2:] == [
        "  epochs: 3 # few", "  gradient_clip: 2.0 # longest", "  l1: 0.0 # none", "  ema_decay: 0.9",
    ]  # fmt: skip


def test_editing_adds_missing_keys_and_removes_requested_keys() -> None:
    text = "ingest: {name: a, source: b}\ngate: {waive: {x: why}}\ntrain:\n"
    changed = edited(text, [{"train": {"epochs": 2}, "ingest": {"columns": {"group": None}}}], "test",
                     {"train.epochs": "quick"}, ["gate.waive", "audit.max_p"])  # fmt: skip
    assert changed == "ingest: {name: a, source: b, columns: {group: null}}\ntrain:\n  # quick\n  epochs: 2\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not readable YAML"),
        ("train: {seed: 1}\ntrain: {seed: 2}", "duplicate key"),
        ("just words", "not sections"),
        ("", "is empty"),
        ("nothing: {}", "nothing: {}: unknown key"),
        ("train:\n  learning_rate: .nan", "train.learning_rate: nan"),
    ],
)
def test_the_problem_of_an_invalid_file_is_reported(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(UserError, match=re.escape(message)):
        load(tmp_path / "params.yaml")


def test_the_error_for_a_missing_file_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the project's folder"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ("{low: 1, high: 0.1}", "must be below"),
        ("{low: 0, high: 1, log: true}", "requires low above 0"),
        ("{choices: []}", "choices is empty"),
        ("{low: -1, high: 1}", "-1.0: input should be greater than 0"),
        ("{choices: [0.1, 11]}", "11: input should be greater than 0 and less than or equal to 10, or auto"),
    ],
)
def test_an_invalid_search_range_is_an_error(tmp_path: Path, span: str, message: str) -> None:
    text = f"ingest: {{name: a, source: b}}\ntune: {{space: {{train.learning_rate: {span}}}}}"
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load(tmp_path / "params.yaml")


def test_tuned_values_override_those_of_the_sections(params: Params) -> None:
    changed = overlay({"train": params.train, "network": params.network}, {"train.learning_rate": 0.5})
    assert changed["train"].learning_rate == 0.5  # type: ignore[attr-defined]
    assert changed["network"] == params.network
