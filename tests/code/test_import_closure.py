"""Edits that change the digest of a file, and the files in the closure of a module."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.import_closure import CodeTree
from stages.core.source_digest import SourceCache, parse
from stages.fingerprint import main as fingerprint
from stages.runner.stage import In, Out
from tests.code.test_graph import GRAPH, module_of
from tests.conftest import ROOT

FILES = sorted((ROOT / "stages").rglob("*.py"))
CODE = '''
"""Module."""
from pathlib import Path
LIMIT = 3
"""Most of them."""

def area(width: int, height: int = 2) -> int:
    """Return it."""
    # a comment
    assert width > 0, "width"
    return width * height
'''


def tree(folder: Path, files: dict[str, str]) -> CodeTree:
    """Write the files into a package `app`, and return its code tree."""
    for name, text in files.items():
        (folder / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "app" / name).write_text(text)
    return CodeTree(folder / "app", SourceCache())


@pytest.fixture(scope="module")
def project() -> CodeTree:
    return CodeTree(ROOT / "stages", SourceCache())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Module."""', '"""Another one."""'),
        ('"""Module."""\n', ""),
        ('"""Most of them."""', '"""Fewest."""'),
        ('    """Return it."""\n', ""),
        ("    # a comment\n", ""),
        ("width * height", "(width *\n            height)  # cm2"),
        ('"width"', "'width'"),
        ("LIMIT = 3\n", "LIMIT = 3\n\n\nif TYPE_CHECKING:\n    from decimal import Decimal\n\n"),
        ("LIMIT = 3\n", "LIMIT = 0x3\n"),
    ],
)
def test_comments_docstrings_and_formatting_change_no_digest(before: str, after: str) -> None:
    assert before in CODE
    assert parse(CODE.replace(before, after).encode()).digest == parse(CODE.encode()).digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("LIMIT = 3", "LIMIT = '3'"),
        ("LIMIT = 3", "LIMIT = True"),
        ("height: int = 2", "height: int = 1"),
        ("height: int = 2", "height: int"),
        ("width: int,", "width: float,"),
        ("width * height", "height * width"),
        ("width * height", "width - height"),
        ('"width"', '"height"'),
        ('    assert width > 0, "width"\n', ""),
        ("def area", "@staticmethod\ndef area"),
        ("def area", "async def area"),
        ("import Path", "import PurePath"),
        ("LIMIT = 3\n", "if TYPE_CHECKING:\n    pass\nelse:\n    LIMIT = 3\nother = 1\n"),
    ],
)
def test_an_edit_of_code_changes_the_digest(before: str, after: str) -> None:
    assert before in CODE
    assert parse(CODE.replace(before, after).encode()).digest != parse(CODE.encode()).digest


def test_reformatting_and_replacing_docstrings_changes_no_digest_of_the_project() -> None:
    assert len(FILES) > 200
    for file in FILES:
        module = ast.parse(file.read_text())
        for node in ast.walk(module):
            if ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else None:
                node.body[0] = ast.Expr(ast.Constant("Another docstring."))  # type: ignore[attr-defined]
        assert parse(ast.unparse(module).encode()).digest == parse(file.read_bytes()).digest, file


def test_the_digest_of_invalid_python_depends_on_every_byte() -> None:
    assert parse(b"def (").digest != parse(b"def  (").digest


def test_imports_of_every_kind_are_followed(tmp_path: Path) -> None:
    code = tree(tmp_path, {
        "__init__.py": "",
        "run.py": "import app.plain\nfrom app.package import submodule, name\nfrom app.star import *\n"
                  "import os, numpy\n"
                  "def later():\n    from app import lazy\n    class Inner:\n        from .relative import deep\n",
        "plain.py": "import importlib\nmodule = importlib.import_module('app.named')\n",
        "package/__init__.py": "from app.package.exported import name",
        "package/exported.py": "from ..up import one",
        "package/submodule.py": "",
        "package/unused.py": "",
        "star.py": "", "lazy.py": "", "up.py": "from . import beside", "beside.py": "", "unused.py": "",
        "named.py": "COMMAND = ['python', '-m', 'app.command', 'app.nothing', 'app']",
        "command.py": "", "relative/__init__.py": "", "relative/deep.py": "from . import deep",
    })  # fmt: skip
    files = {name.removeprefix("app/") for name in code.closure("app.run")}
    assert files == {
        "__init__.py", "run.py", "plain.py", "named.py", "command.py", "star.py", "lazy.py", "up.py", "beside.py",
        "package/__init__.py", "package/exported.py", "package/submodule.py", "relative/__init__.py",
        "relative/deep.py",
    }  # fmt: skip
    assert list(code.closure("app.lazy")) == ["app/__init__.py", "app/lazy.py"]


@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_type_checkers_are_not_followed(tmp_path: Path, test: str) -> None:
    text = f"if {test}:\n    from app import types\nelse:\n    from app import real\n"
    code = tree(tmp_path, {"run.py": text, "types.py": "", "real.py": ""})
    assert list(code.closure("app.run")) == ["app/real.py", "app/run.py"]


def test_data_files_are_found_by_strings_with_their_name(tmp_path: Path) -> None:
    code = tree(tmp_path, {
        "run.py": "from app.pages import page\npage.write('report.html')\n",
        "other.py": "NAME = 'report.html'",
        "pages/__init__.py": "",
        "pages/page.py": "STYLE = HERE / 'themes/dark.css'\nWEB = HERE / 'web'\nWORD = 'not a name'",
        "pages/report.html": "{% extends 'base.html' %} <a href=\"index.html\">",
        "pages/base.html": "{% include \"parts.html\" %}",
        "pages/parts.html": "", "pages/unused.html": "", "pages/themes/dark.css": "", "pages/themes/light.css": "",
        "pages/web/index.js": "", "pages/web/deep/icon.svg": "",
        "server/index.html": "", "server/report.html": "", "server/__init__.py": "",
    })  # fmt: skip
    data = [name.removeprefix("app/pages/") for name in code.closure("app.run") if not name.endswith(".py")]
    assert data == ["base.html", "parts.html", "report.html", "themes/dark.css", "web/deep/icon.svg", "web/index.js"]
    assert list(code.closure("app.other")) == ["app/other.py"], (
        "it imports no module of a folder with a file of that name"
    )


def test_the_digest_of_a_data_file_depends_on_every_byte(tmp_path: Path) -> None:
    files = {"run.py": "STYLE = 'style.css'", "style.css": "a {}"}
    before = tree(tmp_path, files).closure("app.run")
    after = tree(tmp_path, {"style.css": "a  {}"}).closure("app.run")
    assert [name for name in before if before[name] != after[name]] == ["app/style.css"]


def test_every_data_file_is_in_the_closure_of_a_stage(project: CodeTree) -> None:
    stages = [file.stem for file in (ROOT / "stages").glob("*.py") if not file.stem.startswith("__")]
    reached = {name for stage in stages for name in project.closure(f"stages.{stage}")}
    assert len(project.data_files) > 20
    assert set(project.data_files) <= reached


def test_lazy_imports_and_templates_of_the_project_are_in_the_closure(project: CodeTree) -> None:
    report = project.closure("stages.report")
    assert {"stages/reports/report.html.j2", "stages/reports/macros.html.j2", "stages/reports/page.css"} <= set(report)
    assert "stages/reports/card.md.j2" not in report
    lazy = "from stages.config.resolved import "
    assert f"    {lazy}" in (ROOT / "stages/runner/stage.py").read_text()
    assert "stages/config/resolved.py" in project.closure("stages.fetch_demo")


def test_an_unknown_module_is_an_error(project: CodeTree) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"stages\.nothing"):
        project.closure("stages.nothing")


def test_stages_import_modules_only_by_constant_names(project: CodeTree) -> None:
    """Check the names because the closure cannot follow computed ones; only commands of `macula` use these."""
    files = {name for stage in GRAPH.values() for name in project.closure(module_of(stage)) if name.endswith(".py")}
    assert len(files) > 100 and "stages/command_line/app.py" not in files
    calls = [
        (file, node)
        for file in (ROOT / name for name in files)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
    ]
    for file, node in calls:
        name = node.args[0]
        assert isinstance(name, ast.Constant) and not str(name.value).startswith("."), f"{file}:{node.lineno}"


@pytest.mark.parametrize("stage", ["gate", "model_card"])
def test_the_closure_contains_every_module_that_python_imports(project: CodeTree, stage: str) -> None:
    code = f"import stages.{stage}, sys; print(*(m for m in sys.modules if m.split('.')[0] == 'stages'))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {project.file_of(name) for name in loaded.split()}
    assert len(files) > 10
    assert files <= set(project.closure(f"stages.{stage}"))


def test_parsed_files_are_cached_by_content(tmp_path: Path) -> None:
    cache = SourceCache(tmp_path / "cache.json")
    source = cache.get(CODE.encode())
    cache.get(b"x = 1")
    cache.save()
    reopened = SourceCache(tmp_path / "cache.json")
    assert reopened.get(CODE.encode()) == source
    reopened.save(only_used=True)
    assert len(json.loads((tmp_path / "cache.json").read_text())["sources"]) == 2, (
        "without new entries the file is not written"
    )
    reopened.get(b"y = 1")
    reopened.save(only_used=True)
    assert len(json.loads((tmp_path / "cache.json").read_text())["sources"]) == 2, "x = 1 was not used"


@pytest.mark.parametrize("damage", ["{", "{}", '{"version": 1, "sources": {}}', "[]"])
def test_a_damaged_or_old_cache_is_not_used(tmp_path: Path, damage: str) -> None:
    (tmp_path / "cache.json").write_text(damage)
    assert SourceCache(tmp_path / "cache.json").get(CODE.encode()) == parse(CODE.encode())


def test_fingerprint_writes_one_file_per_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    tree(tmp_path, {"__init__.py": "", "a.py": "from app.lib import f", "b.py": "", "lib/f.py": ""})
    fingerprint(In(Path("app")), Out(Path("out")))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt"]
    lines = (tmp_path / "out/a.txt").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["app/__init__.py", "app/a.py", "app/lib/f.py"]
