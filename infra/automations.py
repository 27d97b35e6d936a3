"""Automations of the Prefect server: dead runs, drift, and notifications."""

from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

HEARTBEAT = "prefect.flow-run.heartbeat"
BY_HAND = timedelta(minutes=10)
"""Time without a sign of life after which any run counts as dead; by default, runs report every three minutes."""
DEPLOYED = timedelta(minutes=2)
"""The same time for runs of a worker, whose runs report every 30 seconds."""
NOT_STARTED = timedelta(minutes=2)
"""Time after which a run that a worker has taken, but whose process does not run, is given to a worker again."""
NOT_STARTED_IN_CONTAINER = timedelta(minutes=30)
"""The same time for containers, whose image may be downloaded first, and which may wait for a machine."""
PENDING = "prefect.flow-run.Pending"
MODELS = ResourceSpecification({"prefect.resource.id": "macula.model.*"})
RUNS = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})


def automations(retrain: UUID | None, notification: UUID | None, *, containers: bool = False) -> list[AutomationCore]:
    """Return the automations.

    Args:
        retrain: id of the deployment that a drift event starts; None if there is none.
        notification: id of the notification block; None if there is none.
        containers: whether a work pool runs flows in containers.
    """
    found = [
        _dead_runs("macula: deployed run without heartbeat", DEPLOYED, {"prefect.resource.role": "deployment"}),
        _dead_runs("macula: run without heartbeat", BY_HAND, {}),
        _runs_not_started(NOT_STARTED_IN_CONTAINER if containers else NOT_STARTED),
    ]
    if retrain:
        found.append(
            AutomationCore(
                name="macula: drift starts retrain",
                description="Images or predictions that the flow score has seen differ from those of training.",
                trigger=EventTrigger(
                    expect={"macula.drift"}, match=MODELS, posture=Posture.Reactive, threshold=1, within=timedelta(0)
                ),
                actions=[RunDeployment(source="selected", deployment_id=retrain, parameters=None, job_variables=None)],
            )
        )
    if notification:
        failed = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"}
        run = "{{ flow.name }}: run {{ flow_run.name }} {{ flow_run.state.name }}"
        found.append(_notify("macula: notify of failed runs", failed, RUNS, notification, run))
        model = "{{ event.resource.id }}: {{ event.event }}"
        found.append(_notify("macula: notify of models", {"macula.*"}, MODELS, notification, model))
    return found


def _dead_runs(name: str, within: timedelta, related: dict[str, str | list[str]]) -> AutomationCore:
    """Return an automation that marks a run as crashed once its heartbeats stop.

    Any other event of the run, such as its end or a pause, is a sign of life as well.
    """
    return _silent_runs(
        name,
        "Mark a run as crashed whose process no longer reports, so that it frees its place in the queue.",
        (HEARTBEAT, within, related),
        (StateType.CRASHED, f"The process of the run did not report for {within.total_seconds():.0f} s."),
    )


def _runs_not_started(within: timedelta) -> AutomationCore:
    """Return an automation that schedules a run again whose worker was killed before it had started the process.

    Without it, such a run stays pending, and no worker takes it.
    """
    message = f"A worker took the run, but its process did not start within {within.total_seconds():.0f} s."
    return _silent_runs(
        "macula: run that was not started",
        "Give a run to a worker again that was taken by a worker, but whose process does not run.",
        (PENDING, within, {"prefect.resource.role": "deployment"}),
        (StateType.SCHEDULED, message),
    )


def _silent_runs(
    name: str,
    description: str,
    silence: tuple[str, timedelta, dict[str, str | list[str]]],
    change: tuple[StateType, str],
) -> AutomationCore:
    """Return an automation that changes the state of each run without any event for a time after one event.

    Args:
        name: name of the automation.
        description: description of the automation.
        silence: the event, the time after it, and the labels of related resources that a run must have.
        change: the new state and its message.
    """
    after, within, related = silence
    state, message = change
    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            after={after},
            expect={"prefect.flow-run.*"},
            match=RUNS,
            match_related=ResourceSpecification(related),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(name=None, state=state, force=False, message=message)],
    )


def _notify(name: str, events: set[str], match: ResourceSpecification, block: UUID, subject: str) -> AutomationCore:
    body = (
        f"{subject}\n{{{{ flow_run.state.message }}}}\n{{{{ flow_run|ui_url }}}}"
        if match is RUNS
        else f"{subject}\n{{{{ event.payload|tojson }}}}"
    )
    return AutomationCore(
        name=name,
        description="Send a notification through the block that `python -m infra.prefect_setup` found.",
        trigger=EventTrigger(expect=events, match=match, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
        actions=[SendNotification(block_document_id=block, subject=subject, body=body)],
    )
