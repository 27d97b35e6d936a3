"""Tests of the rows, files and overlays that `predict` writes for each task, and of rejected options."""

import csv
import io
import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import predict
from stages.batch_prediction import worker_pool
from stages.command_line.exit_codes import INTERRUPTED
from stages.core.errors import UserError
from stages.dataset.annotations import bounding_box, encode_rle
from stages.images.decode import DecodedImage, decode_image
from stages.tasks.instances import Instances
from stages.tasks.segmentation import Mask
from stages.tasks.task_spec import TaskSpec
from tests.command_line import macula

Array = np.ndarray[Any, Any]
HEIGHT, WIDTH = 6, 8
SQUARE = np.zeros((HEIGHT, WIDTH), bool)
SQUARE[1:4, 2:6] = True


def spec(task: str, representation: str, target: str, **changes: Any) -> TaskSpec:
    return TaskSpec(**{"task": task, "representation": representation, "target": target, "size": 32, **changes})


def instances(masks: bool) -> Instances:
    """Return an instance above the score threshold and one below it."""
    boxes = np.array([bounding_box(SQUARE), (0, 0, 2, 2)], np.float32)
    runs = [encode_rle(SQUARE), encode_rle(~SQUARE)] if masks else None
    return Instances(boxes, np.array([1, 0]), np.array([0.9, 0.1], np.float32), runs, np.zeros(2, bool), HEIGHT, WIDTH)


SEGMENTATION = spec("segmentation", "mask", "mask", labels=("background", "cell"))
INSTANCES = spec("instances", "boxes", "shapes", labels=("disc", "square"), masks=True)
POINTS = spec("landmarks", "heatmap", "points", points=("nose", "tail"))
COUNT = spec("regression", "density", "count", labels=("background", "cell"), scalars=("cell",))
MASK = Mask(SQUARE.astype(np.uint8), None)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with two images of the same name in subfolders, and a damaged file."""
    for folder, level in (("a", 10), ("b", 200)):
        (tmp_path / "in" / folder).mkdir(parents=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), level, np.uint8)).save(tmp_path / "in" / folder / "one.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    return tmp_path / "in"


@pytest.fixture
def fixed_prediction(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that replaces the model by one with a constant prediction."""

    def replace_model(task_spec: TaskSpec, prediction: Any) -> None:
        class Fixed:
            def __init__(self, file: Path, threads: int, engine: str, precision: str) -> None:
                self.spec, self.engine = task_spec, SimpleNamespace(name=engine, precision=precision)

            def decode_picture(self, data: bytes) -> DecodedImage:
                return decode_image(data)

            def to_input(self, picture: DecodedImage) -> Array:
                return picture.image

            def predict(self, image: Array) -> Any:
                assert image.shape[:2] == (HEIGHT, WIDTH)
                return prediction

        monkeypatch.setattr(predict, "Model", Fixed)
        monkeypatch.setattr(worker_pool, "Model", Fixed)

    return replace_model


def predict_in_process(*words: str) -> int:
    return macula("predict", "model.onnx", *words, "--workers", "0")


def rows_of(images: Path, tmp_path: Path, *more: str) -> list[dict[str, str]]:
    file = tmp_path / "answers.csv"
    status = predict_in_process(str(images), "--output", str(file), *more)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [Path(row["path"]).relative_to(images).as_posix() for row in rows] == [
        "a/one.png",
        "b/one.png",
        "broken.png",
    ]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert status == 1, "one file could not be read"
    return rows[:2]


def test_masks_are_written_as_files_and_area_shares(images: Path, tmp_path: Path, fixed_prediction: Any) -> None:
    fixed_prediction(SEGMENTATION, MASK)
    for _ in range(2):  # the second run replaces the files
        rows = rows_of(images, tmp_path, "--files", str(tmp_path / "masks"), "--overlays", str(tmp_path / "drawn"))
    assert [float(row["share_cell"]) for row in rows] == pytest.approx([0.25, 0.25])
    written = ["a/one.png.png", "b/one.png.png"]
    assert sorted(f.relative_to(tmp_path / "masks").as_posix() for f in (tmp_path / "masks").glob("*/*")) == written
    assert [row["file"] for row in rows] == [str(tmp_path / "masks" / name) for name in written]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "masks/a/one.png.png")), SQUARE.astype(np.uint8))
    dark, light = (np.asarray(Image.open(tmp_path / f"drawn/{n}/one.png.jpg")).mean() for n in "ab")
    assert light > dark + 50


@pytest.mark.parametrize(
    ("values", "written", "kind"),
    [((), (0, 1), np.uint8), ((32, 255), (32, 255), np.uint8), ((0, 1000), (0, 1000), np.uint16)],
)
def test_masks_have_the_values_of_the_source_and_a_legend(
    values: tuple[int, ...], written: tuple[int, int], kind: type, images: Path, tmp_path: Path, fixed_prediction: Any
) -> None:
    fixed_prediction(replace(SEGMENTATION, mask_values=values), MASK)
    rows_of(images, tmp_path, "--files", str(tmp_path / "masks"), "--overlays", str(tmp_path / "drawn"))
    mask_HW = np.asarray(Image.open(tmp_path / "masks/a/one.png.png"))
    assert np.array_equal(mask_HW, np.where(SQUARE, written[1], written[0])) and mask_HW.dtype == kind
    legends = [json.loads((tmp_path / folder / "legend.json").read_text()) for folder in ("masks", "drawn")]
    assert legends[0] == {"values": {str(written[0]): "background", str(written[1]): "cell"}}
    assert list(legends[1]["colours"]) == ["cell"] and re.fullmatch("#[0-9a-f]{6}", legends[1]["colours"]["cell"])


def test_stretched_overlays_are_announced(
    images: Path, tmp_path: Path, fixed_prediction: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed_prediction(replace(SEGMENTATION, depth=16), MASK)
    rows_of(images, tmp_path, "--overlays", str(tmp_path / "drawn"))
    with Image.open(tmp_path / "drawn/a/one.png.jpg") as file:
        comment = file.info["comment"].decode()
    assert "stretched between the percentiles 0.1 and 99.9" in comment and f"--overlays: {comment}" in (
        capsys.readouterr().err
    )


def test_skipped_files_are_counted_by_suffix(
    images: Path, tmp_path: Path, fixed_prediction: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.heic", "a/y.HEIC", "a/notes", ".hidden.txt"):
        (images / name).write_bytes(b"")
    (images / "linked").symlink_to(images / "a")
    fixed_prediction(SEGMENTATION, MASK)
    rows_of(images, tmp_path)
    assert (
        "skipped 3 files without the suffix of a supported image (.heic: 2, no suffix: 1) and 1 link to a folder; "
        "to predict them, name them" in capsys.readouterr().err
    )


def test_a_dangling_link_gets_a_row(
    images: Path, tmp_path: Path, fixed_prediction: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").unlink()
    (images / "broken.png").symlink_to(images / "gone.png")
    fixed_prediction(SEGMENTATION, MASK)
    rows_of(images, tmp_path)


def test_shares_exclude_the_background(images: Path, tmp_path: Path, fixed_prediction: Any) -> None:
    fixed_prediction(replace(SEGMENTATION, labels=("cell", "background")), MASK)
    first = rows_of(images, tmp_path)[0]
    assert [column for column in first if column.startswith("share_")] == ["share_cell"]
    assert float(first["share_cell"]) == pytest.approx(0.75)


@pytest.mark.parametrize(("channels", "depth"), [(5, 8), (3, 16)])
def test_image_unsupported_by_png_is_written_as_npy(
    images: Path, tmp_path: Path, fixed_prediction: Any, channels: int, depth: int
) -> None:
    fixed_prediction(
        spec("image", "image", "image", channels=channels, depth=depth), np.ones((HEIGHT, WIDTH, channels))
    )
    rows = rows_of(images, tmp_path, "--files", str(tmp_path / "new"))
    assert [Path(row["file"]).name for row in rows] == ["one.png.npy", "one.png.npy"]
    written = np.load(rows[0]["file"])
    assert written.shape == (HEIGHT, WIDTH, channels) and (written == 2**depth - 1).all()


@pytest.mark.parametrize("masks", [True, False])
def test_instances_are_written_as_coco_and_label_images(
    images: Path, tmp_path: Path, fixed_prediction: Any, masks: bool
) -> None:
    fixed_prediction(INSTANCES, instances(masks))
    file = tmp_path / "answers.json"
    assert predict_in_process(str(images), "--format", "coco", "--output", str(file), "--files", str(tmp_path / "n"))
    coco = json.loads(file.read_text())
    assert [i["file_name"] for i in coco["images"]] == [str(images / f"{f}/one.png") for f in "ab"]
    assert [e["file_name"] for e in coco["errors"]] == [str(images / "broken.png")]
    assert coco["categories"] == [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    confident = [a for a in coco["annotations"] if a["score"] > 0.5]
    assert [(a["image_id"], a["category_id"], a["bbox"], a["area"]) for a in confident] == [
        (n, 2, [2.0, 1.0, 4.0, 3.0], 12.0) for n in (1, 2)
    ]
    assert len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"])
    number_HW = np.asarray(Image.open(tmp_path / "n/a/one.png.png"))
    assert np.array_equal(number_HW, SQUARE.astype(number_HW.dtype))


def test_points_and_counts_are_written_as_columns(images: Path, tmp_path: Path, fixed_prediction: Any) -> None:
    fixed_prediction(POINTS, np.array([[1.5, 2.0, 0.9], [3.0, 4.0, 0.1]]))
    first = rows_of(images, tmp_path)[0]
    assert (float(first["nose_x"]), float(first["nose_y"]), float(first["nose_confidence"])) == (1.5, 2.0, 0.9)
    fixed_prediction(COUNT, np.array([12.25]))
    assert [row["cell"] for row in rows_of(images, tmp_path)] == ["12.250000"] * 2


def test_json_output_is_one_array(images: Path, tmp_path: Path, fixed_prediction: Any) -> None:
    fixed_prediction(COUNT, np.array([3.0]))
    file = tmp_path / "answers.json"
    predict_in_process(str(images / "a"), str(images / "broken.png"), "--format", "json", "--output", str(file))
    valid, failed = json.loads(file.read_text())
    assert valid == {"path": str(images / "a/one.png"), "cell": 3.0, "error": ""}
    assert set(failed) == {"path", "error"}


def test_output_folder_is_created(images: Path, tmp_path: Path, fixed_prediction: Any) -> None:
    fixed_prediction(COUNT, np.array([3.0]))
    file = tmp_path / "new" / "deep" / "answers.csv"
    assert predict_in_process(str(images / "a"), "--output", str(file)) == 0
    assert file.read_text().splitlines()[0] == "path,cell,error"
    with pytest.raises(UserError, match=r"--output .*one.png/answers.csv cannot be written: "):
        predict_in_process(str(images / "a"), "--output", str(images / "a/one.png/answers.csv"))


@pytest.mark.parametrize(
    ("option", "name"), [("--files", "one.png"), ("--files", "one.npy"), ("--overlays", "one.jpg")]
)
def test_outputs_never_overwrite_an_image(tmp_path: Path, fixed_prediction: Any, option: str, name: str) -> None:
    fixed_prediction(SEGMENTATION, MASK)
    (tmp_path / name).write_bytes(b"an image")
    with pytest.raises(UserError, match=f"{option} .* could overwrite input images of .*; name another folder"):
        predict_in_process(str(tmp_path), option, str(tmp_path / ".." / tmp_path.name))
    written = tmp_path / f"{name}{'.jpg' if option == '--overlays' else '.png'}"
    written.write_bytes(b"an image, too")
    with pytest.raises(UserError, match=f"{option} .* could overwrite input images of .*; name another folder"):
        predict_in_process(str(tmp_path / name), str(written), option, str(tmp_path))
    assert written.read_bytes() == b"an image, too"


def test_output_table_never_overwrites_an_image(tmp_path: Path, fixed_prediction: Any) -> None:
    fixed_prediction(COUNT, None)
    (tmp_path / "one.png").write_bytes(b"an image")
    with pytest.raises(UserError, match="--output .*one.png has the suffix of an image; name another file"):
        predict_in_process(str(tmp_path), "--output", str(tmp_path / "one.png"))
    assert (tmp_path / "one.png").read_bytes() == b"an image"


def test_output_table_replaces_only_regular_files(images: Path, tmp_path: Path, fixed_prediction: Any) -> None:
    fixed_prediction(COUNT, np.array([3.0]))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to("round")
    for name in ("pipe", "round", "in"):
        with pytest.raises(UserError, match=f"--output .*{name} is not a regular file"):
            predict_in_process(str(images / "a"), "--output", str(tmp_path / name))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    for before in (None, "old"):
        (tmp_path / "link.csv").unlink(missing_ok=True)
        (tmp_path / "link.csv").symlink_to(f"real-{before}.csv")
        if before:
            (tmp_path / f"real-{before}.csv").write_text(before)
        assert predict_in_process(str(images / "a"), "--output", str(tmp_path / "link.csv")) == 0
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / f"real-{before}.csv").read_text().splitlines()[0] == "path,cell,error"


def test_resumed_run_keeps_engine_and_precision(
    images: Path, tmp_path: Path, fixed_prediction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices, opened = [("onnxruntime", "float32"), ("openvino", "bfloat16")], []
    fixed_prediction(COUNT, np.array([3.0]))
    fixed = predict.Model  # type: ignore[attr-defined]  # imported name
    words = [str(images / "a"), "--output", str(tmp_path / "answers.csv")]

    class AutoEngine(fixed):  # type: ignore[misc, valid-type]  # auto selects the engine that is faster in each run
        def __init__(self, file: Path, threads: int, engine: str, precision: str) -> None:
            opened.append((engine, precision) if engine != "auto" else choices.pop())
            super().__init__(file, threads, *opened[-1])

    def interrupt(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "Model", AutoEngine)
    monkeypatch.setattr(worker_pool, "Model", AutoEngine)
    with monkeypatch.context() as patch:
        patch.setattr(fixed, "predict", interrupt)
        assert predict_in_process(*words) == INTERRUPTED
    with pytest.raises(UserError, match="used --engine openvino .now onnxruntime"):
        predict_in_process(*words, "--engine", "onnxruntime")
    opened.clear()
    assert predict_in_process(*words, "--engine", "openvino") == 0
    assert opened == [("openvino", "bfloat16")] * 2
    assert predict_in_process(*words) == 0 and opened[2:] == [("onnxruntime", "float32")] * 2, (
        "a finished run is not resumed"
    )


@pytest.mark.parametrize(
    ("task_spec", "words", "message"),
    [
        (COUNT, ["--files", "x"], "predictions of task regression are neither masks nor images"),
        (SEGMENTATION, ["--format", "coco"], "the model has task segmentation"),
        (spec("image", "image", "image", channels=1), [], "name a folder for them with --files"),
    ],
)
def test_options_that_do_not_fit_the_task_are_rejected(
    images: Path, fixed_prediction: Any, task_spec: TaskSpec, words: list[str], message: str
) -> None:
    fixed_prediction(task_spec, None)
    with pytest.raises(UserError, match=message):
        predict_in_process(str(images), *words)
