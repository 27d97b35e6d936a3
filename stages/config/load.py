"""Read `params.yaml` into typed sections and report all mistakes at once: `python -m stages.config.load`."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.config.aliases import PARAMS, renamed
from stages.config.combinations import combination_problems
from stages.config.schema import Params
from stages.core.errors import UserError, did_you_mean
from stages.core.plurals import quantity

_CONTENT: dict[type, str] = {list: "a list", str: "text"}
"""Content of a params file that has no sections, in words."""


def read(file: Path) -> dict[str, Any]:
    """Return the values of a params file, under the names in the file.

    Raises:
        UserError: the file does not exist, is not readable YAML, or does not contain sections.
    """
    try:
        values = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist; run from the project's folder, which contains params.yaml") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except YAMLError as error:
        raise UserError(f"{file} is not readable YAML: {yaml_problem(error)}; correct it") from None
    if not isinstance(values, dict):
        content = "is empty" if values is None else f"contains {_CONTENT.get(type(values), 'a value')}, not sections"
        raise UserError(f"{file} {content}; write sections such as `train:`, or restore the file with git")
    return values


def yaml_problem(error: YAMLError) -> str:
    """Return the problem that a YAML parser has found, on one line, with its position."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem or mark is None:
        return " ".join(str(error).split())
    words = " ".join(problem.split()).partition(" with value ")[0]  # of a duplicate key
    return f"{words} at line {mark.line + 1}, column {mark.column + 1}"


def load(file: Path) -> Params:
    """Read and check a params file; keys that are not in it have their defaults.

    Names that have changed are accepted, and their current names are printed on standard error.

    Raises:
        UserError: the file is not readable, or has mistakes; the message lists all with key, value and what is allowed.
    """
    values, notices = renamed(read(file))
    for notice in notices:
        print(f"{file}: {notice}; rename it", file=sys.stderr)
    return _checked(values, str(file))


def check(values: dict[str, Any], origin: str = "params") -> Params:
    """Validate nested values; names that have changed are accepted.

    Raises:
        UserError: there are mistakes; `origin` names the values in the message.
    """
    return _checked(renamed(values)[0], origin)


def value_of(params: Params, key: str) -> Any:
    """Return the value of a dotted key; a tuple is returned as a list, as in YAML."""
    value: Any = params
    for name in key.split("."):
        value = getattr(value, name)
    return list(value) if isinstance(value, tuple) else value


def default_params() -> Params:
    """Return the params of a file that contains only the keys without a default."""
    return check({"ingest": {"name": "data", "source": "data"}})


def _checked(values: dict[str, Any], origin: str) -> Params:
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise _refusal((_in_words(e) for e in error.errors()), origin) from None
    if problems := combination_problems(params):
        raise _refusal(problems, origin)
    return params


def _refusal(mistakes: Iterable[str], origin: str) -> UserError:
    listed = sorted(mistakes)
    return UserError(f"{quantity(len(listed), 'mistake')} in {origin}:\n" + "\n".join(f"  {m}" for m in listed))


def _in_words(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(whole file)"
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "extra_forbidden":
            siblings = _fields_at(error["loc"][:-1])
            if key in PARAMS:
                return f"{key}: is now {PARAMS[key]}, which is in the file too; remove {key}"
            return f"{key}: {_as_yaml(error['input'])}: unknown key; {did_you_mean(str(error['loc'][-1]), siblings)}"
        case "missing":
            return f"{key}: missing; add it, because it has no default"
        case "literal_error":
            allowed = [w.strip("' ") for w in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
            return f"{key}: {_as_yaml(error['input'])}: {did_you_mean(str(error['input']), allowed)}"
        case "model_type" | "dict_type":
            return f"{key}: {_as_yaml(error['input'])}: must be a mapping of keys to values"
        case "tuple_type":
            return f"{key}: {_as_yaml(error['input'])}: must be a list"
        case "too_short":
            return (
                f"{key}: {_as_yaml(error['input'])}: must have at least {quantity(error['ctx']['min_length'], 'item')}"
            )
        case "value_error" if isinstance(error["input"], dict):
            return f"{key}:{message}" if message.startswith("\n") else f"{key}: {message}"
        case _:
            return f"{key}: {_as_yaml(error['input'])}: {message[0].lower()}{message[1:]}"


def _as_yaml(value: Any) -> str:
    """Return a value as in Python, except for null, true and false."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Params
    parts = iter(location)
    for part in parts:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            next(parts, None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def main() -> None:
    """Check the params file of the current folder, and exit with a message if it has mistakes."""
    try:
        load(Path("params.yaml"))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
