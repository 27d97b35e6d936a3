"""params.yaml: every key is there with its unit, and every mistake is named at once."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from stages.config.load import load, overlay
from stages.config.schema import Params
from stages.core.errors import UserError


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        keys += keys_of(field.annotation, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]  # type: ignore[arg-type]
    return keys


def test_every_key_stands_in_the_file_with_a_comment(root: Path) -> None:
    lines = (root / "params.yaml").read_text().splitlines()
    keys = [key.rpartition(".")[2] for key in keys_of(Params)]
    assert len(keys) > 50
    for key in keys:
        found = [line for line in lines if re.match(rf"\s+{key}:", line)]
        assert found, f"{key} is missing in params.yaml"
        assert all("#" in line for line in found), f"{key} has no comment with its unit and range"


def test_every_key_has_a_docstring() -> None:
    def check(model: type[BaseModel]) -> int:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                check(field.annotation)
            else:
                assert field.description, f"{model.__name__}.{name} has no docstring"
        return len(model.model_fields)

    assert check(Params) > 10


def test_all_mistakes_are_reported_at_once_with_key_value_and_a_suggestion(root: Path, tmp_path: Path) -> None:
    text = (root / "params.yaml").read_text()
    for before, after in {
        "  size: 32": "  size: 4",
        "  epochs: 12": "  epochz: 12",
        "optimizer: adamw": "optimizer: adamww",
        "test: 0.15": "test: 0.95",
        "train.learning_rate:": "train.lerning_rate:",
        'group: ""': 'group: "patient"',
    }.items():
        assert before in text
        text = text.replace(before, after, 1)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "params.yaml")
    message = str(caught.value)
    for part in (
        "7 mistakes",
        "prepare.size: 4: input should be greater than or equal to 8",
        "train.epochz: 12: unknown key; did you mean `epochs`?",
        "train.epochs: missing",
        "train.optimizer: 'adamww': did you mean `adamw`?",
        "validation 0.15 + test 0.95 = 1.1 leaves nothing to train on",
        "did you mean `train.learning_rate`?",
        "ingest.group_regex: 'patient': has no parenthesis",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [", "not readable YAML"),
        ("train: {seed: 1}\ntrain: {seed: 2}", "duplicate key"),
        ("just words", "not sections"),
        ("", "not sections"),
        ("nothing: {}", "nothing: {}: unknown key"),
        ("train:\n  learning_rate: .nan", "train.learning_rate: nan"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(UserError, match=re.escape(says)):
        load(tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the project's folder"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("span", "says"),
    [
        ("{low: 1, high: 0.1}", "must be below"),
        ("{low: 0, high: 1, log: true}", "needs low above 0"),
        ("{choices: []}", "non-empty"),
        ("{low: -1, high: 1}", "-1.0: Input should be greater than 0"),
        ("{choices: [0.1, 11]}", "11: Input should be greater than 0 and less than or equal to 10, or auto"),
    ],
)
def test_a_range_outside_what_the_key_allows_is_an_error(root: Path, tmp_path: Path, span: str, says: str) -> None:
    text = (root / "params.yaml").read_text()
    text = re.sub(r"train\.learning_rate: \{.*\}", f"train.learning_rate: {span}", text)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(says)):
        load(tmp_path / "params.yaml")


def test_tuned_values_replace_those_of_the_sections(params: Params) -> None:
    changed = overlay({"train": params.train, "network": params.network}, {"train.learning_rate": 0.5})
    assert changed["train"].learning_rate == 0.5  # type: ignore[attr-defined]
    assert changed["network"] == params.network
