"""Show scheduled retraining from the first batch of images to a rolled-back deployment: `make retrain-demo`.

In a clone of the project below `work/retrain-demo`, with services of its own: three batches arrive in the S3 store, and
a schedule starts three runs of `retrain`. Then `score` detects drift, which starts a fourth run; the champion is
released and deployed under load; a model that is too slow is rolled back. The decisions are those of the flows: the
demonstration checks them and fails if one differs. It ends with `timeline.png`. About ten minutes on two free cores.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.retrain_demo import digit_batches, slow_model
from infra.retrain_demo.demo_services import (
    ARRIVING,
    ROOT,
    SOURCE,
    Services,
    create_project,
    free_ports,
    remove_project,
)
from infra.retrain_demo.http_load import Load
from infra.retrain_demo.timeline import Bar, write_timeline
from stages.core.errors import UserError
from stages.core.interrupts import raise_from_now_on
from stages.deployment.golden_images import GOLDEN_FILE, read_golden
from stages.deployment.server_client import ServerClient, ServerError

FOLDER = ROOT / "work/retrain-demo"
MONITOR_SECONDS = 15
"""Time during which `deploy` watches the server."""
SERVER_SECONDS = 120.0
"""Time limit in seconds for the server to start."""


class Demonstration:
    """Steps of the demonstration, and a bar of the timeline for each."""

    def __init__(self, services: Services) -> None:
        """Create it.

        Args:
            services: running services.
        """
        self.services = services
        self.bars: list[Bar] = []

    def run(self) -> None:
        """Run all steps.

        Raises:
            UserError: the outcome of a step is not the expected one.
        """
        services = self.services
        services.upload(digit_batches.first_batch(), SOURCE)
        self.check("700 digits arrive", ["Promoted"], services.scheduled_run("retrain"))
        services.upload(digit_batches.second_batch(), SOURCE)
        self.check("40 more digits", ["Kept"], services.scheduled_run("retrain"))
        services.upload(digit_batches.confounded_batch(), SOURCE)
        self.check("scanned again, all threes brighter", ["Stopped"], services.scheduled_run("retrain"))
        services.upload(digit_batches.first_batch(), SOURCE)
        services.upload(digit_batches.second_batch(), SOURCE)
        services.upload(digit_batches.another_scanner(), SOURCE)
        services.upload(digit_batches.unlabelled_of_another_scanner(), ARRIVING)
        began = datetime.now(UTC)
        scored = services.run("score", source=ARRIVING, output="work/scored", model="champion")
        self.check("157 digits of another scanner", ["Drift"], scored)
        retrained = services.next_run("retrain", after=began)
        if (retrained["created_by"] or {}).get("type") != "AUTOMATION":
            raise UserError(
                f"another program started {retrained['name']}, not the automation: {retrained['created_by']}"
            )
        self.check("started by the drift", ["Promoted", "Held"], services.ended(retrained["id"]))
        if self.bars[-1].state == "Held":  # the data have a new warning, which a person accepts
            services.assign_champion(self.bars[-1].note)
        self.check("opens the test set once", ["Released"], services.run("release"))
        self.deploy()

    def deploy(self) -> None:
        """Deploy the first version, then the released one under load, then a model that is too slow."""
        target = self.services.project / "work/served/model.onnx"
        target.parent.mkdir(parents=True)
        place = {"to": str(target), "monitor_seconds": MONITOR_SECONDS}
        first = self.bars[0].note
        self.check("before the server starts", ["Deployed"], self.services.run("deploy", model=first, **place))
        with self.server(target) as address:
            image = read_golden(self.exported(first) / GOLDEN_FILE).images[0].data
            began = time.time()
            with Load(int(address.rpartition(":")[2]), image) as load:
                deployed = self.services.run("deploy", server=address, **place)
                self.check("the released version", ["Deployed"], deployed)
                (released,) = (bar.note for bar in self.bars if bar.lane == "release")
                slow = self.services.project / "work/slow"
                slow_model.slow_copy(self.exported(released) / "model.onnx", slow / "model.onnx")
                shutil.copy(self.exported(released) / GOLDEN_FILE, slow)
                refused = self.services.run("deploy", model=str(slow / "model.onnx"), server=address, **place)
                self.check("a model that is too slow", ["Rolled-back"], refused)
            self.bars.append(
                Bar(
                    "server",
                    "requests of clients",
                    "Served",
                    f"{load.sent:,} sent, {len(load.lost)} lost",
                    began,
                    time.time(),
                )
            )
            if load.lost:
                raise UserError(
                    f"{len(load.lost)} of {load.sent} requests were lost, the first because of {load.lost[0]}"
                )
        print(f"{load.sent:,} requests during both deployments, none lost", flush=True)

    def exported(self, version: str) -> Path:
        """Return the folder with the files of a version that a flow has fetched."""
        name, _, number = version.partition("@")
        return self.services.project / "work/flows/models" / name / number / "data/export"

    @contextmanager
    def server(self, model: Path) -> Iterator[str]:
        """Serve a model while the block runs, and yield the address."""
        (port,) = free_ports(1)
        log = self.services.project / "work/server.log"
        command = [sys.executable, "-m", "stages", "serve", str(model), "--port", str(port)]
        with (
            log.open("wb") as stream,
            subprocess.Popen(command, cwd=self.services.project, stdout=stream, stderr=stream) as process,
        ):
            try:
                address = f"http://127.0.0.1:{port}"
                _wait_for_server(address, log)
                yield address
            finally:
                process.terminate()

    def check(self, title: str, expected: list[str], run: dict[str, Any]) -> None:
        """Add the bar of a run and print it.

        Args:
            title: what the run worked on.
            expected: names of the state in which the run may have ended.
            run: ended run.

        Raises:
            UserError: the run ended otherwise.
        """
        began, ended = (_seconds(run[key]) for key in ("start_time", "end_time"))
        state, message = run["state"]["name"], run["state"]["message"] or ""
        flow = str(self.services.api(f"flows/{run['flow_id']}")["name"])
        bar = Bar(flow, title, state, _note(message), began, ended)
        print(
            f"{flow:8} {ended - began:4.0f} s  {title}: {state}. {message.splitlines()[0] if message else ''}",
            flush=True,
        )
        if state not in expected:
            raise UserError(f"{flow} ({title}) ended as {state}, expected {' or '.join(expected)}: {message}")
        self.bars.append(bar)


def _seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()


def _note(message: str) -> str:
    """Return the version that a message names, or an empty string."""
    return next((word.strip(".,:") for word in message.split() if "@v" in word), "")


def _wait_for_server(address: str, log: Path) -> None:
    client, deadline = ServerClient(address, "", 5.0), time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        with suppress(ServerError):
            client.model()
            return
        time.sleep(0.5)
    raise UserError(f"the server does not respond after {SERVER_SECONDS:.0f} s; see {log}")


def main(words: list[str]) -> int:
    """Run the demonstration.

    Returns:
        0; 1 if a step ended otherwise than expected, 130 after an interrupt.
    """
    parser = argparse.ArgumentParser(prog="make retrain-demo", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the clone and the timeline, replaced")
    parser.add_argument("--keep", action="store_true", help="keep the services running at the end until Ctrl-C")
    given = parser.parse_args(words)
    raise_from_now_on()
    folder = given.folder.absolute()
    try:
        remove_project(folder / "project")
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with Services(create_project(folder / "project")) as services:
            print(
                f"pages of Prefect: {services.settings.prefect_url}, password in {services.settings.secrets_file}",
                flush=True,
            )
            demonstration = Demonstration(services)
            demonstration.run()
            picture = write_timeline(demonstration.bars, folder)
            print(f"{time.monotonic() - began:.0f} s; timeline: {picture}", flush=True)
            while given.keep:
                time.sleep(1)
    except KeyboardInterrupt:
        print("stopped; all services ended", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
