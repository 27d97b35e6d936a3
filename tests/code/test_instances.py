"""Tests of instances: scores equal those of pycocotools, and torch and ONNX Runtime predict the same objects."""

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
from torch import nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from stages.dataset.annotations import Annotation, ObjectAnnotation, bounding_box, decode_rle, encode_rle
from stages.export import to_onnx
from stages.images.geometry import placements
from stages.networks.mask_rcnn import enable_losses
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
from tests.conftest import ROOT

Array = np.ndarray[Any, Any]
SIDE = 64
COUNTED = TaskSpec("regression", "density", "count", labels=("disc",), scalars=("disc",), size=SIDE, radius=2.0)


def spec(classes: int = 1, masks: bool = True, **changes: Any) -> TaskSpec:
    names = ("disc", "square", "ring")[:classes]
    values: dict[str, Any] = {
        "task": "instances",
        "representation": "boxes",
        "target": "shapes",
        "labels": names,
        "masks": masks,
    }
    return TaskSpec(**values | {"size": SIDE, "fit": "letterbox"} | changes)


def disc(x: float, y: float, radius: float, height: int = SIDE, width: int = SIDE) -> Array:
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def from_masks(
    masks: list[Array], labels: Any, scores: Any, crowd: Any = None, size: tuple[int, int] = (SIDE, SIDE)
) -> Instances:
    boxes = np.array([bounding_box(m) for m in masks], np.float32).reshape(-1, 4)
    crowd_M = np.zeros(len(masks), bool) if crowd is None else np.array(crowd, bool)
    runs = [encode_rle(m) for m in masks]
    return Instances(boxes, np.array(labels, np.int64), np.array(scores, np.float32), runs, crowd_M, *size)


def no_objects(height: int = SIDE, width: int = SIDE) -> Instances:
    return from_masks([], [], [], size=(height, width))


def random_targets_and_predictions(
    rng: np.random.Generator, images: int, classes: int, digits: int = 1
) -> tuple[list[Instances], list[Instances]]:
    """Return discs as targets, and shifted, missing, spurious and duplicate predictions, with ties and crowds."""
    targets, predictions = [], []
    for number in range(images):
        circles = [
            (*rng.uniform(10, 54, 2), rng.uniform(4, 9), rng.integers(classes)) for _ in range(rng.integers(0, 9))
        ]
        crowd = [rng.random() < 0.1 for _ in circles]
        masks = [disc(x, y, r) for x, y, r, _ in circles]
        targets.append(from_masks(masks, [c[3] for c in circles], np.ones(len(circles)), crowd))
        predicted = [c for c in circles if rng.random() < 0.8] + [c for c in circles if rng.random() < 0.3]
        predicted += [(*rng.uniform(10, 54, 2), 5.0, rng.integers(classes)) for _ in range(rng.integers(0, 4))]
        shifted = [disc(x + rng.normal(), y + rng.normal(), r * rng.uniform(0.8, 1.2)) for x, y, r, _ in predicted]
        shifted = [] if number == 0 else shifted
        labels = [c[3] for c in predicted][: len(shifted)]
        predictions.append(from_masks(shifted, labels, rng.random(len(shifted)).round(digits)))
    return targets, predictions


def without_masks(objects: Instances) -> Instances:
    return Instances(
        objects.box_M4, objects.label_M, objects.score_M, None, objects.crowd_M, objects.height, objects.width
    )


def coco_dataset(images: list[Instances], classes: int, masks: bool) -> COCO:
    annotations: list[dict[str, Any]] = []
    for n, image in enumerate(images):
        for m, (x0, y0, x1, y1) in enumerate(image.box_M4.astype(float).tolist()):
            annotation: dict[str, Any] = {"id": len(annotations) + 1, "image_id": n}
            annotation |= {"category_id": int(image.label_M[m])}
            annotation |= {"iscrowd": int(image.crowd_M[m]), "score": float(image.score_M[m])}
            annotation |= {"area": (x1 - x0) * (y1 - y0), "bbox": [x0, y0, x1 - x0, y1 - y0]}
            if masks:
                assert image.mask_M is not None
                runs = {"size": [image.height, image.width], "counts": list(image.mask_M[m])}
                annotation["segmentation"] = coco_mask.frPyObjects(runs, image.height, image.width)
            annotations.append(annotation)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": n, "height": image.height, "width": image.width} for n, image in enumerate(images)],
        "categories": [{"id": k} for k in range(classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def pycocotools_scores(
    targets: list[Instances], predictions: list[Instances], classes: int, masks: bool
) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        kind = "segm" if masks else "bbox"
        evaluator = COCOeval(coco_dataset(targets, classes, masks), coco_dataset(predictions, classes, masks), kind)
        evaluator.params.maxDets = [1, 100, average_precision.MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    precision_TRK, recall_TK = evaluator.eval["precision"][..., 0, 2], evaluator.eval["recall"][..., 0, 2]
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
    # The scores of ties depend on their order, which resampling changes: with ties, test unit weights only.
    ties = seed == 0
    targets, predictions = random_targets_and_predictions(rng, 12, 3, digits=1 if ties else 6)
    if not masks:
        targets, predictions = [without_masks(t) for t in targets], [without_masks(p) for p in predictions]
    weight_RN = np.concatenate([np.ones((1, 12)), rng.multinomial(12, np.full(12, 1 / 12), 0 if ties else 3)])
    scores = instances.scores(targets, predictions, weight_RN, spec(3, masks))
    assert set(scores) == set(instances.SCORES)
    for r, weight_N in enumerate(weight_RN.astype(int)):
        sampled = np.repeat(np.arange(12), weight_N)
        expected = pycocotools_scores([targets[i] for i in sampled], [predictions[i] for i in sampled], 3, masks)
        for name, value in expected.items():
            assert scores[name][r] == pytest.approx(value, abs=1e-9), (name, r)
        sampled_targets, sampled_predictions = ([objects[i] for i in sampled] for objects in (targets, predictions))
        unweighted = instances.scores(sampled_targets, sampled_predictions, np.ones((1, len(sampled))), spec(3, masks))
        for name in ("dsb_score", "count_error"):
            assert scores[name][r] == pytest.approx(unweighted[name][0]), (name, r)


def test_a_hundred_objects_are_scored_as_by_pycocotools() -> None:
    """Rounding decides whether recalls reach the thresholds at which precision is read; images can have 198 nuclei."""
    rng = np.random.default_rng(0)
    corner_M2 = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=2).reshape(-1, 2) * 6.0
    box_M4 = np.concatenate([corner_M2, corner_M2 + 5], axis=1).astype(np.float32)
    none = np.zeros(100, bool)
    target = Instances(box_M4, none.astype(int), np.ones(100, np.float32), None, none, SIDE, SIDE)
    off_M4 = box_M4 + (rng.random((100, 1)) < 0.3) * 3
    prediction = Instances(
        off_M4.astype(np.float32), none.astype(int), rng.random(100).astype(np.float32), None, none, SIDE, SIDE
    )
    found = instances.scores([target], [prediction], np.ones((1, 1)), spec(1, masks=False))
    for name, value in pycocotools_scores([target], [prediction], 1, masks=False).items():
        assert found[name][0] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("masks", [True, False])
def test_perfect_predictions_get_perfect_scores(masks: bool) -> None:
    targets, _ = random_targets_and_predictions(np.random.default_rng(0), 8, 2)
    targets = [from_masks([decode_rle(r, SIDE, SIDE) for r in t.mask_M or ()], t.label_M, t.score_M) for t in targets]
    if not masks:
        targets = [without_masks(t) for t in targets]
    scores = instances.scores(targets, targets, np.ones((1, 8)), spec(2, masks))
    for name, value_R in scores.items():
        assert value_R[0] == pytest.approx(0.0 if name == "count_error" else 1.0), name
    assert [instances.error(t, t, spec(2, masks)) for t in targets] == [0.0] * 8


def test_a_crowd_counts_neither_as_missed_nor_as_false_positive() -> None:
    one, crowd = disc(15, 15, 6), np.zeros((SIDE, SIDE), bool)
    crowd[35:60, 35:60] = True
    target = from_masks([one, crowd], [0, 0], [1, 1], [False, True])
    ones = np.ones((1, 1))
    for prediction in (from_masks([one], [0], [0.9]), from_masks([one, disc(45, 45, 4)], [0, 0], [0.8, 0.9])):
        found = instances.scores([target], [prediction], ones, spec())
        assert {name: value_R[0] for name, value_R in found.items() if name != "count_error"} == pytest.approx(
            dict.fromkeys(set(instances.SCORES) - {"count_error"}, 1.0)
        )
        assert instances.error(target, prediction, spec()) == 0.0
        assert found["count_error"][0] == 0.0


def test_images_and_classes_without_objects_are_scored() -> None:
    one, ones = from_masks([disc(20, 20, 8)], [0], [0.9]), np.ones((1, 2))
    good = instances.scores([one, no_objects()], [one, no_objects()], ones, spec(2))
    assert good["average_precision"][0] == good["dsb_score"][0] == 1.0  # the class without objects is left out
    spurious = instances.scores([one, no_objects()], [one, one], ones, spec(2))
    assert spurious["dsb_score"][0] == 0.5
    assert spurious["count_error"][0] == 0.25
    missed = instances.scores([one, no_objects()], [no_objects(), no_objects()], ones, spec(2))
    assert missed["average_precision"][0] == missed["recall_50"][0] == 0.0
    empty = instances.scores([no_objects()] * 2, [no_objects()] * 2, ones, spec(2))
    assert np.isnan(empty["average_precision"][0])
    assert empty["dsb_score"][0] == 1.0
    assert instances.error(no_objects(), one, spec()) == instances.error(one, no_objects(), spec()) == 1.0


def test_target_and_prediction_are_parsed_drawn_and_written() -> None:
    mask = disc(20, 30, 8, 60, 80)
    shape = ObjectAnnotation("square", bounding_box(mask), encode_rle(mask))
    target = instances.truth(Annotation(shapes=(shape,)), None, 60, 80, spec(2))
    outputs = {
        "box": target.box_M4, "label": target.label_M, "score": np.array([0.75], np.float32),
        "mask": mask[None].astype(np.uint8), "size": np.array([60, 80]),
    }  # fmt: skip
    prediction = instances.decode(outputs, spec(2))
    assert prediction.mask_M == target.mask_M
    assert instances.error(target, prediction, spec(2)) == 0.0
    assert instances.describe(prediction, spec(2)) == "1 square"
    assert instances.describe(no_objects(), spec(2)) == "nothing"
    record = instances.record(prediction, spec(2))["things"][0]
    assert record["label"] == "square"
    assert record["bbox"] == [12.0, 22.0, 17.0, 17.0]
    assert np.array_equal(decode_rle(record["segmentation"]["counts"], 60, 80), mask)
    image = np.zeros((60, 80), np.uint8)
    for objects in (prediction, without_masks(prediction)):
        drawn = instances.draw(image, objects, spec(2))
        assert drawn.shape == (60, 80, 3)
        assert drawn.any()
    with pytest.raises(ValueError, match="has no objects"):
        instances.truth(Annotation(labels=("a",)), None, 60, 80, spec())


def test_crowds_are_left_out_of_watershed_and_density_targets() -> None:
    one, crowd = disc(15, 15, 6), disc(45, 45, 8)
    target = from_masks([one, crowd], [0, 0], [1, 1], [False, True])
    (frame,) = placements(SIDE, SIDE, "letterbox", SIDE, 0.0)
    id_SS = REPRESENTATIONS["watershed"].target(target, frame, spec(representation="watershed"))
    assert np.array_equal(id_SS, one.astype(int))
    density_SSC = REPRESENTATIONS["density"].target(target, frame, COUNTED)
    assert density_SSC.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (SIDE, SIDE - 1)])
def test_a_density_sums_to_the_count_inside_the_image(height: int, width: int) -> None:
    """The density of objects at the edge is normalized inside the image; none of it is in the padding."""
    centres = [(3, 3), (width - 3, height - 3), (width - 3, 3), (3, height - 3)]
    target = from_masks([disc(x, y, 2, height, width) for x, y in centres], [0] * 4, [1] * 4, size=(height, width))
    (frame,) = placements(height, width, "letterbox", SIDE, 0.0)
    density_SSC = REPRESENTATIONS["density"].target(target, frame, COUNTED)
    assert density_SSC[: frame.inner_height, : frame.inner_width].sum() == pytest.approx(4, abs=1e-4)
    assert density_SSC.sum() == pytest.approx(4, abs=1e-4)


def box_outputs(*objects: tuple[float, int, float]) -> dict[str, Array]:
    """Return outputs with a box of 10 pixels for each (left edge, label, score)."""
    left_M = np.array([left for left, _, _ in objects], np.float32)
    return {
        "box": np.stack([left_M, 0 * left_M, left_M + 10, 0 * left_M + 10], axis=1),
        "label": np.array([label for _, label, _ in objects], np.int64),
        "score": np.array([score for _, _, score in objects], np.float32),
    }


WEAK = (90.0, 0, 0.05)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([(0, 0, 0.81), (50, 0, 0.8), WEAK], [(50, 0, 0.81), (0, 0, 0.8), WEAK], 0.01),  # near ties in swapped order
        ([(0, 0, 0.9), WEAK], [(0, 0, 0.9), (50, 0, 0.4), WEAK], 0.0),  # one more object with a low score: a near tie
        ([(0, 0, 0.9), (70, 0, 0.3)], [(0, 0, 0.9), (50, 0, 0.4)], 0.35),  # two such objects: no near tie
        ([(0, 0, 0.9), WEAK], [(0, 0, 0.9), (50, 0, 0.85), WEAK], 0.35),  # one more object with a high score
        ([(0, 0, 0.9), WEAK], [(0, 1, 0.9), WEAK], 0.85),  # another class
        ([(0, 0, 0.9)], [], 0.4),  # only one has an object
        ([(0, 0, 0.9)], [(50, 0, 0.9)], 0.85),  # another position
        ([], [], 0.0),
    ],
)
def test_objects_are_compared_with_their_matches(one: Any, other: Any, expected: float) -> None:
    for a, b in ((one, other), (other, one)):
        assert difference(box_outputs(*a), box_outputs(*b), spec(2), 100.0) == pytest.approx(expected, abs=1e-6)


def three_classes(masks: list[Array]) -> Array:
    """Return background, interior and boundary as training targets [3, H, W]."""
    from scipy import ndimage

    id_HW = np.zeros(masks[0].shape, int)
    for number, mask in enumerate(masks):
        id_HW[mask] = number + 1
    lowest, highest = ndimage.minimum_filter(id_HW, 3), ndimage.maximum_filter(id_HW, 3)
    index_HW = np.where(id_HW == 0, 0, np.where(lowest == highest, 1, 2))
    return np.moveaxis(np.eye(3)[index_HW], 2, 0)


def test_watershed_separates_touching_discs() -> None:
    masks = [disc(18, 30, 10), disc(37, 30, 9), disc(28, 47, 9)]
    noise = disc(58, 8, 1)
    probability_3HW = three_classes([*masks, noise])
    prediction = instances.decode({"probability": probability_3HW}, spec(representation="watershed"))
    target = from_masks(masks, [0, 0, 0], [1, 1, 1])
    assert len(prediction.label_M) == 3
    assert average_precision.pairwise_iou(prediction, target).max(axis=0).min() > 0.9
    assert prediction.score_M.min() > 0.9
    assert not watershed_instances(probability_3HW)[0][noise].any()


def test_watershed_of_background_finds_no_objects() -> None:
    probability_3HW = np.zeros((3, 20, 30))
    probability_3HW[0] = 1
    prediction = instances.decode({"probability": probability_3HW}, spec(representation="watershed"))
    assert (len(prediction.label_M), prediction.height, prediction.width) == (0, 20, 30)
    assert prediction.box_M4.shape == (0, 4)


def network(masks: bool = True, classes: int = 2, size: int = SIDE) -> Any:
    torch.manual_seed(0)
    return build(NetworkConfig("mask_rcnn", "resnet18", 3, classes, "batch", 0.0, size, masks))


def scene(rng: np.random.Generator, count: int) -> tuple[Array, list[Array], list[int]]:
    """Return an image, uint8 [64, 64, 3], with a red or blue disc in `count` quarters, and their masks and labels."""
    image, masks, labels = rng.integers(20, 60, (SIDE, SIDE, 3)).astype(np.uint8), [], []
    for quarter in rng.permutation(4)[:count]:
        x, y = (np.array([quarter % 2, quarter // 2]) * 32 + 16 + rng.uniform(-4, 4, 2)).tolist()
        masks.append(disc(x, y, rng.uniform(7, 11)))
        labels.append(int(rng.integers(2)))
        image[masks[-1]] = [(220, 40, 40), (40, 40, 220)][labels[-1]]
    return image, masks, labels


def torch_target(masks: list[Array], labels: list[int]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([bounding_box(m) for m in masks]).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, SIDE, SIDE)),
    }


def train(model: Any, scenes: list[Any], steps: int) -> float:
    image_BCHW = torch.from_numpy(np.stack([image for image, _, _ in scenes])).permute(0, 3, 1, 2).float() / 255
    targets = [torch_target(masks, labels) for _, masks, labels in scenes]
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
def overfitted() -> tuple[Any, list[Any]]:
    """Train a network on four images until it predicts them exactly; one of them is empty."""
    rng = np.random.default_rng(0)
    scenes = [scene(rng, n) for n in (3, 4, 2, 0)]
    model = network()
    train(model, scenes, 80)
    return model.eval(), scenes


def decode_outputs(outputs: Any, height: int, width: int, spec: TaskSpec) -> Instances:
    names = ("box", "label", "score", "mask")[: len(outputs)]
    arrays = {name: np.asarray(values) for name, values in zip(names, outputs, strict=True)}
    return instances.decode(arrays | {"size": np.array([height, width])}, spec)


@pytest.mark.slow
def test_mask_rcnn_overfits_four_images(overfitted: tuple[Any, list[Any]]) -> None:
    model, scenes = overfitted
    detector, task = ExportedDetector(model, SIDE, True, 255).eval(), spec(2)
    with torch.inference_mode():
        outputs = [detector(torch.from_numpy(image)[None]) for image, _, _ in scenes]
    predictions = [decode_outputs(output, SIDE, SIDE, task) for output in outputs]
    targets = [from_masks(masks, labels, np.ones(len(labels))) for _, masks, labels in scenes]
    found = instances.scores(targets, predictions, np.ones((1, 4)), task)
    assert found["average_precision_50"][0] > 0.8, found
    assert found["dsb_score"][0] > 0.4, found


def test_the_validation_loss_changes_no_statistics_and_uses_no_random_layers() -> None:
    scenes = [scene(np.random.default_rng(n), 2) for n in range(2)]
    image_BCHW = torch.from_numpy(np.stack([image for image, _, _ in scenes])).permute(0, 3, 1, 2).float() / 255
    targets = [torch_target(masks, labels) for _, masks, labels in scenes]
    model = network()
    model.body.detector.backbone.encoder.network.layer4.append(nn.Dropout2d(0.5))  # no subclass of Dropout
    convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
    model = convert(model)  # no subclass of BatchNorm2d; in training mode it needs cuda
    before = {name: values.clone() for name, values in model.named_buffers()}
    enable_losses(model)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        with torch.no_grad():
            losses.append({name: float(value) for name, value in model(image_BCHW, targets).items()})
        torch.rand(1)
    assert set(losses[0]) >= {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness"}
    assert losses[0] == losses[1] and all(np.isfinite(value) for value in losses[0].values())
    assert all(torch.equal(before[name], values) for name, values in model.named_buffers())
    training = {type(module).__name__ for module in model.modules() if module.training}
    assert training == {"DetectorAdapter", "MaskRCNN", "RegionProposalNetwork", "RoIHeads"}


@pytest.mark.parametrize("masks", [True, False])
def test_the_loss_of_a_batch_without_objects_is_finite(masks: bool) -> None:
    scenes = [scene(np.random.default_rng(n), 0) for n in range(2)]
    assert np.isfinite(train(network(masks), scenes, 1))


def test_boxes_and_anchors_are_not_rounded_under_autocast() -> None:
    model, (image, masks, labels) = network(), scene(np.random.default_rng(0), 3)
    image_BCHW = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.train()(image_BCHW, [torch_target(masks, labels)])
        found = model.eval()(image_BCHW)[0]
    assert all(torch.isfinite(loss) for loss in losses.values())
    box_M4 = found["boxes"]
    assert len(box_M4) and box_M4.dtype == torch.float32
    assert not torch.equal(box_M4, box_M4.bfloat16().float())


def export_session(model: Any, masks: bool, file: Path) -> onnxruntime.InferenceSession:
    to_onnx(model, spec(2, masks), file)
    content = file.read_bytes()
    assert b"export.py" not in content and str(ROOT).encode() not in content  # no paths of this machine
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def assert_close(found: Any, expected: Any) -> None:
    """Compare boxes, labels, scores and masks; masks may differ where the probability is close to 0.5."""
    assert [np.shape(f) for f in found] == [tuple(e.shape) for e in expected]
    for a, b in zip(found[:3], expected[:3], strict=True):
        assert np.asarray(a, float) == pytest.approx(np.asarray(b, float), abs=1e-3)
    for a, b in zip(found[3:], expected[3:], strict=True):
        assert a.dtype == np.uint8
        assert (a != np.asarray(b)).mean() < 1e-3 if a.size else True


@pytest.mark.slow
def test_onnx_torch_and_torchvision_predict_the_same(overfitted: tuple[Any, list[Any]], tmp_path: Path) -> None:
    model, scenes = overfitted
    detector, session = (
        ExportedDetector(model, SIDE, True, 255).eval(),
        export_session(model, True, tmp_path / "model.onnx"),
    )
    sizes, count = [(SIDE, SIDE), (48, 96), (150, 101)], 0
    for (height, width), (image, _, _) in zip(sizes, scenes[:3], strict=True):
        resized = np.kron(image, np.ones((3, 2, 1), np.uint8))[:height, :width]
        image_BHWC = torch.from_numpy(image if (height, width) == (SIDE, SIDE) else resized)[None]
        with torch.inference_mode():
            by_torch = detector(image_BHWC)
            working = scale(fit_image(image_BHWC, "letterbox", SIDE), 255)
            by_torchvision = at_original_size(model(working)[0], height, width, SIDE)
        by_onnx = session.run(None, {"image": image_BHWC.numpy()})
        count += len(by_onnx[1])
        assert_close(by_onnx, by_torch)
        assert_close(by_onnx, list(by_torchvision.values()))
    assert count >= 3, "too few objects to compare"


@pytest.mark.slow
def test_no_objects_are_predicted_in_an_empty_image(overfitted: tuple[Any, list[Any]], tmp_path: Path) -> None:
    session = export_session(overfitted[0], True, tmp_path / "model.onnx")
    box, label, score, mask = session.run(None, {"image": np.zeros((1, 30, 40, 3), np.uint8)})
    assert (box.shape, label.shape, score.shape, mask.shape) == ((0, 4), (0,), (0,), (0, 30, 40))


def test_onnx_and_torch_agree_on_many_boxes_of_an_untrained_network(tmp_path: Path) -> None:
    untrained = network().eval()
    session = export_session(untrained, True, tmp_path / "untrained.onnx")
    image = np.random.default_rng(0).integers(0, 255, (1, 70, 50, 3)).astype(np.uint8)
    with torch.inference_mode():
        by_torch = ExportedDetector(untrained, SIDE, True, 255).eval()(torch.from_numpy(image))
    assert len(by_torch) == 4
    assert len(by_torch[0]) > 20
    assert_close(session.run(None, {"image": image}), by_torch)


def test_masks_are_pasted_as_by_torchvision() -> None:
    """Masks differ at their edges, because only torchvision rounds boxes to whole pixels."""
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
