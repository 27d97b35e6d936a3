"""Tests that dvc.yaml agrees with the signatures of the stages, and that imports respect the layers."""

import ast
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from infra.import_contracts import PAGES, sentence
from stages.runner.code_check import RECORDS
from stages.runner.stage import In, Out, contract

ROOT = Path(__file__).parents[2]
FILES = ["dvc.yaml", "data/dvc.yaml", "data/sealed/dvc.yaml"]
GRAPH: dict[str, dict[str, Any]] = {
    name: stage for file in FILES for name, stage in YAML(typ="safe").load(ROOT / file)["stages"].items()
}
RESOLVE = "resolve"  # reads params.yaml and writes the params that all other stages read
FINGERPRINT = "fingerprint"  # writes the code digests on which all other stages depend
STAGES = [name for name in GRAPH if name != RESOLVE]
NOT_IN_THE_GRAPH = {
    "check_drift",
    "compare_models",
    "compare_runs",
    "configure",
    "predict",
    "publish",
    "serve",
}  # run by users, not by the pipeline


def module_of(stage: dict[str, Any]) -> str:
    words = shlex.split(stage["cmd"])
    assert words[:2] == ["python", "-m"]
    return words[2]


def test_every_stage_of_the_folder_is_in_the_graph() -> None:
    names = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "__main__"}
    assert names == {module_of(stage).removeprefix("stages.") for stage in GRAPH.values()} | NOT_IN_THE_GRAPH


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keyword_only_arguments(name: str) -> None:
    _, sections = contract(importlib.import_module(module_of(GRAPH[name])).main)
    (output,) = GRAPH[RESOLVE]["outs"]
    assert GRAPH[name].get("params", []) == ([{output: list(sections)}] if sections else [])


@pytest.mark.parametrize("name", STAGES)
def test_paths_of_the_command_match_the_signature_and_the_graph(name: str) -> None:
    stage = GRAPH[name]
    arguments = shlex.split(stage["cmd"])[3:]
    paths, _ = contract(importlib.import_module(module_of(stage)).main)
    assert len(arguments) == len(paths)
    inputs = [argument for argument, kind in zip(arguments, paths.values(), strict=True) if kind is In]
    outputs = [argument for argument, kind in zip(arguments, paths.values(), strict=True) if kind is Out]
    assert set(inputs) <= set(stage["deps"])
    assert outputs == stage["outs"]
    code = [dep for dep in stage["deps"] if dep not in inputs]
    assert code == ([] if name == FINGERPRINT else [record_of(stage)])


def record_of(stage: dict[str, Any]) -> str:
    """Return the file with the digests of a stage's code."""
    return (RECORDS / f"{module_of(stage).removeprefix('stages.')}.txt").as_posix()


def test_code_digests_are_written_where_the_runner_reads_them() -> None:
    stage = GRAPH[FINGERPRINT]
    assert stage["deps"] == ["stages"] and stage["outs"] == [RECORDS.as_posix()]
    unchecked = [file.stem for file in sorted((ROOT / "stages").glob("*.py")) if "check_code=False" in file.read_text()]
    assert unchecked == [FINGERPRINT], "no other stage may run without a check of its code"


def test_the_code_that_resolves_params_is_checked() -> None:
    assert record_of(GRAPH[RESOLVE]) in GRAPH[RESOLVE]["deps"]
    assert f'code_check_of("{RESOLVE}")' in (ROOT / "stages/resolve.py").read_text()


def test_no_stage_of_the_pipeline_reads_the_sealed_test() -> None:
    pipeline = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    deps = [dep for stage in pipeline.values() for dep in stage["deps"]]
    assert deps
    assert not [dep for dep in deps if dep.startswith("data/sealed") or dep.startswith("data/unseal")]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_imports_respect_the_layers() -> None:
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout
    assert "0 broken" in checked.stdout


ADDED = {
    "stages/added.py": "import stages.ingest",
    "stages/heavy.py": "import torch",
    "stages/unlisted/__init__.py": "",
    "flows/added.py": "import stages.added",
    "stages/core/upwards.py": "import stages.images.decode",
}


def test_new_files_are_subject_to_the_contracts(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for folder in ("stages", "flows", "benchmarks", "infra"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in ADDED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    output = lint_imports(tmp_path).stdout
    assert "3 broken" in output
    assert "stages.added is not allowed to import stages.ingest" in output
    assert "stages.heavy is not allowed to import torch" in output
    assert "stages.unlisted" in output
    assert "flows is not allowed to import stages.added" in output
    assert "stages.core is not allowed to import stages.images" in output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_list_the_defined_layers(page: Path) -> None:
    assert sentence() in page.read_text(), "run `python -m infra.import_contracts`"
    assert {"training", "images", "core"} <= set(re.findall(r"`(\w+)`", sentence()))


def test_import_linter_has_no_exceptions() -> None:
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


def test_names_that_benchmarks_import_from_the_project_exist() -> None:
    imports = [
        (file.name, node.module, alias.name)
        for file in sorted((ROOT / "benchmarks").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("stages", "flows")
        for alias in node.names
    ]
    assert len(imports) > 50
    for file, module, name in imports:
        exists = hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}")
        assert exists, f"benchmarks/{file}: {module} has no {name}"
