"""Layouts of industrial inspection: good and bad parts, textures, several views and exposures of one part."""

import numpy as np

from benchmarks.layouts.annotation_files import run_lengths, voc
from benchmarks.layouts.layout_answers import CLASSES, MASKS, NAMES, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature


def anomalies_with_good_training_images(f: Miniature) -> None:
    """Bottles: train has only good ones, test also has defects, ground_truth has the masks of the defects."""
    for number in range(24):
        f.photo(f"bottle/train/good/{number:03d}.png", "good", optional=True)
    for kind in ("good", "broken_large", "contamination"):
        for number in range(12):
            shot = f.photo(f"bottle/test/{kind}/{number:03d}.png", None, look=kind, optional=kind == "good")
            if kind != "good":
                f.pixels(f"bottle/ground_truth/{kind}/{number:03d}_mask.png", shot.mask)


def castings_in_train_and_test(f: Miniature) -> None:
    """Castings, defective or ok, in folders train and test, without a validation split: cast_def_0_1001.jpeg."""
    for number in range(64):
        kind, part = (("def_front", "def"), ("ok_front", "ok"))[number % 2]
        split = "test" if number % 8 > 5 else "train"
        f.photo(f"casting_data/{split}/{kind}/cast_{part}_0_{f.rng.integers(1000, 9999)}.jpeg", kind, mode="L")


def commutators_with_masks(f: Miniature) -> None:
    """Commutators: a folder per part with eight surfaces Part0.jpg to Part7.jpg and masks Part0_label.bmp."""
    for part in range(1, 11):
        for side in range(8):
            shot = f.photo(f"kos{part:02d}/Part{side}.jpg", scene=f"kos{part}", objects=1, mode="L")
            f.pixels(f"kos{part:02d}/Part{side}_label.bmp", shot.mask * (side == part % 8))


def steel_with_run_lengths(f: Miniature) -> None:
    """Steel strips and a table ImageId, ClassId, EncodedPixels with one row of run lengths per class and image."""
    rows = []
    for number in range(40):
        name = f"{f.rng.bytes(5).hex()}.jpg"
        shot = f.photo(f"train_images/{name}", mode="L")
        rows += [
            {"ImageId": name, "ClassId": kind, "EncodedPixels": run_lengths(shot.numbered == kind)}
            for kind in range(1, number % 3 + 1)
        ]
    f.table("train.csv", rows)


def surfaces_with_voc(f: Miniature) -> None:
    """Hot-rolled steel with six kinds of defects; Pascal VOC in ANNOTATIONS beside IMAGES, both in upper case."""
    for kind in ("crazing", "inclusion", "patches"):
        for number in range(1, 17):
            shot = f.photo(f"NEU-DET/IMAGES/{kind}_{number}.jpg", 2, look=kind, objects=2)
            f.text(f"NEU-DET/ANNOTATIONS/{kind}_{number}.xml", voc(f"{kind}_{number}.jpg", kind, shot.boxes))


def class_in_the_name(f: Miniature) -> None:
    """Steel surfaces in one folder; the name begins with the class: Cr_1.bmp, In_1.bmp, Pa_1.bmp."""
    for kind in ("Cr", "In", "Pa"):
        for number in range(1, 21):
            f.photo(f"NEU-CLS/{kind}_{number}.bmp", kind, mode="L")


def textures_with_masks_of_defects(f: Miniature) -> None:
    """Textures Class1 and Class2 with folders Train and Test; a folder Label has masks of the defective images only."""
    for texture in ("Class1", "Class2"):
        for number in range(1, 37):
            part, defective = ("Train", "Test")[number % 2], number % 6 < 2
            shot = f.photo(
                f"DAGM/{texture}/{part}/{number:04d}.PNG", None, look=texture, mode="L", optional=not defective
            )
            if defective:
                f.pixels(f"DAGM/{texture}/{part}/Label/{number:04d}_label.PNG", shot.mask)


def six_exposures_of_an_object(f: Miniature) -> None:
    """Tiles under six exposures, a folder per class; the numbers of one tile differ by irregular steps."""
    for kind in ("blowhole", "crack", "free"):
        for part in range(8):
            for exposure in range(1, 7):
                number = 3667 + 71 * part + int(f.rng.integers(8, 12)) * exposure
                f.photo(
                    f"tiles/{kind}/s{exposure}_k_{number}.jpg",
                    kind,
                    f"{kind}{part}",
                    exposure=12.0 * (exposure - 3),
                    aligned=True,
                )


def image_and_mask_of_one_name(f: Miniature) -> None:
    """Surfaces with a folder per defect; image and mask have the same stem: crack/crack0.jpg and crack/crack0.png."""
    for kind in ("blowhole", "crack", "fray"):
        for number in range(14):
            shot = f.photo(f"{kind}/{kind}{number}.jpg", kind, objects=1)
            f.pixels(f"{kind}/{kind}{number}.png", shot.mask)


def cracked_concrete(f: Miniature) -> None:
    """Patches of concrete in the folders Positive and Negative, with the same numbers in both."""
    for kind in ("Positive", "Negative"):
        for number in range(1, 31):
            f.photo(f"{kind}/{number:05d}.jpg", kind)


def patches_of_parent_images(f: Miniature) -> None:
    """Patches of bridges, pavements and walls, cracked or not: D/CD/7001-115.jpg is patch 115 of photo 7001."""
    for parent in range(18):
        place = "DPW"[parent % 3]
        for patch in range(5):
            kind = ("C", "U")[(parent + patch) % 2] + place
            f.photo(
                f"SDNET2018/{place}/{kind}/{7001 + parent}-{patch * 37 + 15}.jpg",
                (kind, kind[0]),
                f"photo{parent}",
                look=kind,
            )


def boards_with_defects(f: Miniature) -> None:
    """Ten circuit boards with defects in class folders and VOC in a parallel tree; 01_short_02.jpg is board 01."""
    for board in range(1, 11):
        for kind in ("Missing_hole", "Short", "Spur"):
            for number in range(1, 3):
                name = f"{kind}/{board:02d}_{kind.lower()}_{number:02d}"
                shot = f.photo(f"PCB/images/{name}.jpg", 3, f"board{board}")
                f.text(f"PCB/Annotations/{name}.xml", voc(f"{name}.jpg", kind.lower(), shot.boxes))


def fabrics_from_two_sides(f: Miniature) -> None:
    """Fabrics, good or bad, photographed under two lamps: bad/fabric07_lampA.png and bad/fabric07_lampB.png."""
    for fabric in range(30):
        kind = ("good", "bad")[fabric % 2]
        for lamp in "AB":
            f.photo(
                f"{kind}/fabric{fabric:02d}_lamp{lamp}.png",
                kind,
                f"fabric{fabric}",
                exposure=30.0 * (lamp == "B"),
                aligned=True,
            )


def misspelt_class(f: Miniature) -> None:
    """Bearings in class folders; the folder scrach has 6 images that belong to scratch."""
    for kind, count in (("dent", 25), ("scratch", 25), ("scrach", 6), ("ok", 25)):
        for _ in range(count):
            f.photo(f"bearings/{kind}/{f.rng.bytes(4).hex()}.png", kind, look="scratch" if kind == "scrach" else kind)


def serial_numbers_and_stations(f: Miniature) -> None:
    """Parts photographed at two stations; names have date, serial number and station: 20230114_SN004711_st1.png."""
    for part in range(24):
        kind = ("pass", "fail")[part % 2]
        for station in (1, 2):
            f.photo(f"{kind}/202301{10 + part // 3}_SN{4711 + 3 * part:06d}_st{station}.png", kind, f"sn{part}")


def predictions_beside_masks(f: Miniature) -> None:
    """Welds with images, masks, and a folder of predictions of an earlier model under the same names."""
    for number in range(30):
        shot = f.photo(f"welds/images/{number:03d}.png")
        f.pixels(f"welds/masks/{number:03d}.png", shot.mask)
        f.pixels(f"welds/predictions/{number:03d}.png", np.roll(shot.mask, 2, axis=0))


INDUSTRY = layouts_of(
    "industry",
    {
        anomalies_with_good_training_images: Answer(
            (*CLASSES, *MASKS), split="hash", refusal="anomal|masks?|only good|train .*(one|single) class"
        ),
        castings_in_train_and_test: Answer(CLASSES, ("folders",)),
        commutators_with_masks: Answer(MASKS, ("masks",), "part: the folder"),
        steel_with_run_lengths: Answer(MASKS, refusal="run.?length|EncodedPixels|several rows per image"),
        surfaces_with_voc: Answer(("instances",), ("voc",)),
        class_in_the_name: Answer(CLASSES, refusal=NAMES),
        textures_with_masks_of_defects: Answer((*MASKS, *CLASSES), refusal="mask"),
        six_exposures_of_an_object: Answer(CLASSES, ("folders",), "object: similar appearance", ask_groups=True),
        image_and_mask_of_one_name: Answer(MASKS, ("masks",)),
        cracked_concrete: Answer(CLASSES, ("folders",)),
        patches_of_parent_images: Answer(CLASSES, ("folders",), "photo: number before the hyphen"),
        boards_with_defects: Answer(("instances",), ("voc",), "board: first number of the name"),
        fabrics_from_two_sides: Answer(CLASSES, ("folders",), "fabric in the name"),
        misspelt_class: Answer(CLASSES, ("folders",), asks=("scrach",)),
        serial_numbers_and_stations: Answer(CLASSES, ("folders",), "serial number (or day)", fewest_groups=8),
        predictions_beside_masks: Answer(MASKS, ("masks",), targets="masks"),
    },
)
