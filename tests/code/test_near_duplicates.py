"""Tests of the search for near-duplicates, of the duplicate and leakage audits, and of perceptual hashes."""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from stages.audits import duplicates, leakage, sequence_leakage
from stages.audits.audit_data import AuditData
from stages.config.schema import Params
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.dataset.annotations import Annotation, ObjectAnnotation, annotate_mask
from stages.dataset.manifest import read_manifest
from stages.near_duplicates.clusters import find_clusters
from stages.near_duplicates.image_similarity import grey_thumbnail, image_details
from stages.near_duplicates.perceptual_hash import near_any, near_pairs, radius_for
from stages.near_duplicates.planted_copies import KINDS, Detection
from stages.near_duplicates.search import Copies, find_copies
from tests.conftest import Ingest, digit_images, png

Grey = np.ndarray[Any, Any]


def random_image(seed: int, size: int = 64) -> Grey:
    """Return smoothed noise at several scales, which is distinct for each seed."""
    rng = np.random.default_rng(seed)
    clouds = sum(s * gaussian_filter(rng.normal(size=(size, size)), s) for s in (1, 2, 4, 8))
    return np.clip(128 + 45 * clouds / clouds.std(), 0, 255).astype(np.uint8)


def resize_and_compress(image: Grey) -> Grey:
    buffer = io.BytesIO()
    Image.fromarray(image).resize((48, 48), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "resized to three quarters and re-encoded": resize_and_compress,
    "mirrored": lambda image: image[:, ::-1],
    "brighter": lambda image: np.clip(image.astype(int) + 25, 0, 255).astype(np.uint8),
    "cropped": lambda image: image[1:-1, 1:-1],
    "rotated": np.rot90,
    "inverted": lambda image: 255 - image,
    "strongly cropped": lambda image: image[4:-9, 9:-4],
}


def write_images(folder: Path, images: dict[str, Grey]) -> Path:
    for path, image in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(png(np.ascontiguousarray(image)))
    return folder


def distinct_images(count: int, split: str = "", label: str = "a") -> dict[str, Grey]:
    start = {"": 0, "train": 1000, "val": 2000, "test": 3000}[split]
    return {
        f"{split + '/' if split else ''}{label}/{seed:03d}x.png": random_image(start + seed) for seed in range(count)
    }


def images_of_three_splits(count: int = 40) -> dict[str, Grey]:
    return {path: image for split in ("train", "val", "test") for path, image in distinct_images(count, split).items()}


def audit_data(folder: Path) -> AuditData:
    return AuditData(read_manifest(folder), pd.read_parquet(folder / "sealed_index.parquet"), folder)


def run_audits(folder: Path, params: Params) -> tuple[dict[str, Finding], Copies]:
    data = audit_data(folder)
    audits = (duplicates, leakage, sequence_leakage)
    return {f.id: f for audit in audits for f in audit.find(data, params.audit)}, data.copies


@pytest.mark.parametrize("radius", [0, 3, 8])
def test_all_hashes_within_the_radius_are_found(radius: int) -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 2**63, 600, dtype=np.uint64))
    for i in range(200):
        bits = rng.permutation(64)[: i % 12]
        hashes[300 + i] = hashes[i] ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), initial=0)
    hashes = np.unique(hashes)
    for queries in (hashes, hashes ^ np.uint64(0x5555555555555555)):
        near = np.bitwise_count(queries[:, None] ^ hashes) <= radius
        near |= near.T
        expected = np.argwhere(np.triu(near, 1))
        assert (near_pairs(hashes, queries, radius) == expected).all()
        assert len(expected) > 20 or radius == 0 or queries is not hashes
    has_near = near_any(hashes[:50], hashes[50:], radius)
    assert (has_near == (np.bitwise_count(hashes[:50, None] ^ hashes[50:]) <= radius).any(axis=1)).all()


def test_a_hundred_thousand_hashes_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 2**63, 100_000, dtype=np.uint64))
    hashes[1::1000] = hashes[::1000] ^ np.uint64(0b1011)
    hashes = np.unique(hashes)
    start = time.process_time()
    pairs = near_pairs(hashes, hashes, radius_for(hashes, hashes))
    assert time.process_time() - start < 15  # 2.4 on a quiet core
    assert len(pairs) >= 100


def test_the_radius_shrinks_if_all_hashes_are_near() -> None:
    low_bits = np.arange(5000, dtype=np.uint64)
    assert radius_for(low_bits[:1000], low_bits[:1000]) == 8
    assert radius_for(low_bits, low_bits, most=100_000) < 3


@pytest.mark.parametrize("change", CHANGES)
def test_only_changed_copies_are_found(change: str, ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images = distinct_images(80, "train") | distinct_images(3, "val") | distinct_images(3, "test")
    images |= {f"train/a/copy{seed}.png": CHANGES[change](images[f"train/a/{seed:03d}x.png"]) for seed in range(6)}
    data = audit_data(ingest(write_images(tmp_path / "d", images), by="source"))
    expected = {(f"train/a/{seed:03d}x.png", f"train/a/copy{seed}.png") for seed in range(6)}
    pairs = data.copies.pairs
    found = {tuple(sorted(pair)) for pair in zip(pairs["first"], pairs["second"], strict=True)}
    assert found <= expected, "distinct images are reported as copies"
    assert len(found) >= 5
    for kind in ("mirrored", "rotated", "inverted"):
        assert (pairs[kind] == (change == kind)).all()


def test_a_changed_copy_in_another_split_warns_and_the_same_image_blocks(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    images = images_of_three_splits()
    images["val/a/mirrored.png"] = images["train/a/000x.png"][:, ::-1]
    images["val/a/again.png"] = resize_and_compress(images["train/a/001x.png"])
    findings, _ = run_audits(ingest(write_images(tmp_path / "d", images), by="source"), params)
    assert findings["leakage/near-duplicates"].severity == "warning"
    assert findings["leakage/near-duplicates"].images == ["train/a/000x.png", "val/a/mirrored.png"]
    assert findings["leakage/same-image"].severity == "blocking"
    assert findings["leakage/same-image"].images == ["train/a/001x.png", "val/a/again.png"]
    assert "Merge the groups of this set" in findings["duplicates/near-duplicates"].message


def test_a_mirrored_copy_with_another_label_warns_of_a_conflict(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images = images_of_three_splits()
    images["train/b/mirrored.png"] = images["train/a/000x.png"][:, ::-1]
    findings, _ = run_audits(ingest(write_images(tmp_path / "d", images), by="source"), params)
    assert findings["duplicates/near-duplicate-conflicts"].severity == "warning"
    assert findings["duplicates/near-duplicate-conflicts"].images == ["train/a/000x.png", "train/b/mirrored.png"]
    assert findings["duplicates/conflicting-labels"].severity == "passed"


def test_changed_copies_in_one_group_are_allowed(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images = images_of_three_splits()
    images["train/a/000y.png"] = images["train/a/000x.png"][:, ::-1]
    folder = ingest(write_images(tmp_path / "d", images), by="source", group_regex=r"((?:train|val|test)/a/\d+)")
    findings, _ = run_audits(folder, params)
    assert findings["duplicates/near-duplicates"].severity == "info"
    assert "Each set is in one group" in findings["duplicates/near-duplicates"].message


def test_a_changed_copy_in_the_sealed_test_is_detected_by_its_hash(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    images = images_of_three_splits()
    images["test/a/again.png"] = resize_and_compress(images["train/a/000x.png"])
    images["test/a/mirrored.png"] = images["val/a/001x.png"][:, ::-1]
    findings, _ = run_audits(ingest(write_images(tmp_path / "d", images), by="source"), params)
    assert findings["leakage/test-near-duplicates"].severity == "warning"
    assert findings["leakage/test-near-duplicates"].evidence["images"] == ["train/a/000x.png", "val/a/001x.png"]


@pytest.mark.parametrize("size", [8, 64])
def test_no_near_duplicates_are_reported_among_digits(
    size: int, ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    images = {
        f"{label}/{i}.png": np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
        for i, (label, image) in enumerate(digit_images(per_class=60))
    }
    findings, found = run_audits(ingest(write_images(tmp_path / "d", images)), params)
    assert found.pairs.empty
    assert {f.id for f in findings.values() if f.severity not in ("passed", "info")} <= {
        "sequence_leakage/similar-neighbours"
    }


def test_copies_of_small_images_are_found(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images = {f"{label}/{i}.png": image for i, (label, image) in enumerate(digit_images(per_class=40))}
    images = {f"{'val' if i % 10 == 8 else 'test' if i % 10 == 9 else 'train'}/{path}": image
              for i, (path, image) in enumerate(images.items())}  # fmt: skip
    images["train/0/lighter.png"] = np.clip(images["train/0/0.png"].astype(int) + 20, 0, 255).astype(np.uint8)
    pairs = audit_data(ingest(write_images(tmp_path / "d", images), by="source")).copies.pairs
    assert pairs[["first", "second"]].to_numpy().tolist() == [["train/0/0.png", "train/0/lighter.png"]]


def test_too_few_or_flat_images_are_reported_as_not_checked(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    folder = ingest(write_images(tmp_path / "d", images_of_three_splits(8)), by="source")
    rows = read_manifest(folder)
    assert "too few" in find_copies(rows, folder, 8).not_checked
    flat = {f"{split}/a/{i:02d}x.png": np.full((40, 40), 90, np.uint8) + (np.arange(40) == i).astype(np.uint8)
            for split in ("train", "val", "test") for i in range(40)}  # fmt: skip
    findings, found = run_audits(ingest(write_images(tmp_path / "f", flat), by="source"), params)
    assert found.pairs.empty and "almost no detail" in found.not_checked
    assert findings["duplicates/not-checked"].severity == "info"


def film(count: int, step: float) -> dict[str, Grey]:
    """Return frames of a window that moves over one large image by `step` pixels per frame."""
    scene = random_image(7, 320)
    return {f"film/{i:03d}.png": scene[int(i * step) : int(i * step) + 64, 100:164] for i in range(count)}


def test_neighbouring_frames_in_different_groups_warn(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    folder = ingest(write_images(tmp_path / "d", film(100, 2.5)))
    found = {f.id: f for f in sequence_leakage.find(audit_data(folder), params.audit)}[
        "sequence_leakage/similar-neighbours"
    ]
    assert found.severity == "warning" and found.evidence["reach"] >= 2
    assert "ingest.sequence_block" in found.message and len(found.images) >= 2


def test_numbered_names_of_unrelated_images_pass(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images = {f"all/{i:03d}.png": random_image(i) for i in range(100)}
    found = sequence_leakage.find(audit_data(ingest(write_images(tmp_path / "d", images))), params.audit)
    assert [f.severity for f in found] == ["passed"]


def sequence_findings(folder: Path, params: Params) -> dict[str, Finding]:
    return {f.id: f for f in sequence_leakage.find(audit_data(folder), params.audit)}


def test_neighbours_that_cannot_be_compared_are_reported_as_not_checked(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    data = audit_data(ingest(write_images(tmp_path / "d", {f"a/{i:03d}.png": random_image(i) for i in range(12)})))
    (found,) = sequence_leakage.find(data, params.audit)
    assert found.id == "sequence_leakage/not-checked" and "are next to an image of another group" in found.message
    (found,) = sequence_leakage.find(replace(data, rows=data.rows.assign(group="one")), params.audit)
    assert found.severity == "passed" and "are in the same group" in found.message


def test_neighbours_of_alternating_classes_are_compared(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    data = audit_data(ingest(write_images(tmp_path / "d", film(80, 2.5))))
    rows = data.rows.assign(label=[str(i % 2) for i in range(len(data.rows))])
    (found,) = sequence_leakage.find(replace(data, rows=rows), params.audit)
    assert found.severity == "warning"


@pytest.mark.parametrize("count", [16, 19])
def test_neighbours_of_a_short_series_warn(count: int, ingest: Ingest, params: Params, tmp_path: Path) -> None:
    found = sequence_findings(ingest(write_images(tmp_path / "d", film(count, 2.5))), params)
    assert [f.severity for f in found.values()] == ["warning"]
    assert len(found["sequence_leakage/similar-neighbours"].images) >= 2


def test_short_series_of_similar_images_warn(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images = {}
    for scene in range(12):
        for view in range(4):
            noisy = random_image(scene).astype(int) + random_image(100 * scene + view) // 3
            images[f"a/scene{scene}-{view}.png"] = np.clip(noisy, 0, 255).astype(np.uint8)
    found = sequence_findings(ingest(write_images(tmp_path / "d", images)), params)
    assert found["sequence_leakage/similar-neighbours"].severity == "warning"


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([f"a/{chr(97 + i // 6)}{chr(97 + i % 6)}.png" for i in range(36)], "no series of at least 3 numbers"),
        ([f"a/{i}.png" for i in range(40)] + [f"a/{c}{d}.png" for c in "xyz" for d in "xyz"], "9 of"),
    ],
)
def test_images_without_enough_numbers_are_reported_as_not_checked(
    names: list[str], missing: str, ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    folder = ingest(write_images(tmp_path / "d", {name: random_image(i) for i, name in enumerate(names)}))
    data = audit_data(folder)
    sealed = pd.read_parquet(tmp_path / "sealed" / "manifest.parquet")
    finding = {f.id: f for f in sequence_leakage.find(data, params.audit)}["sequence_leakage/not-checked"]
    if missing == "9 of":
        missing = f"{9 - int(sealed['path'].str.contains('[xyz]').sum())} of"
    assert missing in finding.message


def exposures(objects: int, copies: int, size: int = 64) -> dict[str, Grey]:
    """Return images of objects under different light, whose numbers run on by exposure and not by object."""
    images = {}
    for number in range(objects):
        shape = random_image(number, size).astype(float) - 128
        for copy in range(copies):
            other = random_image(1000 + 100 * number + copy, size).astype(float) - 128
            view = (0.6 + 0.15 * copy) * shape + 0.5 * other + 110 + 8 * copy
            images[f"a/s{copy}_{1000 + objects * copy + number}.png"] = np.clip(view, 0, 255).astype(np.uint8)
    return images


@pytest.mark.parametrize(("objects", "copies"), [(14, 6), (24, 3), (8, 6)])
def test_no_leakage_audit_passes_if_every_image_has_copies(
    objects: int, copies: int, ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    folder = ingest(write_images(tmp_path / "d", exposures(objects, copies)))
    findings, found = run_audits(folder, params)
    assert found.clusters is not None and found.clusters.share > 0.9
    assert findings["leakage/near-duplicates"].severity == "warning"
    assert findings["duplicates/near-duplicates"].severity == "warning"
    assert all(finding.severity != "passed" for name, finding in findings.items() if name.startswith("sequence_"))
    pairs = findings["leakage/near-duplicates"].evidence["pairs"]
    numbers = [[int(path.split("_")[1][:-4]) for path in pair] for pair in pairs]
    assert numbers and all((one - other) % objects == 0 for one, other in numbers), "pairs show one object"


def test_copies_within_groups_pass(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images = {
        f"a/object{int(path.split('_')[1][:-4]) % 14}-{path[3]}.png": image for path, image in exposures(14, 6).items()
    }
    folder = ingest(write_images(tmp_path / "d", images), group_regex=r"(object\d+)")
    findings, _ = run_audits(folder, params)
    assert findings["leakage/near-duplicates"].severity == "passed"
    assert findings["duplicates/near-duplicates"].severity in ("passed", "info")


@pytest.mark.parametrize("count", [30, 120])
def test_distinct_images_form_no_clusters(count: int) -> None:
    thumbs = np.stack([grey_thumbnail(random_image(seed)) for seed in range(count)])
    clusters = find_clusters(image_details(thumbs), pd.DataFrame({"path": range(count)}))
    assert clusters is not None and clusters.share < 0.05
    assert find_clusters(image_details(thumbs[:20]), pd.DataFrame({"path": range(20)})) is None


def test_one_image_with_two_masks_is_a_conflict(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    masks = [np.zeros((64, 64), np.uint8) for _ in range(2)]
    masks[0][:20], masks[1][30:] = 255, 255
    for number in range(30):
        for folder, image in (
            ("images", random_image(number // 2 if number < 2 else number)),
            ("masks", masks[number % 2]),
        ):
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "d" / folder / f"{number}.png")
    ingested = ingest(tmp_path / "d", format="masks", images="images/{key}.png", targets="masks/{key}.png")
    data = audit_data(ingested)
    pair = {"images/0.png", "images/1.png"}
    if not pair <= set(data.rows["path"]):
        pytest.fail("the two images of this test are in the sealed test split; choose others")
    found = {f.id: f for f in duplicates.find(data, params.audit)}["duplicates/conflicting-labels"]
    assert found.severity == "blocking" and set(found.images) == pair


BOX = ObjectAnnotation("cell", (10.0, 10.0, 30.0, 30.0))
NEAR_BOX = ObjectAnnotation("cell", (11.0, 11.0, 31.0, 31.0))  # IoU 361 / 439 = 0.82
MASKED, NEAR_MASKED = (
    annotate_mask("cell", np.pad(np.ones((20, 20), bool), ((top, 44 - top), (10, 34)))) for top in (10, 12)
)


@pytest.mark.parametrize(
    ("first", "second", "agreement"),
    [
        (Annotation(shapes=(BOX,)), Annotation(shapes=(NEAR_BOX,)), "mean IoU 0.82"),
        (Annotation(shapes=(MASKED,)), Annotation(shapes=(NEAR_MASKED,)), "mean IoU 0.82"),
        (Annotation(points={"nose": (9.0, 9.0)}), Annotation(points={"nose": (10.0, 9.0)}), "mean distance 1.1%"),
        (Annotation(shapes=(BOX,)), Annotation(shapes=()), ""),
        (Annotation(shapes=(BOX,)), Annotation(shapes=(replace(NEAR_BOX, label="dirt"),)), ""),
        (Annotation(shapes=(BOX,)), Annotation(shapes=(replace(BOX, box=(40.0, 40.0, 60.0, 60.0)),)), ""),
        (Annotation(points={"nose": (9.0, 9.0)}), Annotation(points={"nose": (40.0, 9.0)}), ""),
        (Annotation(points={"nose": (9.0, 9.0)}), Annotation(points={"nose": None}), ""),
        (Annotation(scalars={"age": 30.0}), Annotation(scalars={"age": 31.0}), ""),
    ],
)
def test_annotations_of_one_image_that_nearly_agree_are_reported_as_agreement_and_others_block(
    first: Annotation, second: Annotation, agreement: str, params: Params
) -> None:
    texts = [first.to_json(), second.to_json()]
    rows = pd.DataFrame({"path": ["a.png", "b.png"], "annotation": texts, "label": "", "split": "train"})
    rows = rows.assign(group=["a", "b"], pixels="equal", target_pixels="", arrival=1, target_offset=0, target_bytes=0)
    rows = rows.assign(height=64, width=64)
    data = AuditData(rows, pd.DataFrame(), Path())
    data.__dict__["copies"] = Copies([rows], [], pd.DataFrame(columns=["first", "same"]), -1, "", {}, {}, None)
    found = {f.id: f for f in duplicates.find(data, params.audit)}
    assert ("duplicates/annotator-agreement" in found) == bool(agreement)
    if agreement:
        assert found["duplicates/conflicting-labels"].severity == "passed"
        shown = found["duplicates/annotator-agreement"]
        assert shown.severity == "info" and agreement in shown.message
    else:
        shown = found["duplicates/conflicting-labels"]
        assert shown.severity == "blocking"
    boxes = {"a.png": first, "b.png": second}
    assert shown.places == {path: [s.box for s in a.shapes] for path, a in boxes.items() if a.shapes}
    assert set(shown.captions) == {"a.png", "b.png"} and all(shown.captions.values())
    assert "()" not in shown.message and not any("(," in text for text in shown.evidence["sets"][0])


def test_equal_targets_in_different_encodings_are_not_a_conflict(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    for number in range(30):
        image = random_image(0 if number < 2 else number)
        for folder, encoded in (("images", png(image)), ("targets", png(255 - image, compress_level=number % 10))):
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / folder / f"{number}.png").write_bytes(encoded)
    ingested = ingest(tmp_path / "d", format="pairs", images="images/{key}.png", targets="targets/{key}.png")
    found = {f.id: f for f in duplicates.find(audit_data(ingested), params.audit)}
    assert found["duplicates/conflicting-labels"].severity == "passed"
    assert set(found["duplicates/same-label"].images) == {"images/0.png", "images/1.png"}


def photographs(objects: int, each: int) -> dict[str, Grey]:
    """Return photos of objects on one background, each with several exposures and a slightly moved camera."""
    background, images = random_image(5).astype(float), dict[str, Grey]()
    rng = np.random.default_rng(0)
    for number in range(objects):
        scene = 0.6 * background + 0.4 * random_image(100 + number)
        for exposure in range(each):
            moved = np.roll(scene, rng.integers(-2, 3, 2), axis=(0, 1)) * (0.5 + 0.12 * exposure)
            image = np.clip(moved + rng.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)
            images[f"a/{'bcdefg'[exposure]}{number:03d}x.png"] = image
    return images


def test_the_absence_of_copies_is_reported_only_if_planted_copies_are_found(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    findings, found = run_audits(ingest(write_images(tmp_path / "d", distinct_images(80))), params)
    reliable = {kind for kind, one in found.planted.items() if one.is_reliable}
    assert reliable >= {"mirrored", "cropped by 5%", "darkened"}
    assert findings["leakage/near-duplicates"].severity == "passed"
    assert "darkened (40 of 40 planted copies found)" in findings["leakage/near-duplicates"].message
    findings, found = run_audits(ingest(write_images(tmp_path / "e", photographs(25, 6)), name="e"), params)
    assert not found.planted["photographed again"].is_reliable
    for audit in ("leakage", "duplicates"):
        assert "photographed again" not in findings[f"{audit}/near-duplicates"].message
        assert "misses many copies that are photographed again" in findings[f"{audit}/not-checked"].message
        assert findings[f"{audit}/not-checked"].severity == "info"


def test_an_audit_that_finds_no_planted_copy_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({name: pd.Series(dtype=object) for name in ("path", "split", "label")})
    none = {kind: Detection(3, 40) for kind in KINDS}
    copies = Copies([], [], pd.DataFrame(), 0, "the search misses copies", none, none, None)
    monkeypatch.setattr(AuditData, "copies", copies)
    data, audit = AuditData(rows, rows, Path()), Audit()
    monkeypatch.setattr(leakage, "_test_near_duplicates", lambda data: [])
    assert [f.id for f in leakage.find(data, audit)] == ["leakage/not-checked"]
    ids = {f.id for f in duplicates.find(data, audit)}
    assert ids == {"duplicates/conflicting-labels", "duplicates/same-label", "duplicates/not-checked"}
