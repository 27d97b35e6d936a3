"""Tests of cross-validation inside the training images: folds, members, and what is exported of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from stages import model_card, report
from stages import train as stage
from stages.config.combinations import members_problem
from stages.config.schema import Params
from stages.config.schema_training import Train
from stages.core.errors import UserError
from stages.dataset.pixel_store import PixelStore, RaggedBones, SelectedRows
from stages.export import to_onnx
from stages.networks import NetworkConfig, build
from stages.networks.ensemble import Ensemble, average_weights
from stages.networks.weight_loading import load_weights
from stages.reports.model_limitations import sealed_test_limits
from stages.runner.stage import call
from stages.runtime.engines import INPUT
from stages.search import trial
from stages.tasks import TASKS
from stages.tasks.task_spec import TaskSpec
from stages.training import folds as folds_module
from stages.training import loop
from stages.training.auto_params import resolve_auto
from stages.training.batch_loader import load_batch, resident_on
from stages.training.checkpoints import Checkpoints
from stages.training.class_weights import class_shares
from stages.training.folds import choose_members, fold_rows, member_plans
from stages.training.model_file import load_model, save_members
from stages.training.network_inference import predict_store
from stages.training.training_plan import TrainingData, load_training_data
from tests.digit_plans import FIXED, TINY, digit_plan, load_digits
from tests.lines import write, write_pipeline_outputs
from tests.shipped import colour_model

SMALL = NetworkConfig(TINY, "plain", channels=1, outputs=3, norm="batch", dropout=0.0, size=16)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ingested and prepared digits, 24 of three classes for training."""
    folder = tmp_path_factory.mktemp("digits")
    load_digits(folder)
    return folder


@pytest.fixture(scope="module")
def data(digits: Path) -> TrainingData:
    return load_training_data(digits / "ingested", digits / "prepared")


def store_of(groups: list[int], classes: list[int], representation: str = "class") -> PixelStore:
    """Return a store of tiny images with the given groups and classes."""
    images = np.arange(len(groups), dtype=np.uint8)[:, None, None, None]
    rows = pd.DataFrame({"path": [f"{i}.png" for i in range(len(groups))], "group": groups})
    target = np.array(classes) if representation == "class" else np.eye(2)[classes]
    return PixelStore(images, target, rows, {"representation": representation})


@pytest.mark.parametrize("representation", ["class", "classes"])
def test_folds_keep_groups_together_and_have_every_class_in_proportion(representation: str) -> None:
    groups = [i // 3 for i in range(60)]
    classes = [int(group >= 10) for group in groups]
    parts = fold_rows(store_of(groups, classes, representation), 5, seed=0)
    assert len(parts) == 5
    for train_N, fold_N in parts:
        assert not set(np.array(groups)[train_N]) & set(np.array(groups)[fold_N])
        assert np.array(classes)[fold_N].mean() == 0.5, "each fold has half of its images of either class"
    assert sorted(np.concatenate([fold_N for _, fold_N in parts])) == list(range(60))


def test_more_folds_than_groups_are_an_error() -> None:
    with pytest.raises(UserError, match="train.folds: 5, but the training images are in 3 groups"):
        fold_rows(store_of([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]), 5, seed=0)


def test_a_subset_reads_images_when_they_are_used_and_keeps_bones() -> None:
    store = store_of([0, 1, 2, 3], [0, 1, 0, 1])
    bones = RaggedBones(np.arange(42, dtype=np.float32).reshape(6, 7), np.array([0, 1, 3, 3, 6]))
    part = replace(store, bones=bones).subset(np.array([1, 3]))
    assert isinstance(part.image_NHWC.values, np.ndarray) and part.image_NHWC.values is store.image_NHWC
    assert part.image_NHWC[np.array([1])].ravel().tolist() == [3] and np.array(part.image_NHWC).ravel().tolist() == [
        1,
        3,
    ]
    assert part.image_NHWC.nbytes == 2 and part.rows["path"].tolist() == ["1.png", "3.png"]
    assert part.bones is not None and part.bones.bone_T7[:, 0].tolist() == [7, 14, 21, 28, 35]
    assert part.bones.first.tolist() == [0, 2, 5]


def test_a_member_is_validated_on_its_fold_and_never_on_the_validation_split(
    data: TrainingData, digits: Path, params: Params, tmp_path: Path
) -> None:
    plan = resolve_auto(digit_plan(data, params, tmp_path, {"network": {"name": TINY}}, folds=3)).plan
    members = list(member_plans(plan, digits / "ingested"))
    held_out = [set(member.data.val_set.rows["path"]) for member in members]
    assert len(members) == 3 and set.union(*held_out) == set(data.train_set.rows["path"])
    for member, own in zip(members, held_out, strict=True):
        assert member.loader.store is member.data.train_set
        assert set(member.data.train_set.rows["path"]) == set(data.train_set.rows["path"]) - own
        assert not own & set(data.val_set.rows["path"])
    assert len({member.loader.seed for member in members}) == len({member.train.seed for member in members}) == 3
    pretrained = list(member_plans(replace(plan, weights="weights.pt"), digits / "ingested"))
    assert {member.train.seed for member in pretrained} == {plan.train.seed}, "all layers start equal"
    assert len({member.loader.seed for member in pretrained}) == 3


def networks(count: int = 3) -> list[torch.nn.Module]:
    found: list[torch.nn.Module] = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = build(SMALL)
        network.train()(torch.rand(8, 1, 16, 16))  # running statistics that differ
        found.append(network.eval())
    return found


def test_an_ensemble_averages_outputs_and_survives_saving(data: TrainingData, tmp_path: Path) -> None:
    members, image_BCHW = networks(), torch.rand(2, 1, 16, 16)
    expected = torch.stack([member(image_BCHW) for member in members]).mean(dim=0)
    assert torch.allclose(Ensemble(members)(image_BCHW), expected)
    file = tmp_path / "model.pt"
    save_members(file, SMALL, [member.state_dict() for member in members], data.spec.as_json())
    network, spec, _ = load_model(file)
    assert isinstance(network, Ensemble) and torch.allclose(network(image_BCHW), expected)
    to_onnx(network, spec, tmp_path / "model.onnx")
    shipped = onnx.reference.ReferenceEvaluator(str(tmp_path / "model.onnx"))
    levels = (image_BCHW * 255).round().to(torch.uint8)
    (probability_BK,) = shipped.run(None, {INPUT: levels.permute(0, 2, 3, 1).numpy()})
    assert np.allclose(probability_BK, network(levels / 255).softmax(dim=1).detach().numpy(), atol=1e-4)


def test_the_mean_of_weights_includes_running_statistics() -> None:
    states = [member.state_dict() for member in networks()]
    mean = average_weights(states)
    names = [name for name in mean if name.endswith(("running_mean", "running_var", ".weight"))]
    assert any("running_var" in name for name in names)
    for name in names:
        assert torch.allclose(mean[name], sum(state[name] for state in states) / 3)
    build(SMALL).load_state_dict(mean)


def test_an_ensemble_does_not_initialize_a_network(tmp_path: Path) -> None:
    save_members(tmp_path / "model.pt", SMALL, [member.state_dict() for member in networks(2)], {})
    with pytest.raises(UserError, match="contains an ensemble of 2 networks.*train.members: average"):
        load_weights(build(SMALL), SMALL, str(tmp_path / "model.pt"))
    save_members(tmp_path / "one.pt", SMALL, [networks(1)[0].state_dict()], {})
    assert load_weights(build(SMALL), SMALL, str(tmp_path / "one.pt"))


def test_masks_of_a_subset_are_read_from_disk_when_they_are_used() -> None:
    rng, spec = np.random.default_rng(0), TaskSpec("segmentation", "mask", "mask", labels=("a", "b"), size=4)
    masks, index_B = rng.integers(0, 2, (6, 4, 4), np.uint8), np.array([1, 4, 5])
    store = replace(store_of([0] * 6, [0] * 6), target=masks, image_NHWC=rng.integers(0, 255, (6, 4, 4, 1), np.uint8))
    part, loaded, device = store.subset(index_B), store.select(index_B), torch.device("cpu")
    assert isinstance(part.target, SelectedRows)
    assert class_shares(part.target, spec).tolist() == class_shares(loaded.target, spec).tolist()
    for one in (part, resident_on(part, device)):
        batch, expected = (load_batch(s, spec, np.array([0, 2]), device) for s in (one, loaded))
        assert torch.equal(batch.target, expected.target) and torch.equal(batch.image_BCHW, expected.image_BCHW)


def test_boxes_have_no_ensemble_to_choose(
    data: TrainingData, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = digit_plan(data, params, tmp_path, {"network": {"name": TINY}}, folds=2)
    plan = replace(plan, data=replace(data, spec=replace(data.spec, representation="boxes")))
    monkeypatch.setattr(TASKS[data.spec.task], "scores", lambda *_: {plan.score: [float("nan")]})
    monkeypatch.setattr(folds_module, "predict_store", lambda *_: [])
    choice = choose_members(plan, [build(plan.network_config).state_dict() for _ in range(2)], torch.device("cpu"))
    assert choice.selected == "average" and len(choice.weights) == 1 and list(choice.scores) == ["average"]


@pytest.mark.parametrize(
    ("members", "ensemble", "average", "selected"),
    [
        ("auto", 0.9, 0.9, "average"),
        ("auto", 0.9, 0.8, "ensemble"),
        ("auto", 0.9, float("nan"), "ensemble"),
        ("ensemble", 0.8, 0.9, "ensemble"),
        ("average", 0.9, 0.8, "average"),
    ],
)
def test_auto_selects_the_mean_of_weights_if_it_scores_at_least_as_well(
    data: TrainingData, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    members: str, ensemble: float, average: float, selected: str,
) -> None:  # fmt: skip
    plan = digit_plan(data, params, tmp_path, {"network": {"name": TINY}}, folds=3, members=members)
    scored: list[type] = []

    def score(truths: Any, predictions: Any, *_: Any) -> dict[str, Any]:
        return {plan.score: [ensemble if predictions[0] is Ensemble else average]}

    def predict(network: Any, *_: Any) -> list[Any]:
        scored.append(type(network))
        return [type(network)]

    monkeypatch.setattr(TASKS[data.spec.task], "scores", score)
    monkeypatch.setattr(folds_module, "predict_store", predict)
    states = [build(plan.network_config).state_dict() for _ in range(3)]
    choice = choose_members(plan, states, torch.device("cpu"))
    assert choice.selected == selected and len(choice.weights) == (3 if selected == "ensemble" else 1)
    assert len(scored) == 2


@pytest.fixture
def run_stage(
    digits: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the stage `train` with three folds in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("tuned", "weights"):
        Path(name).mkdir()
    Path("tuned/best.json").write_text("{}")

    def run(**train: Any) -> dict[str, Any]:
        changed = params.train.model_copy(update={"epochs": 2, "batch_size": 8, **FIXED, "folds": 3, **train})
        sections = {name: getattr(params, name) for name in ("task", "augment", "tracking")}
        sections["network"] = params.network.model_copy(update={"name": TINY})
        paths = [digits / "ingested", digits / "prepared", *(Path(name) for name in ("tuned", "weights", "trained"))]
        return call(stage.main, paths, {**sections, "train": changed})

    return run


def test_the_stage_writes_members_and_out_of_fold_scores(
    run_stage: Callable[..., dict[str, Any]], data: TrainingData, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = run_stage(members="ensemble")
    summary = json.loads(Path("trained/out_of_fold.json").read_text())
    printed = capsys.readouterr().out
    assert summary["images"] == len(data.train_set) == 24 and summary["folds"] == 3
    assert [one["images"] for one in summary["members"]] == [8, 8, 8]
    assert summary["scores"]["balanced_accuracy"].keys() == {"value", "low", "high"}
    assert summary["validation"].keys() == {"ensemble", "average"} and summary["selected"] == "ensemble"
    assert "train: Out of fold, the balanced accuracy is " in printed and "on 24 training images" in printed
    network, spec, about = load_model(Path("trained/model.pt"))
    assert isinstance(network, Ensemble) and (about["folds"], about["members"]) == (3, 3)
    predictions = predict_store(network, data.val_set, spec, 8, torch.device("cpu"))
    correct = [int(one.argmax()) == truth for one, truth in zip(predictions, data.val_truths, strict=True)]
    assert np.mean(correct) == pytest.approx(summary["validation"]["ensemble"]), "the classes are balanced"
    by_member = pd.read_csv("trained/curves_by_member.csv")
    assert by_member.groupby("member").size().tolist() == [2, 2, 2]
    assert pd.read_csv("trained/curves.csv")["val_loss"].tolist() == pytest.approx(
        by_member.groupby("epoch")["val_loss"].mean().tolist()
    )
    assert metrics["parameters"] == sum(weights.numel() for weights in network.parameters())


def test_a_killed_training_continues_with_the_member_that_was_not_finished(
    run_stage: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_stage(checkpoint_seconds=0)
    expected = load_model(Path("trained/model.pt"))[0].state_dict()
    saves, save = [0], Checkpoints.save

    def killing_save(self: Checkpoints, state: dict[str, Any]) -> None:
        save(self, state)
        saves[0] += 1
        if self.folder.name == "member-2" and saves[0] > 6:
            assert self._lock is not None
            self._lock.close()  # as the end of the process does
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", killing_save)
        with pytest.raises(KeyboardInterrupt):
            run_stage(checkpoint_seconds=0)
    trained: list[int] = []
    train_epoch = loop._train_epoch

    def count(plan: Any, *rest: Any) -> None:
        trained.append(plan.loader.seed)
        train_epoch(plan, *rest)

    monkeypatch.setattr(loop, "_train_epoch", count)
    again = run_stage(checkpoint_seconds=0)
    assert 0 not in trained and set(trained) == {1, 2}, "the first member is not trained again"
    assert "train: resumed from a checkpoint" in capsys.readouterr().out
    weights = load_model(Path("trained/model.pt"))[0].state_dict()
    assert (again["out_of_fold_score"], again["members"]) == (whole["out_of_fold_score"], whole["members"])
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)
    assert not list(Path("work/train").glob("*")), "the checkpoints of all members are deleted"


def test_a_trial_of_a_search_ignores_folds(digits: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def fit(plan: Any, *_: Any) -> Any:
        trained.append(len(plan.data.train_set))
        raise UserError("enough")

    monkeypatch.setattr(trial, "fit", fit)
    sections = {name: getattr(params, name) for name in ("task", "augment", "network")}
    sections["train"] = params.train.model_copy(update={**FIXED, "folds": 3})
    folders = digits / "ingested", digits / "prepared", digits
    job = trial.TrialJob(*folders, sections, values={}, epochs=1, seed=0, higher_is_better=True)
    assert trial.run(job).why == "enough" and trained == [24]


def test_boxes_have_no_ensemble_and_a_single_fold_is_refused() -> None:
    assert "cannot be averaged" in members_problem("boxes", 3, "ensemble")
    assert not members_problem("boxes", 3, "average") and not members_problem("mask", 3, "ensemble")
    assert not members_problem("boxes", 0, "ensemble")
    with pytest.raises(ValueError, match="a single fold leaves no images to train on"):
        Train(folds=1)


SUMMARY: dict[str, Any] = {
    "folds": 3,
    "score": "balanced_accuracy",
    "images": 24,
    "groups": 12,
    "scores": {"balanced_accuracy": {"value": 0.912, "low": 0.875, "high": 0.95}},
    "better": {"balanced_accuracy": "higher"},
    "units": {"balanced_accuracy": ""},
    "members": [{"images": 8, "best_epoch": epoch, "score": 0.9} for epoch in (2, 9, 4)],
    "requested": "auto",
    "selected": "ensemble",
    "validation": {"ensemble": 0.934, "average": 0.321},
}


def test_the_report_and_the_card_show_the_out_of_fold_score(tmp_path: Path, params: Params) -> None:
    write_pipeline_outputs(tmp_path, ["red", "green", "blue"])
    colour_model(tmp_path / "export" / "model.onnx", ("red", "green", "blue"))
    write(tmp_path / "train", "out_of_fold.json", SUMMARY)
    sentence = "Out of fold, the balanced accuracy is 0.912 [0.875, 0.950] on 24 training images in 12 groups"
    card_inputs = "ingest validate audit gate tune train evaluate export benchmark".split()
    sections = {"ingest": params.ingest, "split": params.split}
    call(
        model_card.main, [*(tmp_path / i for i in card_inputs), tmp_path / "openings.csv", tmp_path / "card"], sections
    )
    card = (tmp_path / "card/model-card.md").read_text()
    assert sentence.replace("[", "\\[").replace("]", "\\]") in card
    assert "resnet18, 3 members whose outputs are averaged" in card
    assert "3 members, epochs 2, 9, 4 of 9 selected on their folds" in card
    assert "Validation data also selected the better of the ensemble and the mean of its weights, and the best" in card
    inputs = "ingest validate audit gate prepare augment tune train evaluate export benchmark".split()
    paths = [*(tmp_path / i for i in inputs), tmp_path / "openings.csv", tmp_path / "report"]
    call(report.main, paths, {"evaluate": params.evaluate})
    page = (tmp_path / "report/index.html").read_text()
    assert sentence in page and "0.321 with the mean of their weights; all 3 members are exported" in page
    assert "which also selected what is exported of the members and the params" in page


def test_without_a_choice_on_validation_data_the_card_claims_none(tmp_path: Path) -> None:
    write(tmp_path, "metrics.json", {"trials": 0})
    assert model_card._selected(9, tmp_path, None) == "the best of 9 epochs"
    assert model_card._selected(9, tmp_path, SUMMARY | {"requested": "ensemble"}) == ""
    limits = sealed_test_limits([], [], {}, "")
    assert limits == ["The sealed test has never been opened."]
