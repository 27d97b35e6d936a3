"""Tests of test-time augmentation, temperature and thresholds, which are computed around a trained network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

from stages import evaluate as stage
from stages import model_card, report
from stages.articulation.symmetry import CHANGES
from stages.augmentations import AugmentationData
from stages.config.schema import Params
from stages.config.schema_task import Evaluate
from stages.export import to_onnx
from stages.networks import build
from stages.networks.adjusted import VIEWS, AdjustedNetwork, Adjustment
from stages.probes.cross_validation import folds
from stages.reports.evaluation_report import output_sentences
from stages.runner.stage import call
from stages.runtime.engines import INPUT
from stages.tasks import ordinal
from stages.tasks.calibration import fit_temperature
from stages.tasks.task_spec import TaskSpec
from stages.training.adjustment import Labelled, fit_outputs, load_adjusted, select_views
from stages.training.model_file import save_model
from stages.training.network_inference import predict_store
from stages.training.training_plan import load_training_data
from tests.digit_plans import TINY, digit_plan, load_digits
from tests.lines import write_pipeline_outputs
from tests.shipped import colour_model

LABELS = ("kitten", "puppy", "duck")
CLASSES = TaskSpec("classification", "class", "label", labels=LABELS, size=16, channels=1)
SYMMETRIC = {"mirror": 0.55, "upside_down": 0.95, "turn": 0.6}


class PerPixel(nn.Module):
    """Return the image as the map of each class; the class `puppy` depends on the column."""

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        column_W = torch.arange(image_BCHW.shape[3], device=image_BCHW.device) / 10
        return torch.cat([image_BCHW, image_BCHW * 0 + column_W], dim=1)


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_the_changes_that_prepare_measures_and_maps_are_changed_back(name: str) -> None:
    image_BCHW = torch.rand(2, 3, 8, 8)
    change, back = VIEWS[name]
    expected = np.stack([CHANGES[name](channels) for channels in image_BCHW.numpy()])
    assert np.array_equal(change(image_BCHW).numpy(), expected) and not np.array_equal(expected, image_BCHW.numpy())
    assert torch.equal(back(change(image_BCHW)), image_BCHW)
    raw = AdjustedNetwork(PerPixel(), Adjustment((name,)))(image_BCHW)
    assert torch.allclose(raw[:, :3], image_BCHW), "the map of the image itself is unchanged"
    assert not torch.allclose(raw[:, 3], PerPixel()(image_BCHW)[:, 3]) or name == "upside_down"


def test_outputs_averaged_over_mirrored_images_do_not_change_when_the_image_is_mirrored() -> None:
    torch.manual_seed(0)
    network, image_BCHW = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.rand(4, 1, 8, 8)
    whole = AdjustedNetwork(network, Adjustment(("mirror",), temperature=2.0))
    assert torch.allclose(whole(image_BCHW), whole(image_BCHW.flip(3)), atol=1e-6)
    mean = (network(image_BCHW) + network(image_BCHW.flip(3))) / 2
    assert torch.allclose(whole(image_BCHW), mean / 2, atol=1e-6)


def test_views_are_part_of_the_exported_graph_for_images_of_any_size(tmp_path: Path) -> None:
    spec = TaskSpec("segmentation", "mask", "mask", labels=("ground", "sky"), size=16, channels=1, fit="stretch")
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 2, 3, padding=1)
    for fit, views, size in (("stretch", ("mirror", "turn"), (16, 16)), ("tile", ("mirror", "upside_down"), (12, 20))):
        network = AdjustedNetwork(convolution, Adjustment(views))
        to_onnx(network, replace(spec, fit=fit), tmp_path / "model.onnx")
        graph = onnx.load(tmp_path / "model.onnx").graph
        assert sum(node.op_type == "Conv" for node in graph.node) == 1, "the weights are stored once"
        image_NHWC = np.random.default_rng(0).integers(0, 255, (3, *size, 1), np.uint8)
        shipped = onnx.reference.ReferenceEvaluator(str(tmp_path / "model.onnx"))
        (probability,) = shipped.run(None, {INPUT: image_NHWC})
        image_NCHW = torch.from_numpy(image_NHWC).permute(0, 3, 1, 2) / 255
        raw = [back(convolution(change(image_NCHW))) for change, back in (VIEWS[name] for name in views)]
        expected = ((convolution(image_NCHW) + sum(raw)) / 3).softmax(dim=1)
        assert np.allclose(probability, expected.detach().numpy(), atol=1e-5)


def test_views_are_the_measured_symmetries_of_data_and_labels() -> None:
    data = AugmentationData(CLASSES, SYMMETRIC)
    assert select_views(data, "none") == ((), {})
    views, others = select_views(data, "auto")
    assert views == ("mirror", "turn") and "can be distinguished" in others["upside_down"]
    digits = AugmentationData(replace(CLASSES, labels=("0", "1")), SYMMETRIC)
    assert select_views(digits, "auto")[0] == (), "labels of characters have no symmetry"
    sided = AugmentationData(replace(CLASSES, labels=("left", "right")), SYMMETRIC)
    assert select_views(sided, "auto")[0] == ()
    points = TaskSpec("landmarks", "heatmap", "points", points=("a",), size=16, channels=1)
    assert "cannot be averaged over views" in select_views(AugmentationData(points, SYMMETRIC), "auto")[1]["mirror"]
    assert select_views(AugmentationData(replace(CLASSES, fit="tile"), SYMMETRIC), "auto")[0] == ("mirror",)
    unmeasured = select_views(AugmentationData(CLASSES, {}), "auto")
    assert unmeasured[0] == () and "too few images" in unmeasured[1]["mirror"]


def labelled_classes(temperature: float, groups: int = 40, count: int = 1200) -> Labelled:
    """Return raw outputs whose softmax is calibrated after division by `temperature`."""
    rng = np.random.default_rng(1)
    true_NK = rng.normal(0, 2, (count, 3))
    truth_N = [int(rng.choice(3, p=p)) for p in softmax(true_NK, axis=1)]
    raw_NK = (true_NK * temperature).astype(np.float32)
    return Labelled(raw_NK, truth_N, np.arange(count) % groups, CLASSES)


def probabilities(labelled: Labelled) -> list[Any]:
    return list(softmax(labelled.raw_NK, axis=1))


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_a_temperature_is_recovered_and_changes_no_predicted_class(temperature: float) -> None:
    labelled = labelled_classes(temperature)
    fitted = fit_outputs(labelled, probabilities(labelled), ("mirror",), Evaluate())
    assert fitted.adjustment.temperature == pytest.approx(temperature, rel=0.1)
    assert fitted.adjustment.views == ("mirror",) and fitted.report["applied"]
    for figure in ("log_loss", "expected_calibration_error"):
        assert fitted.report["after"][figure] < fitted.report["before"][figure]
    predicted = [p.argmax() for p in probabilities(labelled)]
    assert [p.argmax() for p in fitted.shipped] == [p.argmax() for p in fitted.cross_fitted] == predicted


def test_the_reported_calibration_is_that_of_images_that_did_not_fit_it() -> None:
    labelled = labelled_classes(2.5, groups=10, count=60)
    fitted = fit_outputs(labelled, probabilities(labelled), (), Evaluate())
    truth_N = np.array(labelled.truths)
    for others_N, fold_N in folds(labelled.group_N):
        temperature = fit_temperature(labelled.raw_NK[others_N], truth_N[others_N], "class")
        expected = softmax(labelled.raw_NK[fold_N] / temperature, axis=1)
        assert np.allclose(np.stack([fitted.cross_fitted[i] for i in fold_N]), expected, atol=1e-5)
    shipped = np.stack(fitted.shipped)[np.arange(60), truth_N]
    assert fitted.report["after"]["log_loss"] > -np.log(shipped).mean(), "the shipped one is fitted on all images"


def test_a_temperature_that_does_not_help_is_not_applied() -> None:
    labelled = labelled_classes(1.0, groups=4, count=8)
    fitted = fit_outputs(labelled, probabilities(labelled), (), Evaluate())
    assert fitted.adjustment == Adjustment() and "not applied" in fitted.report["why"]
    assert fitted.shipped is fitted.cross_fitted
    single = replace(labelled_classes(2.5), group_N=np.zeros(1200, int))
    fitted = fit_outputs(single, probabilities(single), (), Evaluate())
    assert fitted.adjustment == Adjustment() and "in one group" in fitted.report["why"]
    off = fit_outputs(labelled_classes(2.5), [], (), Evaluate(temperature=False))
    assert off.adjustment == Adjustment() and not off.report


def test_a_temperature_changes_no_grade() -> None:
    rng, spec = np.random.default_rng(0), replace(CLASSES, task="ordinal", representation="cumulative")
    severity_N = rng.normal(0, 1, 800)
    truth_N = [int(value > -0.5) + int(value > 0.5) for value in severity_N + rng.normal(0, 0.5, 800)]
    raw_NT = (np.stack([severity_N + 0.5, severity_N - 0.5], axis=1) * 20).astype(np.float32)
    above_NT = expit(raw_NT)
    plain = list(np.stack([1 - above_NT[:, 0], above_NT[:, 0] - above_NT[:, 1], above_NT[:, 1]], axis=1))
    labelled = Labelled(raw_NT, truth_N, np.arange(800) % 50, spec)
    fitted = fit_outputs(labelled, plain, (), Evaluate())
    assert (
        fitted.adjustment.temperature > 3 and fitted.report["after"]["log_loss"] < fitted.report["before"]["log_loss"]
    )
    assert ordinal.grade(np.stack(fitted.shipped)).tolist() == ordinal.grade(np.stack(plain)).tolist()
    by_class = Labelled(raw_NT, truth_N, labelled.group_N, replace(spec, representation="class"))
    assert not fit_outputs(by_class, plain, (), Evaluate()).report, "the median of class probabilities would change"


def test_thresholds_become_one_half_and_are_judged_on_other_groups() -> None:
    rng, spec = np.random.default_rng(0), TaskSpec("multilabel", "classes", "labels", labels=("dog", "cat"), size=16)
    true_NK = rng.random((600, 2)) < (0.5, 0.1)
    raw_NK = (np.where(true_NK, (2, -1), (-2, -4)) + rng.normal(0, 0.8, (600, 2))).astype(np.float32)
    labelled = Labelled(raw_NK, list(true_NK), np.arange(600) % 60, spec)
    plain = list(expit(raw_NK))
    assert fit_outputs(labelled, plain, (), Evaluate()).adjustment == Adjustment(), "off by default"
    fitted = fit_outputs(labelled, plain, (), Evaluate(thresholds=True))
    dog, cat = fitted.adjustment.thresholds
    assert fitted.report["applied"] and 0.2 < dog < 0.8 and cat < 0.2
    assert np.array_equal(np.stack(fitted.shipped) >= 0.5, np.stack(plain) >= (dog, cat))
    assert not np.array_equal(np.stack(fitted.cross_fitted), np.stack(fitted.shipped))
    assert fitted.report["after"]["macro_f1_error"] < fitted.report["before"]["macro_f1_error"] / 2
    network = AdjustedNetwork(nn.Identity(), fitted.adjustment)
    assert np.allclose(network(torch.from_numpy(raw_NK)).sigmoid().numpy(), np.stack(fitted.shipped), atol=1e-6)


def test_evaluate_predicts_what_export_writes(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load_digits(tmp_path)
    data = load_training_data(tmp_path / "ingested", tmp_path / "prepared")
    plan = digit_plan(data, params, tmp_path, {"network": {"name": TINY}})
    torch.manual_seed(0)
    network = build(plan.network_config)
    for weights in network.parameters():
        weights.data *= 3
    for name in ("trained", "baselined"):
        (tmp_path / name).mkdir()
    save_model(tmp_path / "trained/model.pt", plan.network_config, network.state_dict(), data.train_set.about)
    (tmp_path / "baselined/scores.json").write_text(json.dumps({"available": False, "reason": "not computed"}))
    monkeypatch.setattr(stage, "select_views", lambda *_: (("mirror",), {}))
    sections = {name: getattr(params, name) for name in ("task", "objective", "train", "evaluate")}
    sections["train"] = params.train.model_copy(update={"device": "cpu"})
    paths = [tmp_path / name for name in ("ingested", "prepared", "baselined", "trained", "evaluated")]
    call(stage.main, paths, sections)
    adjusted, spec, _ = load_adjusted(tmp_path / "trained", tmp_path / "evaluated")
    assert isinstance(adjusted, AdjustedNetwork) and adjusted.adjustment.views == ("mirror",)
    records = pd.read_parquet(tmp_path / "evaluated/predictions.parquet")["record"].map(json.loads)
    expected = predict_store(adjusted, data.val_set, spec, 64, torch.device("cpu"))
    got = [list(record["probabilities"].values()) for record in records]
    assert np.allclose(got, np.stack(expected), atol=1e-6)
    scores = json.loads((tmp_path / "evaluated/scores.json").read_text())
    outputs = scores["outputs"]
    assert outputs["views"] == ["mirror"] and outputs["without_views"] is not None
    error = scores["details"]["calibration"]["expected_calibration_error"]
    figures = outputs["after"] if outputs["applied"] else outputs["before"]
    assert error == pytest.approx(figures["expected_calibration_error"])
    sentences = output_sentences(scores)
    assert "averaged over the image and its changes (mirrored)" in sentences[0] and "temperature" in sentences[1]


def test_the_report_and_the_card_state_the_calibration(tmp_path: Path, params: Params) -> None:
    write_pipeline_outputs(tmp_path, ["red", "green", "blue"])
    colour_model(tmp_path / "export" / "model.onnx", ("red", "green", "blue"))
    figures = {"log_loss": 0.25, "expected_calibration_error": 0.0712}
    outputs = {"views": [], "other_views": {"mirror": "too few images"}, "applied": True, "why": "", "temperature": 0.5}
    outputs |= {"before": figures, "after": {"log_loss": 0.2, "expected_calibration_error": 0.0213}}
    file = tmp_path / "evaluate/scores.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"outputs": outputs}))
    inputs = "ingest validate audit gate tune train evaluate export benchmark".split()
    sections = {"ingest": params.ingest, "split": params.split}
    call(model_card.main, [*(tmp_path / i for i in inputs), tmp_path / "openings.csv", tmp_path / "card"], sections)
    inputs = "ingest validate audit gate prepare augment tune train evaluate export benchmark".split()
    paths = [*(tmp_path / i for i in inputs), tmp_path / "openings.csv", tmp_path / "report"]
    call(report.main, paths, {"evaluate": params.evaluate})
    page, card = (tmp_path / "report/index.html").read_text(), (tmp_path / "card/model-card.md").read_text()
    for text in (page, card):
        assert "divided by a temperature of 0.500 (log loss 0.250 before, 0.200 after, expected calibration" in text
        assert "0.071 before, 0.021 after, on validation images of other groups" in text
        assert "too few images" in text
    assert "Each image is calibrated by a temperature that other groups of images fitted." in page


def test_thresholds_and_refusals_are_stated() -> None:
    scores = {"parts": {"rows": [{"label": "dog"}, {"label": "cat"}]}}
    figures = {"before": {"macro_f1_error": 0.5}, "after": {"macro_f1_error": 0.25}}
    applied = {"applied": True, "why": "", "thresholds": [0.4, 0.125], **figures}
    (sentence,) = output_sentences(scores | {"outputs": applied})
    assert "it was at dog 0.400, cat 0.125 (macro f1 error 0.500 before, 0.250 after" in sentence.lower()
    refused = {"applied": False, "why": "not fitted: the validation images are in one group", "before": {"log_loss": 1}}
    assert output_sentences(scores | {"outputs": refused}) == [
        "A temperature was not fitted: the validation images are in one group."
    ]
    assert output_sentences(scores) == [], "scores of earlier versions have no outputs"
