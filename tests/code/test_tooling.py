"""Checks before a commit, in `make check` and in CI are the same."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.conftest import ROOT

CONFIG = ROOT / ".pre-commit-config.yaml"


def hooks() -> list[dict[str, Any]]:
    (repository,) = YAML(typ="safe").load(CONFIG)["repos"]
    assert repository["repo"] == "local", "hooks must run offline"
    return repository["hooks"]


def test_the_hooks_run_the_tools_of_make_check() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    checked = [line.split("$(RUN) ")[1].removesuffix(" .") for line in recipe[1].splitlines()]
    run = [Path(hook["entry"]).name.removesuffix(" --force-exclude") for hook in hooks()]
    assert run == [line.removesuffix(" --check") for line in checked]


def test_the_hooks_are_valid_and_their_tools_are_installed() -> None:
    pre_commit = Path(sys.executable).with_name("pre-commit")
    done = subprocess.run([pre_commit, "validate-config", CONFIG], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for hook in hooks():
        assert (ROOT / shlex.split(hook["entry"])[0]).exists()
