"""Prefect tasks that all flows share: one per stage of `dvc.yaml`.

Import this module only after `flows.api.connect` if it should set the environment of Prefect.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from prefect import State, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun, TaskRunResult
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.engine import emit_task_run_state_change_event

from flows import dvc_graph
from flows.dvc_repro import findings_file
from flows.result_artifacts import embedded, publish_results
from flows.source_listing import refuse_what_dvc_cannot_read
from flows.stage_progress import StageProgress
from flows.stage_runner import Outcome, StageRunner
from flows.state import full_disk_explained
from stages.config.load import load as load_params
from stages.core.plurals import quantity


def run_pipeline(targets: list[str] | None, stage_hours: float | None) -> tuple[State, dict[str, Outcome]]:
    """Run the stages of dvc.yaml in the current folder that are out of date, as tasks of the current flow.

    Args:
        targets: stages to run, with those on which they depend; None or empty for all.
        stage_hours: time limit for each stage in hours; None for no limit.

    Returns:
        Completed, or Failed with the reason of each stage that failed; and the outcomes of the stages.

    Raises:
        UserError: params.yaml or dvc.yaml is not valid, the source contains an entry that DVC cannot read, or another
            run uses the folder.
    """
    refuse_what_dvc_cannot_read(Path(load_params(Path("params.yaml")).ingest.source))
    with full_disk_explained(), dvc_graph.lock_workspace() as lock:
        for message in dvc_graph.restore_damaged_locks():
            get_run_logger().warning(message)
        runner = StageRunner(lock, stage_hours and stage_hours * 3600)
        stages, skipped = dvc_graph.load_with_checks(targets or [])
        state = run_stages(stages, runner, skipped)
        if any(outcome.ending in ("Ran", "Restored") for outcome in runner.outcomes.values()) and state.is_completed():
            publish_results()
        return state, runner.outcomes


def run_stages(stages: dict[str, list[str]], runner: StageRunner, skipped: Mapping[str, float]) -> State:
    """Run stages as tasks of the current flow, each after those on which it depends.

    Args:
        stages: stages, upstream first, each with the stages on which it depends.
        runner: runner of the stages, which is stopped at the end.
        skipped: stages known to be up to date, each with the duration of the check in seconds.

    Returns:
        Completed, or Failed with the reason of each stage that failed.
    """
    futures: dict[str, PrefectFuture[State]] = {}
    recorded: dict[str, State] = {}
    try:
        for stage, upstreams in stages.items():
            before = [recorded.get(up) or futures[up] for up in upstreams]
            if stage in skipped:
                outcome = runner.skip(stage, skipped[stage])
                recorded[stage] = record_stage(stage, _completed(outcome), [recorded[up] for up in upstreams])
            else:
                futures[stage] = run_stage.submit(stage, runner, wait_for=before, return_state=False)
        for future in futures.values():
            future.wait()
    finally:
        runner.stop()  # after an interrupt or a cancellation stages may still be running
    states = {stage: recorded.get(stage) or futures[stage].state for stage in stages}
    ends = {stage: _end(state, runner.outcomes.get(stage)) for stage, state in states.items()}
    get_run_logger().info("stages\n%s", table(ends, runner.outcomes))
    missed = [stage for stage, state in states.items() if not state.is_completed()]
    if not missed:
        return Completed(message=f"{quantity(len(ends), 'stage')} up to date")
    not_run = [stage for stage in missed if ends[stage] == "NotRun"]
    reasons = [f"`{s}`: {_reason(s, runner.outcomes.get(s), futures[s].state)}" for s in missed if s not in not_run]
    return Failed(message="\n\n".join(reasons + ([f"Not run: {', '.join(not_run)}"] if not_run else [])))


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, runner: StageRunner) -> State:
    """Bring one stage up to date and return its outcome as a Prefect state."""
    progress, logger = StageProgress(stage), get_run_logger()

    def log(line: str) -> None:
        logger.info(line)
        progress.read(line)

    outcome = runner.reproduce(stage, log)
    if outcome.ending == "Failed":
        if blocked(stage):
            _publish(stage)
        return Failed(message=outcome.words)
    if outcome.ending == "Stopped":
        return Cancelled(message="the flow was stopped")
    progress.finish()
    return _completed(outcome)


def record_stage(stage: str, state: State, upstreams: Sequence[State]) -> State:
    """Record a stage that need not run as a task of the current flow, without starting a task.

    A task that only finds that its stage is up to date takes a thread, four states and several requests. The server
    creates task runs from events in which they change their state; one event with the final state is enough.

    Args:
        stage: name of the stage.
        state: final state, which receives the ids of the runs.
        upstreams: states of the recorded stages on which it depends.

    Returns:
        The state.
    """
    flow = FlowRunContext.get()
    assert flow is not None and flow.flow_run is not None, "this is called in a flow"
    number = uuid4()
    state.data = stage  # a task that waits for a state without data fails with MissingResult
    state.state_details.task_run_id, state.state_details.flow_run_id = number, flow.flow_run.id
    inputs = [TaskRunResult(id=up.state_details.task_run_id) for up in upstreams if up.state_details.task_run_id]
    fields = {
        "id": number,
        "name": stage,
        "flow_run_id": flow.flow_run.id,
        "task_key": run_stage.task_key,
        "dynamic_key": str(number),
        "task_version": run_stage.version,
        "task_inputs": {"stage": [], "runner": [], "wait_for": inputs},
        "run_count": 1,
        "state": state,
    }
    times = dict.fromkeys(("expected_start_time", "start_time", "end_time"), state.timestamp)
    task_run = TaskRun.model_validate(fields | times)
    emit_task_run_state_change_event(task_run, initial_state=None, validated_state=state)
    return state


def _completed(outcome: Outcome) -> State:
    return Completed(name=outcome.ending, message=f"{outcome.seconds:.1f} s")


def blocked(stage: str) -> str:
    """Return the findings with which a stage stopped the pipeline in its last attempt; empty if there are none."""
    file = findings_file(stage)
    return file.read_text() if file.is_file() else ""


def summary(markdown: str) -> str:
    r"""Return the first paragraph of a Markdown text and the list after it, without headings and images.

    >>> summary("# Blocked\n\n2 findings:\n\n- dark images\n- copies\n\nDetails follow.")
    '2 findings:\n- dark images\n- copies'
    """
    blocks = [b.strip() for b in re.split(r"\n\s*\n", markdown)]
    words = ["\n".join(line for line in b.splitlines() if not re.match(r"#|!\[", line)) for b in blocks]
    first, *others = [w for w in words if w] or [""]
    for other in others:
        if not re.match(r"[-*] |\d+\. ", other):
            break
        first += "\n" + other
    return first


def table(ends: dict[str, str], outcomes: dict[str, Outcome]) -> str:
    """Return a table of stage, state and seconds, in the order of the graph."""
    wide = max(map(len, ends), default=0)
    spent = {stage: f"{outcome.seconds:8.1f} s" for stage, outcome in outcomes.items()}
    return "\n".join(f"{stage:<{wide}}  {end:<9}{spent.get(stage, '')}".rstrip() for stage, end in ends.items())


def _end(state: State, outcome: Outcome | None) -> str:
    return outcome.ending if outcome else "NotRun" if state.name == "NotReady" else str(state.name)


def _reason(stage: str, outcome: Outcome | None, state: State) -> str:
    if outcome is None:
        return f"the flow itself crashed; its log contains the traceback: {state.message}"
    return summary(blocked(stage)) or outcome.words or outcome.ending


def _publish(stage: str) -> None:
    file = findings_file(stage)
    words = file.read_text() + embedded(file.with_suffix(".png"), "images of the findings")
    name = re.sub(r"[^a-z0-9]+", "-", file.parent.name.lower()).strip("-")
    create_markdown_artifact(
        key=f"{name}-blocked", markdown=words, description=f"Findings with which `{stage}` stopped the pipeline"
    )
