"""Clone the project and run its pipeline with changed params; clones share the cache, but not the workspace."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows import supervisor
from stages.config.edit import edited, nested
from stages.config.load import yaml_problem
from stages.core.errors import UserError, did_you_mean

EXAMPLES = Path("docs/examples")


def parse_changes(text: str) -> dict[str, Any]:
    """Parse changes of params, `KEY=VALUE ...` with dotted keys and YAML values, into nested values.

    Raises:
        UserError: a word is not KEY=VALUE with a dotted key, its value is not valid YAML, or one key contains another.

    >>> parse_changes("network.name=vgg11 train.epochs=3")
    {'network': {'name': 'vgg11'}, 'train': {'epochs': 3}}
    """
    changes: dict[str, Any] = {}
    for word in text.split():
        key, sign, value = word.partition("=")
        if not sign or "." not in key:
            raise UserError(f"{word!r} is not a change of params; write SECTION.KEY=VALUE, such as network.name=vgg11")
        try:
            changes[key] = YAML(typ="safe", pure=True).load(value)
        except YAMLError as error:
            raise UserError(f"{word!r}: {value!r} is not a YAML value; write it as in params.yaml") from error
    for key in changes:
        if inner := [other for other in changes if other.startswith(f"{key}.")]:
            raise UserError(f"{text!r} sets both {key} and {inner[0]}, which is part of it; set one of them")
    return nested(changes)


def change_params(changes: Sequence[Mapping[str, Any]], origin: str) -> str:
    """Return the text of params.yaml of the current folder with replaced values; comments are preserved.

    Args:
        changes: nested values, applied in this order.
        origin: source of the changes in error messages.

    Raises:
        UserError: the changed params are not valid.
    """
    return edited(Path("params.yaml").read_text(encoding="utf-8"), changes, origin)


def example(name: str) -> dict[str, Any]:
    """Return the changes that an example in docs/examples makes to params.yaml.

    Raises:
        UserError: the example does not exist, is not valid YAML, or does not contain sections of params.
    """
    file = EXAMPLES / f"{name}.yaml"
    if not file.exists():
        known = [f.stem for f in sorted(EXAMPLES.glob("*.yaml"))]
        raise UserError(f"{EXAMPLES} contains no example {name!r}; {did_you_mean(name, known)}")
    try:
        return dict(YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")))
    except YAMLError as error:
        raise UserError(f"{file} is not readable YAML: {yaml_problem(error)}; correct it") from None
    except TypeError:
        raise UserError(f"{file} does not contain sections of params; correct it") from None


def clone_name(name: str, changes: str) -> str:
    """Return the folder name of a clone with changed params, such as `clothing10-vgg11`."""
    values = [word.partition("=")[2] for word in changes.split()]
    return "-".join([name, *(re.sub(r"[^A-Za-z0-9.]+", "_", value) for value in values)])


def run_in_clone(folder: Path, params: str) -> None:
    """Clone the last commit into `folder`, which is removed first if it exists, and run the pipeline there.

    The assignment of images to groups and splits, the pretrained weights and the record of features are copied; cached
    results are not computed again.

    Args:
        folder: folder of the clone.
        params: text of the clone's params.yaml.

    Raises:
        UserError: the pipeline failed.
        subprocess.CalledProcessError: git could not create the clone, or dvc could not configure its cache.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    for file in (*Path("data/splits").glob("*.json"), *Path("data/splits").glob("*.groups.csv")):
        shutil.copy(file, folder / "data/splits")
    shutil.copytree("data/weights", folder / "data/weights", dirs_exist_ok=True)
    shutil.copy("data/image_features.txt", folder / "data")
    env = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    cache = str(Path(".dvc/cache").absolute())
    subprocess.run(
        ["dvc", "cache", "dir", "--local", cache], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL
    )
    # Progress goes to standard error, so that a program can read the results from standard output.
    if supervisor.run([sys.executable, "-m", "dvc", "repro"], env, cwd=folder, stdout=sys.stderr.fileno()):
        raise UserError(f"the pipeline in {folder} failed; see the error above")


def summarize_run(folder: Path) -> str:
    """Return the summary of a finished run with the path of its report."""
    summary = (folder / "data/report/summary.txt").read_text(encoding="utf-8")
    return f"{summary}report      {folder.absolute() / 'data/report/index.html'}"
