"""Does augmentation help? `python -m benchmarks.augmentation.augmentation_policies NAME SOURCE --epochs 12`, NAME one of docs/examples.

The images of an example are ingested and prepared once; then one network a policy and seed is trained on them, all else
being equal. Every training is written down when it ends, so that a run that was stopped goes on where it was. Without
SOURCE the table is made anew of what is written.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from flows.worktrees import example, params_with
from stages import ingest, prepare
from stages.config import load as reading
from stages.runner.stage import call
from stages.training.auto_params import resolve_auto
from stages.training.loop import fit
from stages.training.training_plan import TrainingData, build_plan, load_training_data

RESULTS = Path("docs/results/policies")
SIMILARITY = ("flip_horizontal", "flip_vertical", "rotation", "translation", "scale")


def main() -> None:
    """Train what is not written yet, and print the table."""
    arguments = _arguments()
    file = RESULTS / f"{arguments.name}-{arguments.epochs}-epochs.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    if arguments.source:
        sections = _sections(arguments)
        amounts = sections["augment"].amounts
        policies = _policies({name: amounts[name] for name in SIMILARITY if name in amounts}, sections["prepare"].size)
        with tempfile.TemporaryDirectory() as folder:
            given = _prepared(Path(folder), sections)
            for seed in arguments.seeds:
                for policy, chosen in policies.items():
                    wanted = not arguments.only or policy in arguments.only
                    if wanted and not any(run["policy"] == policy and run["seed"] == seed for run in runs):
                        runs.append({"policy": policy, "seed": seed, **_trained(given, sections, chosen, seed)})
                        about = {"data": arguments.name, "epochs": arguments.epochs, "size": sections["prepare"].size}
                        about["score"] = sections["task"].score
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_text(json.dumps(about | {"policies": policies, "runs": runs}, indent=1) + "\n")
                        print(runs[-1], flush=True)
    print(_table(runs))


def _policies(similarity: Mapping[str, Any], size: int) -> dict[str, dict[str, Any]]:
    elastic = {"amplitude": 0.015 * size, "wavelength": 0.5 * size}
    return {
        "none": {},
        "similarity": dict(similarity),
        "similarity, elastic": {**similarity, "elastic": elastic},
        "similarity, elastic, articulated": {**similarity, "elastic": elastic, "articulated": 20.0},
    }


def _sections(arguments: argparse.Namespace) -> dict[str, Any]:
    text = params_with([example(arguments.name)], arguments.name)
    params = reading.check(YAML(typ="safe", pure=True).load(text))
    parts = "points" if params.task.name == "landmarks" else "foreground"
    changes: dict[str, dict[str, Any]] = {
        "ingest": {"source": str(arguments.source.resolve())},
        "prepare": {"articulated_parts": parts} | ({"size": arguments.size} if arguments.size else {}),
        "train": {"epochs": arguments.epochs, "precision": arguments.precision},
    }
    return {name: getattr(params, name).model_copy(update=changes.get(name, {})) for name in type(params).model_fields}


def _prepared(folder: Path, sections: dict[str, Any]) -> TrainingData:
    (folder / "splits").mkdir()
    places = [folder / part for part in ("splits", "sealed", "ingested", "prepared")]
    taken = {name: sections[name] for name in ("ingest", "split")}
    call(ingest.main, [Path(sections["ingest"].source), *places[:3]], taken)
    taken = {name: sections[name] for name in ("task", "representation", "prepare")}
    call(prepare.main, [places[2], places[2], places[3]], taken)
    return load_training_data(places[2], places[3])


def _trained(data: TrainingData, sections: dict[str, Any], amounts: dict[str, Any], seed: int) -> dict[str, Any]:
    changed = dict(sections)
    changed["augment"] = sections["augment"].model_copy(update={"preset": "none", "amounts": amounts})
    changed["train"] = sections["train"].model_copy(update={"seed": seed})
    started = time.perf_counter()
    plan = resolve_auto(build_plan(data, changed, Path("data/weights"))).plan
    fitted = fit(plan, report=lambda epoch: print(epoch, flush=True))
    return {
        "val_score": fitted.best.val_score,
        "last_val_score": fitted.epochs[-1].val_score,
        "train_score": fitted.best.train_score,
        "val_loss": fitted.best.val_loss,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _table(runs: list[dict[str, Any]]) -> str:
    lines = ["| policy | seeds | validation score, best epoch | last epoch | training score |", "|---|---|---|---|---|"]
    for policy in dict.fromkeys(run["policy"] for run in runs):
        mine = [run for run in runs if run["policy"] == policy]
        columns = [_spread([run[key] for run in mine]) for key in ("val_score", "last_val_score", "train_score")]
        lines.append(f"| {policy} | {len(mine)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.augmentation.augmentation_policies", description=__doc__
    )
    parser.add_argument("name", help="of docs/examples")
    parser.add_argument("source", type=Path, nargs="?", help="what the example is read from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="policies by name; else all")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", type=int, help="working size, pixels; else the example's")
    parser.add_argument("--precision", default="bf16-mixed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
