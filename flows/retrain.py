"""Train on new data and make the new model the champion if it is better: `python -m flows.retrain [KEY=VALUE...]`.

Each run works in its own clone below the state folder (flows/state.py) and never changes a checkout. Data and commit
that were trained on before are not trained on again. A run that was killed is resumed by the next one with the same
data. The result of a run is one atomic push: a branch `retrain/...` with dvc.lock, split table and record, the tag of
the version, and the tag of the champion if it is promoted.
"""

import errno
import json
import os
import shutil
import sys
import time
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field
from ruamel.yaml import YAML

from flows import api, registry, retrain_records, source_listing, state, supervisor, workspaces
from flows.command import arguments
from flows.git_commands import CommandFailed, dvc, environment, git
from flows.promotion import Decision, decide
from flows.remote_files import is_remote
from flows.restored_outputs import remove_damaged_lists
from flows.retrain_records import Record, Request
from stages.config.edit import edited
from stages.core.errors import UserError
from stages.core.interrupts import raise_from_now_on

if __name__ == "__main__":  # Prefect reads the environment when it is imported
    wait_for_api = api.connect()

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.states import Completed, Failed

from flows.result_artifacts import embedded
from flows.stage_runner import last_output
from flows.stage_tasks import blocked, run_pipeline, summary

MAX_CONFLICTS = 3
"""Number of times that a run decides again because another run has registered a version in the meantime."""
DATA_STAGES = ("ingest", "validate", "audit", "gate")
"""Stages that fail because of the data, if their message is an error of the user."""
MACHINE_ERRORS = tuple(
    os.strerror(code)
    for code in (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
        *(errno.EACCES, errno.EPERM, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH),
    )
)
"""Errors of the system in the message of a stage whose cause is not in the data."""
RUN_FILES = ("params.yaml", "dvc.lock", "data/dvc.lock", "data/splits")
"""Files of a completed run that are committed with its record."""
PUSH_PAUSES = (5, 30, 120)
"""Pauses in seconds before a push to the DVC remote is repeated."""


@dataclass(frozen=True)
class Options:
    """Options of a run that concern its decision and its record."""

    min_gain: float
    max_slowdown: float
    push: bool
    again: bool


@flow(name="retrain", persist_result=False)
def retrain(
    source: Annotated[
        str,
        Field(description="Folder, archive or URL such as s3://bucket/prefix; empty for ingest.source of params.yaml."),
    ] = "",
    revision: Annotated[
        str, Field(description="Branch, tag or commit of the project to train; HEAD for its default branch.")
    ] = "HEAD",
    min_gain: Annotated[
        float, Field(ge=0, description="Smallest gain of the score for a promotion, in units of the score.")
    ] = 0.0,
    max_slowdown: Annotated[
        float, Field(gt=0, description="Largest duration of a prediction, as a multiple of that of the champion.")
    ] = 1.25,
    stage_hours: Annotated[
        float | None, Field(gt=0, description="Time limit for each stage, in hours; empty for no limit.")
    ] = None,
    push: Annotated[
        bool, Field(description="Push data and model to the default remote of DVC, if there is one.")
    ] = True,
    again: Annotated[bool, Field(description="Train even if commit and data were trained on before.")] = False,
) -> State:
    """Train on the data of a source, compare the model with the champion, and promote it if it is better.

    It is promoted only if its score on the same validation images is better by more than noise, it is not much slower,
    and no check reports a new problem. Otherwise the champion stays, and the message gives the reason.
    """
    options = Options(min_gain, max_slowdown, push, again)
    try:
        with state.full_disk_explained():
            return _retrain(source, revision, options, stage_hours)
    except UserError as error:
        return Failed(message=f"error: {error}")


def _unchanged(request: Request, options: Options) -> State | None:
    """Return the state of a run whose commit and data were trained on before; None if the run has to train."""
    if options.again:
        return None
    record = retrain_records.find(retrain_records.refreshed_mirror(request.repository), request.key)
    if record is None:
        return None
    _remove_workspace(request)
    words = f"commit {request.commit[:10]} was trained on these data on {record.ended[:10]}: "
    return Completed(name="Unchanged", message=f"{words}{record.decision['result']}, {record.decision['reason']}")


def _retrain(source: str, revision: str, options: Options, stage_hours: float | None) -> State:
    request = find_data(state.repository(), revision, source)
    if known := _unchanged(request, options):
        return known
    with state.lock(f"retrain-{request.key}", f"the workspace of this commit and these data ({request.key})"):
        return _run(request, options, stage_hours)


def _run(request: Request, options: Options, stage_hours: float | None) -> State:
    folder = prepare_workspace(request, str(Path.cwd() / "data/weights"))
    with chdir(folder):  # the paths of the state folder may be relative to the folder of the project
        trained, outcomes = run_pipeline(None, stage_hours)
        failed = {stage: outcome for stage, outcome in outcomes.items() if outcome.ending == "Failed"}
        reasons = [
            f"{stage}: {summary(blocked(stage)) or outcome.words}"
            for stage, outcome in failed.items()
            if blocked(stage) or _is_error_of_the_data(stage, outcome.words)
        ]
    if trained.is_completed():
        return _finish(request, options, folder)
    if not reasons or len(reasons) < len(failed):
        return Failed(message=f"{trained.message}\n\nThe next run with the same data resumes in {folder}.")
    decision = Decision("stopped", f"the data stopped the pipeline: {'; '.join(reasons)}")
    record_run(request, folder, decision, None, None)
    return _report(request, folder, decision, None)


def _finish(request: Request, options: Options, folder: Path) -> State:
    """Compare, decide and record; decide again if another run has registered a version in the meantime.

    If that run, on another machine, had the same commit and data, its record counts.
    """
    if options.push:
        push_data(folder)
    for attempt in range(MAX_CONFLICTS):
        if known := _unchanged(request, options):
            return known
        registry.refresh(folder)
        name = registry.model_name(request.data)
        champion = registry.assigned(folder, name, "champion")
        decision = compare_with_champion(request, folder, champion, options.min_gain, options.max_slowdown)
        try:
            version = record_run(request, folder, decision, name, champion)
        except registry.Conflict as error:
            if attempt == MAX_CONFLICTS - 1:
                raise
            get_run_logger().info("%s: deciding again", error)
        else:
            return _report(request, folder, decision, version)
    raise AssertionError("the last attempt returns or raises")


@task(name="find data", task_run_name="find data", cache_policy=NO_CACHE, persist_result=False)
def find_data(repository: str, revision: str, source: str) -> Request:
    """Find the commit to train and list the files of the source.

    Args:
        repository: path or URL of the git repository.
        revision: branch, tag or commit; HEAD for the default branch.
        source: folder, archive or URL; empty for `ingest.source` of params.yaml.
    """
    request = retrain_records.request_for(repository, revision, source)
    get_run_logger().info(
        "commit %s, %d files in %s, key %s",
        request.commit[:10], len(request.files), source or "the source of params.yaml", request.key,
    )  # fmt: skip
    return request


@task(name="prepare workspace", task_run_name="prepare workspace", cache_policy=NO_CACHE, persist_result=False)
def prepare_workspace(request: Request, weights: str) -> Path:
    """Return the clone for a request with its data, split table and weights; one that a killed run left is kept."""
    folder = _workspace(request)
    complete = folder.with_name(f"{folder.name}.complete")
    if not complete.is_file():
        workspaces.clone(request.repository, request.commit, folder)
        table = retrain_records.split_table(retrain_records.refreshed_mirror(request.repository), request)
        if table is not None:
            (folder / "data/splits" / f"{request.data}.json").write_text(table, encoding="utf-8")
        if Path(weights).is_dir():
            shutil.copytree(weights, folder / "data/weights", dirs_exist_ok=True)
    else:
        get_run_logger().info("resuming in %s", folder)
        workspaces.remove_stale_locks(folder)
    _fetch_source(request, folder)
    if damaged := remove_damaged_lists(state.cache()):
        get_run_logger().warning("removed from the cache, because it is damaged: %s", ", ".join(map(str, damaged)))
    complete.touch()
    return folder


@task(name="push data", task_run_name="push data", cache_policy=NO_CACHE, persist_result=False)
def push_data(folder: Path) -> None:
    """Push the outputs of all stages to the default remote of DVC; it is repeated if the remote fails."""
    if not workspaces.remote(folder):
        get_run_logger().warning("no default remote of DVC: data and model are only in the cache %s", state.cache())
        return
    for pause in (*PUSH_PAUSES, None):
        try:
            dvc("push", cwd=folder)
        except CommandFailed as error:
            if pause is None:
                raise
            get_run_logger().warning("%s; trying again in %d s", error, pause)
            time.sleep(pause)
        else:
            return


@task(name="compare with champion", task_run_name="compare with champion", cache_policy=NO_CACHE, persist_result=False)
def compare_with_champion(
    request: Request, folder: Path, champion: registry.Version | None, min_gain: float, max_slowdown: float
) -> Decision:
    """Compare the model of a workspace with the champion on the same validation images, and decide.

    Args:
        request: commit and data of the run.
        folder: workspace in which the pipeline has completed.
        champion: current champion; None if there is none.
        min_gain: smallest gain of the score for a promotion.
        max_slowdown: largest ratio of the durations of one prediction.
    """
    if champion is None:
        return decide(folder, None, None, min_gain=min_gain, max_slowdown=max_slowdown)
    current = workspaces.model_of(request.repository, champion)
    output = folder / "work/comparison"
    shutil.rmtree(output, ignore_errors=True)
    command = ["stages.compare_models", "data/ingest", "data/export", str(current / "data/export"), str(output)]
    code, printed = supervisor.output_of([sys.executable, "-m", *command], environment(), folder)
    for line in printed.splitlines():
        get_run_logger().info(line)
    error = last_output(printed.splitlines())
    if code and not _is_error_of_the_user(error):  # nothing is recorded: the next run compares again
        reason = state.full_disk_in(printed, folder) or error
        raise UserError(f"the models were not compared (exit code {code}): {reason}")
    if code:
        reason = error.removeprefix("error: ")
        return decide(
            folder, current, None, min_gain=min_gain, max_slowdown=max_slowdown,
            incomparable=f"{champion.tag} cannot be compared: {reason}",
        )  # fmt: skip
    comparison = json.loads((output / "comparison.json").read_text())
    return decide(folder, current, comparison, min_gain=min_gain, max_slowdown=max_slowdown)


@task(name="record", task_run_name="record", cache_policy=NO_CACHE, persist_result=False)
def record_run(
    request: Request, folder: Path, decision: Decision, name: str | None, champion: registry.Version | None
) -> registry.Version | None:
    """Commit the record, register the version if there is a model, and publish both with one push.

    Args:
        request: commit and data of the run.
        folder: workspace of the run.
        decision: decision about its model.
        name: name of the model in the registry; None if the pipeline did not complete.
        champion: version with which it was compared; None if there was none.

    Raises:
        registry.Conflict: another run has registered a version of this name in the meantime.
    """
    branch = retrain_records.new_branch(request.key)
    git("checkout", "--quiet", "-B", branch, cwd=folder)
    git("reset", "--quiet", "--mixed", request.commit, cwd=folder)  # an earlier attempt may have committed
    number = _next_number(folder, name) if name else None
    record = Record(
        request.key,
        request.data,
        request.commit,
        request.source,
        len(request.files),
        decision.as_json(),
        number,
        champion.number if champion else None,
        datetime.now(UTC).isoformat(timespec="seconds"),
        {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("data/*/metrics.json"))},
    )
    (folder / retrain_records.RECORD).write_text(record.as_json(), encoding="utf-8")
    recorded = [retrain_records.RECORD] if name is None else [retrain_records.RECORD, *RUN_FILES]
    git("add", "--", *(file for file in recorded if (folder / file).exists()), cwd=folder)
    title = f"Retrain {request.data}: {decision.result}"
    git("commit", "--quiet", "--no-verify", "--message", f"{title}\n\n{decision.reason}", cwd=folder)
    refs: list[str] = []
    version = None
    if name is not None:
        version = registry.register(folder, name, git("rev-parse", "HEAD", cwd=folder), f"{title}. {decision.reason}")
        refs.append(f"refs/tags/{version.tag}")
        if decision.result == "promoted":
            tag = registry.assign(folder, version, "champion", decision.reason)
            refs += [f"refs/tags/{tag}"] if tag else []
    # Git creates the refs in this order: if the machine stops in between, no branch says that the data were trained on.
    registry.publish(folder, [*refs, f"refs/heads/{branch}"])
    return version


def _next_number(folder: Path, name: str) -> str:
    """Return the number that the next version of a model gets."""
    known = registry.versions(folder, name)
    return f"v0.0.{1 + int(known[-1].number.rpartition('.')[2])}" if known else "v0.0.1"


def _report(request: Request, folder: Path, decision: Decision, version: registry.Version | None) -> State:
    """Publish the artifact and the event of a decision, remove the workspace, and return the state of the flow."""
    report = _keep_report(request, folder)
    name = registry.model_name(request.data)
    words = f"{version.tag} {decision.result}: {decision.reason}" if version else decision.reason
    lines = [f"# {decision.result.capitalize()}", words, *(f"- {c.name}: {c.message}" for c in decision.checks)]
    lines += [f"Report: `{report}`"] if report else []
    if decision.result == "held" and version:
        lines.append(
            f"To promote it: `gto assign {name} --version {version.number} --stage champion`, then push the tag."
        )
    picture = embedded(folder / "work/comparison/differences.png", "images for which one model is wrong")
    create_markdown_artifact(key=f"retrain-{name}", markdown="\n\n".join(lines) + picture, description=decision.reason)
    emit_event(
        event="macula.retrained",
        resource={"prefect.resource.id": f"macula.model.{name}"},
        payload={"result": decision.result, "reason": decision.reason, "version": version.number if version else None},
    )
    _remove_workspace(request)
    if decision.result == "stopped":
        return Failed(name="Stopped", message=f"{words}\n\nThe champion stays.")
    return Completed(name=decision.result.capitalize(), message=words)


def _is_error_of_the_data(stage: str, words: str) -> bool:
    """Return whether a stage failed because of the data, and not because of the machine or a fault of the program."""
    return stage in DATA_STAGES and _is_error_of_the_user(words)


def _is_error_of_the_user(words: str) -> bool:
    elsewhere = (state.FULL_SENTENCE, "Traceback (most recent call last)", *MACHINE_ERRORS)
    return words.startswith("error: ") and not any(one in words for one in elsewhere)


def _workspace(request: Request) -> Path:
    return state.folder() / "workspaces" / request.key


def _remove_workspace(request: Request) -> None:
    folder = _workspace(request)
    folder.with_name(f"{folder.name}.complete").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _keep_report(request: Request, folder: Path) -> Path | None:
    """Copy the report page of a run out of its workspace; return the copy, or None if there is no report."""
    report = folder / "data/report"
    if not report.is_dir():
        return None
    kept = state.folder() / "reports" / f"{request.data}-{request.key}"
    shutil.rmtree(kept, ignore_errors=True)
    try:
        shutil.copytree(report, kept)
    except OSError as error:  # the result is published already
        get_run_logger().warning("the report page was not kept: %s", error)
        return None
    return kept / "index.html"


def _fetch_source(request: Request, folder: Path) -> None:
    """Make the files of the source available to the workspace, and let params.yaml name them."""
    if not request.source:
        return
    if is_remote(request.source):
        copy = state.folder() / "sources" / request.data
        with state.lock(f"source-{request.data}", str(copy), 3600):
            source_listing.mirror(request.source, copy, request.files)
            raw = folder / "data/raw" / request.data
            shutil.rmtree(raw, ignore_errors=True)
            # Links, because the copy replaces its files and never changes them.
            shutil.copytree(copy, raw, copy_function=_link)
        single = source_listing.is_single_file(request.source, request.files)
        used = f"data/raw/{request.data}" + (f"/{next(iter(request.files))}" if single else "")
    else:
        used = request.source
    params = folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    if YAML(typ="safe", pure=True).load(text)["ingest"]["source"] != used:
        params.write_text(edited(text, [{"ingest": {"source": used}}], "source"), encoding="utf-8")


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)


def main(words: list[str]) -> int:
    """Run the flow.

    Args:
        words: parameters as KEY=VALUE.

    Returns:
        0; 3 if the data stopped the pipeline or a person must decide; 130 after an interrupt; otherwise 1.

    Raises:
        RuntimeError: the temporary Prefect server did not start.
    """
    raise_from_now_on()
    wait_for_api()
    try:
        ended = retrain(**arguments(words, retrain.fn), return_state=True)
    except KeyboardInterrupt:
        print("stopped; repeat the command to resume", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{ended.name}: {ended.message}")
    return 3 if ended.name in ("Stopped", "Held") else 0 if ended.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
