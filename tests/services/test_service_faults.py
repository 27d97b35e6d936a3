"""Services that are killed, refused requests, and a supervisor that is killed: `make test-services`."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import boto3
import psutil
import psycopg
import pytest

from infra.services import process_records
from infra.services.process_records import Record
from tests.service_project import Services, create_project, eventually, open_folder, record

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
NAMES = ["supervisor", "postgres", "s3", "prefect", "worker"]


@pytest.fixture
def another() -> Iterator[Path]:
    """Yield a folder for a second toy project."""
    with open_folder() as folder:
        yield folder


def test_the_output_lists_addresses_and_export_lines_without_secrets(services: Services) -> None:
    printed = (services.root / "work/printed.txt").read_text()
    for line in (f"PREFECT_API_URL=http://127.0.0.1:{services.ports[0]}/api", f"MACULA_REPOSITORY={services.root}"):
        assert f"export {line}\n" in printed
    assert not [value for value in services.secrets.values() if value in printed]
    sourced = subprocess.run(
        ["sh", "-c", ". work/services/environment.sh; env"], cwd=services.root, capture_output=True, text=True, env={}
    )
    assert f"AWS_SECRET_ACCESS_KEY={services.secrets['AWS_SECRET_ACCESS_KEY']}\n" in sourced.stdout
    assert (services.folder / "secrets.env").stat().st_mode & 0o077 == 0


def test_services_listen_on_this_machine_only(services: Services) -> None:
    listening = {
        connection.laddr.port: connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in services.ports
    }
    assert listening == dict.fromkeys(services.ports, "127.0.0.1")


def test_requests_without_the_secret_are_refused(services: Services) -> None:
    prefect, database, store = services.ports
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"http://127.0.0.1:{prefect}/api/admin/version")
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"http://127.0.0.1:{store}/macula-dvc")
    assert services.s3("GET", "/macula-dvc", secret="wrong")[0] == 403
    assert services.s3("GET", "/macula-dvc", secret="S3RVER")[0] == 403
    assert services.s3("GET", "/macula-dvc")[0] == 200
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"host=127.0.0.1 port={database} user=macula dbname=prefect", password=password)


def test_a_second_supervisor_of_a_folder_is_refused(services: Services) -> None:
    second = services.run("start")
    assert second.returncode == 2 and "are already running" in second.stderr


def test_status_lists_services_and_restarts(services: Services) -> None:
    old = services.process("s3").pid
    services.kill("s3")
    done = services.run("status")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == NAMES
    assert f"pid {old} " not in done.stdout and "running, restarted 1 times" in done.stdout


def test_objects_survive_the_end_of_the_store(services: Services) -> None:
    content = os.urandom(1_000_000)
    assert services.s3("PUT", "/macula-dvc/folder/a.bin", content)[0] == 200
    seconds = services.kill("s3")
    assert services.s3("GET", "/macula-dvc/folder/a.bin") == (200, content)
    record("S3 store killed with -9", "serves the same object again", seconds)


def test_listings_of_more_than_1000_objects_are_complete(services: Services) -> None:
    key, secret = (services.secrets[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    address = f"http://127.0.0.1:{services.ports[2]}"
    store: Any = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1"
    )
    written = {f"many/{number % 7}/{number:04}.png" for number in range(1050)}
    for name in written:
        store.put_object(Bucket="macula-images", Key=name, Body=b"")
    pages = store.get_paginator("list_objects_v2").paginate(Bucket="macula-images", Prefix="many/")
    listed = [one["Key"] for page in pages for one in page["Contents"]]
    assert len(listed) == 1050 and set(listed) == written


def test_an_interrupted_upload_leaves_no_object(services: Services) -> None:
    headers = services.s3_headers("PUT", "/macula-dvc/half.bin", b"x" * 1000) | {"Content-Length": "1000"}
    request = "PUT /macula-dvc/half.bin HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
    with socket.create_connection(("127.0.0.1", services.ports[2])) as client:
        client.sendall(request.encode() + b"x" * 400)
        uploads = services.folder / "s3/uploads"
        assert eventually(lambda: [file.stat().st_size for file in uploads.iterdir()] == [400], 10), "it has begun"
    assert eventually(lambda: not list(uploads.iterdir()), 10)
    assert services.s3("GET", "/macula-dvc/half.bin")[0] == 404


def test_a_killed_postgres_recovers(services: Services) -> None:
    record("PostgreSQL killed with -9", "accepts connections again", services.kill("postgres"))
    assert eventually(lambda: services.api("work_pools/macula")["name"] == "macula", 30)


def test_a_process_that_took_over_a_recorded_id_is_not_stopped(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        mine = Record.of(other.pid)
        assert mine.process() is not None
        process_records.write(tmp_path, {"s3": Record(other.pid, "an earlier start")})
        assert process_records.stop_leftovers(tmp_path) == []
        assert other.poll() is None
        process_records.write(tmp_path, {"s3": mine})
        assert process_records.stop_leftovers(tmp_path) == ["s3"]
        assert mine.process() is None


def test_the_next_start_replaces_the_services_of_a_killed_supervisor(another: Path) -> None:
    killed = Services(create_project(another / "toy"))
    killed.start()
    secrets = killed.secrets
    killed.s3("PUT", "/macula-images/a.bin", b"kept")
    left = [killed.process(name) for name in NAMES[1:]]
    assert killed.supervisor
    killed.supervisor.kill()
    killed.supervisor.wait()
    assert all(process.is_running() for process in left)
    assert killed.run("status").returncode == 1
    began = time.monotonic()
    printed = killed.start()
    record("supervisor killed with -9", "the next start is ready", time.monotonic() - began)
    assert "stopped services of a supervisor that was killed: worker, prefect, s3, postgres" in printed
    assert not [process for process in left if process.is_running()]
    assert killed.secrets == secrets and killed.s3("GET", "/macula-images/a.bin") == (200, b"kept")
    running = [killed.process(name) for name in NAMES]
    assert killed.run("stop").stdout == "all services stopped\n"
    assert killed.supervisor.wait(10) == 0
    assert not [process for process in running if process.is_running()]
    assert killed.run("stop").stdout == "no services are running\n"
