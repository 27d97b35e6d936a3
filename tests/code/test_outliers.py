"""Tests of the audit of outliers: unusual images are reported with the property that is unusual."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from benchmarks.audits import fault_transforms, injected_faults
from benchmarks.audits.audit_competitors import audit_input, default_params, ingest_samples
from benchmarks.audits.base_datasets import load_images
from benchmarks.audits.injected_faults import FaultyDataset
from stages.audits import outliers
from stages.core.findings import Finding
from stages.images.decode import DecodedImage
from stages.images.image_statistics import compute_statistics, edge_width

KIND_OF = {
    "dark": "dark",
    "washed out": "washed-out",
    "blank": "low-contrast",
    "four times as large": "large",
    "five times as long": "elongated",
}


def digits(per_class: int = 10) -> FaultyDataset:
    return injected_faults.clean(load_images("digits", Path()), 0, np.random.default_rng(0), 10, per_class)


def findings_of(case: FaultyDataset, folder: Path) -> dict[str, Finding]:
    rows, _ = ingest_samples(case, folder)
    return {f.id: f for f in outliers.find(audit_input(rows, folder), default_params().audit)}


@pytest.mark.parametrize("kind", KIND_OF)
def test_an_outlier_is_reported_with_its_unusual_property(kind: str, tmp_path: Path) -> None:
    case = digits()
    change, strength = fault_transforms.OUTLIERS[kind]
    case.samples[7] = change(case.samples[7], strength, np.random.default_rng(0))
    found = findings_of(case, tmp_path)[f"outliers/{KIND_OF[kind]}"]
    assert found.images == [case.samples[7].path]
    assert found.severity == "info" and "1 image is" in found.message


def boxes(count: int, side: int, seed: int) -> Image.Image:
    """Draw sharp boxes of different levels; few boxes leave most of the image without edges."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side), 90, np.uint8)
    for top, left in rng.integers(0, side - side // 12, (count, 2)):
        image[top : top + side // 12, left : left + side // 12] = rng.integers(0, 256)
    return Image.fromarray(image)


def rows_of(images: list[Image.Image]) -> pd.DataFrame:
    described = [compute_statistics(DecodedImage(np.asarray(image), "PNG", "L")) for image in images]
    return pd.DataFrame(described).assign(path=[f"{i}.png" for i in range(len(images))])


@pytest.mark.parametrize("side", [120, 600])
def test_a_blurred_image_is_reported_but_not_a_sharp_one_with_few_edges_or_of_another_size(
    side: int, tmp_path: Path
) -> None:
    images = [boxes(60, 120, seed) for seed in range(40)]
    images[3], images[4] = boxes(2, side, 3), boxes(60, side, 4)
    images[5] = boxes(60, side, 5).filter(ImageFilter.GaussianBlur(0.02 * side))
    found = {f.id: f for f in outliers.find(audit_input(rows_of(images), tmp_path), default_params().audit)}
    assert found["outliers/blurred"].images == ["5.png"]


def test_the_width_of_edges_depends_neither_on_contrast_nor_on_the_number_of_edges() -> None:
    for image in (boxes(1, 200, 0), boxes(50, 200, 1), boxes(50, 200, 1).point(lambda level: 100 + level // 8)):
        assert edge_width(image) == pytest.approx(1, abs=0.2)
        assert edge_width(image.filter(ImageFilter.GaussianBlur(4))) > 2
    assert edge_width(Image.new("L", (3, 3), 7)) == 1


def test_clean_digits_contain_no_outliers(tmp_path: Path) -> None:
    assert list(findings_of(digits(), tmp_path)) == ["outliers/images"]


def test_a_property_shared_by_many_images_is_not_unusual(tmp_path: Path) -> None:
    case = digits()
    for i in range(10):
        case.samples[i] = fault_transforms.enlarged(case.samples[i], 3, np.random.default_rng(0))
    assert "outliers/large" not in findings_of(case, tmp_path)


def test_outliers_among_few_images_are_not_checked(tmp_path: Path) -> None:
    assert list(findings_of(digits(per_class=2), tmp_path)) == ["outliers/not-checked"]


def test_equal_images_are_not_outliers(tmp_path: Path) -> None:
    rows, _ = ingest_samples(digits(), tmp_path)
    same = pd.concat([rows.head(1)] * 40, ignore_index=True)
    assert [f.id for f in outliers.find(audit_input(same, tmp_path), default_params().audit)] == ["outliers/images"]


def test_the_message_contains_the_measured_values(tmp_path: Path) -> None:
    case = digits()
    (kind,) = (kind for kind, name in KIND_OF.items() if name == "dark")
    change, strength = fault_transforms.OUTLIERS[kind]
    case.samples[7] = change(case.samples[7], strength, np.random.default_rng(0))
    rows, _ = ingest_samples(case, tmp_path)
    for finding in outliers.find(audit_input(rows, tmp_path), default_params().audit):
        if finding.id == "outliers/dark":
            brightest = rows.set_index("path")["brightest"][finding.images[0]]
            assert f"brightest level {brightest:.3g}, median {rows['brightest'].median():.3g}" in finding.message
            return
    pytest.fail("no dark image was found")
