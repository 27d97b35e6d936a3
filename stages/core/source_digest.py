"""Digest of a Python file that comments, docstrings and formatting do not change, with the names the file refers to.

`parse` computes it, and `SourceCache` stores the results.
"""

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = re.compile(r"[\w./-]{1,100}")
"""Pattern of string literals that may name a module, a file or a folder."""


@dataclass(frozen=True)
class Source:
    """Digest of one Python file, and the modules and files that its code names."""

    digest: str
    """SHA-256 of the syntax tree, or of the text if it cannot be parsed, as hexadecimal digits."""
    imports: tuple[str, ...] = ()
    """Dotted names in import statements, sorted, with leading dots if relative.

    `import a.b` adds `a.b`; `from a.b import c` adds `a.b` and `a.b.c`.
    """
    strings: tuple[str, ...] = ()
    """String literals that may name a module, a file or a folder, sorted."""


def parse(text: bytes) -> Source:
    """Parse the text of a Python file.

    The digest covers the syntax tree without positions, docstrings, other string literals that stand alone as a
    statement, `pass`, and blocks under `if TYPE_CHECKING`: none of these changes what the code does.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        # The stage that imports this file fails and shows the error. Until it is fixed, any edit changes the digest.
        return Source(hashlib.sha256(text).hexdigest())
    found = _Found()
    found.visit(tree)
    digest = hashlib.sha256("\0".join(found.tokens).encode(errors="surrogatepass")).hexdigest()
    return Source(digest, tuple(sorted(found.imports)), tuple(sorted(found.strings)))


@dataclass
class _Found:
    """Result of one walk over a syntax tree."""

    tokens: list[str] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)

    def visit(self, node: ast.AST) -> None:
        # Empty fields are omitted, because a new Python version may add one to every node.
        self.tokens.append(type(node).__name__)
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in ("kind", "type_comment"):
                continue
            self.tokens.append(name)
            if isinstance(value, ast.AST):
                self.visit(value)
            elif isinstance(value, list):
                self._visit_list(value)
            else:
                self.tokens.append(repr(value))
        self.tokens.append(")")
        self._note(node)

    def _visit_list(self, values: Sequence[Any]) -> None:
        for value in _with_effect(values):
            if isinstance(value, ast.AST):
                self.visit(value)
            else:
                self.tokens.append(repr(value))
        self.tokens.append("]")

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            self.imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            joint = "" if module.endswith(".") else "."
            self.imports |= {module, *(f"{module}{joint}{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            self.strings.add(node.value)


def _with_effect(values: Sequence[Any]) -> Iterator[Any]:
    """Yield the items of a list of the syntax tree, without statements that have no effect when the code runs."""
    for value in values:
        if isinstance(value, ast.If) and _is_type_checking(value.test):
            yield from _with_effect(value.orelse)
        elif not isinstance(value, ast.Pass) and not _is_text(value):
            yield value


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class SourceCache:
    """Parsed files by the SHA-256 of their bytes, so that an unchanged file is not parsed again.

    The key is the content: a file that was edited without a change of its size or time is still parsed again.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Read `file` if `save` of this version of the code has written it; with None, the cache is in memory only."""
        self._file, self._is_new = file, False
        self._sources: dict[str, Source] = {}
        self._used: set[str] = set()
        # Another version of this module or of Python may compute another digest.
        self._version = f"{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()} {sys.version_info[:2]}"
        if file is not None and file.exists():
            try:
                stored = json.loads(file.read_bytes())
                if stored["version"] == self._version:
                    self._sources = {key: Source(d, tuple(i), tuple(s)) for key, (d, i, s) in stored["sources"].items()}
            except (ValueError, KeyError, TypeError) as error:
                print(f"{file} is not readable ({error}); all code is parsed again", flush=True)

    def get(self, text: bytes) -> Source:
        """Return the parsed file whose content is `text`."""
        key = hashlib.sha256(text).hexdigest()
        if key not in self._sources:
            self._sources[key], self._is_new = parse(text), True
        self._used.add(key)
        return self._sources[key]

    def save(self, only_used: bool = False) -> None:
        """Write the cache file, if there is one and anything was parsed since it was last read or written.

        Args:
            only_used: omit files that this process has not requested, such as earlier versions.
        """
        if self._file is None or not self._is_new:
            return
        kept = self._used if only_used else self._sources.keys()
        sources = {key: (s.digest, s.imports, s.strings) for key in kept for s in [self._sources[key]]}
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"version": self._version, "sources": sources}))
        part.replace(self._file)
        self._is_new = False
