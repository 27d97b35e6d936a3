"""Tables and charts of a hyperparameter search."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.reports import charts

MAX_ROWS = 50  # of a table
MAX_CHARTS = 6
TRIAL_COLUMNS = ("number", "score", "seconds", "epochs", "state", "why")


def search_summary(tuned: Path, higher: bool) -> dict[str, Any]:
    """Return the best values of a search, its trials and finalists (best first), charts and the importance of the keys.

    Args:
        tuned: output folder of the stage tune.
        higher: True if a higher score is better.
    """
    trials = pd.read_csv(tuned / "trials.csv").sort_values("score", ascending=not higher, na_position="last")
    finals = pd.read_csv(tuned / "finals.csv")
    metrics = json.loads((tuned / "metrics.json").read_text(encoding="utf-8"))
    keys = [column for column in trials.columns if column not in TRIAL_COLUMNS]
    scored = trials.dropna(subset=["score"])
    return {
        "best": json.loads((tuned / "best.json").read_text(encoding="utf-8")),
        "trials": [_row(trial, keys) for trial in trials.head(MAX_ROWS).to_dict("records")],
        "trial_count": len(trials),
        "trial_keys": keys,
        "trial_charts": [*_history_charts(scored, keys, higher), *_key_charts(scored, keys)],
        "finals": _finals(finals, higher),
        "importance": sorted(metrics.get("importance", {}).items(), key=lambda item: -item[1]),
    }


def _row(trial: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    why = trial["why"] if isinstance(trial["why"], str) else ""
    return {"number": int(trial["number"]), "score": trial["score"], "seconds": trial["seconds"], "why": why,
            "state": trial["state"], "values": [trial[key] for key in keys]}  # fmt: skip


def _finals(finals: pd.DataFrame, higher: bool) -> list[dict[str, Any]]:
    """Return mean, scores and number of failures of each finalist over further seeds; empty if none was tried.

    Finalists are sorted by failures, then by the mean.
    """
    further = finals[finals["seed"] > 0]  # seed 0 is that of the search, which selected the finalists
    finalists = [
        {"number": int(number), "mean": scores.mean(), "failed": int(scores.isna().sum()), "scores": scores.tolist()}
        for number, scores in further.groupby("number")["score"]
    ]
    return sorted(finalists, key=lambda one: (one["failed"], -one["mean"] if higher else one["mean"]))


def _history_charts(scored: pd.DataFrame, keys: list[str], higher: bool) -> list[tuple[str, Markup]]:
    """Return charts of the score by trial, and of up to `MAX_CHARTS` varied keys as parallel coordinates."""
    if len(scored) < 2:
        return []
    ordered = scored.sort_values("number")
    so_far = ordered["score"].cummax() if higher else ordered["score"].cummin()
    made = [("history", charts.history(ordered["number"].tolist(), ordered["score"].tolist(), so_far.tolist()))]
    varied = [key for key in keys if scored[key].nunique() > 1]
    if len(varied) > 1 and len(scored) > 3:
        columns = {key: scored[key].tolist() for key in varied[:MAX_CHARTS]}
        made.append(("parallel", charts.parallel_coordinates(columns, scored["score"].tolist(), higher)))
    return made


def _key_charts(scored: pd.DataFrame, keys: list[str]) -> list[tuple[str, Markup]]:
    """Return a chart of the score by each varied numeric key among the first `MAX_CHARTS` keys."""
    made = []
    for key in keys[:MAX_CHARTS]:
        if len(scored) > 1 and pd.api.types.is_numeric_dtype(scored[key]) and scored[key].nunique() > 1:
            log = scored[key].min() > 0 and scored[key].max() / scored[key].min() > 8
            made.append(
                (key, charts.scatter(scored[key].tolist(), scored["score"].tolist(), key, "score", 0, bool(log)))
            )
    return made
