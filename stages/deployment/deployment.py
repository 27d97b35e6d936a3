"""Deploy a model file: check it, replace the deployed file, check the server, and roll back if a check fails."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from stages.core.errors import UserError
from stages.deployment.deployed_file import SHORT, Change, DeployedFile, ReplacedByOthers, digest_of
from stages.deployment.golden_images import GOLDEN_FILE, GoldenSet, read_golden
from stages.deployment.server_checks import (
    Baseline,
    CheckFailed,
    check_golden,
    measure_baseline,
    monitor,
    wait_for_model,
)
from stages.deployment.server_client import ServerClient, ServerError

LOCAL_SECONDS = 330.0
"""Time limit of the check on this machine, a little longer than that of its process."""
FALLBACK = "float32.onnx"
"""File beside the model that `export` writes, and that is deployed if an int8 or bfloat16 file fails here."""
T = TypeVar("T")
Step = Callable[[str, Callable[[], Any]], Any]
"""Runs a named step and returns its result; a flow runs it as a task."""


@dataclass(frozen=True)
class Plan:
    """Model to deploy, target file, and limits of the checks."""

    model: Path
    target: Path
    """File that the server watches."""
    golden: Path | None = None
    """Golden images; None for `golden.zip` beside the model."""
    label: str = ""
    """Version of the model for the record; empty for its path."""
    server: str = ""
    """Address of the server; empty if none is to be checked."""
    key: str = ""
    engine: str = "auto"
    """Engine of the check on this machine."""
    monitor_seconds: float = 60.0
    baseline_seconds: float = 5.0
    load_seconds: float = 180.0
    """Time limit for the server to load the new file, seconds."""
    request_seconds: float = 10.0
    """Time limit of one request, seconds."""
    max_slowdown: float = 2.0


@dataclass(frozen=True)
class Outcome:
    """Outcome of a deployment."""

    outcome: Literal["deployed", "unchanged", "refused", "rolled-back", "not-rolled-back", "nothing-to-repair"]
    message: str
    digest: str
    """SHA-256 of the deployed file at the end; empty if there is none."""
    repaired: str = ""
    """What was done about an earlier deployment that was killed; empty if there was none."""

    @property
    def succeeded(self) -> bool:
        """True unless the model was not deployed."""
        return self.outcome in ("deployed", "unchanged", "nothing-to-repair")

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain values."""
        return asdict(self)


def run_directly(_name: str, work: Callable[[], T]) -> T:
    """Run a step."""
    return work()


def deploy(plan: Plan, run_step: Step = run_directly) -> Outcome:
    """Deploy a model; first repair an earlier deployment that was killed.

    Args:
        plan: model, target and limits.
        run_step: runs each step.

    Raises:
        UserError: another deployment is running, a file is missing, the disk is full, or the server does not respond
            before the change. Nothing was changed.
    """
    if not plan.model.is_file():
        raise UserError(f"deploy: the model {plan.model} does not exist; nothing was changed")
    plan = replace(plan, golden=plan.golden or plan.model.with_name(GOLDEN_FILE), label=plan.label or str(plan.model))
    assert plan.golden is not None
    golden = read_golden(plan.golden)
    deployed = DeployedFile(plan.target)
    with deployed.locked():
        repaired = run_step("repair", lambda: _repair(deployed, plan))
        outcome = _deploy(plan, golden, deployed, run_step)
    return replace(outcome, repaired=repaired)


def repair(plan: Plan) -> Outcome:
    """Roll back the change of a deployment that was killed, if there is one.

    Args:
        plan: target and server; the model is not used.

    Raises:
        UserError: another deployment is running, or the previous file cannot be restored.
    """
    deployed = DeployedFile(plan.target)
    if not deployed.folder.is_dir():
        return Outcome("nothing-to-repair", f"{plan.target} was never deployed", deployed.current())
    with deployed.locked():
        message = _repair(deployed, plan)
        if not message:
            return Outcome("nothing-to-repair", "no deployment was interrupted", deployed.current())
        return Outcome("rolled-back", message, deployed.current(), message)


def _deploy(plan: Plan, golden: GoldenSet, deployed: DeployedFile, run_step: Step) -> Outcome:
    """Try the model, and after it the float32 file beside it if the model fails on the processor."""
    failed: list[str] = []
    last: Outcome | None = None
    for model in _candidates(plan.model):
        tried = replace(plan, model=model, label=plan.label if model == plan.model else f"{plan.label} ({model.name})")
        if digest_of(model) == deployed.current():
            last = run_step("verify", partial(_verify_unchanged, tried, golden, deployed))
        elif problem := run_step(f"check {model.name} here", partial(check_here, tried)):
            failed.append(f"{model.name} fails on this machine: {problem}")
            continue
        else:
            last = _change(tried, golden, deployed, run_step)
        if last.succeeded:
            words = f"{'; '.join(failed)}; therefore {model.name} is used. " if failed else ""
            return replace(last, message=words + last.message)
        failed.append(last.message)
        if last.outcome != "rolled-back":
            break
    message = "; ".join(failed)
    if last is not None:
        return replace(last, message=message)
    return Outcome("refused", f"{message}; nothing was changed", deployed.current())


def _candidates(model: Path) -> list[Path]:
    """Return the model, and the float32 file beside it if that differs."""
    beside = model.with_name(FALLBACK)
    return [model, beside] if beside.is_file() and digest_of(beside) != digest_of(model) else [model]


def check_here(plan: Plan) -> str:
    """Load the model in a subprocess and compare it with the golden images; return the problem, empty if it passes."""
    command = [sys.executable, "-m", "stages.deployment.local_check", str(plan.model), str(plan.golden), plan.engine]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=LOCAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it was not checked within {LOCAL_SECONDS:g} s"
    if done.returncode:
        code = done.returncode
        reason = done.stderr.strip()[-300:] or "no message"
        return f"loading it crashed the process ({signal.Signals(-code).name if code < 0 else reason})"
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return "" if result["passed"] else result["message"]


def _change(plan: Plan, golden: GoldenSet, deployed: DeployedFile, run_step: Step) -> Outcome:
    """Replace the deployed file, check the server, and roll back if a check fails."""
    model, golden_file = plan.model, plan.golden
    assert golden_file is not None
    client, first = _client(plan), not deployed.current()
    baseline = None
    if client is not None:
        baseline = run_step("measure before", lambda: _baseline(client, golden, plan, first))
    change = run_step("copy", lambda: deployed.prepare(model, golden_file, plan.label))
    deployed.begin(change)
    try:
        run_step("replace", lambda: deployed.replace(change))
        words = run_step("check the server", lambda: _check_server(plan, golden, change, client, baseline))
        deployed.finish(change, "deployed", words)
    except ReplacedByOthers as error:
        deployed.finish(change, "not-rolled-back", str(error))
        return Outcome("not-rolled-back", str(error), deployed.current())
    except (CheckFailed, ServerError, OSError) as error:
        reason = str(error)
        return run_step("roll back", lambda: _roll_back(plan, deployed, change, reason))
    except BaseException as error:  # an interrupt, a cancellation or a bug
        deployed.restore(change)
        deployed.finish(change, "rolled-back", f"interrupted ({type(error).__name__}); the previous file was restored")
        raise
    return Outcome("deployed", f"{change.after[:SHORT]} is deployed: {words}", change.after)


def _client(plan: Plan) -> ServerClient | None:
    return ServerClient(plan.server, plan.key, plan.request_seconds) if plan.server else None


def _baseline(client: ServerClient, golden: GoldenSet, plan: Plan, first: bool) -> Baseline | None:
    """Return the values before the change; None for the first deployment if the server is not running yet."""
    try:
        return measure_baseline(client, golden, plan.baseline_seconds)
    except ServerError as error:
        if first and not error.status:
            return None
        raise UserError(
            f"deploy: the server does not respond before the change ({error}); nothing was changed: start it, or omit "
            "its address to replace the file without checks of a server"
        ) from None


def _check_server(
    plan: Plan, golden: GoldenSet, change: Change, client: ServerClient | None, baseline: Baseline | None
) -> str:
    """Return what was checked in words; raise CheckFailed or ServerError if a check fails."""
    if client is None:
        return "it passed its golden images on this machine; no server was checked, because none was named"
    if baseline is None:
        return f"it passed its golden images on this machine; no server responds at {plan.server} yet"
    wait_for_model(client, change.after, baseline.start.refused_reloads, plan.load_seconds)
    verdict, sent = check_golden(client, golden, change.after, plan.load_seconds)
    watched = monitor(client, golden, change.after, baseline, sent, plan.monitor_seconds, plan.max_slowdown)
    return f"over HTTP {verdict}; {watched}"


def _verify_unchanged(plan: Plan, golden: GoldenSet, deployed: DeployedFile) -> Outcome:
    """Return `unchanged`, or `refused` if a running server serves another model than its file."""
    digest, client = deployed.current(), _client(plan)
    words = f"{digest[:SHORT]} was deployed already"
    if client is None:
        return Outcome("unchanged", words, digest)
    try:
        wait_for_model(client, digest, client.traffic().refused_reloads, plan.load_seconds)
        verdict, _ = check_golden(client, golden, digest, plan.load_seconds)
    except (CheckFailed, ServerError) as error:
        return Outcome("refused", f"{words}, but the server fails its check: {error}", digest)
    return Outcome("unchanged", f"{words}, and the server serves it: over HTTP {verdict}", digest)


def _roll_back(plan: Plan, deployed: DeployedFile, change: Change, reason: str) -> Outcome:
    """Restore the previous file, and wait until the server serves it."""
    try:
        deployed.restore(change)
    except UserError as error:
        deployed.finish(change, "not-rolled-back", f"{reason}; {error}")
        return Outcome("not-rolled-back", f"{reason}; {error}", deployed.current())
    words = f"{reason}; rolled back to {change.before[:SHORT]}{_confirm(plan, deployed, change)}"
    if not change.before:
        words = f"{reason}; the file was removed, because there is no previous model: stop a server that has loaded it"
    deployed.finish(change, "rolled-back", words)
    return Outcome("rolled-back", words, deployed.current())


def _confirm(plan: Plan, deployed: DeployedFile, change: Change) -> str:
    """Return the result of the check of the server after a roll-back, in words that follow a sentence."""
    client = _client(plan)
    if client is None or not change.before:
        return ""
    try:
        wait_for_model(client, change.before, float("inf"), plan.load_seconds)
        golden_file = deployed.golden(change.before)
        if not golden_file.exists():
            return ", which the server serves"
        verdict, _ = check_golden(client, read_golden(golden_file), change.before, plan.load_seconds)
    except (CheckFailed, ServerError, UserError) as error:
        return f", but the server fails its check: {error}: restart the server"
    return f", which the server serves: over HTTP {verdict}"


def _repair(deployed: DeployedFile, plan: Plan) -> str:
    """Roll back a change that a killed deployment left; return what was done, empty if there was none."""
    change = deployed.pending()
    if change is None:
        return ""
    done = [row for row in deployed.history() if row["id"] == change.id]
    if done:
        deployed.finish(change, done[0]["outcome"], done[0]["message"])
        return ""
    reason = f"the deployment of {change.label} that began at {change.id} was killed"
    outcome = _roll_back(plan, deployed, change, reason)
    if outcome.outcome == "not-rolled-back":
        raise UserError(f"deploy: {outcome.message}")
    return outcome.message
