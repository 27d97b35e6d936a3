import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.audits import compare_audits as audits
from benchmarks.audits import injected_faults as planted
from benchmarks.audits.audit_competitors import ingested, macula, settings, subject
from benchmarks.audits.audit_tables import told
from benchmarks.audits.base_datasets import pool
from benchmarks.audits.injected_faults import CONFOUNDERS, COPIES, DRIFTS, ODD, Case, Change, Shot, written

CHANGES: dict[str, tuple[Change, float]] = {
    **{
        name: (change, strengths[-1])
        for faults in (CONFOUNDERS, DRIFTS)
        for name, (change, strengths) in faults.items()
    },
    **COPIES,
    **ODD,
}


def photo(seed: int = 0) -> Shot:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(60, 180, (6, 8, 3), dtype=np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
    return Shot(np.asarray(image), "a", "train", "a/1.jpg", 95, planted.CAMERAS[1], 3.5)


def digits(seed: int = 0, classes: int = 10, each: int = 20, meaning: bool = True) -> Case:
    return planted.clean(pool("digits", Path()), 0, np.random.default_rng(seed), classes, each, meaning)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_strength_nothing_changes_no_byte_and_a_strong_one_does(name: str) -> None:
    change, strength = CHANGES[name]
    before = written(photo())
    assert written(change(photo(), 0, np.random.default_rng(1))) == before
    assert written(change(photo(), strength, np.random.default_rng(1))) != before


@pytest.mark.parametrize("change", [planted.brightness, planted.border])
def test_what_is_too_bright_is_white_and_not_dark_again(change: Change) -> None:
    shot = replace(photo(), image=np.full((32, 32), 250, np.uint8))
    assert change(shot, 40, np.random.default_rng(0)).image[0, 0] == 255


@pytest.mark.parametrize("name", CONFOUNDERS)
def test_a_confounder_of_strength_nothing_leaves_every_file_as_it_was(name: str) -> None:
    case = digits()
    spoiled = planted.confounded(case, CONFOUNDERS[name][0], 0, np.random.default_rng(1))
    assert [written(s) for s in spoiled.shots] == [written(s) for s in case.shots]


def test_a_confounder_changes_one_class_and_no_other() -> None:
    case = digits()
    spoiled = planted.confounded(case, planted.brightness, 20, np.random.default_rng(1))
    changed = {s.label for s, other in zip(case.shots, spoiled.shots, strict=True) if written(s) != written(other)}
    assert len(changed) == 1


def test_what_a_file_says_of_itself_is_what_was_planted() -> None:
    shot = planted.padding(planted.date(planted.compression(photo(), 45, np.random.default_rng()), 40, None), 500, None)  # type: ignore[arg-type]
    with Image.open(io.BytesIO(written(shot))) as file:
        assert file.getexif()[planted.EXIF_MAKE] == "Beta"
        assert file.getexif().get_ifd(planted.EXIF_MORE)[planted.EXIF_TAKEN].startswith("2024:06:14")
    assert len(written(shot)) - len(written(replace(shot, padding=0))) == 504


def test_labels_without_meaning_are_the_same_ones_dealt_anew() -> None:
    of_class = {image.tobytes(): label for image, label in pool("digits", Path())}
    case = digits(meaning=False)
    right = [of_class[shot.image.tobytes()] == shot.label for shot in case.shots]
    assert set(Counter(shot.label for shot in case.shots).values()) == {20}
    assert np.mean(right) < 0.3 < np.mean([of_class[s.image.tobytes()] == s.label for s in digits().shots])


def test_copies_name_their_originals_and_half_of_them_lie_in_the_other_split() -> None:
    case = planted.copied(digits(), 4, np.random.default_rng(1))
    of_path = {shot.path: shot for shot in case.shots}
    pairs = [(of_path[one], of_path[other]) for some in case.pairs.values() for one, other in some]
    assert len(pairs) == 4 * len(COPIES) and len(of_path) == len(case.shots) == 200 + len(pairs)
    assert sum(one.split != other.split for one, other in pairs) == len(pairs) / 2
    assert len(planted.copied(digits(), 0, np.random.default_rng(1)).shots) == 200


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_as_many_labels_are_wrong_as_was_asked(share: float) -> None:
    case = digits()
    noisy = planted.mislabelled(case, share, np.random.default_rng(1))
    wrong = [s.path for s, other in zip(case.shots, noisy.shots, strict=True) if s.label != other.label]
    assert sorted(wrong) == sorted(noisy.mislabelled) and len(wrong) == round(200 * share)


@pytest.mark.parametrize("whom", ["validation", "arrival", "origin"])
def test_drift_befalls_those_it_is_meant_for(whom: str) -> None:
    case = digits()
    other = planted.drifted(case, whom, planted.brightness, 20, np.random.default_rng(1))
    changed = [s.image.tobytes() != o.image.tobytes() for s, o in zip(case.shots, other.shots, strict=True)]
    meant = [
        {"validation": s.split == "val", "arrival": s.arrival == 2, "origin": s.origin == "there"} for s in other.shots
    ]
    assert changed == [one[whom] for one in meant] and 10 < sum(changed) < 80


def test_one_class_of_ten_by_another_camera_stops_the_line_and_none_does_not() -> None:
    found = {}
    for share in (0.0, 1.0):
        case = planted.confounded(digits(meaning=False, each=40), planted.camera, share, np.random.default_rng(1))
        found[share] = dict(_alarms(case, "confounder"))["confounder/metadata"]
    assert found == {0.0: "passed", 1.0: "blocking"}


def _alarms(case: Case, audit: str) -> list[list[str]]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        rows, _ = ingested(case, Path(folder))
        return list(macula(subject(rows, Path(folder)), [audit], settings())["alarms"])


def test_the_benchmark_counts_what_is_found_and_tables_it(tmp_path: Path) -> None:
    bench = audits.Bench(1, 0, None, None)
    cell = bench.cell(
        {"carrier": "digits", "fault": "wrong labels", "strength": 0.1},
        lambda rng: planted.mislabelled(bench.case("digits", rng, 10, 30), 0.1, rng),
        ["labels"],
        (),
        audits.mislabelled,
    )
    assert cell["macula"]["seeds"] == 1 and cell["macula"]["planted"] == 30
    assert cell["macula"]["named rightly"] >= 20
    assert "| digits | 10% | macula | 1.00 |" in told(json.loads(json.dumps({"labels": [cell]})))
