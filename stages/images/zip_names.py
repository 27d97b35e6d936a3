"""Decode the names of zip members. A zip states only whether a name is UTF-8; otherwise its code page is unknown."""

import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence

UTF8_FLAG = 0x800
"""Bit 11 of the flags: the name is UTF-8 (APPNOTE.TXT of PKWARE, section 4.4.4)."""
UNICODE_PATH = 0x7075
"""Extra field with the name in UTF-8 and the CRC-32 of the other name (APPNOTE.TXT, section 4.6.9)."""


def decode_zip_names(members: Sequence[zipfile.ZipInfo]) -> list[str | None]:
    """Return the names of the members of an archive; None if the encoding of a name is unknown.

    Names that are not ASCII, not flagged as UTF-8 and not in the extra field are decoded together, since a short name
    in one encoding can be valid in another. They are UTF-8 if the bytes of all of them are, as older macOS writes them.
    They are code page 437, the default of the format, if all of them look Western European then, as those that Windows
    writes there. Otherwise they would be meaningless, and a byte of a letter may be read as a backslash.

    >>> decode_zip_names([zipfile.ZipInfo("Größe".encode().decode("cp437")), zipfile.ZipInfo("a")])
    ['Größe', 'a']
    >>> decode_zip_names([zipfile.ZipInfo("狗".encode("gbk").decode("cp437")), zipfile.ZipInfo("a")])
    [None, 'a']
    """
    names = [_stated_name(member) for member in members]
    unstated = [member.filename for member, name in zip(members, names, strict=True) if name is None]
    if all(_as_utf8(name) is not None for name in unstated):
        return [
            _as_utf8(member.filename) if name is None else name for member, name in zip(members, names, strict=True)
        ]
    if all(_looks_western(part) for name in unstated for part in re.split(r"[/\\]", name)):
        return [member.filename if name is None else name for member, name in zip(members, names, strict=True)]
    return names


def _stated_name(member: zipfile.ZipInfo) -> str | None:
    """Return the name if the archive states its encoding or if it is ASCII, else None."""
    if member.flag_bits & UTF8_FLAG or member.filename.isascii():
        return member.filename
    checksum = zlib.crc32(member.filename.encode("cp437")).to_bytes(4, "little")
    for field, content in _extra_fields(member.extra):
        if field == UNICODE_PATH and content[1:5] == checksum:
            return content[5:].decode("utf-8", errors="replace")
    return None


def _as_utf8(name: str) -> str | None:
    """Return a name that was read as code page 437, read as UTF-8; None if it is not valid UTF-8."""
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeDecodeError:
        return None


def _looks_western(part: str) -> bool:
    """Return whether a part of a path is ASCII except for Latin letters, of which it has no more than ASCII letters."""
    accented = [sign for sign in part if not sign.isascii()]
    stem = part.rpartition(".")[0] or part
    is_latin = all(unicodedata.name(sign, "").startswith("LATIN") for sign in accented)
    return is_latin and len(accented) <= sum(sign.isascii() and sign.isalpha() for sign in stem)


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of each extra field; a damaged rest is ignored."""
    while len(extra) >= 4:
        field, size = (int.from_bytes(extra[at : at + 2], "little") for at in (0, 2))
        yield field, extra[4 : 4 + size]
        extra = extra[4 + size :]
