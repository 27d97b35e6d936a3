"""Runs of deployments by a worker, while services are killed and restarted: `make test-services`."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest

from tests.service_project import Services, environment, eventually, record

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]


def start_held_run(services: Services) -> str:
    """Start a run of the pipeline whose second stage waits for `finish`; return its id once this stage runs."""
    root = services.root
    (root / "work/two").unlink(missing_ok=True)
    (root / "version.txt").write_text(str(uuid4()))  # neither outputs nor DVC's run cache contain the results
    (root / "work/hold").touch()
    run = services.submit("pipeline")
    assert eventually((root / "work/two").exists, 120), services.state(run)
    return run


def finish(services: Services) -> None:
    """Let the second stage of a held run end."""
    (services.root / "work/hold").unlink()


def outputs(services: Services) -> list[str]:
    return [(services.root / name).read_text() for name in ("data/one", "data/two")]


def set_up(services: Services) -> str:
    """Run `python -m infra.prefect_setup` as a user does, and return what it printed."""
    command = [sys.executable, "-m", "infra.prefect_setup"]
    done = subprocess.run(
        ["sh", "-c", '. work/services/environment.sh; exec "$@"', "sh", *command],
        cwd=services.root, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def automations(services: Services) -> dict[str, Any]:
    return {one["name"]: one for one in services.api("automations/filter", {})}


def test_a_deployed_pipeline_completes_and_its_run_is_in_postgres(services: Services) -> None:
    run = start_held_run(services)
    finish(services)
    assert services.ended(run) == "Completed"
    assert outputs(services) == ["one", "two"]
    address = f"host=127.0.0.1 port={services.ports[1]} user=macula dbname=prefect"
    with psycopg.connect(address, password=services.secrets["MACULA_POSTGRES_PASSWORD"]) as connection:
        assert connection.execute("select state_name from flow_run where id = %s", [run]).fetchall() == [("Completed",)]


def test_the_form_of_a_deployment_describes_its_parameters(services: Services) -> None:
    deployment = services.api("deployments/name/pipeline/pipeline")
    properties = deployment["parameter_openapi_schema"]["properties"]
    assert properties and all(one["description"] for one in properties.values())


def test_schedules_create_runs(services: Services) -> None:
    def planned() -> list[str]:
        body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        runs = services.api("flow_runs/filter", body)
        return [run["expected_start_time"] for run in runs if run["auto_scheduled"]]

    assert eventually(planned, 90), (services.folder / "logs/prefect.log").read_text()[-3000:]
    assert {time.partition("T")[2] for time in planned()} == {"05:30:00Z"}


def test_flows_run_in_the_project_folder_of_the_worker(services: Services) -> None:
    assert services.ended(services.submit("retrain")) == "Completed"
    assert (services.root / "work/flows/retrained").read_text() == str(services.root)


def test_a_run_survives_a_killed_database(services: Services) -> None:
    run = start_held_run(services)
    services.kill("postgres")
    finish(services)
    assert services.ended(run) == "Completed"
    assert outputs(services) == ["one", "two"]


def test_a_run_survives_a_killed_server(services: Services) -> None:
    run = start_held_run(services)
    record("Prefect server killed with -9 in mid-run", "it responds again", services.kill("prefect"))
    finish(services)
    assert services.ended(run) == "Completed"
    assert outputs(services) == ["one", "two"]


def test_the_place_of_a_run_in_its_queue_survives_a_killed_server(services: Services) -> None:
    run = start_held_run(services)
    services.kill("prefect")
    second = services.submit("pipeline")
    assert eventually(lambda: services.state(second) == "AwaitingConcurrencySlot", 120), services.state(second)
    finish(services)
    assert services.ended(run) == "Completed"
    assert services.ended(second) == "Completed"
    assert "not found during release" not in (services.folder / "logs/prefect.log").read_text()


def test_a_run_survives_a_killed_worker(services: Services) -> None:
    run = start_held_run(services)
    process = services.run_process()
    services.kill("worker")
    assert process.is_running(), "the run continues without its worker"
    finish(services)
    assert services.ended(run) == "Completed"
    assert outputs(services) == ["one", "two"]


def test_a_run_that_dies_with_its_worker_is_marked_as_crashed(services: Services) -> None:
    run = start_held_run(services)
    process = services.run_process()
    stages = process.children(recursive=True)
    assert stages
    worker = services.process("worker")
    worker.kill()
    process.kill()
    began = time.monotonic()
    assert not psutil.wait_procs(stages, timeout=30)[1], "stages end with their run"
    assert services.ended(run, 400) == "Crashed"
    record("worker and run killed with -9", "the automation marks the run as crashed", time.monotonic() - began)
    assert services.api(f"flow_runs/{run}")["state"]["message"] == "The process of the run did not report for 120 s."
    finish(services)
    second = services.submit("pipeline")
    assert services.ended(second, 400) == "Completed"
    record("worker and run killed with -9", "the next run has completed", time.monotonic() - began)


def test_a_killed_run_is_marked_as_crashed_by_its_worker(services: Services) -> None:
    run = start_held_run(services)
    services.run_process().kill()
    began = time.monotonic()
    assert services.ended(run) == "Crashed"
    finish(services)
    record("run killed with -9", "the worker marks the run as crashed", time.monotonic() - began)


def test_setting_up_again_changes_nothing(services: Services) -> None:
    before = automations(services), services.deployment("pipeline"), services.api("work_pools/macula")
    printed = set_up(services)
    assert "2 deployments: pipeline, retrain" in printed
    assert len(before[0]) == 4
    assert (automations(services), services.deployment("pipeline")) == before[:2]
    assert services.api("work_pools/macula")["base_job_template"] == before[2]["base_job_template"]


def test_a_drift_event_starts_retrain(services: Services) -> None:
    (services.root / "work/flows/retrained").unlink(missing_ok=True)
    event = {
        "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": "macula.drift",
        "resource": {"prefect.resource.id": "macula.model.toy"},
        "payload": {"feature": "brightness"},
        "id": "0b9d1b8e-6ab0-4f45-9d2b-6fb1ed0f6f3e",
    }
    began = time.monotonic()
    code = "import json, sys; from prefect.events import emit_event; e = json.loads(sys.argv[1]); "
    code += "emit_event(e['event'], resource=e['resource'], payload=e['payload'])"
    subprocess.run(
        ["sh", "-c", '. work/services/environment.sh; exec "$@"', "sh", sys.executable, "-c", code, json.dumps(event)],
        cwd=services.root, env=environment(), check=True,
    )  # fmt: skip
    assert eventually((services.root / "work/flows/retrained").exists, 120)
    record("macula.drift emitted", "the run of retrain works", time.monotonic() - began)


def test_a_failed_run_sends_a_notification_through_the_block(services: Services) -> None:
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        code = "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Hook; import sys; "
        code += "Hook(name='macula-alerts', url=sys.argv[1], method='POST', json_data={'subject': '{{subject}}', "
        code += "'body': '{{body}}'}).save('macula-alerts')"
        subprocess.run(
            ["sh", "-c", '. work/services/environment.sh; exec "$@"', "sh", sys.executable, "-c", code, url],
            cwd=services.root, env=environment(), check=True,
        )  # fmt: skip
        assert "no notifications" not in set_up(services)
        assert services.ended(services.submit("retrain", fail=True)) == "Failed"
        assert eventually(lambda: received, 60)
        server.shutdown()
    assert "retrain" in received[0]["subject"] and "seven pictures are black" in received[0]["body"]


def test_stopping_the_services_marks_runs_as_crashed_and_the_next_run_resumes(services: Services) -> None:
    run = start_held_run(services)
    process = services.run_process()
    stages = process.children(recursive=True)
    assert services.stop() == 0
    assert not psutil.wait_procs([process, *stages], timeout=1)[1]
    services.start()
    assert services.state(run) == "Crashed"
    finish(services)
    assert services.ended(services.submit("pipeline")) == "Completed"
    assert outputs(services) == ["one", "two"]


def test_no_secret_is_in_a_file_a_log_or_the_database(services: Services) -> None:
    names = ("MACULA_POSTGRES_PASSWORD", "PREFECT_API_AUTH_STRING", "AWS_SECRET_ACCESS_KEY")
    values = [services.secrets[name].removeprefix("macula:").encode() for name in names]
    assert all(len(value) == 48 for value in values)
    address = f"host=127.0.0.1 port={services.ports[1]} user=macula dbname=prefect"
    rows = 0
    with psycopg.connect(address, password=services.secrets["MACULA_POSTGRES_PASSWORD"]) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (table,) in tables:
            for (row,) in connection.execute(f'select t::text from "{table}" t'):
                rows += 1
                assert not [value for value in values if value.decode() in row], table
    assert len(tables) > 20 and rows > 100
    files = [file for file in services.root.rglob("*") if file.is_file() and file.name != "secrets.env"]
    assert {"worker.log", "prefect.log"} <= {file.name for file in files}
    found = [file for file in files for value in values if value in file.read_bytes()]
    assert not found
