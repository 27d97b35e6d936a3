"""Fixtures of the tests of single modules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.config.schema import Params
from stages.training.training_plan import TrainingData, TrainingPlan
from tests.digit_plans import digit_plan, load_digits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """Return 48 prepared digits of three classes, half of them for validation."""
    return load_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def make_plan(data: TrainingData, params: Params, tmp_path: Path) -> Callable[..., TrainingPlan]:
    """Return a function that makes plans of two epochs on the digits."""

    def make(changes: dict[str, Any] | None = None, **train: Any) -> TrainingPlan:
        return digit_plan(data, params, tmp_path, changes, **train)

    return make
