"""Bounds on the work of detecting the format of many folders: reads of files, and tests of paths."""

import io
from collections import Counter
from functools import partial

import numpy as np
import pytest
from PIL import Image

from stages.config.schema import Params
from stages.importers import filename_matching
from stages.importers.filename_matching import inspected_pairings
from stages.importers.format_detection import find_formats

SIDE = 16


def png(number: int, *, is_mask: bool) -> bytes:
    image = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    if is_mask:
        image = np.zeros((SIDE, SIDE), np.uint8)
        image[number % 8 : number % 8 + 6, 4:12] = 1
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def patients(count: int) -> dict[str, bytes]:
    """Return the files of patients with five slices and their masks each."""
    names = [(patient, number, end) for patient in range(count) for number in range(5) for end in ("", "_mask")]
    return {
        f"patient_{patient:03}/slice_{number}{end}.png": png(5 * patient + number, is_mask=bool(end))
        for patient, number, end in names
    }


def test_files_are_decoded_a_few_times_however_many_pairings_have_them() -> None:
    contents, reads = patients(40), Counter[str]()

    def reader(path: str):  # type: ignore[no-untyped-def]
        def read() -> bytes:
            reads[path] += 1
            return contents[path]

        return read

    found = inspected_pairings({path: reader(path) for path in contents})
    assert any(one.images == "{folder}/{key}.png" and target.format == "masks" for one, target in found)
    assert reads.total() > 100
    assert max(reads.values()) <= 6
    assert reads.total() <= 3 * len(contents)


@pytest.mark.parametrize("name", ["slice_{number}{end}.png", "scan_{patient:03}{number}{end}.png"])
def test_masks_beside_images_are_found_in_many_folders_also_if_their_names_are_unique(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filename_matching, "MAX_IMAGES_OF_SEVERAL_KEYS", 50)
    contents = {
        f"patient_{patient:03}/" + name.format(patient=patient, number=number, end=end): png(number, is_mask=bool(end))
        for patient in range(100) for number in range(2) for end in ("", "_mask")
    }  # fmt: skip
    found = inspected_pairings({path: partial(contents.__getitem__, path) for path in contents})
    assert any(len(one.files) == 200 and target.format == "masks" for one, target in found)


def test_pairs_of_a_few_images_do_not_start_the_search_for_several_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filename_matching, "MAX_IMAGES_OF_SEVERAL_KEYS", 50)
    called: list[str] = []

    def patterns(heads: object, path: str) -> tuple[()]:
        called.append(path)
        return ()

    monkeypatch.setattr(filename_matching, "patterns_of_several_keys", patterns)
    contents = {f"a_{i % 7}/b_{i // 7 % 5}/photo {i}.png": png(i, is_mask=False) for i in range(400)}
    contents |= {f"c/{one}/d_{i}/{one} {i}.png": png(i, is_mask=False) for one in ("e", "f") for i in range(3)}
    inspected_pairings({path: partial(contents.__getitem__, path) for path in contents})
    assert called == []


class CountedPath(str):
    """A path that counts how often its beginning is compared and how often it is converted to lower case."""

    tests = 0
    __slots__ = ()

    def startswith(self, *arguments: object) -> bool:
        CountedPath.tests += 1
        return str.startswith(self, *arguments)  # type: ignore[arg-type]

    def lower(self) -> str:
        CountedPath.tests += 1
        return str.lower(self)


def test_paths_are_tested_a_bounded_number_of_times_however_many_folders_are_read(params: Params) -> None:
    content = png(0, is_mask=False)
    tests = []
    for count in (200, 800):
        houses = [(number // 8, number // 2 % 4, number) for number in range(count)]
        paths = [f"kind_{house % 3}/house_{house:03}/door_{door}/photo {i}.png" for house, door, i in houses]
        CountedPath.tests = 0
        found, _ = find_formats({CountedPath(path): lambda: content for path in paths}, params.ingest)
        assert len(found) > count / 8
        tests.append(CountedPath.tests / count)
    assert tests[1] <= 1.5 * tests[0] <= 100
