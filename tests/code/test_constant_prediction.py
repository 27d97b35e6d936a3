"""Tests of the constant prediction: it is the best one by each score, and a model must beat it beyond noise."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.reports.evaluation_report import constant_sentence, objective_outcome, objective_verdict
from stages.tasks import TASKS
from stages.tasks.constant_places import Scene
from stages.tasks.constant_prediction import best_constants, compare_with_constants
from stages.tasks.evaluation import summarize
from stages.tasks.ground_truth import training_examples
from stages.tasks.instances import Instances
from stages.tasks.landmarks import Points
from stages.tasks.objective import compare_with_objective
from stages.tasks.task_spec import TaskSpec
from tests.conftest import Ingest
from tests.toys import TOYS

RNG = np.random.default_rng(0)
SCENE = Scene(30, 40)
NUMBERS = [np.array([value]) for value in [0.0, 1.0, 1.0, 2.0, 3.0, 30.0, 500.0]]
SETS = [np.array(row, bool) for row in [(1, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (1, 0, 1), (1, 0, 0)]]
GRADES = [0, 0, 0, 1, 2, 3, 3, 3, 3]


def scores_of(spec: TaskSpec, truths: list[Any], prediction: Any) -> dict[str, float]:
    found = TASKS[spec.task].scores(truths, [prediction] * len(truths), np.ones((1, len(truths))), spec)
    return {name: float(value_R[0]) for name, value_R in found.items()}


@pytest.mark.parametrize(
    ("spec", "truths", "others"),
    [
        (TaskSpec("regression", "scalar", "scalars", scalars=("n",)), NUMBERS, np.linspace(0, 500, 2001)[:, None]),
        (TaskSpec("multilabel", "classes", "labels", ("a", "b", "c")), SETS, [*product((0.0, 1.0), repeat=3)]),
        (TaskSpec("ordinal", "class", "label", ("0", "1", "2", "3")), GRADES, np.eye(4)),
        (TaskSpec("classification", "class", "label", ("0", "1", "2", "3")), GRADES, np.eye(4)),
    ],
)
def test_no_other_constant_has_a_better_score_on_the_training_labels(
    spec: TaskSpec, truths: list[Any], others: Any
) -> None:
    constants = best_constants([(truth, SCENE) for truth in truths], spec)
    rivals = [scores_of(spec, truths, np.asarray(other, float)) for other in others]
    assert len(rivals) > 3
    for name, constant in constants.items():
        best = scores_of(spec, truths, constant.predict(SCENE))[name]
        sign = 1 if TASKS[spec.task].SCORES[name].better == "higher" else -1
        assert all(sign * best >= sign * rival[name] - 1e-9 for rival in rivals), (name, constant.name)


def test_the_constant_points_follow_the_size_of_the_image() -> None:
    spec = TaskSpec("landmarks", "heatmap", "points", points=("a", "b"), tolerance=0.05)
    truths = [Points(np.array([[w / 4 - 0.5, w / 2 - 0.5], [np.nan, np.nan]]), w, w) for w in (20, 40, 80)]
    constant = best_constants([(t, Scene(t.height, t.width)) for t in truths], spec)["pixel_error"]
    assert constant.predict(Scene(100, 200)).tolist() == [[49.5, 49.5, 1], [99.5, 49.5, 0]]


def test_the_constant_mask_is_larger_than_the_majority_if_this_raises_dice() -> None:
    spec = TaskSpec("segmentation", "mask", "mask", ("background", "cell"), tolerance=1.5)
    truths = []
    for n in range(12):  # a square that is at one of four places, so that no pixel is a cell in most masks
        mask = np.zeros((30, 40), np.uint8)
        mask[8 : 8 + 10, 4 + 8 * (n % 4) : 14 + 8 * (n % 4)] = 1
        truths.append(mask)
    constants = best_constants([(truth, SCENE) for truth in truths], spec)
    found = {name: scores_of(spec, truths, constant.predict(SCENE)) for name, constant in constants.items()}
    assert found["dice"]["dice"] > 0.35 and found["pixel_accuracy"]["dice"] == 0
    assert found["pixel_accuracy"]["pixel_accuracy"] > found["dice"]["pixel_accuracy"] > 0.5
    assert constants["dice"].predict(Scene(60, 20)).index_HW.shape == (60, 20)


def test_the_constant_of_paired_images_is_the_input_if_it_resembles_the_target() -> None:
    spec = TaskSpec("image", "image", "image", channels=1)
    clean = [RNG.integers(0, 256, (16, 16), np.uint8) for _ in range(4)]
    near = [(image, Scene(16, 16, (image // 2 * 2).astype(np.uint8))) for image in clean]
    inverted = [(image, Scene(16, 16, (255 - image).astype(np.uint8))) for image in clean]
    assert best_constants(near, spec)["psnr"].name == "the input image itself"
    assert best_constants(inverted, spec)["psnr"].name.startswith("a uniform image")


def test_the_constant_objects_are_boxes_only_if_objects_are_always_at_one_place() -> None:
    spec = TaskSpec("instances", "boxes", "shapes", ("cell",))

    def truth(*corners: tuple[float, float]) -> Instances:
        box_M4 = np.array([[x, y, x + 8, y + 8] for x, y in corners], np.float32).reshape(-1, 4)
        count = len(box_M4)
        return Instances(box_M4, np.zeros(count, int), np.ones(count, np.float32), None, np.zeros(count, bool), 30, 40)

    fixed = [truth((10 + n % 2, 5)) for n in range(6)]
    varied = [truth(*((8.0 * m, 20.0) for m in range(n))) for n in (0, 0, 0, 2, 4)]
    assert best_constants([(t, SCENE) for t in fixed], spec)["average_precision_50"].name.startswith("1 object at")
    assert {constant.name for constant in best_constants([(t, SCENE) for t in varied], spec).values()} == {"no object"}


def evaluated(predicted_N: Any, truth_N: Any, group_N: Any, at_most: float) -> dict[str, Any]:
    """Return the summary of a regression whose training median is 50."""
    spec = TaskSpec("regression", "scalar", "scalars", scalars=("weight",), units={"weight": "g"})
    truths, predictions = [np.array([t]) for t in truth_N], [np.array([p]) for p in predicted_N]
    summary, replicates = summarize(spec, truths, predictions, group_N, resamples=200, confidence=0.95, bins=5)
    constants = best_constants([(np.array([v]), SCENE) for v in (10.0, 50.0, 90.0)], spec)
    scenes = [SCENE] * len(truths)
    summary["constant"] = compare_with_constants(spec, truths, scenes, group_N, replicates, constants, 0.95)
    name = "mean_absolute_error"
    goal = {"at_least": None, "at_most": at_most}
    value = summary["scores"][name]["value"]
    return summary | {"objective": compare_with_objective(value, name, goal, summary["constant"][name])}


def test_an_objective_that_the_training_median_also_nearly_reaches_is_missed_and_the_report_says_why() -> None:
    truth_N = RNG.uniform(0, 100, 60)
    close_to_median = 50 + 0.1 * RNG.normal(0, 20, 60) + 0.02 * (truth_N - 50)
    summary = evaluated(close_to_median, truth_N, np.arange(60), at_most=40)
    goal, constant = summary["objective"], summary["constant"]["mean_absolute_error"]
    assert goal["value"] < 40 and goal["reached"] and not goal["met"] and goal["better_than_constant"] is False
    assert constant["low"] < constant["value"] < constant["high"] and constant["difference"]["high"] > 0
    assert objective_outcome(goal) == "missed"
    assert "not shown to be better than a constant prediction" in objective_verdict(summary)
    sentence = constant_sentence(summary, "mean_absolute_error")
    assert "the median of the training images (weight 50 g), has the mean absolute error " in sentence
    assert "The model is not shown to be better: the difference is " in sentence


def test_a_model_that_follows_the_truth_meets_the_objective_unless_there_is_only_one_group() -> None:
    truth_N = RNG.uniform(0, 100, 40)
    summary = evaluated(truth_N + 1, truth_N, np.arange(40), at_most=40)
    assert summary["objective"]["met"] and "The model is better: the difference is -" in constant_sentence(
        summary, "mean_absolute_error"
    )
    alone = evaluated(truth_N + 1, truth_N, np.zeros(40), at_most=40)
    assert not alone["objective"]["met"]
    assert "Images of a single group cannot show" in constant_sentence(alone, "mean_absolute_error")


def test_three_correct_predictions_of_two_classes_do_not_beat_the_constant_prediction() -> None:
    spec = TaskSpec("classification", "class", "label", ("a", "b"))
    constants = best_constants([(0, SCENE), (1, SCENE), (0, SCENE)], spec)

    def better(count: int) -> Any:
        truths = [n % 2 for n in range(count)]
        predictions, group_N = [np.eye(2)[t] for t in truths], np.arange(count)
        _, replicates = summarize(spec, truths, predictions, group_N, resamples=200, confidence=0.95, bins=5)
        found = compare_with_constants(spec, truths, [SCENE] * count, group_N, replicates, constants, 0.95)
        return found["balanced_accuracy"]["better"]

    assert better(3) is False and better(20) is True


def test_the_constant_of_paired_images_reads_the_input_images_of_training(ingest: Ingest, tmp_path: Path) -> None:
    toy = TOYS["image"]
    (tmp_path / "toy").mkdir()
    toy.write(tmp_path / "toy", RNG)
    spec = TaskSpec("image", "image", "image", channels=3)
    examples = list(training_examples(ingest(tmp_path / "toy", **toy.ingest), spec))
    assert len(examples) > 4 and all(scene.image is not None for _, scene in examples)
    truth, scene = examples[0]
    for constant in best_constants(examples, spec).values():
        assert np.isfinite(scores_of(spec, [truth], constant.predict(scene))["psnr"])
