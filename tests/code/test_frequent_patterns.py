"""Search for name patterns of many files, with bounds on the number of comparisons."""

from functools import partial

import pytest

from stages.core.path_parts import stem_of
from stages.importers import file_pairing, frequent_patterns, pairing_patterns
from stages.importers.file_pairing import find_pairings


def unused() -> bytes:
    raise AssertionError("the names alone decide")


def pairs_of_many_parts(count: int) -> list[str]:
    stems = [f"2021-03-{i % 28 + 1:02}_exp{i % 5}_plate-{i % 97}_well_B{i % 20}_t{i:05}" for i in range(count)]
    return [f"{folder}/{stem}{end}.png" for stem in stems for folder, end in (("a", "_raw"), ("b", "_proc"))]


@pytest.mark.parametrize("count", [30, 400])
def test_pairs_of_names_of_many_parts_are_found_by_few_comparisons(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def counted(images: str, targets: str, *paths: object) -> object:
        compared.append((images, targets))
        return pair(images, targets, *paths)  # type: ignore[arg-type]

    pair = file_pairing._pair
    monkeypatch.setattr(file_pairing, "_pair", counted)
    patterns = partial(pairing_patterns.patterns_of_one_key, False)
    found = list(find_pairings(dict.fromkeys(pairs_of_many_parts(count), unused), patterns, lambda _: False))
    assert ("a/{key}_raw.png", "b/{key}_proc.png") in {(one.images, one.targets) for one in found}
    assert len(compared) < 400  # of 40,000 ordered pairs of 200 patterns


def test_only_the_most_frequent_patterns_are_compared() -> None:
    def of_path(path: str):  # type: ignore[no-untyped-def]
        yield ("{key}.png", 0), (stem_of(path),)
        yield ("{key}.*", 0), (stem_of(path),)
        yield (f"{stem_of(path)}{{key}}.png", 0), ("",)

    paths = [f"{i:03}.png" for i in range(50)]
    assert list(frequent_patterns.frequent_patterns(paths, of_path, 3)) == [("{key}.png", 0)]
    mixed = [*paths, *(f"{i:03}.jpg" for i in range(10))]
    assert ("{key}.*", 0) in frequent_patterns.frequent_patterns(mixed, lambda p: [(("{key}.*", 0), (stem_of(p),))], 3)  # type: ignore[arg-type, return-value]


def test_leading_zeros_are_removed_unless_files_differ_by_them() -> None:
    def of_path(path: str):  # type: ignore[no-untyped-def]
        yield ("{key}.png", 0), (stem_of(path),)

    (paths,) = frequent_patterns.frequent_patterns(["01.png", "2.png"], of_path, 2).values()
    assert list(paths) == [("1",), ("2",)]
    (paths,) = frequent_patterns.frequent_patterns(["01.png", "1.png"], of_path, 2).values()
    assert list(paths) == [("01",), ("1",)]
