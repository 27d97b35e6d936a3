"""`params.yaml` as text: values replaced, comments kept, remarks added."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from stages.config.load import check
from stages.config.schema import Params

INDENT = 2


class _Representer(RoundTripRepresenter):
    """Writes null as the file has it, not as nothing."""


_Representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))


def edited(
    text: str, changes: Sequence[Mapping[str, Any]], origin: str, remarks: Mapping[str, str] | None = None
) -> str:
    """A text of params with values replaced, its comments kept.

    Args:
        text: of a params file.
        changes: values by section and key; later ones win. Keys that hold mappings of their own, as `gate.waive`, are
            replaced whole.
        origin: names the changes in an error.
        remarks: what is written as a comment above a key, by its dots.

    Raises:
        UserError: the outcome is no valid set of params.
    """
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes, yaml.width = True, 4096
    values = yaml.load(text)
    for change in changes:
        _merge(values, change, Params)
    for key, remark in (remarks or {}).items():
        _remark(values, key.split("."), remark)
    out = StringIO()
    yaml.dump(values, out)
    check(YAML(typ="safe", pure=True).load(out.getvalue()), origin)
    return out.getvalue()


def _merge(values: Any, change: Mapping[str, Any], section: Any) -> None:
    for key, new in change.items():
        field = section.model_fields.get(key)
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(new, Mapping) and key in values:
            _merge(values[key], new, inner)
        else:
            values[key] = new


def _remark(values: Any, path: list[str], remark: str) -> None:
    *sections, name = path
    for section in sections:
        values = values[section]
    values.fa.set_block_style()
    values.yaml_set_comment_before_after_key(name, before=one_line(remark), indent=INDENT * len(sections))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key as values by section and key.

    >>> nested({"network.name": "vgg11", "train.epochs": 3})
    {'network': {'name': 'vgg11'}, 'train': {'epochs': 3}}
    """
    values: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return values


def one_line(text: str) -> str:
    r"""Text of any origin as one printable line.

    >>> one_line("a\nb")
    'a b'
    """
    return "".join(sign if sign.isprintable() else " " for sign in text)
