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

from stages.runner.stage import In, Out, contract

ROOT = Path(__file__).parents[2]
FILES = ["dvc.yaml", "data/dvc.yaml", "data/sealed/dvc.yaml"]
GRAPH: dict[str, dict[str, Any]] = {
    name: stage for file in FILES for name, stage in YAML(typ="safe").load(ROOT / file)["stages"].items()
}
NOT_IN_THE_GRAPH = {"compare_runs", "configure", "predict", "publish", "serve"}  # used by people, not by the line


def module_of(stage: dict[str, Any]) -> str:
    words = shlex.split(stage["cmd"])
    assert words[:2] == ["python", "-m"]
    return words[2]


def test_every_stage_of_the_folder_is_in_the_graph() -> None:
    verbs = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert verbs == {module_of(stage).removeprefix("stages.") for stage in GRAPH.values()} | NOT_IN_THE_GRAPH


@pytest.mark.parametrize("name", GRAPH)
def test_params_are_the_keyword_only_arguments(name: str) -> None:
    _, sections = contract(importlib.import_module(module_of(GRAPH[name])).main)
    assert GRAPH[name].get("params", []) == list(sections)


@pytest.mark.parametrize("name", GRAPH)
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
    assert all(dep.startswith("stages/") for dep in code)


@pytest.mark.parametrize("name", GRAPH)
def test_dependencies_cover_all_code_that_a_stage_imports(name: str) -> None:
    imported = {"/".join(file.relative_to(ROOT).parts[:2]) for file in closure(module_of(GRAPH[name]))}
    assert imported, "a stage imports itself at least"
    declared = {dep for dep in GRAPH[name]["deps"] if dep.startswith("stages/")}
    assert declared == imported - {"stages/__init__.py"}


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


def closure(module: str) -> set[Path]:
    """All files of the project that a module imports, itself included."""
    seen: set[Path] = set()
    todo = [module]
    while todo:
        file = file_of(todo.pop())
        if file and file not in seen:
            seen.add(file)
            todo += imported_by(file)
    return seen


def file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((c for c in candidates if module.startswith("stages") and c.exists()), None)


def imported_by(file: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def test_what_benchmarks_import_of_the_project_exists() -> None:
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
