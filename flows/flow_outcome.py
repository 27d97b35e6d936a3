"""Outcome of a flow: a JSON file below the state folder, a Markdown artifact and an event of Prefect."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows import state


def write_outcome(flow: str, outcome: dict[str, Any]) -> Path:
    """Write the outcome of a flow as JSON below the state folder; return the file.

    Args:
        flow: name of the flow.
        outcome: plain values, with the keys `outcome` and `message`.
    """
    time = datetime.now(UTC).isoformat(timespec="microseconds")
    file = state.folder() / "outcomes" / f"{flow}-{time.replace(':', '')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps({"flow": flow, "time": time, **outcome}, indent=1) + "\n", encoding="utf-8")
    part.rename(file)
    return file


def write_failure(flow: str, about: dict[str, Any]) -> None:
    """Write the outcome of a flow that failed; if even that fails, log a warning, so that the reason is reported.

    Args:
        flow: name of the flow.
        about: plain values, with the key `message`.
    """
    from prefect import get_run_logger

    try:
        write_outcome(flow, {"outcome": "failed", **about})
    except OSError as error:
        get_run_logger().warning("the outcome of %s was not written: %s", flow, error)


def report(flow: str, model: str, outcome: dict[str, Any], event: str) -> None:
    """Write the outcome of a flow, publish it as an artifact, and emit its event.

    Args:
        flow: name of the flow.
        model: name of the model.
        outcome: plain values, with the keys `outcome` and `message`.
        event: name of the event; empty for none.
    """
    from prefect.artifacts import create_markdown_artifact
    from prefect.events import emit_event

    file = write_outcome(flow, outcome)
    rows = "\n".join(f"| {key} | {value} |" for key, value in outcome.items() if key != "message" and value)
    create_markdown_artifact(
        key=f"{flow}-{model}".lower().replace("_", "-"),
        markdown=f"**{outcome['outcome']}**: {outcome['message']}\n\n| | |\n|---|---|\n{rows}\n\nRecord: `{file}`\n",
        description=f"Outcome of {flow} for {model}",
    )
    if event:
        emit_event(event=event, resource={"prefect.resource.id": f"macula.model.{model}"}, payload=outcome)
