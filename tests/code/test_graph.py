"""dvc.yaml, the signatures of the stages and their imports say the same; the layers hold."""

import ast
import importlib
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.runner.code_check import RECORDS
from stages.runner.stage import In, Out, contract

ROOT = Path(__file__).parents[2]
FILES = ["dvc.yaml", "data/dvc.yaml", "data/sealed/dvc.yaml"]
GRAPH: dict[str, dict[str, Any]] = {
    name: stage for file in FILES for name, stage in YAML(typ="safe").load(ROOT / file)["stages"].items()
}
RESOLVE = "resolve"  # reads params.yaml itself, and writes what all others read
FINGERPRINT = "fingerprint"  # digests the code on which all others depend
STAGES = [name for name in GRAPH if name != RESOLVE]
NOT_IN_THE_GRAPH = {"compare_runs", "configure", "predict", "publish", "serve"}  # used by people, not by the line


def module_of(stage: dict[str, Any]) -> str:
    words = shlex.split(stage["cmd"])
    assert words[:2] == ["python", "-m"]
    return words[2]


def test_every_stage_of_the_folder_is_in_the_graph() -> None:
    verbs = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "__main__"}
    assert verbs == {module_of(stage).removeprefix("stages.") for stage in GRAPH.values()} | NOT_IN_THE_GRAPH


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keyword_only_arguments(name: str) -> None:
    _, sections = contract(importlib.import_module(module_of(GRAPH[name])).main)
    (output,) = GRAPH[RESOLVE]["outs"]
    assert GRAPH[name].get("params", []) == ([{output: list(sections)}] if sections else [])


@pytest.mark.parametrize("name", STAGES)
def test_paths_of_the_command_are_dependencies_and_outputs_in_the_order_of_the_signature(name: str) -> None:
    stage = GRAPH[name]
    given = shlex.split(stage["cmd"])[3:]
    paths, _ = contract(importlib.import_module(module_of(stage)).main)
    assert len(given) == len(paths)
    inputs = [g for g, kind in zip(given, paths.values(), strict=True) if kind is In]
    outputs = [g for g, kind in zip(given, paths.values(), strict=True) if kind is Out]
    assert set(inputs) <= set(stage["deps"])
    assert outputs == stage["outs"]
    code = [dep for dep in stage["deps"] if dep not in inputs]
    assert code == ([] if name == FINGERPRINT else [record_of(stage)])


def record_of(stage: dict[str, Any]) -> str:
    """The file with the digests of a stage's code."""
    return (RECORDS / f"{module_of(stage).removeprefix('stages.')}.txt").as_posix()


def test_the_digests_are_taken_of_all_code_into_the_folder_that_the_runner_reads() -> None:
    stage = GRAPH[FINGERPRINT]
    assert stage["deps"] == ["stages"] and stage["outs"] == [RECORDS.as_posix()]
    unchecked = [file.stem for file in sorted((ROOT / "stages").glob("*.py")) if "check_code=False" in file.read_text()]
    assert unchecked == [FINGERPRINT], "no other stage may run without a check of its code"


def test_params_are_resolved_by_code_whose_digests_are_taken() -> None:
    assert record_of(GRAPH[RESOLVE]) in GRAPH[RESOLVE]["deps"]
    assert f'code_check_of("{RESOLVE}")' in (ROOT / "stages/resolve.py").read_text()


def test_nothing_in_the_line_reads_the_sealed_test() -> None:
    line = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    deps = [dep for stage in line.values() for dep in stage["deps"]]
    assert deps
    assert not [dep for dep in deps if dep.startswith("data/sealed") or dep.startswith("data/unseal")]


def test_the_layers_hold() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
    assert "0 broken" in checked.stdout


def test_import_linter_has_no_exceptions() -> None:
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


def test_everything_that_benchmarks_import_from_the_project_exists() -> None:
    asked = [
        (file.name, node.module, alias.name)
        for file in sorted((ROOT / "benchmarks").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("stages", "flows")
        for alias in node.names
    ]
    assert len(asked) > 50
    for file, module, name in asked:
        there = hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}")
        assert there, f"benchmarks/{file}: {module} has no {name}"
