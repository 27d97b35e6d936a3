"""Natural order of names: numbers by value, before text."""


def natural_sort_key(name: str) -> tuple[bool, int, str]:
    """Return a sort key that orders decimal names by value and puts them before other names.

    >>> sorted(["b", "10", "2"], key=natural_sort_key)
    ['2', '10', 'b']
    """
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name
