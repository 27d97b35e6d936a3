"""Tests that the commit hooks, `make check` and CI run the same checks."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
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
    commands = [line.split("$(RUN) ")[1].removesuffix(" .") for line in recipe[1].splitlines()]
    hook_commands = [Path(hook["entry"]).name.removesuffix(" --force-exclude") for hook in hooks()]
    assert hook_commands == [line.removesuffix(" --check") for line in commands]


def test_the_hooks_are_valid_and_their_tools_are_installed() -> None:
    pre_commit = Path(sys.executable).with_name("pre-commit")
    done = subprocess.run([pre_commit, "validate-config", CONFIG], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for hook in hooks():
        assert (ROOT / shlex.split(hook["entry"])[0]).exists()


SKIPPING = """
import sys, pytest
@pytest.fixture
def browser():
    pytest.skip("no Chromium on this machine")
def test_with_a_missing_tool(browser): pass
def test_with_a_missing_package(): pytest.importorskip("no_such_package")
@pytest.mark.skipif(True, reason="a tool is missing")
def test_marked(): pass
def test_without_reference_data(): pytest.skip("reference data sets are not at /x")
@pytest.mark.xfail(reason="expected")
def test_failing(): assert 0
def test_passing(): pass
"""


@pytest.mark.parametrize(("required", "outcomes"), [("", (0, 0, 4, 1, 1)), ("1", (1, 2, 1, 1, 1))])
def test_a_missing_tool_is_a_failure_if_tools_are_required(
    tmp_path: Path, required: str, outcomes: tuple[int, ...]
) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.skips", "-c", os.devnull, "--rootdir", tmp_path, tmp_path],
        cwd=ROOT,
        env={**os.environ, "MACULA_REQUIRE_TOOLS": required},
        capture_output=True,
        text=True,
    )
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (failed|error|skipped|xfailed|passed)", done.stdout)
    }
    assert tuple(counts.get(word, 0) for word in ("failed", "error", "skipped", "xfailed", "passed")) == outcomes, (
        done.stdout
    )


def test_ci_requires_all_tools() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "export MACULA_REQUIRE_TOOLS=1" in script
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0
    assert script.rstrip().endswith("make test")


def test_no_symbolic_link_is_committed() -> None:
    # A link to a folder of a developer's machine is dangling in every other clone, and hides what make would create.
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert listed
    assert [line for line in listed.splitlines() if line.startswith("120000")] == []
