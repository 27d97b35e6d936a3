"""Every label format gives the same annotations, and an invalid label is reported with file, line and value."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation, ObjectAnnotation, decode_rle, encode_rle
from stages.images.archives import Rejection
from stages.images.decode import Unreadable
from stages.importers import Sample, open_source
from stages.importers.sidecar_files import values_by_class
from tests.conftest import png

GREY = png(np.full((20, 30), 90, np.uint8))
Found = tuple[dict[str, Sample], list[Rejection]]
Read = Callable[..., Found]


@pytest.fixture
def source(params: Params, tmp_path: Path) -> Read:
    """Write files and read them as a source; return the samples by path and the rejected files."""

    def run(
        files: dict[str, Any], has_split: bool = False, columns: dict[str, Any] | None = None, **changes: Any
    ) -> Found:
        for name, content in files.items():
            file = tmp_path / "source" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        ingest = params.ingest.model_copy(
            update={"columns": params.ingest.columns.model_copy(update=columns or {}), **changes}
        )
        with open_source(tmp_path / "source", ingest, has_split) as (items, refused):
            return {item.path: item for item in items}, refused

    return run


def labels_of(item: Sample) -> Annotation:
    return item.annotate(20, 30)


def mask(*boxes: tuple[int, int, int, int], values: tuple[int, ...] = (255, 7)) -> bytes:
    image = np.zeros((20, 30), np.uint8)
    for (x0, y0, x1, y1), value in zip(boxes, values, strict=False):
        image[y0:y1, x0:x1] = value
    return png(image)


def indices(item: Sample) -> np.ndarray:
    assert item.target is not None
    return np.asarray(Image.open(io.BytesIO(item.target(20, 30))))


def test_run_lengths_and_json_round_trip() -> None:
    mask_HW = np.random.default_rng(0).random((13, 17)) > 0.6
    assert np.array_equal(decode_rle(encode_rle(mask_HW), 13, 17), mask_HW)
    for flat in (np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        assert np.array_equal(decode_rle(encode_rle(flat), 3, 4), flat)
    with pytest.raises(ValueError, match="add up to 5, not to 3 x 4 = 12"):
        decode_rle((2, 3), 3, 4)
    full = Annotation(
        ("a",),
        {"n": 1.5},
        {"nose": (1.0, 2.0), "tail": None},
        (ObjectAnnotation("x", (0, 1, 2, 3), (4, 2), True),),
        ("g", "h"),
        True,
    )
    assert Annotation.from_json(full.to_json()) == full
    assert Annotation.from_json(Annotation(labels=()).to_json()) == Annotation(labels=())


def test_a_table_provides_several_classes_numbers_and_points(source: Read) -> None:
    rows = "path,label,n,nose_x,nose_y\na.png,cat|dog,3,1.5,2\nb.png,,4,,\n"
    columns = {"separator": "|", "scalars": ("n",), "points": ("nose",)}
    items, refused = source({"t.csv": rows, "a.png": GREY, "b.png": GREY}, inside="t.csv", columns=columns)
    assert not refused
    assert labels_of(items["a.png"]) == Annotation(("cat", "dog"), {"n": 3.0}, {"nose": (1.5, 2.0)})
    assert labels_of(items["b.png"]) == Annotation((), {"n": 4.0}, {"nose": None})


def test_a_cell_that_is_not_a_finite_number_is_reported(source: Read) -> None:
    rows = "path,n\na.png,3\nb.png,three\nc.png,inf\n"
    files = {"t.csv": rows, **dict.fromkeys(("a.png", "b.png", "c.png"), GREY)}
    items, refused = source(files, inside="t.csv", columns={"label": None, "scalars": ("n",)})
    assert list(items) == ["a.png"]
    assert [r.reason for r in refused] == [
        "t.csv line 3: n is 'three', which is not a finite number",
        "t.csv line 4: n is 'inf', which is not a finite number",
    ]


def test_a_pattern_selects_rows_and_files_of_a_table(source: Read) -> None:
    files = {"t.csv": "path,label\nx/1.png,a\ny/2.png,b\n", "x/1.png": GREY, "y/2.png": GREY, "x/1dots.png": GREY}
    items, refused = source(files, inside="t.csv", images="x/?.png".replace("?", "1"))
    assert list(items) == ["x/1.png"] and not refused


def test_mask_values_are_mapped_to_classes(source: Read) -> None:
    files = {"i/1.png": GREY, "m/1.png": mask((0, 0, 5, 5), (10, 10, 20, 20)), "i/2.png": GREY}
    settings: dict[str, Any] = {"format": "masks", "images": "i/{key}.png", "targets": "m/{key}.png"}
    items, refused = source(files, **settings, mask_values={0: "ground", 255: "cell"}, ignore_values=(7,))
    index = indices(items["i/1.png"])
    assert labels_of(items["i/1.png"]).mask == ("ground", "cell")
    assert index[2, 2] == 1 and index[15, 15] == 255 and index[0, 25] == 0
    assert [(r.path, r.reason) for r in refused] == [("i/2.png", "has no target file m/2.png")]
    items, _ = source(files, **settings, mask_values={0: "ground", 255: "cell"})
    with pytest.raises(
        Unreadable,
        match=r"m/1.png contains the value 7; add it to ingest.mask_values \(0, 255\) or ingest.ignore_values \(none\)",
    ):
        indices(items["i/1.png"])
    items, _ = source(files, **settings)
    assert labels_of(items["i/1.png"]).mask == ("background", "foreground") and indices(items["i/1.png"])[15, 15] == 1


def test_mask_values_can_share_a_class_and_background_is_first(source: Read) -> None:
    files = {"i/1.png": GREY, "m/1.png": mask((0, 0, 5, 5), (10, 10, 20, 20))}
    values = {0: "cell", 7: "background", 255: "cell"}
    items, _ = source(files, format="masks", images="i/{key}.png", targets="m/{key}.png", mask_values=values)
    index = indices(items["i/1.png"])
    assert labels_of(items["i/1.png"]).mask == ("background", "cell")
    assert (index[2, 2], index[15, 15], index[0, 25]) == (1, 0, 1)


@pytest.mark.parametrize(("format_name", "read_labels"), [("masks", indices), ("instances", labels_of)])
def test_a_mask_with_several_frames_is_refused(
    source: Read, format_name: str, read_labels: Callable[[Sample], Any]
) -> None:
    buffer, image = io.BytesIO(), Image.new("L", (30, 20), 255)
    image.save(buffer, "TIFF", save_all=True, append_images=[image])
    files = {"i/1.png": GREY, "m/1.tif": buffer.getvalue()}
    items, _ = source(files, format=format_name, images="i/{key}.png", targets="m/{key}.tif")
    with pytest.raises(Unreadable, match="m/1.tif contains several frames"):
        read_labels(items["i/1.png"])


def test_a_palette_mask_is_read_by_index(source: Read) -> None:
    image = Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 2, "P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    files = {"i/1.png": GREY, "m/1.png": buffer.getvalue()}
    items, _ = source(
        files, format="masks", images="i/{key}.png", targets="m/{key}.png", mask_values={0: "a", 1: "b", 2: "c"}
    )
    assert np.array_equal(indices(items["i/1.png"]), np.eye(20, 30) * 2)


def test_overlapping_masks_of_two_classes_are_refused(source: Read) -> None:
    files = {"i/1.png": GREY, "m/1_cat.png": mask((0, 0, 5, 5)), "m/1_dog.png": mask((6, 6, 9, 9))}
    settings: dict[str, Any] = {"format": "masks", "images": "i/{key}.png", "targets": "m/{key}_{label}.png"}
    items, _ = source(files, **settings)
    assert labels_of(items["i/1.png"]).mask == ("background", "cat", "dog")
    assert indices(items["i/1.png"])[7, 7] == 2
    items, _ = source({**files, "m/1_dog.png": mask((4, 4, 9, 9))}, **settings)
    with pytest.raises(Unreadable, match="masks of cat and dog overlap, for example at x 4, y 4; .* ingest.overlaps"):
        indices(items["i/1.png"])


def test_overlapping_masks_are_combined_on_request(source: Read) -> None:
    files = {"i/1.png": GREY, "m/1_cell.png": mask((0, 0, 8, 8)), "m/1_nucleus.png": mask((4, 4, 6, 6))}
    files |= {"i/2.png": GREY, "m/2_cell.png": mask((0, 0, 8, 8)), "m/2_dirt.png": mask((9, 9, 12, 12))}
    settings: dict[str, Any] = {"format": "masks", "images": "i/{key}.png", "targets": "m/{key}_{label}.png"}
    items, _ = source(files, **settings, overlaps="combine")
    names = ("background", "cell", "dirt", "cell + nucleus")  # a nucleus is nowhere outside a cell
    assert {labels_of(item).mask for item in items.values()} == {names}
    index_HW = indices(items["i/1.png"])
    assert np.bincount(index_HW.ravel()).tolist() == [20 * 30 - 64, 60, 0, 4] and index_HW[4, 4] == 3
    assert np.bincount(indices(items["i/2.png"]).ravel()).tolist() == [20 * 30 - 73, 64, 9]
    files["m/2_a + b.png"] = mask((0, 0, 1, 1))
    with pytest.raises(UserError, match="the class 'a \\+ b' contains ' \\+ '"):
        source(files, **settings, overlaps="combine")


def test_one_mask_per_object_gives_boxes_and_skips_empty_masks(
    source: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"s/1/images/1.png": GREY, "s/1/masks/a.png": mask((2, 3, 7, 9)), "s/1/masks/b.png": mask()}
    settings = {"format": "instances", "images": "s/{key}/images/*.png", "targets": "s/{key}/masks/*.png"}
    items, _ = source(files, **settings)
    (shape,) = labels_of(items["s/1/images/1.png"]).shapes or ()
    assert shape.box == (2, 3, 7, 9) and shape.label == "object"
    assert decode_rle(shape.rle or (), 20, 30).sum() == 30
    assert "s/1/masks/b.png marks no pixel and is skipped" in capsys.readouterr().out
    with pytest.raises(Unreadable, match="a.png is 30x20, but the image is 31x20"):
        items["s/1/images/1.png"].annotate(20, 31)


def test_each_dot_becomes_an_object(source: Read) -> None:
    files = {"1cell.png": GREY, "1dots.png": mask((4, 4, 5, 5), (20, 10, 22, 12), values=(255, 250))}
    items, _ = source(files, format="dots", images="{key}cell.png", targets="{key}dots.png")
    boxes = [shape.box for shape in labels_of(items["1cell.png"]).shapes or ()]
    assert boxes == [(4.0, 4.0, 5.0, 5.0), (20.5, 10.5, 21.5, 11.5)]


def test_labelled_dots_become_objects_of_that_class(source: Read) -> None:
    files = {"i/1.png": GREY, "m/1_cat.png": mask((4, 4, 5, 5)), "m/1_dog.png": mask((8, 9, 9, 10))}
    items, _ = source(files, format="dots", images="i/{key}.png", targets="m/{key}_{label}.png")
    found = [(shape.label, shape.box) for shape in labels_of(items["i/1.png"]).shapes or ()]
    assert found == [("cat", (4, 4, 5, 5)), ("dog", (8, 9, 9, 10))]


def test_dots_are_nonzero_pixels_and_bright_pixels_in_a_jpeg(source: Read) -> None:
    level_HW = np.zeros((20, 30), np.uint8)
    level_HW[2:5, 2:5], level_HW[2:5, 20:23], level_HW[14:17, 10:13] = 255, 60, 1
    buffer = io.BytesIO()
    Image.fromarray(level_HW).save(buffer, "JPEG")
    files = {"i/1.png": GREY, "i/2.png": GREY, "m/1.png": png(level_HW), "m/2.jpg": buffer.getvalue()}
    items, _ = source(files, format="dots", images="i/{key}.png", targets="m/{key}.*")
    assert [len(labels_of(items[f"i/{key}.png"]).shapes or ()) for key in (1, 2)] == [3, 1]
    buffer = io.BytesIO()
    Image.fromarray(np.ones((20, 30), np.uint8)).save(buffer, "JPEG")
    items, _ = source({"m/2.jpg": buffer.getvalue()}, format="dots", images="i/{key}.png", targets="m/{key}.*")
    assert labels_of(items["i/2.png"]).shapes == (), "a nearly black JPEG contains no dots"


def test_an_unreadable_dot_image_is_reported(source: Read) -> None:
    files = {"i/1.png": GREY, "m/1.png": b"not an image"}
    items, _ = source(files, format="dots", images="i/{key}.png", targets="m/{key}.png")
    with pytest.raises(Unreadable, match="the dot image m/1.png cannot be decoded"):
        labels_of(items["i/1.png"])


@pytest.mark.parametrize(("format_name", "kind"), [("dots", "dot images"), ("pairs", "paired images")])
def test_several_files_for_one_image_are_refused(source: Read, format_name: str, kind: str) -> None:
    files = {"i/1.png": GREY, "m/1/a.png": mask(), "m/1/b.png": mask()}
    with pytest.raises(UserError, match=f"i/1.png has the {kind} m/1/a.png and m/1/b.png; ingest.targets must"):
        source(files, format=format_name, images="i/{key}.png", targets="m/{key}/*.png")


@pytest.mark.parametrize(
    ("patterns", "image", "target"),
    [
        (("{key}.png", "{key}_*.png"), "a.png", "a_mask.png"),  # in one folder: both patterns match the mask
        (("i/{key}.png", "m/{key}*.png"), "i/a.png", "m/a_mask.png"),
        (("i/{key}.png", "m/**/{key}*.png"), "i/a.png", "m/new/a_mask.png"),
        (("{key}.png", "{key}*.png"), "a.png", "a_mask.png"),
        (("i/{key}.png", "m/*{key}.png"), "i/ab.png", "m/mask_ab.png"),
        (("i/{key}.png", "m/*{key}*.png"), "i/ab.png", "m/mask_ab_1.png"),
    ],
)
def test_a_wildcard_next_to_the_key_is_not_part_of_the_key(
    source: Read, patterns: tuple[str, str], image: str, target: str
) -> None:
    items, refused = source({image: GREY, target: mask()}, format="pairs", images=patterns[0], targets=patterns[1])
    assert list(items) == [image] and not refused
    target_of = items[image].target
    assert target_of is not None and target_of(20, 30) == mask()


@pytest.mark.parametrize(
    ("patterns", "image", "target"),
    [
        (("{patient}/images/{key}.png", "{patient}/masks/{key}.png"), "p{a}/images/{b}.png", "p{a}/masks/{b}.png"),
        (("{name}_{key}.png", "{name}_dots_{key}.png"), "X_{a}_{b}.png", "X_{a}_dots_{b}.png"),
        (("{name}_{key}.png", "{name}_dots_{key}.png"), "X_{a}_{b}.png", "X_dots_{a}_{b}.png"),  # {name} is X
        (("i/{name}_{key}.png", "m/{name}-{key}_*.png"), "i/X_{a}_{b}.png", "m/X_{a}-{b}_mask.png"),
    ],
)
def test_several_parts_of_a_path_identify_an_image(
    source: Read, patterns: tuple[str, str], image: str, target: str
) -> None:
    files, expected = {}, {}
    for a, b in [(a, b) for a in "123" for b in ("00", "01")]:
        files[image.format(a=a, b=b)] = GREY
        files[target.format(a=a, b=b)] = expected[image.format(a=a, b=b)] = mask((int(a), int(b), 20, 15))
    items, refused = source(files, format="pairs", images=patterns[0], targets=patterns[1])
    assert not refused
    assert {path: item.target(20, 30) for path, item in items.items() if item.target} == expected


def test_a_placeholder_of_one_pattern_only_is_reported(source: Read) -> None:
    with pytest.raises(UserError, match=r"ingest.images contains \{patient\}, but ingest.targets \('m/\{key\}.png'\)"):
        source({"p/1.png": GREY}, format="masks", images="{patient}/{key}.png", targets="m/{key}.png")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mask_values": {0: "a", 32: "b", 64: "b", 255: "c"}}, {"a": 0, "b": 32, "c": 255}),
        ({}, {"background": 0, "foreground": 255}),
        ({"mask_values": {0: "a", 70000: "b"}}, {}),
        ({"targets": "{label}/{key}.png"}, {}),
        ({"format": "coco"}, {}),
    ],
)
def test_each_class_has_a_value_of_the_masks_of_the_source(
    changes: dict[str, Any], expected: dict[str, int], params: Params
) -> None:
    assert values_by_class(params.ingest.model_copy(update={"format": "masks", **changes})) == expected


@pytest.mark.parametrize(("pattern", "name"), [("m/{key}*.png", "m/{}x.png"), ("m/*{key}.png", "m/x{}.png")])
def test_the_longest_matching_key_wins_next_to_a_wildcard(source: Read, pattern: str, name: str) -> None:
    files = {"i/2.png": GREY, "i/22.png": GREY, name.format(2): mask(), name.format(22): GREY}
    items, refused = source(files, format="pairs", images="i/{key}.png", targets=pattern)
    assert not refused
    assert {path: item.target(20, 30) for path, item in items.items() if item.target} == {
        "i/2.png": mask(),
        "i/22.png": GREY,
    }


def test_images_with_a_common_name_prefix_get_their_own_masks(source: Read) -> None:
    files = {"a.png": GREY, "a_b.png": GREY, "a_mask.png": mask((1, 1, 4, 4)), "a_b_mask.png": mask((5, 5, 9, 9))}
    items, refused = source(files, format="instances", images="{key}.png", targets="{key}_*.png")
    assert not refused
    boxes = {path: [shape.box for shape in labels_of(item).shapes or ()] for path, item in items.items()}
    assert boxes == {"a.png": [(1, 1, 4, 4)], "a_b.png": [(5, 5, 9, 9)]}


@pytest.mark.parametrize("format_name", ["table", "arrays", "coco", "deeplabcut"])
def test_a_single_file_format_requires_the_file_name(source: Read, format_name: str) -> None:
    with pytest.raises(
        UserError, match=f"ingest.inside: the format {format_name} consists of one file; name it, for example labels/"
    ):
        source({"a.png": GREY}, format=format_name)


def test_several_integer_valued_floats_per_image_are_numbers(source: Read) -> None:
    def read(labels: list[list[float]]) -> Annotation:
        buffer = io.BytesIO()
        np.savez(buffer, images=np.zeros((2, 20, 30), np.uint8), labels=np.array(labels))
        items, _ = source({"a.npz": buffer.getvalue()}, inside="a.npz")
        return labels_of(items["images/000000.png"])

    assert read([[2.0, 0.0], [1.0, 3.0]]) == Annotation(scalars={"value0": 2.0, "value1": 0.0})
    assert read([[1.0, 0.0], [1.0, 1.0]]) == Annotation(labels=("0",)), "values of only 0 and 1 are classes"


def test_hidden_files_of_operating_systems_are_ignored(source: Read) -> None:
    files = {"i/a.png": GREY, "m/a.png": mask(), "i/._a.png": b"x", "m/._a.png": b"x", "__MACOSX/i/a.png": b"x"}
    items, refused = source(files, format="masks", images="i/{key}.png", targets="m/{key}.png")
    assert list(items) == ["i/a.png"] and not refused


def test_patterns_without_a_match_or_without_a_key_are_errors(source: Read) -> None:
    files = {"i/1.png": GREY, "m/1.png": GREY}
    with pytest.raises(UserError, match=r"both must contain \{key\}"):
        source(files, format="pairs", images="i/*.png", targets="m/{key}.png")
    with pytest.raises(
        UserError,
        match=r"ingest.targets: n/\{key\}.png matches no file other than the images; .* 2 files, for example i/1.png",
    ):
        source(files, format="pairs", images="i/{key}.png", targets="n/{key}.png")
    with pytest.raises(UserError, match=r"matches no file; .* \{side\} stands for any text within a folder"):
        source(files, format="pairs", images="i/{side}_{key}.png", targets="m/{side}_{key}.png")


def coco(**change: Any) -> dict[str, Any]:
    annotation = {"id": 7, "image_id": 1, "category_id": 3, "iscrowd": 0, "bbox": [2, 3, 5, 6], "area": 30}
    annotation |= {"segmentation": [[2, 3, 7, 3, 7, 9, 2, 9]]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [annotation | change],
        "categories": [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"]}],
    }
    return {"c.json": json.dumps(content), "a.png": GREY}


@pytest.mark.parametrize(
    "spec",
    [
        [[2, 3, 7, 3, 7, 9, 2, 9]],
        {"size": [20, 30], "counts": [43, 6, 14, 6, 14, 6, 14, 6, 14, 6, 471]},
        "compressed",
        [],
    ],
)
def test_every_kind_of_coco_segmentation_gives_the_same_box(source: Read, spec: Any) -> None:
    if spec == "compressed":
        from pycocotools import mask as coco_mask

        mask_HW = np.zeros((20, 30), np.uint8, order="F")
        mask_HW[3:9, 2:7] = 1
        runs = coco_mask.encode(mask_HW)
        spec = {"size": [20, 30], "counts": runs["counts"].decode()}
    items, refused = source(coco(segmentation=spec), inside="c.json")
    (shape,) = labels_of(items["a.png"]).shapes or ()
    assert not refused and shape.label == "cat" and shape.box == (2, 3, 7, 9)
    assert (shape.rle is None) == (spec == [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[2, 3, float("nan"), 3, 7, 9]]}, "c.json, annotation 7: the polygon"),
        ({"segmentation": [[2, 3, 1e9, 3, 7, 9]]}, "annotation 7: the polygon"),
        ({"segmentation": [[2, 3, 7, 9]]}, "not a flat list x1, y1, x2, y2, ... of three"),
        ({"segmentation": {"size": [20, 30], "counts": [1, 2]}}, "the mask cannot be decoded: .* 3, not"),
        ({"segmentation": {"size": [20, 30], "counts": [0, 2**62, 0, 2**62, 600, 2**63]}}, "not to 20 x 30 = 600"),
        ({"segmentation": {"size": [20, 30], "counts": "12"}}, "the run lengths add up to 3, not to 20 x 30 = 600"),
        ({"segmentation": {"size": [20, 30], "counts": "1P"}}, "`counts` ends within a number"),
        ({"segmentation": {"size": [20, 30], "counts": "1 2"}}, "the character ' ' of `counts` is invalid"),
        ({"segmentation": {"size": [20, 30], "counts": "P" * 99}}, "continues a number that is too large"),
        ({"segmentation": {"size": [20, 30], "counts": [43.5, 6, 550.5]}}, "contains '43.5', which is not an integer"),
        ({"segmentation": {"size": [30, 20], "counts": [600]}}, r"the mask has size \[30, 20\]"),
        ({"segmentation": [], "bbox": [2, 3, 0, 6]}, r"the bbox is \[2, 3, 0, 6\]"),
        ({"segmentation": [], "bbox": [90, 3, 5, 6]}, "is outside the 30x20 image"),
        ({"category_id": 4}, "annotation 7: category 4 is not in `categories`"),
        ({"keypoints": [1, 2, 2]}, "`keypoints` contains 3 numbers, but the category has 2 key points"),
    ],
)
def test_an_invalid_coco_annotation_is_reported(source: Read, change: dict[str, Any], message: str) -> None:
    items, _ = source(coco(**change), inside="c.json")
    with pytest.raises(Unreadable, match=message):
        labels_of(items["a.png"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "has no list `images`"),
        (
            '{"images": [{"id": 1}, {"id": 1}], "annotations": [], "categories": []}',
            "`images` contains the id 1 more than once",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}',
            "c.json: `annotations` is empty, although 1 image is listed; name the file that contains the labels",
        ),
        (
            '{"images": [], "annotations": [{"id": 1, "image_id": 5}], "categories": []}',
            "annotation 1 has image_id 5, which is not the id of an image",
        ),
    ],
)
def test_an_invalid_coco_file_is_reported(source: Read, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        source({"c.json": text, "a.png": GREY}, inside="c.json")


def test_coco_keypoints_are_read_as_points(source: Read) -> None:
    items, _ = source(coco(keypoints=[4, 5, 2, 0, 0, 0]), inside="c.json")
    assert labels_of(items["a.png"]).points == {"nose": (4.0, 5.0), "tail": None}


@pytest.mark.parametrize(
    ("inside", "file_name"),
    [
        ("annotations/c.json", "train/a.png"),
        ("annotations/c.json", "a.png"),
        ("c.json", "train/a.png"),
        ("c.json", "./train/a.png"),
        ("c.json", "train\\a.png"),
        ("c.json", ".\\train\\a.png"),
        ("annotations/c.json", "..\\train\\a.png"),
        ("annotations/c.json", "../train/a.png"),
    ],
)
def test_coco_images_are_found_in_subfolders_and_sibling_folders(source: Read, inside: str, file_name: str) -> None:
    text = coco()["c.json"].replace('"a.png"', json.dumps(file_name))
    items, refused = source(
        {inside: text, **dict.fromkeys(("train/a.png", "train/b.png", "val/c.png"), GREY)}, inside=inside
    )
    assert list(items) == ["train/a.png"]
    assert [(r.path, r.reason) for r in refused] == [
        ("train/b.png", f"is not listed in {inside}; if it contains no object, set ingest.unlabelled to empty")
    ]


VOC = (
    "<annotation><object><name>cat</name><bndbox>"
    "<xmin>{}</xmin><ymin>4</ymin><xmax>7</xmax><ymax>9</ymax>"
    "</bndbox></object></annotation>"
)


def voc(xmin: Any) -> dict[str, Any]:
    return {
        "V/Annotations/a.xml": VOC.format(xmin),
        "V/JPEGImages/a.png": GREY,
        "V/ImageSets/Main/val.txt": "a\n",
    }


def test_voc_boxes_start_at_one_and_image_sets_define_the_split(source: Read) -> None:
    items, refused = source(voc(3), has_split=True)
    item = items["V/JPEGImages/a.png"]
    assert not refused and item.split == "val"
    assert labels_of(item).shapes == (ObjectAnnotation("cat", (2, 3, 7, 9)),)


def test_invalid_voc_annotations_are_reported(source: Read) -> None:
    for xmin, message in (
        ("x", "not four finite numbers"),
        ("</xmin>", "not valid XML"),
        (7, r"object 1 \(cat\): the box 7, 4, 7, 9 .*has no area; correct it, or remove the object"),
        (12, r"object 1 \(cat\): the box 12, 4, 7, 9 .*has a minimum above its maximum; exchange these corners"),
    ):
        items, _ = source(voc(xmin))
        with pytest.raises(Unreadable, match=f"V/Annotations/a.xml.*{message}"):
            labels_of(items["V/JPEGImages/a.png"])
    items, _ = source({**voc(3), "V/Annotations/a.xml": "<!DOCTYPE a><annotation/>"})
    with pytest.raises(Unreadable, match="contains a DOCTYPE or ENTITY declaration"):
        labels_of(items["V/JPEGImages/a.png"])


def test_voc_folders_of_two_years_can_share_file_names(source: Read) -> None:
    files = {"V/2007" + path[1:]: content for path, content in voc(3).items()}
    files |= {"V/2012" + path[1:].replace("val", "train"): content for path, content in voc(5).items()}
    items, refused = source(files, has_split=True)
    assert not refused
    assert {path: (item.split, (labels_of(item).shapes or ())[0].box[0]) for path, item in items.items()} == {
        "V/2007/JPEGImages/a.png": ("val", 2.0),
        "V/2012/JPEGImages/a.png": ("train", 4.0),
    }


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("V/pics/a.png", "V/Annotations/a.xml"),
        ("V/JPEGImages/a.png", "ann/Annotations/a.xml"),
        ("V/JPEGImages/a.png", "V/JPEGImages/a.xml"),
    ],
)
def test_unique_voc_file_names_are_matched_across_folders(source: Read, image: str, xml: str) -> None:
    annotated = voc(3)
    files = {image: GREY, xml: next(content for path, content in annotated.items() if path.endswith(".xml"))}
    items, refused = source(files | {"V/ImageSets/Main/val.txt": "a\n"}, has_split=True, format="voc")
    assert {path: item.split for path, item in items.items()} == {image: "val"} and not refused


def test_voc_segmentation_masks_are_not_read_as_images(source: Read) -> None:
    items, refused = source(voc(3) | {"V/SegmentationClass/a.png": GREY, "V/SegmentationObject/a.png": GREY})
    assert list(items) == ["V/JPEGImages/a.png"] and not refused


def test_voc_images_with_the_same_name_are_reported(source: Read) -> None:
    with pytest.raises(UserError, match=r"V/JPEGImages/a.bmp and V/JPEGImages/a.png both match V/a.xml"):
        source(voc(3) | {"V/JPEGImages/a.bmp": GREY})


def test_a_second_voc_annotation_of_an_image_is_refused(source: Read) -> None:
    files = {"x/a.xml": VOC.format(3), "y/a.xml": VOC.format(5), "p/a.png": GREY}
    items, refused = source(files, format="voc")
    assert list(items) == ["p/a.png"]
    assert [(r.path, r.reason) for r in refused] == [("y/a.xml", "p/a.png already has another annotation file")]


def test_difficult_voc_objects_are_marked_as_crowd(source: Read) -> None:
    one, two = (
        VOC.format(3).replace("<bndbox>", f"<difficult>{difficult}</difficult><bndbox>") for difficult in (1, 0)
    )
    items, _ = source(
        voc(3) | {"V/Annotations/a.xml": one.replace("</annotation>", "") + two.replace("<annotation>", "")}
    )
    assert [shape.crowd for shape in labels_of(items["V/JPEGImages/a.png"]).shapes or ()] == [True, False]


def yolo(line: str) -> dict[str, Any]:
    return {"data.yaml": "names: [cat, dog]\n", "images/train/a.png": GREY, "labels/train/a.txt": line}


def test_yolo_boxes_and_polygons_are_relative_to_the_image_size(source: Read) -> None:
    items, refused = source(yolo("1 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"), has_split=True)
    item = items["images/train/a.png"]
    box, polygon = labels_of(item).shapes or ()
    assert not refused and item.split == "train"
    assert (box.label, box.box, box.rle) == ("dog", (12.0, 6.0, 18.0, 14.0), None)
    assert polygon.label == "cat" and polygon.box == (3, 2, 15, 10) and polygon.rle is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.2 0.4", "line 2: class 2 is not defined; the classes are 0 cat, 1 dog"),
        ("0 0.5 0.5 1.2 0.4", "line 2: 1.2 is not between 0 and 1"),
        ("0 0.5 0.5 0.2", "line 2: 3 numbers after the class; a box requires 4"),
        ("cat 0.5", "line 2: 'cat 0.5' is not a list of numbers"),
    ],
)
def test_invalid_yolo_lines_are_reported_with_their_number(source: Read, line: str, message: str) -> None:
    items, _ = source(yolo(f"0 0.5 0.5 0.2 0.4\n{line}\n"))
    with pytest.raises(Unreadable, match=f"labels/train/a.txt {message}"):
        labels_of(items["images/train/a.png"])


def notes(*names: str) -> str:
    return json.dumps({"categories": [{"id": number, "name": name} for number, name in enumerate(names)], "info": {}})


def test_yolo_class_names_are_read_from_the_notes_of_label_studio(source: Read) -> None:
    files = {"images/a.png": GREY, "labels/a.txt": "1 .5 .5 .2 .2\n", "notes.json": notes("dog", "cat")}
    (shape,) = labels_of(source(files)[0]["images/a.png"]).shapes or ()
    assert shape.label == "cat"
    with pytest.raises(UserError, match="classes.txt and notes.json contain different class names; keep the right one"):
        source({**files, "classes.txt": "cat\ndog\n"})
    source({**files, "classes.txt": "dog\ncat\n"})


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"categories": [{"id": 0}]}', '{"categories": [{"id": "0", "name": "a"}]}']
)
def test_invalid_notes_of_label_studio_are_reported(source: Read, text: str) -> None:
    with pytest.raises(UserError, match="notes.json.*`categories`"):
        source({"images/a.png": GREY, "labels/a.txt": "", "notes.json": text})


def test_a_yolo_class_list_next_to_the_labels_may_have_a_bom(source: Read) -> None:
    files = {"images/a.png": GREY, "labels/a.txt": "0 0.5 0.5 0.2 0.4", "labels/classes.txt": "\ufeffcat\ndog\n"}
    items, refused = source(files)
    assert not refused
    assert [shape.label for shape in labels_of(items["images/a.png"]).shapes or ()] == ["cat"]


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"images/a.png": GREY, "labels/a.txt": ""}, "classes.txt"),
        (voc(3), "V/ImageSets/Main/val.txt"),
    ],
)
def test_a_list_that_is_not_utf_8_is_reported(source: Read, files: dict[str, Any], path: str) -> None:
    with pytest.raises(UserError, match=f"{path} is not valid UTF-8 .* at byte 3"):
        source(files | {path: "café".encode("latin-1")})


DLC = "scorer,me,me,me,me\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\n"


def test_deeplabcut_blank_cells_are_missing_points(source: Read) -> None:
    rows = DLC + "labeled-data/m/a.png,1.5,2,,\nlabeled-data/m/gone.png,1,2,3,4\nlabeled-data/m/b.png,1,x,3,4\n"
    items, refused = source({"d.csv": rows, "m/a.png": GREY, "m/b.png": GREY, "m/c.png": GREY}, inside="d.csv")
    assert labels_of(items["m/a.png"]).points == {"nose": (1.5, 2.0), "tail": None}
    assert [(r.path, r.reason) for r in refused] == [
        ("labeled-data/m/gone.png", "d.csv line 5: the file does not exist"),
        ("m/b.png", "d.csv line 6: the point nose is '1', 'x', which are not two finite numbers"),
        ("m/c.png", "has no row in d.csv"),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (DLC, "d.csv has header rows but no row of an image; add one row per image"),
        (DLC.replace("\ncoords", "\n\ncoords"), "but they begin with scorer, bodyparts, an empty cell"),
        (
            DLC.replace("bodyparts", "individuals"),
            "but they begin with scorer, individuals, coords; tables of several",
        ),
    ],
)
def test_deeplabcut_header_rows_that_are_not_supported_are_reported(source: Read, table: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        source({"d.csv": table, "m/a.png": GREY}, inside="d.csv")


def read_annotations(params: Params, file: Path, **changes: Any) -> tuple[list[Annotation], list[Rejection]]:
    """Return the annotations of a reference data set, decoded at the size of each image, and the rejected files."""
    from stages.images.decode import decode_image

    with open_source(file, params.ingest.model_copy(update=changes), False) as (items, refused):
        found = []
        for item in items:
            image = decode_image(item.read()).image
            found.append(item.annotate(*image.shape[:2]))
        return found, refused


def test_all_bccd_images_are_read_except_those_with_a_box_without_area(reference_data: Path, params: Params) -> None:
    from stages.images.decode import decode_image

    ingest = params.ingest.model_copy(update={"inside": "bccd/BCCD"})
    reasons, labels = {}, []
    with open_source(reference_data / "bccd.zip", ingest, False) as (items, refused):
        assert len(items) == 364 and not [r for r in refused if r.path.endswith((".jpg", ".xml"))]
        for item in items:
            try:
                shapes = item.annotate(*decode_image(item.read()).image.shape[:2]).shapes or ()
                labels += [shape.label for shape in shapes]
            except Unreadable as error:
                reasons[item.path] = str(error)
    assert all("has no area" in reason for reason in reasons.values()), reasons
    assert (len(reasons), len(labels), labels.count("WBC")) == (2, 4862, 370)  # of 4886 and 372


def test_both_mouse_joint_data_sets_are_read(reference_data: Path, params: Params) -> None:
    file = reference_data / "mouse_joints.zip"
    found, refused = read_annotations(params, file, inside="mouse_joints/mirror_mouse/CollectedData.csv")
    missing = [xy for annotation in found for xy in (annotation.points or {}).values() if xy is None]
    assert len(found) == 90 and len(found[0].points or {}) == 17 and len(missing) == 134
    assert sorted(r.path[-9:] for r in refused if r.path.endswith("png")) == ["img00.png", "img91.png", "img92.png"]
    inside = "mouse_joints/openfield/labeled-data/m4s1/CollectedData_Pranav.csv"
    found, _ = read_annotations(params, file, inside=inside)
    assert len(found) == 64 or len(found) == 116
    assert len(found[0].points or {}) == 4


def test_dots_per_image_agree_with_the_table_of_counts(reference_data: Path, params: Params) -> None:
    file = reference_data / "cell_counting.zip"
    dotted, _ = read_annotations(
        params,
        file,
        inside="cell_counting/vgg_synthetic",
        format="dots",
        images="{key}cell.png",
        targets="{key}dots.png",
    )
    columns = params.ingest.columns.model_copy(update={"path": "file", "label": None, "scalars": ("count",)})
    counted, _ = read_annotations(
        params, file, inside="cell_counting/counts.csv", images="vgg_synthetic/*cell.png", columns=columns
    )
    assert len(dotted) == len(counted) == 120
    pairs = [(len(d.shapes or ()), (c.scalars or {})["count"]) for d, c in zip(dotted, counted, strict=True)]
    relative_error = [abs(dots - count) / count for dots, count in pairs]
    assert max(relative_error) < 0.05 and sum(relative_error) / 120 < 0.02  # touching dots count as one object
