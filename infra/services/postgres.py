"""PostgreSQL cluster in a folder of its own, from the programs of the Debian package or of PATH."""

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

from infra.services.private_files import write_private
from stages.core.errors import UserError

USER = "macula"
"""User and owner of the databases."""


def programs() -> Path | None:
    """Return the folder with `initdb` and `postgres`, newest version first; None if PostgreSQL is not installed."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _version(path.parent.name), reverse=True
    )
    folders = [*debian, *(Path(p) for p in os.environ.get("PATH", os.defpath).split(os.pathsep))]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def owner() -> pwd.struct_passwd | None:
    """Return the user that must run PostgreSQL if this process belongs to root; None if this user can run it."""
    if os.getuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


def create(folder: Path, password: str) -> None:
    """Create a cluster that accepts only this password, unless the folder contains a complete one.

    Raises:
        UserError: PostgreSQL is not installed, or its user cannot enter the folder.
    """
    home = programs()
    if home is None:
        raise UserError("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    if (folder / "created").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    user = owner()
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
        _check_access(folder, user)
    folder.chmod(0o700)
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)  # a cluster whose creation was interrupted
    secret = folder / "password"
    write_private(secret, f"{password}\n")
    if user:
        os.chown(secret, user.pw_uid, user.pw_gid)
    command = [str(home / "initdb"), "-D", str(data), "-U", USER, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C"]
    try:
        done = subprocess.run(
            [*command, f"--pwfile={secret}"],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    finally:
        secret.unlink()
    if done.returncode:
        raise UserError(f"initdb could not create {data}: {done.stderr.strip() or done.stdout.strip()}")
    (folder / "created").touch()


def command(folder: Path, port: int) -> list[str]:
    """Return the command that serves a cluster on this machine, without a Unix socket: its path may be too long."""
    home = programs()
    assert home is not None, "`create` was called"
    return [str(home / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", ""]


def accepts(port: int) -> bool:
    """Return whether the server accepts connections; False while it starts, stops or recovers."""
    # Start-up packet of protocol 3.0. The answer is R (authentication) if the server accepts connections, E if not.
    body = (3 << 16).to_bytes(4, "big") + b"user\0" + USER.encode() + b"\0database\0postgres\0\0"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall((len(body) + 4).to_bytes(4, "big") + body)
            return client.recv(1) == b"R"
    except OSError:
        return False


def create_database(port: int, password: str, name: str) -> None:
    """Create a database unless it exists.

    Args:
        port: port of the server.
        password: password of `USER`.
        name: name of the database.
    """
    import psycopg

    address = f"host=127.0.0.1 port={port} user={USER} dbname=postgres"
    with psycopg.connect(address, password=password, autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            connection.execute(psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(name)))


def _check_access(folder: Path, user: pwd.struct_passwd) -> None:
    entered = subprocess.run(
        ["test", "-w", str(folder)],
        check=False,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        capture_output=True,
    )
    if entered.returncode:
        raise UserError(
            f"PostgreSQL refuses to run as root, and the user {user.pw_name!r} cannot enter {folder}; run this as "
            "another user, or name a folder with --folder, such as /var/lib/macula/services"
        )


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())
