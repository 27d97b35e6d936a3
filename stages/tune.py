"""Search for better params of training: `python -m stages.tune INGESTED PREPARED WEIGHTS OUTPUT`."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import optuna
import pandas as pd

from stages.frame import In, Out, UserError, run
from stages.frame.params import overlay
from stages.frame.sections import TUNABLE, Augment, Network, Range, Section, Task, Train, Tune
from stages.images.store import Store
from stages.learning.loop import fit
from stages.learning.plan import Material, material, plan, policy_of
from stages.tasks import TASKS
from stages.tasks.asking import score_of


def main(
    ingested: In,
    prepared: In,
    weights: In,
    output: Out,
    *,
    task: Task,
    augment: Augment,
    network: Network,
    train: Train,
    tune: Tune,
) -> dict[str, Any]:
    """Write `best.json`, the values that `train` takes in place of its params, and `trials.csv`.

    The first trial is params.yaml as it stands, so that the search can only improve on it; without trials nothing is
    replaced. Every trial trains with the same seed and is judged by `task.score` on validation data.
    """
    given = material(ingested, prepared) if tune.trials else None
    sections: dict[str, Section] = {"task": task, "augment": augment, "network": network, "train": train}
    if given is not None:
        _check_amounts(sections, tune.space, given.train_set)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    better = TASKS[task.name].SCORES[score_of(task.name, task.score)].better
    direction: Literal["maximize", "minimize"] = "maximize" if better == "higher" else "minimize"
    study = optuna.create_study(direction=direction, sampler=samplers[tune.sampler](seed=tune.seed))
    study.enqueue_trial(_as_it_stands(sections, tune.space, given))
    rows = []
    for number in range(tune.trials):
        trial = study.ask()
        values = {key: _suggest(trial, key, span) for key, span in tune.space.items()}
        started = time.perf_counter()
        assert given is not None, "there are trials"
        try:
            planned = plan(given, overlay(sections, values | {"train.epochs": tune.epochs}), weights)
            score = _finite(fit(planned, report=lambda epoch: None).best.val_score, task.score)
        except UserError as error:  # as a loss that is no number: these values are bad, others may not be
            score = None
            print(f"trial {number + 1}/{tune.trials} failed: {error}", flush=True)
        else:
            print(f"trial {number + 1}/{tune.trials}  {task.score} {score:.4f}  {values}", flush=True)
        study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.FAIL)
        rows.append({"number": number, "score": score, "seconds": time.perf_counter() - started, **values})
    if rows and all(row["score"] is None for row in rows):
        raise UserError(f"all {len(rows)} trials failed, for the reasons above; narrow tune.space or mend train")
    trials = pd.DataFrame(rows, columns=["number", "score", "seconds", *tune.space])
    trials.to_csv(output / "trials.csv", index=False)
    best = study.best_params if rows else {}
    (output / "best.json").write_text(json.dumps(best, indent=1) + "\n")
    return {"trials": len(rows), **({"best_score": study.best_value} if rows else {})}


def _check_amounts(sections: dict[str, Section], space: dict[str, Range], train_set: Store) -> None:
    """Amounts of augmentations are known to them alone: ends of their ranges are asked before the first trial.

    An end must be possible with all other keys at their lows, or at their highs.
    """
    ends = {key: span.choices or (span.low, span.high) for key, span in space.items() if key.startswith("augment.")}
    for key, of_key in ends.items():
        for end in of_key:
            corners = [{other: values[at] for other, values in ends.items()} | {key: end} for at in (0, -1)]
            problems = [_problem(overlay(sections, corner)["augment"], train_set) for corner in corners]
            if all(problems):
                raise UserError(f"tune.space: {key}: {end!r}: {problems[0]}")


def _problem(augment: Section, train_set: Store) -> str:
    assert isinstance(augment, Augment)
    try:
        policy_of(augment, train_set)
    except UserError as error:
        return str(error)
    return ""


def _finite(score: float, name: str) -> float:
    if not math.isfinite(score):
        raise UserError(f"{name} is undefined on the validation images after tune.epochs")
    return score


def _as_it_stands(sections: Mapping[str, Section], space: dict[str, Range], given: Material | None) -> dict[str, Any]:
    """The values of params.yaml, where they lie within the search; amounts as the preset and params.yaml have them."""
    values = {name: section.model_dump() for name, section in sections.items()}
    augment = sections["augment"]
    if given is not None and isinstance(augment, Augment):
        chosen = policy_of(augment, given.train_set)[1]
        values["augment"]["amounts"] = {one.name: one.amounts.model_dump() for one in chosen if one.amounts}
    now = {key: _at(values, key.split(".")) for key in space}
    return {key: value for key, value in now.items() if value is not None and space[key].holds(value)}


def _at(values: Any, path: list[str]) -> Any:
    """The value at a dotted key, the first amount of an augmentation; None where there is none."""
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return next(iter(values.values()), None) if isinstance(values, dict) else values


def _suggest(trial: optuna.Trial, key: str, span: Range) -> Any:
    if span.choices is not None:
        return trial.suggest_categorical(key, span.choices)
    assert span.low is not None and span.high is not None, "Range holds either choices or both ends"
    if key in TUNABLE and TUNABLE[key].annotation is int:
        return trial.suggest_int(key, int(span.low), int(span.high), log=span.log)
    return trial.suggest_float(key, span.low, span.high, log=span.log)


if __name__ == "__main__":
    run(main)
