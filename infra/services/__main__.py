"""Run the services for scheduled flows on one machine: `python -m infra.services [start|stop|status]`.

make services                                  # start; Ctrl-C stops
make services ARGUMENTS="--prefect-port 4300"
make services ARGUMENTS="--workers 3"         # on one pool; 0 if all workers run on other machines
make services-status
make services-stop
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from infra.services import postgres, process_records
from infra.services.keep_running import Supervisor, stop_on_signals
from infra.services.service_list import services
from infra.services.service_settings import (
    CLIENT_SECRETS,
    DATABASE,
    Settings,
    base_environment,
    client_environment,
    export_lines,
    load_secrets,
)
from stages.core.errors import UserError

STOP_SECONDS = 120.0
"""Time limit in seconds for a supervisor to stop its services."""


def start(settings: Settings) -> int:
    """Start the services, print how to use them, and keep them running until a signal.

    Returns:
        Exit code: 0 after a requested stop, 1 if a service does not start.
    """
    with process_records.lock(settings.folder):
        if left := process_records.stop_leftovers(settings.folder):
            print(f"stopped services of a supervisor that was killed: {', '.join(left)}", flush=True)
        known = load_secrets(settings)
        postgres.create(settings.folder / "postgres", known["MACULA_POSTGRES_PASSWORD"])
        supervisor = Supervisor(settings.folder, lambda line: print(line, flush=True))
        stop_on_signals(supervisor)
        try:
            _start_all(settings, known, supervisor)
            if not supervisor.stopping.is_set():
                _explain(settings)
            supervisor.watch()
        finally:
            supervisor.stop()
        print("all services stopped", flush=True)
    return 0


def stop(settings: Settings) -> int:
    """Stop the services of a folder, whether or not their supervisor is still running.

    Returns:
        Exit code 0.

    Raises:
        UserError: the supervisor does not end in time.
    """
    supervisor = process_records.read(settings.folder).get("supervisor")
    process = supervisor.process() if supervisor else None
    if process and process_records.is_locked(settings.folder):
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while process_records.is_locked(settings.folder):
            if time.monotonic() > deadline:
                raise UserError(
                    f"the supervisor (pid {process.pid}) did not stop its services within {STOP_SECONDS:.0f} s; see "
                    f"{settings.folder / 'logs'}"
                )
            time.sleep(0.2)
        print("all services stopped")
        return 0
    with process_records.lock(settings.folder):
        left = process_records.stop_leftovers(settings.folder)
        process_records.write(settings.folder, {})
    print(f"stopped {', '.join(left)}" if left else "no services are running")
    return 0


def status(settings: Settings) -> int:
    """Print one line per service.

    Returns:
        0 if all services are running, otherwise 1.
    """
    records = process_records.read(settings.folder)
    for name, record in records.items():
        state = "running" if record.process() else "ended"
        restarts = f", restarted {record.restarts} times" if record.restarts else ""
        print(f"{name:11} pid {record.pid:<8} {state}{restarts}  {record.address}")
    if not records:
        print(f"no services are running in {settings.folder}; `make services` starts them")
    return 0 if records and all(record.process() for record in records.values()) else 1


def _start_all(settings: Settings, known: dict[str, str], supervisor: Supervisor) -> None:
    for service in services(settings, known):
        if supervisor.stopping.is_set():
            return
        supervisor.start(service)
        if service.name == "postgres":
            postgres.create_database(settings.postgres_port, known["MACULA_POSTGRES_PASSWORD"], DATABASE)
        if service.name == "prefect":  # before the workers start
            _set_up_prefect(settings, known, supervisor)


def _set_up_prefect(settings: Settings, known: dict[str, str], supervisor: Supervisor) -> None:
    """Create the work pool, deployments, limits and automations, if they differ from those of this project."""
    environment = base_environment(settings) | client_environment(settings)
    environment |= {name: known[name] for name in CLIENT_SECRETS}
    done = subprocess.run([sys.executable, "-m", "infra.prefect_setup"], env=environment, check=False)
    if done.returncode and not supervisor.stopping.is_set():
        raise UserError("the deployments could not be created; see the message above")


def _explain(settings: Settings) -> None:
    file = settings.folder / "environment.sh"
    file.write_text(export_lines(settings))
    print(
        f"\nPages of Prefect: {settings.prefect_url} (the password is PREFECT_API_AUTH_STRING in "
        f"{settings.secrets_file})\nLogs: {settings.folder / 'logs'}\n\nIn another shell, `. {file}` runs:\n\n"
        f"{export_lines(settings)}\nCtrl-C stops all services.",
        flush=True,
    )


def main(words: list[str]) -> int:
    """Run a command of this program.

    Returns:
        Exit code of the command; 2 after an error that the user can fix.
    """
    parser = argparse.ArgumentParser(prog="python -m infra.services", description=(__doc__ or "").split(":")[0])
    parser.add_argument("command", nargs="?", default="start", choices=["start", "stop", "status"])
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("MACULA_SERVICES") or "work/services"),
                        help="data, logs and secrets; $MACULA_SERVICES, otherwise work/services")  # fmt: skip
    for name, port in (("prefect", 4200), ("postgres", 5470), ("s3", 9100)):
        parser.add_argument(f"--{name}-port", type=int, default=port, help=f"port of 127.0.0.1, otherwise {port}")
    parser.add_argument("--workers", type=int, default=1,
                        help="workers on this machine and runs of retrain at the same time, otherwise 1")  # fmt: skip
    given = vars(parser.parse_args(words))
    if given["workers"] < 0:
        parser.error(f"--workers {given['workers']} is negative; use 0 or more")
    command = {"start": start, "stop": stop, "status": status}[given.pop("command")]
    settings = Settings(given.pop("folder").absolute(), **given)
    try:
        return command(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
