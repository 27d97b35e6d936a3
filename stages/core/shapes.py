"""Shape types of arrays: `Float[Array, "H W"]` is an array of floats with the axes H and W.

Axes of one name have the same length within a call. `*C` stands for any number of axes, `_` for an axis of any length,
and `{size}` for the value of an argument. The tests check these types at every call, with jaxtyping and beartype
(`tests/__init__.py`). Elsewhere they are annotations only, and neither package is required.
"""

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Integer, Real, Shaped, UInt8
else:
    from typing import Annotated

    Bool = Float = Integer = Real = Shaped = UInt8 = Annotated

Array = np.ndarray
"""An array of any shape and type."""

__all__ = ["Array", "Bool", "Float", "Integer", "Real", "Shaped", "UInt8"]
