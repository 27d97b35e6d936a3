"""The type checker of array shapes under pytest."""

from typing import Any

from beartype import BeartypeConf, beartype

CONFIGURATION = BeartypeConf(is_pep484_tower=True)  # an int is a float, as type checkers have it


def checked(function: Any) -> Any:
    """Return a function that checks its arguments and its result against their annotations."""
    return beartype(conf=CONFIGURATION)(function)
