"""Search for better params of training: `python -m stages.tune INGESTED PREPARED WEIGHTS OUTPUT`.

`TUNE_WORKERS`, `TUNE_DASK` and `OPTUNA_STORAGE` in the environment say who runs trials and where they are kept.
"""

import json
from statistics import fmean
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from stages.core.errors import UserError
from stages.core.provenance import content, digest
from stages.dataset.manifest import MANIFEST
from stages.dataset.pixel_store import open_split
from stages.frame.sections import Augment, Network, Section, Task, Train, Tune
from stages.runner.stage import In, Out, run
from stages.search import trial
from stages.search.space import Values, as_it_stands, check_amounts
from stages.search.study import Ended, Search
from stages.search.trial import Job
from stages.search.workers import workers
from stages.tasks import TASKS
from stages.tasks.build_spec import score_of
from stages.training.checkpoints import code


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
    """Write `best.json`, the values that `train` takes in place of its params; `trials.csv` and `finals.csv`.

    Trial 0 is params.yaml as it stands, so that the search can only improve on it; without trials nothing is replaced.
    Every trial trains with the same seed and is judged by `task.score` on validation data; the best and trial 0 train
    under further seeds, and the best mean wins. Killed and started again it goes on, without a trial that has ended
    being lost or run again.
    """
    if not tune.trials:
        return _write(output, tune, [], {}, {})
    sections: dict[str, Section] = {"task": task, "augment": augment, "network": network, "train": train}
    train_set = open_split(prepared, "train")
    check_amounts(sections, tune.space, train_set)
    higher = TASKS[task.name].SCORES[score_of(task.name, task.score)].better == "higher"
    asked = tune.model_copy(update={"trials": 0, "minutes": None})  # more of the same search goes on with it
    key = content([digest({**sections, "tune": asked}), prepared, ingested / MANIFEST, code()])
    search = Search(key, tune, higher, as_it_stands(sections, tune.space, train_set))

    def job(values: Values, repeat: int, earlier: list[list[float]]) -> Job:
        where = ingested.absolute(), prepared.absolute(), weights.absolute()
        return Job(*where, sections, values, tune.epochs, train.seed + repeat, higher, earlier)

    def tell(one: Ended) -> None:
        outcome = one.outcome
        told = f"{task.score} {outcome.score:.4f}" if outcome.score is not None else f"{outcome.state}: {outcome.why}"
        print(f"trial {one.place + 1}/{search.most}  {told}  {one.values}", flush=True)

    with workers(trial.run) as running:
        search.run(running, job, tell)
        if all(one.outcome.score is None for one in search.ended()):
            raise UserError("all trials failed, for the reasons above; narrow tune.space or mend train")
        finals = {one.place: (one, scores) for one, scores in search.finals(running, job)}
    best = (max if higher else min)(finals, key=lambda place: fmean(finals[place][1]))
    for one, scores in finals.values():
        told = ", ".join(f"{score:.4f}" for score in scores)
        print(f"final of trial {one.place + 1}: {fmean(scores):.4f} on average ({told})", flush=True)
    return _write(output, tune, search.ended(), {p: s for p, (_, s) in finals.items()}, finals[best][0].values) | {
        "best_trial": best,
        "best_score": fmean(finals[best][1]),
        "importance": _importance(search),
    }


def _write(output: Out, tune: Tune, ended: list[Ended], finals: dict[int, list[float]], best: Values) -> dict[str, Any]:
    rows = [
        {"number": one.place, "score": one.outcome.score, "seconds": one.outcome.seconds,
         "epochs": len(one.outcome.scores), "state": one.outcome.state, "why": one.outcome.why, **one.values}
        for one in ended
    ]  # fmt: skip
    columns = ["number", "score", "seconds", "epochs", "state", "why", *tune.space]
    pd.DataFrame(rows, columns=columns).to_csv(output / "trials.csv", index=False)
    seeds = [{"number": place, "seed": i, "score": s} for place, scores in finals.items() for i, s in enumerate(scores)]
    pd.DataFrame(seeds, columns=["number", "seed", "score"]).to_csv(output / "finals.csv", index=False)
    (output / "best.json").write_text(json.dumps(best, indent=1) + "\n")
    return {"trials": len(ended)}


def _importance(search: Search) -> dict[str, float]:
    """Share of the scatter of scores that each key explains (fANOVA, Hutter et al. 2014); of few trials none."""
    complete = [one for one in search.study.get_trials(deepcopy=False) if one.state is TrialState.COMPLETE]
    if len(complete) < 4 or len({one.value for one in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.tune.seed)
    found = optuna.importance.get_param_importances(search.study, evaluator=evaluator)
    return {key: float(share) for key, share in found.items()}


if __name__ == "__main__":
    run(main)
