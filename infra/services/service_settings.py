"""Ports, folder, secrets and environment of the services."""

import os
import secrets
import shlex
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from infra.services import postgres
from infra.services.private_files import write_private
from stages.core.errors import UserError

POOL = "macula"
"""Work pool of the worker, which `infra/prefect.yaml` names."""
DATABASE = "prefect"
BUCKETS = ("macula-dvc", "macula-images")
"""Buckets for the DVC remote, and for images that arrive."""
SECRETS = ("MACULA_POSTGRES_PASSWORD", "PREFECT_API_AUTH_STRING", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
CLIENT_SECRETS = SECRETS[1:]
"""Secrets that a program requires to use the services."""


@dataclass(frozen=True)
class Settings:
    """Folder and ports of the services."""

    folder: Path
    """Data, logs and secrets of the services."""
    prefect_port: int = 4200
    postgres_port: int = 5470
    s3_port: int = 9100
    workers: int = 1
    """Number of workers on this machine; they share its folders."""

    @property
    def prefect_url(self) -> str:
        """Address of the Prefect server and its pages."""
        return f"http://127.0.0.1:{self.prefect_port}"

    @property
    def s3_url(self) -> str:
        """Address of the S3-compatible store."""
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def secrets_file(self) -> Path:
        """File with the generated secrets, which only its owner can read."""
        return self.folder / "secrets.env"


def load_secrets(settings: Settings) -> dict[str, str]:
    """Return the secrets of the services; generate those that the secrets file does not contain.

    Raises:
        UserError: other users of this machine can read the file.
    """
    file = settings.secrets_file
    settings.folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    if file.exists():
        if file.stat().st_mode & 0o077:
            raise UserError(f"other users can read the secrets in {file}; run `chmod 600 {file}`")
        known = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
    generated = {
        "MACULA_POSTGRES_PASSWORD": secrets.token_hex(24),
        "PREFECT_API_AUTH_STRING": f"macula:{secrets.token_hex(24)}",
        "AWS_ACCESS_KEY_ID": f"MACULA{secrets.token_hex(7).upper()}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(24),
    }
    if missing := generated.keys() - known.keys():
        known |= {name: generated[name] for name in missing}
        write_private(file, "".join(f"{name}={value}\n" for name, value in sorted(known.items())))
    return known


def client_environment(settings: Settings) -> dict[str, str]:
    """Return the variables, without secrets, with which programs use the services.

    Variables of Macula that are set already stay as they are. The DVC remote of the flows is the store of the services,
    unless the project has a default remote.
    """
    project = Path.cwd()
    folders = {
        "MACULA_PROJECT": str(project),
        "MACULA_REPOSITORY": str(project),
        "MACULA_STATE": str(project / "work/flows"),
        "MACULA_CACHE": str(project / ".dvc/cache"),
        "MACULA_RUNS": str(max(1, settings.workers)),
    }
    if not _has_remote(project):
        folders["MACULA_REMOTE"] = f"s3://{BUCKETS[0]}"
    return {name: os.environ.get(name) or value for name, value in folders.items()} | {
        "PREFECT_API_URL": f"{settings.prefect_url}/api",
        "AWS_ENDPOINT_URL": settings.s3_url,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _has_remote(project: Path) -> bool:
    """Return whether the configuration of DVC in a project names a default remote."""
    found = ConfigParser(interpolation=None)
    found.read([project / ".dvc/config", project / ".dvc/config.local"])
    return found.has_option("core", "remote")


def export_lines(settings: Settings) -> str:
    """Return shell commands that set the variables of `client_environment` and read the secrets from their file."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in client_environment(settings).items()]
    return "\n".join([*lines, f"set -a; . {shlex.quote(str(settings.secrets_file))}; set +a"]) + "\n"


def base_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of this process without settings of Prefect and S3 that name other services."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_", "PG"))}
    home = {"PREFECT_HOME": str(settings.folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return kept | home | {"DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}


def server_environment(settings: Settings, known: dict[str, str]) -> dict[str, str]:
    """Return the environment of the Prefect server: its database, its password and the origin of its pages."""
    password = known["MACULA_POSTGRES_PASSWORD"]
    address = f"postgresql+asyncpg://{postgres.USER}:{password}@127.0.0.1:{settings.postgres_port}/{DATABASE}"
    return base_environment(settings) | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": address,
        "PREFECT_SERVER_API_AUTH_STRING": known["PREFECT_API_AUTH_STRING"],
        # The server's own services call its API.
        "PREFECT_API_AUTH_STRING": known["PREFECT_API_AUTH_STRING"],
        # In memory, the default, a restart of the server loses the places of runs in their queue, and ends these runs.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": settings.prefect_url,
        "PREFECT_SERVER_UI_API_URL": f"{settings.prefect_url}/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT__SERVER_FINAL": "1",
    }


def worker_environment(settings: Settings, known: dict[str, str]) -> dict[str, str]:
    """Return the environment of the workers, which their runs inherit."""
    return (
        base_environment(settings)
        | client_environment(settings)
        | {name: known[name] for name in CLIENT_SECRETS}
        | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    )
