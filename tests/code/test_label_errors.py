"""Injected label errors are detected and ranked first, and correct labels are not reported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.audits import AUDITS, label_errors
from stages.audits.audit_data import AuditData
from stages.audits.label_errors.not_understood import unless_too_many
from stages.audits.label_errors.wrong_masks import _unusual
from stages.config.schema import Params
from stages.core.findings import Finding, read_findings, write_findings
from stages.dataset.annotations import Annotation, ObjectAnnotation
from stages.dataset.manifest import read_manifest
from stages.probes.confident_learning import find_label_errors
from stages.probes.shape_model import landmark_errors
from stages.reports import Album, make_cards
from tests.conftest import Ingest, digit_images, write_folders
from tests.toys import COLOURS, TOYS, objects, save, scene


def load_audit_data(folder: Path) -> AuditData:
    return AuditData(read_manifest(folder), pd.read_parquet(folder / "sealed_index.parquet"), folder)


def findings_by_id(data: AuditData, params: Params) -> dict[str, Finding]:
    return {finding.id: finding for finding in label_errors.find(data, params.audit)}


def changed(data: AuditData, rows_to_change: list[int], **change: object) -> AuditData:
    """Return the data with the annotations of some rows changed."""
    rows = data.rows.copy()
    texts = list(rows["annotation"])
    for row in rows_to_change:
        texts[row] = replace(Annotation.from_json(texts[row]), **change).to_json()  # type: ignore[arg-type]
    return replace(data, rows=rows.assign(annotation=texts))


@pytest.fixture
def digits(ingest: Ingest, tmp_path: Path) -> AuditData:
    return load_audit_data(ingest(write_folders(tmp_path / "digits", digit_images(per_class=40))))


def relabelled(data: AuditData, share: float) -> tuple[AuditData, set[str]]:
    rng, rows = np.random.default_rng(1), data.rows.copy()
    wrong = rng.permutation(len(rows))[: round(share * len(rows))]
    given = rows["label"].to_numpy(str)
    given[wrong] = [str((int(label) + rng.integers(1, 10)) % 10) for label in given[wrong]]
    texts = [Annotation(labels=(label,)).to_json() for label in given]
    return replace(data, rows=rows.assign(label=given, annotation=texts)), set(rows["path"].iloc[wrong])


def test_unchanged_digits_have_no_label_errors(digits: AuditData, params: Params) -> None:
    findings = findings_by_id(digits, params)
    assert set(findings) == {"label_errors/classes"}
    assert findings["label_errors/classes"].severity == "passed"


def test_relabelled_digits_are_ranked_first_and_their_share_is_estimated(digits: AuditData, params: Params) -> None:
    noisy, wrong = relabelled(digits, 0.1)
    finding = findings_by_id(noisy, params)["label_errors/classes"]
    assert finding.severity == "warning"
    assert 0.05 < finding.evidence["share"] < 0.16
    assert len(wrong & set(finding.images)) >= 0.9 * len(finding.images) > 0
    assert all("\N{RIGHTWARDS ARROW}" in finding.captions[path] for path in finding.images)


def test_random_labels_are_reported_as_not_checked(digits: AuditData, params: Params) -> None:
    noisy, _ = relabelled(digits, 1.0)
    rows = noisy.rows.sample(frac=1, random_state=3)
    shuffled = noisy.rows.assign(label=list(rows["label"]), annotation=list(rows["annotation"]))
    findings = findings_by_id(replace(noisy, rows=shuffled), params)
    assert set(findings) == {"label_errors/not-checked"}
    assert "skill" in findings["label_errors/not-checked"].message


def test_a_class_with_too_few_groups_is_reported_as_not_checked(digits: AuditData, params: Params) -> None:
    rows = digits.rows
    few = pd.concat([rows[rows["label"] != "7"], rows[rows["label"] == "7"].head(3)])
    findings = findings_by_id(replace(digits, rows=few), params)
    assert "Labels were not checked for class 7" in findings["label_errors/not-checked"].message
    assert findings["label_errors/classes"].severity == "passed"


def test_overlapping_classes_are_not_reported_as_label_errors() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 2000)
    signal = 2 * codes - 1 + 0.8 * rng.normal(size=2000)  # a tenth of the images are on the wrong side
    p = 1 / (1 + np.exp(-2 * signal / 0.64))
    result = find_label_errors(np.stack([1 - p, p], axis=1), codes)
    assert (result.better_N != codes).mean() > 0.08, "some predictions disagree with the labels"
    assert result.share < 0.02 and result.at_least < 0.01


def test_the_score_of_a_grade_grows_with_its_distance() -> None:
    p = np.tile([0.9, 0.1, 0.0, 0.0], (40, 1))
    codes = np.array([0] * 36 + [0, 1, 2, 3])
    result = find_label_errors(p, codes, ordered=True)
    assert list(result.score_N[-4:].round(3)) == [0.0, 0.8, 1.8, 2.8]


@pytest.mark.parametrize("factor", [2.0, 10.0])
def test_a_misread_number_is_detected(digits: AuditData, params: Params, factor: float) -> None:
    values = [float(5 + int(label)) for label in digits.rows["label"]]
    wrong = [3, 90, 200]
    texts = [
        Annotation(scalars={"size": value * (factor if i in wrong else 1)}).to_json() for i, value in enumerate(values)
    ]
    finding = findings_by_id(replace(digits, rows=digits.rows.assign(annotation=texts)), params)["label_errors/numbers"]
    assert finding.severity == "warning"
    large = [i for i in wrong if values[i] * (factor - 1) > 7]
    assert large and {digits.rows["path"].iloc[i] for i in large} <= set(finding.images)


def with_numbers(data: AuditData, values: list[float]) -> AuditData:
    texts = [Annotation(scalars={"size": float(value)}).to_json() for value in values]
    return replace(data, rows=data.rows.assign(annotation=texts))


@pytest.mark.parametrize("predictable", [True, False])
def test_only_a_misread_number_among_mostly_zero_counts_is_detected(
    digits: AuditData, params: Params, predictable: bool
) -> None:
    rng, grade = np.random.default_rng(0), digits.rows["label"].astype(int).to_numpy()
    grade = grade if predictable else rng.permutation(grade)
    counts = np.where(grade < 7, 0, rng.poisson(grade + 3.0))
    result = findings_by_id(with_numbers(digits, counts.tolist()), params)
    if not predictable:
        assert (
            "label_errors/numbers" not in result
            and "the R2 of the baseline" in result["label_errors/not-checked"].message
        )
        return
    assert (
        result["label_errors/numbers"].severity == "passed"
        and 0.5 < result["label_errors/numbers"].evidence["r2"]["size"] < 0.9
    )
    wrong = int(np.flatnonzero(counts > 9)[0])
    counts[wrong] *= 10
    finding = findings_by_id(with_numbers(digits, counts.tolist()), params)["label_errors/numbers"]
    assert finding.severity == "warning" and finding.images == [digits.rows["path"].iloc[wrong]]


@pytest.mark.parametrize("spread", [True, False])
def test_the_largest_floats_are_audited_and_written(
    digits: AuditData, params: Params, tmp_path: Path, spread: bool
) -> None:
    values = [5.0 + int(label) for label in digits.rows["label"]]
    if spread:
        values = [(value - 9.5) / 4.5 * 1.7e308 for value in values]
    else:
        values[3] = 1.7e308
    data = with_numbers(digits, values)
    audits = ("label_errors", "learning_curve", "confounder")
    findings = [finding for name in audits for finding in AUDITS[name](data, params.audit)]
    write_findings(findings, tmp_path / "findings.json")
    result = {finding.id: finding for finding in findings}
    if spread:  # ten times a number near 0 does not stand out
        assert "ten times as large" in result["label_errors/not-checked"].message
    else:
        assert 0.5 < result["label_errors/numbers"].evidence["r2"]["size"] < 0.95
        assert result["label_errors/numbers"].images == [digits.rows["path"].iloc[3]]
    assert ("learning_curve/images" if spread else "learning_curve/not-checked") in result
    assert any(name.startswith("confounder/") for name in result)


def test_detection_does_not_depend_on_the_unit_of_a_number(digits: AuditData, params: Params) -> None:
    values = [5.0 + int(label) for label in digits.rows["label"]]
    values[3] *= 10
    one, other = (findings_by_id(with_numbers(digits, [v * unit for v in values]), params) for unit in (1, 1e-15))
    assert other["label_errors/numbers"].images == one["label_errors/numbers"].images


def test_each_of_several_classes_is_compared_with_the_rest(digits: AuditData, params: Params) -> None:
    label_sets = [
        {"round"} if label in "0689" else {"straight"} if label in "147" else set() for label in digits.rows["label"]
    ]
    wrong = [5, 77, 140, 201, 260, 300]
    for row in wrong:
        label_sets[row] = label_sets[row] ^ {"round"}
    texts = [Annotation(labels=tuple(sorted(labels))).to_json() for labels in label_sets]
    finding = findings_by_id(replace(digits, rows=digits.rows.assign(annotation=texts)), params)["label_errors/classes"]
    assert finding.severity in ("warning", "info")
    paths = {digits.rows["path"].iloc[row] for row in wrong}
    assert len(paths & set(finding.images)) >= 3
    assert any("labelled round?" in caption for caption in finding.captions.values())


def test_swapped_and_misplaced_points_are_detected() -> None:
    rng = np.random.default_rng(0)
    shape = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    points = shape + rng.normal(scale=2, size=(60, 1, 2)) + rng.normal(scale=0.05, size=(60, 5, 2))
    points[7, 3] = np.nan
    points[20, [0, 2]] = points[20, [2, 0]]
    points[30, 4] += 1.0
    error, gain, pair = landmark_errors(points, np.arange(60))
    assert np.isnan(error[7, 3]) and np.isfinite(np.delete(error[7], 3)).all()
    assert gain.argmax() == 20 and set(pair[20]) == {0, 2}
    assert np.delete(gain, 20).max() < 10
    largest = np.unravel_index(np.nanargmax(np.where(np.arange(60)[:, None] == 20, np.nan, error)), error.shape)
    assert tuple(map(int, largest)) == (30, 4)


def point_data(moved: int) -> AuditData:
    """Return 60 images of five points, of which the first images have one point moved."""
    rng = np.random.default_rng(0)
    shape = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 50.0], [10.0, 50.0], [30.0, 30.0]])
    texts = []
    for number in range(60):
        places = shape + rng.normal(scale=5, size=2) + rng.normal(scale=0.5, size=(5, 2))
        if number < moved:
            places[number % 5] += 12
        texts.append(Annotation(points={f"p{i}": (x, y) for i, (x, y) in enumerate(places.tolist())}).to_json())
    paths = [f"{number}.png" for number in range(60)]
    rows = pd.DataFrame({"path": paths, "group": paths, "width": 64, "height": 64, "annotation": texts})
    return AuditData(rows, pd.DataFrame(), Path())


@pytest.mark.parametrize(("moved", "understood"), [(2, True), (6, False)])
def test_points_are_not_called_wrong_if_too_many_of_them_are_reported(moved: int, understood: bool) -> None:
    (finding,), _ = label_errors.wrong_points.find(point_data(moved))
    assert len(finding.captions) == moved
    assert ("looks misplaced in 2" in finding.message) == understood
    assert ("does not understand these data" in finding.message) != understood


def test_many_relabelled_digits_do_not_lead_to_a_claim_about_single_labels(digits: AuditData, params: Params) -> None:
    finding = findings_by_id(relabelled(digits, 0.15)[0], params)["label_errors/classes"]
    assert "does not understand these data" in finding.message and "no single label is called wrong" in finding.message
    assert finding.images and finding.evidence["understood"] is False


@pytest.mark.parametrize(("reported", "total", "called_wrong"), [(5, 100, True), (6, 100, False), (0, 0, True)])
def test_a_check_that_reports_more_than_5_percent_of_the_labels_calls_none_wrong(
    reported: int, total: int, called_wrong: bool
) -> None:
    found = unless_too_many(Finding("label_errors/masks", "warning", "Wrong."), reported, total, "masks")
    assert (found.message == "Wrong.") == called_wrong
    assert called_wrong or "disagrees with 6 of 100 masks (6%)" in found.message


@pytest.fixture
def masks(ingest: Ingest, tmp_path: Path) -> AuditData:
    from tests.toys import mask_of

    rng = np.random.default_rng(0)
    for number in range(40):
        image, placed = scene(rng, 3)
        save(tmp_path / "d/images" / f"{number:02d}.png", image)
        save(tmp_path / "d/masks" / f"{number:02d}.png", mask_of([] if number == 30 else placed))
    toy = {**TOYS["segmentation"].ingest, "mask_values": {0: "ground", 1: "disc", 2: "square"}}
    return load_audit_data(ingest(tmp_path / "d", **toy))


@pytest.mark.parametrize(
    ("empty", "classes", "severity", "words"),
    [
        (0, 2, "passed", "0 of 30 masks contain only ground. No masks contain a class that no other mask contains."),
        (1, 2, "warning", "1 of 30 masks contains only ground"),
        (10, 2, "info", "10 of 30 masks contain only ground, which are too many for this audit to decide"),
        (10, 3, "warning", "10 of 30 masks contain only ground, which are too many for this audit to decide"),
    ],
)
def test_masks_without_an_object_are_counted_and_not_denied(
    empty: int, classes: int, severity: str, words: str
) -> None:
    pixels_NK = np.tile([9, 9, 0], (30, 1))
    pixels_NK[:empty, 1] = 0
    pixels_NK[-1, 2] = classes - 2  # a class that only one mask contains
    rows = pd.DataFrame({"path": [f"{n}.png" for n in range(30)]})
    found = _unusual(rows, ("ground", "cell", "hole"), pixels_NK)
    assert (found.severity, len(found.images)) == (severity, (empty == 1) + (classes == 3)) and words in found.message


def test_only_the_empty_mask_is_detected(masks: AuditData, params: Params) -> None:
    findings = findings_by_id(masks, params)
    empty = "images/30.png"
    if empty not in set(masks.rows["path"]):
        pytest.fail("the empty mask is in the sealed test split; choose another image")
    assert findings["label_errors/unusual-masks"].images == [empty]
    assert findings["label_errors/masks"].images == [empty]
    assert findings["label_errors/masks"].places[empty]


@pytest.fixture
def boxes(ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AuditData:
    monkeypatch.setattr("tests.toys.COUNT", 40)
    (tmp_path / "d").mkdir()
    objects(tmp_path / "d", np.random.default_rng(0))
    return load_audit_data(ingest(tmp_path / "d", inside="things.json"))


def test_correct_boxes_pass(boxes: AuditData, params: Params) -> None:
    assert findings_by_id(boxes, params)["label_errors/objects"].severity == "passed"


def test_missing_spurious_and_misclassified_boxes_are_detected(boxes: AuditData, params: Params) -> None:
    shapes = Annotation.from_json(boxes.rows["annotation"].iloc[4]).shapes
    assert shapes
    other = {"disc": "square", "square": "disc"}
    wrong = changed(boxes, [2], shapes=())
    wrong = changed(wrong, [4], shapes=tuple(replace(shape, label=other[shape.label]) for shape in shapes))
    corner = ObjectAnnotation("disc", (0.0, 0.0, 9.0, 9.0))
    labelled = Annotation.from_json(boxes.rows["annotation"].iloc[6]).shapes or ()
    assert all(x0 > 9 or y0 > 9 for x0, y0, _, _ in (shape.box for shape in labelled)), "no object is in the corner"
    wrong = changed(wrong, [6], shapes=(*labelled, corner))
    finding = findings_by_id(wrong, params)["label_errors/objects"]
    paths = list(boxes.rows["path"])
    assert "unlabelled" in finding.captions[paths[2]]
    assert "instead" in finding.captions[paths[4]]
    assert "without an object" in finding.captions[paths[6]]
    assert set(finding.images) <= {paths[2], paths[4], paths[6]}


@pytest.mark.parametrize("share", [0.75, 0.9])
def test_a_dim_area_without_objects_is_not_reported_as_unlabelled_objects(
    share: float, ingest: Ingest, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.toys.COUNT", 40)
    objects(tmp_path / "d", np.random.default_rng(0))
    file = tmp_path / "d/2.png"
    image = np.asarray(Image.open(file)).astype(float)
    background = np.abs(image - 90).max(axis=2) <= 8
    image[background] += share * (np.array(COLOURS["disc"]) - 90)
    save(file, image.round().astype(np.uint8))
    finding = findings_by_id(load_audit_data(ingest(tmp_path / "d", inside="things.json")), params)[
        "label_errors/objects"
    ]
    assert finding.evidence["regions"] > 0, "the baseline predicts objects in the dim area"
    assert (finding.severity, finding.images) == ("passed", [])


@pytest.mark.parametrize("name", TOYS)
def test_every_kind_of_label_gives_valid_findings(name: str, ingest: Ingest, params: Params, tmp_path: Path) -> None:
    toy = TOYS[name]
    (tmp_path / "toy").mkdir()
    toy.write(tmp_path / "toy", np.random.default_rng(0))
    columns = params.ingest.columns.model_copy(update=toy.columns)
    findings = label_errors.find(load_audit_data(ingest(tmp_path / "toy", columns=columns, **toy.ingest)), params.audit)
    assert findings and all(
        f.id.startswith("label_errors/") and f.severity != "blocking" and f.message for f in findings
    )
    assert len({f.id for f in findings}) == len(findings)
    write_findings(findings, tmp_path / "findings.json")
    assert [f.id for f in read_findings(tmp_path / "findings.json")] == [f.id for f in findings]


def test_the_report_shows_the_suggested_label_and_outlines_the_region(digits: AuditData) -> None:
    path = digits.rows["path"].iloc[0]
    plain = Finding("labels/x", "warning", "Look.", {}, [path])
    result = replace(plain, captions={path: "3 or 8?"}, places={path: [(1.0, 1.0, 6.0, 6.0)]})
    album = Album(digits.rows, digits.folder)
    (before,), (after,) = (make_cards([one], album)[0].strip for one in (plain, result))
    assert after.caption.startswith("3 or 8?") and not before.caption.startswith("3 or 8?")
    assert after.uri != before.uri


def test_the_audit_is_registered() -> None:
    assert AUDITS["label_errors"] is label_errors.find


def test_mostly_zero_and_constant_counts_are_not_reported(digits: AuditData, params: Params) -> None:
    values = [float(int(label)) if label in "12" else 0.0 for label in digits.rows["label"]]
    texts = [Annotation(scalars={"count": value}).to_json() for value in values]
    findings = findings_by_id(replace(digits, rows=digits.rows.assign(annotation=texts)), params)
    result = findings.get("label_errors/numbers")
    assert result is None or len(result.images) < 0.1 * len(values), "few of the 20 % nonzero values are outliers"
    constant = [Annotation(scalars={"count": 3.0}).to_json() for _ in values]
    assert "label_errors/numbers" not in findings_by_id(
        replace(digits, rows=digits.rows.assign(annotation=constant)), params
    )


def test_swapped_points_are_detected_among_many_points() -> None:
    rng = np.random.default_rng(0)
    shape = rng.uniform(0, 10, size=(60, 2))
    points = shape + rng.normal(scale=0.05, size=(40, 60, 2))
    points[20, [0, 9]] = points[20, [9, 0]]
    _, gain, pair = landmark_errors(points, np.arange(40))
    assert gain.argmax() == 20 and set(pair[20]) == {0, 9}


def test_evidence_that_is_not_finite_is_written_as_null(tmp_path: Path) -> None:
    write_findings([Finding("a/b", "info", "x", {"r2": [float("inf"), 1.0], "p": float("nan")})], tmp_path / "f.json")
    assert read_findings(tmp_path / "f.json")[0].evidence == {"r2": [None, 1.0], "p": None}


def test_pretrained_features_are_combined_with_patches_and_named(digits: AuditData, params: Params) -> None:
    noisy, wrong = relabelled(digits, 0.04)
    labels = noisy.rows["label"].to_numpy(str)
    rng = np.random.default_rng(0)
    noise_NF = rng.normal(size=(len(labels), 300)).astype(np.float32)
    truth_N = np.array([int(path.split("/")[0]) for path in noisy.rows["path"]])
    informative_NF = noise_NF + 2 * np.tile(np.eye(10, dtype=np.float32)[truth_N], 30)
    for features_NF, expected in ((noise_NF, "random patches"), (informative_NF, "efficientnet_lite0 at 160 pixels")):
        data = replace(noisy, uses_pretrained=True)
        data.__dict__["pretrained"] = features_NF
        data.__dict__["features"] = noisy.features if expected == "random patches" else noise_NF[:, ::-1].copy()
        finding = findings_by_id(data, params)["label_errors/classes"]
        assert expected in finding.evidence["features"] and finding.evidence["features"] in finding.message
        assert len(wrong & set(finding.images)) >= 0.7 * len(finding.images) > 0
    assert findings_by_id(noisy, params)["label_errors/classes"].evidence["features"] == "random patches"


def test_too_weak_features_are_named(digits: AuditData, params: Params) -> None:
    data = replace(digits, uses_pretrained=True)
    rng = np.random.default_rng(0)
    data.__dict__["features"], data.__dict__["pretrained"] = rng.normal(size=(2, len(data.rows), 50))
    message = findings_by_id(data, params)["label_errors/not-checked"].message
    assert "the baseline, on features of" in message and "skill" in message
