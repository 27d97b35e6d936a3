"""Decode XML files, in every encoding that they declare."""

import codecs
import re
from xml.etree import ElementTree

from stages.images.decode import Unreadable

DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
WITHOUT_MARK = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949"}
"""Encodings that programs declare but extend, and the extension, as in the Encoding Standard of WHATWG."""


def parse_xml(data: bytes, path: str) -> ElementTree.Element:
    """Parse an XML file without entities, decoded by its byte order mark or declaration, else as UTF-8.

    Args:
        data: content of the file.
        path: path of the file, for the error messages.

    Raises:
        Unreadable: the file is not XML, is not in the encoding that it declares, or contains a DOCTYPE or ENTITY
            declaration.
    """
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except (ValueError, LookupError) as error:
        raise Unreadable(
            f"{path} cannot be decoded as {encoding}, which it declares or which is the default: {error}; save it as "
            "UTF-8"
        ) from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Unreadable(
            f"{path} contains a DOCTYPE or ENTITY declaration, whose entities could expand without limit; remove it"
        )
    try:
        return ElementTree.fromstring(text)  # noqa: S314 no entities, so nothing expands
    except (ElementTree.ParseError, ValueError) as error:
        raise Unreadable(f"{path} is not valid XML: {error}") from None


def _encoding(data: bytes) -> str:
    for start, encoding in (BYTE_ORDER_MARKS | WITHOUT_MARK).items():
        if data.startswith(start):
            return encoding
    found = DECLARED.match(data)
    declared = found[1].decode("ascii").lower() if found else "utf-8"
    if declared.startswith(("utf-16", "utf-32")):  # wrong, since the declaration is readable as ASCII
        return "utf-8"
    return SUPERSETS.get(declared, declared)
