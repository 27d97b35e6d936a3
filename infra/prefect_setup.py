"""Create or update what the flows require on the Prefect server at `PREFECT_API_URL`: `python -m infra.prefect_setup`.

Creates the work pool, the deployments of `infra/prefect.yaml` with their schedules and limits, and the automations. It
changes nothing that is up to date, and can be repeated at any time, for example after a notification block was added.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from infra.work_pools import template
from stages.core.errors import UserError
from stages.core.plurals import quantity

FILE = Path("infra/prefect.yaml")
RUNS = "MACULA_RUNS"
"""Variable with the number of runs of `retrain` that may be in progress at the same time, on all workers together."""
PARALLEL = "retrain"
"""Deployment to which `RUNS` applies: it works in clones, and one of two runs on the same data is recorded."""
NOTIFICATION = "macula-alerts"
"""Name of the notification block, of any type: Slack, e-mail, webhook ..."""


def declared(file: Path) -> dict[str, dict[str, Any]]:
    """Return the deployments of a file by name."""
    return {one["name"]: one for one in YAML(typ="safe").load(file.read_text(encoding="utf-8"))["deployments"]}


def main() -> int:
    """Set up the server and print what exists.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    try:
        if not os.environ.get("PREFECT_API_URL"):
            raise UserError("PREFECT_API_URL is not set; `. work/services/environment.sh` sets it")
        runs = _runs()
        deployments = declared(FILE)
        existing = {name: one for name, one in deployments.items() if Path(one["entrypoint"].split(":")[0]).exists()}
        for name in sorted(deployments.keys() - existing.keys()):
            print(f"{deployments[name]['entrypoint']} does not exist: {name} is not deployed")
        pools = {one["work_pool"]["name"]: one["work_pool"]["type"] for one in existing.values()}
        for name, kind in pools.items():
            _set_up_pool(name, kind)
        _deploy(list(existing))
        for name, one in existing.items():
            _complete(name, one["entrypoint"], runs if name == PARALLEL else 1)
        _set_up_automations("retrain" in existing, containers=set(pools.values()) != {"process"})
        print(f"{quantity(len(existing), 'deployment')}: {', '.join(existing)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _set_up_pool(name: str, kind: str) -> None:
    from prefect.client.collections import get_collections_metadata_client
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    async def read_default() -> dict[str, Any]:
        async with get_collections_metadata_client() as collections:
            metadata = await collections.read_worker_metadata()
        return next(one[kind] for one in metadata.values() if kind in one)["default_base_job_configuration"]

    default = asyncio.run(read_default())
    assert default is not None
    wanted = template(kind, default)
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=wanted))
            return
        if pool.type != kind:
            raise UserError(
                f"the work pool {name!r} is of type {pool.type}, not {kind}; delete it or rename the new one"
            )
        if pool.base_job_template != wanted:
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=wanted))


def _deploy(names: list[str]) -> None:
    # Variables in the steps stay as they are, so that each worker replaces them by its own.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MACULA_REPOSITORY", "MACULA_PROJECT")
    }
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(FILE)]
    for name in names:
        command += ["--name", name]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"`prefect deploy` failed:\n{done.stdout.strip()}\n{done.stderr.strip()}")


def descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Return the descriptions of parameters that are annotated as `Annotated[..., Field(description=...)]`."""
    return {
        name: field.description
        for name, hint in get_type_hints(function, include_extras=True).items()
        for field in getattr(hint, "__metadata__", ())
        if isinstance(field, FieldInfo) and field.description
    }


def _runs() -> int:
    text = os.environ.get(RUNS) or "1"
    if not text.isdigit() or not int(text):
        raise UserError(f"{RUNS}: {text!r} is not a number of runs; use 1 or more")
    return int(text)


def _complete(name: str, entrypoint: str, runs: int) -> None:
    """Add to a deployment its limit of runs and the descriptions in its form.

    Prefect takes over descriptions of docstrings only, and the limit of infra/prefect.yaml is always 1.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.flows import load_flow_from_entrypoint

    found = descriptions(load_flow_from_entrypoint(entrypoint).fn)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{name}/{name}")
        schema = deployment.parameter_openapi_schema or {}
        for key, description in found.items():
            schema["properties"][key]["description"] = description
        update = DeploymentUpdate(parameter_openapi_schema=schema)
        if runs > 1:
            update = DeploymentUpdate(parameter_openapi_schema=schema, concurrency_limit=runs)
        client.update_deployment(deployment.id, update)


def _set_up_automations(with_retrain: bool, *, containers: bool) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore

    from infra.automations import automations

    with get_client(sync_client=True) as client:
        retrain = client.read_deployment_by_name("retrain/retrain").id if with_retrain else None
        for wanted in automations(retrain, _notification_block(), containers=containers):
            found = client.read_automations_by_name(wanted.name)
            if not found:
                client.create_automation(wanted)
            elif any(getattr(found[0], key) != getattr(wanted, key) for key in ("description", "trigger", "actions")):
                kept = wanted.model_dump(mode="json") | {"enabled": found[0].enabled}
                client.update_automation(found[0].id, AutomationCore.model_validate(kept))
            for other in found[1:]:
                client.delete_automation(other.id)


def _notification_block() -> UUID | None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = [
            block
            for block in client.read_block_documents(limit=200, include_secrets=False)
            if block.name == NOTIFICATION
        ]
    if not found:
        print(f"no notifications: create a notification block named {NOTIFICATION!r} in the pages, and run this again")
    return found[0].id if found else None


if __name__ == "__main__":
    sys.exit(main())
