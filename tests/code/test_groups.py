"""Groups of related images that configure derives from names, folders and the similarity of the images."""

import io
import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import ingest as ingest_stage
from stages.config.combinations import guard_problem
from stages.config.schema import Params
from stages.configuration import inspection
from stages.configuration.filename_patterns import assign_groups
from stages.configuration.grouping import ImageGrouping, detect_grouping
from stages.configuration.inspection import inspect_images
from stages.configuration.name_parts import divide
from stages.configuration.source_proposal import ask_about_few_groups, propose_ingest
from stages.configuration.time_sessions import find_sessions
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.dataset.capture_times import number_sessions, parse_times
from stages.images.archives import list_source_files
from stages.importers import IMPORTERS
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.sample import Sample, fixed_annotation
from stages.importers.sequence_blocks import near_held_out
from stages.runner.stage import call
from tests.conftest import png

SIDE = 32
Pictures = dict[str, np.ndarray]


def scene(name: str) -> np.ndarray:
    """Return a smooth random pattern with a random brightness, the same for the same name."""
    rng = np.random.default_rng(int(sha256(name.encode()).hexdigest()[:8], 16))
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return 0.6 * np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE)), float) + rng.uniform(20, 80, 3)


def picture(*scenes: str, own: str = "") -> np.ndarray:
    """Return the mean of scenes with noise; `own` names a scene that no other image has."""
    image = np.mean([scene(name) for name in (*scenes, *([own] if own else []))], axis=0)
    return (image + np.random.default_rng(len(own)).normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def detect(pictures: Pictures, label: Callable[[str], str], has_split: bool = False) -> tuple[ImageGrouping, list[int]]:
    """Return the detected grouping and the number of the group of each image; the top folder can be the split."""
    items = [
        Sample(path, fixed_annotation(Annotation()), None, top(path) if has_split else None, partial(png, image))
        for path, image in pictures.items()
    ]
    found = detect_grouping(items, [label(path) for path in pictures], {}, has_split)
    return found, list(divide(assign_groups(items, found.group, found.block)))


def top(path: str) -> str:
    return path.partition("/")[0]


def unlabelled(path: str) -> str:
    return ""


def subjects() -> Pictures:
    """Return sequences of subjects; a subject has sequences in several class folders."""
    return {
        f"{'abc'[(subject + sequence) % 3]}/S{subject:03}_{sequence:03}_{frame:08}.png": picture(
            f"s{subject}", f"s{subject}", f"s{subject}-{sequence}", own=f"{subject}-{sequence}-{frame}"
        )
        for subject, sequence, frame in product(range(12), range(3), (12, 13))
    }


def patients() -> Pictures:
    return {
        f"{10250 + p}/{c}/{10250 + p}_idx5_x{p * 50 + 101 * n}_y{97 * n}_class{c}.png": picture(
            f"p{p}", own=f"{p}{c}{n}"
        )
        for p, c, n in product(range(12), "01", range(5))
    }


def slides() -> Pictures:
    return {
        f"{kind}/SOB/{method}/SOB_14-{slide}/{scale}X/{n}.png": picture(
            f"{kind}{method}{slide}", own=f"{kind}{method}{slide}{scale}{n}"
        )
        for kind, method, slide, scale, n in product(("benign", "malignant"), "ab", range(5), (40, 100, 200), range(2))
    }


def eyes() -> Pictures:
    return {f"Image_{n:02}{side}.jpg": picture(f"child{n}", own=f"{n}{side}") for n, side in product(range(14), "LR")}


def turned_copies() -> Pictures:
    """Return leaves with flipped and rotated copies of most of them."""
    found: Pictures = {}
    for kind, leaf in product("ab", range(14)):
        name = f"{kind}/{7919 * (leaf + 1):08x}-{ord(kind):04x}___RS_Erly.B {(leaf * 991 + ord(kind)) % 9999}"
        whole = picture(f"leaf{kind}{leaf}")
        found |= {f"{name}.JPG": whole, f"{name}_flipLR.JPG": whole[:, ::-1]}
        found |= {f"{name}_{turns * 90}deg.JPG": np.rot90(whole, turns) for turns in (1, 2, 3) if (leaf + turns) % 2}
    return found


def parts() -> Pictures:
    return {
        f"part{n:02}/View{side}.jpg": picture(f"part{n}", f"side{side}", own=f"{n}-{side}")
        for n, side in product(range(15), range(8))
    }


def photos() -> Pictures:
    """Return patches of photos in the folders of three structures and of two classes."""
    return {
        f"{kind}/{'CU'[(patch + photo) % 2]}{kind}/{first + photo}-{13 * patch + 1}.jpg": picture(
            f"{kind}{photo}", own=f"{kind}{photo}-{patch}"
        )
        for (first, kind), photo, patch in product(((7001, "D"), (7041, "P"), (7081, "W")), range(4), range(8))
    }


def boards() -> Pictures:
    return {
        f"{kind.capitalize()}/{board:02}_{kind}_{n:02}.jpg": picture(f"board{board}", own=f"{board}{kind}{n}")
        for kind, board, n in product(("short", "spur", "missing_hole"), range(1, 11), range(3))
    }


def tiles() -> Pictures:
    return {
        f"{city}{photo}_x{512 * x}_y{512 * y}.png": picture(f"{city}{photo}", city, own=f"{city}{photo}-{x}-{y}")
        for city, photo, x, y in product(("austin", "tyrol-w", "kitsap"), range(1, 6), range(3), range(3))
    }


def clips() -> Pictures:
    return {
        f"{act}/v_{act}_g{scene:02}_c{clip:02}_{25 * n:04}.jpg": picture(
            f"{act}{scene}", f"{act}{scene}-{clip}", own=f"{act}{scene}{clip}{n}"
        )
        for act, scene, clip, n in product(("Archery", "Bowling", "Diving"), range(1, 6), range(1, 4), range(3))
    }


def days() -> Pictures:
    return {
        f"{'eo'[(day + place) % 2]}/2012-{month:02}-{day:02}_{hour:02}_05_16#{place:03}.jpg": picture(
            f"day{month}-{day}", own=f"{month}{day}{hour}{place}"
        )
        for month, day, hour, place in product((9, 10), range(10, 16), (6, 9), range(1, 4))
    }


@pytest.mark.parametrize(
    ("pictures", "label", "pattern"),
    [
        (subjects, top, r"/(S\d+)_"),
        (patients, lambda path: path.split("/")[1], r"^(\d+)/"),
        (slides, top, r"^(.*14-\d+)/"),
        (eyes, unlabelled, r"(Image_\d+)"),
        (turned_copies, top, r"(.*Erly\.B \d+)"),
        (parts, unlabelled, r"^(part\d+)/"),
        (photos, lambda path: path.split("/")[1], r"/(\d+)-"),
        (photos, lambda path: path.split("/")[1][0], r"/(\d+)-"),
        (boards, unlabelled, r"/(\d+)_"),
        (tiles, unlabelled, r"^([a-z-]+\d)_"),
        (clips, top, r"(v_.*_g\d+)_"),
        (days, top, r"/(\S{10})_"),
    ],
)
def test_the_coarsest_grouping_whose_images_are_alike_is_proposed(
    pictures: Callable[[], Pictures], label: Callable[[str], str], pattern: str
) -> None:
    made = pictures()
    items = [Sample(path, fixed_annotation(Annotation()), None, None, bytes) for path in made]
    found, groups = detect(made, label)
    assert groups == list(divide(assign_groups(items, pattern, 1))), (found.group, found.asks)
    assert "are related?" not in " ".join(found.asks)


@pytest.mark.parametrize(
    ("names", "label"),
    [
        ([f"{'ab'[n % 2]}/scan{n // 6:02}_{n % 17:02}_{n:03}.png" for n in range(96)], top),
        ([f"batch{n // 12}/img_{n % 12:02}.png" for n in range(96)], unlabelled),
        ([f"2021-{1 + n // 24:02}-{1 + n % 24:02}_{n:04}.png" for n in range(96)], unlabelled),
        ([f"{'ab'[n % 2]}/x{n * 37 % 1000}_y{n * 91 % 1000}_v{n % 7}.png" for n in range(96)], top),
        ([f"{'ab'[n % 2]}/2012-09-{1 + n // 8:02}_{n % 8:02}_05_16#{n % 5}.png" for n in range(96)], top),
        ([f"{'abc'[n % 3]}/{n // 3:02}.png" for n in range(96)], top),
        ([f"{'cat dog'.split()[n % 2]}_{n // 2:02}_{(n * 7) % 11}.png" for n in range(96)], unlabelled),
    ],
)
def test_independent_images_with_similar_names_are_not_grouped(names: list[str], label: Callable[[str], str]) -> None:
    found, groups = detect({name: picture(own=f"{n}") for n, name in enumerate(names)}, label)
    assert (found.group, found.block) == ("", 1) and len(set(groups)) == len(names)


def test_folders_of_classes_below_folders_of_splits_are_not_groups() -> None:
    parts = ("train", "val", "test")
    names = [f"{parts[n % 3]}/{'ab'[n // 3 % 2]}/{7919 * (n + 1) % 9973:x}-{n}.png" for n in range(96)]
    found, _ = detect({name: picture(own=name) for name in names}, lambda path: path.split("/")[1], has_split=True)
    assert not found.group and not any("may identify" in ask for ask in found.asks)


def test_kinds_that_words_name_are_a_question() -> None:
    kinds = "beagle boxer collie husky poodle tabby siamese bengal".split()
    names = [f"{kind}_{n + 1}.jpg" for kind in kinds for n in range(12)]
    found, _ = detect({name: picture(name.split("_")[0], f"x{name}", own=name) for name in names}, unlabelled)
    assert not found.group and any("may identify related images" in ask for ask in found.asks)


def camera_traps(**keys: Callable[[int], Any]) -> dict[str, Callable[[], bytes]]:
    """Return 60 images and a COCO file that gives each image further keys."""
    images = [
        {"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} | {key: of(n) for key, of in keys.items()}
        for n in range(60)
    ]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [2, 2, 9, 9]} for n in range(60)]
    listed = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "fox"}]}
    files: dict[str, Callable[[], bytes]] = {f"{n}.png": partial(png, picture(own=str(n))) for n in range(60)}
    return files | {"boxes.json": json.dumps(listed).encode}


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ({"location": lambda n: n // 6, "seq_id": lambda n: f"s{n // 3}", "frame_num": lambda n: n % 3}, "location"),
        ({"video_id": lambda n: n // 6}, "video_id"),
        ({"site": lambda n: n // 12, "seq_id": lambda n: f"s{n // 3}"}, "seq_id"),  # five sites are too few
        ({"site": lambda n: n // 30}, None),
        ({"license": lambda n: n // 6, "seq_num_frames": lambda n: n // 6}, None),
        ({"location": lambda n: n}, None),
        ({"location": lambda n: n // 6 or None}, None),  # unknown for some images
    ],
)
def test_keys_of_coco_images_are_groups(
    keys: dict[str, Callable[[int], Any]], chosen: str | None, params: Params
) -> None:
    best = find_formats(camera_traps(**keys), params.ingest)[0][0]
    assert (best.format, best.changes.get("coco_group")) == ("coco", chosen)
    groups = {int(one.path.split(".")[0]): one.group for one in best.samples}
    assert groups == {n: str(keys[chosen](n)) if chosen else None for n in range(60)}


def test_an_image_without_its_group_in_a_coco_file_is_an_error(params: Params) -> None:
    files = camera_traps(location=lambda n: n // 6 or None)
    ingest = params.ingest.model_copy(update={"coco_group": "location"})
    with pytest.raises(UserError, match=r"0.png has the location None, but ingest.coco_group requires"):
        IMPORTERS["coco"](files, "boxes.json", ingest, False)


def sections(count: int, film: str = "", fade: float = 0.3) -> Pictures:
    """Return numbered images that each keep part of the previous one."""
    image, found = scene(f"{film}0"), {}
    for n in range(count):
        image = (1 - fade) ** 0.5 * image + fade**0.5 * scene(f"{film}{n + 1}") - 60 * fade
        found[f"{film}section_{n:02}.tif"] = image.clip(0, 255).astype(np.uint8)
    return found


@pytest.mark.parametrize(
    ("pictures", "which"),
    [
        (sections(16), "one film or stack: section_01.tif and section_02.tif"),
        (sections(30), "one film or stack: section_02.tif and section_03.tif"),
        (sections(24, "01/") | sections(24, "02/"), "2 films or stacks: 01/section_03.tif and 01/section_04.tif"),
    ],
)
def test_blocks_of_a_film_are_proposed_with_a_question_about_their_borders(pictures: Pictures, which: str) -> None:
    found, groups = detect(pictures, unlabelled)
    assert found.block > 1 and len(set(groups)) < len(groups)
    assert any(f"the blocks are parts of {which} are consecutive" in ask for ask in found.asks), found.asks
    assert any("`split.guard: " in ask for ask in found.asks)


def test_training_images_next_to_held_out_ones_are_left_out() -> None:
    paths = [f"f{film}/t{n:03}.tif" for film in (1, 2) for n in range(0, 40, 2)]
    groups = [f"{path[:4]}#{int(path[4:7]) // 10 * 10}" for path in paths]
    splits = ["val" if group == "f1/t#10" else "test" if group == "f2/t#30" else "train" for group in groups]
    near = near_held_out(groups, paths, splits, 4)
    assert [path for path, left_out in zip(paths, near, strict=True) if left_out] == [
        "f1/t006.tif", "f1/t008.tif", "f1/t020.tif", "f1/t022.tif", "f2/t026.tif", "f2/t028.tif",
    ]  # fmt: skip
    assert not any(near_held_out(groups, paths, ["train"] * len(paths), 4))


def test_ingest_leaves_out_training_images_by_the_guard(params: Params, workspace: Path) -> None:
    source = workspace / "source"
    for path, image in sections(40).items():
        file = source / "ab"[int(path[8:10]) // 2 % 2] / path.replace("tif", "png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    ingest = params.ingest.model_copy(update={"name": "film", "format": "folders", "inside": "", "sequence_block": 4})
    split = params.split.model_copy(update={"guard": 1, "validation": 0.2, "test": 0.2})
    (workspace / "splits").mkdir(exist_ok=True)
    paths = [source, *(workspace / name for name in ("splits", "sealed", "ingested"))]
    call(ingest_stage.main, paths, {"ingest": ingest, "split": split})
    kept = pd.concat([pd.read_parquet(workspace / part / "manifest.parquet") for part in ("ingested", "sealed")])
    number = kept["path"].str.extract(r"_(\d+)")[0].astype(int).to_numpy()
    training = number[(kept["split"] == "train").to_numpy()]
    held_out = number[(kept["split"] != "train").to_numpy()]
    assert abs(training[:, None] - held_out).min() == 2
    unused = pd.read_csv(workspace / "ingested" / "unused.csv")
    assert len(unused) + len(kept) == 40 and (unused["reason"].str.contains("split.guard 1")).all() and len(unused) > 2


@pytest.mark.parametrize(
    ("by", "block", "guard", "refused"),
    [("hash", 1, 2, True), ("source", 4, 2, True), ("hash", 4, 2, False), ("hash", 1, 0, False)],
)
def test_a_guard_without_blocks_is_refused(by: str, block: int, guard: int, refused: bool, params: Params) -> None:
    ingest = params.ingest.model_copy(update={"sequence_block": block})
    problem = guard_problem(ingest, params.split.model_copy(update={"by": by, "guard": guard}))
    assert bool(problem) == refused


@pytest.mark.parametrize(("films", "asked", "divided"), [(2, True, True), (5, True, False), (8, False, False)])
def test_few_groups_of_the_source_are_a_question(films: int, asked: bool, divided: bool) -> None:
    items = [
        Sample(f"v{film}/img{17 * n:04}.png", fixed_annotation(Annotation()), f"v{film}", None, bytes)
        for film in range(films)
        for n in range(10)
    ]
    asks = list(ask_about_few_groups(FormatCandidate("deeplabcut", "", "", samples=tuple(items))))
    assert bool(asks) == asked
    assert ("v0/img0000.png and v0/img0017.png may be in training and validation" in " ".join(asks)) == divided


def divided(leaves: int, together: bool) -> Pictures:
    """Return copies of leaves, of which all are in one split of the source, or each in the next one."""
    found = {}
    for leaf, copy in product(range(leaves), range(4)):
        part = ("train", "train", "val", "test")[(leaf if together else copy) % 4]
        found[f"{part}/{'ab'[leaf % 2]}/leaf{leaf:02}_copy{copy}.png"] = picture(
            f"l{leaf}", f"l{leaf}", own=f"{leaf}{copy}"
        )
    return found


@pytest.mark.parametrize("together", [True, False])
def test_groups_in_several_splits_of_the_source_are_a_question(together: bool) -> None:
    asks = " ".join(detect(divided(24, together), lambda path: path.split("/")[1], has_split=True)[0].asks)
    assert ("24 of 24 groups are in several splits of the source" in asks) != together
    assert ("train/a/leaf00_copy0.png (train) and val/a/leaf00_copy2.png (val)" in asks) != together
    assert ("`split.by: hash`" in asks) != together


@pytest.mark.parametrize("together", [True, False])
def test_similar_images_in_several_splits_of_the_source_are_a_question(together: bool) -> None:
    made = divided(24, together).items()
    order = np.random.default_rng(0).permutation(len(made))
    names = {
        path: f"{path.rpartition('/')[0]}/{7919 * (n + 1) % 99991:x}.png"
        for path, n in zip(dict(made), order, strict=True)
    }
    asks = " ".join(
        detect({names[path]: image for path, image in made}, lambda path: path.split("/")[1], has_split=True)[0].asks
    )
    assert ("have a far nearer image in another split of the source" in asks) != together


@pytest.mark.parametrize("turns", [True, False])
def test_views_of_one_object_per_class_are_a_question(turns: bool) -> None:
    """Test names such as `7_100.jpg`, whose first number is the angle; without `turns`, the images are independent."""
    made = {}
    for fruit in "abcd":
        for n, image in enumerate(sections(24, fruit).values()):
            made[f"{fruit}/{n}_100.jpg"] = image if turns else picture(fruit, own=f"{fruit}{n}")
    found, _ = detect(made, top)
    assert ("are the images of a folder views of one object?" in " ".join(found.asks)) == turns
    assert (found.group, found.block) == ("", 1)


def dated_photos(
    visits: int, per_visit: int, alike: bool, minutes: Callable[[int, int], float]
) -> tuple[list[Sample], dict[int, str]]:
    """Return photos with names that say nothing, and their EXIF times.

    Args:
        visits: number of visits.
        per_visit: photos of each visit.
        alike: whether the photos of a visit show one scene.
        minutes: time of a photo, by the numbers of the visit and the photo.
    """
    items: list[Sample] = []
    taken: dict[int, str] = {}
    for visit, photo in product(range(visits), range(per_visit)):
        own = f"{visit}-{photo}"
        image = picture(*([f"v{visit}", f"v{visit}"] if alike else []), own=own)
        name = "".join(chr(ord("a") + int(digit, 16)) for digit in sha256(own.encode()).hexdigest()[:12])
        taken[len(items)] = f"{datetime(2024, 5, 1) + timedelta(minutes=minutes(visit, photo)):%Y:%m:%d %H:%M:%S}"
        items.append(Sample(f"{name}.jpg", fixed_annotation(Annotation()), None, None, partial(png, image)))
    return items, taken


def hourly(visit: int, photo: int) -> float:
    return 90 * visit + 2 * photo + 0.1 * ((visit * photo) % 7)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_capture_times_of_visits_are_proposed_if_the_images_of_a_visit_are_alike(share: float) -> None:
    """The reason states how many times were read, if not all were."""
    items, taken = dated_photos(20, 4, True, hourly)
    read = {place: taken[place] for place in taken if place < share * len(items)}
    found = detect_grouping(items, [""] * len(items), {}, False, read)
    assert 9 < found.session_gap < 80, found.asks
    sessions = number_sessions(parse_times(list(taken.values())), 60 * found.session_gap)
    assert list(divide(list(map(str, sessions)))) == [place // 4 for place in range(len(items))]
    assert "sessions, with a median gap of 1.4 h between sessions and of 2" in found.why
    assert ("capture times of 40 of 80 images were read" in found.why) == (share < 1)


def test_capture_times_of_visits_are_a_question_if_the_images_are_not_alike() -> None:
    items, taken = dated_photos(20, 4, False, hourly)
    found = detect_grouping(items, [""] * len(items), {}, False, taken)
    assert not found.session_gap
    assert any("`session_gap: " in ask and "images do not confirm it" in ask for ask in found.asks)


@pytest.mark.parametrize(
    "minutes",
    [
        lambda visit, photo: 5.0 * (4 * visit + photo),
        lambda visit, photo: float(np.random.default_rng(0).exponential(8, 100).cumsum()[4 * visit + photo]),
        lambda visit, photo: 0.0,
    ],
    ids=["one photo every 5 minutes", "random times", "one time"],
)
def test_times_without_long_gaps_are_not_divided(minutes: Callable[[int, int], float]) -> None:
    items, taken = dated_photos(20, 4, True, minutes)
    assert not list(find_sessions(items, [""] * len(items), taken))


def test_few_capture_times_are_not_used() -> None:
    items, taken = dated_photos(20, 4, True, hourly)
    few = {place: time if place % 4 else "" for place, time in taken.items()}
    assert not detect_grouping(items, [""] * len(items), {}, False, few).session_gap


def test_configure_reads_capture_times_and_proposes_their_gap(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, taken = dated_photos(16, 4, True, hourly)
    for place, item in enumerate(items):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = taken[place]
        file = tmp_path / "photos" / "ab"[place // 4 % 2] / item.path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(item.read())).save(file, exif=exif, quality=95)
    with ExitStack() as stack:
        files, _ = list_source_files(tmp_path / "photos", stack)
        (reading, *_), _ = find_formats(files, params.ingest)
        facts = inspect_images(reading, 100)
        choices = {choice.key: choice for choice in propose_ingest(reading, facts, tmp_path / "photos")}
        assert choices["ingest.session_gap"].value == facts.grouping.session_gap > 8
        assert "the capture times divide 64 images into 16 sessions" in choices["ingest.session_gap"].why
        monkeypatch.setattr(inspection, "MOST_HEADERS", 50)
        monkeypatch.setattr(inspection, "MOST_DATED", 40)
        assert "capture times of 40 of 64 images were read" in inspect_images(reading, 100).grouping.why
