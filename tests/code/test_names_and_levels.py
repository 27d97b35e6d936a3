"""Labels in the names of files, and the level of nested folders that names the class."""

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from stages.config.combinations import names_problem
from stages.config.schema import Params
from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.importers import IMPORTERS
from stages.importers.folder_levels import find_class_level
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.sample import ImportResult


def detect(params: Params, paths: Sequence[str]) -> tuple[list[FormatCandidate], list[str]]:
    return find_formats(dict.fromkeys(paths, bytes), params.ingest)


def read(params: Params, regex: str, *paths: str) -> ImportResult:
    ingest = params.ingest.model_copy(update={"format": "names", "name_regex": regex})
    return IMPORTERS["names"](dict.fromkeys(paths, bytes), "", ingest, False)


def test_named_groups_give_class_numbers_group_split_and_origin(params: Params) -> None:
    regex = r"(?P<split>train|test)/(?P<origin>\w)-(?P<label>[a-z]+)_(?P<weight>[\d.]+)g_(?P<group>\d+)"
    paths = ("train/x-apple_1.5g_7.jpg", "test/y-pear_2g_8.jpg", "labels.csv", "other.png")
    samples, rejected = read(params, regex, *paths)
    first, annotation = samples[0], samples[0].annotate(1, 1)
    assert (annotation.labels, annotation.scalars) == (("apple",), {"weight": 1.5})
    assert (first.group, first.split, first.origin) == ("7", "train", "x") and len(samples) == 2
    assert [(one.path, one.is_unused) for one in rejected] == [("labels.csv", True), ("other.png", False)]


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        (r"(?P<age>[a-z]+)_", "the group age matches 'apple', which is not a number"),
        (r"(?P<label>\d*)apple", "the group label matches no text"),
        (r"(?P<label>.)(?P<split>pp)", "the group split matches 'pp', which is not one of train"),
    ],
)
def test_an_image_whose_name_gives_no_valid_label_is_rejected(params: Params, regex: str, message: str) -> None:
    samples, rejected = read(params, regex, "apple_3.jpg")
    assert not samples and message in rejected[0].reason


def test_an_expression_that_matches_no_image_is_refused(params: Params) -> None:
    with pytest.raises(UserError, match=r"matches no image, for example not a\.png; correct the expression"):
        read(params, r"(?P<label>x)_", "a.png")


@pytest.mark.parametrize(
    ("regex", "message"), [("(?P<label>", "not a regular expression"), ("(a)_(?P<group>b)", "names nothing to predict")]
)
def test_a_wrong_name_regex_is_refused_with_the_params(params: Params, regex: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Ingest.model_validate(params.ingest.model_dump() | {"name_regex": regex})


@pytest.mark.parametrize(("source_format", "regex"), [("names", ""), ("folders", "(?P<label>a)")])
def test_the_format_names_and_its_expression_require_each_other(params: Params, source_format: str, regex: str) -> None:
    ingest = params.ingest.model_copy(update={"format": source_format, "name_regex": regex})
    assert "name_regex" in names_problem(ingest)


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        ([f"steel/{name}_{n}.bmp" for name in ("Cr", "In", "Pa") for n in range(12)], {"Cr", "In", "Pa"}),
        ([f"train/{name}.{n}.jpg" for name in ("cat", "dog") for n in range(12)], {"cat", "dog"}),
        ([f"{name} ({n}).png" for name in ("benign", "malignant") for n in range(12)], {"benign", "malignant"}),
        ([f"great_pug_{n}.jpg" for n in range(12)] + [f"Beagle_{n}.jpg" for n in range(12)], {"great_pug", "Beagle"}),
        ([f"{n:03}_{name}.jpg" for name in ("oak", "elm") for n in range(12)], {"oak", "elm"}),
        ([f"s_{n}_x{n}_class{n % 2}.png" for n in range(30)], {"0", "1"}),
    ],
)
def test_a_class_in_the_names_is_proposed_with_a_question(params: Params, paths: list[str], labels: set[str]) -> None:
    found = detect(params, paths)[0][0]
    assert found.format == "names" and len(found.samples) == len(paths)
    assert {label for item in found.samples for label in item.annotate(1, 1).labels or ()} == labels
    assert "the classes?" in found.asks[0] and paths[0] in found.asks[0]


@pytest.mark.parametrize(
    ("paths", "name", "value"),
    [
        ([f"f/apple_{100 + n // 4}g_{n % 4}.jpg" for n in range(40)], "weight", 100.0),
        ([f"{n % 9}_{20 + n}years.png" for n in range(40)], "age", 20.0),
        ([f"plant{n}_moisture{n / 2}_a.png" for n in range(40)], "moisture", 0.0),
    ],
)
def test_a_measured_number_in_the_names_is_proposed_with_a_question(
    params: Params, paths: list[str], name: str, value: float
) -> None:
    found = detect(params, paths)[0][0]
    assert found.samples[0].annotate(1, 1).scalars == {name: value}
    assert "is this number the label?" in found.asks[0]


@pytest.mark.parametrize(
    ("paths", "field"),
    [
        ([f"{1 + n % 40}_{n % 2}_{n % 5}_{20170116000 + n}.jpg" for n in range(60)], "field 1 has 40 values (1, 2, 3"),
        ([f"sim_A{n % 3:02}_C{3 * (n % 8)}_F{n % 7}_s{n % 2}.TIF" for n in range(60)], "field 3 has 8 values (C0, C3,"),
    ],
)
def test_fields_of_names_that_may_be_labels_are_stated(params: Params, paths: list[str], field: str) -> None:
    found, failures = detect(params, paths)
    assert not found and failures[0].startswith("the names of the files contain fields") and field in failures[0]


@pytest.mark.parametrize(
    "paths",
    [
        [f"{name}_{n}.jpg" for name in ("IMG", "DSC") for n in range(20)],
        [f"{name}_{n}.jpg" for name in ("left", "right") for n in range(20)],
        [f"photos/cat_{n}.jpg" for n in range(20)] + [f"masks/cat_{n}.png" for n in range(20)],
        [f"{n:04}.png" for n in range(40)],
    ],
)
def test_names_of_cameras_views_and_masks_are_not_classes(params: Params, paths: list[str]) -> None:
    assert not [one for one in detect(params, paths)[0] if one.format == "names"]


LEVELS: dict[str, tuple[list[str], tuple[str, str], list[str]]] = {
    "classes below patients": (
        [f"IDC/{p}/{c}/{n}.png" for p in range(10253, 10260) for c in (0, 1) for n in range(4)],
        ("IDC", "{group}/{label}/**"),
        [],
    ),
    "classes below splits without validation": (
        [f"{s}/{c}_front/{n}.png" for s in ("train", "test") for c in ("def", "ok") for n in range(8)],
        ("", "*/{label}/**"),
        [],
    ),
    "names of classes that contain the folder above": (
        [f"SD/{t}/{c}{t}/{n}.jpg" for t in "DPW" for c in "CU" for n in range(8)],
        ("SD", "*/{label}/**"),
        ["level 2 (CD, CP, CW, UD and 2 more)", "level 1 (D, P, W)"],
    ),
    "subtypes, slides and magnifications below the class": (
        [
            f"b/{c}/{s}/{c}-{s}-{p}/{m}X/{n}.png"
            for c, two in (("benign", "xy"), ("malignant", "vw"))
            for s in two
            for p in range(3)
            for m in (40, 100)
            for n in range(4)
        ],
        ("b", "{label}/*/{group}/**"),
        ["level 1 (benign, malignant)", "level 2 (v, w, x, y)", '`images: "*/{label}/{group}/**"`'],
    ),
    "species below genera": (
        [f"{g}/{s}/{n}.png" for g, two in (("oak", "ab"), ("maple", "cd")) for s in two for n in range(8)],
        ("", "{label}/**"),
        ["level 1 (maple, oak)", "level 2 (a, b, c, d)"],
    ),
    "classes below hospitals": (
        [f"{h}/{c}/{n}.png" for h in ("north", "south") for c in ("ill", "well") for n in range(8)],
        ("", "*/{label}/**"),
        ["level 2 (ill, well)", "level 1 (north, south)"],
    ),
    "classes below colour and grey copies": (
        [f"{k}/{c}/{n}.png" for k in ("color", "grayscale") for c in ("scab", "rust") for n in range(8)],
        ("", "*/{label}/**"),
        [],
    ),
}


@pytest.mark.parametrize("name", LEVELS)
def test_the_level_of_the_class_is_measured_and_other_levels_are_one_question(params: Params, name: str) -> None:
    paths, place, asked = LEVELS[name]
    found = detect(params, paths)[0][0]
    assert (found.format, (found.inside, found.changes["images"])) == ("folders", place)
    assert len(found.samples) == len(paths) and not found.rejected
    assert len(found.asks) == bool(asked) and all(text in found.asks[0] for text in asked)


@pytest.mark.parametrize(
    "paths",
    [
        [f"{c}/{n}.png" for c in "ab" for n in range(8)],
        [f"{c}/p{p}/{n}.png" for p in range(16) for c in ["ill", "well"][p % 2 :][:1] for n in range(4)],
        [f"{s}/{c}/{n}.png" for s in ("train", "val", "test") for c in "ab" for n in range(8)],
        [f"{s}/{k}/{n}.png" for s in ("a", "b") for k in ("images", "masks") for n in range(8)],
        [f"{c}/{m}x/{n}.png" for c in ("ill", "well") for m in (40, 100) for n in range(8)],
    ],
)
def test_the_first_level_of_classes_requires_no_pattern(paths: list[str]) -> None:
    assert find_class_level(paths, frozenset(("images", "masks"))) is None


def test_a_file_outside_the_level_of_the_class_is_rejected(params: Params) -> None:
    ingest = params.ingest.model_copy(update={"images": "{group}/{label}/**"})
    samples, rejected = IMPORTERS["folders"](dict.fromkeys(["p/0/a.png", "b/c.png"], bytes), "", ingest, False)
    assert (samples[0].annotate(1, 1).labels, samples[0].group) == (("0",), "p")
    assert rejected[0].reason == "does not match ingest.images {group}/{label}/**"
