"""`macula run`: the pipeline, with DVC or as a Prefect flow."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from stages.command_line.exit_codes import OBJECTIVE_MISSED, OK
from stages.command_line.options import AsJson, print_json

EXAMPLE = """\
macula run              # every stage that is out of date
macula run evaluate     # up to one stage
macula run --flow       # as a Prefect flow"""
RESUME = (
    "finished stages are kept. Repeat the command to resume: they are skipped, and an interrupted training continues "
    "from its last checkpoint in work/train"
)


def run(
    stages: Annotated[
        list[str] | None,
        Argument(help="Names of stages in dvc.yaml to run, with the stages on which they depend.  [default: all]"),
    ] = None,
    flow: Annotated[bool, Option("--flow", help="Run as a Prefect flow instead of `dvc repro`.")] = False,
    require_objective: Annotated[
        bool,
        Option(
            "--require-objective",
            help="Exit with 4 if the score misses the objective in params.yaml, or is not shown to be better than a "
            "constant prediction; no effect if stages are named.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check params.yaml and run the stages that are out of date.

    After a run of all stages, the score and the path of the report are printed, and the run is stored as an experiment.
    """
    with tempfile.TemporaryDirectory(prefix="macula-") as folder:
        result = Path(folder, "result.json")
        code = _run(_command(flow, result, stages or []), as_json)
        outcome = json.loads(result.read_text()) if result.is_file() else {}
    whole = code == OK and not stages
    summary = _summary() if whole else {}
    if as_json:
        print_json({"exit_code": code, **outcome, **summary})
    elif whole:
        print(f"\n{Path('data/report/summary.txt').read_text(encoding='utf-8')}report      {summary['report']}")
    missed = whole and require_objective and not summary["objective"]["met"]
    return OBJECTIVE_MISSED if missed else code


def _command(flow: bool, result: Path, stages: list[str]) -> list[str]:
    if flow:
        return [sys.executable, "-m", "flows.pipeline", *stages]
    return [sys.executable, "-m", "flows.dvc_repro", str(result), *stages]


def _run(command: list[str], as_json: bool) -> int:
    """Run a command, which ends with this process or on Ctrl-C, and return its exit status.

    With `as_json` the output of the command is written to standard error.
    """
    from flows import supervisor
    from flows.git_commands import environment

    try:
        return supervisor.run(command, environment(), stdout=sys.stderr.fileno() if as_json else None)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(RESUME) from None


def _summary() -> dict[str, Any]:
    """Return the score, the objective and the report of a complete run."""
    scores = json.loads(Path("data/evaluate/scores.json").read_text(encoding="utf-8"))
    goal, baseline = scores["objective"], scores["baseline"]
    return {
        "score": {"name": goal["score"], **scores["scores"][goal["score"]], "images": scores["images"]},
        "objective": goal,
        "constant": scores["constant"][goal["score"]],
        "baseline": {"model": baseline["model"], **baseline["scores"][goal["score"]]}
        if baseline["available"]
        else None,
        "report": os.path.abspath("data/report/index.html"),  # noqa: PTH100  # keeps symbolic links
    }
