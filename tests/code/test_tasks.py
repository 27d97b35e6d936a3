"""Test suite that every task passes, and tests of the scores and labels of individual tasks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from stages.batch_prediction.formats import column_names
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, bounding_box, encode_rle
from stages.dataset.combined_classes import combine, combine_objects
from stages.reports import evaluation_report as evaluation
from stages.tasks import TASKS, image_to_image, landmarks, multilabel, ordinal, rand_index, regression, segmentation
from stages.tasks.build_spec import build_task_spec
from stages.tasks.constant_places import Scene
from stages.tasks.constant_prediction import best_constants, compare_with_constants
from stages.tasks.defined_scores import excluded_scalars, perfect_scores
from stages.tasks.evaluation import summarize
from stages.tasks.image_outputs import class_values
from stages.tasks.intervals import resample_weights
from stages.tasks.landmarks import Points
from stages.tasks.objective import compare_with_objective
from stages.tasks.postprocessing import decode
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_interface import Task
from stages.tasks.task_spec import TaskSpec, task_spec_of
from tests.conftest import ROOT

HEIGHT, WIDTH = 24, 32
COUNT = 12
UNIT_WEIGHTS = np.ones((1, COUNT))


@dataclass(frozen=True)
class Case:
    """Targets of a task, and a function that returns outputs of the graph for a wrongness; 0 is perfect."""

    spec: TaskSpec
    targets: list[Any]
    outputs: Callable[[np.random.Generator, float], list[dict[str, np.ndarray]]]

    def predictions(self, wrongness: float, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [TASKS[self.spec.task].decode(output, self.spec) for output in self.outputs(rng, wrongness)]


def make_spec(task: str, representation: str, target: str, **changes: Any) -> TaskSpec:
    return TaskSpec(task, representation, target, size=32, tolerance=changes.pop("tolerance", 0.05), **changes)


def targets_of(spec: TaskSpec, annotations: list[Annotation], raw_targets: list[Any] | None = None) -> list[Any]:
    kind = TASKS[spec.task]
    return [
        kind.truth(a, t, HEIGHT, WIDTH, spec)
        for a, t in zip(annotations, raw_targets or [None] * len(annotations), strict=True)
    ]


def probabilities(one_hot: np.ndarray, rng: np.random.Generator, wrongness: float) -> np.ndarray:
    mixed = (1 - min(1.0, wrongness)) * one_hot + wrongness * rng.random(one_hot.shape) + 1e-9
    return mixed / mixed.sum(axis=0)


def classes_case(task: str, labels: str) -> Case:
    spec = make_spec(task, "class", "label", labels=tuple(labels))
    targets = targets_of(spec, [Annotation(labels=(labels[n % len(labels)],)) for n in range(COUNT)])
    return Case(
        spec, targets, lambda rng, w: [{"probability": probabilities(np.eye(len(labels))[t], rng, w)} for t in targets]
    )


def multilabel_case() -> Case:
    spec = make_spec("multilabel", "classes", "labels", labels=("a", "b"))
    sets: list[tuple[str, ...]] = [(), ("a",), ("b",), ("a", "b")]
    targets = targets_of(spec, [Annotation(labels=sets[n % 4]) for n in range(COUNT)])

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        return [{"probability": (1 - min(1.0, w)) * t + w * rng.random(2)} for t in targets]

    return Case(spec, targets, outputs)


def regression_case() -> Case:
    spec = make_spec("regression", "scalar", "scalars", scalars=("n", "m"), deviation=(3.0, 1.0), units={"n": "mm"})
    targets = targets_of(spec, [Annotation(scalars={"n": n + 1.0, "m": float(n % 4) + 1}) for n in range(COUNT)])
    return Case(spec, targets, lambda rng, w: [{"value": t + w * rng.normal(0, 5, 2)} for t in targets])


def landmarks_case() -> Case:
    spec = make_spec("landmarks", "heatmap", "points", points=("nose", "tail"))
    positions = [{"nose": (5.0 + n, 6.0), "tail": None if n == 3 else (20.0, 3.0 + n)} for n in range(COUNT)]
    targets = targets_of(spec, [Annotation(points=p) for p in positions])

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        visible = [np.isfinite(t.xy_P2[:, :1]) for t in targets]
        points = [np.nan_to_num(t.xy_P2) + w * rng.normal(0, 5, (2, 2)) for t in targets]
        return [{"point": np.concatenate([xy, v], axis=1)} for xy, v in zip(points, visible, strict=True)]

    return Case(spec, targets, outputs)


def squares(n: int) -> list[np.ndarray]:
    """Return two masks that do not touch."""
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 2:8, 2 + n % 5 : 9 + n % 5] = True
    masks[1, 12:20, 15 : 22 + n % 7] = True
    return list(masks)


def segmentation_case() -> Case:
    spec = make_spec("segmentation", "mask", "mask", labels=("wall", "room"), tolerance=1.5)
    raw_targets = [np.where(squares(n)[0] | squares(n)[1], 1, 0).astype(np.uint8) for n in range(COUNT)]
    raw_targets[0][0] = IGNORE_INDEX
    targets = targets_of(spec, [Annotation(mask=("wall", "room"))] * COUNT, raw_targets)

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        one_hot = [np.moveaxis(np.eye(2)[np.where(t == IGNORE_INDEX, 0, t)], 2, 0) for t in targets]
        return [{"probability": probabilities(h, rng, w)} for h in one_hot]

    return Case(spec, targets, outputs)


def image_case() -> Case:
    spec = make_spec("image", "image", "image", channels=1)
    raw_targets = [np.random.default_rng(n).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8) for n in range(COUNT)]
    targets = targets_of(spec, [Annotation(image=True)] * COUNT, raw_targets)

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        return [{"restored": (t / 255 + w * rng.normal(0, 0.3, t.shape)).clip(0, 1)[:, :, None]} for t in targets]

    return Case(spec, targets, outputs)


def instances_case() -> Case:
    spec = make_spec("instances", "boxes", "shapes", labels=("a", "b"), masks=True)
    masks_of_images = [squares(n) for n in range(COUNT)]
    shapes = [
        tuple(ObjectAnnotation("ab"[i], bounding_box(m), encode_rle(m)) for i, m in enumerate(masks))
        for masks in masks_of_images
    ]
    targets = targets_of(spec, [Annotation(shapes=s) for s in shapes])

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        moved = [[np.roll(m, round(w * float(rng.integers(2, 9))), axis=1) for m in masks] for masks in masks_of_images]
        return [
            {
                "box": np.array([bounding_box(m) for m in masks], np.float32),
                "label": np.array([0, 1]),
                "score": np.array([0.9, 0.8], np.float32),
                "mask": np.stack(masks).astype(np.uint8),
                "size": np.array([HEIGHT, WIDTH]),
            }
            for masks in moved
        ]

    return Case(spec, targets, outputs)


CASES = {
    "classification": classes_case("classification", "abc"),
    "multilabel": multilabel_case(),
    "ordinal": classes_case("ordinal", "abcde"),
    "regression": regression_case(),
    "landmarks": landmarks_case(),
    "segmentation": segmentation_case(),
    "image": image_case(),
    "instances": instances_case(),
}
PERFECT = {"psnr": 100.0}


def scores_of(name: str, predictions: list[Any], weight_RN: np.ndarray = UNIT_WEIGHTS) -> dict[str, np.ndarray]:
    case = CASES[name]
    return TASKS[name].scores(case.targets, predictions, weight_RN, case.spec)


def test_every_task_has_a_case() -> None:
    assert set(CASES) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_perfect_prediction_scores_perfectly_and_has_no_error(name: str) -> None:
    kind: Task = TASKS[name]
    case, predictions = CASES[name], CASES[name].predictions(0)
    scores = scores_of(name, predictions)
    assert set(scores) == set(kind.SCORES)
    for score, (value,) in scores.items():
        better = kind.SCORES[score].better
        assert value == pytest.approx(PERFECT.get(score, 1.0 if better == "higher" else 0.0), abs=1e-5), score
    for target, prediction in zip(case.targets, predictions, strict=True):
        assert kind.error(target, prediction, case.spec) == pytest.approx(0, abs=1e-6)
        assert kind.describe(target, case.spec) and kind.describe(prediction, case.spec)


@pytest.mark.parametrize("name", TASKS)
def test_the_truth_as_a_prediction_scores_perfectly(name: str) -> None:
    case, expected = CASES[name], scores_of(name, CASES[name].predictions(0))
    found = perfect_scores(case.targets, case.spec)
    assert found == pytest.approx({score: float(value) for score, (value,) in expected.items()}, abs=1e-5)
    assert excluded_scalars(case.targets, case.spec, next(iter(TASKS[name].SCORES))) == []


@pytest.mark.parametrize("name", TASKS)
def test_a_worse_prediction_scores_worse_by_every_score(name: str) -> None:
    kind = TASKS[name]
    good, bad = scores_of(name, CASES[name].predictions(0.0)), scores_of(name, CASES[name].predictions(1.0))
    for score, about in kind.SCORES.items():
        sign = 1 if about.better == "higher" else -1
        if score == "count_error" or (score == "boundary_error" and not np.isfinite(bad[score][0])):
            continue  # the same number of objects, at other positions
        assert sign * good[score][0] > sign * bad[score][0], score
    case, predictions = CASES[name], CASES[name].predictions(1.0)
    errors = [kind.error(t, p, case.spec) for t, p in zip(case.targets, predictions, strict=True)]
    assert max(errors) > 0 and any(kind.wrong(t, p, case.spec) for t, p in zip(case.targets, predictions, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_a_weight_of_two_equals_the_image_twice(name: str) -> None:
    case, predictions = CASES[name], CASES[name].predictions(0.4)
    weight_N = np.array([2, 1, 1, 0, 1, 3, 1, 1, 1, 0, 1, 1], float)
    repeats = np.repeat(np.arange(COUNT), weight_N.astype(int))
    weighted = scores_of(name, predictions, weight_N[None])
    repeated = TASKS[name].scores(
        [case.targets[i] for i in repeats], [predictions[i] for i in repeats], np.ones((1, len(repeats))), case.spec
    )
    for score, value in weighted.items():
        assert value[0] == pytest.approx(repeated[score][0], abs=1e-9, nan_ok=True), score


@pytest.mark.parametrize("name", TASKS)
def test_a_summary_is_valid_json_with_an_interval_per_score(name: str) -> None:
    import json

    case, predictions = CASES[name], CASES[name].predictions(0.3)
    summary, replicates = summarize(
        case.spec, case.targets, predictions, np.arange(COUNT), resamples=100, confidence=0.9, bins=5
    )
    json.dumps(summary, allow_nan=False)
    assert set(replicates) == set(summary["scores"]) and all(len(r) == 101 for r in replicates.values())
    for score, row in summary["scores"].items():
        if row["value"] is not None:
            assert row["low"] <= row["value"] + 1e-9 and row["value"] - 1e-9 <= row["high"], score
    names = TASKS[name].parts(case.targets, predictions, UNIT_WEIGHTS, case.spec).names
    assert [row["label"] for row in summary["parts"]["rows"]] == list(names)
    assert evaluation.task_charts(summary)["labels"] == list(names), "the report shows every part"
    again, _ = summarize(case.spec, case.targets, predictions, np.arange(COUNT), resamples=100, confidence=0.9, bins=5)
    assert again == summary


def scenes_of(name: str) -> list[Scene]:
    case = CASES[name]
    return [Scene(HEIGHT, WIDTH, target if name == "image" else None) for target in case.targets]


@pytest.mark.parametrize("name", TASKS)
def test_every_score_is_compared_with_a_constant_prediction(name: str) -> None:
    case, kind = CASES[name], TASKS[name]
    noisy = [np.roll(scene.image, 3) if scene.image is not None else None for scene in scenes_of(name)]
    scenes = [Scene(HEIGHT, WIDTH, image) for image in noisy]
    constants = best_constants(zip(case.targets, scenes, strict=True), case.spec)
    assert set(constants) == set(kind.SCORES)
    weight_RN = resample_weights(np.arange(COUNT), 100)

    def compared(predictions: list[Any]) -> dict[str, dict[str, Any]]:
        replicates = kind.scores(case.targets, predictions, weight_RN, case.spec)
        found = compare_with_constants(case.spec, case.targets, scenes, np.arange(COUNT), replicates, constants, 0.9)
        json.dumps(found, allow_nan=False)
        return found

    perfect = compared(case.predictions(0))
    best = {score: (PERFECT.get(score, 1.0) if kind.SCORES[score].better == "higher" else 0.0) for score in perfect}
    beaten = {s: f for s, f in perfect.items() if f["value"] is not None and not f["low"] <= best[s] <= f["high"]}
    assert beaten and all(found["better"] for found in beaten.values()), beaten
    for score, constant in constants.items():
        found = compared([constant.predict(scene) for scene in scenes])[score]
        assert found["better"] in (False, None) and found["difference"]["value"] in (0.0, None), (score, found)


@pytest.mark.parametrize("name", TASKS)
def test_targets_and_predictions_can_be_drawn_and_written(name: str) -> None:
    import json

    case, kind = CASES[name], TASKS[name]
    prediction = case.predictions(0.1)[1]
    json.dumps(kind.record(prediction, case.spec), allow_nan=False)
    for image in (np.full((HEIGHT, WIDTH), 90, np.uint8), np.full((HEIGHT, WIDTH, 3), 9000, np.uint16)):
        for value in (case.targets[1], prediction):
            drawn = kind.draw(image, value, case.spec)
            assert drawn.dtype == np.uint8 and drawn.shape == (HEIGHT, WIDTH, 3)
            if kind.DRAWN:
                assert (drawn != drawn[:1, :1]).any(), "the overlay is visible"


@pytest.mark.parametrize("name", TASKS)
def test_a_task_spec_survives_a_json_round_trip(name: str) -> None:
    import json

    spec = CASES[name].spec
    assert task_spec_of(json.loads(json.dumps({**spec.as_json(), "version": "x"}))) == spec


@pytest.mark.parametrize("name", TASKS)
def test_labels_of_another_type_are_refused_with_a_reason(name: str) -> None:
    other = Annotation(scalars={"weight": 1.0}) if name != "regression" else Annotation(labels=("a",))
    with pytest.raises(ValueError, match="has "):
        TASKS[name].truth(other, None, HEIGHT, WIDTH, CASES[name].spec)


def test_average_precision_f1_and_auc_match_scikit_learn() -> None:
    case, predictions = CASES["multilabel"], CASES["multilabel"].predictions(0.8, seed=3)
    true_NK, predicted_NK = np.stack(case.targets), np.stack(predictions).round(1)  # rounded: ties occur
    scores = multilabel.scores(case.targets, list(predicted_NK), UNIT_WEIGHTS, case.spec)
    assert scores["mean_average_precision"][0] == pytest.approx(metrics.average_precision_score(true_NK, predicted_NK))
    assert scores["auc"][0] == pytest.approx(metrics.roc_auc_score(true_NK, predicted_NK))
    for average in ("macro", "micro"):
        assert scores[f"{average}_f1"][0] == pytest.approx(
            metrics.f1_score(true_NK, predicted_NK >= 0.5, average=average)
        )


def test_kappa_matches_scikit_learn_and_the_grade_is_the_median() -> None:
    case, predictions = CASES["ordinal"], CASES["ordinal"].predictions(0.9, seed=2)
    grades = ordinal.grade(np.stack(predictions))
    expected = metrics.cohen_kappa_score(case.targets, grades, weights="quadratic")
    scores = ordinal.scores(case.targets, predictions, UNIT_WEIGHTS, case.spec)
    assert scores["quadratic_kappa"][0] == pytest.approx(expected)
    assert ordinal.grade(np.array([[0.4, 0.2, 0.4], [0.6, 0.0, 0.4], [0.1, 0.2, 0.7]])).tolist() == [1, 0, 2]


def test_regression_scores_match_scikit_learn() -> None:
    case, predictions = CASES["regression"], CASES["regression"].predictions(0.5)
    true, predicted = np.stack(case.targets), np.stack(predictions)
    scores = regression.scores(case.targets, predictions, UNIT_WEIGHTS, case.spec)
    assert scores["r2"][0] == pytest.approx(metrics.r2_score(true, predicted))
    assert scores["mean_absolute_error"][0] == pytest.approx(metrics.mean_absolute_error(true, predicted))
    each = metrics.root_mean_squared_error(true, predicted, multioutput="raw_values")
    assert scores["root_mean_square_error"][0] == pytest.approx(each.mean())
    expected = 100 * metrics.mean_absolute_percentage_error(true, predicted)
    assert scores["mean_absolute_percentage_error"][0] == pytest.approx(expected)


@pytest.mark.parametrize(
    "true",
    [np.array([1.0, 2.0, 4.0]) * 1e-9, np.array([1.0, 2.0, 4.0]) + 1e7, np.array([0.0, 0.0, 1e-3]), np.full(3, 0.1)],
)
def test_r2_is_undefined_for_equal_numbers_only_whatever_their_size(true: np.ndarray) -> None:
    spec = make_spec("regression", "scalar", "scalars", scalars=("n",))
    predicted = true + np.array([0.1, -0.2, 0.3]) * (np.ptp(true) or 1.0)
    weight_RN = np.array([[1.0, 1, 1], [3, 0, 0], [0, 0, 3]])
    found_R = TASKS["regression"].scores(list(true[:, None]), list(predicted[:, None]), weight_RN, spec)["r2"]
    assert np.isnan(found_R[1:]).all(), "one image, drawn three times"
    assert (
        np.isnan(found_R[0])
        if np.ptp(true) == 0
        else found_R[0] == pytest.approx(metrics.r2_score(true, predicted), rel=1e-6)
    )


def test_scores_have_the_unit_that_all_scalars_share() -> None:
    case = CASES["regression"]

    def summary_with(units: dict[str, str]) -> dict[str, Any]:
        spec = replace(case.spec, units=units)
        return summarize(
            spec, case.targets, case.predictions(0.5), np.arange(COUNT), resamples=100, confidence=0.9, bins=5
        )[0]

    assert summary_with({"n": "mm", "m": "mm"})["units"]["mean_absolute_error"] == "mm"
    mixed = summary_with({"n": "mm"})
    assert mixed["units"]["mean_absolute_error"] == "", "a mean over several units has no unit"
    assert mixed["units"]["mean_absolute_percentage_error"] == "%"
    assert [row["label"] for row in mixed["parts"]["rows"]] == ["n, mm", "m"]
    assert mixed["details"]["agreement"]["n"]["unit"] == "mm"


@pytest.mark.parametrize(
    ("task", "units", "message"),
    [
        ("regression", {"wieght": "kg"}, "task.units: wieght is not a number of this task; did you mean `weight`"),
        (
            "classification",
            {"weight": "kg"},
            "task.units: weight has a unit, but task classification predicts no numbers; leave task.units empty",
        ),
    ],
)
def test_a_unit_without_a_number_is_reported(task: str, units: dict[str, str], message: str, params: Params) -> None:
    section = params.task.model_dump() | {"name": task, "score": next(iter(TASKS[task].SCORES)), "units": units}
    facts = {"annotations": [Annotation(labels=("a",), scalars={"weight": 1.0})], "depth": 8}
    with pytest.raises(UserError, match=message):
        build_task_spec(section, params.representation.model_dump(), params.prepare.model_dump(), facts)


def spec_of_labels(
    params: Params, task: str, annotations: list[Annotation], representation: str = "auto", **changes: Any
) -> TaskSpec:
    """Return the spec of a task for these labels, with default params."""
    section = params.task.model_dump() | {"name": task, "score": next(iter(TASKS[task].SCORES)), **changes}
    representation_section = params.representation.model_dump() | {"name": representation}
    prepare = params.prepare.model_dump() | {"fit": "letterbox"}
    return build_task_spec(section, representation_section, prepare, {"annotations": annotations, "depth": 8})


def test_values_of_the_source_follow_the_order_of_the_classes(params: Params) -> None:
    section = params.task.model_dump() | {"name": "segmentation", "score": "dice", "classes": ("c", "a", "b")}
    values = {"a": 0, "b": 32, "c": 255}
    facts = {"annotations": [Annotation(mask=("a", "b", "c"))], "depth": 8, "mask_values": values}
    arguments = (params.representation.model_dump(), params.prepare.model_dump())
    spec = build_task_spec(section, *arguments, facts)
    assert spec.mask_values == (255, 0, 32) and task_spec_of(json.loads(json.dumps(spec.as_json()))) == spec
    older = {key: value for key, value in spec.as_json().items() if key != "mask_values"}
    assert class_values(task_spec_of(older)).tolist() == [0, 1, 2]
    assert build_task_spec(section, *arguments, facts | {"mask_values": {}}).mask_values == ()


def test_a_class_is_scored_from_all_pixels_whose_combination_contains_it() -> None:
    spec = make_spec("segmentation", "mask", "mask", labels=("background", "cell", "cell + nucleus"))
    true = np.array([[0, 1, 1, 2, 2, IGNORE_INDEX]], np.uint8)
    predicted = np.array([[0, 0, 1, 1, 2, 2]], np.uint8)
    one, mask = np.ones((1, 1)), segmentation.Mask(predicted, None)
    found = segmentation.parts([true], [mask], one, spec)
    assert found.names == ("background", "cell", "nucleus") and found.support == (1, 1, 1)
    assert found.scores["iou"][0].tolist() == pytest.approx([1 / 2, 3 / 4, 1 / 2])
    assert found.scores["dice"][0].tolist() == pytest.approx([2 / 3, 6 / 7, 2 / 3])
    scores = segmentation.scores([true], [mask], one, spec)
    assert scores["dice"][0] == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert scores["pixel_accuracy"][0] == pytest.approx(3 / 5)
    assert segmentation.record(mask, spec) == pytest.approx({"cell": 4 / 6, "nucleus": 2 / 6})
    assert column_names(spec) == ["share_cell", "share_nucleus", "file"]


@pytest.mark.parametrize("turn", [1, -1])
def test_overlapping_objects_of_two_classes_give_pixels_of_both(turn: int) -> None:
    shapes = (
        ObjectAnnotation("cell", (0, 0, 4, 2)),
        ObjectAnnotation("nucleus", (1, 0, 2, 1)),
        ObjectAnnotation("cell", (3, 0, 6, 1), crowd=True),
    )
    annotation = Annotation(shapes=shapes[::turn])
    number_HW, found = combine_objects(annotation, 2, 6)
    assert {combine(classes): int((number_HW == number).sum()) for number, classes in enumerate(found)} == {
        "background": 4,
        "cell": 7,
        "cell + nucleus": 1,
    }
    spec = make_spec("segmentation", "mask", "shapes", labels=("background", "cell", "cell + nucleus"))
    unknown = IGNORE_INDEX  # a crowd, where no object is
    expected = [[1, 2, 1, 1, unknown, unknown], [1, 1, 1, 1, 0, 0]]
    assert segmentation.truth(annotation, None, 2, 6, spec).tolist() == expected


def test_crowds_do_not_hide_objects() -> None:
    shapes = (ObjectAnnotation("cell", (0, 0, 2, 1)), ObjectAnnotation("cell", (1, 0, 3, 1), crowd=True))
    spec = make_spec("segmentation", "mask", "shapes", labels=("background", "cell"))
    assert segmentation.truth(Annotation(shapes=shapes), None, 1, 4, spec).tolist() == [[1, 1, IGNORE_INDEX, 0]]


def test_areas_of_combined_classes_are_refused(params: Params) -> None:
    annotations = [Annotation(mask=("background", "cell", "cell + nucleus"))]
    with pytest.raises(UserError, match="task.target: area requires masks of one class per pixel.* cell \\+ nucleus"):
        spec_of_labels(params, "regression", annotations, target="area")


def test_a_class_listed_twice_is_reported(params: Params) -> None:
    annotations = [Annotation(labels=(label,)) for label in "ab"]
    with pytest.raises(UserError, match="task.classes: a is listed more than once; list each class once"):
        spec_of_labels(params, "classification", annotations, classes=("a", "b", "a"))


def test_watershed_with_several_classes_is_refused(params: Params) -> None:
    annotations = [
        Annotation(shapes=tuple(ObjectAnnotation(label, (0, 0, 2, 2)) for label in labels)) for labels in ("a", "ab")
    ]
    assert spec_of_labels(params, "instances", annotations[:1], "watershed").labels == ("a",)
    with pytest.raises(UserError, match="watershed supports only one class, but the objects have the classes a, b"):
        spec_of_labels(params, "instances", annotations, "watershed")


def test_objects_without_a_mask_among_others_are_reported(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    mask = squares(0)[0]
    shapes = (ObjectAnnotation("a", bounding_box(mask), encode_rle(mask)), ObjectAnnotation("a", (0, 0, 2, 2)))
    assert not spec_of_labels(params, "instances", [Annotation(shapes=shapes)]).masks
    assert "prepare: 1 object has a box but no mask, so training and scores use only boxes" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "numbers"), [("count", [2, 1]), ("area", [3 / 8, 1 / 8])])
def test_background_is_not_counted_at_any_class_index(target: str, numbers: list[float], params: Params) -> None:
    masked = Annotation(mask=("cell", "background", "wall"))
    spec = spec_of_labels(params, "regression", [masked], target=target)
    assert spec.scalars == ("cell", "wall")
    mask = np.array([[0, 0, 1, 0, 1, 1, 1, 2]], np.uint8)
    assert regression.truth(masked, mask, 1, 8, spec).tolist() == pytest.approx(numbers)


def test_objects_labelled_background_are_not_measured(params: Params) -> None:
    cell, rest = squares(0)
    shapes = (
        ObjectAnnotation("cell", bounding_box(cell), encode_rle(cell)),
        ObjectAnnotation("background", bounding_box(rest), encode_rle(rest)),
    )
    spec = spec_of_labels(params, "regression", [Annotation(shapes=shapes)], target="area")
    assert (spec.labels, spec.scalars) == (("background", "cell"), ("cell",))
    assert regression.truth(Annotation(shapes=shapes), None, HEIGHT, WIDTH, spec).tolist() == [cell.mean()]


def test_masks_are_measured_and_drawn_with_background_at_any_index() -> None:
    labels = ("cell", "background")
    measured = make_spec("regression", "mask", "area", labels=labels, scalars=("cell",))
    probability_KHW = np.zeros((2, 1, 4))
    probability_KHW[0, 0, 0], probability_KHW[1, 0, 1:] = 1, 1
    assert decode({"probability": probability_KHW}, measured).tolist() == [0.25]
    spec = make_spec("segmentation", "mask", "mask", labels=labels)
    drawn = segmentation.draw(np.full((2, 4), 90, np.uint8), np.array([[0, 1, 1, 1]] * 2, np.uint8), spec)
    assert (drawn[:, 0] != 90).any() and (drawn[:, 1:] == 90).all()


def test_objects_and_masks_become_counts_and_areas() -> None:
    shapes = tuple(ObjectAnnotation("ab"[i], bounding_box(m), encode_rle(m)) for i, m in enumerate(squares(0)))
    count = make_spec("regression", "scalar", "count", labels=("background", "a", "b"), scalars=("a", "b"))
    assert regression.truth(Annotation(shapes=shapes * 2), None, HEIGHT, WIDTH, count).tolist() == [2, 2]
    area = make_spec("regression", "scalar", "area", labels=("background", "a", "b"), scalars=("a", "b"))
    shares = [m.mean() for m in squares(0)]
    assert regression.truth(Annotation(shapes=shapes), None, HEIGHT, WIDTH, area).tolist() == pytest.approx(shares)
    mask = np.where(squares(0)[0], 1, 0).astype(np.uint8) + 2 * squares(0)[1].astype(np.uint8)
    masked = Annotation(mask=("background", "a", "b"))
    assert regression.truth(masked, mask, HEIGHT, WIDTH, count).tolist() == [1, 1]
    assert regression.truth(masked, mask, HEIGHT, WIDTH, area).tolist() == pytest.approx(shares)


def test_only_visible_points_are_scored() -> None:
    spec = CASES["landmarks"].spec
    target = Points(np.array([[0.0, 0.0], [np.nan, np.nan]]), 30, 40)  # diagonal 50: tolerance 2.5 pixels
    predictions = [np.array([[0.0, y, 1.0], [9.0, 9.0, 0.1]]) for y in (2.4, 2.6)]
    scores = landmarks.scores([target] * 2, predictions, np.ones((1, 2)), spec)
    assert scores["pck"][0] == 0.5 and scores["pixel_error"][0] == pytest.approx(2.5)
    assert scores["normalized_error"][0] == pytest.approx(0.05)


def test_dice_and_iou_are_pooled_and_skip_ignored_pixels() -> None:
    spec = make_spec("segmentation", "mask", "mask", labels=("background", "a"), tolerance=1.0)
    target = np.array([[0, 1, 1, IGNORE_INDEX]], np.uint8)
    prediction = segmentation.Mask(np.array([[1, 1, 0, 1]], np.uint8), None)
    scores = segmentation.scores([target], [prediction], np.ones((1, 1)), spec)
    assert scores["dice"][0] == pytest.approx(2 * 1 / (2 + 2)) and scores["iou"][0] == pytest.approx(1 / 3)
    assert scores["pixel_accuracy"][0] == pytest.approx(1 / 3)


def test_background_is_not_scored_at_any_class_index() -> None:
    first, last = (
        make_spec("segmentation", "mask", "mask", labels=labels, tolerance=1.0)
        for labels in (("background", "a"), ("a", "background"))
    )
    target, classes = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8)
    expected = segmentation.scores([target], [segmentation.Mask(classes, None)], np.ones((1, 1)), first)
    swapped = segmentation.Mask(1 - classes, None)
    scores = segmentation.scores([1 - target], [swapped], np.ones((1, 1)), last)
    for score in ("dice", "iou", "boundary_f1"):
        assert scores[score][0] == pytest.approx(expected[score][0]), score
    assert segmentation.record(swapped, last) == {"a": 0.75}


def test_boundary_scores_measure_the_distance_between_boundaries() -> None:
    spec = make_spec("segmentation", "mask", "mask", labels=("background", "a"), tolerance=1.5)
    masks = [np.zeros((40, 40), np.uint8) for _ in range(2)]
    masks[0][:, 10:], masks[1][:, 12:] = 1, 1
    scores = segmentation.scores([masks[0]], [segmentation.Mask(masks[1], None)], np.ones((1, 1)), spec)
    assert 1.0 < scores["boundary_error"][0] <= 2.0
    wide = make_spec("segmentation", "mask", "mask", labels=("background", "a"), tolerance=2.5)
    wider = segmentation.scores([masks[0]], [segmentation.Mask(masks[1], None)], np.ones((1, 1)), wide)
    assert wider["boundary_f1"][0] == 1.0 > scores["boundary_f1"][0]


def test_foreground_rand_penalizes_a_missing_wall() -> None:
    target = np.ones((20, 20), np.uint8)
    target[:, 10] = 0
    merged = np.ones((20, 20), np.uint8)
    assert rand_index.foreground_rand(target, target) == pytest.approx(1.0)
    # two segments of 200 and 180 pixels are merged: p = (200/380)^2 + (180/380)^2, s = 1, t = p
    p = (200 / 380) ** 2 + (180 / 380) ** 2
    assert rand_index.foreground_rand(target, merged) == pytest.approx(p / (0.5 + 0.5 * p))
    assert np.isnan(rand_index.foreground_rand(np.zeros((5, 5), np.uint8), merged[:5, :5]))


def test_psnr_and_ssim_match_their_definitions() -> None:
    target = np.full((32, 32), 100, np.uint8)
    prediction = np.full((32, 32, 1), 110 / 255, np.float32)
    assert image_to_image.psnr(target, prediction) == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    expected = (2 * 100 * 110 + (0.01 * 255) ** 2) / (100**2 + 110**2 + (0.01 * 255) ** 2)
    assert image_to_image.ssim(target, prediction) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("value", "goal", "better", "met"),
    [
        (0.9, {"at_least": 0.8, "at_most": None}, True, True),
        (0.9, {"at_least": 0.8, "at_most": None}, False, False),
        (0.9, {"at_least": 0.8, "at_most": None}, None, True),
        (0.7, {"at_least": 0.8, "at_most": None}, True, False),
        (3.0, {"at_least": None, "at_most": 5.0}, True, True),
        (3.0, {"at_least": None, "at_most": 5.0}, False, False),
        (6.0, {"at_least": None, "at_most": 5.0}, True, False),
        (None, {"at_least": None, "at_most": 5.0}, None, False),
    ],
)
def test_an_objective_is_met_only_within_its_bound_and_by_a_model_that_beats_the_constant_prediction(
    value: float | None, goal: dict[str, Any], better: bool | None, met: bool
) -> None:
    assert compare_with_objective(value, "s", goal, {"better": better})["met"] is met


def test_the_reference_page_lists_every_task_score_representation_and_loss() -> None:
    page = (ROOT / "docs/reference/tasks.md").read_text()
    names = set(TASKS) | {score for task in TASKS.values() for score in task.SCORES} | set(REPRESENTATIONS)
    names |= {loss for kind in REPRESENTATIONS.values() for loss in kind.losses}
    assert {name for name in names if f"`{name}`" not in page} == set()
