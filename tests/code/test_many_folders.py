"""Bounds on the work of detecting the format of many folders: reads of files, and tests of paths."""

import io
from collections import Counter

import numpy as np
from PIL import Image

from stages.config.schema import Params
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
