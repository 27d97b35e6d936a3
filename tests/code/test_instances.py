"""Instances are scored as by pycocotools, split by watershed, learned, and predicted equally by torch and ONNX."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection.roi_heads import paste_masks_in_image

from stages.dataset.annotations import Annotation, ObjectAnnotation, bounding_box, decode_rle, encode_rle
from stages.export import to_onnx
from stages.images.geometry import placements
from stages.networks.mask_rcnn_export import ExportedDetector, at_original_size
from stages.networks.network_config import NetworkConfig
from stages.networks.network_registry import build
from stages.preprocessing.resize import fit_image, scale
from stages.tasks import average_precision, instances
from stages.tasks.instances import Instances
from stages.tasks.postprocessing import difference
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec
from stages.tasks.watershed import watershed_instances

Array = np.ndarray[Any, Any]
SIDE = 64
COUNTED = TaskSpec("regression", "density", "count", labels=("disc",), scalars=("disc",), size=SIDE, radius=2.0)


def spec(classes: int = 1, masks: bool = True, **changes: Any) -> TaskSpec:
    names = ("disc", "square", "ring")[:classes]
    held: dict[str, Any] = {
        "task": "instances",
        "representation": "boxes",
        "target": "shapes",
        "labels": names,
        "masks": masks,
    }
    return TaskSpec(**held | {"size": SIDE, "fit": "letterbox"} | changes)


def disc(x: float, y: float, radius: float, height: int = SIDE, width: int = SIDE) -> Array:
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def of_masks(
    masks: list[Array], labels: Any, scores: Any, crowd: Any = None, size: tuple[int, int] = (SIDE, SIDE)
) -> Instances:
    boxes = np.array([bounding_box(m) for m in masks], np.float32).reshape(-1, 4)
    crowd_M = np.zeros(len(masks), bool) if crowd is None else np.array(crowd, bool)
    runs = [encode_rle(m) for m in masks]
    return Instances(boxes, np.array(labels, np.int64), np.array(scores, np.float32), runs, crowd_M, *size)


def nothing(height: int = SIDE, width: int = SIDE) -> Instances:
    return of_masks([], [], [], size=(height, width))


def pairs(
    rng: np.random.Generator, images: int, classes: int, digits: int = 1
) -> tuple[list[Instances], list[Instances]]:
    """Discs and answers that are shifted, missing, invented, doubled; equal scores and crowds occur."""
    truths, answers = [], []
    for number in range(images):
        places = [
            (*rng.uniform(10, 54, 2), rng.uniform(4, 9), rng.integers(classes)) for _ in range(rng.integers(0, 9))
        ]
        crowd = [rng.random() < 0.1 for _ in places]
        masks = [disc(x, y, r) for x, y, r, _ in places]
        truths.append(of_masks(masks, [p[3] for p in places], np.ones(len(places)), crowd))
        given = [p for p in places if rng.random() < 0.8] + [p for p in places if rng.random() < 0.3]
        given += [(*rng.uniform(10, 54, 2), 5.0, rng.integers(classes)) for _ in range(rng.integers(0, 4))]
        moved = [disc(x + rng.normal(), y + rng.normal(), r * rng.uniform(0.8, 1.2)) for x, y, r, _ in given]
        moved = [] if number == 0 else moved
        labels = [p[3] for p in given][: len(moved)]
        answers.append(of_masks(moved, labels, rng.random(len(moved)).round(digits)))
    return truths, answers


def without_masks(things: Instances) -> Instances:
    return Instances(things.box_M4, things.label_M, things.score_M, None, things.crowd_M, things.height, things.width)


def dataset(things: list[Instances], classes: int, masks: bool) -> COCO:
    annotations: list[dict[str, Any]] = []
    for n, one in enumerate(things):
        for m, (x0, y0, x1, y1) in enumerate(one.box_M4.astype(float).tolist()):
            held: dict[str, Any] = {"id": len(annotations) + 1, "image_id": n, "category_id": int(one.label_M[m])}
            held |= {"iscrowd": int(one.crowd_M[m]), "score": float(one.score_M[m])}
            held |= {"area": (x1 - x0) * (y1 - y0), "bbox": [x0, y0, x1 - x0, y1 - y0]}
            if masks:
                assert one.mask_M is not None
                runs = {"size": [one.height, one.width], "counts": list(one.mask_M[m])}
                held["segmentation"] = coco_mask.frPyObjects(runs, one.height, one.width)
            annotations.append(held)
    made = COCO()
    made.dataset = {
        "images": [{"id": n, "height": t.height, "width": t.width} for n, t in enumerate(things)],
        "categories": [{"id": k} for k in range(classes)],
        "annotations": annotations,
    }
    made.createIndex()
    return made


def by_pycocotools(truths: list[Instances], answers: list[Instances], classes: int, masks: bool) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(dataset(truths, classes, masks), dataset(answers, classes, masks), "segm" if masks else "bbox")
        judge.params.maxDets = [1, 100, average_precision.MAX_DETECTIONS]
        judge.evaluate()
        judge.accumulate()
    precision_TRK, recall_TK = judge.eval["precision"][..., 0, 2], judge.eval["recall"][..., 0, 2]
    known_K = recall_TK[0] > -1
    return {
        "average_precision": precision_TRK[:, :, known_K].mean(),
        "average_precision_50": precision_TRK[0][:, known_K].mean(),
        "average_precision_75": precision_TRK[5][:, known_K].mean(),
        "recall_50": recall_TK[0, known_K].mean(),
    }


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_those_of_pycocotools_for_every_weight(masks: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ties = seed == 0  # their order decides, and an image drawn twice has another: only of the data as they are
    truths, answers = pairs(rng, 12, 3, digits=1 if ties else 6)
    if not masks:
        truths, answers = [without_masks(t) for t in truths], [without_masks(a) for a in answers]
    weight_RN = np.concatenate([np.ones((1, 12)), rng.multinomial(12, np.full(12, 1 / 12), 0 if ties else 3)])
    found = instances.scores(truths, answers, weight_RN, spec(3, masks))
    assert set(found) == set(instances.SCORES)
    for r, weight_N in enumerate(weight_RN.astype(int)):
        drawn = np.repeat(np.arange(12), weight_N)
        expected = by_pycocotools([truths[i] for i in drawn], [answers[i] for i in drawn], 3, masks)
        for name, value in expected.items():
            assert found[name][r] == pytest.approx(value, abs=1e-9), (name, r)
        repeated, given = ([things[i] for i in drawn] for things in (truths, answers))
        plain = instances.scores(repeated, given, np.ones((1, len(drawn))), spec(3, masks))
        for name in ("dsb_score", "count_error"):
            assert found[name][r] == pytest.approx(plain[name][0]), (name, r)


def test_a_hundred_things_are_scored_as_pycocotools_does() -> None:
    """Rounding decides if recalls equal the positions at which precision is read; 198 nuclei are in one image."""
    rng = np.random.default_rng(0)
    corner_M2 = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=2).reshape(-1, 2) * 6.0
    box_M4 = np.concatenate([corner_M2, corner_M2 + 5], axis=1).astype(np.float32)
    none = np.zeros(100, bool)
    truth = Instances(box_M4, none.astype(int), np.ones(100, np.float32), None, none, SIDE, SIDE)
    off_M4 = box_M4 + (rng.random((100, 1)) < 0.3) * 3
    answer = Instances(
        off_M4.astype(np.float32), none.astype(int), rng.random(100).astype(np.float32), None, none, SIDE, SIDE
    )
    found = instances.scores([truth], [answer], np.ones((1, 1)), spec(1, masks=False))
    for name, value in by_pycocotools([truth], [answer], 1, masks=False).items():
        assert found[name][0] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("masks", [True, False])
def test_flawless_answers_get_flawless_scores(masks: bool) -> None:
    truths, _ = pairs(np.random.default_rng(0), 8, 2)
    kept = [of_masks([decode_rle(r, SIDE, SIDE) for r in t.mask_M or ()], t.label_M, t.score_M) for t in truths]
    if not masks:
        kept = [without_masks(t) for t in kept]
    found = instances.scores(kept, kept, np.ones((1, 8)), spec(2, masks))
    for name, value_R in found.items():
        assert value_R[0] == pytest.approx(0.0 if name == "count_error" else 1.0), name
    assert [instances.error(t, t, spec(2, masks)) for t in kept] == [0.0] * 8


def test_a_crowd_is_neither_missed_nor_wrongly_claimed() -> None:
    one, crowd = disc(15, 15, 6), np.zeros((SIDE, SIDE), bool)
    crowd[35:60, 35:60] = True
    truth = of_masks([one, crowd], [0, 0], [1, 1], [False, True])
    ones = np.ones((1, 1))
    for answer in (of_masks([one], [0], [0.9]), of_masks([one, disc(45, 45, 4)], [0, 0], [0.8, 0.9])):
        found = instances.scores([truth], [answer], ones, spec())
        assert {name: value_R[0] for name, value_R in found.items() if name != "count_error"} == pytest.approx(
            dict.fromkeys(set(instances.SCORES) - {"count_error"}, 1.0)
        )
        assert instances.error(truth, answer, spec()) == 0.0
        assert found["count_error"][0] == 0.0


def test_images_and_classes_without_things() -> None:
    one, ones = of_masks([disc(20, 20, 8)], [0], [0.9]), np.ones((1, 2))
    good = instances.scores([one, nothing()], [one, nothing()], ones, spec(2))
    assert good["average_precision"][0] == good["dsb_score"][0] == 1.0  # the class without objects is left out
    claimed = instances.scores([one, nothing()], [one, one], ones, spec(2))
    assert claimed["dsb_score"][0] == 0.5
    assert claimed["count_error"][0] == 0.25
    missed = instances.scores([one, nothing()], [nothing(), nothing()], ones, spec(2))
    assert missed["average_precision"][0] == missed["recall_50"][0] == 0.0
    empty = instances.scores([nothing()] * 2, [nothing()] * 2, ones, spec(2))
    assert np.isnan(empty["average_precision"][0])
    assert empty["dsb_score"][0] == 1.0
    assert instances.error(nothing(), one, spec()) == instances.error(one, nothing(), spec()) == 1.0


def test_truth_and_answer_are_read_drawn_and_written() -> None:
    mask = disc(20, 30, 8, 60, 80)
    shape = ObjectAnnotation("square", bounding_box(mask), encode_rle(mask))
    truth = instances.truth(Annotation(shapes=(shape,)), None, 60, 80, spec(2))
    outputs = {
        "box": truth.box_M4, "label": truth.label_M, "score": np.array([0.75], np.float32),
        "mask": mask[None].astype(np.uint8), "size": np.array([60, 80]),
    }  # fmt: skip
    answer = instances.decode(outputs, spec(2))
    assert answer.mask_M == truth.mask_M
    assert instances.error(truth, answer, spec(2)) == 0.0
    assert instances.describe(answer, spec(2)) == "1 square"
    assert instances.describe(nothing(), spec(2)) == "nothing"
    thing = instances.record(answer, spec(2))["things"][0]
    assert thing["label"] == "square"
    assert thing["bbox"] == [12.0, 22.0, 17.0, 17.0]
    assert np.array_equal(decode_rle(thing["segmentation"]["counts"], 60, 80), mask)
    image = np.zeros((60, 80), np.uint8)
    for things in (answer, without_masks(answer)):
        drawn = instances.draw(image, things, spec(2))
        assert drawn.shape == (60, 80, 3)
        assert drawn.any()
    with pytest.raises(ValueError, match="has no objects"):
        instances.truth(Annotation(labels=("a",)), None, 60, 80, spec())


def test_crowds_are_taught_neither_as_pieces_nor_as_density() -> None:
    one, crowd = disc(15, 15, 6), disc(45, 45, 8)
    truth = of_masks([one, crowd], [0, 0], [1, 1], [False, True])
    (frame,) = placements(SIDE, SIDE, "letterbox", SIDE, 0.0)
    id_SS = REPRESENTATIONS["watershed"].target(truth, frame, spec(representation="watershed"))
    assert np.array_equal(id_SS, one.astype(int))
    density_SSC = REPRESENTATIONS["density"].target(truth, frame, COUNTED)
    assert density_SSC.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (SIDE, SIDE - 1)])
def test_a_density_sums_to_the_count_inside_the_image(height: int, width: int) -> None:
    """Objects at an edge next to the padding are folded back."""
    places = [(3, 3), (width - 3, height - 3), (width - 3, 3), (3, height - 3)]
    truth = of_masks([disc(x, y, 2, height, width) for x, y in places], [0] * 4, [1] * 4, size=(height, width))
    (frame,) = placements(height, width, "letterbox", SIDE, 0.0)
    density_SSC = REPRESENTATIONS["density"].target(truth, frame, COUNTED)
    assert density_SSC[: frame.inner_height, : frame.inner_width].sum() == pytest.approx(4, abs=1e-4)
    assert density_SSC.sum() == pytest.approx(4, abs=1e-4)


def outputs(*things: tuple[float, int, float]) -> dict[str, Array]:
    """Boxes of 10 pixels by their left edge, label and score."""
    left_M = np.array([left for left, _, _ in things], np.float32)
    return {
        "box": np.stack([left_M, 0 * left_M, left_M + 10, 0 * left_M + 10], axis=1),
        "label": np.array([label for _, label, _ in things], np.int64),
        "score": np.array([score for _, _, score in things], np.float32),
    }


WEAK = (90.0, 0, 0.05)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ([(0, 0, 0.81), (50, 0, 0.8), WEAK], [(50, 0, 0.81), (0, 0, 0.8), WEAK], 0.01),  # near ties change places
        ([(0, 0, 0.9), WEAK], [(0, 0, 0.9), (50, 0, 0.4), WEAK], 0.0),  # a single unsure one: a near tie
        ([(0, 0, 0.9), (70, 0, 0.3)], [(0, 0, 0.9), (50, 0, 0.4)], 0.35),  # two are more than a tie
        ([(0, 0, 0.9), WEAK], [(0, 0, 0.9), (50, 0, 0.85), WEAK], 0.35),  # sure, and only one has found it
        ([(0, 0, 0.9), WEAK], [(0, 1, 0.9), WEAK], 0.85),  # of another class
        ([(0, 0, 0.9)], [], 0.4),  # found by one alone
        ([(0, 0, 0.9)], [(50, 0, 0.9)], 0.85),  # elsewhere
        ([], [], 0.0),
    ],
)
def test_things_are_held_against_their_counterparts(one: Any, other: Any, apart: float) -> None:
    for a, b in ((one, other), (other, one)):
        assert difference(outputs(*a), outputs(*b), spec(2), 100.0) == pytest.approx(apart, abs=1e-6)


def three_classes(masks: list[Array]) -> Array:
    """Return background, interior and boundary as training targets, [3, H, W]; the rim of each object is boundary."""
    from scipy import ndimage

    id_HW = np.zeros(masks[0].shape, int)
    for number, mask in enumerate(masks):
        id_HW[mask] = number + 1
    lowest, highest = ndimage.minimum_filter(id_HW, 3), ndimage.maximum_filter(id_HW, 3)
    index_HW = np.where(id_HW == 0, 0, np.where(lowest == highest, 1, 2))
    return np.moveaxis(np.eye(3)[index_HW], 2, 0)


def test_a_watershed_parts_touching_discs() -> None:
    masks = [disc(18, 30, 10), disc(37, 30, 9), disc(28, 47, 9)]
    noise = disc(58, 8, 1)
    probability_3HW = three_classes([*masks, noise])
    answer = instances.decode({"probability": probability_3HW}, spec(representation="watershed"))
    truth = of_masks(masks, [0, 0, 0], [1, 1, 1])
    assert len(answer.label_M) == 3
    assert average_precision.pairwise_iou(answer, truth).max(axis=0).min() > 0.9
    assert answer.score_M.min() > 0.9
    assert not watershed_instances(probability_3HW)[0][noise].any()


def test_a_watershed_of_nothing_is_nothing() -> None:
    probability_3HW = np.zeros((3, 20, 30))
    probability_3HW[0] = 1
    answer = instances.decode({"probability": probability_3HW}, spec(representation="watershed"))
    assert (len(answer.label_M), answer.height, answer.width) == (0, 20, 30)
    assert answer.box_M4.shape == (0, 4)


def network(masks: bool = True, classes: int = 2, size: int = SIDE) -> Any:
    torch.manual_seed(0)
    return build(NetworkConfig("mask_rcnn", "resnet18", 3, classes, "batch", 0.0, size, masks))


def scene(rng: np.random.Generator, things: int) -> tuple[Array, list[Array], list[int]]:
    """uint8 [64, 64, 3] with a red or blue disc in each of some quarters."""
    image, masks, labels = rng.integers(20, 60, (SIDE, SIDE, 3)).astype(np.uint8), [], []
    for quarter in rng.permutation(4)[:things]:
        x, y = (np.array([quarter % 2, quarter // 2]) * 32 + 16 + rng.uniform(-4, 4, 2)).tolist()
        masks.append(disc(x, y, rng.uniform(7, 11)))
        labels.append(int(rng.integers(2)))
        image[masks[-1]] = [(220, 40, 40), (40, 40, 220)][labels[-1]]
    return image, masks, labels


def taught(masks: list[Array], labels: list[int]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([bounding_box(m) for m in masks]).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, SIDE, SIDE)),
    }


def learn(model: Any, scenes: list[Any], steps: int) -> float:
    image_BCHW = torch.from_numpy(np.stack([image for image, _, _ in scenes])).permute(0, 3, 1, 2).float() / 255
    targets = [taught(masks, labels) for _, masks, labels in scenes]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    loss = torch.tensor(0.0)
    for _ in range(steps):
        loss = sum(model(image_BCHW, targets).values(), torch.tensor(0.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.fixture(scope="module")
def learned() -> tuple[Any, list[Any]]:
    """Train a network on four images until it predicts them exactly; one of them is empty."""
    rng = np.random.default_rng(0)
    scenes = [scene(rng, n) for n in (3, 4, 2, 0)]
    model = network()
    learn(model, scenes, 80)
    return model.eval(), scenes


def answer_of(outputs: Any, height: int, width: int, of: TaskSpec) -> Instances:
    names = ("box", "label", "score", "mask")[: len(outputs)]
    arrays = {name: np.asarray(values) for name, values in zip(names, outputs, strict=True)}
    return instances.decode(arrays | {"size": np.array([height, width])}, of)


@pytest.mark.slow
def test_mask_rcnn_learns_four_images_by_heart(learned: tuple[Any, list[Any]]) -> None:
    model, scenes = learned
    shipped, of = ExportedDetector(model, SIDE, True).eval(), spec(2)
    with torch.inference_mode():
        answers = [answer_of(shipped(torch.from_numpy(image)[None]), SIDE, SIDE, of) for image, _, _ in scenes]
    truths = [of_masks(masks, labels, np.ones(len(labels))) for _, masks, labels in scenes]
    found = instances.scores(truths, answers, np.ones((1, 4)), of)
    assert found["average_precision_50"][0] > 0.8, found
    assert found["dsb_score"][0] > 0.4, found


@pytest.mark.parametrize("masks", [True, False])
def test_batches_without_things_can_be_learned_from(masks: bool) -> None:
    scenes = [scene(np.random.default_rng(n), 0) for n in range(2)]
    assert np.isfinite(learn(network(masks), scenes, 1))


def test_boxes_and_anchors_are_not_rounded_under_autocast() -> None:
    model, (image, masks, labels) = network(), scene(np.random.default_rng(0), 3)
    image_BCHW = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.train()(image_BCHW, [taught(masks, labels)])
        found = model.eval()(image_BCHW)[0]
    assert all(torch.isfinite(loss) for loss in losses.values())
    box_M4 = found["boxes"]
    assert len(box_M4) and box_M4.dtype == torch.float32
    assert not torch.equal(box_M4, box_M4.bfloat16().float())


def exported(model: Any, masks: bool, file: Path) -> onnxruntime.InferenceSession:
    to_onnx(model, spec(2, masks), file)
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def assert_alike(found: Any, expected: Any) -> None:
    """box, label, score and perhaps mask; a mask may differ where its probability is one half."""
    assert [np.shape(f) for f in found] == [tuple(e.shape) for e in expected]
    for a, b in zip(found[:3], expected[:3], strict=True):
        assert np.asarray(a, float) == pytest.approx(np.asarray(b, float), abs=1e-3)
    for a, b in zip(found[3:], expected[3:], strict=True):
        assert a.dtype == np.uint8
        assert (a != np.asarray(b)).mean() < 1e-3 if a.size else True


@pytest.mark.slow
def test_onnx_torch_and_torchvision_find_the_same(learned: tuple[Any, list[Any]], tmp_path: Path) -> None:
    model, scenes = learned
    shipped, session = ExportedDetector(model, SIDE, True).eval(), exported(model, True, tmp_path / "model.onnx")
    sizes, seen = [(SIDE, SIDE), (48, 96), (150, 101)], 0
    for (height, width), (image, _, _) in zip(sizes, scenes[:3], strict=True):
        resized = np.kron(image, np.ones((3, 2, 1), np.uint8))[:height, :width]
        given = torch.from_numpy(image if (height, width) == (SIDE, SIDE) else resized)[None]
        with torch.inference_mode():
            by_torch = shipped(given)
            working = scale(fit_image(given, "letterbox", SIDE))
            by_torchvision = at_original_size(model(working)[0], height, width, SIDE)
        by_onnx = session.run(None, {"image": given.numpy()})
        seen += len(by_onnx[1])
        assert_alike(by_onnx, by_torch)
        assert_alike(by_onnx, list(by_torchvision.values()))
    assert seen >= 3  # how much is found is the test above; that both find it is this one


@pytest.mark.slow
def test_an_image_without_things_is_answered_with_none(learned: tuple[Any, list[Any]], tmp_path: Path) -> None:
    session = exported(learned[0], True, tmp_path / "model.onnx")
    box, label, score, mask = session.run(None, {"image": np.zeros((1, 30, 40, 3), np.uint8)})
    assert (box.shape, label.shape, score.shape, mask.shape) == ((0, 4), (0,), (0,), (0, 30, 40))


def test_hundreds_of_boxes_of_an_untrained_network_are_answered_alike(tmp_path: Path) -> None:
    untrained = network().eval()
    session = exported(untrained, True, tmp_path / "untrained.onnx")
    image = np.random.default_rng(0).integers(0, 255, (1, 70, 50, 3)).astype(np.uint8)
    with torch.inference_mode():
        by_torch = ExportedDetector(untrained, SIDE, True).eval()(torch.from_numpy(image))
    assert len(by_torch) == 4
    assert len(by_torch[0]) > 20
    assert_alike(session.run(None, {"image": image}), by_torch)


def test_masks_are_pasted_as_torchvision_does() -> None:
    """Torchvision rounds boxes to whole pixels, we do not: they part at the rims."""
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing="ij")
    mask_M1XX = ((0.9 - (rows**2 + columns**2).sqrt()) * 4).sigmoid().expand(20, 1, -1, -1)
    corner_M2 = torch.rand(20, 2) * 80
    box_M4 = torch.cat([corner_M2, corner_M2 + 10 + torch.rand(20, 2) * 40], dim=1).clamp(0, 100)
    found = {"boxes": box_M4 * SIDE / 100, "labels": torch.zeros(20), "scores": torch.ones(20), "masks": mask_M1XX}
    ours = at_original_size(found, 100, 100, SIDE)["mask"].bool()
    theirs = paste_masks_in_image(mask_M1XX, box_M4, (100, 100))[:, 0] > 0.5
    iou_M = (ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))
    assert iou_M.min() > 0.8
    assert iou_M.mean() > 0.9
