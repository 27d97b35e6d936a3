"""`params.yaml` read into typed sections, every mistake reported at once: `python -m stages.frame.params` checks it."""

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import UserError, did_you_mean
from stages.frame.sections import Params, Section


def load(file: Path) -> Params:
    """Read and check a params file.

    Raises:
        UserError: naming every mistake in the file at once: dotted key, value, what is allowed.
    """
    try:
        values = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist; run from the project's folder, where params.yaml lies") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not readable YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} holds {type(values).__name__}, not sections; restore it with `git checkout {file}`")
    return check(values, str(file))


def check(values: dict[str, Any], origin: str = "params") -> Params:
    """Validate nested values into `Params`; `origin` names them in the error."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        mistakes = sorted(_in_words(e) for e in error.errors())
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UserError(f"{count} in {origin}:\n" + "\n".join(f"  {m}" for m in mistakes)) from None


def overlay(sections: dict[str, Section], best: dict[str, Any]) -> dict[str, Section]:
    """Sections with dotted keys replaced, as `{"train.learning_rate": 0.003}`, checked anew."""
    changed = {name: section.model_dump() for name, section in sections.items()}
    for key, value in best.items():
        *outer, name = key.split(".")
        inner = changed
        for part in outer:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[name] = value
    return {name: type(sections[name]).model_validate(values) for name, values in changed.items()}


def _in_words(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(whole file)"
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "extra_forbidden":
            siblings = _fields_at(error["loc"][:-1])
            return f"{key}: {error['input']!r}: unknown key; {did_you_mean(str(error['loc'][-1]), siblings)}"
        case "missing":
            return f"{key}: missing; add it (the defaults stand in the params.yaml of a fresh clone)"
        case "literal_error":
            allowed = [w.strip("' ") for w in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
            return f"{key}: {error['input']!r}: {did_you_mean(str(error['input']), allowed)}"
        case "value_error" if isinstance(error["input"], dict):
            return f"{key}: {message}"
        case _:
            return f"{key}: {error['input']!r}: {message[0].lower()}{message[1:]}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Params
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def main() -> None:
    """Check the params file of the current folder."""
    try:
        load(Path("params.yaml"))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
