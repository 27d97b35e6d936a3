"""Supervision of services with toy programs: restarts, failures at the start, ports and logs."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from infra.services import keep_running, process_records
from infra.services.keep_running import Supervisor
from infra.services.process_records import Record
from infra.services.service_list import Service
from stages.core.errors import UserError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def toy(command: list[str], healthy: bool = True, **options: object) -> Service:
    return Service("toy", command, dict(os.environ), lambda: healthy, "nowhere", **options)  # type: ignore[arg-type]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, lines: list[str]) -> Supervisor:
    return Supervisor(tmp_path, lines.append)


def watch(supervisor: Supervisor, seconds: float) -> None:
    timer = threading.Timer(seconds, supervisor.stopping.set)
    timer.start()
    supervisor.watch()
    timer.join()


def test_a_service_that_ends_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(toy(SLEEP))
    first = process_records.read(tmp_path)["toy"].process()
    assert first
    first.kill()
    watch(supervisor, 3)
    record = process_records.read(tmp_path)["toy"]
    assert record.pid != first.pid and record.restarts == 1
    second = record.process()
    assert second
    supervisor.stop()
    assert not second.is_running() and process_records.read(tmp_path) == {}


def test_the_delay_between_restarts_grows_to_a_limit(
    supervisor: Supervisor, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_running, "DELAYS", (0.0, 0.0, 1.0, 9.0))
    supervisor.start(toy(["sh", "-c", f"test -e {tmp_path}/once && exit 3; touch {tmp_path}/once; sleep 0.6"]))
    watch(supervisor, 5)
    supervisor.stop()
    ends = [line for line in lines if "ended" in line]
    assert [line.split(" in ")[1] for line in ends] == ["0 s", "1 s", "9 s"]
    assert ends[1].startswith("toy ended with status 3")


def test_a_service_that_ends_at_the_start_is_reported_with_its_log(supervisor: Supervisor) -> None:
    with pytest.raises(UserError, match=r"toy ended; its log .*\nno space left"):
        supervisor.start(toy(["sh", "-c", "echo no space left; exit 1"], healthy=False))
    supervisor.stop()


def test_a_service_that_does_not_become_healthy_is_reported(supervisor: Supervisor) -> None:
    with pytest.raises(UserError, match=r"toy was not healthy within 1 s"):
        supervisor.start(toy(SLEEP, healthy=False, startup=0.6))
    supervisor.stop()


def test_a_port_in_use_is_reported_with_the_program(supervisor: Supervisor) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UserError, match=rf"in use by pid {os.getpid()} .*--toy-port"):
            supervisor.start(toy(SLEEP, port=other.getsockname()[1]))


def test_a_program_that_ignores_the_signal_is_killed_with_its_children(supervisor: Supervisor, tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/child; while true; do wait; done"
    supervisor.start(toy(["sh", "-c", script], patience=0.5))
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        time.sleep(0.05)
    child = psutil.Process(int((tmp_path / "child").read_text()))
    supervisor.stop()
    assert not psutil.wait_procs([child], timeout=5)[1]


def test_a_log_is_emptied_when_it_is_too_large(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_running, "LOG_BYTES", 1000)
    supervisor.start(toy(["sh", "-c", "head -c 1500 /dev/zero | tr '\\0' x; sleep 1; echo later; sleep 60"]))
    watch(supervisor, 2.5)
    supervisor.stop()
    assert (tmp_path / "logs/toy.log").read_text() == "later\n"
    assert (tmp_path / "logs/toy.log.1").read_text() == "x" * 1500


def test_one_supervisor_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    with process_records.lock(tmp_path):
        assert process_records.is_locked(tmp_path)
        with pytest.raises(UserError, match="already running"), process_records.lock(tmp_path):
            pass
    assert not process_records.is_locked(tmp_path)


def test_a_process_is_recognized_after_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as running:
        record = Record.of(running.pid)
        boot = psutil.boot_time()
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 3600)  # Linux computes it from the clock
        found = record.process()
        running.kill()
    assert found is not None and found.pid == running.pid
    assert record.process() is None
