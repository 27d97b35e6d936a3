"""Deploy a model where `macula serve` runs, as a Prefect flow: `python -m flows.deploy to=models/model.onnx`.

The steps are those of `macula deploy`; each is a task.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from flows import api
from flows.command import arguments
from flows.deployments import record_deployment
from flows.flow_outcome import report, write_failure
from flows.model_source import find_model
from flows.state import full_disk_explained
from stages.core.errors import UserError
from stages.core.interrupts import raise_from_now_on
from stages.deployment import deployment

if __name__ == "__main__":  # Prefect reads the environment when it is imported
    wait_for_api = api.connect()

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed


@task(name="step", cache_policy=NO_CACHE, persist_result=False)
def run_step(work: Callable[[], Any]) -> Any:
    """Run one step of the deployment; a step that was completed before a crash is repeated or rolled back."""
    return work()


@flow(name="deploy", persist_result=False)
def deploy(
    to: Annotated[str, Field(description="File that the server watches, such as /srv/models/model.onnx.")],
    model: Annotated[
        str, Field(description="A stage (released, champion), a version such as digits@v0.0.3, or an ONNX file.")
    ] = "released",
    server: Annotated[
        str, Field(description="Address of the server, such as http://127.0.0.1:8000; empty: check no server.")
    ] = "",
    golden: Annotated[
        str, Field(description="Golden images of a model given as a file; empty: golden.zip beside it.")
    ] = "",
    monitor_seconds: Annotated[
        float, Field(ge=0, description="Time during which error rate and latency are watched, seconds.")
    ] = 60.0,
    max_slowdown: Annotated[
        float, Field(ge=1, description="Largest accepted ratio of the median latencies after and before the change.")
    ] = 2.0,
    repository: Annotated[
        str, Field(description="Git repository with the registry; empty: MACULA_REPOSITORY, or the current folder.")
    ] = "",
) -> State:
    """Check a model, replace the deployed file, check the server, and roll back if a check fails."""
    logger = get_run_logger()

    def step(name: str, work: Callable[[], Any]) -> Any:
        logger.info("step: %s", name)
        return run_step.with_options(name=name)(work)

    try:
        with full_disk_explained():
            file, version = find_model(model, repository)
            plan = deployment.Plan(
                model=file,
                target=Path(to),
                golden=Path(golden) if golden else None,
                label=version.tag if version else "",
                server=server,
                key=os.environ.get("MACULA_API_KEY", ""),
                monitor_seconds=monitor_seconds,
                max_slowdown=max_slowdown,
            )
            outcome = deployment.deploy(plan, step)
            if version is not None:
                record_deployment(repository, version, outcome)
    except UserError as error:
        write_failure("deploy", {"message": str(error), "model": model, "to": to})
        return Failed(message=f"error: {error}")
    name = version.name if version else file.stem
    event = {"deployed": "macula.deployed", "rolled-back": "macula.rolled-back"}.get(outcome.outcome, "")
    report("deploy", name, {"model": version.tag if version else model, "to": to, **outcome.as_json()}, event)
    state = Completed if outcome.succeeded else Failed
    return state(name=outcome.outcome.capitalize(), message=outcome.message)


def main(words: list[str]) -> int:
    """Run the flow.

    Args:
        words: parameters as KEY=VALUE.

    Returns:
        0 if the model is deployed, 130 after an interrupt, otherwise 1.
    """
    raise_from_now_on()
    wait_for_api()
    try:
        state = deploy(**arguments(words, deploy.fn), return_state=True)
    except KeyboardInterrupt:
        print("stopped; the previous file was restored", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{state.name}: {state.message}")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
