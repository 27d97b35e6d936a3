"""Edit a params file as text: replace values, add comments, and keep the comments that it has."""

import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages.config.aliases import rename_in_place, renamed
from stages.config.load import check
from stages.config.resolved import Representer
from stages.config.schema import Params

INDENT = 2


def edited(
    text: str,
    changes: Sequence[Mapping[str, Any]],
    origin: str,
    remarks: Mapping[str, str] | None = None,
    dropped: Iterable[str] = (),
) -> str:
    """Return the text of a params file with values replaced, comments preserved and old names updated.

    Args:
        text: content of a params file.
        changes: values by section and key; later ones win. Keys that hold mappings of their own, such as `gate.waive`,
            are replaced as a whole.
        origin: name of the changes, for the message of an error.
        remarks: comment to write above a key, by dotted key.
        dropped: dotted keys to remove, so that they have their defaults.

    Raises:
        UserError: the result is not a valid set of params.
    """
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes, yaml.width = True, 4096
    values = yaml.load(text)
    rename_in_place(values)
    for change in changes:
        _merge(values, renamed(change)[0], Params)
    for key in dropped:
        _drop(values, key.split("."))
    for key, remark in (remarks or {}).items():
        _remark(values, key.split("."), remark)
    out = StringIO()
    yaml.dump(values, out)
    # Remove blank lines after the name of a section.
    result = re.sub(r"^(\S+:[^\n]*\n)\n+(?= )", r"\1", out.getvalue(), flags=re.MULTILINE)
    check(YAML(typ="safe", pure=True).load(result), origin)
    return result


def _merge(values: Any, change: Mapping[str, Any], section: Any) -> None:
    for key, new in change.items():
        field = section.model_fields.get(key)
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(new, Mapping):
            if values.get(key) is None:
                values[key] = CommentedMap()
            _merge(values[key], new, inner)
        else:
            values[key] = new


def _drop(values: Any, path: list[str]) -> None:
    """Remove a key, and the sections that are empty without it."""
    name, *inner = path
    if not isinstance(values, Mapping) or name not in values:
        return
    if inner:
        _drop(values[name], inner)
    if not inner or values[name] == {}:
        del values[name]  # type: ignore[attr-defined]


def _remark(values: Any, path: list[str], remark: str) -> None:
    *sections, name = path
    for section in sections:
        values = values[section]
    values.fa.set_block_style()
    values.yaml_set_comment_before_after_key(name, before=one_line(remark), indent=INDENT * len(sections))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted key as values by section and key.

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
    r"""Return text of any origin as one printable line.

    >>> one_line("a\nb")
    'a b'
    """
    return "".join(sign if sign.isprintable() else " " for sign in text)
