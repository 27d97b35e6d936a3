"""The flow against DVC, on toy repositories with real runs: `pytest tests/pipeline/test_flow.py`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect import State, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import TaskRun, TaskRunResult
from prefect.testing.utilities import prefect_test_harness
from ruamel.yaml import YAML

from flows import dvc_graph, supervisor
from flows.pipeline import pipeline
from flows.stage_runner import StageRunner
from stages.core.errors import UserError

PROJECT = Path(__file__).parents[2]
DIGITS = "data/raw/dvc.yaml:digits"
GRAPH = {DIGITS: [], "bright": [DIGITS], "dark": [DIGITS], "join": ["bright", "dark"]}
STAGE = """
import json, pathlib, sys, time
name, seconds, out = sys.argv[1:]
began = time.time()
print(name, "speaks")
time.sleep(float(seconds))
work = pathlib.Path("work", name)
work.mkdir(parents=True, exist_ok=True)
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


@pytest.fixture(scope="module", autouse=True)
def _api() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository with four stages and a sealed one, in which nothing has run."""
    root = tmp_path_factory.mktemp("fresh")
    files = {
        "stage.py": STAGE,
        "dvc.yaml": DVC_YAML,
        "data/raw/dvc.yaml": NESTED.format(name="digits", dep="stage.py", out="data/raw/digits"),
        "data/sealed/dvc.yaml": NESTED.format(name="unseal", dep="data/join", out="data/sealed/score"),
        "params.yaml": (PROJECT / "params.yaml").read_text(),
        ".gitignore": "work/\nfail-*\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    assert dvc(root, "init", "-q").returncode == 0
    return root


@pytest.fixture(scope="module")
def first(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """A copy of it after one run of the flow, and the run's state. Not to be changed."""
    root = copy(fresh, tmp_path_factory.mktemp("first"))
    return root, run(root)


@pytest.fixture
def toy(fresh: Path, tmp_path: Path) -> Path:
    """A fresh copy, to be changed."""
    return copy(fresh, tmp_path)


@pytest.fixture
def done(first: tuple[Path, State], tmp_path: Path) -> Path:
    """A copy after one run of the flow, to be changed."""
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


def eventually(what: Any, seconds: float = 60) -> Any:
    """The first true answer; the API records runs and logs some moments after they happened."""
    deadline = time.monotonic() + seconds
    while not (answer := what()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def flow_run(state: State) -> UUID:
    assert state.state_details.flow_run_id
    return state.state_details.flow_run_id


def tasks(state: State, count: int = len(GRAPH)) -> dict[str, TaskRun]:
    """Return the task runs of a flow run by stage, from the Prefect API."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run(state)]))

    def settled() -> list[TaskRun]:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=of_run)
        ended = [t for t in found if t.state and (t.state.is_final() or t.state.name == "NotReady")]
        return ended if len(ended) == count else []

    found = eventually(settled)
    assert len(found) == count
    return {task.name: task for task in found}


def times(root: Path, stage: str) -> tuple[float, float]:
    """Return the start and end of a stage's command, from its own output."""
    began, ended = json.loads((root / "work" / stage / "times.json").read_text())
    return began, ended


def names(state: State) -> dict[str, str | None]:
    return {stage: task.state_name for stage, task in tasks(state).items()}


def test_tasks_and_their_dependencies_are_those_of_dvcs_graph(first: tuple[Path, State]) -> None:
    found = tasks(first[1])
    names_by_id = {task.id: name for name, task in found.items()}
    edges = {
        name: sorted(names_by_id[up.id] for up in task.task_inputs.get("wait_for", []) if isinstance(up, TaskRunResult))
        for name, task in found.items()
    }
    dry = dvc(first[0], "repro", "--dry", "--force").stdout.splitlines()
    assert sorted(edges) == sorted(line.split("'")[1] for line in dry if line.startswith("Running stage"))
    assert edges == GRAPH


def test_every_stage_starts_after_those_it_depends_on(first: tuple[Path, State]) -> None:
    with chdir(first[0]):
        order = list(dvc_graph.load())
    assert all(order.index(up) < order.index(stage) for stage, ups in GRAPH.items() for up in ups)
    assert times(first[0], "join")[0] > max(times(first[0], "dark")[1], times(first[0], "bright")[1])


def test_independent_stages_run_side_by_side(first: tuple[Path, State]) -> None:
    (dark_began, dark_ended), (bright_began, bright_ended) = times(first[0], "dark"), times(first[0], "bright")
    assert max(dark_began, bright_began) < min(dark_ended, bright_ended)


def test_the_sealed_stage_is_not_run(first: tuple[Path, State]) -> None:
    assert not any("unseal" in stage for stage in tasks(first[1]))
    assert not (first[0] / "data/sealed/score").exists()
    assert not (first[0] / "data/sealed/dvc.lock").exists()


def test_a_target_runs_with_what_it_depends_on_and_nothing_else(toy: Path) -> None:
    with chdir(toy):
        assert dvc_graph.load(["dark"]) == {DIGITS: [], "dark": [DIGITS]}
        with pytest.raises(UserError, match=r"drak is not a stage of dvc\.yaml; did you mean `dark`\?"):
            dvc_graph.load(["drak"])


def test_the_sealed_stage_is_refused_as_a_target(toy: Path) -> None:
    state = run(toy, "data/sealed/dvc.yaml:unseal")
    assert state.is_failed() and "data/sealed/dvc.yaml:unseal is not a stage of dvc.yaml" in str(state.message)
    assert not (toy / "data/raw/digits").exists()


def test_stages_speak_in_the_log(first: tuple[Path, State]) -> None:
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run(first[1])]))

    def spoken() -> bool:
        with get_client(sync_client=True) as client:
            return "join speaks" in {log.message for log in client.read_logs(of_run)}

    assert eventually(spoken, 20)


def test_states_tell_ran_unchanged_and_restored_apart(done: Path, first: tuple[Path, State]) -> None:
    assert names(first[1]) == dict.fromkeys(GRAPH, "Ran")
    assert names(run(done)) == dict.fromkeys(GRAPH, "Unchanged")
    (done / "data/join").unlink()
    (done / "dvc.lock").unlink()
    restored = run(done)
    assert restored.is_completed()
    assert names(restored) == {**dict.fromkeys(GRAPH, "Restored"), DIGITS: "Unchanged"}


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


def test_a_shut_gate_names_its_findings_in_state_and_artifact(toy: Path) -> None:
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


def test_findings_of_an_earlier_run_are_not_shown_again(toy: Path) -> None:
    (toy / "work/dark").mkdir(parents=True)
    (toy / "work/dark/blocked.md").write_text("Old findings.")
    (toy / "stage.py").write_text("raise ValueError('broken')")
    message = run(toy, "dark").message or ""
    assert "ValueError: broken" in message and "Old findings" not in message


def test_a_mistake_in_the_params_is_told_before_anything_runs(toy: Path) -> None:
    params = toy / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 12", "epochz: 12"))
    flow = start_flow(toy)
    said, _ = flow.communicate()
    assert flow.returncode == 1
    assert said.startswith("error: ") and "epochz" in said and "Traceback" not in said
    assert not (toy / "data/raw/digits").exists()


def test_a_second_run_in_the_same_workspace_is_refused_with_the_pid_of_the_first(done: Path) -> None:
    with chdir(done), dvc_graph.lock_workspace():
        flow = start_flow(done)
        said, _ = flow.communicate()
    assert flow.returncode == 1
    assert said.startswith(f"error: another run (pid {os.getpid()}) is using {done}") and "Traceback" not in said


def test_a_stage_waits_for_a_path_that_another_process_holds(toy: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    (toy / ".dvc/tmp").mkdir(exist_ok=True)
    said: list[str] = []
    with chdir(toy), dvc_graph.lock_workspace() as lock:
        note = {"pid": other.pid, "cmd": "dvc"}
        dvc_graph.RWLOCK.write_text(json.dumps({"read": {str(toy / "data/raw/digits"): [note]}}))
        line = StageRunner(lock)
        stage = threading.Thread(target=line.reproduce, args=(DIGITS, said.append))
        stage.start()
        assert eventually(lambda: any("waits for" in words for words in said))
        other.kill()
        other.wait()
        stage.join()
    assert line.outcomes[DIGITS].ending == "Ran"


def test_notes_of_killed_dvc_processes_are_dropped_and_those_of_living_ones_heeded(toy: Path) -> None:
    with chdir(toy):
        dvc_graph.RWLOCK.parent.mkdir(exist_ok=True)
        reused = {"pid": os.getpid(), "cmd": "dvc repro"}
        dvc_graph.RWLOCK.write_text(json.dumps({"write": {str(toy / "data/dark"): reused}}))
        with dvc_graph.lock_workspace():
            assert not dvc_graph.RWLOCK.exists()
        living = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "dvc"])
        dvc_graph.RWLOCK.write_text(json.dumps({"read": {"x": [{"pid": living.pid, "cmd": "dvc pull"}]}}))
        try:
            with pytest.raises(UserError, match=rf"`dvc pull` \(pid {living.pid}\)"), dvc_graph.lock_workspace():
                pass
        finally:
            living.kill()
            living.wait()


def slow_flow(toy: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A flow with two stages that would take a minute, in the midst of both; and all processes it started."""
    (toy / "dvc.yaml").write_text(DVC_YAML.replace(" 1.5 ", " 60 "))
    flow = start_flow(toy)

    def sleeping() -> bool:
        below = [p.cmdline() for p in psutil.Process(flow.pid).children(recursive=True) if p.status() != "zombie"]
        return flow.poll() is not None or sum("stage.py" in words[1:2] for words in below) == 2

    assert eventually(sleeping) and flow.poll() is None, flow.communicate()[0]
    below = psutil.Process(flow.pid).children(recursive=True)
    assert len(below) >= 6  # two guards, two dvc, two stages
    return flow, below


def test_a_killed_flow_leaves_neither_process_nor_lock(toy: Path) -> None:
    flow, below = slow_flow(toy)
    flow.kill()
    flow.communicate()
    (toy / "dvc.yaml").write_text(DVC_YAML.replace(" 1.5 ", " 0 "))
    assert run(toy).is_completed()  # waits for the stages of the killed one to end
    assert psutil.wait_procs(below, timeout=5)[1] == []


def test_a_killed_flow_leaves_no_prefect_server(tmp_path: Path) -> None:
    env = {**environment(), "PREFECT_HOME": str(tmp_path)}
    del env["PREFECT_API_URL"]
    code = "from flows import api; api.connect(); input()"
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE) as process:

        def server() -> list[psutil.Process]:
            below = psutil.Process(process.pid).children(recursive=True)
            return below if any(p.cmdline()[1:3] == ["-m", "uvicorn"] for p in below) else []

        below = eventually(server)
        process.kill()
    assert below and psutil.wait_procs(below, timeout=20)[1] == []


def test_an_interrupted_flow_ends_its_stages_and_says_so(toy: Path) -> None:
    flow, below = slow_flow(toy)
    flow.send_signal(signal.SIGINT)
    said, _ = flow.communicate(timeout=90)  # a busy machine is slow to end a server
    assert flow.returncode == 130
    assert said.rstrip().endswith("stopped") and said.count("the flow was stopped") == 2
    assert psutil.wait_procs(below, timeout=5)[1] == []
    assert json.loads((toy / ".dvc/tmp/rwlock").read_text()) == {}


def test_a_guarded_command_that_ignores_the_interrupt_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = "import signal, time; signal.signal(2, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from flows import guard; supervisor.PATIENCE = 0.5; "
    code += f"import os; sys.exit(supervisor.main(os.getppid(), [sys.executable, '-c', {stubborn!r}]))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGKILL


def test_a_progress_bar_gives_one_line_now_and_then() -> None:
    bar = "import sys, time\nfor i in range(60): sys.stderr.write(f'\\r{i} of 60'); sys.stderr.flush(); time.sleep(.02)"
    bar += "\nprint(); print('no end', end='')"
    with supervisor.start([sys.executable, "-u", "-c", bar], dict(os.environ)) as process:
        assert process.stdout is not None
        said = list(supervisor.lines(process.stdout, every=0.5))
    assert said[-2:] == ["59 of 60", "no end"]
    assert 2 <= len(said) <= 5
