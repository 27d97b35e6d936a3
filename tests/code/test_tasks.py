"""One suite for all tasks: a perfect answer scores perfectly, a worse one worse, a weight of two is the image twice."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, bounding_box, encode_rle
from stages.reports import evaluation_report as evaluation
from stages.tasks import TASKS, image_to_image, landmarks, multilabel, ordinal, rand_index, regression, segmentation
from stages.tasks.build_spec import build_task_spec
from stages.tasks.evaluation import summarize
from stages.tasks.landmarks import Points
from stages.tasks.objective import compare_with_objective
from stages.tasks.postprocessing import decode
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_interface import Task
from stages.tasks.task_spec import TaskSpec, task_spec_of
from tests.conftest import ROOT

HEIGHT, WIDTH = 24, 32
COUNT = 12
ONE = np.ones((1, COUNT))


@dataclass(frozen=True)
class Case:
    """Truths of a task, and the graph's outputs for them: perfect at 0, worse as the number grows."""

    spec: TaskSpec
    truths: list[Any]
    outputs: Callable[[np.random.Generator, float], list[dict[str, np.ndarray]]]

    def answers(self, wrongness: float, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [TASKS[self.spec.task].decode(o, self.spec) for o in self.outputs(rng, wrongness)]


def spec(task: str, representation: str, truth: str, **more: Any) -> TaskSpec:
    return TaskSpec(task, representation, truth, size=32, tolerance=more.pop("tolerance", 0.05), **more)


def truths_of(asked: TaskSpec, annotations: list[Annotation], targets: list[Any] | None = None) -> list[Any]:
    kind = TASKS[asked.task]
    return [
        kind.truth(a, t, HEIGHT, WIDTH, asked)
        for a, t in zip(annotations, targets or [None] * len(annotations), strict=True)
    ]


def probabilities(hot: np.ndarray, rng: np.random.Generator, wrongness: float) -> np.ndarray:
    mixed = (1 - min(1.0, wrongness)) * hot + wrongness * rng.random(hot.shape) + 1e-9
    return mixed / mixed.sum(axis=0)


def of_classes(task: str, labels: str) -> Case:
    asked = spec(task, "class", "label", labels=tuple(labels))
    truths = truths_of(asked, [Annotation(labels=(labels[n % len(labels)],)) for n in range(COUNT)])
    return Case(
        asked, truths, lambda rng, w: [{"probability": probabilities(np.eye(len(labels))[t], rng, w)} for t in truths]
    )


def of_several() -> Case:
    asked = spec("multilabel", "classes", "labels", labels=("a", "b"))
    sets: list[tuple[str, ...]] = [(), ("a",), ("b",), ("a", "b")]
    truths = truths_of(asked, [Annotation(labels=sets[n % 4]) for n in range(COUNT)])

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        return [{"probability": (1 - min(1.0, w)) * t + w * rng.random(2)} for t in truths]

    return Case(asked, truths, outputs)


def of_numbers() -> Case:
    asked = spec("regression", "scalar", "scalars", scalars=("n", "m"), deviation=(3.0, 1.0), units={"n": "mm"})
    truths = truths_of(asked, [Annotation(scalars={"n": n + 1.0, "m": float(n % 4) + 1}) for n in range(COUNT)])
    return Case(asked, truths, lambda rng, w: [{"value": t + w * rng.normal(0, 5, 2)} for t in truths])


def of_points() -> Case:
    asked = spec("landmarks", "heatmap", "points", points=("nose", "tail"))
    held = [{"nose": (5.0 + n, 6.0), "tail": None if n == 3 else (20.0, 3.0 + n)} for n in range(COUNT)]
    truths = truths_of(asked, [Annotation(points=h) for h in held])

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        seen = [np.isfinite(t.xy_P2[:, :1]) for t in truths]
        near = [np.nan_to_num(t.xy_P2) + w * rng.normal(0, 5, (2, 2)) for t in truths]
        return [{"point": np.concatenate([xy, s], axis=1)} for xy, s in zip(near, seen, strict=True)]

    return Case(asked, truths, outputs)


def squares(n: int) -> list[np.ndarray]:
    """Two masks that do not touch."""
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 2:8, 2 + n % 5 : 9 + n % 5] = True
    masks[1, 12:20, 15 : 22 + n % 7] = True
    return list(masks)


def of_masks() -> Case:
    asked = spec("segmentation", "mask", "mask", labels=("wall", "room"), tolerance=1.5)
    targets = [np.where(squares(n)[0] | squares(n)[1], 1, 0).astype(np.uint8) for n in range(COUNT)]
    targets[0][0] = IGNORE_INDEX
    truths = truths_of(asked, [Annotation(mask=("wall", "room"))] * COUNT, targets)

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        hot = [np.moveaxis(np.eye(2)[np.where(t == IGNORE_INDEX, 0, t)], 2, 0) for t in truths]
        return [{"probability": probabilities(h, rng, w)} for h in hot]

    return Case(asked, truths, outputs)


def of_images() -> Case:
    asked = spec("image", "image", "image", channels=1)
    targets = [np.random.default_rng(n).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8) for n in range(COUNT)]
    truths = truths_of(asked, [Annotation(image=True)] * COUNT, targets)

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        return [{"restored": (t / 255 + w * rng.normal(0, 0.3, t.shape)).clip(0, 1)[:, :, None]} for t in truths]

    return Case(asked, truths, outputs)


def of_things() -> Case:
    asked = spec("instances", "boxes", "shapes", labels=("a", "b"), masks=True)
    held = [squares(n) for n in range(COUNT)]
    shapes = [
        tuple(ObjectAnnotation("ab"[i], bounding_box(m), encode_rle(m)) for i, m in enumerate(masks)) for masks in held
    ]
    truths = truths_of(asked, [Annotation(shapes=s) for s in shapes])

    def outputs(rng: np.random.Generator, w: float) -> list[dict[str, np.ndarray]]:
        moved = [[np.roll(m, round(w * float(rng.integers(2, 9))), axis=1) for m in masks] for masks in held]
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

    return Case(asked, truths, outputs)


CASES = {
    "classification": of_classes("classification", "abc"),
    "multilabel": of_several(),
    "ordinal": of_classes("ordinal", "abcde"),
    "regression": of_numbers(),
    "landmarks": of_points(),
    "segmentation": of_masks(),
    "image": of_images(),
    "instances": of_things(),
}
PERFECT = {"psnr": 100.0}


def scored(name: str, answers: list[Any], weight_RN: np.ndarray = ONE) -> dict[str, np.ndarray]:
    case = CASES[name]
    return TASKS[name].scores(case.truths, answers, weight_RN, case.spec)


def test_every_task_has_a_case() -> None:
    assert set(CASES) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_perfect_answer_scores_perfectly_and_has_no_error(name: str) -> None:
    kind: Task = TASKS[name]
    case, answers = CASES[name], CASES[name].answers(0)
    found = scored(name, answers)
    assert set(found) == set(kind.SCORES)
    for score, (value,) in found.items():
        better = kind.SCORES[score].better
        assert value == pytest.approx(PERFECT.get(score, 1.0 if better == "higher" else 0.0), abs=1e-5), score
    for truth, answer in zip(case.truths, answers, strict=True):
        assert kind.error(truth, answer, case.spec) == pytest.approx(0, abs=1e-6)
        assert kind.describe(truth, case.spec) and kind.describe(answer, case.spec)


@pytest.mark.parametrize("name", TASKS)
def test_a_worse_answer_scores_worse_by_every_score(name: str) -> None:
    kind = TASKS[name]
    good, bad = scored(name, CASES[name].answers(0.0)), scored(name, CASES[name].answers(1.0))
    for score, how in kind.SCORES.items():
        sign = 1 if how.better == "higher" else -1
        if score == "count_error" or (score == "boundary_error" and not np.isfinite(bad[score][0])):
            continue  # the same number of objects, at other positions
        assert sign * good[score][0] > sign * bad[score][0], score
    case, answers = CASES[name], CASES[name].answers(1.0)
    errors = [kind.error(t, a, case.spec) for t, a in zip(case.truths, answers, strict=True)]
    assert max(errors) > 0 and any(kind.wrong(t, a, case.spec) for t, a in zip(case.truths, answers, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_a_weight_of_two_is_the_image_twice(name: str) -> None:
    case, answers = CASES[name], CASES[name].answers(0.4)
    weight_N = np.array([2, 1, 1, 0, 1, 3, 1, 1, 1, 0, 1, 1], float)
    twice = np.repeat(np.arange(COUNT), weight_N.astype(int))
    weighted = scored(name, answers, weight_N[None])
    repeated = TASKS[name].scores(
        [case.truths[i] for i in twice], [answers[i] for i in twice], np.ones((1, len(twice))), case.spec
    )
    for score, value in weighted.items():
        assert value[0] == pytest.approx(repeated[score][0], abs=1e-9, nan_ok=True), score


@pytest.mark.parametrize("name", TASKS)
def test_a_summary_is_json_with_an_interval_around_every_score(name: str) -> None:
    import json

    case, answers = CASES[name], CASES[name].answers(0.3)
    summary, replicates = summarize(
        case.spec, case.truths, answers, np.arange(COUNT), resamples=100, confidence=0.9, bins=5
    )
    json.dumps(summary, allow_nan=False)
    assert set(replicates) == set(summary["scores"]) and all(len(r) == 101 for r in replicates.values())
    for score, found in summary["scores"].items():
        if found["value"] is not None:
            assert found["low"] <= found["value"] + 1e-9 and found["value"] - 1e-9 <= found["high"], score
    names = TASKS[name].parts(case.truths, answers, ONE, case.spec).names
    assert [row["label"] for row in summary["parts"]["rows"]] == list(names)
    assert evaluation.task_charts(summary)["labels"] == list(names), "the report can show it"
    again, _ = summarize(case.spec, case.truths, answers, np.arange(COUNT), resamples=100, confidence=0.9, bins=5)
    assert again == summary


@pytest.mark.parametrize("name", TASKS)
def test_truths_and_answers_can_be_drawn_and_written(name: str) -> None:
    import json

    case, kind = CASES[name], TASKS[name]
    answer = case.answers(0.1)[1]
    json.dumps(kind.record(answer, case.spec), allow_nan=False)
    for picture in (np.full((HEIGHT, WIDTH), 90, np.uint8), np.full((HEIGHT, WIDTH, 3), 9000, np.uint16)):
        for thing in (case.truths[1], answer):
            drawn = kind.draw(picture, thing, case.spec)
            assert drawn.dtype == np.uint8 and drawn.shape == (HEIGHT, WIDTH, 3)
            if kind.DRAWN:
                assert (drawn != drawn[:1, :1]).any(), "something is seen"


@pytest.mark.parametrize("name", TASKS)
def test_an_outline_survives_json(name: str) -> None:
    import json

    held = CASES[name].spec
    assert task_spec_of(json.loads(json.dumps({**held.as_json(), "version": "x"}))) == held


@pytest.mark.parametrize("name", TASKS)
def test_labels_of_another_kind_are_refused_in_words(name: str) -> None:
    other = Annotation(scalars={"weight": 1.0}) if name != "regression" else Annotation(labels=("a",))
    with pytest.raises(ValueError, match="has "):
        TASKS[name].truth(other, None, HEIGHT, WIDTH, CASES[name].spec)


def test_average_precision_f1_and_auc_equal_scikit_learn_s() -> None:
    case, answers = CASES["multilabel"], CASES["multilabel"].answers(0.8, seed=3)
    true_NK, given_NK = np.stack(case.truths), np.stack(answers).round(1)  # rounded: ties occur
    found = multilabel.scores(case.truths, list(given_NK), ONE, case.spec)
    assert found["mean_average_precision"][0] == pytest.approx(metrics.average_precision_score(true_NK, given_NK))
    assert found["auc"][0] == pytest.approx(metrics.roc_auc_score(true_NK, given_NK))
    for average in ("macro", "micro"):
        assert found[f"{average}_f1"][0] == pytest.approx(metrics.f1_score(true_NK, given_NK >= 0.5, average=average))


def test_kappa_equals_scikit_learn_s_and_the_answer_is_the_median_grade() -> None:
    case, answers = CASES["ordinal"], CASES["ordinal"].answers(0.9, seed=2)
    grades = ordinal.grade(np.stack(answers))
    expected = metrics.cohen_kappa_score(case.truths, grades, weights="quadratic")
    assert ordinal.scores(case.truths, answers, ONE, case.spec)["quadratic_kappa"][0] == pytest.approx(expected)
    assert ordinal.grade(np.array([[0.4, 0.2, 0.4], [0.6, 0.0, 0.4], [0.1, 0.2, 0.7]])).tolist() == [1, 0, 2]


def test_scores_of_numbers_equal_scikit_learn_s() -> None:
    case, answers = CASES["regression"], CASES["regression"].answers(0.5)
    true, given = np.stack(case.truths), np.stack(answers)
    found = regression.scores(case.truths, answers, ONE, case.spec)
    assert found["r2"][0] == pytest.approx(metrics.r2_score(true, given))
    assert found["mean_absolute_error"][0] == pytest.approx(metrics.mean_absolute_error(true, given))
    each = metrics.root_mean_squared_error(true, given, multioutput="raw_values")
    assert found["root_mean_square_error"][0] == pytest.approx(each.mean())
    expected = 100 * metrics.mean_absolute_percentage_error(true, given)
    assert found["mean_absolute_percentage_error"][0] == pytest.approx(expected)


def test_scores_carry_the_unit_that_all_numbers_share() -> None:
    case = CASES["regression"]

    def told(units: dict[str, str]) -> dict[str, Any]:
        asked = replace(case.spec, units=units)
        return summarize(
            asked, case.truths, case.answers(0.5), np.arange(COUNT), resamples=100, confidence=0.9, bins=5
        )[0]

    assert told({"n": "mm", "m": "mm"})["units"]["mean_absolute_error"] == "mm"
    mixed = told({"n": "mm"})
    assert mixed["units"]["mean_absolute_error"] == "", "a mean over several units has none"
    assert mixed["units"]["mean_absolute_percentage_error"] == "%"
    assert [row["label"] for row in mixed["parts"]["rows"]] == ["n, mm", "m"]
    assert mixed["details"]["agreement"]["n"]["unit"] == "mm"


@pytest.mark.parametrize(
    ("task", "units", "says"),
    [
        ("regression", {"wieght": "kg"}, "task.units: wieght is not a number of this task; did you mean `weight`"),
        (
            "classification",
            {"weight": "kg"},
            "task.units: weight: task classification predicts no numbers; leave units empty",
        ),
    ],
)
def test_a_unit_of_no_number_is_told(task: str, units: dict[str, str], says: str, params: Params) -> None:
    asked = params.task.model_dump() | {"name": task, "score": next(iter(TASKS[task].SCORES)), "units": units}
    facts = {"annotations": [Annotation(labels=("a",), scalars={"weight": 1.0})], "depth": 8}
    with pytest.raises(UserError, match=says):
        build_task_spec(asked, params.representation.model_dump(), params.prepare.model_dump(), facts)


def asked_of(
    params: Params, task: str, annotations: list[Annotation], representation: str = "auto", **changes: Any
) -> TaskSpec:
    """Requirements of a task on the labels with default params."""
    section = params.task.model_dump() | {"name": task, "score": next(iter(TASKS[task].SCORES)), **changes}
    how = params.representation.model_dump() | {"name": representation}
    prepare = params.prepare.model_dump() | {"fit": "letterbox"}
    return build_task_spec(section, how, prepare, {"annotations": annotations, "depth": 8})


def test_a_class_that_is_named_twice_is_told(params: Params) -> None:
    annotations = [Annotation(labels=(label,)) for label in "ab"]
    with pytest.raises(UserError, match="task.classes: a, b, a: a class is listed twice"):
        asked_of(params, "classification", annotations, classes=("a", "b", "a"))


def test_a_watershed_of_several_classes_is_refused(params: Params) -> None:
    things = [
        Annotation(shapes=tuple(ObjectAnnotation(label, (0, 0, 2, 2)) for label in labels)) for labels in ("a", "ab")
    ]
    assert asked_of(params, "instances", things[:1], "watershed").labels == ("a",)
    with pytest.raises(UserError, match="watershed supports one class only, but the objects are a, b"):
        asked_of(params, "instances", things, "watershed")


def test_things_without_outline_among_others_are_told(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    mask = squares(0)[0]
    shapes = (ObjectAnnotation("a", bounding_box(mask), encode_rle(mask)), ObjectAnnotation("a", (0, 0, 2, 2)))
    assert not asked_of(params, "instances", [Annotation(shapes=shapes)]).masks
    assert "prepare: 1 objects have a box but no mask, so only boxes are trained and scored" in capsys.readouterr().out


@pytest.mark.parametrize(("truth", "numbers"), [("count", [2, 1]), ("area", [3 / 8, 1 / 8])])
def test_a_background_is_not_counted_wherever_it_stands(truth: str, numbers: list[float], params: Params) -> None:
    masked = Annotation(mask=("cell", "background", "wall"))
    asked = asked_of(params, "regression", [masked], target=truth)
    assert asked.scalars == ("cell", "wall")
    mask = np.array([[0, 0, 1, 0, 1, 1, 1, 2]], np.uint8)
    assert regression.truth(masked, mask, 1, 8, asked).tolist() == pytest.approx(numbers)


def test_things_that_are_called_background_are_no_things_to_measure(params: Params) -> None:
    cell, rest = squares(0)
    shapes = (
        ObjectAnnotation("cell", bounding_box(cell), encode_rle(cell)),
        ObjectAnnotation("background", bounding_box(rest), encode_rle(rest)),
    )
    asked = asked_of(params, "regression", [Annotation(shapes=shapes)], target="area")
    assert (asked.labels, asked.scalars) == (("background", "cell"), ("cell",))
    assert regression.truth(Annotation(shapes=shapes), None, HEIGHT, WIDTH, asked).tolist() == [cell.mean()]


def test_a_mask_is_measured_and_drawn_by_its_classes_wherever_the_background_stands() -> None:
    labels = ("cell", "background")
    measured = spec("regression", "mask", "area", labels=labels, scalars=("cell",))
    probability_KHW = np.zeros((2, 1, 4))
    probability_KHW[0, 0, 0], probability_KHW[1, 0, 1:] = 1, 1
    assert decode({"probability": probability_KHW}, measured).tolist() == [0.25]
    asked = spec("segmentation", "mask", "mask", labels=labels)
    drawn = segmentation.draw(np.full((2, 4), 90, np.uint8), np.array([[0, 1, 1, 1]] * 2, np.uint8), asked)
    assert (drawn[:, 0] != 90).any() and (drawn[:, 1:] == 90).all()


def test_things_and_masks_become_counts_and_areas() -> None:
    shapes = tuple(ObjectAnnotation("ab"[i], bounding_box(m), encode_rle(m)) for i, m in enumerate(squares(0)))
    count = spec("regression", "scalar", "count", labels=("background", "a", "b"), scalars=("a", "b"))
    assert regression.truth(Annotation(shapes=shapes * 2), None, HEIGHT, WIDTH, count).tolist() == [2, 2]
    area = spec("regression", "scalar", "area", labels=("background", "a", "b"), scalars=("a", "b"))
    shares = [m.mean() for m in squares(0)]
    assert regression.truth(Annotation(shapes=shapes), None, HEIGHT, WIDTH, area).tolist() == pytest.approx(shares)
    mask = np.where(squares(0)[0], 1, 0).astype(np.uint8) + 2 * squares(0)[1].astype(np.uint8)
    masked = Annotation(mask=("background", "a", "b"))
    assert regression.truth(masked, mask, HEIGHT, WIDTH, count).tolist() == [1, 1]
    assert regression.truth(masked, mask, HEIGHT, WIDTH, area).tolist() == pytest.approx(shares)


def test_points_are_judged_where_they_are_visible() -> None:
    asked = CASES["landmarks"].spec
    truth = Points(np.array([[0.0, 0.0], [np.nan, np.nan]]), 30, 40)  # diagonal 50: tolerance 2.5 pixels
    answers = [np.array([[0.0, y, 1.0], [9.0, 9.0, 0.1]]) for y in (2.4, 2.6)]
    found = landmarks.scores([truth] * 2, answers, np.ones((1, 2)), asked)
    assert found["pck"][0] == 0.5 and found["pixel_error"][0] == pytest.approx(2.5)
    assert found["normalized_error"][0] == pytest.approx(0.05)


def test_dice_and_iou_are_pooled_and_leave_out_what_is_unknown() -> None:
    asked = spec("segmentation", "mask", "mask", labels=("background", "a"), tolerance=1.0)
    truth = np.array([[0, 1, 1, IGNORE_INDEX]], np.uint8)
    answer = segmentation.Mask(np.array([[1, 1, 0, 1]], np.uint8), None)
    found = segmentation.scores([truth], [answer], np.ones((1, 1)), asked)
    assert found["dice"][0] == pytest.approx(2 * 1 / (2 + 2)) and found["iou"][0] == pytest.approx(1 / 3)
    assert found["pixel_accuracy"][0] == pytest.approx(1 / 3)


def test_a_background_is_not_scored_wherever_it_stands() -> None:
    first, last = (
        spec("segmentation", "mask", "mask", labels=labels, tolerance=1.0)
        for labels in (("background", "a"), ("a", "background"))
    )
    truth, answer = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8)
    expected = segmentation.scores([truth], [segmentation.Mask(answer, None)], np.ones((1, 1)), first)
    turned = segmentation.Mask(1 - answer, None)
    found = segmentation.scores([1 - truth], [turned], np.ones((1, 1)), last)
    for score in ("dice", "iou", "boundary_f1"):
        assert found[score][0] == pytest.approx(expected[score][0]), score
    assert segmentation.record(turned, last) == {"a": 0.75}


def test_boundaries_two_pixels_apart_are_two_pixels_apart() -> None:
    asked = spec("segmentation", "mask", "mask", labels=("background", "a"), tolerance=1.5)
    masks = [np.zeros((40, 40), np.uint8) for _ in range(2)]
    masks[0][:, 10:], masks[1][:, 12:] = 1, 1
    found = segmentation.scores([masks[0]], [segmentation.Mask(masks[1], None)], np.ones((1, 1)), asked)
    assert 1.0 < found["boundary_error"][0] <= 2.0
    wide = spec("segmentation", "mask", "mask", labels=("background", "a"), tolerance=2.5)
    wider = segmentation.scores([masks[0]], [segmentation.Mask(masks[1], None)], np.ones((1, 1)), wide)
    assert wider["boundary_f1"][0] == 1.0 > found["boundary_f1"][0]


def test_the_foreground_rand_score_punishes_a_wall_that_is_missing() -> None:
    truth = np.ones((20, 20), np.uint8)
    truth[:, 10] = 0
    merged = np.ones((20, 20), np.uint8)
    assert rand_index.foreground_rand(truth, truth) == pytest.approx(1.0)
    # 200 and 180 pixels in one piece: p = (200/380)^2 + (180/380)^2, s = 1, t = p
    p = (200 / 380) ** 2 + (180 / 380) ** 2
    assert rand_index.foreground_rand(truth, merged) == pytest.approx(p / (0.5 + 0.5 * p))
    assert np.isnan(rand_index.foreground_rand(np.zeros((5, 5), np.uint8), merged[:5, :5]))


def test_psnr_and_ssim_equal_scikit_image_s_definitions() -> None:
    truth = np.full((32, 32), 100, np.uint8)
    off = np.full((32, 32, 1), 110 / 255, np.float32)
    assert image_to_image.psnr(truth, off) == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)
    expected = (2 * 100 * 110 + (0.01 * 255) ** 2) / (100**2 + 110**2 + (0.01 * 255) ** 2)
    assert image_to_image.ssim(truth, off) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [
        (0.9, {"at_least": 0.8, "at_most": None}, True),
        (0.7, {"at_least": 0.8, "at_most": None}, False),
        (3.0, {"at_least": None, "at_most": 5.0}, True),
        (6.0, {"at_least": None, "at_most": 5.0}, False),
        (None, {"at_least": None, "at_most": 5.0}, False),
    ],
)
def test_an_objective_is_met_from_its_side(value: float | None, goal: dict[str, Any], met: bool) -> None:
    assert compare_with_objective(value, "s", goal)["met"] is met


def test_the_reference_names_every_task_score_representation_and_loss() -> None:
    page = (ROOT / "docs/reference/tasks.md").read_text()
    wanted = set(TASKS) | {score for task in TASKS.values() for score in task.SCORES} | set(REPRESENTATIONS)
    wanted |= {loss for kind in REPRESENTATIONS.values() for loss in kind.losses}
    assert {name for name in wanted if f"`{name}`" not in page} == set()
