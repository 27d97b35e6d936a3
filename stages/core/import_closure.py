"""Import closure of a module: the files it imports, directly or indirectly, and the data files that this code reads.

Imports inside functions count, imports under `if TYPE_CHECKING` do not. A string literal counts as an import if it is
the full name of a module, as in `importlib.import_module("stages.serving.app")`. Importing a submodule also runs the
`__init__` of its packages, so these are included, with their own imports.

A data file is any file below the package that is neither Python nor hidden. It belongs to the closure if a module or
data file of the closure names it in a string literal: `"report.html.j2"`, or `"themes/dark.css"` for a file in a
subfolder. The path is relative to the folder of that file or of any module of the closure. A folder without Python
files is included as a whole if a file of the closure names it relative to its own folder.
"""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.core.source_digest import Source, SourceCache

QUOTED = re.compile(rb"""["']([\w./-]{1,100})["']""")
SKIPPED_FOLDERS = {"__pycache__"}


class CodeTree:
    """The files of one package, each read once: a snapshot of the code on disk."""

    def __init__(self, package: Path, cache: SourceCache) -> None:
        """List the files below the folder `package`; they are read when they are needed."""
        self._root, self._cache = package.resolve().parent, cache
        files = sorted(_files_below(package.resolve()))
        self.data_files = [file for file in files if not file.endswith(".py")]
        """Files that are not Python, as paths relative to the folder that holds the package."""
        self._modules = {_module_name(file): file for file in files if file.endswith(".py")}
        self._names = {posixpath.basename(file) for file in self.data_files}
        with_python = {posixpath.dirname(file) for file in self._modules.values()}
        self._data_folders = {posixpath.dirname(file) for file in self.data_files} - with_python
        self._texts: dict[str, bytes] = {}
        self._parsed: dict[str, _Node] = {}

    def closure(self, module: str) -> dict[str, str]:
        """Return the digest of each file in the import closure of a module.

        Args:
            module: dotted name, such as `stages.train`.

        Returns:
            path relative to the folder that holds the package, such as `stages/train.py`: SHA-256 of the syntax tree
            of a Python file, of the bytes of a data file; sorted by path.

        Raises:
            ModuleNotFoundError: the package has no such module.
            FileNotFoundError: a file was deleted after the tree was listed.
        """
        if module not in self._modules:
            raise ModuleNotFoundError(f"there is no module {module} in {self._root}", name=module)
        nodes: dict[str, _Node] = {}
        pending = list(self._files_of(module))
        while pending:
            file = pending.pop()
            if file not in nodes:
                nodes[file] = self._node(file)
                pending += nodes[file].imports
        data = {file: hashlib.sha256(self._text(file)).hexdigest() for file in self._data_of(nodes)}
        return dict(sorted({**{file: node.digest for file, node in nodes.items()}, **data}.items()))

    def record(self, module: str) -> str:
        """Return the closure of a module as text, one line per file: digest and path.

        Raises:
            ModuleNotFoundError, FileNotFoundError: as for `closure`.
        """
        return "".join(f"{digest}  {file}\n" for file, digest in self.closure(module).items())

    def file_of(self, module: str) -> str | None:
        """Return the file of a module or package; None if it is not part of this package or has no file."""
        return self._modules.get(module)

    def _node(self, file: str) -> "_Node":
        if file not in self._parsed:
            source = self._cache.get(self._text(file))
            imports = {found for name in self._imported(file, source) for found in self._files_of(name)}
            named = tuple(string for string in source.strings if self._may_be_data(string))
            self._parsed[file] = _Node(source.digest, tuple(imports), named)
        return self._parsed[file]

    def _imported(self, file: str, source: Source) -> Iterator[str]:
        package = posixpath.dirname(file).split("/")
        for name in source.imports:
            level = len(name) - len(name.lstrip("."))
            around = package[: len(package) - level + 1] if level else []
            yield ".".join([*around, *filter(None, [name[level:]])])
        yield from (string for string in source.strings if string in self._modules)

    def _files_of(self, module: str) -> Iterator[str]:
        """Yield the file of each leading part of a dotted name that is a module or package of the tree.

        For `stages.core.errors.UserError` these are the files of `stages`, `stages.core` and `stages.core.errors`.
        """
        parts = module.split(".")
        names = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
        yield from (self._modules[name] for name in names if name in self._modules)

    def _may_be_data(self, string: str) -> bool:
        name = posixpath.basename(string)
        return name in self._names or any(folder.endswith(f"/{name}") for folder in self._data_folders)

    def _data_of(self, nodes: dict[str, "_Node"]) -> set[str]:
        """Return the data files that modules name, and those that these name in turn, as templates do."""
        folders = {posixpath.dirname(file) for file in nodes}
        found: set[str] = set()
        pending = [(file, node.named) for file, node in nodes.items() if node.named]
        while pending:
            file, strings = pending.pop()
            folder = posixpath.dirname(file)
            new = {one for string in strings for one in self._data_named(string, folder, folders | {folder})} - found
            found |= new
            pending += [(one, tuple(name.decode() for name in QUOTED.findall(self._text(one)))) for one in new]
        return found

    def _data_named(self, string: str, own_folder: str, folders: set[str]) -> Iterator[str]:
        places = {posixpath.normpath(posixpath.join(folder, string)) for folder in folders}
        yield from (file for file in self.data_files if file in places)
        named = posixpath.normpath(posixpath.join(own_folder, string))
        if named in self._data_folders:
            yield from (file for file in self.data_files if file.startswith(f"{named}/"))

    def _text(self, file: str) -> bytes:
        if file not in self._texts:
            self._texts[file] = (self._root / file).read_bytes()
        return self._texts[file]


@dataclass(frozen=True)
class _Node:
    """One Python file in the graph of imports."""

    digest: str
    imports: tuple[str, ...]
    """Files that are imported directly, with the `__init__` of their packages."""
    named: tuple[str, ...]
    """String literals that may name data files."""


def _module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _files_below(package: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(package):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith(".")]
        place = Path(folder).relative_to(package.parent).as_posix()
        yield from (f"{place}/{name}" for name in files if not name.startswith("."))
