"""Find the file that a label file means by a path, such as an absolute path of another machine."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import unquote

from stages.core.path_parts import folders_of, name_of, parent_of, without_suffix
from stages.core.plurals import list_names, quantity
from stages.images.decode import Unreadable, is_image_path
from stages.importers.sample import SPLIT_WORDS

MAX_LISTED = 3  # files that a message names


class ImageFinder:
    """Files of a source, found by paths that are written in label files."""

    def __init__(self, files: Iterable[str]) -> None:
        ordered = sorted(known := frozenset(files))
        self._files_at: dict[str, list[str]] = {file: [file] for file in ordered}
        """Files by path, and images by path without suffix, as ids in tables are written."""
        for file in ordered:
            if is_image_path(file) and (bare := without_suffix(file)) not in known:
                self._files_at.setdefault(bare, []).append(file)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self._files_at:
            self._by_name[_fold(name_of(path))].append(path)
        folders = {folders_of(_fold(f"{folder}/")) for folder in {*map(parent_of, ordered)} - {""}}
        self._folder_ends = {
            folder[start:end] for folder in folders for end in range(1, len(folder) + 1) for start in range(end)
        }

    def find(self, written: str) -> str:
        """Return the only file whose path ends with the written path, or with an end of it, the longest first.

        Case, Unicode normalization and percent-encoding are ignored if no file matches exactly. An end without a folder
        that the source has does not count: the file is missing there, and one of the same name elsewhere is another.
        The suffix of an image may be missing.

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
        if written in self._files_at:
            return self._files_at[written]
        named = [
            path
            for path in self._by_name.get(_fold(end[-1]), [])
            if f"/{_fold(path)}".endswith(f"/{_fold(written)}")
            and not _contradict(_fold(path).split("/")[: -len(end)], without)
        ]
        named = [path for path in named if path.endswith(f"/{written}")] or named
        return [file for path in named for file in self._files_at[path]]

    def _similar(self, path: str) -> str:
        paths = self._by_name.get(_fold(unquote(PurePosixPath(path).name)), [])
        named = [file for one in paths for file in self._files_at[one]]
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
