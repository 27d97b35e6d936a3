"""Parts of paths, compared with those of pathlib."""

from pathlib import PurePosixPath

import pytest

from stages.core.path_parts import folders_of, name_of, parent_of, stem_of, suffix_of, without_suffix


@pytest.mark.parametrize(
    "path", ["1.png", "a/b.c/1.tar.gz", "a.b/1", ".hidden", "a/.hidden", "a/1.", "a/..png", "a b/ü.PNG"]
)
def test_parts_of_a_path_are_those_of_pathlib(path: str) -> None:
    parsed = PurePosixPath(path)
    assert (name_of(path), stem_of(path), suffix_of(path)) == (parsed.name, parsed.stem, parsed.suffix)
    assert folders_of(path) == parsed.parts[:-1]
    assert parent_of(path) == str(parsed.parent).removeprefix(".")
    assert without_suffix(path) == str(parsed.with_suffix(""))
