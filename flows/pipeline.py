"""Run each stage of `dvc.yaml` as a Prefect task: `python -m flows.pipeline [STAGE...]`.

The order, names and dependencies are read from DVC, and each task runs `dvc repro --single-item STAGE`. After the flow,
`dvc repro` runs no stage, and vice versa. A run that was interrupted or killed is resumed by the next one.
"""

import gc
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from flows import api, dvc_graph, experiments
from stages.config.load import load as load_params
from stages.core.errors import UserError
from stages.core.interrupts import raise_from_now_on

if __name__ == "__main__":  # Prefect reads the environment when it is imported
    gc.disable()  # collections during the imports find nothing and take .3 s; `main` enables them
    try:
        load_params(Path("params.yaml"))
        dvc_graph.check_targets(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    wait_for_api = api.connect()

from prefect import State, flow, flow_engine, get_run_logger
from prefect.states import Failed

from flows.stage_tasks import run_pipeline


@flow(name="pipeline", persist_result=False)
def pipeline(
    targets: Annotated[
        list[str] | None,
        Field(description="Stages of dvc.yaml to run, with the stages on which they depend; empty for all."),
    ] = None,
    stage_hours: Annotated[
        float | None, Field(gt=0, description="Time limit for each stage, in hours; empty for no limit.")
    ] = None,
    save: Annotated[bool, Field(description="Save a complete run as an experiment of DVC.")] = True,
) -> State:
    """Run the stages of dvc.yaml that are out of date.

    A stage that fails because of the network is tried again. A stage that exceeds the time limit is stopped.
    """
    try:
        state, _ = run_pipeline(targets, stage_hours)
        if state.is_completed() and save and not targets:
            get_run_logger().info(experiments.main())
    except UserError as error:
        return Failed(message=f"error: {error}")
    return state


def end_without_waiting_for_heartbeats() -> None:
    """Let flows of this process end while the thread that sends their heartbeats sleeps, for up to a second.

    Prefect waits for this thread, except in asynchronous flows. The thread ends when it wakes, or with the process.
    """
    flow_engine._send_heartbeats = partial(flow_engine._send_heartbeats, join_on_exit=False)


def main(targets: list[str]) -> int:
    """Run the flow.

    Returns:
        0 if every stage is up to date, 130 after an interrupt, otherwise 1.

    Raises:
        RuntimeError: the temporary Prefect server did not start.
    """
    raise_from_now_on()
    gc.freeze()  # what the imports have made stays until the end
    gc.enable()
    end_without_waiting_for_heartbeats()
    wait_for_api()
    began = time.monotonic()
    try:
        state = pipeline(targets or None, return_state=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(f"{state.name} in {time.monotonic() - began:.0f} s: {state.message}")
    gc.freeze()  # the last collection, at the end of the process, takes .3 s and frees memory that is freed anyway
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
