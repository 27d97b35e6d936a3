"""Tests that shapes of arrays are checked under pytest and nowhere else."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from stages.images.geometry import Placement, blend_tiles, crop_tile
from stages.tasks.intervals import resample_weights
from stages.tasks.rand_index import foreground_rand
from tests import modules_with_shapes
from tests.conftest import ROOT

WHOLE = Placement(4, 6, 0, 0, 4, 6, 1.0, 1.0)
PRODUCTION = """
import sys
import numpy as np
from stages.tasks.rand_index import foreground_rand
from stages.core.shapes import Float
foreground_rand(np.zeros((2, 2)), np.zeros((2, 2)))
assert Float[np.ndarray, "H W"].__origin__ is np.ndarray
assert not {"jaxtyping", "beartype"} & set(sys.modules)
"""


def test_modules_that_use_shape_types_are_found() -> None:
    assert {"stages.images.geometry", "stages.tasks.intervals", "stages.training.losses"} <= set(modules_with_shapes())


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (foreground_rand, (np.zeros((2, 3), int), np.zeros((3, 2), int))),
        (foreground_rand, (np.zeros((2, 3)), np.zeros((2, 3)))),
        (crop_tile, (np.zeros(4), WHOLE, 4)),
        (resample_weights, (np.zeros((2, 2)), 3)),
        (blend_tiles, ([np.zeros((4, 3))], [WHOLE])),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(function: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(Exception, match=r"(?s)violates type hint|Type-check error"):
        function(*arguments)


def test_arrays_of_the_stated_shape_are_accepted() -> None:
    assert crop_tile(np.zeros((4, 6, 3), np.uint8), WHOLE, 8).shape == (8, 8, 3)
    assert resample_weights(np.arange(5), 3).shape == (4, 5)


def test_shapes_are_not_checked_in_production() -> None:
    completed = subprocess.run([sys.executable, "-c", PRODUCTION], cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
