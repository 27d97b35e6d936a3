"""The project cloned beside itself under changed params, so that two runs never share a workspace but share a cache."""

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
from stages.core.errors import UserError, did_you_mean

EXAMPLES = Path("docs/examples")


def changes_of(text: str) -> dict[str, Any]:
    """`"network.name=vgg11 train.epochs=3"` as nested values, each read as YAML reads it.

    Raises:
        UserError: a word is no KEY=VALUE with a dotted key.

    >>> changes_of("network.name=vgg11 train.epochs=3")
    {'network': {'name': 'vgg11'}, 'train': {'epochs': 3}}
    """
    changes: dict[str, Any] = {}
    for word in text.split():
        key, sign, value = word.partition("=")
        if not sign or "." not in key:
            raise UserError(f"{word!r} is no change of params; write KEY=VALUE, as network.name=vgg11")
        changes[key] = YAML(typ="safe", pure=True).load(value)
    return nested(changes)


def params_with(changes: Sequence[Mapping[str, Any]], origin: str) -> str:
    """`params.yaml` of this folder with values replaced, its comments kept; `origin` names them in an error.

    Raises:
        UserError: the outcome is no valid set of params.
    """
    return edited(Path("params.yaml").read_text(encoding="utf-8"), changes, origin)


def example(name: str) -> dict[str, Any]:
    """What a kept parameter set changes of params.yaml.

    Raises:
        UserError: there is none of that name, or it is not readable.
    """
    file = EXAMPLES / f"{name}.yaml"
    if not file.exists():
        raise UserError(f"no example {name!r}; {did_you_mean(name, [f.stem for f in sorted(EXAMPLES.glob('*.yaml'))])}")
    try:
        return dict(YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")))
    except (YAMLError, TypeError) as error:
        raise UserError(f"{file} is not readable YAML: {error}") from None


def clone_name(name: str, changes: str) -> str:
    """A folder's name of what is run there: `clothing10-vgg11`."""
    values = [word.partition("=")[2] for word in changes.split()]
    return "-".join([name, *(re.sub(r"[^A-Za-z0-9.]+", "_", value) for value in values)])


def run(folder: Path, params: str) -> None:
    """Clone the last commit into `folder`, emptied before, and run the line there under these params.

    Which image is in which split and pretrained weights are taken along; what this project's cache already holds is not
    computed again.

    Raises:
        UserError: the line stopped.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    for file in Path("data/splits").glob("*.json"):
        shutil.copy(file, folder / "data/splits")
    shutil.copytree("data/weights", folder / "data/weights", dirs_exist_ok=True)
    env = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    cache = str(Path(".dvc/cache").absolute())
    subprocess.run(
        ["dvc", "cache", "dir", "--local", cache], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL
    )
    # Progress goes to standard error, so that a program can read what is printed at the end.
    if supervisor.run([sys.executable, "-m", "dvc", "repro"], env, cwd=folder, stdout=sys.stderr.fileno()):
        raise UserError(f"the line stopped in {folder}; it says why above")


def ended(folder: Path) -> str:
    """The run's last words."""
    summary = (folder / "data/report/summary.txt").read_text(encoding="utf-8")
    return f"{summary}report      {folder.absolute() / 'data/report/index.html'}"
