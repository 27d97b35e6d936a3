"""Typer commands that convert values without pydantic, whose import would take longer than the rest of the start."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from typer._coercion import RuntimeParam, bool_flag_type_descriptor
from typer.core import TyperCommand, TyperGroup, TyperOption

from stages.command_line.failures import show_tracebacks
from stages.core.errors import did_you_mean

CONVERTERS: dict[type, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    Path: (Path, "a path"),
    int: (int, "an integer"),
    float: (float, "a number"),
    bool: (bool, "a flag"),
}


@dataclass(frozen=True)
class Converter(RuntimeParam):
    """Convert the text of one parameter to its annotated type."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return converted(value, self.annotation, self.parameter_info.min, self.parameter_info.max)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def converted(value: Any, annotation: Any, low: float | None = None, high: float | None = None) -> Any:
    """Convert a value, or each value of a list.

    Args:
        value: text from the command line, or a default of the right type.
        annotation: str, Path, int, float, bool, a Literal of texts, or a list of one of them.
        low: smallest allowed number.
        high: largest allowed number.

    Raises:
        ValueError: the value does not fit; the message states why.

    >>> converted("3", int, 0), converted(["a"], list[str]), converted("csv", Literal["csv", "json"])
    (3, ['a'], 'csv')
    """
    if get_origin(annotation) is list:
        return [converted(one, get_args(annotation)[0], low, high) for one in value]
    if get_origin(annotation) is Literal:
        if value not in get_args(annotation):
            raise ValueError(f"{value!r} is not a choice; {did_you_mean(str(value), get_args(annotation))}")
        return value
    convert, kind = CONVERTERS[annotation]
    try:
        result = convert(value)
    except ValueError:
        raise ValueError(f"{value!r} is not {kind}") from None
    if (low is not None and not result >= low) or (high is not None and not result <= high):
        limits = [f"at least {low:g}"] * (low is not None) + [f"at most {high:g}" if high is not None else ""]
        raise ValueError(f"{value!r} is out of range; it must be {' and '.join(filter(None, limits))}")
    return result


def _convert_plainly(command: Any, context: Any) -> None:
    for param in command.get_params(context):
        descriptor = param.type_descriptor
        param._runtime_param = Converter(parameter_info=descriptor.parameter_info, annotation=descriptor.annotation)


def _debug_option() -> TyperOption:
    return TyperOption(
        param_decls=["--debug"],
        type_descriptor=bool_flag_type_descriptor(),
        default=False,
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=lambda _context, _param, value: show_tracebacks() if value else None,
        help="Show the traceback of an error.",
    )


class _Debuggable:
    """Mixin of Typer's command classes: adds the option `--debug` and converts values with `Converter`."""

    params: list[Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(_debug_option())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _convert_plainly(self, ctx)
        return super().parse_args(ctx, args)  # type: ignore[misc]


class Command(_Debuggable, TyperCommand):
    """Command with the option `--debug`."""


class Group(_Debuggable, TyperGroup):
    """Group of commands with the option `--debug`."""
