"""Numbers with their nouns, for messages."""


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
