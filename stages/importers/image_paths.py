"""Find the file that a label file means by a path, such as an absolute path of another machine."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import unquote

from stages.core.plurals import list_names, quantity
from stages.images.decode import Unreadable
from stages.importers.sample import SPLIT_WORDS

MAX_LISTED = 3  # files that a message names


class ImageFinder:
    """Files of a source, found by paths that are written in label files."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for file in sorted(self._files):
            self._by_name[_fold(PurePosixPath(file).name)].append(file)
        folders = {folder for file in self._files for folder in PurePosixPath(_fold(file)).parents}
        self._folder_ends = {folder.parts[start:] for folder in folders for start in range(len(folder.parts))}

    def find(self, written: str) -> str:
        """Return the only file whose path ends with the written path, or with an end of it, the longest first.

        Case, Unicode normalization and percent-encoding are ignored if no file matches exactly. An end without a folder
        that the source has does not count: the file is missing there, and one of the same name elsewhere is another.

        Raises:
            Unreadable: no file matches, or several do; the message lists them.
        """
        path = written.replace("\\", "/").removeprefix("file://")
        for spelling in dict.fromkeys((path, unquote(path))):
            parts = [part for part in spelling.split("/") if part not in ("", ".")]
            for start in range(len(parts)):
                if start and tuple(map(_fold, parts[start - 1 : -1])) in self._folder_ends:
                    break
                found = self._ending_with(parts[start:], {_fold(part) for part in parts[:start]})
                if len(found) == 1:
                    return found[0]
                if found:
                    raise Unreadable(
                        f"{quantity(len(found), 'file')} match this path: {list_names(found, MAX_LISTED)}; write the "
                        "path as it is in the source"
                    )
        raise Unreadable(f"the file does not exist{self._similar(path)}")

    def find_all(self, written: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Find many paths; of different paths that lead to one file, only the exact path of the file is found.

        Returns:
            file by written path, and reason by written path of those that are not found.
        """
        found, failed = {}, {}
        paths_of: dict[str, list[str]] = defaultdict(list)
        for path in dict.fromkeys(written):
            try:
                found[path] = self.find(path)
                paths_of[found[path]].append(path)
            except Unreadable as error:
                failed[path] = str(error)
        for file, paths in paths_of.items():
            for path in paths if len(paths) > 1 else ():
                if path != file:
                    del found[path]
                    other = next(one for one in paths if one != path)
                    failed[path] = f"this path and {other} both match {file}; write the path as it is in the source"
        return found, failed

    def _ending_with(self, end: list[str], without: set[str]) -> list[str]:
        """Return the files that end with these parts, else those that do in another case.

        Args:
            end: last parts of a path.
            without: folders that must not precede the end, because the path has them in another place.
        """
        written = "/".join(end)
        if written in self._files:
            return [written]
        named = [
            file
            for file in self._by_name.get(_fold(end[-1]), [])
            if f"/{_fold(file)}".endswith(f"/{_fold(written)}")
            and not _contradict(_fold(file).split("/")[: -len(end)], without)
        ]
        return [file for file in named if file.endswith(f"/{written}")] or named

    def _similar(self, path: str) -> str:
        named = self._by_name.get(_fold(unquote(PurePosixPath(path).name)), [])
        return f"; of the same name: {list_names(named, MAX_LISTED)}" if named else ""


def _contradict(above: Iterable[str], left_out: set[str]) -> bool:
    """Return whether a file is elsewhere: below a folder that the path leaves out, or in the folder of another split.

    Args:
        above: folders of the file above the end that matches, in lower case.
        left_out: folders of the path above that end, in lower case.
    """
    splits, others = ({SPLIT_WORDS[part] for part in parts if part in SPLIT_WORDS} for parts in (above, left_out))
    return not left_out.isdisjoint(above) or bool(splits and others and splits.isdisjoint(others))


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
