"""Deployments of the flows: entry points, parameters, schedules, work pools and automations."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import prefect
import pytest
from prefect.cli.deploy._models import PrefectYamlModel
from ruamel.yaml import YAML

from infra.automations import automations
from infra.prefect_setup import FILE, declared, descriptions
from infra.services.service_list import worker
from infra.services.service_settings import BUCKETS, POOL, SECRETS, Settings, client_environment, load_secrets
from infra.work_pools import KUBERNETES_SECRET, block_name, template
from infra.work_pools import SECRETS as RUN_SECRETS
from stages.core.errors import UserError
from tests.conftest import ROOT
from tests.containers import create_context, parse_stages

DEPLOYMENTS = declared(ROOT / FILE)
CONTENT = YAML(typ="safe").load(ROOT / FILE)
POOLS = [CONTENT["definitions"][kind] for kind in ("process", "docker", "kubernetes")]
SERVICES = YAML(typ="safe").load(ROOT / "infra/compose.services.yaml")
WRITTEN = [name for name in DEPLOYMENTS if (ROOT / f"flows/{name}.py").exists()]


def default_template(kind: str) -> dict[str, Any]:
    file = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    collections = json.loads(file.read_text())
    return next(one[kind] for one in collections.values() if kind in one)["default_base_job_configuration"]


def test_every_flow_of_the_plan_is_deployed_under_its_name() -> None:
    PrefectYamlModel.model_validate(CONTENT)
    assert list(DEPLOYMENTS) == ["pipeline", "retrain", "score", "release", "deploy"]
    for name, one in DEPLOYMENTS.items():
        assert one["entrypoint"] == f"flows/{name}.py:{name}"
        assert one["description"]
        assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_parameters_of_a_deployment_are_those_of_its_flow(name: str) -> None:
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    assert isinstance(flow, prefect.Flow) and flow.name == name
    parameters = inspect.signature(flow.fn).parameters
    assert set(DEPLOYMENTS[name]["parameters"]) <= set(parameters)
    required = {key for key, one in parameters.items() if one.default is inspect.Parameter.empty}
    assert not DEPLOYMENTS[name]["schedules"] or required <= set(DEPLOYMENTS[name]["parameters"])
    assert set(descriptions(flow.fn)) == set(parameters), "the form shows a description of each"


def test_the_flow_pipeline_is_checked() -> None:
    assert "pipeline" in WRITTEN


def test_schedules_are_in_utc_and_outside_the_hours_of_clock_changes() -> None:
    schedules = {name: one["schedules"] for name, one in DEPLOYMENTS.items() if one["schedules"]}
    assert set(schedules) == {"retrain", "score"}
    for name, (schedule,) in schedules.items():
        assert schedule["timezone"] == "UTC" and schedule["slug"], name
        hour = schedule["cron"].split()[1]
        assert hour.isdigit() and int(hour) not in (1, 2, 3), name


def test_job_variables_exist_in_the_template_of_their_pool() -> None:
    assert [pool["type"] for pool in POOLS] == ["process", "docker", "kubernetes"]
    for pool in POOLS:
        known = default_template(pool["type"])["variables"]["properties"]
        assert set(pool["job_variables"]) <= set(known), pool["name"]
        changed = template(pool["type"], default_template(pool["type"]))
        assert changed["job_configuration"].keys() == default_template(pool["type"])["job_configuration"].keys()
    assert POOLS[0]["name"] == POOL == DEPLOYMENTS["retrain"]["work_pool"]["name"]


def test_containers_read_secrets_by_reference() -> None:
    docker = template("docker", default_template("docker"))["variables"]["properties"]["env"]["default"]
    assert {name: docker[name] for name in RUN_SECRETS} == {
        name: "{{ prefect.blocks.secret." + block_name(name) + " }}" for name in RUN_SECRETS
    }
    assert docker["AWS_SECRET_ACCESS_KEY"] == "{{ prefect.blocks.secret.aws-secret-access-key }}"
    job = template("kubernetes", default_template("kubernetes"))["job_configuration"]["job_manifest"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": KUBERNETES_SECRET}}]
    assert template("process", default_template("process")) == default_template("process")


def test_automations_are_created_for_the_blocks_and_deployments_that_exist() -> None:
    assert len(automations(None, None)) == 3
    every = automations(uuid4(), uuid4())
    names = [one.name for one in every]
    assert len(names) == len(set(names)) == 6 and all(name.startswith("macula: ") for name in names)
    dead = every[0].model_dump(mode="json")
    assert dead["trigger"]["after"] == ["prefect.flow-run.heartbeat"] and dead["trigger"]["within"] == 120.0
    assert dead["actions"][0]["state"] == "CRASHED"
    for containers, seconds in ((False, 120.0), (True, 1800.0)):
        lost = automations(None, None, containers=containers)[2].model_dump(mode="json")
        assert lost["trigger"]["after"] == ["prefect.flow-run.Pending"] and lost["trigger"]["within"] == seconds
        assert lost["actions"][0]["state"] == "SCHEDULED"


def test_containers_are_published_on_this_machine_only() -> None:
    ports = {name: one["ports"] for name, one in SERVICES["services"].items() if "ports" in one}
    assert set(ports) == {"prefect", "s3"}
    assert all(port.startswith("127.0.0.1:") for (port,) in ports.values())
    assert SERVICES["networks"]["database"] == {"internal": True}


def test_secrets_of_the_containers_are_required_variables() -> None:
    used = [
        (name, value)
        for one in SERVICES["services"].values()
        for name, value in one["environment"].items()
        if any(secret in f"{name} {value}" for secret in SECRETS)
    ]
    assert len(used) == 10
    for name, value in used:
        assert any(f"${{{secret}:?" in value for secret in SECRETS), f"{name} has a default or is written out"
    assert SERVICES["services"]["s3"]["environment"]["S3_BUCKETS"] == ",".join(BUCKETS)


def test_containers_have_no_more_rights_than_they_need() -> None:
    assert len(SERVICES["services"]) == 5
    for name, one in SERVICES["services"].items():
        assert one["cap_drop"] == ["ALL"] and one["read_only"] is True and one["mem_limit"], name
        assert name == "postgres" or one["user"].removeprefix("${MACULA_USER:-").removesuffix("}") == "65532:65532"


@pytest.mark.parametrize("image", ["pipeline", "s3"])
def test_the_build_context_of_an_image_contains_what_it_copies(image: str, tmp_path: Path) -> None:
    dockerfile = ROOT / f"infra/{image}.Dockerfile"
    context = create_context(ROOT, dockerfile.with_name(f"{image}.Dockerfile.dockerignore"), tmp_path)
    copied = [
        source
        for _, steps in parse_stages(dockerfile.read_text(), {}).values()
        for word, rest in steps
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert len(copied) >= 3
    assert not [source for source in copied if not (context / source).exists()]
    sent = [str(file.relative_to(context)) for file in context.rglob("*")]
    assert not [name for name in sent if "node_modules" in name or name.endswith(".env")]


def test_secrets_are_generated_once_and_read_by_their_owner_only(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "services")
    known = load_secrets(settings)
    assert set(known) == set(SECRETS) and len(set(known.values())) == len(SECRETS)
    assert settings.secrets_file.stat().st_mode & 0o777 == 0o600
    assert load_secrets(settings) == known
    settings.secrets_file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        load_secrets(settings)


def test_the_store_is_the_dvc_remote_unless_the_project_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MACULA_REMOTE", raising=False)
    monkeypatch.chdir(tmp_path)
    settings = Settings(tmp_path / "services")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(
        "[core]\n    analytics = false\n['remote \"team\"']\n    url = s3://team/%d\n"
    )
    assert client_environment(settings)["MACULA_REMOTE"] == f"s3://{BUCKETS[0]}"
    (tmp_path / ".dvc/config.local").write_text("[core]\n    remote = team\n")
    assert "MACULA_REMOTE" not in client_environment(settings)


def test_each_worker_of_one_machine_has_a_name_and_retrain_runs_as_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MACULA_RUNS", raising=False)
    settings = Settings(tmp_path / "services", workers=3)
    workers = [worker(number, settings, load_secrets(settings)) for number in (1, 2, 3)]
    assert [one.name for one in workers] == ["worker", "worker-2", "worker-3"]
    assert [one.command[-1] for one in workers] == ["macula-worker", "macula-worker-2", "macula-worker-3"]
    assert {one.environment["MACULA_RUNS"] for one in workers} == {"3"}
    assert client_environment(Settings(tmp_path, workers=0))["MACULA_RUNS"] == "1"


@pytest.mark.parametrize("text", ["0", "many"])
def test_a_wrong_number_of_runs_is_refused(text: str) -> None:
    variables = {**os.environ, "MACULA_RUNS": text, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.prefect_setup"], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 2 and f"MACULA_RUNS: '{text}' is not a number of runs" in done.stderr


def test_setting_up_without_a_server_states_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    done = subprocess.run([sys.executable, "-m", "infra.prefect_setup"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "PREFECT_API_URL is not set" in done.stderr
