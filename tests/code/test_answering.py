"""Many images answered: every kind of source gives the same rows, a bad file costs its row, and a run goes on."""

import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
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
from stages.batch_prediction import FORMS, Order, answered, asked, output_to, refuse_sources
from stages.batch_prediction import inputs as sources
from stages.batch_prediction.inputs import Asked
from stages.batch_prediction.worker_pool import Line
from stages.core.errors import UserError
from stages.images.decode import Unreadable
from stages.runtime import digest_of
from stages.tasks.task_spec import TaskSpec
from tests.command_line import macula
from tests.conftest import ROOT, png

OUTLINE = TaskSpec("classification", "class", "label", labels=("dark", "light"), channels=1)


def model_of(spec: TaskSpec, file: Path) -> Path:
    """How light an image is, as the probability of the second class; or of every pixel."""
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
    given = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", spec.channels])
    answer = helper.make_tensor_value_info("probability", TensorProto.FLOAT, None)
    graph = helper.make_graph(steps, "light", [given], [answer], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {k: json.dumps(v) for k, v in {**spec.as_json(), "version": "test"}.items()})
    onnx.save(model, file)
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(OUTLINE, tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with thirty images in folders, one of them no image, a hidden one, and what is none."""
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
    """All files of a folder; or as many as there are other names for them."""
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


def run(model: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "stages.predict", str(model), *words, "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, timeout=120, **options)


def alone(model: Path, *words: str) -> bytes:
    """What is written without other processes."""
    macula("predict", str(model), *words, "--workers", "0", "--output", "alone")
    return Path("alone").read_bytes()


def test_folders_archives_and_lists_give_the_same_rows_in_the_same_order(model: Path, here: Path) -> None:
    rows = alone(model, "in").splitlines()[1:]
    names = [row.split(b",")[0].decode() for row in rows]
    assert names == [f"in/{n}" for n in names_in(here / "in") if n.endswith(".png") and "hidden" not in n]
    listed = "\r\n".join(["", *names, ""]).encode()
    (here / "list.txt").write_bytes(listed)
    archives = [pack(here / "in", here / f"in{ending}").name for ending in (".zip", ".tar", ".tgz")]
    given = run(model, "in", *archives, "list.txt", "-", *names[:2], input=listed)
    assert given.returncode == 1 and b"6 of 182 images could not be answered" in given.stderr, given.stderr
    _, *found = given.stdout.splitlines()
    for part, prefix in enumerate(["in", *archives, "in", "in"]):
        expected = [row.replace(b"in/", f"{prefix}/".encode()) for row in rows]
        assert found[30 * part : 30 * part + 30] == expected, prefix
    assert found[180:] == rows[:2]


@pytest.mark.parametrize("ending", [".zip", ".tgz", ".txt"])
def test_archives_and_lists_in_capitals_are_what_they_are(here: Path, ending: str) -> None:
    if ending == ".txt":
        (here / "in.txt").write_text("".join(f"in/{name}\n" for name in names_in(here / "in")))
    else:
        pack(here / "in", here / f"in{ending}")
    capital = (here / f"in{ending}").rename(here / f"IN{ending.upper()}")
    refuse_sources([str(capital)])
    assert len(list(asked([str(capital)]))) == (32 if ending == ".txt" else 30)


def test_a_folder_of_more_names_than_are_held_is_sorted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n}.png" for n in np.random.default_rng(0).permutation(50)]
    for name in [*names, "5/a.png", "5/deep/b.png", "5-/c.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    expected = sorted([*names, "5/a.png", "5/deep/b.png", "5-/c.png"])
    for held in (100, 7, 1):
        monkeypatch.setattr(sources, "AT_ONCE", held)
        assert [image.name for image in asked([str(tmp_path)])] == expected, held


def test_no_two_images_share_a_name_and_none_leads_out(here: Path) -> None:
    pack(here / "in", here / "in.zip")
    (here / "else/in/a").mkdir(parents=True)
    (here / "else/in/a/00.png").write_bytes(b"")
    (here / "else/in/a/00.jpg").write_bytes(b"")
    (here / "list.txt").write_text("in/a/00.png\n../" + here.name + "/else/in/a/00.png\n/in/a/00.png\n")
    images = list(asked(["in", "in.zip", "else/in", "list.txt", "in/a/00.png"]))
    names = [image.name for image in images]
    assert len(set(names)) == len(names) == 30 + 30 + 2 + 3 + 1
    assert {"in/a/00.png", "in.zip/a/00.png", "in-2/a/00.png", "00.png"} <= set(names)
    assert not [name for name in names if name.startswith("/") or ".." in name.split("/")]


def hostile(where: Path, good: bytes) -> list[str]:
    """A zip whose members are damaged, locked, doubled or lead out; their names in order."""
    names = ["good.png", "broken.png", "locked.png", "../../out.png", "/root.png", "a\\..\\..\\out.png"]
    with zipfile.ZipFile(where, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, good)
    data = bytearray(where.read_bytes())
    with zipfile.ZipFile(where) as archive:
        start = archive.getinfo("broken.png").header_offset + 30 + len("broken.png")
    data[start + 5 : start + 15] = bytes(10)
    for at in (data.index(b"locked.png") - 24, data.rindex(b"locked.png") - 38):
        data[at] |= 1  # the flag of encryption, in the member's head and in the table
    where.write_bytes(data)
    return names


def test_a_bad_member_of_an_archive_is_a_row_and_nothing_is_written_outside(here: Path) -> None:
    mask = model_of(replace(OUTLINE, task="segmentation", representation="mask"), here / "mask.onnx")
    names = hostile(here / "in.zip", png(np.full((20, 30), 9, np.uint8)))
    (here / "deep/er").mkdir(parents=True)
    before = set(here.rglob("*"))
    words = ["in.zip", "--format", "jsonl", "--files", "deep/er/masks", "--overlays", "deep/er/drawn"]
    given = run(mask, *words)
    assert given.returncode == 1, given.stderr
    rows = [json.loads(line) for line in given.stdout.splitlines()]
    assert [row["path"] for row in rows] == [f"in.zip/{name}" for name in names]
    reasons = ["", "cannot be unpacked", "encrypted", "leaves the", "", "leaves the"]
    for row, reason in zip(rows, reasons, strict=True):
        assert reason in row["error"] and bool(row["error"]) == bool(reason), row
    made = {f.relative_to(here).as_posix() for f in set(here.rglob("*")) - before if f.is_file()}
    written = ("masks/good.png.png", "masks/root.png.png", "drawn/good.png.jpg", "drawn/root.png.jpg")
    assert made == {f"deep/er/{name}" for name in written}


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
def test_members_whose_names_begin_with_a_dot_and_a_slash_are_answered(here: Path, ending: str) -> None:
    names = ["./one.png", "a/./two.png", ".\\three.png", "./../out.png", "./.hidden.png", "a\\.hidden.png"]
    images = list(asked([str(pack(here / "in", here / f"in{ending}", renamed=names))]))
    assert [image.path.partition(f"{ending}/")[2] for image in images] == names[:4]
    assert [image.name for image in images] == ["one.png", "a/two.png", "three.png", "refused"]
    assert [len(image.read()) > 50 for image in images[:3]] == [True] * 3
    with pytest.raises(Unreadable, match="leads out"):
        images[3].read()


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tgz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile's, as it packs
def test_a_name_that_stands_twice_in_an_archive_is_answered_once_and_told(here: Path, ending: str) -> None:
    first, *others = asked([str(pack(here / "in", here / f"in{ending}", renamed=["a.png", "a.png", "./a.png"]))])
    assert (first.name, first.read()) == ("a.png", (here / "in/a/00.png").read_bytes())
    assert [image.name for image in others] == ["refused"] * 2
    for image in others:
        with pytest.raises(Unreadable, match="stands in the archive before"):
            image.read()


@pytest.mark.parametrize("ending", [".tar", ".tgz"])
def test_a_tar_that_is_cut_off_answers_what_is_there_and_says_so(model: Path, here: Path, ending: str) -> None:
    whole = pack(here / "in", here / f"in{ending}")
    cut = here / f"cut{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    given = run(model, cut.name, "--format", "jsonl")
    assert given.returncode == 1, given.stderr
    *_, last = rows = [json.loads(line) for line in given.stdout.splitlines()]
    assert 5 < len(rows) < 30 and last["path"] == cut.name and "damaged or cut off" in last["error"]


def crash() -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def hang() -> bytes:
    time.sleep(600)
    return b""


def swell() -> bytes:
    return bytes(np.ones(2**28))


def test_a_file_that_crashes_hangs_or_swells_costs_its_own_row(model: Path, here: Path) -> None:
    good = png(np.full((20, 30), 200, np.uint8))
    reads: list[Callable[[], bytes]] = [partial(bytes, good)] * 24
    reads[14:16], reads[17], reads[20] = [crash, crash], hang, swell
    images = [Asked(str(number), str(number), read) for number, read in enumerate(reads)]
    order = Order(model, "jsonl", workers=2, seconds=5.0, memory=2**30)
    given = [(image, line) for some, lines in answered(iter(images), order, OUTLINE)
             for image, line in zip(some, lines, strict=True)]  # fmt: skip
    assert [image for image, _ in given] == images
    rows = [json.loads(line.text) for _, line in given]
    wrong = {number: row["error"] for number, row in enumerate(rows) if row["error"]}
    assert set(wrong) == {14, 15, 17, 20}
    assert "crashed on it (SIGSEGV)" in wrong[15] and "longer than 5 s" in wrong[17] and "1 GiB" in wrong[20]


def crash_beside(model: Path, other: Path | None) -> bytes:
    model.unlink() if other is None else other.replace(model)
    return crash()


@pytest.mark.parametrize("gone", [False, True])
def test_another_model_in_its_place_answers_nothing_and_ends_the_run(here: Path, gone: bool) -> None:
    file = model_of(OUTLINE, here / "model.onnx")
    other = None if gone else model_of(replace(OUTLINE, labels=("a", "b")), here / "other.onnx")
    good = partial(bytes, png(np.full((20, 30), 200, np.uint8)))
    reads: list[Callable[[], bytes]] = [good, good, partial(crash_beside, file, other), *[good] * 20]
    images = [Asked(str(number), str(number), read) for number, read in enumerate(reads)]
    order = Order(file, "jsonl", workers=1, digest=digest_of(file))
    lines: list[Any] = []
    with pytest.raises(UserError, match="does not exist" if gone else "is another file than at the start"):
        for _, some in answered(iter(images), order, OUTLINE):
            lines += some
    assert [line.failed for line in lines] == [False, False, True]


MANY = 900


@pytest.fixture
def many(here: Path) -> Path:
    """Images enough for seconds."""
    (here / "many").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700)).astype(np.uint8)
    (here / "many/000.png").write_bytes(png(noise))
    for number in range(1, MANY):
        os.link(here / "many/000.png", here / f"many/{number:03d}.png")
    (here / "many/150.png").unlink()
    (here / "many/150.png").write_bytes(b"no image")
    return here


def interrupted(model: Path, words: list[str], record: Path, by: int) -> int:
    """Begin, and end it when rows are recorded: how many."""
    command = [sys.executable, "-m", "stages.predict", str(model), *words, "--workers", "2"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL) as process:
        while not record.exists() or not json.loads(record.read_text())["rows"]:
            assert process.poll() is None, "it ended before it was interrupted"
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(by)
    return json.loads(record.read_text())["rows"]


@pytest.mark.parametrize(("form", "by"), [("json", signal.SIGKILL), ("csv", signal.SIGINT)])
def test_a_run_that_was_ended_goes_on_to_the_same_bytes(model: Path, many: Path, form: str, by: int) -> None:
    words = ["many", "--format", form, "--output", "answers"]
    part, record = many / "answers.part", many / "answers.part.json"
    done = interrupted(model, words, record, by)
    assert 0 < done < MANY and not (many / "answers").exists()
    with part.open("ab") as stream:
        stream.write(b'"half a row' * 10**5)  # what a kill in the middle of rows leaves
    again = run(model, *words)
    assert again.returncode == 1 and f"1 of {MANY} images".encode() in again.stderr, again.stderr
    whole = alone(model, "many", "--format", form)
    assert (many / "answers").read_bytes() == whole and whole.count(b"many/") == MANY
    assert not part.exists() and not record.exists()


def unfinished(model: Path, here: Path) -> list[str]:
    """A run that stopped after ten images: the eleventh cannot be written."""
    (here / "masks").mkdir()
    (here / "masks/b").write_text("in the way of a folder")
    words = ["in", "--output", "answers.csv", "--files", "masks", "--workers", "0"]
    with pytest.raises(UserError, match=r"--files masks: cannot write b/01.png: .*\nFinished rows are kept in"):
        macula("predict", str(model), *words)
    assert json.loads((here / "answers.csv.part.json").read_text())["rows"] == 10
    (here / "masks/b").unlink()
    return words


def test_what_cannot_be_written_ends_the_run_and_loses_nothing(here: Path) -> None:
    mask = model_of(replace(OUTLINE, task="segmentation", representation="mask"), here / "mask.onnx")
    words = unfinished(mask, here)
    first = (here / "masks/a/00.png.png").stat().st_mtime_ns
    assert macula("predict", str(mask), *words) == 1
    assert (here / "masks/a/00.png.png").stat().st_mtime_ns == first, "what was done is not done again"
    assert len((here / "answers.csv").read_text().splitlines()) == 31
    assert len(list((here / "masks").glob("*/*.png"))) == 29


def test_another_model_other_options_and_other_images_do_not_go_on(here: Path) -> None:
    spec = replace(OUTLINE, task="segmentation", representation="mask")
    mask = model_of(spec, here / "mask.onnx")
    words = unfinished(mask, here)
    other = model_of(replace(spec, labels=("background", "thing")), here / "other.onnx")
    for wrong, says in (
        ([str(other), *words], "an unfinished run began with model "),
        ([str(mask), *words, "--format", "jsonl"], "began with --format csv, now jsonl; --restart begins anew"),
        ([str(mask), "in/b", *words[1:]], "the first 10 images are not those of the rows; --restart"),
    ):
        with pytest.raises(UserError, match=says):
            macula("predict", *wrong)
    assert json.loads((here / "answers.csv.part.json").read_text())["rows"] == 10, "they took nothing away"
    assert macula("predict", str(other), *words, "--restart") == 1
    assert (here / "answers.csv").read_text().startswith("path,share_thing,file,error")


def test_rows_that_are_shorter_than_recorded_are_not_believed(here: Path) -> None:
    mask = model_of(replace(OUTLINE, task="segmentation", representation="mask"), here / "mask.onnx")
    words = unfinished(mask, here)
    os.truncate(here / "answers.csv.part", 100)
    with pytest.raises(UserError, match=r"tells of \d+ bytes, but there are fewer"):
        macula("predict", str(mask), *words)


@pytest.mark.parametrize(("form", "option"), [("csv", "--restart"), ("coco", None)])
def test_a_run_that_begins_anew_holds_nothing_of_the_old_one(here: Path, form: str, option: str | None) -> None:
    boxes = replace(OUTLINE, task="instances", representation="boxes") if form == "coco" else OUTLINE
    began: dict[str, Any] = {"model": "1"}
    images = list(asked(["in"]))

    def write(anew: bool, several: list[Asked]) -> None:
        with output_to(here / "answers", FORMS[form], boxes, began, anew) as output:
            output.start(iter(several))
            assert output.rows == 0
            output.add(several, [Line(b'{"path": "x", "error": "none"}\n', failed=False)] * len(several))

    write(anew=False, several=images[:2])
    expected = (here / "answers").read_bytes()
    (here / "answers.part").write_bytes(b'{"path": "old", "error": "old"}\n' * 50)
    if option:
        (here / "answers.part.json").write_text(json.dumps({"rows": 50, "bytes": 1600, "began": began, "failed": 50}))
    write(anew=option is not None, several=images[:2])
    assert (here / "answers").read_bytes() == expected
    assert sorted(file.name for file in here.glob("answers*")) == ["answers"]


def test_beginning_anew_takes_nothing_from_a_run_that_is_on_its_way(here: Path) -> None:
    with output_to(here / "answers", FORMS["csv"], OUTLINE, {}, False) as output:
        output.start(asked(["in"]))
        kept = (here / "answers.part.json").read_text()
        with (
            pytest.raises(UserError, match="is being written by another process"),
            output_to(here / "answers", FORMS["csv"], OUTLINE, {}, True),
        ):
            pass
        assert (here / "answers.part.json").read_text() == kept


def test_a_full_disk_is_an_error_that_says_where_it_goes_on(model: Path, many: Path) -> None:
    words = ["many", "--format", "jsonl", "--output", "answers"]

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))

    full = run(model, *words, preexec_fn=small)
    assert full.returncode == 1 and b"Traceback" not in full.stderr
    assert (
        b"error: --output answers cannot be written: File too large\nFinished rows are kept in answers.part"
        in full.stderr
    )
    assert macula("predict", str(model), *words, "--workers", "0") == 1
    assert (many / "answers").read_bytes() == alone(model, "many", "--format", "jsonl")


def test_two_runs_do_not_write_one_file(model: Path, many: Path) -> None:
    words = ["many", "--output", "answers.csv"]
    command = [sys.executable, "-m", "stages.predict", str(model), *words, "--workers", "1"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL) as process:
        while not (many / "answers.csv.part.json").exists():
            time.sleep(0.01)
        second = run(model, *words)
        assert second.returncode == 1 and b"is being written by another process" in second.stderr
        assert process.wait() == 1
    assert len((many / "answers.csv").read_text().splitlines()) == MANY + 1


def test_the_figures_of_the_page_are_those_that_were_measured() -> None:
    page = (ROOT / "docs/results/batch-prediction.md").read_text()
    kept = json.loads((ROOT / "docs/results/batch-prediction.json").read_text())
    assert kept["cases"] and kept["memory"]
    filled = replace_block(page, "predicting", predicting.table(kept["cases"]))
    assert replace_block(filled, "predicting memory", predicting.memory_table(kept["memory"])) == page


def test_a_list_names_what_is_not_there_and_is_told_so(model: Path, here: Path) -> None:
    (here / "list.txt").write_bytes(b"in/a/00.png\nabsent.png\nin\nnul\0.png\n\xff\xfe.png\n" + b"x" * 5000)
    os.mkfifo(here / "pipe.png")
    given = run(model, "list.txt", "pipe.png", "--format", "jsonl")
    rows = [json.loads(line) for line in given.stdout.splitlines()]
    assert [bool(row["error"]) for row in rows] == [False, True, True, True, True, True, True]
    assert "No such file" in rows[1]["error"] and "is a folder" in rows[2]["error"]
    assert "null byte" in rows[3]["error"] and "is not a regular file" in rows[6]["error"]


def test_what_lies_where_answers_are_written_is_not_answered(here: Path) -> None:
    mask = model_of(replace(OUTLINE, task="segmentation", representation="mask"), here / "mask.onnx")
    (here / "list.txt").write_text("in/a/00.png\nin/b/01.png\n")
    given = run(mask, "list.txt", "--format", "jsonl", "--files", "in/b")
    first, second = (json.loads(line) for line in given.stdout.splitlines())
    assert not first["error"] and "lies in --files in/b" in second["error"]
    assert np.asarray(Image.open(here / "in/b/01.png")).max() == 8
