"""Files of a source with an index of their folders, so that the files of many folders are found in linear time."""

from collections.abc import Iterable, Iterator
from functools import cached_property

from stages.core.path_parts import parent_of, stem_of
from stages.images.archives import TABLE_SUFFIXES, SourceFiles


class IndexedFiles(SourceFiles):
    """Files of a source by path; files must not be added or removed after the first use of the index."""

    @cached_property
    def measured_masks(self) -> dict[str, bool]:
        """Return by path whether the opened files are masks; `LabelImageFiles` adds them."""
        return {}

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """Paths of the tables."""
        return tuple(path for path in self if path.lower().endswith(TABLE_SUFFIXES))

    @cached_property
    def by_stem(self) -> dict[tuple[str, str], list[str]]:
        """Paths by folder and name without suffix."""
        found: dict[tuple[str, str], list[str]] = {}
        for path in self:
            found.setdefault((parent_of(path), stem_of(path)), []).append(path)
        return found

    @cached_property
    def _by_folder(self) -> dict[str, list[str]]:
        return paths_by_folder(self)

    def below(self, folder: str) -> SourceFiles:
        """Return the files below a folder, at any depth, by their paths relative to it."""
        return {path[len(folder) + 1 :]: self[path] for path in self._by_folder.get(folder, ())}


def select_below(files: SourceFiles, folder: str) -> SourceFiles:
    """Return the files below a folder, at any depth, by their paths relative to it."""
    if isinstance(files, IndexedFiles):
        return files.below(folder)
    start = f"{folder}/"
    return {path.removeprefix(start): read for path, read in files.items() if path.startswith(start)}


def paths_by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the paths of the files below each folder, at any depth; '' is the root.

    >>> paths_by_folder(["a/b/1.png", "a/2.png"])["a"]
    ['a/b/1.png', 'a/2.png']
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        for folder in folders_above(parent_of(path)):
            found.setdefault(folder, []).append(path)
    return found


def folders_above(folder: str) -> Iterator[str]:
    """Yield a folder and all folders that contain it, to the root, which is ''.

    >>> list(folders_above("a/b"))
    ['a/b', 'a', '']
    """
    while folder:
        yield folder
        folder = parent_of(folder)
    yield ""
