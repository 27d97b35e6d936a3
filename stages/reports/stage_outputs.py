"""Read outputs of stages for the report and the model card."""

import json
from pathlib import Path
from typing import Any

import pandas as pd


def read_json(file: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV file as text, so that a class named NA is kept."""
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def read_openings(record: Path, name: str) -> list[dict[str, Any]]:
    """Return the openings of the sealed test of the data set `name` in the CSV file `record`, oldest first.

    A value is NaN if the opening was interrupted before its score was written.
    """
    openings = read_table(record)
    openings = openings[openings["data"] == name]
    if "reason" not in openings:  # a file of an earlier version
        openings["reason"] = ""
    figures = ["value", "low", "high"]
    openings[figures] = openings[figures].apply(pd.to_numeric, errors="coerce")
    return openings.to_dict("records")


def read_waivers(gated: Path) -> dict[str, str]:
    """Return the reasons of waived findings, by id."""
    return {waiver["id"]: waiver["reason"] for waiver in read_json(gated / "gate.json")["waived"]}


def network_name(params: dict[str, Any]) -> str:
    """Return the name of the network, with its encoder if it has one.

    Args:
        params: sections of the params that training used.
    """
    network = params["network"]
    return network["name"] + (f" with {network['encoder']}" if network["name"] in ("unet", "mask_rcnn") else "")
