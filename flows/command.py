"""Read the parameters of a flow from the command line."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import UserError, did_you_mean


def arguments(words: Sequence[str], function: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters `KEY=VALUE` of a function; values are YAML.

    Args:
        words: parameters as written on the command line.
        function: function of the flow.

    Raises:
        UserError: a word is not KEY=VALUE, its value is not YAML, or the function has no parameter of this name.

    >>> arguments(["count=3", "name="], lambda count=1, name="x": None)
    {'count': 3, 'name': ''}
    """
    known = list(inspect.signature(function).parameters)
    given: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"{word!r} is not KEY=VALUE; keys are {', '.join(known)}")
        if key not in known:
            raise UserError(f"{key} is not a parameter; {did_you_mean(key, known)}")
        try:
            given[key] = YAML(typ="safe", pure=True).load(value) if value else ""
        except YAMLError as error:
            raise UserError(f"{word!r}: {value!r} is not a YAML value") from error
    return given
