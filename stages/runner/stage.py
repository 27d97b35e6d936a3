"""The stage runner: params are checked first, and outputs are complete or absent."""

import errno
import inspect
import io
import json
import math
import os
import shutil
import sys
import traceback
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType, NoReturn

from stages.core.dependency_errors import DEBUG, explain
from stages.core.errors import UserError
from stages.core.interrupts import INTERRUPTED, raise_from_now_on, report_interrupt

if TYPE_CHECKING:
    from stages.runner.code_check import CodeCheck

In = NewType("In", Path)
"""A path that a stage reads: a dependency in `dvc.yaml`."""
Out = NewType("Out", Path)
"""A folder that a stage writes: an output in `dvc.yaml`. The last one receives `metrics.json`."""

_WHEN_COMPLETE: list[Callable[[], None]] = []
"""Functions of the running stage to call once its outputs are complete."""
Main = Callable[..., dict[str, Any]]


def contract(main: Main) -> tuple[dict[str, Any], dict[str, type]]:
    """Return the paths (`In` or `Out`, by argument name, in order) and the params sections that `main` declares."""
    hints = typing.get_type_hints(main)
    arguments = inspect.signature(main).parameters.values()
    paths = {a.name: hints[a.name] for a in arguments if a.kind is not a.KEYWORD_ONLY}
    sections = {a.name: hints[a.name] for a in arguments if a.kind is a.KEYWORD_ONLY}
    assert paths and set(paths.values()) <= {In, Out}, f"{main}: positional arguments are In or Out"
    return paths, sections


def run(main: Main, argv: list[str] | None = None, check_code: bool = True) -> None:
    """Run a stage from the command line: `python -m stages.NAME PATH...`, paths in the order of `main`'s arguments.

    Params are read from the output of the stage `resolve`, which has checked `params.yaml`. Outputs are written into
    `<out>.part` and renamed when `main` has returned, the last one last, so that an output is complete or absent. The
    metrics that `main` returns, if any, are written to `metrics.json` in the last output; numbers that are not finite,
    such as an undefined score, are null.

    Args:
        main: function of the stage; its signature is the contract (see `contract`).
        argv: paths; those of the command line if None.
        check_code: if DVC runs the stage, compare its code with the recorded digests before `main` is called and
            before outputs are renamed. A stage that is run by hand is not checked.

    Raises:
        SystemExit: the number of paths is wrong, or the stage failed with a UserError, a known error of a dependency,
            a full disk or Ctrl-C. Any other error is passed on.
    """
    # Imported here, because code that only imports the types of a stage does not need it.
    from stages.runner.code_check import code_check_of

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # lines appear at once, also in a pipe or a file
    if rank():  # only the first of several processes prints
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115, open until the process ends
    paths, sections = contract(main)
    given = sys.argv[1:] if argv is None else argv
    if len(given) != len(paths):
        sys.exit(f"usage: python -m stages.{_module(main)} {' '.join(paths).upper()}")
    raise_from_now_on()
    try:
        check = code_check_of(_module(main)) if check_code else None
        call(main, [Path(p) for p in given], _read_params(sections), check)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        report_interrupt()
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            _exit_with(error)
        sys.exit(f"error: the disk is full ({error}); free space and run again; unfinished outputs are discarded")
    except Exception as error:
        _exit_with(error)


def _exit_with(error: Exception) -> NoReturn:
    """Exit with the sentence for an error of a dependency; raise any other error again, which shows its traceback."""
    message = explain(error)
    if message is None:
        raise error
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    sys.exit(f"error: {message}")


def _module(main: Main) -> str:
    """Return the name of the module of `main` below `stages`; `__main__` is the module that the command names."""
    return str(sys.modules[main.__module__].__spec__.name).removeprefix("stages.")  # type: ignore[union-attr]


def _read_params(kinds: dict[str, type]) -> dict[str, Any]:
    if not kinds:
        return {}
    from stages.config.resolved import RESOLVED, sections_from  # importing pydantic takes longer than `fingerprint`

    return dict(sections_from(RESOLVED, kinds))


def call(main: Main, given: list[Path], sections: dict[str, Any], check: "CodeCheck | None" = None) -> dict[str, Any]:
    """Call a stage so that each output is complete or absent.

    Args:
        main: function of the stage.
        given: paths, in the order of the arguments of `main`.
        sections: params sections by argument name.
        check: comparison of the code with its record, made before `main` and before outputs are renamed.

    Returns:
        the metrics that `main` returned, with None in place of numbers that are not finite.

    Raises:
        UserError: an input does not exist, the code has changed, or a module is missing from its record. Earlier
            outputs are kept; those of this run are deleted.
    """
    paths, _ = contract(main)
    located = dict(zip(paths, given, strict=True))
    outputs = [p for n, p in located.items() if paths[n] is Out]
    for name, path in located.items():
        if paths[name] is In and not path.exists():
            raise UserError(f"{name}: {path} does not exist; correct the path, or run `dvc repro` if a stage writes it")
    if check is not None:
        check.compare()
    parts = {out: _fresh_part(out) for out in outputs}
    _WHEN_COMPLETE.clear()
    metrics = _without_undefined(main(*(parts.get(p, p) for p in located.values()), **sections))
    if rank():
        _delete(parts.values())
        return metrics
    if check is not None:
        _check_after(check, parts.values())
    if metrics:
        (parts[outputs[-1]] / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    for out in outputs:
        if out.exists():
            shutil.rmtree(out)
        parts[out].rename(out)
    for action in _WHEN_COMPLETE:
        action()
    return metrics


def when_complete(action: Callable[[], None]) -> None:
    """Call `action` once the outputs of the running stage are complete; never, if the stage fails.

    A stage deletes here what a repeated run would need, such as the checkpoint of a training.
    """
    _WHEN_COMPLETE.append(action)


def _finite(value: Any) -> Any:
    """Return a value of metrics in which numbers that are not finite are None, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_finite(one) for one in value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_undefined(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return metrics with None in place of numbers that are not finite, which are printed.

    The results of hours must not be lost because JSON does not support such a number.
    """
    finite: dict[str, Any] = _finite(metrics)
    if undefined := [name for name in metrics if finite[name] != metrics[name]]:
        print(f"metrics.json: {', '.join(undefined)} {'is' if len(undefined) == 1 else 'are'} undefined", flush=True)
    return finite


def _check_after(check: "CodeCheck", parts: Iterable[Path]) -> None:
    try:
        check.compare()
        check.check_imports()
    except UserError:
        _delete(parts)
        raise


def _delete(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)


def rank() -> int:
    """Return the rank of this process among those of one training; only rank 0 writes outputs."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def _fresh_part(out: Path) -> Path:
    part = out.with_name(out.name + ".part" + (f"-{rank()}" if rank() else ""))
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    return part
