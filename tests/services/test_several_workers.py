"""Runs of `retrain` on several machines of one work pool, each with folders of its own: `make test-services`."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from flows.git_commands import git
from infra.services import postgres
from infra.services.service_list import S3
from tests import toy_project
from tests.conftest import ROOT
from tests.service_project import Services, create_project, environment, eventually, open_folder, record

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
NAMES = ("one", "two", "three")


@dataclass
class Machine:
    """A worker with its own state, cache and clone of the code; it runs one flow at a time."""

    name: str
    folder: Path
    services: Services
    repository: str
    hold: Path
    process: psutil.Popen | None = field(default=None)

    def start(self) -> None:
        """Start the worker as the guide describes."""
        self.folder.mkdir()
        variables = {
            "MACULA_PROJECT": str(self.services.root), "MACULA_REPOSITORY": self.repository,
            "MACULA_STATE": str(self.folder / "state"), "MACULA_CACHE": str(self.folder / "cache"),
            "TOY_HOLD": str(self.hold), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
            "PREFECT_HOME": str(self.folder / "prefect"), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        }  # fmt: skip
        settings = " ".join(f"{name}='{value}'" for name, value in variables.items())
        command = f'. {self.services.folder}/environment.sh; exec env {settings} "$@"'
        worker = ["prefect", "worker", "start", "--pool", "macula", "--type", "process", "--limit", "1"]
        with (self.folder / "worker.log").open("w") as log:
            self.process = psutil.Popen(
                ["sh", "-c", command, "sh", sys.executable, "-m", *worker, "--name", self.name],
                cwd=self.services.root, env=environment(), stdout=log, stderr=log,
            )  # fmt: skip

    def workspaces(self) -> list[Path]:
        return [folder for folder in (self.folder / "state/workspaces").glob("*") if folder.is_dir()]

    def trains(self) -> bool:
        """Return whether the training of a run has begun."""
        return any((folder / "data/audit").is_dir() for folder in self.workspaces())

    def runs(self) -> list[psutil.Process]:
        assert self.process is not None
        return self.process.children()

    def kill(self) -> list[psutil.Process]:
        """End the worker and its run with -9, as a power failure does; return the processes that the run leaves."""
        assert self.process is not None
        runs = self.runs()
        stages = [stage for run in runs for stage in run.children(recursive=True)]
        self.process.kill()
        for run in runs:
            run.kill()
        self.process.wait(10)
        return stages

    def stop(self) -> None:
        if self.process is not None and self.process.is_running():
            left = [self.process, *self.process.children(recursive=True)]
            self.process.terminate()
            for process in psutil.wait_procs(left, timeout=30)[1]:
                process.kill()


@dataclass
class Team:
    """Services without a worker, a bare repository, and machines."""

    services: Services
    repository: Path
    machines: list[Machine]
    hold: Path

    def arrive(self, source: str, text: str) -> str:
        """Store a data set in the bucket for images and return its URL."""
        status, body = self.services.s3("PUT", f"/macula-images/{source}/batch-0.txt", text.encode())
        assert status == 200, body
        return f"s3://macula-images/{source}"

    def submit(self, source: str) -> str:
        return self.services.submit("retrain", source=source)

    def ended(self, run: str, seconds: float = 180) -> str:
        """Wait until a run has ended and return the name of its state."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        eventually(lambda: self.services.api(f"flow_runs/{run}")["state"]["type"] in final, seconds)
        return self.services.state(run)

    def versions(self) -> list[str]:
        return [tag for tag in git("tag", "--list", cwd=self.repository).split() if "@" in tag]

    def branches(self) -> list[str]:
        return git("branch", "--list", "retrain/*", "--format=%(refname:short)", cwd=self.repository).split()

    def logs(self, run: str) -> str:
        body = {"logs": {"flow_run_id": {"any_": [run]}}}
        return "\n".join(line["message"] for line in self.services.api("logs/filter", body))

    def about(self, *runs: str) -> str:
        """Return what is known about runs, for the message of a failed assertion."""
        states = [str(self.services.api(f"flow_runs/{run}")["state"]) for run in runs]
        files = [machine.folder / "worker.log" for machine in self.machines]
        return "\n".join([*states, *(file.read_text()[-2000:] for file in files if file.is_file())])


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    """Start services without a worker, and three machines of one pool."""
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if shutil.which("node") is None or not (S3 / "node_modules").is_dir():
        pytest.skip(f"the packages of {S3} are not installed: make services")
    with open_folder() as folder, ExitStack() as stack:
        root = create_project(folder / "code")
        shutil.copy(ROOT / "flows/retrain.py", root / "flows/retrain.py")
        toy_project.create(folder / "project", "data/raw/colours")
        git("clone", "--quiet", "--bare", str(folder / "project"), "team.git", cwd=folder)
        started = Services(root, workers=0, variables={"MACULA_RUNS": "3", "PYTHONPATH": str(ROOT)})
        started.start()
        stack.callback(started.stop)
        hold, repository = folder / "hold", f"file://{folder / 'team.git'}"
        machines = [Machine(name, folder / name, started, repository, hold) for name in NAMES]
        for machine in machines:
            stack.callback(machine.stop)
            machine.start()
        yield Team(started, folder / "team.git", machines, hold)


def test_three_machines_train_at_once_and_one_that_is_lost_delays_no_other(team: Team) -> None:
    team.hold.touch()
    sources = [team.arrive(name, f"3 held {name}") for name in NAMES]
    began = time.monotonic()
    runs = {source: team.submit(source) for source in sources}
    assert eventually(lambda: all(machine.trains() for machine in team.machines), 240), team.about(*runs.values())
    record("three runs of retrain on three workers of one pool", "all three train", time.monotonic() - began)
    assert [len(machine.workspaces()) for machine in team.machines] == [1, 1, 1]
    assert {team.services.state(run) for run in runs.values()} == {"Running"}
    lost = team.machines[1]
    (folder,) = lost.workspaces()
    source = sources[NAMES.index((folder / "data/raw/colours/batch-0.txt").read_text().split()[-1])]
    began = time.monotonic()
    left = lost.kill()
    assert left and not psutil.wait_procs(left, timeout=30)[1], "the stages end with their run"
    team.hold.unlink()
    for other in set(runs.values()) - {runs[source]}:
        assert team.ended(other) in ("Promoted", "Kept"), team.about(other)
    assert len(team.versions()) == 2
    assert team.ended(runs[source], 300) == "Crashed", team.about(runs[source])
    record(
        "worker and run on one of three machines killed with -9",
        "its run is marked as crashed",
        time.monotonic() - began,
    )
    again = team.submit(source)
    assert team.ended(again, 300) in ("Promoted", "Kept"), team.about(again)
    record(
        "worker and run on one of three machines killed with -9",
        "another machine has trained on its data",
        time.monotonic() - began,
    )
    assert sorted(tag.rpartition("@")[2] for tag in team.versions()) == ["v0.0.1", "v0.0.2", "v0.0.3"]


def test_of_two_runs_with_the_same_data_on_two_machines_one_is_recorded(team: Team) -> None:
    before = len(team.versions()), len(team.branches())
    team.hold.touch()
    source = team.arrive("same", "3 held")
    runs = [team.submit(source) for _ in range(2)]
    machines = [machine for machine in team.machines if machine.process and machine.process.is_running()]
    assert eventually(lambda: all(machine.trains() for machine in machines), 180), team.about(*runs)
    team.hold.unlink()
    ends = sorted(team.ended(run) for run in runs)
    assert ends in (["Kept", "Unchanged"], ["Promoted", "Unchanged"]), team.about(*runs)
    assert (len(team.versions()), len(team.branches())) == (before[0] + 1, before[1] + 1)
