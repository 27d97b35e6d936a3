"""Tests of the flow with real runs of DVC in toy repositories: `pytest tests/pipeline/test_flow.py`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import psutil
import pytest
from prefect import State, flow_engine, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import TaskRun, TaskRunResult
from ruamel.yaml import YAML

from flows import dvc_graph, supervisor
from flows.pipeline import end_without_waiting_for_heartbeats, pipeline
from flows.stage_runner import Outcome, StageRunner
from stages.core.errors import UserError

PROJECT = Path(__file__).parents[2]
DIGITS = "data/raw/dvc.yaml:digits"
GRAPH = {DIGITS: [], "bright": [DIGITS], "dark": [DIGITS], "join": ["bright", "dark"]}
pytestmark = pytest.mark.usefixtures("prefect_api")
STAGE = """
import json, pathlib, sys, time
name, seconds, out = sys.argv[1:]
began = time.time()
print(name, "speaks")
work = pathlib.Path("work", name)
work.mkdir(parents=True, exist_ok=True)
(work / "started").touch()
time.sleep(float(seconds))
if pathlib.Path("meet").exists() and name in ("dark", "bright"):  # wait for the other one
    other = pathlib.Path("work", {"dark": "bright", "bright": "dark"}[name], "started")
    while time.time() < began + 60 and not other.exists():
        time.sleep(0.1)
(work / "times.json").write_text(json.dumps([began, time.time()]))
if pathlib.Path(f"fail-{name}").exists():
    (work / "blocked.md").write_text("# Blocked\\n\\n1 finding blocks:\\n\\n- 7 pictures are black\\n\\nMore.\\n")
    (work / "blocked.png").write_bytes(b"not really a picture")
    sys.exit("error: the gate is shut\\n7 pictures are black")
pathlib.Path(out).write_text(name)
"""
DVC_YAML = """
stages:
  dark:
    cmd: python stage.py dark 1.5 data/dark
    deps: [data/raw/digits]
    outs: [data/dark]
  bright:
    cmd: python stage.py bright 1.5 data/bright
    deps: [data/raw/digits]
    outs: [data/bright]
  join:
    cmd: python stage.py join 0 data/join
    deps: [data/dark, data/bright]
    outs: [data/join]
"""
NESTED = """
stages:
  {name}:
    wdir: ../..
    cmd: python stage.py {name} 0 {out}
    deps: [{dep}]
    outs: [{out}]
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Git and DVC repository with four stages and a sealed one, none of which has run."""
    root = tmp_path_factory.mktemp("fresh")
    files = {
        "stage.py": STAGE,
        "dvc.yaml": DVC_YAML,
        "data/raw/dvc.yaml": NESTED.format(name="digits", dep="stage.py", out="data/raw/digits"),
        "data/sealed/dvc.yaml": NESTED.format(name="unseal", dep="data/join", out="data/sealed/score"),
        "params.yaml": (PROJECT / "params.yaml").read_text(),
        ".gitignore": "work/\nfail-*\nmeet\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    assert dvc(root, "init", "-q").returncode == 0
    return root


@pytest.fixture(scope="module")
def first(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """Copy of `fresh` after one run of the flow, and the state of the run. Tests must not change it."""
    root = copy(fresh, tmp_path_factory.mktemp("first"))
    (root / "meet").touch()
    state = run(root)
    (root / "meet").unlink()
    return root, state


@pytest.fixture
def toy(fresh: Path, tmp_path: Path) -> Path:
    """Copy of `fresh` for tests that change it."""
    return copy(fresh, tmp_path)


@pytest.fixture
def done(first: tuple[Path, State], tmp_path: Path) -> Path:
    """Copy of `first` for tests that change it."""
    return copy(first[0], tmp_path)


def copy(root: Path, into: Path) -> Path:
    return shutil.copytree(root, into / "toy", symlinks=True)


def run(root: Path, *targets: str) -> State:
    with chdir(root):
        state: State = pipeline(list(targets), return_state=True)
    return state


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this project and uses the API of the tests."""
    from prefect.settings import PREFECT_API_URL

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT), "PREFECT_API_URL": str(PREFECT_API_URL.value())}


def dvc(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)


def start_flow(root: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.pipeline"],
        cwd=root,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def eventually(function: Callable[[], Any], seconds: float = 60) -> Any:
    """Call a function until its result is true, because the API records runs and logs with a delay."""
    deadline = time.monotonic() + seconds
    while not (result := function()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result


def flow_run(state: State) -> UUID:
    assert state.state_details.flow_run_id
    return state.state_details.flow_run_id


def tasks(state: State, count: int = len(GRAPH)) -> dict[str, TaskRun]:
    """Return the task runs of a flow run by stage, from the Prefect API."""
    run_filter = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run(state)]))

    def ended_tasks() -> list[TaskRun]:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=run_filter)
        ended = [t for t in found if t.state and (t.state.is_final() or t.state.name == "NotReady")]
        return ended if len(ended) == count else []

    found = eventually(ended_tasks)
    assert len(found) == count
    return {task.name: task for task in found}


def times(root: Path, stage: str) -> tuple[float, float]:
    """Return the start and end of the command of a stage, as the command recorded them."""
    began, ended = json.loads((root / "work" / stage / "times.json").read_text())
    return began, ended


def names(state: State) -> dict[str, str | None]:
    return {stage: task.state_name for stage, task in tasks(state).items()}


def dependencies(found: dict[str, TaskRun]) -> dict[str, list[str]]:
    """Return the stages for which the task of each stage waits, as the Prefect API shows them."""
    names_by_id = {task.id: name for name, task in found.items()}
    return {
        name: sorted(names_by_id[up.id] for up in task.task_inputs.get("wait_for", []) if isinstance(up, TaskRunResult))
        for name, task in found.items()
    }


def test_tasks_and_dependencies_equal_those_of_the_dvc_graph(first: tuple[Path, State]) -> None:
    edges = dependencies(tasks(first[1]))
    dry = dvc(first[0], "repro", "--dry", "--force").stdout.splitlines()
    assert sorted(edges) == sorted(line.split("'")[1] for line in dry if line.startswith("Running stage"))
    assert edges == GRAPH


def test_every_stage_starts_after_its_dependencies(first: tuple[Path, State]) -> None:
    with chdir(first[0]):
        order = list(dvc_graph.load())
    assert all(order.index(up) < order.index(stage) for stage, ups in GRAPH.items() for up in ups)
    assert times(first[0], "join")[0] > max(times(first[0], "dark")[1], times(first[0], "bright")[1])


def test_independent_stages_run_in_parallel(first: tuple[Path, State]) -> None:
    (dark_began, dark_ended), (bright_began, bright_ended) = times(first[0], "dark"), times(first[0], "bright")
    assert max(dark_began, bright_began) < min(dark_ended, bright_ended)


def test_the_sealed_stage_is_not_run(first: tuple[Path, State]) -> None:
    assert not any("unseal" in stage for stage in tasks(first[1]))
    assert not (first[0] / "data/sealed/score").exists()
    assert not (first[0] / "data/sealed/dvc.lock").exists()


def test_a_target_runs_only_with_its_dependencies(toy: Path) -> None:
    with chdir(toy):
        assert dvc_graph.load(["dark"]) == {DIGITS: [], "dark": [DIGITS]}
        with pytest.raises(UserError, match=r"drak is not a stage of dvc\.yaml; did you mean `dark`\?"):
            dvc_graph.load(["drak"])


def test_the_sealed_stage_is_rejected_as_a_target(toy: Path) -> None:
    state = run(toy, "data/sealed/dvc.yaml:unseal")
    assert state.is_failed() and "data/sealed/dvc.yaml:unseal is not a stage of dvc.yaml" in str(state.message)
    assert not (toy / "data/raw/digits").exists()


def test_the_output_of_stages_is_logged(first: tuple[Path, State]) -> None:
    log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run(first[1])]))

    def logged() -> bool:
        with get_client(sync_client=True) as client:
            return "join speaks" in {log.message for log in client.read_logs(log_filter)}

    assert eventually(logged, 20)


def test_states_distinguish_ran_unchanged_and_restored(done: Path, first: tuple[Path, State]) -> None:
    assert names(first[1]) == dict.fromkeys(GRAPH, "Ran")
    assert names(run(done)) == dict.fromkeys(GRAPH, "Unchanged")
    (done / "data/join").unlink()
    (done / "dvc.lock").unlink()
    restored = run(done)
    assert restored.is_completed()
    assert names(restored) == {**dict.fromkeys(GRAPH, "Restored"), DIGITS: "Unchanged"}


def test_stages_that_are_up_to_date_are_recorded_without_a_check_in_a_task(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Mock(side_effect=dvc_graph.unchanged)
    monkeypatch.setattr(dvc_graph, "unchanged", check)
    (done / "dvc.yaml").write_text(DVC_YAML.replace("join 0", "join 0.1"))
    found = tasks(run(done))
    states = {stage: task.state_name for stage, task in found.items()}
    assert states == {**dict.fromkeys(GRAPH, "Unchanged"), "join": "Ran"}
    check.assert_called_once_with("join")
    assert dependencies(found) == GRAPH
    assert all(task.start_time and task.end_time for task in found.values())


def test_a_stage_after_one_that_must_run_is_not_skipped_beforehand(done: Path) -> None:
    (done / "dvc.yaml").write_text(DVC_YAML.replace("dark 1.5", "dark 0"))
    with chdir(done), dvc_graph.lock_workspace():
        assert dvc_graph.unchanged("join")  # for now: "dark" may change what it reads
        graph, skipped = dvc_graph.load_with_checks()
    assert graph == GRAPH and set(skipped) == {DIGITS, "bright"}


def test_a_flow_sends_heartbeats_and_ends_without_waiting_for_their_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_engine, "_send_heartbeats", flow_engine._send_heartbeats)  # restored after the test
    end_without_waiting_for_heartbeats()
    sender: list[threading.Thread] = []
    engine: Any = Mock(heartbeat_seconds=30, flow_run=None)
    engine._build_heartbeat_event_template.return_value = ({}, [])
    engine._emit_flow_run_heartbeat.side_effect = lambda *_: sender.append(threading.current_thread())
    with flow_engine._send_heartbeats(engine):
        assert eventually(lambda: sender, 10)
    assert sender[0].is_alive()  # it sleeps for a second after each heartbeat
    sender[0].join(10)
    assert not sender[0].is_alive()


def test_dvc_repro_after_the_flow_does_nothing(done: Path) -> None:
    lock = (done / "dvc.lock").read_bytes()
    assert "Data and pipelines are up to date." in dvc(done, "repro").stdout
    assert (done / "dvc.lock").read_bytes() == lock


def test_the_flow_after_dvc_repro_does_nothing_and_both_write_the_same_lock(
    toy: Path, first: tuple[Path, State]
) -> None:
    assert dvc(toy, "repro").returncode == 0
    assert names(run(toy)) == dict.fromkeys(GRAPH, "Unchanged")
    for lock in ("dvc.lock", "data/raw/dvc.lock"):
        by_repro, by_flow = (YAML(typ="safe").load(root / lock) for root in (toy, first[0]))
        assert by_repro["stages"] and by_repro == by_flow


def test_state_and_artifact_contain_the_findings_of_a_failed_gate(toy: Path) -> None:
    (toy / "dvc.yaml").write_text(DVC_YAML.replace(" 1.5 ", " 0 "))
    (toy / "fail-dark").touch()
    state = run(toy)
    assert state.is_failed() and state.message is not None
    assert "`dark`: 1 finding blocks:\n- 7 pictures are black" in state.message
    assert "Not run: join" in state.message
    found = tasks(state)
    assert {stage: task.state_name for stage, task in found.items()} == {
        DIGITS: "Ran",
        "bright": "Ran",
        "dark": "Failed",
        "join": "NotReady",
    }
    assert found["dark"].state and found["dark"].state.message == "error: the gate is shut\n7 pictures are black"
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["dark-blocked"]))
        )
    assert "7 pictures are black" in str(artifact.data)
    assert "](data:image/png;base64,bm90IHJlYWxseSBhIHBpY3R1cmU=)" in str(artifact.data)
    assert artifact.task_run_id == found["dark"].id


SCORES = {
    "scores": {
        "accuracy": {"value": 0.9, "low": 0.85, "high": 0.94},
        "auc": {"value": 0.97, "low": None, "high": None},
    },
    "objective": {"score": "accuracy", "at_least": 0.8, "at_most": None, "met": True},
}


def artifact_data(key: str, state: State) -> list[Any]:
    """Return the data of the artifacts with a key that a flow run published."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return [artifact.data for artifact in found if artifact.flow_run_id == flow_run(state)]


def test_a_run_publishes_scores_and_report_unless_nothing_ran(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACULA_REPORT_URL", "http://reports.example/index.html")
    for file, text in {
        "evaluate/scores.json": json.dumps(SCORES),
        "evaluate/errors.png": "errors",
        "report/index.html": "<title>report</title>",
    }.items():
        (done / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (done / "data" / file).write_text(text)
    assert artifact_data("scores", run(done)) == []
    (done / "dvc.yaml").write_text(DVC_YAML.replace("join 0", "join 0.1"))
    state = run(done)
    (errors,) = artifact_data("errors", state)
    assert str(errors).strip() == "![images with the largest errors](data:image/png;base64,ZXJyb3Jz)"
    (table,) = artifact_data("scores", state)
    assert json.loads(table) == [
        {"score": "accuracy", "value": 0.9, "interval": "0.850 to 0.940", "objective": "at least 0.8 (met)"},
        {"score": "auc", "value": 0.97, "interval": "", "objective": ""},
    ]
    assert "http://reports.example/index.html" in artifact_data("report", state)[0]


def test_a_long_stage_publishes_its_progress(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.stage_progress.INTERVAL", 0.5)
    stage = toy / "stage.py"
    printed = 'print("epoch 3/12  loss", flush=True); time.sleep(0.6); print("epoch 6/12  loss", flush=True)'
    stage.write_text(stage.read_text().replace("time.sleep(float(seconds))", f"time.sleep(0.6); {printed}"))
    (progress,) = artifact_data("dark-progress", run(toy, "dark"))
    assert progress == 100
    (toy / "dvc.yaml").write_text(DVC_YAML.replace(" 1.5 ", " 1 "))
    stage.write_text(
        stage.read_text().replace('(work / "times', "name == 'dark' and sys.exit('error: broken')\n(work / \"times")
    )
    (progress,) = artifact_data("dark-progress", run(toy, "dark"))
    assert progress == 50


def test_a_run_with_unreadable_scores_completes(done: Path) -> None:
    (done / "data/evaluate").mkdir()
    (done / "data/evaluate/scores.json").write_text("{")
    (done / "dvc.yaml").write_text(DVC_YAML.replace("join 0", "join 0.1"))
    state = run(done)
    assert state.is_completed() and artifact_data("scores", state) == []


def test_findings_of_an_earlier_run_are_not_reported_again(toy: Path) -> None:
    (toy / "work/dark").mkdir(parents=True)
    (toy / "work/dark/blocked.md").write_text("Old findings.")
    (toy / "stage.py").write_text("raise ValueError('broken')")
    message = run(toy, "dark").message or ""
    assert "ValueError: broken" in message and "Old findings" not in message


def test_findings_are_reported_although_the_clock_was_set_back_in_the_stage(toy: Path) -> None:
    (toy / "fail-dark").touch()
    stage = toy / "stage.py"
    aged = 'import os\n    os.utime(work / "blocked.md", (0, 0))'
    stage.write_text(stage.read_text().replace('    sys.exit("error', f'    {aged}\n    sys.exit("error'))
    message = run(toy, "dark").message or ""
    assert "- 7 pictures are black" in message


def test_invalid_params_are_reported_before_any_stage_runs(toy: Path) -> None:
    params = toy / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 12", "epochz: 12"))
    flow = start_flow(toy)
    output, _ = flow.communicate()
    assert flow.returncode == 1
    assert output.startswith("error: ") and "epochz" in output and "Traceback" not in output
    assert not (toy / "data/raw/digits").exists()


def test_a_second_run_in_a_workspace_fails_with_the_pid_of_the_first(done: Path) -> None:
    with chdir(done), dvc_graph.lock_workspace():
        flow = start_flow(done)
        output, _ = flow.communicate()
    assert flow.returncode == 1
    assert output.startswith(f"error: another run (pid {os.getpid()}) is using {done}") and "Traceback" not in output


def test_a_stage_waits_for_a_path_locked_by_another_process(toy: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    (toy / ".dvc/tmp").mkdir(exist_ok=True)
    messages: list[str] = []
    with chdir(toy), dvc_graph.lock_workspace() as lock:
        holder = {"pid": other.pid, "cmd": "dvc"}
        dvc_graph.RWLOCK.write_text(json.dumps({"read": {str(toy / "data/raw/digits"): [holder]}}))
        runner = StageRunner(lock)
        stage = threading.Thread(target=runner.reproduce, args=(DIGITS, messages.append))
        stage.start()
        assert eventually(lambda: any("waiting for another stage" in message for message in messages))
        other.kill()
        other.wait()
        stage.join()
    assert runner.outcomes[DIGITS].ending == "Ran"


def test_locks_of_killed_dvc_processes_are_removed_and_others_respected(toy: Path) -> None:
    with chdir(toy):
        dvc_graph.RWLOCK.parent.mkdir(exist_ok=True)
        reused_pid = {"pid": os.getpid(), "cmd": "dvc repro"}
        dvc_graph.RWLOCK.write_text(json.dumps({"write": {str(toy / "data/dark"): reused_pid}}))
        with dvc_graph.lock_workspace():
            assert not dvc_graph.RWLOCK.exists()
        running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "dvc"])
        dvc_graph.RWLOCK.write_text(json.dumps({"read": {"x": [{"pid": running.pid, "cmd": "dvc pull"}]}}))
        try:
            with pytest.raises(UserError, match=rf"`dvc pull` \(pid {running.pid}\)"), dvc_graph.lock_workspace():
                pass
        finally:
            running.kill()
            running.wait()


def reproduce_digits(toy: Path, script: str, limit: float | None = None) -> tuple[Outcome, list[str]]:
    """Run the stage `digits` with a script instead of stage.py; return its outcome and its log."""
    (toy / "stage.py").write_text(script)
    messages: list[str] = []
    with chdir(toy), dvc_graph.lock_workspace() as lock:
        return StageRunner(lock, limit).reproduce(DIGITS, messages.append), messages


FAIL_ONCE = """
import os, pathlib, signal, sys

if not pathlib.Path("work").exists():
    pathlib.Path("work").mkdir()
    {failure}
pathlib.Path(sys.argv[3]).write_text("done")
"""


@pytest.mark.parametrize(
    ("failure", "shell"),
    [
        ("sys.exit('error: https://host/weights: Connection reset by peer')", "/bin/sh"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "/bin/sh"),  # on Debian dash, which exits with 137
        ("os.kill(os.getpid(), signal.SIGKILL)", "/bin/bash"),  # is replaced by the command: exits with -9
    ],
)
def test_a_stage_is_run_again_after_a_temporary_failure(
    toy: Path, failure: str, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", shell)
    monkeypatch.setattr("flows.stage_runner.RETRY_SECONDS", (0.1,))
    outcome, messages = reproduce_digits(toy, FAIL_ONCE.format(failure=failure))
    assert outcome.ending == "Ran" and (toy / "data/raw/digits").read_text() == "done"
    assert "the failure may be temporary: trying again in 0.1 s" in messages


def test_a_stage_is_not_run_again_after_an_error_of_the_user(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.stage_runner.RETRY_SECONDS", (0.1,))
    outcome, messages = reproduce_digits(toy, FAIL_ONCE.format(failure="sys.exit('error: decoding timed out')"))
    assert (outcome.ending, outcome.words) == ("Failed", "error: decoding timed out")
    assert not [message for message in messages if "trying again" in message]


def test_a_stage_that_exceeds_the_time_limit_is_stopped(toy: Path) -> None:
    outcome, _ = reproduce_digits(toy, "import time; time.sleep(60)", limit=2)
    assert outcome.ending == "Failed" and outcome.seconds < 40
    assert outcome.words.startswith("error: the stage was stopped after 2.0 s, the time limit stage_hours")


def test_a_damaged_lock_file_is_replaced_and_no_stage_runs_again(done: Path) -> None:
    (done / "dvc.lock").write_text("schema: '2.0'\nstages:\n  dark:\n   cmd: [")
    assert names(run(done)) == {**dict.fromkeys(GRAPH, "Restored"), DIGITS: "Unchanged"}
    assert (done / "dvc.lock.damaged").is_file()


def slow_flow(toy: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """Start a flow with two stages of a minute each; return it while both run, with all processes that it started."""
    (toy / "dvc.yaml").write_text(DVC_YAML.replace(" 1.5 ", " 60 "))
    flow = start_flow(toy)

    def both_run() -> bool:
        commands = [p.cmdline() for p in psutil.Process(flow.pid).children(recursive=True) if p.status() != "zombie"]
        return flow.poll() is not None or sum("stage.py" in words[1:2] for words in commands) == 2

    assert eventually(both_run) and flow.poll() is None, flow.communicate()[0]
    children = psutil.Process(flow.pid).children(recursive=True)
    assert len(children) >= 6  # two supervisors, two dvc, two stages
    return flow, children


def test_a_killed_flow_leaves_no_process_and_no_lock(toy: Path) -> None:
    flow, children = slow_flow(toy)
    flow.kill()
    flow.communicate()
    (toy / "dvc.yaml").write_text(DVC_YAML.replace(" 1.5 ", " 0 "))
    assert run(toy).is_completed()  # waits until the stages of the killed flow have ended
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_a_killed_flow_leaves_no_prefect_server(tmp_path: Path) -> None:
    env = {**environment(), "PREFECT_HOME": str(tmp_path)}
    del env["PREFECT_API_URL"]
    code = "from flows import api; api.connect(); input()"
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE) as process:

        def server() -> list[psutil.Process]:
            children = psutil.Process(process.pid).children(recursive=True)
            return children if any(p.cmdline()[1:3] == ["-m", "uvicorn"] for p in children) else []

        children = eventually(server)
        process.kill()
    assert children and psutil.wait_procs(children, timeout=20)[1] == []


def test_an_interrupted_flow_stops_its_stages_and_reports_it(toy: Path) -> None:
    flow, children = slow_flow(toy)
    flow.send_signal(signal.SIGINT)
    output, _ = flow.communicate(timeout=90)  # stopping the server takes long on a busy machine
    assert flow.returncode == 130
    assert output.rstrip().endswith("stopped") and output.count("the flow was stopped") == 2
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert json.loads((toy / ".dvc/tmp/rwlock").read_text()) == {}


def test_a_supervised_command_that_ignores_the_interrupt_is_killed() -> None:
    stubborn = "import signal, time; signal.signal(2, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from flows import supervisor; supervisor.PATIENCE = 0.5; "
    )
    code += f"import os; sys.exit(supervisor.main(os.getppid(), [sys.executable, '-c', {stubborn!r}]))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGKILL


def test_a_progress_bar_is_reduced_to_a_few_lines() -> None:
    bar = "import sys, time\nfor i in range(60): sys.stderr.write(f'\\r{i} of 60'); sys.stderr.flush(); time.sleep(.02)"
    bar += "\nprint(); print('no end', end='')"
    with supervisor.start([sys.executable, "-u", "-c", bar], dict(os.environ)) as process:
        assert process.stdout is not None
        output = list(supervisor.lines(process.stdout, every=0.5))
    assert output[-2:] == ["59 of 60", "no end"]
    assert 2 <= len(output) <= 5
