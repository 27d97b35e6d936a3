"""Layouts of plants and animals: augmented copies, camera traps, individuals, ages and weights in names."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.layouts.annotation_files import voc
from benchmarks.layouts.layout_answers import CLASSES, MASKS, NAMES, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature

SPECIES = ("deer", "fox", "hare")
COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": np.asarray,
    "_90deg": np.rot90,
    "_180deg": lambda image: np.rot90(image, 2),
    "_flipLR": np.fliplr,
}


def leaves_with_augmented_copies(f: Miniature) -> None:
    """Leaves by disease in class folders, with augmented copies of each: UUID___RS_Erly.B 6389_flipLR.JPG."""
    for kind in ("Tomato___Early_blight", "Tomato___healthy", "Apple___Black_rot"):
        for number in range(9):
            stem = f"leaves/{kind}/{f.rng.bytes(6).hex()}___RS_Erly.B {6389 + 17 * number}"
            for copy, turn in COPIES.items():
                shot = f.photo(f"{stem}{copy}.JPG", kind, stem, aligned=True)
                f.pixels(f"{stem}{copy}.JPG", turn(shot.image))


def copies_in_both_splits(f: Miniature) -> None:
    """Augmented leaves in train, valid and test; copies of a leaf were divided among the splits after augmentation."""
    for kind in ("Rust", "Scab", "healthy"):
        for number in range(12):
            stem = f"{f.rng.bytes(6).hex()}___FREC_{kind} {2300 + 13 * number}"
            for place, (copy, turn) in enumerate(COPIES.items()):
                split = ("train", "train", "valid", "test")[(number + place) % 4]
                path = f"{split}/{kind}/{stem}{copy}.JPG"
                f.pixels(path, turn(f.photo(path, kind, f"{kind}{stem}", aligned=True).image))


def seedlings(f: Miniature) -> None:
    """Photos of single seedlings in class folders with spaces in their names, numbered from 1 in each class."""
    for kind in ("Black-grass", "Common wheat", "Sugar beet"):
        for number in range(1, 21):
            f.photo(f"{kind}/{number}.png", kind)


def flowers_sorted_by_class(f: Miniature) -> None:
    """Photos image_00001.jpg, image_00002.jpg, ... of flowers, sorted by class, and a table of labels."""
    rows = []
    for number in range(1, 61):
        kind = ("rose", "lotus", "iris", "poppy")[(number - 1) // 15]
        f.photo(f"jpg/image_{number:05d}.jpg", kind)
        rows.append({"filename": f"image_{number:05d}.jpg", "label": kind})
    f.table("labels.csv", rows)


def one_column_per_disease(f: Miniature) -> None:
    """Photos of apple leaves and a table with image_id without suffix and one 0/1 column per class."""
    names, rows = ("healthy", "multiple_diseases", "rust", "scab"), []
    for number in range(48):
        f.photo(
            f"images/Train_{number}.jpg", (names[number % 4], frozenset({names[number % 4]})), look=names[number % 4]
        )
        rows.append({"image_id": f"Train_{number}", **{name: int(name == names[number % 4]) for name in names}})
    f.table("train.csv", rows)


def fruits_on_a_turntable(f: Miniature) -> None:
    """One fruit per class, filmed while it turns; frames 0_100.jpg, 1_100.jpg, ... are in Training and Test."""
    for kind in ("Apple Braeburn", "Banana", "Cocos", "Kiwi"):
        for frame in range(24):
            split = "Test" if frame % 4 == 3 else "Training"
            f.photo(f"fruits/{split}/{kind}/{frame}_100.jpg", kind, kind, frame=frame)


def camera_traps_in_coco(f: Miniature) -> None:
    """Camera-trap images in COCO: each image has location, seq_id and frame_num, objects have boxes."""
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for sequence in range(24):
        kind, place = int(f.rng.integers(1, 4)), sequence % 8
        for frame in range(3):
            name = f"{f.rng.bytes(8).hex()}.jpg"
            shot = f.photo(f"images/{name}", 1, f"location{place}", look=SPECIES[kind - 1], objects=1)
            x0, y0, x1, y1 = shot.boxes[0]
            images.append(
                {
                    "id": name[:-4],
                    "file_name": name,
                    "width": 44,
                    "height": 32,
                    "location": place,
                    "seq_id": f"s{sequence}",
                    "frame_num": frame + 1,
                    "seq_num_frames": 3,
                }
            )
            objects.append(
                {
                    "id": len(objects),
                    "image_id": name[:-4],
                    "category_id": kind,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                }
            )
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(SPECIES)]
    f.json("caltech_bboxes.json", {"images": images, "annotations": objects, "categories": categories})


def camera_traps_without_boxes(f: Miniature) -> None:
    """Camera-trap images in COCO with classes of whole images, without boxes, and with location and sequence."""
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for sequence in range(24):
        kind, place = sequence % 3, sequence % 8
        for _ in range(2):
            name = f"loc_{place:04d}/{f.rng.bytes(8).hex()}.jpg"
            f.photo(f"images/{name}", SPECIES[kind], f"location{place}")
            images.append({"id": len(images), "file_name": name, "location": place, "seq_id": f"s{sequence}"})
            objects.append({"id": len(objects), "image_id": len(images) - 1, "category_id": kind})
    categories = [{"id": number, "name": name} for number, name in enumerate(SPECIES)]
    f.json("metadata.json", {"images": images, "annotations": objects, "categories": categories})


def series_of_camera_traps(f: Miniature) -> None:
    """Series of camera traps in folders of season, site and roll; a table of capture, site, species and path."""
    rows = []
    for capture in range(24):
        site, kind = f"B{capture % 8:02d}", SPECIES[capture % 3]
        for shot in range(1, 4):
            path = f"S1/{site}/{site}_R1/S1_{site}_R1_PICT{3 * capture + shot:04d}.JPG"
            f.photo(path, kind, f"capture{capture}")
            rows.append({"capture_id": f"SER_S1#{site}#{capture}", "site": site, "species": kind, "image_path": path})
    f.table("SnapshotSerengeti_S1.csv", rows)


def birds_with_lists(f: Miniature) -> None:
    """Birds in numbered class folders, with lists of images, classes and a train-test flag per image in text files."""
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": [], "classes": []}
    for place, kind in enumerate(("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"), 1):
        lists["classes"].append(f"{place} {kind}")
        for number in range(1, 19):
            name = f"{kind}/{kind[4:]}_{number:04d}_{f.rng.integers(10**5, 10**6)}.jpg"
            f.photo(f"CUB_200/images/{name}", kind)
            lists["images"].append(f"{len(lists['images']) + 1} {name}")
            lists["image_class_labels"].append(f"{len(lists['images'])} {place}")
            lists["train_test_split"].append(f"{len(lists['images'])} {number % 2}")
    for name, lines in lists.items():
        f.text(f"CUB_200/{name}.txt", "\n".join(lines))


def dogs_with_annotations_without_suffix(f: Miniature) -> None:
    """Dogs in one folder per breed; another tree has a Pascal VOC file without suffix for each image."""
    for kind in ("n02085620-Chihuahua", "n02085782-Japanese_spaniel", "n02099601-golden_retriever"):
        for number in range(16):
            name = f"{kind}/{kind[:9]}_{number * 71 + 7}"
            shot = f.photo(f"Images/{name}.jpg", (kind, 1), look=kind, objects=1)
            f.text(f"Annotation/{name}", voc(f"{name}.jpg", kind[10:], shot.boxes))


def pets_with_trimaps(f: Miniature) -> None:
    """Pets with the breed in the name, with trimaps of the values 1 to 3 and a list of image and class."""
    lines = ["#Image CLASS-ID SPECIES BREED ID"]
    for place, kind in enumerate(("Abyssinian", "beagle", "Bengal")):
        for number in range(1, 15):
            shot = f.photo(f"pets/images/{kind}_{number}.jpg", None, look=kind, objects=1)
            edge = shot.mask != np.roll(shot.mask, 1, axis=0)
            f.pixels(
                f"pets/annotations/trimaps/{kind}_{number}.png",
                np.where(edge, 3, np.where(shot.mask, 1, 2)).astype(np.uint8),
            )
            lines.append(f"{kind}_{number} {place + 1} 1 1")
    f.text("pets/annotations/list.txt", "\n".join(lines))


def folder_per_animal(f: Miniature) -> None:
    """Muzzle photos of cattle with a folder per animal, for re-identification of individuals."""
    for animal in range(8):
        for number in range(9):
            f.photo(
                f"muzzles/cattle_{100 + 13 * animal}/cattle_{100 + 13 * animal}_DSCF{3000 + 9 * animal + number}.jpg",
                f"cattle_{100 + 13 * animal}",
            )


def weight_in_the_name(f: Miniature) -> None:
    """Fruits from four sides; the name has kind, weight and view: apple_165g_3.jpg. No table."""
    for fruit in range(20):
        weight = 100 + 7 * fruit
        for side in range(1, 5):
            f.photo(f"fruit_weights/apple_{weight}g_{side}.jpg", float(weight), f"fruit{fruit}")


def age_in_the_name(f: Miniature) -> None:
    """Faces in one folder; the name has age, gender, ethnicity and time: 25_0_1_20170116174525125.jpg."""
    for _ in range(60):
        age = int(f.rng.integers(1, 90))
        f.photo(
            f"UTKFace/{age}_{f.rng.integers(0, 2)}_{f.rng.integers(0, 4)}_201701{f.rng.integers(10**11, 10**12)}.jpg",
            float(age),
        )


def individuals_in_species_folders(f: Miniature) -> None:
    """Fish in one folder per species; the name has the individual and its length: cod_id0012_view2_31.5cm.jpg."""
    for fish in range(24):
        kind = ("cod", "hake", "whiting")[fish % 3]
        for number in range(3):
            f.photo(
                f"fish/{kind}/{kind}_id{fish:04d}_view{number}_{20 + fish / 2}cm.jpg",
                (kind, 20 + fish / 2),
                f"fish{fish}",
                look=kind,
            )


def insects_on_sticky_traps(f: Miniature) -> None:
    """Photos of sticky traps on several days with Pascal VOC boxes; insects stay on the trap: trap03_day05.jpg."""
    for trap in range(12):
        for day in range(1, 5):
            shot = f.photo(f"images/trap{trap:02d}_day{day:02d}.jpg", 3, f"trap{trap}")
            f.text(
                f"Annotations/trap{trap:02d}_day{day:02d}.xml",
                voc(f"trap{trap:02d}_day{day:02d}.jpg", "fly", shot.boxes),
            )


def whales_mostly_seen_once(f: Miniature) -> None:
    """Photos of flukes and a table of image and individual; most individuals have one or two images."""
    rows = []
    for number in range(60):
        kind = "new_whale" if number % 3 == 0 else f"w_{number // 3:07x}"
        name = f"{f.rng.bytes(5).hex()}.jpg"
        f.photo(f"train/{name}", kind)
        rows.append({"Image": name, "Id": kind})
    f.table("train.csv", rows)


def rosettes_with_numbered_leaves(f: Miniature) -> None:
    """Plants for counting leaves: plant001_rgb.png, plant001_label.png with a number per leaf, plant001_centers.png."""
    for number in range(1, 31):
        count = 2 + number % 4
        shot = f.photo(f"A1/plant{number:03d}_rgb.png", count, objects=count, size=(72, 40))
        f.pixels(f"A1/plant{number:03d}_label.png", shot.numbered.astype(np.uint8))
        f.pixels(f"A1/plant{number:03d}_centers.png", shot.dots)


NATURE = layouts_of(
    "plants and animals",
    {
        leaves_with_augmented_copies: Answer(CLASSES, ("folders",), "leaf in the name, before _90deg and _flipLR"),
        copies_in_both_splits: Answer(CLASSES, ("folders",), "leaf in the name, across splits", split="either"),
        seedlings: Answer(CLASSES, ("folders",)),
        flowers_sorted_by_class: Answer(CLASSES, ("table",)),
        one_column_per_disease: Answer((*CLASSES, "multilabel"), refusal="one column per class"),
        fruits_on_a_turntable: Answer(
            CLASSES, ("folders",), "all frames of a class", split="either", ask_groups=True, fewest_groups=2
        ),
        camera_traps_in_coco: Answer(("instances",), ("coco",), "location (or sequence)", fewest_groups=6),
        camera_traps_without_boxes: Answer(
            CLASSES, (), "location", fewest_groups=6, refusal="box|bbox|classes of whole images|without (an )?object"
        ),
        series_of_camera_traps: Answer(CLASSES, (), "capture or site", fewest_groups=8),
        birds_with_lists: Answer(CLASSES, ("folders",), split="either"),
        dogs_with_annotations_without_suffix: Answer((*CLASSES, "instances")),
        pets_with_trimaps: Answer((*MASKS, *CLASSES)),
        folder_per_animal: Answer(CLASSES, ("folders",)),
        weight_in_the_name: Answer(("regression",), (), "fruit: name before the view", refusal=NAMES),
        age_in_the_name: Answer(("regression",), (), refusal=NAMES),
        individuals_in_species_folders: Answer((*CLASSES, "regression"), (), "individual idNNNN"),
        insects_on_sticky_traps: Answer(("instances",), ("voc",), "trap in the name"),
        whales_mostly_seen_once: Answer(CLASSES, (), asks=(r"class|Id",)),
        rosettes_with_numbered_leaves: Answer(("instances", "regression"), ("instances", "dots")),
    },
)
