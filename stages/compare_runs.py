"""Compare the workspace and all runs stored as experiments, on one page: `python -m stages.compare_runs`."""

import json
import math
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from stages.config.aliases import current_key, renamed
from stages.config.resolved import RESOLVED
from stages.core.errors import UserError
from stages.reports import charts, write_page

PAGE = Path("work/runs/index.html")
WORKSPACE = "workspace"
MAX_CURVES = 4  # in a chart
ABSENT = (FileNotFoundError, KeyError)


def main() -> tuple[Path, list[dict[str, Any]]]:
    """Write the page that compares runs; return its path and the runs, sorted by data version and score, best first.

    The workspace is left out if an experiment has the same params and validation scores.

    Raises:
        UserError: no run can be read.
    """
    found = [run for name, revision, when in _revisions() if (run := _run(name, revision, when))]
    if not found:
        raise UserError("no complete run found; `macula run` stores each completed run as an experiment")
    kept = [(run["params"], run["curve"]) for run in found if run["name"] != WORKSPACE]
    found = [run for run in found if run["name"] != WORKSPACE or (run["params"], run["curve"]) not in kept]
    runs = sorted(found, key=lambda run: (run["data"], run["score_name"], -run["order"]))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    sets = {(run["data"], run["score_name"]): [] for run in runs}  # type: ignore[var-annotated]
    for run in runs:
        sets[run["data"], run["score_name"]].append(run)
    write_page(PAGE, "compare_runs.html.j2", sets=[_set(runs_of_set) for runs_of_set in sets.values()])
    return PAGE, runs


def _set(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the table and chart of runs that can be compared: same data version and score, best first."""
    flat = [run["params"] for run in runs]
    keys = sorted({key for params in flat for key in params})
    differ = [key for key in keys if len({json.dumps(params.get(key)) for params in flat}) > 1]
    best = [run for run in runs if run["curve"]][:MAX_CURVES]
    longest: list[float] = max((run["curve"] for run in best), key=len, default=[])
    lines = {run["name"]: run["curve"] + [run["curve"][-1]] * (len(longest) - len(run["curve"])) for run in best}
    score = runs[0]["score_name"].replace("_", " ")
    chart = charts.curves(lines, list(range(1, len(longest) + 1)), "epoch", f"validation {score}", None) if best else ""
    return {"runs": runs, "differ": differ, "chart": chart, "score": score, "data": runs[0]["data"],
            "lower": runs[0]["lower"]}  # fmt: skip


def _revisions() -> Iterator[tuple[str, str | None, datetime]]:
    """Yield name, revision and date of the workspace (revision None) if it has a `dvc.lock`, and of each experiment."""
    if Path("dvc.lock").exists():
        yield WORKSPACE, None, datetime.fromtimestamp(Path("dvc.lock").stat().st_mtime, UTC)
    form = "--format=%(refname) %(objectname) %(creatordate:unix)"
    listed = subprocess.run(
        ["git", "for-each-ref", form, "refs/exps"], check=False, capture_output=True, text=True
    ).stdout
    for line in listed.splitlines():
        name, revision, when = line.split()
        if name.count("/") == 4:  # other refs are internal to DVC
            yield name.rpartition("/")[2], revision, datetime.fromtimestamp(int(when), UTC)


def _run(name: str, revision: str | None, when: datetime) -> dict[str, Any] | None:
    """Return the results of a run; None, with a message, if it is incomplete or not in the cache."""
    from dvc.api import DVCFileSystem  # takes seconds

    files = DVCFileSystem(".", rev=revision)

    def read(file: str) -> Any:
        with files.open(file) as opened:
            return json.load(opened)

    try:
        scores, training = read("data/evaluate/scores.json"), read("data/train/metrics.json")
        with files.open("data/train/curves.csv") as opened:
            curves = pd.read_csv(opened)
        params = _params(files)
        resolved = {current_key(one["key"]): one["value"] for one in read("data/train/resolved.json")}
        exported, metadata = read("data/export/metrics.json"), read("data/export/metadata.json")
        latency = read("data/benchmark/benchmark.json")["single_prediction_ms"]
    except ABSENT as error:
        reason = f"no value {error}" if isinstance(error, KeyError) else str(error)
        print(f"runs: {name} is skipped, because it is incomplete or not in the cache ({reason})", file=sys.stderr)
        return None
    goal = scores["objective"]["score"]
    lower, value = scores["better"][goal] == "lower", scores["scores"][goal]
    figure = value["value"] if value["value"] is not None else float("nan")
    return {
        "name": name, "when": when.strftime("%Y-%m-%d %H:%M"), "commit": metadata["commit"], "score_name": goal,
        "data": f"{metadata['name']}, version {metadata['data_version']}", "value": value, "lower": lower,
        "constant": scores.get("constant", {}).get(goal),
        "order": (-figure if lower else figure) if not math.isnan(figure) else float("-inf"),
        "gap": _gap(training), "best_epoch": training["best_epoch"],
        "epochs": len(curves), "seconds": training["seconds"], "rate": training["images_per_second"],
        "bytes": exported["bytes"], "latency": latency, "curve": curves["val_score"].tolist(),
        "params": dict(_flat(params)) | resolved,
    }  # fmt: skip


def _gap(training: dict[str, Any]) -> float | None:
    """Return the score on training images minus that on validation images; None if one is undefined."""
    scores = training["train_score"], training["val_score"]
    return None if None in scores else scores[0] - scores[1]


def _params(files: Any) -> dict[str, Any]:
    """Return all params of a run under their current names; older runs have them only in `params.yaml`."""
    file = str(RESOLVED) if files.exists(str(RESOLVED)) else "params.yaml"
    with files.open(file) as opened:
        return dict(renamed(YAML(typ="safe", pure=True).load(opened))[0])


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "runs")
    runpy.run_module("stages", run_name="__main__")
