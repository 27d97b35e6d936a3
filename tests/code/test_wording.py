"""Tests of the wording: denied words, first lines of docstrings, and their `Args:` sections."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

from stages.tasks.task_interface import Task
from tests.conftest import ROOT

CODE = ("stages", "flows", "benchmarks", "infra", "tests")
COMPARATIVES = r"longer|more|better|worse|closer|less|lower|higher|larger|smaller"
DENIED = (
    r"foretells?|foretold|(?:un)?mend(?:s|ed|ing)?|nought|whoever|unasked|anew|things?|told|tells|by heart|"
    rf"held? against|(?:is|are) no (?!(?:{COMPARATIVES})\b)[a-z]+|goes on where|taken up|a class a pixel|"
    r"an image a row|(?:takes?|took) down|swells?|bursts?|who (?:waits|opens|sent)|whole or absent|"
    r"lets? pass|as (?:it|they) stands?"
)
"""Words of the former private vocabulary, and metaphors."""
DENY = re.compile(rf"(?<!there )\b(?:{DENIED})\b", re.IGNORECASE)
FRAGMENT = re.compile(
    r"(?:Of|As|By|With|And|That|So|It|Its|Inside|Also|But|Or|Than|Such|Likewise|Beside"
    r"|What|Whether|How|Which|Where|Who|Why|When)\b|\["
)
"""Beginnings of first lines that are sentence fragments."""
LABEL = re.compile(r"(?:As|And|That|So|It|Its|Inside|Also|But|Or|Than|Such|Likewise|Beside)\b|\[")
"""Beginnings of attribute docstrings that are fragments; noun phrases and `Whether ...` are allowed."""


def files(*suffixes: str) -> list[Path]:
    """Return the tracked files with these suffixes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name.endswith(suffixes) and (ROOT / name).is_file()]


def python_files() -> list[Path]:
    """Return the Python files of the project."""
    return [file for file in files(".py") if file.relative_to(ROOT).parts[0] in CODE]


def docstrings(tree: ast.Module) -> Iterator[tuple[bool, str, int]]:
    """Yield each docstring as (whether it describes an attribute, text, line number)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for index, statement in enumerate(node.body):
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    yield index > 0, str(statement.value.value), statement.lineno


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the text of a file by line: strings, comments and names of functions in Python, all lines elsewhere."""
    source = file.read_text(encoding="utf-8")
    if file.suffix == ".js":
        source = re.sub(r"\bthings:|\.things\b", "", source)  # a key of the JSON that `predict` writes
    if file.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type == tokenize.STRING and (" " in token.string):
            yield token.start[0], re.sub(r"\{[^{}]*\}", "", token.string)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name.replace("_", " ")


def test_texts_contain_no_denied_words() -> None:
    checked = [
        file
        for file in [*python_files(), *files(".md", ".j2", ".html", ".js", ".css", ".toml")]
        if file != Path(__file__)
    ]
    found = [
        f"{file.relative_to(ROOT)}:{line}: {match.group()!r} in {text.strip()[:90]!r}"
        for file in checked
        for line, text in texts(file)
        for match in DENY.finditer(text)
    ]
    assert len(checked) > 300
    assert not found, f"{len(found)} denied words:\n" + "\n".join(found)


def test_first_lines_of_docstrings_are_sentences() -> None:
    checked, found = 0, []
    for file in python_files():
        for attribute, text, line in docstrings(ast.parse(file.read_text(encoding="utf-8"))):
            first = text.strip().split("\n")[0]
            checked += 1
            if (LABEL if attribute else FRAGMENT).match(first) or not (attribute or re.search(r"[.:?]`*$", first)):
                found.append(f"{file.relative_to(ROOT)}:{line}: {first[:100]}")
    assert checked > 2000
    assert not found, f"{len(found)} first lines are fragments:\n" + "\n".join(found)


def documented_elsewhere(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether the parameters are documented elsewhere: methods of `Task`, `main` of stages, command options."""
    parameters = [*node.args.args, *node.args.kwonlyargs]
    first = ast.unparse(parameters[0].annotation) if parameters and parameters[0].annotation else ""
    stage = node.name == "main" and first == "In"
    return node.name in vars(Task) or stage or "Annotated[" in ast.unparse(node.args)


def test_public_functions_document_their_arguments() -> None:
    checked, found = 0, []
    for file in python_files():
        if file.relative_to(ROOT).parts[0] == "tests":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            names = [
                a.arg
                for a in [*node.args.args, *node.args.kwonlyargs]
                if a.arg not in ("self", "cls") and a.arg[0] != "_"
            ]
            text = ast.get_docstring(node)
            if len(names) > 2 and text is not None:
                checked += 1
                if "Args:" not in text and not documented_elsewhere(node):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.name}({', '.join(names)})")
    assert checked > 100
    assert not found, f"{len(found)} functions without an Args section:\n" + "\n".join(found)
