"""Measure single settings of fine-tuning: `python -m benchmarks.training.fine_tuning NAME=FOLDER ...`.

FOLDER is a folder of the project in which `dvc repro prepare` has run, such as a clone with an example's params.yaml.
Its params are used, with the changes of `BASE`. Each setting is then changed alone, for each seed, and compared with
the unchanged training of the same seed: the best validation score of all epochs, and processor seconds. Results are
added to those that the output already contains, so that an interrupted run resumes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.result_pages import add_run_arguments, output_folder, replace_block
from stages.config import load as reading
from stages.config.overlay import overlay
from stages.config.schema import Params
from stages.training.auto_params import resolve_auto
from stages.training.loop import fit
from stages.training.training_plan import build_plan, load_training_data
from stages.training.training_progress import EpochMetrics

PAGE = "fine-tuning.md"
BASE = "network.name=efficientnet_lite0 network.weights=default"
SETTINGS = {
    "defaults": "",
    "last layer by ridge regression": "network.head=linear",
    "trained running statistics": "network.pretrained_norms=trained",
    "both": "network.head=linear network.pretrained_norms=trained",
    "rate of the first layer 0.1": "network.first_layer_lr_factor=0.1",
    "weight decay on all parameters": "train.weight_decay_on=all",
    "pixels in 0..1": "network.normalize=none",
    "pixels by the training images": "network.normalize=data",
    "random weights": "network.weights=none",
    "random weights, pixels in 0..1": "network.weights=none network.normalize=none",
    "random weights, weight decay on all parameters": "network.weights=none train.weight_decay_on=all",
}
"""Changes of params by setting."""
SECTIONS = ("task", "augment", "network", "train")
Run = dict[str, Any]


def train_once(folder: Path, changes: str, seed: int) -> Run:
    """Train and return the best validation score, the score of each epoch, and processor seconds.

    Args:
        folder: folder with `params.yaml`, `data/ingest` and `data/prepare`.
        changes: changes of params, `KEY=VALUE ...`.
        seed: `train.seed`.
    """
    params = reading.load(folder / "params.yaml")
    sections = changed_sections(params, f"{changes} train.seed={seed}")
    data = load_training_data(folder / "data/ingest", folder / "data/prepare")
    epochs: list[EpochMetrics] = []
    began = time.process_time()
    fit(resolve_auto(build_plan(data, sections, folder / "data/weights")).plan, epochs.append)
    scores = [epoch.val_score for epoch in epochs]
    return {"best": max(scores), "scores": scores, "cpu_seconds": time.process_time() - began}


def changed_sections(params: Params, changes: str) -> dict[str, Any]:
    """Return the sections of a training with changed values.

    Args:
        params: checked params.
        changes: changes of params, `KEY=VALUE ...`.
    """
    words = (word.partition("=") for word in changes.split())
    values = {key: YAML(typ="safe", pure=True).load(value) for key, _, value in words}
    return dict(overlay({name: getattr(params, name) for name in SECTIONS}, values))


def table(runs: list[Run]) -> str:
    """Return a table of mean scores and of paired differences to the defaults, with their standard errors."""
    names = list(dict.fromkeys(run["data"] for run in runs))
    lines = ["| setting | " + " | ".join(f"{name} | difference | CPU s" for name in names) + " |"]
    lines.append("| --- |" + " ---: | ---: | ---: |" * len(names))
    lines += [
        f"| {setting} | " + " | ".join(_cells(runs, name, setting) for name in names) + " |"
        for setting in dict.fromkeys(run["setting"] for run in runs)
    ]
    return "\n".join(lines)


def _cells(runs: list[Run], name: str, setting: str) -> str:
    by_seed = {run["seed"]: run for run in runs if (run["data"], run["setting"]) == (name, setting)}
    base = {run["seed"]: run["best"] for run in runs if (run["data"], run["setting"]) == (name, "defaults")}
    if not by_seed:
        return "- | - | -"
    mean = statistics.mean(run["best"] for run in by_seed.values())
    seconds = statistics.mean(run["cpu_seconds"] for run in by_seed.values())
    paired = [run["best"] - base[seed] for seed, run in by_seed.items() if seed in base]
    difference = "-"
    if setting != "defaults" and len(paired) > 1:
        difference = f"{statistics.mean(paired):+.3f} ± {statistics.stdev(paired) / len(paired) ** 0.5:.3f}"
    return f"{mean:.3f} | {difference} | {seconds:.0f}"


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run all trainings that are missing, write the table and return the file with the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=FOLDER", help="name and prepared folder of a data set")
    parser.add_argument("--changes", default="", help="further changes of params for all trainings, KEY=VALUE ...")
    parser.add_argument("--only", choices=SETTINGS, action="append", help="setting to measure, and the defaults")
    parser.add_argument("--seeds", type=int, default=3)
    add_run_arguments(parser)
    given = parser.parse_args(arguments)
    folder = output_folder(given.output, given.tiny)
    file, page = folder / "fine-tuning.json", folder / PAGE
    runs: list[Run] = json.loads(file.read_text()) if file.exists() else []
    done = {(run["data"], run["setting"], run["seed"]) for run in runs}
    settings = {name: SETTINGS[name] for name in SETTINGS if name in ("defaults", *(given.only or SETTINGS))}
    for seed in range(given.seeds):  # so that an interrupted run has measured all settings for some seeds
        for named in given.data:
            name, _, source = named.partition("=")
            for setting, changes in settings.items():
                if (name, setting, seed) in done:
                    continue
                run = train_once(Path(source), f"{BASE} {given.changes} {changes}", seed)
                runs.append({"data": name, "setting": setting, "seed": seed, "changes": given.changes, **run})
                file.write_text(json.dumps(runs, indent=1) + "\n")
                print(f"{name}, {setting}, seed {seed}: {run['best']:.3f}, {run['cpu_seconds']:.0f} s", flush=True)
    if page.exists():
        page.write_text(replace_block(page.read_text(), "settings", table(runs)))
    print(table(runs))
    return file


if __name__ == "__main__":
    print(main())
