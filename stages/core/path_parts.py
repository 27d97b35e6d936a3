"""Parts of the paths of files in a source: relative, normalized, with forward slashes.

They are the parts that `pathlib.PurePosixPath` returns, found without parsing the path, which takes twenty times as
long: `configure` asks for parts of each of 60,000 paths dozens of times.
"""

IMAGE_SUFFIXES = frozenset(
    ".npy .bmp .gif .jpeg .jpg .jpe .jfif .mpo .png .pbm .pgm .pnm .ppm .tif .tiff .webp".split()
)
"""Suffixes of image files, in lower case."""


def name_of(path: str) -> str:
    """Return the name of a file without its folders."""
    return path.rpartition("/")[2]


def parent_of(path: str) -> str:
    """Return the folder of a file; empty for the source itself.

    >>> parent_of("a/b/1.png"), parent_of("1.png")
    ('a/b', '')
    """
    return path.rpartition("/")[0]


def folders_of(path: str) -> tuple[str, ...]:
    """Return the names of the folders of a file, the outermost first.

    >>> folders_of("a/b/1.png"), folders_of("1.png")
    (('a', 'b'), ())
    """
    return tuple(path.split("/")[:-1])


def suffix_of(path: str) -> str:
    """Return the suffix of a file with its dot; empty if the name has none.

    >>> suffix_of("a.b/1.tar.gz"), suffix_of("a.b/1"), suffix_of(".hidden"), suffix_of("1.")
    ('.gz', '', '', '')
    """
    dot = path.rfind(".")
    return path[dot:] if path.rfind("/") + 1 < dot < len(path) - 1 else ""


def stem_of(path: str) -> str:
    """Return the name of a file without its suffix.

    >>> stem_of("a.b/1.tar.gz"), stem_of("a.b/1"), stem_of(".hidden"), stem_of("1.")
    ('1.tar', '1', '.hidden', '1.')
    """
    start, dot = path.rfind("/") + 1, path.rfind(".")
    return path[start:dot] if start < dot < len(path) - 1 else path[start:]


def without_suffix(path: str) -> str:
    """Return a path without the suffix of the file.

    >>> without_suffix("a.b/1.png"), without_suffix("a.b/1")
    ('a.b/1', 'a.b/1')
    """
    return path[: len(path) - len(suffix_of(path))]
