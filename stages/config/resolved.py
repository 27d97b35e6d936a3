"""Record of the params that a run uses, `data/params.resolved.yaml`: all sections, all keys, no comments."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from stages.core.errors import UserError

RESOLVED = Path("data/params.resolved.yaml")
"""Output of the stage `resolve`, from which all other stages read their params."""


class Representer(RoundTripRepresenter):
    """Representer that writes null as the word `null`."""


Representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))


def as_yaml(params: BaseModel) -> str:
    """Return all values as YAML, in the order of the schema: the same params give the same text."""
    yaml, out = YAML(), StringIO()
    yaml.Representer, yaml.width = Representer, 4096
    yaml.dump(_plain(params.model_dump()), out)
    return out.getvalue()


def sections_from(file: Path, kinds: Mapping[str, type[BaseModel]]) -> dict[str, BaseModel]:
    """Read some sections of resolved params.

    Args:
        file: output of the stage `resolve`.
        kinds: type of each section, by name.

    Raises:
        UserError: the file does not exist.
    """
    if not kinds:
        return {}
    try:
        values = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist; `dvc repro resolve` writes it, from params.yaml") from None
    return {name: kind.model_validate(values[name]) for name, kind in kinds.items()}


def _plain(value: Any) -> Any:
    """Return a value with lists in place of tuples."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
