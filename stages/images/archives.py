"""The files of a source: of a folder, a zip or a tar, with what cannot be taken and why."""

import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.core.errors import UserError
from stages.images.decode import Unreadable

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
MAX_UNPACKED_BYTES = 64 * 2**30  # bytes; a bomb is refused before the disk is full
MAX_FILE_BYTES = 2**30  # bytes of one file: it is held in memory
TABLE_SUFFIXES = (".csv", ".parquet")
HIDDEN_FILES = re.compile(
    r"(^|/)(\.(?!\.)|__MACOSX/|Thumbs\.db$|desktop\.ini$)"
)  # hidden, or left by operating systems
ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What is raised of an archive that is damaged."""


@dataclass(frozen=True)
class Rejection:
    """A file or row that cannot become an image of the data set, and why."""

    path: str
    reason: str


SourceFiles = dict[str, Callable[[], bytes]]
"""Name with forward slashes: a function that reads the bytes."""
Listing = tuple[SourceFiles, list[Rejection]]


def list_source_files(source: Path, stack: ExitStack) -> Listing:
    """All regular files of a source, and what else was in it."""
    if not source.exists():
        raise UserError(f"ingest.source: {source} does not exist; point it at a folder, zip, tar or npz of images")
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
                f"set ingest.source: {source.parent} and ingest.inside: {source.name}: the images must be seen too"
                if lower.endswith(TABLE_SUFFIXES)
                else f"known: a folder, {', '.join(ARCHIVE_SUFFIXES)}, .npz"
            )
            raise UserError(f"ingest.source: {source} is no folder, archive or npz; {hint}")
    except ARCHIVE_ERRORS as error:
        raise UserError(f"ingest.source: {source} is a damaged archive: {error}; copy it anew") from error
    nameless = [name for name in files if not _is_text(name)]
    refused += [Rejection(name, "its name is not valid UTF-8; rename it") for name in nameless]
    return {name: read for name, read in files.items() if _is_text(name)}, refused


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_folder(root: Path) -> Listing:
    """Regular files below a folder; a pipe would hang a reader, and a link may lead out of the folder."""
    files: SourceFiles = {}
    refused = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            refused.append(Rejection(name, "is a link; put the file or folder itself there"))
        elif path.is_file():
            files[name] = partial(read_file, path)
        elif not path.is_dir():
            refused.append(Rejection(name, "is neither file nor folder"))
    return files, refused


def read_file(path: Path) -> bytes:
    """Its bytes; raises OSError, or Unreadable of what is too large or no file: a pipe would hang its reader."""
    known = path.stat()
    if not stat.S_ISREG(known.st_mode):
        raise Unreadable(f"is {'a folder' if stat.S_ISDIR(known.st_mode) else 'no regular file'}")
    check_file_size(known.st_size)
    return path.read_bytes()


def check_file_size(size: int) -> None:
    """Raise Unreadable where a file of so many bytes is not held in memory."""
    if size > MAX_FILE_BYTES:
        raise Unreadable(f"is {size / 2**30:.1f} GiB, above {MAX_FILE_BYTES / 2**30:g}, which a file may have")


def _in_zip(file: Path, stack: ExitStack) -> Listing:
    archive = stack.enter_context(zipfile.ZipFile(file))
    members = {m: _plain(m.filename, file) for m in archive.infolist() if not m.is_dir()}
    _refuse_bomb(file, sum(m.file_size for m in members))
    doubled = [name for name, count in Counter(members.values()).items() if count > 1]
    if doubled:
        raise UserError(f"{file} holds {doubled[0]} twice; which one is meant cannot be known: pack it anew")
    return {n: partial(read_zip_member, archive, m) for m, n in sorted(members.items(), key=lambda item: item[1])}, []


def read_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member; raises Unreadable of what is too large, damaged, encrypted or packed in an unknown way."""
    check_file_size(member.file_size)
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError) as error:
        raise Unreadable(f"cannot be unpacked: {error}") from error


def normalize_member_name(name: str) -> str:
    """A member's name without what does not count in a path; raises Unreadable where it leads out of the archive."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unreadable("its name leads out of its folder; pack it anew")
    return "/".join(parts)


def _plain(name: str, file: Path) -> str:
    try:
        return normalize_member_name(name)
    except Unreadable:
        raise UserError(f"{file} holds {name}, which leads out of its folder; pack it anew") from None


def _in_tar(file: Path, stack: ExitStack) -> Listing:
    """Unpacked first, since a compressed tar can only be read from front to back."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="macula-")))
    with tarfile.open(file) as archive:
        members = list(archive)
        if is_truncated_tar(archive):
            raise UserError(
                f"ingest.source: {file} is damaged or cut off at byte {archive.offset} of the tar; copy it anew"
            )
        _refuse_bomb(file, sum(m.size for m in members))
        archive.extractall(folder, members=[m for m in members if m.isreg()], filter="data")
    files, refused = _in_folder(folder)
    odd = [m for m in members if not (m.isreg() or m.isdir())]
    return files, refused + [Rejection(m.name, "is a link or no regular file; pack the file itself") for m in odd]


def is_truncated_tar(archive: tarfile.TarFile) -> bool:
    """Return whether the archive ends before its end-of-archive marker.

    `tarfile` treats a damaged header as the end, but an empty block must follow the last member.

    Raises:
        DAMAGED: a checksum at the end of a compressed file is wrong.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    end = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        return True
    while archive.fileobj.read(2**20):  # to the end, where a compressed file has its checksum
        pass
    return False


def _refuse_bomb(file: Path, unpacked: int) -> None:
    if unpacked > MAX_UNPACKED_BYTES:
        raise UserError(
            f"{file} unpacks to {unpacked / 2**30:.0f} GiB, above {MAX_UNPACKED_BYTES / 2**30:.0f}: unpack it by hand"
        )
