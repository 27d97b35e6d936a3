"""`params.yaml` as text: values replaced, comments kept, remarks added."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from stages.frame.params import check


class _Representer(RoundTripRepresenter):
    """Writes null as the file has it, not as nothing."""


_Representer.add_representer(type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null"))


def edited(text: str, changes: Sequence[Mapping[str, Any]], origin: str) -> str:
    """A text of params with nested values replaced, its comments kept.

    Args:
        text: of a params file.
        changes: values by section and key; later ones win.
        origin: names the changes in an error.

    Raises:
        UserError: the outcome is no valid set of params.
    """
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes, yaml.width = True, 4096
    values = yaml.load(text)
    for change in changes:
        _merge(values, change)
    out = StringIO()
    yaml.dump(values, out)
    check(YAML(typ="safe", pure=True).load(out.getvalue()), origin)
    return out.getvalue()


def _merge(values: Any, change: Mapping[str, Any]) -> None:
    for key, new in change.items():
        if isinstance(new, Mapping) and isinstance(values.get(key), Mapping) and values[key]:
            _merge(values[key], new)
        else:
            values[key] = new


def remarked(text: str, remarks: Mapping[str, str]) -> str:
    r"""A text of params with a comment above each key that a remark names by its dots.

    >>> print(remarked("a:\n  b: 1  # one\n", {"a.b": "so"}), end="")
    a:
      # so
      b: 1  # one
    """
    lines: list[str] = []
    place: list[str] = []
    left = dict(remarks)
    for line in text.splitlines():
        if found := re.match(r"( *)([A-Za-z0-9_.\"']+):", line):
            depth = len(found[1]) // 2
            place = [*place[:depth], found[2].strip("\"'")]
            if remark := left.pop(".".join(place), ""):
                lines.append(f"{found[1]}# {remark}")
        lines.append(line)
    assert not left, f"no such keys: {sorted(left)}"
    return "\n".join(lines) + "\n"
