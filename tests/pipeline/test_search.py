"""Search with Dask workers and PostgreSQL in a stage that is killed and resumed: `make test-search`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.storages import RDBStorage

from infra.services import postgres as cluster
from tests.conftest import ROOT, digit_images, prepare_digits, write_params
from tests.service_project import eventually, open_folder

pytestmark = [pytest.mark.search, pytest.mark.timeout(900)]
BIN = Path(sys.executable).parent
TUNED = {
    "train": {"batch_size": 8, "device": "cpu", "precision": "32-true", "memory_format": "channels_first"},
    "tune": {"trials": 8, "epochs": 2, "parallel_trials": 4, "finalists": 2, "repeats": 2},
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)  # on SIGTERM PostgreSQL waits for its clients
        process.wait(60)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server and yield its address."""
    if cluster.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    user, port = cluster.owner(), free_port()
    options: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with open_folder() as folder:
        cluster.create(folder, "password")
        with (
            (folder / "log.txt").open("wb") as log,
            running(cluster.command(folder, port), cwd=folder, stderr=log, **options),
        ):
            assert eventually(lambda: cluster.accepts(port), 30), (folder / "log.txt").read_text()
            yield f"postgresql+psycopg://{cluster.USER}:password@127.0.0.1:{port}/postgres"
        print((folder / "log.txt").read_text())


@pytest.fixture
def dask(project: Path) -> Iterator[str]:
    """Start a scheduler with two worker processes and yield its address."""
    address = f"tcp://127.0.0.1:{free_port()}"
    options: dict[str, Any] = {
        "env": environment(),
        "cwd": project,
        "stderr": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
    }
    with ExitStack() as stack:
        scheduler = [str(BIN / "dask"), "scheduler", "--host", address, "--no-dashboard"]
        stack.enter_context(running(scheduler, **options))
        for _ in range(2):
            worker = [str(BIN / "dask"), "worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
            stack.enter_context(running(worker, **options))
        yield address


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    images = digit_images(per_class=10, classes=3)
    prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16)
    write_params(folder, TUNED)
    (folder / "weights").mkdir()
    return folder


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def start(project: Path, **more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stages.tune", "ingested", "prepared", "weights", "tuned"]
    return subprocess.Popen(command, cwd=project, env=environment(**more))


def results(project: Path) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    trials = pd.read_csv(project / "tuned/trials.csv").drop(columns="seconds")
    return json.loads((project / "tuned/best.json").read_text()), trials, pd.read_csv(project / "tuned/finals.csv")


def test_a_killed_distributed_search_gives_the_result_of_one_process(project: Path, postgres: str, dask: str) -> None:
    assert start(project).wait(400) == 0
    best, trials, finals = results(project)
    assert len(trials) == 8 and not finals.empty
    shutil.rmtree(project / "work/tune")
    killed = 0
    for stored in (1, 5):  # in the first round, and in the second
        search = start(project, TUNE_DASK=dask, OPTUNA_STORAGE=postgres)
        while len(completed(postgres)) < stored:
            assert search.poll() is None, "the search ended before it was killed"
            time.sleep(0.2)
        search.send_signal(signal.SIGKILL)
        search.wait()
        killed += 1
    before = completed(postgres)
    assert start(project, TUNE_DASK=dask, OPTUNA_STORAGE=postgres).wait(400) == 0
    resumed = results(project)
    assert killed == 2 and resumed[0] == best
    pd.testing.assert_frame_equal(resumed[1], trials)
    pd.testing.assert_frame_equal(resumed[2], finals)
    after = completed(postgres)
    assert len(after) == 8 and sorted(after) == list(range(8)), "each trial is stored once"
    assert all(after[number] == seconds for number, seconds in before.items()), "completed trials are not run again"
    assert not (project / "work/tune").exists(), "all trials are in the database"


def completed(postgres: str) -> dict[int, float]:
    """Return the duration of every trial in the database by number."""
    storage = RDBStorage(postgres)
    try:
        studies = storage.get_all_studies()
        trials = storage.get_all_trials(studies[0]._study_id) if studies else []
    finally:
        storage.remove_session()
        storage.engine.dispose()
    return {trial.user_attrs["number"]: trial.user_attrs["outcome"]["seconds"] for trial in trials if trial.user_attrs}
