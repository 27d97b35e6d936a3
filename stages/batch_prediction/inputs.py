"""Iterate over the images of folders, archives, lists and files without keeping them in memory."""

import os
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile, ZipInfo

from stages.core.errors import UserError
from stages.core.path_parts import IMAGE_SUFFIXES
from stages.core.plurals import quantity
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
from stages.images.decode import Unreadable
from stages.images.zip_names import decode_zip_names

STDIN, LIST_SUFFIX = "-", ".txt"
LINKED_FOLDER = "/"  # key of links to folders among the suffixes
MAX_SUFFIXES = 5  # that a message lists
MAX_NAMES_IN_MEMORY = 100_000  # file names of a folder that are kept in memory
MAX_LINE_BYTES = 2**16  # of a list


@dataclass(frozen=True)
class InputImage:
    """One image to predict."""

    path: str
    """Path as written in the output; ARCHIVE/MEMBER for a member of an archive."""
    name: str
    """Path below `--files` and `--overlays`, with the suffix of the image; never outside of these folders.

    It is unique among readable images, except for a path that a list names twice.
    """
    read: Callable[[], bytes]
    """Function that returns the bytes of the image; raises OSError, `Unreadable`, or ValueError for a path with a null
    byte. Can be pickled."""
    held: int = 0
    """Number of bytes that `read` keeps in memory."""
    listed: bool = False
    """Whether a list names the image, so that it may lie in any folder."""


def iterate_images(sources: Sequence[str], skipped: Counter[str] | None = None) -> Iterator[InputImage]:
    """Yield the images of folders, archives, lists and files, source by source; folders are sorted as text.

    The name of an image is its path below the source, preceded by the name of the source if there are several. For a
    file it is the name of the file, and in a list the absolute path without the first slash. Unreadable images are
    yielded too, so that the output has a row with the reason. Files in folders and archives are skipped if their suffix
    is not that of an image; hidden files are ignored.

    Args:
        sources: paths of folders, archives, lists and files, or `STDIN`.
        skipped: receives the number of skipped files by suffix, and of skipped links to folders.

    Raises:
        OSError: a folder, archive or list cannot be opened.
        Exception: one of `ARCHIVE_ERRORS`, if an archive cannot be opened.
    """
    skipped = Counter() if skipped is None else skipped
    for source, name in zip(sources, unique_source_names(sources), strict=True):
        prefix, lower = f"{name}/" if len(sources) > 1 else "", source.lower()
        if source == STDIN:
            yield from _iterate_list(sys.stdin.buffer, prefix)
        elif Path(source).is_dir():
            yield from _iterate_folder(Path(source), prefix, skipped)
        elif lower.endswith(".zip"):
            yield from _iterate_zip(source, prefix, skipped)
        elif lower.endswith(ARCHIVE_SUFFIXES):
            yield from _iterate_tar(source, prefix, skipped)
        elif lower.endswith(LIST_SUFFIX):
            with Path(source).open("rb") as stream:
                yield from _iterate_list(stream, prefix)
        else:
            yield InputImage(str(Path(source)), name, partial(read_file, Path(source)))


def check_sources(sources: Sequence[str]) -> None:
    """Check that every source exists and contains images; standard input and lists are not read.

    Raises:
        UserError: standard input is named more than once, a path does not exist, or a folder or archive contains no
            image or cannot be opened.
    """
    if sources.count(STDIN) > 1:
        raise UserError("- (standard input) is named more than once; name it once")
    for source in sources:
        if source == STDIN or (source.lower().endswith(LIST_SUFFIX) and Path(source).is_file()):
            continue
        if not Path(source).exists():
            raise UserError(
                f"{source} does not exist; name image files, folders or archives of images, lists of paths "
                f"(*{LIST_SUFFIX}), or {STDIN} for a list on standard input"
            )
        skipped = Counter[str]()
        try:
            first = next(iterate_images([source], skipped), None)
        except (*ARCHIVE_ERRORS, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{source} cannot be opened: {reason}") from None
        if first is None:
            others = describe_skipped(skipped)
            raise UserError(
                f"{source} contains no image{others and f', but {others}'}; supported suffixes: "
                f"{' '.join(sorted(IMAGE_SUFFIXES))}"
            )


def count_images(sources: Sequence[str]) -> int | None:
    """Return the number of images in the sources; None with standard input or a compressed tar archive."""
    if any(source == STDIN or source.lower().endswith(ARCHIVE_SUFFIXES[2:]) for source in sources):
        return None
    return sum(1 for _ in iterate_images(sources))


def unique_source_names(sources: Sequence[str]) -> list[str]:
    """Return a unique name per source; sources with equal names get a number."""
    seen: set[str] = set()
    names = []
    for source in sources:
        own = "stdin" if source == STDIN else Path(source).resolve().name
        name, number = own, 2
        while name in seen:
            name, number = f"{own}-{number}", number + 1
        seen.add(name)
        names.append(name)
    return names


def _has_image_suffix(name: str) -> bool:
    return _suffix(name) in IMAGE_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # pathlib is slower


def describe_skipped(skipped: Counter[str]) -> str:
    """Return how many files were skipped, with their suffixes, the most frequent first; empty if there are none."""
    parts = []
    files = {suffix: count for suffix, count in skipped.most_common() if suffix != LINKED_FOLDER}
    if files:
        named = [f"{suffix or 'no suffix'}: {count:,}" for suffix, count in list(files.items())[:MAX_SUFFIXES]]
        more = f", {quantity(len(files) - MAX_SUFFIXES, 'other suffix', 'other suffixes')}"
        listed = ", ".join(named) + (more if len(files) > MAX_SUFFIXES else "")
        parts.append(f"{quantity(sum(files.values()), 'file')} without the suffix of a supported image ({listed})")
    if skipped[LINKED_FOLDER]:
        parts.append(quantity(skipped[LINKED_FOLDER], "link to a folder", "links to folders"))
    return " and ".join(parts)


def _refuse(reason: str) -> bytes:
    raise Unreadable(reason)


def _iterate_folder(root: Path, prefix: str, skipped: Counter[str]) -> Iterator[InputImage]:
    """Yield the images of a folder and its subfolders; links to folders are not followed."""
    waiting = [_sorted_names(str(root), "", skipped)]
    while waiting:
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
        elif name.endswith("/"):
            try:
                waiting.append(_sorted_names(str(root), name, skipped))
            except OSError as error:
                yield InputImage(
                    str(root / name), prefix + name, partial(_refuse, f"cannot be listed: {error.strerror}")
                )
        else:
            yield InputImage(str(root / name), prefix + name, partial(read_file, root / name))


def _sorted_names(root: str, folder: str, skipped: Counter[str]) -> Iterator[str]:
    """Yield the images and, with a slash, the folders in a folder, relative to the root.

    Names are read in portions, so that a folder of millions of files does not fill the memory.

    Args:
        root: folder.
        folder: path of a folder below the root, with a slash at the end, or empty for the root itself.
        skipped: receives the number of skipped files by suffix.

    Raises:
        OSError: the folder cannot be listed; raised by the call itself.
    """
    first = nsmallest(MAX_NAMES_IN_MEMORY, _list_folder(root, folder, skipped))

    def rest() -> Iterator[str]:
        names = first
        while names:
            yield from names
            last = names[-1]
            names = (
                nsmallest(MAX_NAMES_IN_MEMORY, (n for n in _list_folder(root, folder, Counter()) if n > last))
                if len(names) == MAX_NAMES_IN_MEMORY
                else []
            )

    return rest()


def _list_folder(root: str, folder: str, skipped: Counter[str]) -> Iterator[str]:
    with os.scandir(f"{root}/{folder}") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not HIDDEN_FILES.search(f"{entry.name}/"):
                    yield f"{folder}{entry.name}/"
            elif HIDDEN_FILES.search(entry.name):
                continue
            elif entry.is_dir():
                skipped[LINKED_FOLDER] += 1
            elif not _has_image_suffix(entry.name):
                skipped[_suffix(entry.name)] += 1
            else:  # reading a dangling link or a pipe gives a row with the reason
                yield folder + entry.name


def _iterate_list(stream: BinaryIO, prefix: str) -> Iterator[InputImage]:
    """Yield the images of a list with one path per line, relative to the working folder; any suffix is accepted."""
    while line := stream.readline(MAX_LINE_BYTES):
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path:
            name = os.path.abspath(path).lstrip("/")  # noqa: PTH100  # links are not followed
            yield InputImage(path, prefix + name, partial(read_file, Path(path)), listed=True)


class _ZipWithoutTable(ZipFile):
    """Zip file whose table of contents is not read, because every process would keep a copy of it."""

    def _RealGetContents(self) -> None:
        pass


def _iterate_zip(file: str, prefix: str, skipped: Counter[str]) -> Iterator[InputImage]:
    """Yield the images of a zip file in its order; its table, about 0.5 KB per member, stays in memory."""
    seen: set[str] = set()
    with ZipFile(file) as archive:
        members = archive.infolist()
        for member, decoded in zip(members, decode_zip_names(members), strict=True):
            written = decoded or member.filename
            name, refusal = ("", "") if member.is_dir() else _member_name(written, seen, skipped)
            if name:
                read = partial(_refuse, refusal) if refusal else partial(_read_from_zip, file, member)
                yield InputImage(f"{file}/{written}", prefix + name, read)


def _read_from_zip(file: str, member: ZipInfo) -> bytes:
    try:
        with _ZipWithoutTable(file) as archive:
            return read_zip_member(archive, member)
    except (*ARCHIVE_ERRORS, OSError) as error:
        raise Unreadable(f"cannot be unpacked: {error}") from error


def _iterate_tar(file: str, prefix: str, skipped: Counter[str]) -> Iterator[InputImage]:
    """Yield the images of a tar file in its order.

    Their names stay in memory. Compressed archives are unpacked here, others are read by the workers. If the archive is
    damaged after its first members, the last image yielded reports it.
    """
    done = 0
    seen: set[str] = set()
    try:
        with tarfile.open(file) as archive:
            uncompressed = type(archive.fileobj).__name__ == "BufferedReader"
            while member := archive.next():
                archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps every member
                done = archive.offset
                name, refusal = ("", "") if member.isdir() else _member_name(member.name, seen, skipped)
                if name:
                    read, held = _tar_reader(archive, member, file if uncompressed else None, refusal)
                    yield InputImage(f"{file}/{member.name}", prefix + name, read, held)
            if is_truncated_tar(archive):
                raise tarfile.ReadError("neither a member nor the end of the archive")
    except (*ARCHIVE_ERRORS, OSError, ValueError) as error:
        if not done:
            raise
        reason = (
            f"is damaged or truncated at byte {done} of the tar ({error}); the members after this byte were not "
            "predicted: copy the archive again"
        )
        yield InputImage(file, prefix + "damaged", partial(_refuse, reason))


def _tar_reader(
    archive: tarfile.TarFile, member: tarfile.TarInfo, file: str | None, refusal: str
) -> tuple[Callable[[], bytes], int]:
    """Return the function that reads a member, and the number of bytes that it keeps in memory."""
    if refusal:
        return partial(_refuse, refusal), 0
    if not member.isreg():
        return partial(_refuse, "is a link or not a regular file; pack the file itself"), 0
    try:
        check_file_size(member.size)
    except Unreadable as error:
        return partial(_refuse, str(error)), 0
    if file is not None and not member.issparse():
        return partial(_read_range, file, member.offset_data, member.size), 0
    stream = archive.extractfile(member)
    assert stream is not None
    data = stream.read()
    return partial(bytes, data), len(data)


def _read_range(file: str, offset: int, size: int) -> bytes:
    with Path(file).open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def _member_name(member: str, seen: set[str], skipped: Counter[str]) -> tuple[str, str]:
    """Return the name of an image in an archive and the reason to refuse it, each empty if there is none.

    Args:
        member: path in the archive.
        seen: names of earlier members; the name is added.
        skipped: receives the number of skipped files by suffix.
    """
    try:
        name = normalize_member_name(member)  # `tar -C photos .` writes ./one.jpg, which is not hidden
    except Unreadable as error:
        if _has_image_suffix(member):
            return "refused", str(error)
        skipped[_suffix(member)] += 1
        return "", ""
    if HIDDEN_FILES.search(name):
        return "", ""
    if not _has_image_suffix(name):
        skipped[_suffix(name)] += 1
        return "", ""
    if name in seen:
        return "refused", "occurs twice in the archive; only the first was predicted: pack the archive again"
    seen.add(name)
    return name, ""
