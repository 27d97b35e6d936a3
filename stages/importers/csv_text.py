"""Encoding, separator and decimal sign of CSV files, which programs write according to the language of the system."""

import codecs
import csv
from itertools import islice

SEPARATORS = (",", ";", "\t")
MAX_LINES = 50  # lines from which the separator is determined


def decode_csv(data: bytes) -> str:
    """Decode a CSV file: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        ValueError: the file has another encoding.
    """
    has_mark = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if has_mark else "utf-8-sig")


def find_separator(text: str) -> str:
    r"""Return the separator: the first that gives all rows several cells, the same number in each.

    Without one, the separator that gives the header the most cells.

    >>> find_separator("a.png;1,5\nb.png;2")
    ';'
    """
    lines = list(islice(text.splitlines(), MAX_LINES))
    header = 1, ","
    for separator in SEPARATORS:
        widths = [len(row) for row in _rows(lines, separator) if any(cell.strip() for cell in row)]
        if len(set(widths)) == 1 and widths[0] > 1:
            return separator
        header = max(header, (widths[0] if widths else 1, separator), key=lambda found: found[0])
    return header[1]


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:  # reported by the reader of the whole table
        return []


def decimal_sign(separator: str) -> str:
    """Return the decimal sign of numbers: a comma where cells are separated by semicolons, as in a German Excel."""
    return "," if separator == ";" else "."


def parse_number(cell: str, decimal: str) -> float:
    """Parse a number; with a decimal comma, a point is accepted too, but not both.

    Args:
        cell: text of the number.
        decimal: decimal sign.

    Raises:
        ValueError: the text is not a number.
    """
    return float(cell.replace(",", ".") if decimal == "," and "." not in cell else cell)
