"""List and read the files of a source: a folder, a zip, a tar or an npz."""

import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.core.errors import UserError
from stages.images.decode import Unreadable
from stages.images.zip_names import decode_zip_names

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
MAX_UNPACKED_BYTES = 64 * 2**30  # bytes; refuse archive bombs before they fill the disk
MAX_FILE_BYTES = 2**30  # bytes of one file, which is read into memory
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
LABEL_SUFFIXES = frozenset(
    (
        *TABLE_SUFFIXES,
        ".json",
        ".jsonl",
        ".geojson",
        ".xml",
        ".txt",
        ".h5",
        ".xlsx",
        ".xls",
        ".xlsm",
        ".ods",
        ".tps",
        ".nts",
        ".pts",
    )
)
"""Suffixes of files that may contain labels."""
DOCUMENT_SUFFIXES = frozenset(
    ".md .rst .html .htm .pdf .doc .docx .log .ini .cfg .toml .yaml .yml .py .ipynb .sh .mat .pkl .pickle".split()
)
"""Suffixes of further files that are not images."""
NOTES = re.compile(r"(?i)readme|licen[cs]e|copying|changelog|source|requirements")
"""Beginnings of the names of texts without labels."""
HIDDEN_FILES = re.compile(
    r"""(?ix) (^|/) (?: \.(?!\.) | __MACOSX/ | Icon\r$                               # Unix and macOS
    | (eh)?Thumbs(_vista)?\.db(:[^/]*)?$ | desktop\.ini$ | Picasa\.ini$             # Windows and Picasa
    | [^/]*[:\uf03a]Zone\.Identifier$                              # streams of downloaded files, copied to Linux
    | (\$RECYCLE\.BIN | System\ Volume\ Information | lost\+found)/                 # root folders of drives
    | (@eaDir | \#recycle | \#snapshot | @Recycle | @Recently-Snapshot)/ )"""  # network drives
)
"""Hidden files and files that operating systems create; they are ignored."""
SPECIAL = "is neither a file nor a folder; remove it"
ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile),
    *(NotImplementedError, UnicodeError),  # a zip that states an unknown version, or names that are not valid UTF-8
)
"""Exceptions that damaged archives raise, besides OSError (without an error number) for a damaged bz2 stream."""


@dataclass(frozen=True)
class Rejection:
    """A file or row that is excluded from the data set, with the reason."""

    path: str
    reason: str
    is_unused: bool = False
    """Whether the file is not an image or not part of the data set, and thus does not count as rejected."""


SourceFiles = dict[str, Callable[[], bytes]]
"""Functions that read the bytes of the files, by path with forward slashes."""
Listing = tuple[SourceFiles, list[Rejection]]


def list_source_files(source: Path, stack: ExitStack) -> Listing:
    """List the regular files of a source; reject special files and names that are not valid UTF-8.

    Links in a folder are followed if they stay inside it, and rejected otherwise, as are all links in a tar. A link in
    a zip is listed as a file that contains the path of its target.

    Args:
        source: folder, archive or npz.
        stack: exit stack that closes the archive and deletes unpacked files.

    Raises:
        UserError: the source does not exist or has an unknown format; or the archive is damaged or too large, contains
            a path that leaves it or, if it is a zip, contains a file twice; or it cannot be read or unpacked.
    """
    if not source.exists():
        raise UserError(f"ingest.source: {source} does not exist; set it to a folder, zip, tar or npz of images")
    lower = source.name.lower()
    try:
        if source.is_dir():
            files, refused = _in_folder(source)
        elif lower.endswith(".zip"):
            files, refused = _in_zip(source, stack)
        elif lower.endswith(ARCHIVE_SUFFIXES):
            files, refused = _in_tar(source, stack)
        elif lower.endswith(".npz"):
            files, refused = {source.name: source.read_bytes}, []
        else:
            hint = (
                f"set ingest.source to {source.parent} and ingest.inside to {source.name}"
                if lower.endswith(TABLE_SUFFIXES)
                else f"supported: a folder, {', '.join(ARCHIVE_SUFFIXES)}, .npz"
            )
            raise UserError(f"ingest.source: {source} is not a folder, archive or npz; {hint}")
    except tarfile.FilterError as error:
        raise UserError(
            f"ingest.source: {source} contains {error.tarinfo.name}, which cannot be unpacked safely ({error}); pack "
            "it again"
        ) from error
    except (*ARCHIVE_ERRORS, OSError) as error:
        if getattr(error, "errno", None) is None:
            raise UserError(f"ingest.source: {source} is a damaged archive: {error}; copy it again") from error
        raise UserError(f"ingest.source: {source} cannot be unpacked: {error}; unpack it to a folder") from error
    nameless = [name for name in files if not _is_text(name)]
    refused += [Rejection(name, "has a name that is not valid UTF-8; rename it") for name in nameless]
    return {name: read for name, read in files.items() if _is_text(name)}, refused


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_folder(root: Path) -> Listing:
    """List the regular files below a folder, also those of links that stay inside it. Pipes would block the reader."""
    files: SourceFiles = {}
    refused = []
    for name, path in _entries(root, "", root.resolve(), follows=True):
        if isinstance(path, str):
            refused.append(Rejection(name, path))
        else:
            files[name] = partial(read_file, path)
    return files, refused


def _entries(folder: Path, prefix: str, root: Path, *, follows: bool) -> Iterator[tuple[str, Path | str]]:
    """Yield the name of each file below a folder with its path, or with the reason why it is refused, sorted by name.

    A folder that may not be listed counts as empty.

    Args:
        folder: folder to list.
        prefix: text before the names.
        root: folder of the source, without links.
        follows: whether to list the files of linked folders; not within such a folder, where links may form a circle.
    """
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{name}/", root, follows=follows)
        elif not entry.is_symlink():
            yield name, Path(entry.path) if entry.is_file() else SPECIAL
        else:
            yield from _linked(Path(entry.path), name, root, follows=follows)


def _linked(link: Path, name: str, root: Path, *, follows: bool) -> Iterator[tuple[str, Path | str]]:
    """Yield the file of a link or the files below a linked folder, or the reason why the link is refused.

    Args:
        link: path of the link.
        name: its name in the source.
        root: folder of the source, without links.
        follows: whether to list the files of linked folders.
    """
    target = _resolve_link(link, root)
    if isinstance(target, str) or target.is_file():
        yield name, target
    elif not target.is_dir():
        yield name, SPECIAL
    elif not follows or link.parent.resolve().is_relative_to(target):
        yield name, "is a link to a folder that contains it or to one below another link; replace it with the folder"
    else:
        yield from _entries(target, f"{name}/", root, follows=False)


def _resolve_link(link: Path, root: Path) -> Path | str:
    """Return the file or folder to which a link leads, or the reason why it is refused.

    Args:
        link: path of the link.
        root: folder of the source, without links.
    """
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return f"is a link to {link.readlink()}, which cannot be found; remove it"
    if target.is_relative_to(root):
        return target
    return (
        f"is a link to {target}, outside the source; copy the file itself (cp -L), or set ingest.source to a folder "
        "that contains both"
    )


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        OSError: the file cannot be read.
        Unreadable: the file is too large or not a regular file; a pipe would block the reader.
    """
    known = path.stat()
    if not stat.S_ISREG(known.st_mode):
        raise Unreadable(f"is {'a folder' if stat.S_ISDIR(known.st_mode) else 'not a regular file'}")
    check_file_size(known.st_size)
    return path.read_bytes()


def check_file_size(size: int) -> None:
    """Raise Unreadable if a file of `size` bytes is too large to be read into memory."""
    if size > MAX_FILE_BYTES:
        raise Unreadable(f"is {size / 2**30:.1f} GiB, above the limit of {MAX_FILE_BYTES / 2**30:g} GiB per file")


def _in_zip(file: Path, stack: ExitStack) -> Listing:
    archive = stack.enter_context(zipfile.ZipFile(file))
    listed = [m for m in archive.infolist() if not m.is_dir()]
    decoded = dict(zip(listed, decode_zip_names(listed), strict=True))
    members = {m: _check_member_name(name, file) for m, name in decoded.items() if name is not None}
    _check_unpacked_size(file, sum(m.file_size for m in members))
    duplicates = [name for name, count in Counter(members.values()).items() if count > 1]
    if duplicates:
        raise UserError(f"{file} contains {duplicates[0]} more than once, which is ambiguous; pack it again")
    unknown = (
        "has a name whose encoding the zip does not state; unpack the zip to a folder with the correct encoding, or "
        "pack it again with names in UTF-8"
    )
    refused = [Rejection(m.filename, unknown) for m, name in decoded.items() if name is None]
    files: SourceFiles = {
        n: partial(read_zip_member, archive, m) for m, n in sorted(members.items(), key=lambda item: item[1])
    }
    return files, refused


def read_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read a member of a zip.

    Raises:
        Unreadable: the member is too large, damaged, incomplete, encrypted, or compressed by an unknown method.
    """
    check_file_size(member.file_size)
    try:
        return archive.read(member)
    except (*ARCHIVE_ERRORS, OSError, RuntimeError, ValueError, struct.error) as error:  # OSError: bz2, or a bad offset
        raise Unreadable(f"cannot be unpacked: {str(error) or 'the archive ends within it'}") from error


def normalize_member_name(name: str) -> str:
    """Normalize a member name to a relative path.

    Raises:
        Unreadable: the path leaves the archive.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unreadable("has a path that leaves the archive; pack it again without `..` in its paths")
    return "/".join(parts)


def _check_member_name(name: str, file: Path) -> str:
    try:
        return normalize_member_name(name)
    except Unreadable:
        raise UserError(f"{file} contains {name}, a path that leaves the archive; pack it again") from None


def _in_tar(file: Path, stack: ExitStack) -> Listing:
    """Unpack a tar to a temporary folder, since a compressed tar can only be read sequentially."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="macula-")))
    with tarfile.open(file) as archive:
        members = list(archive)
        if is_truncated_tar(archive):
            raise UserError(
                f"ingest.source: {file} is damaged or truncated at byte {archive.offset} of the tar; copy it again"
            )
        _check_unpacked_size(file, sum(m.size for m in members))
        archive.extractall(folder, members=[m for m in members if m.isreg()], filter="data")
    files, refused = _in_folder(folder)
    odd = [m for m in members if not (m.isreg() or m.isdir())]
    return files, refused + [Rejection(m.name, "is a link or not a regular file; pack the file itself") for m in odd]


def is_truncated_tar(archive: tarfile.TarFile) -> bool:
    """Return whether the archive ends before its end-of-archive marker.

    `tarfile` treats a damaged header as the end, but an empty block must follow the last member.

    Raises:
        Exception: one of `ARCHIVE_ERRORS`, or OSError for bz2, if the rest of a compressed file or its checksum is
            damaged.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    end = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        return True
    while archive.fileobj.read(2**20):  # read to the end, where a compressed file has its checksum
        pass
    return False


def _check_unpacked_size(file: Path, unpacked: int) -> None:
    if unpacked > MAX_UNPACKED_BYTES:
        raise UserError(
            f"{file} unpacks to {unpacked / 2**30:.1f} GiB, above the limit of {MAX_UNPACKED_BYTES / 2**30:.0f} GiB; "
            "unpack it to a folder first"
        )
