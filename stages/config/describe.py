"""Description of all params keys, as rows, text, JSON or Markdown: `python -m stages.config.describe`."""

import json
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from stages.config.aliases import renamed
from stages.config.load import check, read
from stages.config.schema import Params
from stages.config.schema_base import Unit
from stages.core.errors import UserError

REQUIRED = "required"
"""Text shown in place of the default of a key that has none."""
INTRODUCTION = """# Params

All keys of `params.yaml`, with their defaults. The file contains decisions only: a key that is not in it has its
default. `macula params` prints the same with the values of the file, and `data/params.resolved.yaml` records the values
that a run used. This page is generated from `stages/config/` by `make docs`.
"""


@dataclass(frozen=True)
class Row:
    """One key of the params."""

    key: str
    """Dotted key."""
    kind: str
    """Type, or the choices: `integer`, `auto | cpu | cuda`."""
    span: str
    """Range, such as `>0..1` or `8..2048`; empty if there is none."""
    unit: str
    """Unit; empty if there is none."""
    default: Any
    """Default value, or `REQUIRED`."""
    value: Any
    """Value that applies: that of the file, otherwise the default."""
    given: bool
    """Whether the key is in the file."""
    description: str
    """Meaning of the key, in one paragraph."""


def rows(file: Path | None = None) -> list[Row]:
    """Return all keys in the order of the schema, with the values of a params file.

    Args:
        file: a params file; None: every key has its default.

    Raises:
        UserError: the file is not readable or has mistakes.
    """
    values = renamed(read(file))[0] if file else {}
    resolved = check(values, str(file)).model_dump(mode="json") if file else {}
    return list(_rows(Params, "", values, resolved))


def as_text(found: Sequence[Row], width: int = 100) -> str:
    """Return the value of each key (and its default, if different), then type, range, unit and description.

    Args:
        found: rows to show.
        width: characters per line.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for row in found:
        section = row.key.partition(".")[0]
        if section not in seen:
            seen.add(section)
            lines.append(f"\n{section}: {_about(section)}")
        differs = row.default not in (row.value, REQUIRED)
        was = f"  (default {_yaml(row.default)})" if differs else ""
        about = ", ".join(part for part in (row.kind, row.span, row.unit) if part)
        lines.append(f"{row.key}: {_yaml(row.value)}{was}")
        lines.append(fill(f"[{about}] {row.description}", width, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines).lstrip("\n")


def as_json(found: Sequence[Row]) -> str:
    """Return a JSON list with an object per key."""
    return json.dumps([asdict(row) for row in found], indent=1)


def as_markdown(found: Sequence[Row]) -> str:
    """Return the reference page: a table per section, without the values of a file."""
    parts = [INTRODUCTION]
    for section in dict.fromkeys(row.key.partition(".")[0] for row in found):
        head = "| key | type and range | default | meaning |\n|---|---|---|---|"
        body = "\n".join(_table_row(row) for row in found if row.key.startswith(f"{section}."))
        parts.append(f"## {section}\n\n{_about(section)}\n\n{head}\n{body}\n")
    return "\n".join(parts)


def _about(section: str) -> str:
    """Return the first line of a section's docstring."""
    return (Params.model_fields[section].annotation.__doc__ or "").strip().splitlines()[0]


def _table_row(row: Row) -> str:
    kind = row.kind.replace(" | ", ", ")
    about = ", ".join(part for part in (kind, row.span, row.unit) if part)
    default = REQUIRED if row.default == REQUIRED else f"`{_yaml(row.default)}`"
    cells = (f"`{row.key}`", about, default, row.description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _rows(model: type[BaseModel], prefix: str, values: Any, resolved: Any) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        key, given = f"{prefix}{name}", isinstance(values, Mapping) and name in values
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _rows(inner, f"{key}.", values[name] if given else {}, resolved.get(name, {}))
            continue
        default = _default(field)
        yield Row(
            key=key,
            kind=_kind(field),
            span=_span(field),
            unit=next((one.name for one in _metadata(field) if isinstance(one, Unit)), ""),
            default=default,
            value=_tidy(resolved.get(name, default)),
            given=given,
            description=re.sub(r"\s+", " ", field.description or ""),
        )


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return REQUIRED
    return _tidy(to_jsonable_python(field.get_default(call_default_factory=True)))


def _tidy(value: Any) -> Any:
    """Return a value without those entries of its mappings whose value is null."""
    return {k: _tidy(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _kind(field: FieldInfo) -> str:
    return " | ".join(dict.fromkeys(_words(field.annotation)))


def _words(annotation: Any) -> Iterator[str]:
    """Yield the name of a type; for a literal or union, its choices or the names of its members."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        yield "null"
    elif origin is Literal:
        yield from map(str, inner)
    elif origin in (Union, types.UnionType):
        for one in inner:
            yield from _words(one)
    elif origin is tuple:
        yield f"list of {' | '.join(dict.fromkeys(_words(inner[0])))}"
    elif origin is dict:
        yield "mapping"
    elif hasattr(annotation, "__metadata__"):
        yield from _words(inner[0])
    else:
        yield {int: "integer", float: "number", bool: "true | false", str: "text"}.get(annotation, "value")


def _metadata(field: FieldInfo) -> Iterator[Any]:
    """Yield the annotations of a field, also those inside a union such as `Annotated[...] | None`."""
    yield from field.metadata
    for one in get_args(field.annotation):
        for inside in getattr(one, "__metadata__", ()):
            yield from inside.metadata if isinstance(inside, FieldInfo) else (inside,)


def _span(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "range" in extra:
        return str(extra["range"])
    low = high = ""
    for one in _metadata(field):
        match one:
            case Ge(ge=value):
                low = f"{value:g}"
            case Gt(gt=value):
                low = f">{value:g}"
            case Le(le=value):
                high = f"{value:,g}"
            case Lt(lt=value):
                high = f"<{_bound(value)}"
            case MinLen():
                return "not empty"
    return f"{low}..{high}" if low or high else ""


def _bound(value: Any) -> str:
    return "2^31" if value == 2**31 else f"{value:g}"


def _yaml(value: Any) -> str:
    """Return a value as YAML on one line: plain words without quotes, other values as JSON."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./ -]*", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Print all keys with the values of the current folder's params.yaml; without the file, with their defaults."""
    file = Path("params.yaml")
    try:
        print(as_text(rows(file if file.exists() else None)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
