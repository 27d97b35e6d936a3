"""The images that are asked for, one after the other: of folders, archives, lists and files, none of them held."""

import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile, ZipInfo

from stages.core.errors import UserError
from stages.images.archives import (
    ARCHIVE_ERRORS,
    ARCHIVE_SUFFIXES,
    HIDDEN_FILES,
    check_file_size,
    is_truncated_tar,
    normalize_member_name,
    read_file,
    read_zip_member,
)
from stages.images.decode import IMAGE_SUFFIXES, Unreadable

STDIN, LIST = "-", ".txt"
AT_ONCE = 100_000  # names of one folder that are held
LONGEST_LINE = 2**16  # bytes of a list


@dataclass(frozen=True)
class Asked:
    """One image to be answered."""

    path: str
    """As its row names it; of an archive ARCHIVE/MEMBER."""
    name: str
    """Below `--files` and `--overlays`, with its ending: no two images of a run have the same, and none leads out."""
    read: Callable[[], bytes]
    """Its bytes; raises OSError or `Unreadable`. Can be pickled."""
    held: int = 0
    """Bytes that `read` itself holds."""
    listed: bool = False
    """A list named it, so that it may lie anywhere."""


def asked(sources: Sequence[str]) -> Iterator[Asked]:
    """The images of folders, archives, lists and files, in that order; of folders sorted as text.

    What lies in the only source keeps its path below it, in several the source's name comes first; what a list names
    keeps its whole path. What cannot be read is asked for too, so that there is a row with the reason.
    """
    for source, name in zip(sources, names_of(sources), strict=True):
        prefix, lower = f"{name}/" if len(sources) > 1 else "", source.lower()
        if source == STDIN:
            yield from _in_list(sys.stdin.buffer, prefix)
        elif Path(source).is_dir():
            yield from _in_folder(Path(source), prefix)
        elif lower.endswith(".zip"):
            yield from _in_zip(source, prefix)
        elif lower.endswith(ARCHIVE_SUFFIXES):
            yield from _in_tar(source, prefix)
        elif lower.endswith(LIST):
            with Path(source).open("rb") as stream:
                yield from _in_list(stream, prefix)
        else:
            yield Asked(str(Path(source)), name, partial(read_file, Path(source)))


def refuse_sources(sources: Sequence[str]) -> None:
    """Say at the start what is missing or empty.

    Raises:
        UserError: a path does not exist, or a folder or archive holds no image or cannot be opened.
    """
    if sources.count(STDIN) > 1:
        raise UserError("- is named twice, but there is one standard input")
    for source in sources:
        if source == STDIN or (source.lower().endswith(LIST) and Path(source).is_file()):
            continue
        if not Path(source).exists():
            raise UserError(
                f"{source} does not exist; name image files, folders or archives of them, lists (*{LIST}), or -"
            )
        try:
            first = next(asked([source]), None)
        except (*ARCHIVE_ERRORS, OSError) as error:
            raise UserError(f"{source} cannot be opened: {error}") from None
        if first is None:
            raise UserError(f"{source} holds no image; known endings: {' '.join(sorted(IMAGE_SUFFIXES))}")


def count(sources: Sequence[str]) -> int | None:
    """How many images they hold; None where that is not known before they were read."""
    if any(source == STDIN or source.lower().endswith(ARCHIVE_SUFFIXES[2:]) for source in sources):
        return None
    return sum(1 for _ in asked(sources))


def names_of(sources: Sequence[str]) -> list[str]:
    """Of each source its own, with a number where several have one name."""
    taken: set[str] = set()
    names = []
    for source in sources:
        own = "stdin" if source == STDIN else Path(source).resolve().name
        name, number = own, 2
        while name in taken:
            name, number = f"{own}-{number}", number + 1
        taken.add(name)
        names.append(name)
    return names


def _is_image(name: str) -> bool:
    return _ends_as_image(name) and not HIDDEN_FILES.search(name)


def _ends_as_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  # of millions


def _refused(reason: str) -> bytes:
    raise Unreadable(reason)


def _in_folder(root: Path, prefix: str) -> Iterator[Asked]:
    """Down into folders, not through links to folders."""
    waiting = [_sorted(str(root), "")]
    while waiting:
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
        elif name.endswith("/"):
            try:
                waiting.append(_sorted(str(root), name))
            except OSError as error:
                yield Asked(str(root / name), prefix + name, partial(_refused, f"cannot be listed: {error.strerror}"))
        else:
            yield Asked(str(root / name), prefix + name, partial(read_file, root / name))


def _sorted(root: str, folder: str) -> Iterator[str]:
    """Yield the images and, with a slash, the folders in a folder, relative to the root.

    Names are read in portions, so that a folder of millions of files does not fill the memory.

    Raises:
        OSError: the folder cannot be listed; raised by the call itself.
    """
    first = nsmallest(AT_ONCE, _listed(root, folder))

    def rest() -> Iterator[str]:
        names = first
        while names:
            yield from names
            last = names[-1]
            names = nsmallest(AT_ONCE, (n for n in _listed(root, folder) if n > last)) if len(names) == AT_ONCE else []

    return rest()


def _listed(root: str, folder: str) -> Iterator[str]:
    with os.scandir(f"{root}/{folder}") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not HIDDEN_FILES.search(f"{entry.name}/"):
                    yield f"{folder}{entry.name}/"
            elif _is_image(entry.name) and entry.is_file():
                yield folder + entry.name


def _in_list(stream: BinaryIO, prefix: str) -> Iterator[Asked]:
    """A path a line, as seen from the working folder; what is no image of a known ending is tried too."""
    while line := stream.readline(LONGEST_LINE):
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path:
            name = os.path.abspath(path).lstrip("/")  # noqa: PTH100  # links are not followed
            yield Asked(path, prefix + name, partial(read_file, Path(path)), listed=True)


class _Unlisted(ZipFile):
    """A zip whose table of contents is not read: each process would hold all of it once more."""

    def _RealGetContents(self) -> None:
        pass


def _in_zip(file: str, prefix: str) -> Iterator[Asked]:
    """The members in their order. Their table, some 0.5 KB a member, is held as long."""
    taken: set[str] = set()
    with ZipFile(file) as archive:
        for member in archive.infolist():
            name, wrong = ("", "") if member.is_dir() else _named(member.filename, taken)
            if name:
                read = partial(_refused, wrong) if wrong else partial(_unzipped, file, member)
                yield Asked(f"{file}/{member.filename}", prefix + name, read)


def _unzipped(file: str, member: ZipInfo) -> bytes:
    try:
        with _Unlisted(file) as archive:
            return read_zip_member(archive, member)
    except (BadZipFile, EOFError) as error:
        raise Unreadable(f"cannot be unpacked: {error}") from error


def _in_tar(file: str, prefix: str) -> Iterator[Asked]:
    """The members in their order, whose names are held. What is compressed is unpacked here, the rest elsewhere."""
    done = 0
    taken: set[str] = set()
    try:
        with tarfile.open(file) as archive:
            loose = type(archive.fileobj).__name__ == "BufferedReader"
            while member := archive.next():
                archive.members = []  # type: ignore[attr-defined]  # it would remember every one
                done = archive.offset
                name, wrong = ("", "") if member.isdir() else _named(member.name, taken)
                if name:
                    read, held = _of_tar(archive, member, file if loose else None, wrong)
                    yield Asked(f"{file}/{member.name}", prefix + name, read, held)
            if is_truncated_tar(archive):
                raise tarfile.ReadError("no member and no end")
    except (*ARCHIVE_ERRORS, OSError, ValueError) as error:
        if not done:
            raise
        rest = f"is damaged or cut off at byte {done} of the tar ({error}); what follows was not answered: copy it anew"
        yield Asked(file, prefix + "damaged", partial(_refused, rest))


def _of_tar(
    archive: tarfile.TarFile, member: tarfile.TarInfo, file: str | None, wrong: str
) -> tuple[Callable[[], bytes], int]:
    """How it is read, and the bytes that are held for it."""
    if wrong:
        return partial(_refused, wrong), 0
    if not member.isreg():
        return partial(_refused, "is a link or no regular file; pack the file itself"), 0
    try:
        check_file_size(member.size)
    except Unreadable as error:
        return partial(_refused, str(error)), 0
    if file is not None and not member.issparse():
        return partial(_range, file, member.offset_data, member.size), 0
    stream = archive.extractfile(member)
    assert stream is not None
    data = stream.read()
    return partial(bytes, data), len(data)


def _range(file: str, offset: int, size: int) -> bytes:
    with Path(file).open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def _named(member: str, taken: set[str]) -> tuple[str, str]:
    """The name of an image in an archive, '' of what is none; and why it is not answered, or ''."""
    try:
        name = normalize_member_name(member)  # `tar -C photos .` writes ./one.jpg, which is not hidden
    except Unreadable as error:
        return ("refused", str(error)) if _ends_as_image(member) else ("", "")
    if not _is_image(name):
        return "", ""
    if name in taken:
        return "refused", "stands in the archive before, and that one is answered; pack it anew"
    taken.add(name)
    return name, ""
