"""Numbers with their nouns, and lists of names, for messages."""

from collections.abc import Iterable


def quantity(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun in the singular or plural.

    Args:
        number: how many.
        noun: the singular.
        plural: the plural; empty for the singular with s.

    >>> quantity(1, "image"), quantity(1200, "image"), quantity(2, "class", "classes")
    ('1 image', '1,200 images', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def list_names(names: Iterable[str], most: int) -> str:
    """Return names separated by commas, and the number of those beyond the first `most`.

    >>> list_names(["a", "b"], 2), list_names(["a", "b", "c"], 2)
    ('a, b', 'a, b and 1 more')
    """
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
