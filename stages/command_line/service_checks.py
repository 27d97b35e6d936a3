"""Checks of `macula doctor` on services: the DVC remote and the Prefect API."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.command_line.machine_checks import Check
from stages.core.plurals import quantity

PATIENCE = 15.0
"""Seconds that a service may take to respond."""
IMPORTING = 45.0
"""Additional seconds for importing DVC on a busy machine."""
ASK = """
from dvc.repo import Repo
with Repo() as repo:
    name = repo.config["core"].get("remote")
    if name:
        remote = repo.cloud.get_remote(name)
        remote.fs.exists(remote.path) or remote.fs.ls(remote.fs.parent(remote.path))
        print(f"{name} ({remote.fs.unstrip_protocol(remote.path)})")
"""
"""Program that prints the default remote, if there is one, and fails with an error if it cannot be reached."""


def dvc_remote() -> Iterator[Check]:
    """Check that the default DVC remote can be reached."""
    name = "dvc remote"
    if importlib.util.find_spec("dvc") is None or not Path(".dvc").is_dir():
        yield Check(name, "ok", "not checked: this folder is not a DVC project, or DVC is not installed")
        return
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASK], check=False, capture_output=True, text=True, timeout=PATIENCE + IMPORTING
        )
    except subprocess.TimeoutExpired:
        yield Check(
            name, "warning", f"no response within {PATIENCE + IMPORTING:g} s", "check the network and `dvc remote list`"
        )
        return
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1:] or ["no message"]
        advice = "check its address with `dvc remote list` and its credentials with `dvc config --list`"
        yield Check(name, "warning", f"cannot be reached: {last[0]}", advice)
    elif asked.stdout.strip():
        yield Check(name, "ok", f"{asked.stdout.strip()} can be reached")
    else:
        yield Check(name, "ok", "none configured: data and models are stored on this machine only")


def prefect_api() -> Iterator[Check]:
    """Check that the configured Prefect API responds."""
    name = "prefect api"
    if importlib.util.find_spec("prefect") is None or importlib.util.find_spec("flows") is None:
        yield Check(name, "ok", "not checked: Prefect or the pipeline is not installed")
        return
    from flows.api import configured_url, healthy

    url = configured_url()
    if not url:
        yield Check(name, "ok", "none configured: `macula run --flow` starts one for each run")
    elif healthy(url, patience=PATIENCE):
        yield Check(name, "ok", f"{url} responds")
    else:
        advice = (
            "start it with `prefect server start`, or remove the setting with `prefect config unset PREFECT_API_URL`"
        )
        yield Check(name, "warning", f"{url} does not respond", advice)


def remote_objects(read: bool, repair: bool) -> Iterator[Check]:
    """Compare every object of DVC that the project in the current folder uses with its default remote.

    Args:
        read: read the objects, instead of comparing sizes and ETags.
        repair: replace missing and wrong objects.

    Raises:
        UserError: the current folder is not a DVC project with a default remote, or the remote does not respond.
    """
    from flows.remote_check import check_remote

    name = "remote objects"
    remote, count, problems = check_remote(Path.cwd(), read=read, repair=repair)
    how = "bytes" if read else "sizes and ETags"
    yield Check(name, "ok", f"{remote}: {quantity(count, 'object')} compared by {how}, {len(problems)} with a problem")
    for problem in problems:
        found = f"{problem.digest} is {problem.fault}: {problem.used_by}"
        if problem.repaired:
            yield Check(name, "warning", f"{found}; repaired")
        elif problem.fault == "lost":
            advice = "copy it from another machine's cache, or run the pipeline at this revision again"
            yield Check(name, "error", found, advice)
        else:
            yield Check(name, "error", found, "`macula doctor --remote --repair` replaces it")
