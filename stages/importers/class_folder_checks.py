"""Evidence that folders of images are not classes: versions of one scene, parts of file names, or objects."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from stages.core.errors import UserError
from stages.core.path_parts import IMAGE_SUFFIXES, folders_of, name_of, stem_of, suffix_of
from stages.core.plurals import list_names, quantity
from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable, is_image_path
from stages.importers.csv_text import decode_csv
from stages.importers.indexed_files import IndexedFiles
from stages.importers.redundant_files import COPY
from stages.importers.sample import read_label_file
from stages.importers.side_by_side import SceneVersions

MOST = 0.9  # share of the images, folders or lines that must agree
MANY_FOLDERS, FEW_IMAGES = 8, 12  # number of folders from which, and images up to which, numbered folders are objects
MAX_LISTED = 3
LISTS = (".txt", ".lst", ".list")
MAX_LIST_BYTES = 50_000_000
SHARD = re.compile(r"[0-9a-z]{1,2}")
RECORDS = (".json", ".xml", ".txt")

ImageLists = dict[str, list[tuple[str, list[str]]]]
"""By path of a text file: name of the image without folder and suffix, and the further words of each line."""


@dataclass(frozen=True)
class FolderDoubt:
    """Reason why folders are not classes."""

    refusal: str = ""
    """Why the folders are certainly not classes; empty if that is not certain."""
    question: str = ""
    """Question to ask if the evidence does not decide."""


@dataclass(frozen=True)
class FolderEvidence:
    """Evidence in a source that folders are not classes, collected once for all readings of its folders."""

    files: IndexedFiles
    versions: Sequence[SceneVersions]
    """Paired files that show the same scenes."""

    @cached_property
    def lists(self) -> ImageLists:
        """Text files that list images."""
        return read_image_lists(self.files)

    @cached_property
    def listed(self) -> dict[str, list[list[str]]]:
        """The further words of each line of these files, by name of the image."""
        found: dict[str, list[list[str]]] = defaultdict(list)
        for name, rest in itertools.chain.from_iterable(self.lists.values()):
            found[name].append(rest)
        return found

    @cached_property
    def lines(self) -> dict[str, list[str]]:
        """Lines of the tables, by path."""
        return {path: _lines(self.files, path) for path in self.files.tables if not path.lower().endswith(".parquet")}

    @cached_property
    def records(self) -> list[str]:
        """Paths of files that may describe an object each."""
        return [path for path in self.files if suffix_of(path).lower() in RECORDS]

    @cached_property
    def possible(self) -> "ShownPairs":
        """All pairs of files that show the same scenes."""
        return ShownPairs(self.versions)

    @cached_property
    def certain(self) -> "ShownPairs":
        """Pairs that are certainly versions of one scene."""
        return ShownPairs([one for one in self.versions if one.is_certain])


class ShownPairs:
    """Pairs of files with what shows that they are versions of one scene, indexed by file."""

    def __init__(self, versions: Sequence[SceneVersions]) -> None:
        self.shown = {pair: one.shown for one in versions for pair in one.files}
        self._of_path: dict[str, list[tuple[int, tuple[str, str]]]] = defaultdict(list)
        for number, pair in enumerate(self.shown):
            self._of_path[pair[0]].append((number, pair))

    def among(self, paths: Iterable[str]) -> list[tuple[str, str]]:
        """Return the pairs whose first file is one of some files, in the order of all pairs."""
        return [pair for _, pair in sorted(both for path in paths for both in self._of_path.get(path, ()))]


def examine_class_folders(evidence: FolderEvidence, label_of: dict[str, str]) -> FolderDoubt:
    """Return the reasons against reading folders as classes.

    Args:
        evidence: evidence in the source.
        label_of: class of each image, by its path in the source.
    """
    folders = sorted(set(label_of.values()))
    refusals = [reason for reason in (_name_files(label_of), _are_listed_otherwise(evidence, label_of)) if reason]
    if refusals:
        return FolderDoubt(refusal="; ".join(refusals))
    doubt = _are_versions(label_of, evidence)
    if doubt.refusal or doubt.question:
        return doubt
    if copies := [name for name in folders if (bare := COPY.sub("", name)) != name and bare in folders]:
        return FolderDoubt(
            question=f"the folder {copies[0]} is named as a copy of {COPY.sub('', copies[0])}, but has other files: "
            "are both one class? If so, move its files there, or leave it out by ingest.leave_out"
        )
    sizes = Counter(label_of.values())
    median = int(np.median(list(sizes.values())))
    if len(folders) < MANY_FOLDERS or median > FEW_IMAGES or not _are_numbered(folders):
        return FolderDoubt()
    listed = list_names(folders, MAX_LISTED)
    about = f"the {quantity(len(folders), 'folder')} {listed}"
    if reason := _describes_each(evidence, label_of):
        return FolderDoubt(refusal=f"{about} are not classes: {reason}")
    return FolderDoubt(
        question=f"{about} have about {quantity(median, 'image')} each and are numbered, as patients or objects "
        "are: are they classes, which a model is to recognize again? If not, they are groups, and the labels are "
        "elsewhere: write a table of path and class, with the folder in a column for ingest.columns.group"
    )


def _name_files(label_of: dict[str, str]) -> str:
    """Return why folders are the first characters of the names in them, as in a/3/a3f0.png; empty if they are not."""
    chains = [_shards(path) for path in label_of]
    if not all(chains) or len(set(chains)) < 2:
        return ""
    path, chain = next(iter(label_of)), chains[0]
    return (
        f"the folders {'/'.join(chain)} of {path} are the first characters of file names, by which files are sorted, "
        "and not classes"
    )


def _shards(path: str) -> tuple[str, ...]:
    """Return the innermost run of at least two short folders whose joined names begin the next part of a path."""
    *folders, name = path.split("/")
    parts = [*folders, stem_of(name)]
    for end in range(len(parts) - 1, 1, -1):
        start = end
        while start > 0 and SHARD.fullmatch(parts[start - 1].lower()):
            start -= 1
        for first in range(start, end - 1):
            if parts[end].lower().startswith("".join(parts[first:end]).lower()):
                return tuple(parts[first:end])
    return ()


def read_image_lists(files: SourceFiles) -> ImageLists:
    """Return the lines of the text files that list images of the source, by path.

    Args:
        files: files of the source by path.
    """
    images = {stem_of(path) for path in files if is_image_path(path)}
    lists = {}
    for path in files:
        if path.lower().endswith(LISTS) and stem_of(path) not in images:
            rows = list(_rows(files, path))
            if sum(name in images for name, _ in rows) >= MOST * len(rows) > 0:
                lists[path] = rows
    return lists


def _are_listed_otherwise(evidence: FolderEvidence, label_of: dict[str, str]) -> str:
    """Return which text files list the images with something other than their folder; empty if there is none."""
    stems: dict[str, set[str]] = defaultdict(set)
    for path, label in label_of.items():
        stems[stem_of(path)].add(label)
    rows = [(name, rest) for name in stems for rest in evidence.listed.get(name, ())]
    if len(rows) < len(label_of) / 2 or not any(rest for _, rest in rows):
        return ""
    if any(_agrees(rows, stems, place) for place in range(max(len(rest) for _, rest in rows))):
        return ""
    lists = evidence.lists
    names = list_names(sorted(lists), MAX_LISTED)
    name, rest = next(row for some in lists.values() for row in some if row[1])
    return (
        f"{names} {'lists' if len(lists) == 1 else 'list'} the images with labels or text ({name}: "
        f"{' '.join(rest)[:40]}), which the folders do not agree with; text lists are not read: convert the list to a "
        "table with a column of paths and one of classes (transcriptions of text are not supported)"
    )


def _lines(files: SourceFiles, path: str) -> list[str]:
    try:
        content = read_label_file(files, path)
        text = decode_csv(content) if len(content) <= MAX_LIST_BYTES else ""
    except (Unreadable, UserError):  # reported by the importers of label files
        return []
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _rows(files: SourceFiles, path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the lines of a text file as `ImageLists` contains them."""
    for line in _lines(files, path):
        first, *rest = re.split(r"[\s,;]+", line.strip())
        name = PurePosixPath(first.replace("\\", "/")).name
        suffix = PurePosixPath(name).suffix
        yield name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name, rest


def _agrees(rows: list[tuple[str, list[str]]], stems: dict[str, set[str]], place: int) -> bool:
    """Return whether a word of each line denotes the folder of the image."""
    pairs = Counter(
        (next(iter(stems[name])), rest[place]) for name, rest in rows if len(rest) > place and len(stems[name]) == 1
    )
    of_label: dict[str, Counter[str]] = defaultdict(Counter)
    of_word: dict[str, Counter[str]] = defaultdict(Counter)
    for (label, word), count in pairs.items():
        of_label[label][word] += count
        of_word[word][label] += count
    same = [sum(max(counts.values()) for counts in one.values()) for one in (of_label, of_word)]
    return len(of_label) > 1 and min(same) >= MOST * pairs.total() > 0


def _are_versions(label_of: dict[str, str], evidence: FolderEvidence) -> FolderDoubt:
    """Return what shows that the images of one folder are versions of those in another one."""
    sizes = Counter(label_of.values())
    certain: dict[str, str] = {}
    possible: dict[str, str] = {}
    for found, some in ((certain, evidence.certain), (possible, evidence.possible)):
        across: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for pair in some.among(label_of):
            one, other = label_of[pair[0]], label_of.get(pair[1])
            if other is not None and one != other:
                across[min(one, other), max(one, other)].append(pair)
        for both, pairs in across.items():
            if len(set.union(*map(set, pairs))) >= 2 * MOST * min(sizes[label] for label in both):
                image, other = pairs[0]
                found.update(dict.fromkeys(both, f"{image} and {other} {some.shown[pairs[0]]}"))
    if sum(sizes[label] for label in certain) >= MOST * len(label_of):
        named = list_names(sorted(certain), MAX_LISTED)
        return FolderDoubt(
            refusal=f"the folders {named} contain versions of the same images, and are not classes: "
            f"{next(iter(certain.values()))}"
        )
    if possible:
        return FolderDoubt(
            question=f"the folders {list_names(sorted(possible), MAX_LISTED)} contain files of the same names that "
            f"look "
            f"alike: {next(iter(possible.values()))}. Are they classes, or views, dates or versions of the same "
            f"objects? In the "
            "latter case they are not classes"
        )
    return FolderDoubt()


def _are_numbered(names: Sequence[str]) -> bool:
    """Return whether names are codes of one form, such as field_0012 or a01, and not simply 0, 1, 2, ..."""
    forms = Counter(re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "a", name)) for name in names)
    form, count = forms.most_common(1)[0]
    numbers = sorted(int(name) for name in names if name.isdecimal())
    is_count = len(numbers) == len(names) and numbers[-1] - numbers[0] < len(numbers)
    are_codes = all(re.search(r"\d", name) for name in names) and len({len(name) for name in names}) == 1
    return not is_count and (("0" in form and count >= MOST * len(names)) or are_codes)


def _describes_each(evidence: FolderEvidence, label_of: dict[str, str]) -> str:
    """Return what shows that each folder is one object: a row of a table, a record file, or the same names in each."""
    folders = set(label_of.values())
    for path, lines in evidence.lines.items():
        if column := _column_of(lines, folders):
            return f"{path} has a row for each in the column {column}; write a table with a row per image instead"
    inside: dict[str, set[str]] = defaultdict(set)
    records: dict[str, str] = {}
    for path in evidence.records:
        if label := next((part for part in folders_of(path) if part in folders), ""):
            records.setdefault(label, path)
    for path in label_of:
        if label := next((part for part in folders_of(path) if part in folders), ""):
            inside[label].add(name_of(path).replace(label, "*"))
    common = Counter(name for names in inside.values() for name in names)
    repeated = sorted(name for name, count in common.items() if count >= MOST * len(folders))
    is_set = len(repeated) > 1 and all(len(names) <= len(repeated) / MOST for names in inside.values())
    if len(records) >= MOST * len(folders):
        labels = f"the labels may be in the file of each, such as {next(iter(records.values()))}, which is not read"
        return labels + (f"; {_describe_set(repeated)}" if is_set else "")
    return _describe_set(repeated) if is_set and not all(re.fullmatch(r"\d+\.\w+", name) for name in repeated) else ""


def _describe_set(names: list[str]) -> str:
    return (
        f"each contains the same files ({list_names(names, 4)}), as the bands or channels of one image or the dates of "
        "one place do; bands in separate files are not read: join those of each image in one file"
    )


def _column_of(lines: list[str], folders: set[str]) -> str:
    """Return the column of a table that names the folders once each, while another column has repeated values."""
    rows = [re.split(r"[,;\t]", line) for line in lines]
    if len(rows) < 2:
        return ""
    head, *body = rows
    body = [row for row in body if len(row) == len(head)]
    cells = {name: [row[i].strip().strip('"') for row in body] for i, name in enumerate(head)}
    for name, values in cells.items():
        named = folders & set(values)
        if len(named) >= MOST * len(folders) and len(set(values)) >= MOST * len(values):
            others = (len(set(other)) for column, other in cells.items() if column != name)
            return name if any(count <= len(values) / 2 for count in others) else ""
    return ""
