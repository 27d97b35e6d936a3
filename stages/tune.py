"""Search for better params of training: `python -m stages.tune INGESTED PREPARED WEIGHTS OUTPUT`.

The environment variables `TUNE_WORKERS` and `TUNE_DASK` select where trials run, and `OPTUNA_STORAGE` where they are
stored.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from stages.config.schema_base import Section
from stages.config.schema_search import Tune
from stages.config.schema_task import Task
from stages.config.schema_training import Augment, Network, Train
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.core.provenance import content, digest
from stages.dataset.manifest import MANIFEST_FILE
from stages.dataset.pixel_store import PixelStore, open_split
from stages.runner.stage import In, Out, run
from stages.search import trial
from stages.search.finals import Finalist, decide
from stages.search.space import Values, check_amounts, params_values, shared_rate_warning
from stages.search.study import CompletedTrial, Search
from stages.search.trial import TrialJob
from stages.search.workers import workers
from stages.tasks import TASKS
from stages.tasks.build_spec import score_of
from stages.training.checkpoints import code_version

MIN_TRIALS_FOR_IMPORTANCE = 4
Finals = dict[int, tuple[CompletedTrial, Finalist]]
"""Finalists by number: the trial, and its scores with further seeds."""


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
    """Write the best values (`best.json`), which `train` uses in place of params, and `trials.csv` and `finals.csv`.

    Trial 0 has the values of params.yaml, except that values outside `tune.space` are sampled. Without trials, no value
    is replaced.

    All trials train with the same seed and are compared by `task.score` on validation data. The best trials and trial 0
    are trained with further seeds, which alone decide (`search.finals.decide`): another trial replaces trial 0 only if
    it is better by more than the standard error. If the process is killed, the next run resumes with all completed
    trials.

    Raises:
        UserError: an end of `tune.space` is invalid, a grid is too large, the storage or the workers are not available,
            or all trials failed.
    """
    if not tune.trials:
        return _write(output, tune, [], {}, {})
    train = train.model_copy(update={"folds": 0, "members": "auto"})  # a trial trains one network, on all images
    sections: dict[str, Section] = {"task": task, "augment": augment, "network": network, "train": train}
    train_set = open_split(prepared, "train")
    check_amounts(sections, tune.space, train_set)
    if warning := shared_rate_warning(tune.space):
        print(warning, flush=True)
    search = _open_search(ingested, prepared, sections, tune, train_set)

    def make_job(values: Values, seed_offset: int, earlier_scores: list[list[float]]) -> TrialJob:
        folders = ingested.absolute(), prepared.absolute(), weights.absolute()
        seed, higher = train.seed + seed_offset, search.higher_is_better
        return TrialJob(*folders, sections, values, tune.epochs, seed, higher, earlier_scores)

    def report(one: CompletedTrial) -> None:
        outcome = one.outcome
        result = f"{outcome.state}: {outcome.why}" if outcome.score is None else f"{task.score} {outcome.score:.4f}"
        values = ", ".join(f"{key} {value}" for key, value in one.values.items())
        print(f"trial {one.number + 1}/{search.trial_count}  {result}  {values}", flush=True)

    with workers(trial.run) as run_jobs:
        search.run(run_jobs, make_job, report)
        if all(one.outcome.score is None for one in search.completed()):
            last = search.completed()[-1]
            raise UserError(
                f"all trials failed; message of trial {last.number + 1}: {last.outcome.why}\n"
                "Narrow tune.space, or change section train, network or augment"
            )
        finals: Finals = {one.number: (one, scores) for one, scores in search.finals(run_jobs, make_job)}
    decision = decide([finalist for _, finalist in finals.values()], search.higher_is_better)
    best, winner = finals[decision.winner.number]
    metrics = _write(output, tune, search.completed(), finals, best.values)
    print(f"tune: trial {best.number + 1} is selected{decision.why and f': {decision.why}'}", flush=True)
    return metrics | {
        "best_trial": best.number,
        "best_score": winner.mean,
        "importance": _importance(search),
    }


def _open_search(
    ingested: Path, prepared: Path, sections: Mapping[str, Section], tune: Tune, train_set: PixelStore
) -> Search:
    """Open the search that these params, images, labels and code define."""
    task: Any = sections["task"]
    better = TASKS[task.name].SCORES[score_of(task.name, task.score)].better
    extendable = tune.model_copy(update={"trials": 0, "minutes": None})  # more trials continue the same search
    key = content([digest({**sections, "tune": extendable}), prepared, ingested / MANIFEST_FILE, code_version("tune")])
    return Search(key, tune, better == "higher", params_values(sections, tune.space, train_set))


def _write(output: Out, tune: Tune, completed: list[CompletedTrial], finals: Finals, best: Values) -> dict[str, Any]:
    rows = [
        {"number": one.number, "score": one.outcome.score, "seconds": one.outcome.seconds,
         "epochs": len(one.outcome.scores), "state": one.outcome.state, "why": one.outcome.why, **one.values}
        for one in completed
    ]  # fmt: skip
    columns = ["number", "score", "seconds", "epochs", "state", "why", *tune.space]
    pd.DataFrame(rows, columns=columns).to_csv(output / "trials.csv", index=False)
    for _, finalist in finals.values():
        print(_described(finalist), flush=True)
    seeds = [
        {"number": number, "seed": seed, "score": score}
        for number, (_, finalist) in finals.items()
        for seed, score in enumerate((finalist.search_score, *finalist.further_scores))
    ]
    pd.DataFrame(seeds, columns=["number", "seed", "score"]).to_csv(output / "finals.csv", index=False)
    (output / "best.json").write_text(json.dumps(best, indent=1) + "\n")
    return {"trials": len(completed)}


def _described(finalist: Finalist) -> str:
    each = ", ".join("failed" if score is None else f"{score:.4f}" for score in finalist.further_scores)
    further = f"mean {finalist.mean:.4f} over {quantity(len(finalist.further_scores), 'further seed')} ({each}), "
    return f"finalist trial {finalist.number + 1}: {further if each else ''}{finalist.search_score:.4f} in the search"


def _importance(search: Search) -> dict[str, float]:
    """Return the share of each key in the variance that single keys explain (fANOVA, Hutter et al. 2014).

    The shares sum to 1.

    The result is empty for fewer than `MIN_TRIALS_FOR_IMPORTANCE` trials with a score, or if all scores are equal.
    """
    complete = [one for one in search.study.get_trials(deepcopy=False) if one.state is TrialState.COMPLETE]
    if len(complete) < MIN_TRIALS_FOR_IMPORTANCE or len({one.value for one in complete}) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.tune.seed)
    importances = optuna.importance.get_param_importances(search.study, evaluator=evaluator)
    return {key: float(share) for key, share in importances.items()}


if __name__ == "__main__":
    run(main)
