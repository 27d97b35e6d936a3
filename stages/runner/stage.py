"""The stage runner: params checked first, outputs whole or absent."""

import errno
import inspect
import json
import os
import shutil
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NewType

from stages.core.errors import UserError

In = NewType("In", Path)
"""A path that a stage reads: a dependency in `dvc.yaml`."""
Out = NewType("Out", Path)
"""A folder that a stage writes: an output in `dvc.yaml`. The last one receives `metrics.json`."""

Main = Callable[..., dict[str, Any]]


def contract(main: Main) -> tuple[dict[str, Any], dict[str, type]]:
    """The paths (`In` or `Out`, by argument name, in order) and the params sections that a stage's `main` declares."""
    hints = typing.get_type_hints(main)
    arguments = inspect.signature(main).parameters.values()
    paths = {a.name: hints[a.name] for a in arguments if a.kind is not a.KEYWORD_ONLY}
    sections = {a.name: hints[a.name] for a in arguments if a.kind is a.KEYWORD_ONLY}
    assert paths and set(paths.values()) <= {In, Out}, f"{main}: positional arguments are In or Out"
    return paths, sections


def run(main: Main, argv: list[str] | None = None) -> None:
    """Run a stage from the command line: `python -m stages.NAME PATH...`, paths in the order of `main`'s arguments.

    All of `params.yaml` is checked before anything runs. Outputs are written into `<out>.part` and renamed when
    `main` has returned, the last one last, so that an output is whole or absent. What `main` returns, if anything,
    becomes `metrics.json` in the last output.
    """
    from stages.frame.params import load  # pydantic is not needed by what merely imports a stage's noun

    if rank():  # the first process of a crew speaks for all
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115, to the end of the process
    paths, sections = contract(main)
    given = sys.argv[1:] if argv is None else argv
    if len(given) != len(paths):
        sys.exit(f"usage: python -m {sys.modules[main.__module__].__spec__.name} {' '.join(paths).upper()}")  # type: ignore[union-attr]
    try:
        params = load(Path("params.yaml"))
        call(main, [Path(p) for p in given], {s: getattr(params, s) for s in sections})
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f"error: the disk is full ({error}); make room and run again, unfinished outputs are not kept")


def call(main: Main, given: list[Path], sections: dict[str, Any]) -> dict[str, Any]:
    """Call a stage on paths and sections, with its outputs whole or absent; returns its metrics."""
    paths, _ = contract(main)
    located = dict(zip(paths, given, strict=True))
    outputs = [p for n, p in located.items() if paths[n] is Out]
    for name, path in located.items():
        if paths[name] is In and not path.exists():
            raise UserError(f"{name}: {path} does not exist; `dvc repro` runs the stages that make it")
    parts = {out: _fresh_part(out) for out in outputs}
    metrics = main(*(parts.get(p, p) for p in located.values()), **sections)
    if rank():
        for part in parts.values():
            shutil.rmtree(part)
        return metrics
    if metrics:
        (parts[outputs[-1]] / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    for out in outputs:
        if out.exists():
            shutil.rmtree(out)
        parts[out].rename(out)
    return metrics


def rank() -> int:
    """Of this process in a crew that one started, or torchrun: what all but the first write is thrown away."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def _fresh_part(out: Path) -> Path:
    part = out.with_name(out.name + ".part" + (f"-{rank()}" if rank() else ""))
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    return part
