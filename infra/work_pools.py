"""Base job templates of the work pools of `infra/prefect.yaml`; secrets of containers are references, not values."""

from copy import deepcopy
from typing import Any

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING")
"""Variables with secrets that a run requires."""
PLAIN = ("MACULA_REPOSITORY", "MACULA_REMOTE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
"""Further variables that a run in a container requires, as Prefect variables such as `macula_repository`."""
KUBERNETES_SECRET = "macula-runs"  # noqa: S105 a name


def template(kind: str, default: dict[str, Any]) -> dict[str, Any]:
    """Return the base job template of a work pool.

    A container does not inherit the environment of its worker. In a Docker pool, the worker replaces references to
    blocks and variables of Prefect when it starts a run; in a Kubernetes pool, the pod reads a secret of the cluster.

    Args:
        kind: process, docker or kubernetes.
        default: the template of this kind from Prefect.
    """
    changed = deepcopy(default)
    folders = {
        "MACULA_PROJECT": "/code",
        "MACULA_STATE": "/state",
        "MACULA_CACHE": "/cache",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    if kind == "docker":
        blocks = {name: f"{{{{ prefect.blocks.secret.{block_name(name)} }}}}" for name in SECRETS}
        plain = {name: f"{{{{ prefect.variables.{name.lower()} }}}}" for name in PLAIN}
        changed["variables"]["properties"]["env"]["default"] = blocks | plain | folders
    if kind == "kubernetes":
        (container,) = changed["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
        container["envFrom"] = [{"secretRef": {"name": KUBERNETES_SECRET}}]
        changed["variables"]["properties"]["env"]["default"] = folders
    return changed


def block_name(variable: str) -> str:
    """Return the name of the Secret block of Prefect for a variable, such as `aws-secret-access-key`."""
    return variable.lower().replace("_", "-")
