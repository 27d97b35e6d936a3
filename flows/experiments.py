"""Save a finished run as a DVC experiment: `python -m flows.experiments`.

The params, the code and dvc.lock of the workspace, and thereby metrics, curves and data, are saved under `refs/exps`.
The workspace does not change. A run is saved only once. If it cannot be saved, this is reported, but is not an error.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from stages.config.load import load

SAVED_FILES = ("params.yaml", "dvc.lock", "data/dvc.lock")


def main() -> str:
    """Save the run, and return one line that describes the result.

    Raises:
        UserError: params.yaml does not exist or is not valid.
    """
    if not Path("dvc.lock").exists():
        return "experiment  none: no run has finished yet"
    name = run_name()
    if name in names():
        return f"experiment  {name}, saved before"
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", *SAVED_FILES).stdout.split()
    include = [word for file in untracked for word in ("-I", file)]
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    command = ["dvc", "exp", "save", "-n", name, *include, "dvc.yaml"]  # the sealed test set has its own dvc.yaml
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        reasons = (done.stderr or done.stdout).strip().splitlines() or [f"dvc ended with status {done.returncode}"]
        return f"experiment  not saved: {reasons[-1]}"
    return f"experiment  {name}; `make runs` compares runs, `dvc exp apply {name}` and `dvc repro` restore it"


def run_name() -> str:
    """Return the name of the data set and 8 hexadecimal digits that identify params, code and results.

    Comments and docstrings of the code do not count: the entry of `fingerprint` in dvc.lock, which changes with them,
    is left out, while other entries contain the digest of each stage's code.

    Raises:
        UserError: params.yaml does not exist or is not valid.
    """
    lock = YAML(typ="safe").load(Path("dvc.lock").read_text(encoding="utf-8"))
    lock.get("stages", {}).pop("fingerprint", None)
    text = Path("params.yaml").read_bytes() + json.dumps(lock, sort_keys=True).encode()
    return f"{load(Path('params.yaml')).ingest.name}-{hashlib.sha256(text).hexdigest()[:8]}"


def names() -> set[str]:
    """Return the names of the saved experiments."""
    listed = _git("for-each-ref", "--format=%(refname)", "refs/exps")
    return {line.rpartition("/")[2] for line in listed.stdout.splitlines()}


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], check=False, capture_output=True, text=True)


if __name__ == "__main__":
    print(main())
