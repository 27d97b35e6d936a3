"""Start the services, restart those that end, and stop all of them on a signal."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.services import process_records
from infra.services.process_records import Record
from infra.services.service_list import Service
from stages.core.errors import UserError

DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before a restart, by the number of failures in a row; the last one repeats."""
STABLE = 60.0
"""Seconds after which a running service counts as recovered, so that its next restart is immediate again."""
LOG_BYTES = 20_000_000
"""Size at which the log of a service is copied to NAME.log.1 and emptied."""

RUN_SECONDS = 40.0
"""Time limit in seconds for a run to end its stages; the supervisor of a stage kills it after 20 s."""
REPORT_SECONDS = 2.0
"""Time in seconds for the worker to report how its runs ended."""


@dataclass
class Running:
    """State of a service."""

    service: Service
    process: subprocess.Popen[bytes]
    began: float
    restarts: int = 0
    failures: int = 0
    """Restarts in a row without a stable phase."""
    due: float | None = None
    """Time of the next start after the process has ended; None while it runs."""


class Supervisor:
    """Keeps services running until a signal requests a stop."""

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        """Create a supervisor.

        Args:
            folder: folder for logs and records.
            report: function that shows one line to the user.
        """
        self.folder = folder
        self.stopping = threading.Event()
        self._report = report
        self._running: dict[str, Running] = {}
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def start(self, service: Service) -> None:
        """Start a service and wait until it is healthy.

        Raises:
            UserError: its port is in use, or it ended or was not healthy in time; with the end of its log.
        """
        if service.port is not None:
            _check_port(service)
        running = Running(service, self._launch(service), time.monotonic())
        self._running[service.name] = running
        self._write_records()
        deadline = running.began + service.startup
        while not self.stopping.is_set():
            ended = running.process.poll() is not None
            if not ended and service.healthy():
                self._report(f"{service.name:9} {service.address}  ({time.monotonic() - running.began:.0f} s)")
                return
            if ended or time.monotonic() > deadline:
                problem = "ended" if ended else f"was not healthy within {service.startup:.0f} s"
                raise UserError(
                    f"{service.name} {problem}; its log {self.log(service.name)}:\n{self._tail(service.name)}"
                )
            self.stopping.wait(0.2)

    def watch(self) -> None:
        """Restart services that end, until a stop is requested."""
        while not self.stopping.wait(0.3):
            for running in self._running.values():
                self._check(running)

    def stop(self) -> None:
        """Stop all services, last started first."""
        for running in reversed(self._running.values()):
            if running.process.poll() is None:
                if running.service.children_first:
                    _stop_children(running.process.pid)
                running.process.send_signal(running.service.stop)
                with suppress(subprocess.TimeoutExpired):
                    running.process.wait(running.service.patience)
            _kill_session(running.process)
        self._running.clear()
        process_records.write(self.folder, {})

    def log(self, name: str) -> Path:
        """Return the file with the output of a service."""
        return self.folder / "logs" / f"{name}.log"

    def _check(self, running: Running) -> None:
        name, now = running.service.name, time.monotonic()
        if running.due is None:
            self._limit_log(name)
            code = running.process.poll()
            if code is None:
                return
            running.failures = 0 if now - running.began > STABLE else running.failures + 1
            delay = DELAYS[min(running.failures, len(DELAYS) - 1)]
            running.due = now + delay
            self._report(f"{name} ended with status {code}; it starts again in {delay:.0f} s")
        elif now >= running.due:
            running.process, running.began, running.due = self._launch(running.service), now, None
            running.restarts += 1
            self._write_records()

    def _launch(self, service: Service) -> subprocess.Popen[bytes]:
        user, group = service.user or (None, None)
        with self.log(service.name).open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the supervisor only, which stops services in order.
            return subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=service.environment,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
            )

    def _limit_log(self, name: str) -> None:
        log = self.log(name)
        if log.stat().st_size > LOG_BYTES:
            log.with_suffix(".log.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)  # the service appends to the same file

    def _tail(self, name: str) -> str:
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])

    def _write_records(self) -> None:
        records = {
            name: Record.of(one.process.pid, one.service.address, one.restarts)
            for name, one in self._running.items()
            if one.process.poll() is None
        }
        process_records.write(self.folder, {"supervisor": Record.of(os.getpid()), **records})


def stop_on_signals(supervisor: Supervisor) -> None:
    """Request a stop on SIGINT, SIGTERM and SIGHUP."""

    def request(_number: int, _frame: object) -> None:
        supervisor.stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, request)


def _stop_children(pid: int) -> None:
    """Stop the runs of a worker; the worker, which ends them without a report itself, marks them as crashed."""
    runs = psutil.Process(pid).children()
    for run in runs:
        with suppress(psutil.NoSuchProcess):
            run.terminate()
    if runs:
        psutil.wait_procs(runs, timeout=RUN_SECONDS)
        time.sleep(REPORT_SECONDS)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the session of a service."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _check_port(service: Service) -> None:
    assert service.port is not None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", service.port))
        except OSError:
            raise UserError(
                f"port {service.port} of {service.name} is in use by {_listener(service.port)}; end that program, or "
                f"choose another port with --{service.name}-port"
            ) from None


def _listener(port: int) -> str:
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            with suppress(psutil.Error, TypeError):
                found = psutil.Process(connection.pid)
                return f"pid {found.pid} ({found.name()})"
    return "another program"
