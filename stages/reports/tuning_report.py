"""What a search for better params tried, and what it found."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.reports import charts

MOST_ROWS = 50  # of a table
MOST_CHARTS = 6
TOLD = ("number", "score", "seconds", "epochs", "state", "why")


def tuning(tuned: Path, higher: bool) -> dict[str, Any]:
    """The trials, best first, the finals under several seeds, and charts of how the search went."""
    trials = pd.read_csv(tuned / "trials.csv").sort_values("score", ascending=not higher, na_position="last")
    finals = pd.read_csv(tuned / "finals.csv")
    metrics = json.loads((tuned / "metrics.json").read_text(encoding="utf-8"))
    keys = [column for column in trials.columns if column not in TOLD]
    told = trials.dropna(subset=["score"])
    return {
        "best": json.loads((tuned / "best.json").read_text(encoding="utf-8")),
        "trials": [_row(one, keys) for one in trials.head(MOST_ROWS).to_dict("records")],
        "trial_keys": keys,
        "trial_charts": [*_course(told, keys, higher), *_by_key(told, keys)],
        "finals": _finals(finals, higher),
        "importance": sorted(metrics.get("importance", {}).items(), key=lambda one: -one[1]),
    }


def _row(trial: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    why = trial["why"] if isinstance(trial["why"], str) else ""
    return {"number": int(trial["number"]), "score": trial["score"], "seconds": trial["seconds"], "why": why,
            "state": trial["state"], "values": [trial[key] for key in keys]}  # fmt: skip


def _finals(finals: pd.DataFrame, higher: bool) -> list[dict[str, Any]]:
    """Mean and all scores of each finalist, the winner first; nothing where no further seed was tried."""
    found = [{"number": int(number), "mean": float(scores.mean()), "scores": scores.tolist()}
             for number, scores in finals.groupby("number")["score"]]  # fmt: skip
    if not any(len(one["scores"]) > 1 for one in found):
        return []
    return sorted(found, key=lambda one: -one["mean"] if higher else one["mean"])


def _course(told: pd.DataFrame, keys: list[str], higher: bool) -> list[tuple[str, Markup]]:
    """The score trial by trial with the best so far; and all keys of a trial side by side."""
    if len(told) < 2:
        return []
    ordered = told.sort_values("number")
    so_far = ordered["score"].cummax() if higher else ordered["score"].cummin()
    drawn = [("history", charts.history(ordered["number"].tolist(), ordered["score"].tolist(), so_far.tolist()))]
    varied = [key for key in keys if told[key].nunique() > 1]
    if len(varied) > 1 and len(told) > 3:
        columns = {key: told[key].tolist() for key in varied[:MOST_CHARTS]}
        drawn.append(("parallel", charts.parallel(columns, told["score"].tolist(), higher)))
    return drawn


def _by_key(told: pd.DataFrame, keys: list[str]) -> list[tuple[str, Markup]]:
    """The score by each number that was searched."""
    drawn = []
    for key in keys[:MOST_CHARTS]:
        if len(told) > 1 and pd.api.types.is_numeric_dtype(told[key]) and told[key].nunique() > 1:
            log = told[key].min() > 0 and told[key].max() / told[key].min() > 8
            drawn.append((key, charts.scatter(told[key].tolist(), told["score"].tolist(), key, "score", 0, bool(log))))
    return drawn
