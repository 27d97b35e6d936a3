"""Scheduler and worker processes of Dask on this machine."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.retrain_demo.demo_services import free_ports
from tests.conftest import ROOT
from tests.service_project import environment

DASK = str(Path(sys.executable).parent / "dask")


@dataclass
class Cluster:
    """A running cluster."""

    address: str
    scheduler: psutil.Popen
    workers: list[psutil.Popen]

    def children(self) -> list[psutil.Process]:
        """Return the processes that the workers have started for their parts."""
        return [child for worker in self.workers if worker.is_running() for child in worker.children()]


@contextmanager
def running_cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """Run a scheduler and workers with one thread each.

    Args:
        folder: current folder of the processes; their output is written there.
        workers: number of worker processes.
    """
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    variables = environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "dask.log").open("w") as log:

        def start(*words: str) -> psutil.Popen:
            return psutil.Popen([DASK, *words, "--no-dashboard"], cwd=folder, env=variables, stdout=log, stderr=log)

        started = [start("scheduler", "--host", address)]
        try:
            words = ("worker", address, "--nthreads", "1", "--no-nanny")
            started.extend(start(*words) for _ in range(workers))
            yield Cluster(address, started[0], started[1:])
        finally:
            for process in reversed(started):
                if process.poll() is None:
                    process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
