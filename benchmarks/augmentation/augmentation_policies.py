"""Measure whether augmentation improves the validation score of an example configuration.

Run `python -m benchmarks.augmentation.augmentation_policies NAME SOURCE --epochs 12`, where NAME is a file of
docs/examples. The images are ingested and prepared once. Then one network is trained for each policy and seed, with all
else equal. Each result is written when its training ends, so that an interrupted run resumes. Without SOURCE and
without --tiny, only the table is printed.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.audits.base_datasets import load_images
from benchmarks.result_pages import RESULTS, add_run_arguments, output_folder
from flows.worktrees import change_params, example
from stages import ingest, prepare
from stages.config import load as reading
from stages.runner.stage import call
from stages.training.auto_params import resolve_auto
from stages.training.loop import fit
from stages.training.training_plan import TrainingData, build_plan, load_training_data

SIMILARITY = ("flip_horizontal", "flip_vertical", "rotation", "translation", "scale")
TINY_NAME = "digits"  # with the params of a fresh clone
TINY_POLICIES = ("none", "similarity")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the trainings that have no result yet, print the table, and return the file with the results."""
    asked = _parse(arguments)
    folder = output_folder(asked.output or (None if asked.tiny else RESULTS / "policies"), asked.tiny)
    file = folder / f"{asked.name}-{asked.epochs}-epochs.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    if asked.source or asked.tiny:
        with tempfile.TemporaryDirectory() as temporary:
            source = _write_digits(Path(temporary) / "digits") if asked.tiny else asked.source
            sections = _sections(asked, source)
            prepared = _prepare(Path(temporary), sections)
            size, amounts = sections["prepare"].size, sections["augment"].amounts
            policies = _policies({name: amounts[name] for name in SIMILARITY if name in amounts}, size)
            facts = {"data": asked.name, "epochs": asked.epochs, "size": size, "score": sections["task"].score}
            for seed in asked.seeds:
                for policy, chosen in policies.items():
                    done = any(run["policy"] == policy and run["seed"] == seed for run in runs)
                    if done or (asked.only and policy not in asked.only):
                        continue
                    runs.append({"policy": policy, "seed": seed, **_train(prepared, sections, chosen, seed)})
                    file.write_text(json.dumps(facts | {"policies": policies, "runs": runs}, indent=1) + "\n")
                    print(runs[-1], flush=True)
    print(table(runs))
    return file


def _write_digits(folder: Path, per_class: int = 12, classes: int = 2) -> Path:
    """Write a few digits as a folder per class, and return the folder."""
    from PIL import Image

    counts: dict[str, int] = {}
    for image, label in load_images("digits", Path()):
        counts[label] = counts.get(label, 0) + 1
        if int(label) < classes and counts[label] <= per_class:
            (folder / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((32, 32)).save(folder / label / f"{counts[label]}.png")
    return folder


def _policies(similarity: Mapping[str, Any], size: int) -> dict[str, dict[str, Any]]:
    elastic = {"amplitude": 0.015 * size, "wavelength": 0.5 * size}
    return {
        "none": {},
        "similarity": dict(similarity),
        "similarity, elastic": {**similarity, "elastic": elastic},
        "similarity, elastic, articulated": {**similarity, "elastic": elastic, "articulated": 20.0},
    }


def _sections(asked: argparse.Namespace, source: Path) -> dict[str, Any]:
    """Return the params sections of the example with the changes that the arguments request."""
    text = change_params([] if asked.tiny else [example(asked.name)], asked.name)
    params = reading.check(YAML(typ="safe", pure=True).load(text))
    parts = "points" if params.task.name == "landmarks" else "foreground"
    changes: dict[str, dict[str, Any]] = {
        "ingest": {"source": str(source.resolve())},
        "prepare": {"articulated_parts": parts} | ({"size": asked.size} if asked.size else {}),
        "train": {"epochs": asked.epochs, "precision": asked.precision},
    }
    return {name: getattr(params, name).model_copy(update=changes.get(name, {})) for name in type(params).model_fields}


def _prepare(folder: Path, sections: dict[str, Any]) -> TrainingData:
    (folder / "splits").mkdir()
    places = [folder / part for part in ("splits", "sealed", "ingested", "prepared")]
    taken = {name: sections[name] for name in ("ingest", "split")}
    call(ingest.main, [Path(sections["ingest"].source), *places[:3]], taken)
    taken = {name: sections[name] for name in ("task", "representation", "prepare")}
    call(prepare.main, [places[2], places[2], places[3]], taken)
    return load_training_data(places[2], places[3])


def _train(data: TrainingData, sections: dict[str, Any], amounts: dict[str, Any], seed: int) -> dict[str, Any]:
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


def table(runs: list[dict[str, Any]]) -> str:
    """Return a Markdown table: mean and standard deviation over seeds of each policy's scores."""
    lines = ["| policy | seeds | validation score, best epoch | last epoch | training score |", "|---|---|---|---|---|"]
    for policy in dict.fromkeys(run["policy"] for run in runs):
        mine = [run for run in runs if run["policy"] == policy]
        columns = [_spread([run[key] for run in mine]) for key in ("val_score", "last_val_score", "train_score")]
        lines.append(f"| {policy} | {len(mine)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    """Format the mean and the sample standard deviation, which is 0 for a single value."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.augmentation.augmentation_policies", description=__doc__
    )
    parser.add_argument("name", nargs="?", default=TINY_NAME, help="a file of docs/examples, without its suffix")
    parser.add_argument("source", type=Path, nargs="?", help="archive or folder of the example's images")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the trainings; default: 0 1 2"
    )
    parser.add_argument("--only", nargs="+", help="names of policies; default: all")
    parser.add_argument("--epochs", type=int, default=12, help="epochs per training; default: 12")
    parser.add_argument("--size", type=int, help="working size in pixels; default: that of the example")
    parser.add_argument("--precision", default="bf16-mixed", help="value of train.precision; default: bf16-mixed")
    add_run_arguments(parser)
    asked = parser.parse_args(arguments)
    if asked.tiny:
        asked.name, asked.seeds, asked.only, asked.epochs, asked.size = TINY_NAME, [0], TINY_POLICIES, 1, 32
    return asked


if __name__ == "__main__":
    main()
