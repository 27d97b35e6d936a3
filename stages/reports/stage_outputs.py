"""What stages left in their folders, as a page or a card takes it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd


def read_json(file: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_table(file: Path) -> pd.DataFrame:
    """A CSV file as text: a class named NA stays one."""
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def openings_of(record: Path, name: str) -> list[dict[str, Any]]:
    """Openings of the sealed test of the data set `name`, oldest first; NaN where none was written any more."""
    openings = read_table(record)
    openings = openings[openings["data"] == name]
    figures = ["value", "low", "high"]
    openings[figures] = openings[figures].apply(pd.to_numeric, errors="coerce")
    return openings.to_dict("records")


def waived_by(gated: Path) -> dict[str, str]:
    """Finding that the gate let pass: the reason that was given."""
    return {waiver["id"]: waiver["reason"] for waiver in read_json(gated / "gate.json")["waived"]}


def network_of(params: dict[str, Any]) -> str:
    """The network, and its encoder where it has one to choose, of the params of training."""
    network = params["network"]
    return network["name"] + (f" with {network['encoder']}" if network["name"] in ("unet", "mask_rcnn") else "")
