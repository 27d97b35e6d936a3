"""Tests of batch prediction: sources, damaged files, worker processes and resuming."""

import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from benchmarks.inference import batch_prediction_speed as predicting
from benchmarks.result_pages import replace_block
from stages.batch_prediction import FORMATS, PredictionJob, check_sources, iterate_images, open_output, predict_images
from stages.batch_prediction import inputs as sources
from stages.batch_prediction.inputs import InputImage
from stages.batch_prediction.worker_pool import OutputRow
from stages.core.errors import UserError
from stages.images.decode import Unreadable
from stages.runtime import compute_digest
from stages.tasks.task_spec import TaskSpec
from tests.command_line import macula
from tests.conftest import ROOT, png

SPEC = TaskSpec("classification", "class", "label", labels=("dark", "light"), channels=1)


def create_model(spec: TaskSpec, file: Path) -> Path:
    """Write a model whose probability of the second class is the brightness of the image, or of each pixel."""
    axes = [1, 2, 3] if spec.task == "classification" else [3]
    steps = [
        helper.make_node("Cast", ["image"], ["level"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["level", "white"], ["share"]),
        helper.make_node("ReduceMean", ["share", "axes"], ["light"], keepdims=1),
        helper.make_node("Sub", ["one", "light"], ["dark"]),
        helper.make_node("Concat", ["dark", "light"], ["both"], axis=3),
        helper.make_node("Transpose", ["both"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Flatten", ["moved"], ["probability"])
        if spec.task == "classification"
        else helper.make_node("Identity", ["moved"], ["probability"]),
    ]
    constants = [
        helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes),
    ]
    model_input = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", spec.channels])
    model_output = helper.make_tensor_value_info("probability", TensorProto.FLOAT, None)
    graph = helper.make_graph(steps, "light", [model_input], [model_output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {k: json.dumps(v) for k, v in {**spec.as_json(), "version": "test"}.items()})
    onnx.save(model, file)
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_model(SPEC, tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working folder with thirty images in subfolders, one of them damaged, a hidden file and other files."""
    monkeypatch.chdir(tmp_path)
    for number in range(30):
        file = tmp_path / "in" / "abc"[number % 3] / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(np.full((20, 30), number * 8, np.uint8)) if number != 13 else b"no image")
    (tmp_path / "in/b/.hidden.png").write_bytes(b"")
    (tmp_path / "in/b/notes.md").write_text("none")
    return tmp_path


def names_in(folder: Path) -> list[str]:
    return sorted(f.relative_to(folder).as_posix() for f in folder.glob("*/*"))


def pack(folder: Path, archive: Path, renamed: Sequence[str] | None = None) -> Path:
    """Pack all files of a folder, or the first ones under new names."""
    pairs = list(zip(names_in(folder), renamed or names_in(folder), strict=False))
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, new in pairs:
                packed.writestr(new, (folder / name).read_bytes())
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
            for name, new in pairs:
                tar.add(folder / name, new)
    return archive


def run(model: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "stages.predict", str(model), *arguments, "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=120, **options)


def predict_without_workers(model: Path, *arguments: str) -> bytes:
    """Return the rows predicted without worker processes."""
    macula("predict", str(model), *arguments, "--workers", "0", "--output", "expected")
    return Path("expected").read_bytes()


def test_folders_archives_and_lists_give_equal_rows_in_equal_order(model: Path, folder: Path) -> None:
    rows = predict_without_workers(model, "in").splitlines()[1:]
    names = [row.split(b",")[0].decode() for row in rows]
    assert names == [f"in/{n}" for n in names_in(folder / "in") if n.endswith(".png") and "hidden" not in n]
    listed = "\r\n".join(["", *names, ""]).encode()
    (folder / "list.txt").write_bytes(listed)
    archives = [pack(folder / "in", folder / f"in{ending}").name for ending in (".zip", ".tar", ".tgz")]
    completed = run(model, "in", *archives, "list.txt", "-", *names[:2], input=listed)
    assert completed.returncode == 1 and b"6 of 182 images could not be predicted" in completed.stderr, completed.stderr
    _, *found = completed.stdout.splitlines()
    for index, prefix in enumerate(["in", *archives, "in", "in"]):
        expected = [row.replace(b"in/", f"{prefix}/".encode()) for row in rows]
        assert found[30 * index : 30 * index + 30] == expected, prefix
    assert found[180:] == rows[:2]


@pytest.mark.parametrize("ending", [".zip", ".tgz", ".txt"])
def test_suffixes_of_archives_and_lists_ignore_case(folder: Path, ending: str) -> None:
    if ending == ".txt":
        (folder / "in.txt").write_text("".join(f"in/{name}\n" for name in names_in(folder / "in")))
    else:
        pack(folder / "in", folder / f"in{ending}")
    upper = (folder / f"in{ending}").rename(folder / f"IN{ending.upper()}")
    check_sources([str(upper)])
    assert len(list(iterate_images([str(upper)]))) == (32 if ending == ".txt" else 30)


def test_a_large_folder_is_sorted_with_few_names_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{n}.png" for n in np.random.default_rng(0).permutation(50)]
    for name in [*names, "5/a.png", "5/deep/b.png", "5-/c.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    expected = sorted([*names, "5/a.png", "5/deep/b.png", "5-/c.png"])
    for limit in (100, 7, 1):
        monkeypatch.setattr(sources, "MAX_NAMES_IN_MEMORY", limit)
        assert [image.name for image in iterate_images([str(tmp_path)])] == expected, limit


@pytest.mark.parametrize("ending", [".zip", ".tgz"])
def test_skipped_members_of_archives_are_counted(folder: Path, ending: str) -> None:
    skipped = [Counter[str](), Counter[str]()]
    for counter, source in zip(skipped, ("in", str(pack(folder / "in", folder / f"packed{ending}"))), strict=True):
        assert len(list(iterate_images([source], counter))) == 30
    assert skipped == [{".md": 1}, {".md": 1}]


def test_a_source_without_images_states_what_it_contains(tmp_path: Path) -> None:
    (tmp_path / "photo.heic").write_bytes(b"")
    with pytest.raises(UserError, match=r"contains no image, but 1 file without .* \(.heic: 1\); supported suffixes"):
        check_sources([str(tmp_path)])


def test_image_names_are_unique_and_stay_inside_the_folder(folder: Path) -> None:
    pack(folder / "in", folder / "in.zip")
    (folder / "else/in/a").mkdir(parents=True)
    (folder / "else/in/a/00.png").write_bytes(b"")
    (folder / "else/in/a/00.jpg").write_bytes(b"")
    (folder / "list.txt").write_text("in/a/00.png\n../" + folder.name + "/else/in/a/00.png\n/in/a/00.png\n")
    images = list(iterate_images(["in", "in.zip", "else/in", "list.txt", "in/a/00.png"]))
    names = [image.name for image in images]
    assert len(set(names)) == len(names) == 30 + 30 + 2 + 3 + 1
    assert {"in/a/00.png", "in.zip/a/00.png", "in-2/a/00.png", "00.png"} <= set(names)
    assert not [name for name in names if name.startswith("/") or ".." in name.split("/")]


def write_hostile_zip(file: Path, image: bytes) -> list[str]:
    """Write a zip with damaged, encrypted and escaping members; return their names in order."""
    names = ["good.png", "broken.png", "locked.png", "../../out.png", "/root.png", "a\\..\\..\\out.png"]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, image)
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("broken.png").header_offset + 30 + len("broken.png")
    data[start + 5 : start + 15] = bytes(10)
    for offset in (data.index(b"locked.png") - 24, data.rindex(b"locked.png") - 38):
        data[offset] |= 1  # the encryption flag, in the local header and in the central directory
    file.write_bytes(data)
    return names


def test_invalid_archive_member_is_an_error_row_and_writes_nothing_outside(folder: Path) -> None:
    mask = create_model(replace(SPEC, task="segmentation", representation="mask"), folder / "mask.onnx")
    names = write_hostile_zip(folder / "in.zip", png(np.full((20, 30), 9, np.uint8)))
    (folder / "deep/er").mkdir(parents=True)
    before = set(folder.rglob("*"))
    arguments = ["in.zip", "--format", "jsonl", "--files", "deep/er/masks", "--overlays", "deep/er/drawn"]
    completed = run(mask, *arguments)
    assert completed.returncode == 1, completed.stderr
    rows = [json.loads(line) for line in completed.stdout.splitlines()]
    assert [row["path"] for row in rows] == [f"in.zip/{name}" for name in names]
    reasons = ["", "cannot be unpacked", "encrypted", "leaves the", "", "leaves the"]
    for row, reason in zip(rows, reasons, strict=True):
        assert reason in row["error"] and bool(row["error"]) == bool(reason), row
    created = {f.relative_to(folder).as_posix() for f in set(folder.rglob("*")) - before if f.is_file()}
    written = (
        *("masks/good.png.png", "masks/root.png.png", "masks/legend.json"),
        *("drawn/good.png.jpg", "drawn/root.png.jpg", "drawn/legend.json"),
    )
    assert created == {f"deep/er/{name}" for name in written}


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_members_with_leading_dot_slash_are_predicted(folder: Path, ending: str) -> None:
    names = ["./one.png", "a/./two.png", ".\\three.png", "./../out.png", "./.hidden.png", "a\\.hidden.png"]
    images = list(iterate_images([str(pack(folder / "in", folder / f"in{ending}", renamed=names))]))
    assert [image.path.partition(f"{ending}/")[2] for image in images] == names[:4]
    assert [image.name for image in images] == ["one.png", "a/two.png", "three.png", "refused"]
    assert [len(image.read()) > 50 for image in images[:3]] == [True] * 3
    with pytest.raises(Unreadable, match="has a path that leaves the archive"):
        images[3].read()


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns when the archive is written
def test_duplicate_member_name_is_predicted_once_and_reported(folder: Path, ending: str) -> None:
    archive = pack(folder / "in", folder / f"in{ending}", renamed=["a.png", "a.png", "./a.png"])
    first, *others = iterate_images([str(archive)])
    assert (first.name, first.read()) == ("a.png", (folder / "in/a/00.png").read_bytes())
    assert [image.name for image in others] == ["refused"] * 2
    for image in others:
        with pytest.raises(Unreadable, match="occurs twice in the archive"):
            image.read()


@pytest.mark.parametrize("ending", [".tar", ".tgz"])
def test_truncated_tar_predicts_complete_members_and_reports_the_rest(model: Path, folder: Path, ending: str) -> None:
    complete = pack(folder / "in", folder / f"in{ending}")
    truncated = folder / f"cut{ending}"
    truncated.write_bytes(complete.read_bytes()[: complete.stat().st_size * 6 // 10])
    completed = run(model, truncated.name, "--format", "jsonl")
    assert completed.returncode == 1, completed.stderr
    *_, last = rows = [json.loads(line) for line in completed.stdout.splitlines()]
    assert 5 < len(rows) < 30 and last["path"] == truncated.name and "damaged or truncated" in last["error"]


def crash() -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def hang() -> bytes:
    time.sleep(600)
    return b""


def exhaust_memory() -> bytes:
    return bytes(np.ones(2**28))


def test_crash_hang_or_excessive_memory_loses_only_that_image(model: Path, folder: Path) -> None:
    good = png(np.full((20, 30), 200, np.uint8))
    reads: list[Callable[[], bytes]] = [partial(bytes, good)] * 24
    reads[14:16], reads[17], reads[20] = [crash, crash], hang, exhaust_memory
    images = [InputImage(str(number), str(number), read) for number, read in enumerate(reads)]
    job = PredictionJob(model, "jsonl", workers=2, seconds=5.0, memory=2**30)
    results = [(image, line) for batch, lines in predict_images(iter(images), job, SPEC)
             for image, line in zip(batch, lines, strict=True)]  # fmt: skip
    assert [image for image, _ in results] == images
    rows = [json.loads(line.text) for _, line in results]
    errors = {number: row["error"] for number, row in enumerate(rows) if row["error"]}
    assert set(errors) == {14, 15, 17, 20}
    assert "crashed the worker process (SIGSEGV)" in errors[15]
    assert "longer than 5 s" in errors[17] and "1 GiB" in errors[20]


def replace_model_and_crash(model: Path, other: Path | None) -> bytes:
    model.unlink() if other is None else other.replace(model)
    return crash()


@pytest.mark.parametrize("deleted", [False, True])
def test_replaced_model_file_ends_the_run(folder: Path, deleted: bool) -> None:
    file = create_model(SPEC, folder / "model.onnx")
    other = None if deleted else create_model(replace(SPEC, labels=("a", "b")), folder / "other.onnx")
    good = partial(bytes, png(np.full((20, 30), 200, np.uint8)))
    reads: list[Callable[[], bytes]] = [good, good, partial(replace_model_and_crash, file, other), *[good] * 20]
    images = [InputImage(str(number), str(number), read) for number, read in enumerate(reads)]
    job = PredictionJob(file, "jsonl", workers=1, digest=compute_digest(file))
    lines: list[Any] = []
    with pytest.raises(UserError, match="does not exist" if deleted else "has changed since the start"):
        for _, batch in predict_images(iter(images), job, SPEC):
            lines += batch
    assert [line.failed for line in lines] == [False, False, True]


MANY = 900


@pytest.fixture
def many_images(folder: Path) -> Path:
    """Create enough images for a run of several seconds."""
    (folder / "many").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700)).astype(np.uint8)
    (folder / "many/000.png").write_bytes(png(noise))
    for number in range(1, MANY):
        os.link(folder / "many/000.png", folder / f"many/{number:03d}.png")
    (folder / "many/150.png").unlink()
    (folder / "many/150.png").write_bytes(b"no image")
    return folder


def interrupt_run(model: Path, arguments: list[str], record: Path, signal_number: int) -> int:
    """Start a run and send it a signal once rows are recorded; return their number."""
    command = [sys.executable, "-m", "stages.predict", str(model), *arguments, "--workers", "2"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL) as process:
        while not record.exists() or not json.loads(record.read_text())["rows"]:
            assert process.poll() is None, "the run ended before it was interrupted"
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal_number)
    return json.loads(record.read_text())["rows"]


@pytest.mark.parametrize(("output_format", "signal_number"), [("json", signal.SIGKILL), ("csv", signal.SIGINT)])
def test_resumed_run_writes_identical_bytes(
    model: Path, many_images: Path, output_format: str, signal_number: int
) -> None:
    arguments = ["many", "--format", output_format, "--output", "answers"]
    part, record = many_images / "answers.part", many_images / "answers.part.json"
    recorded = interrupt_run(model, arguments, record, signal_number)
    assert 0 < recorded < MANY and not (many_images / "answers").exists()
    with part.open("ab") as stream:
        stream.write(b'"half a row' * 10**5)  # an incomplete row, as a killed process leaves it
    resumed = run(model, *arguments)
    assert resumed.returncode == 1 and f"1 of {MANY} images".encode() in resumed.stderr, resumed.stderr
    expected = predict_without_workers(model, "many", "--format", output_format)
    assert (many_images / "answers").read_bytes() == expected and expected.count(b"many/") == MANY
    assert not part.exists() and not record.exists()


def run_until_failure(model: Path, folder: Path) -> list[str]:
    """Run until the eleventh image, whose mask cannot be written; return the arguments."""
    (folder / "masks").mkdir()
    (folder / "masks/b").write_text("in the way of a folder")
    arguments = ["in", "--output", "answers.csv", "--files", "masks", "--workers", "0"]
    with pytest.raises(UserError, match=r"--files masks: cannot write b/01.png: .*\nFinished rows are kept in"):
        macula("predict", str(model), *arguments)
    assert json.loads((folder / "answers.csv.part.json").read_text())["rows"] == 10
    (folder / "masks/b").unlink()
    return arguments


def test_failed_write_ends_the_run_and_keeps_rows(folder: Path) -> None:
    mask = create_model(replace(SPEC, task="segmentation", representation="mask"), folder / "mask.onnx")
    arguments = run_until_failure(mask, folder)
    first = (folder / "masks/a/00.png.png").stat().st_mtime_ns
    assert macula("predict", str(mask), *arguments) == 1
    assert (folder / "masks/a/00.png.png").stat().st_mtime_ns == first, "completed images are not predicted again"
    assert len((folder / "answers.csv").read_text().splitlines()) == 31
    assert len(list((folder / "masks").glob("*/*.png"))) == 29


def test_resume_refuses_other_model_options_or_images(folder: Path) -> None:
    spec = replace(SPEC, task="segmentation", representation="mask")
    mask = create_model(spec, folder / "mask.onnx")
    arguments = run_until_failure(mask, folder)
    other = create_model(replace(spec, labels=("background", "thing")), folder / "other.onnx")
    for command, message in (
        ([str(other), *arguments], "the unfinished run used model "),
        ([str(mask), *arguments, "--format", "jsonl"], "used --format csv .now jsonl.; use --restart to discard it"),
        (
            [str(mask), "in/b", *arguments[1:]],
            "the first 10 images differ from those of the unfinished run; use --restart",
        ),
    ):
        with pytest.raises(UserError, match=message):
            macula("predict", *command)
    assert json.loads((folder / "answers.csv.part.json").read_text())["rows"] == 10, "refused runs keep the rows"
    assert macula("predict", str(other), *arguments, "--restart") == 1
    assert (folder / "answers.csv").read_text().startswith("path,share_thing,file,error")


def test_resume_refuses_missing_rows(folder: Path) -> None:
    mask = create_model(replace(SPEC, task="segmentation", representation="mask"), folder / "mask.onnx")
    arguments = run_until_failure(mask, folder)
    os.truncate(folder / "answers.csv.part", 100)
    with pytest.raises(UserError, match=r"records \d+ bytes of rows, but answers.csv.part has fewer"):
        macula("predict", str(mask), *arguments)


@pytest.mark.parametrize(("output_format", "option"), [("csv", "--restart"), ("coco", None)])
def test_restarted_run_discards_the_old_rows(folder: Path, output_format: str, option: str | None) -> None:
    boxes = replace(SPEC, task="instances", representation="boxes") if output_format == "coco" else SPEC
    run_settings: dict[str, Any] = {"model": "1"}
    images = list(iterate_images(["in"]))

    def write(restart: bool, batch: list[InputImage]) -> None:
        with open_output(folder / "answers", FORMATS[output_format], boxes, run_settings, restart) as output:
            output.start(iter(batch))
            assert output.rows == 0
            output.add(batch, [OutputRow(b'{"path": "x", "error": "none"}\n', failed=False)] * len(batch))

    write(restart=False, batch=images[:2])
    expected = (folder / "answers").read_bytes()
    (folder / "answers.part").write_bytes(b'{"path": "old", "error": "old"}\n' * 50)
    if option:
        (folder / "answers.part.json").write_text(
            json.dumps({"rows": 50, "bytes": 1600, "began": run_settings, "failed": 50})
        )
    write(restart=option is not None, batch=images[:2])
    assert (folder / "answers").read_bytes() == expected
    assert sorted(file.name for file in folder.glob("answers*")) == ["answers"]


def test_restart_does_not_affect_a_running_process(folder: Path) -> None:
    with open_output(folder / "answers", FORMATS["csv"], SPEC, {}, False) as output:
        output.start(iterate_images(["in"]))
        record = (folder / "answers.part.json").read_text()
        with (
            pytest.raises(UserError, match="is being written by another process"),
            open_output(folder / "answers", FORMATS["csv"], SPEC, {}, True),
        ):
            pass
        assert (folder / "answers.part.json").read_text() == record


def test_full_disk_error_states_how_to_resume(model: Path, many_images: Path) -> None:
    arguments = ["many", "--format", "jsonl", "--output", "answers"]

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))

    completed = run(model, *arguments, preexec_fn=limit_file_size)
    assert completed.returncode == 1 and b"Traceback" not in completed.stderr
    assert (
        b"error: --output answers cannot be written: File too large\nFinished rows are kept in answers.part"
        in completed.stderr
    )
    assert macula("predict", str(model), *arguments, "--workers", "0") == 1
    assert (many_images / "answers").read_bytes() == predict_without_workers(model, "many", "--format", "jsonl")


def test_second_process_cannot_write_the_same_file(model: Path, many_images: Path) -> None:
    arguments = ["many", "--output", "answers.csv"]
    command = [sys.executable, "-m", "stages.predict", str(model), *arguments, "--workers", "1"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL) as process:
        while not (many_images / "answers.csv.part.json").exists():
            time.sleep(0.01)
        second = run(model, *arguments)
        assert second.returncode == 1 and b"is being written by another process" in second.stderr
        assert process.wait() == 1
    assert len((many_images / "answers.csv").read_text().splitlines()) == MANY + 1


def test_results_page_matches_the_measurements() -> None:
    page = (ROOT / "docs/results/batch-prediction.md").read_text()
    results = json.loads((ROOT / "docs/results/batch-prediction.json").read_text())
    assert results["cases"] and results["memory"]
    filled = replace_block(page, "predicting", predicting.table(results["cases"]))
    assert replace_block(filled, "predicting memory", predicting.memory_table(results["memory"])) == page


def test_missing_paths_of_a_list_are_error_rows(model: Path, folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"in/a/00.png\nabsent.png\nin\nnul\0.png\n\xff\xfe.png\n" + b"x" * 5000)
    os.mkfifo(folder / "pipe.png")
    completed = run(model, "list.txt", "pipe.png", "--format", "jsonl")
    rows = [json.loads(line) for line in completed.stdout.splitlines()]
    assert [bool(row["error"]) for row in rows] == [False, True, True, True, True, True, True]
    assert "No such file" in rows[1]["error"] and "is a folder" in rows[2]["error"]
    assert "null byte" in rows[3]["error"] and "is not a regular file" in rows[6]["error"]


def test_image_inside_the_output_folder_is_refused(folder: Path) -> None:
    mask = create_model(replace(SPEC, task="segmentation", representation="mask"), folder / "mask.onnx")
    (folder / "list.txt").write_text("in/a/00.png\nin/b/01.png\n")
    completed = run(mask, "list.txt", "--format", "jsonl", "--files", "in/b")
    first, second = (json.loads(line) for line in completed.stdout.splitlines())
    assert not first["error"] and "lies in --files in/b" in second["error"]
    assert np.asarray(Image.open(folder / "in/b/01.png")).max() == 8
