"""Layouts of videos, continuous shooting, exposures and stereo pairs."""

import numpy as np

from benchmarks.layouts.layout_answers import CLASSES, MASKS, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature

SPLITS = ("train", "val", "test")


def counter_across_class_folders(f: Miniature) -> None:
    """Gestures in folders 0 to 4; a counter of the frames runs across the folders and the persons."""
    for frame in range(120):
        kind = str(frame % 5)
        f.photo(f"gestures/{kind}/frame_{frame + 1000}.png", kind, f"person{frame // 10}")


def frames_in_video_folders(f: Miniature) -> None:
    """Frames in one folder per video and a table with a class per frame."""
    rows = []
    for video in range(14):
        for frame in range(6):
            path = f"frames/video_{video:02d}/frame_{frame * 25:06d}.jpg"
            kind = ("idle", "walk", "run")[(video + frame) % 3]
            f.photo(path, kind, f"video{video}", frame=frame)
            rows.append({"path": path, "label": kind})
    f.table("labels.csv", rows)


def frames_of_actions(f: Miniature) -> None:
    """Frames of actions in class folders; v_Archery_g03_c02_0007.jpg is of scene g03, clip c02."""
    for kind in ("Archery", "Bowling", "Diving"):
        for scene in range(1, 8):
            for clip in (1, 2):
                for frame in range(2):
                    name = f"v_{kind}_g{scene:02d}_c{clip:02d}_{frame * 30:04d}.jpg"
                    f.photo(f"UCF/{kind}/{name}", kind, f"{kind}{scene}", frame=frame)


def driving_with_masks_per_split(f: Miniature) -> None:
    """Driving: train, val and test with masks of small class numbers in trainannot, valannot and testannot."""
    for place, split in enumerate(SPLITS):
        for number in range((30, 12, 12)[place]):
            name = f"{place + 1:04d}TP_{6690 + 30 * number:06d}.png"
            shot = f.photo(f"CamVid/{split}/{name}")
            f.pixels(f"CamVid/{split}annot/{name}", shot.numbered.astype(np.uint8))


def streets_of_cities(f: Miniature) -> None:
    """Streets by split and city; a second tree has labelIds, instanceIds and colours of each image."""
    for number in range(48):
        split = SPLITS[max(0, number % 8 - 5)]
        city = {"train": ("aachen", "bochum"), "val": ("frankfurt", "lindau"), "test": ("berlin", "bonn")}[split][
            number % 2
        ]
        stem = f"{split}/{city}/{city}_{number:06d}_000019"
        shot = f.photo(f"leftImg8bit/{stem}_leftImg8bit.png")
        f.pixels(f"gtFine/{stem}_gtFine_labelIds.png", np.minimum(shot.numbered, 2).astype(np.uint8))
        f.pixels(f"gtFine/{stem}_gtFine_instanceIds.png", shot.numbered * 1000)
        f.pixels(f"gtFine/{stem}_gtFine_color.png", np.stack([shot.mask, shot.mask // 2, shot.mask], axis=-1))


def stereo_pairs_with_disparity(f: Miniature) -> None:
    """Stereo: the left images in image_2, the right ones in image_3 and disparities of the left in disp_noc_0."""
    for number in range(24):
        shot = f.photo(f"training/image_2/{number:06d}_10.png", scene=f"s{number}", aligned=True)
        f.photo(f"training/image_3/{number:06d}_10.png", scene=f"s{number}", aligned=True, optional=True)
        f.pixels(f"training/disp_noc_0/{number:06d}_10.png", shot.numbered * 3000)


def stereo_pairs_in_class_folders(f: Miniature) -> None:
    """Fruit with a stereo camera in class folders: ripe/stereo_012_L.png and ripe/stereo_012_R.png."""
    for number in range(30):
        kind = ("ripe", "unripe")[number % 2]
        for side in "LR":
            f.photo(f"{kind}/stereo_{number:03d}_{side}.png", kind, f"fruit{number}", aligned=True)


def continuous_shooting_of_phones(f: Miniature) -> None:
    """Continuous shooting of a phone in class folders: 00000IMG_00000_BURST20200110120000.jpg and so on."""
    for burst in range(18):
        kind = ("cat", "dog", "other")[burst % 3]
        for number in range(4):
            name = f"{number:05d}IMG_{number:05d}_BURST202001{burst + 10}1200{burst:02d}.jpg"
            f.photo(f"{kind}/{name}", kind, f"burst{burst}", aligned=True)


def exposure_brackets(f: Miniature) -> None:
    """Exposure brackets in class folders: indoor/scene012_ev-2.jpg, scene012_ev0.jpg and scene012_ev+2.jpg."""
    for scene in range(24):
        kind = ("indoor", "outdoor")[scene % 2]
        for value in (-2, 0, 2):
            f.photo(
                f"{kind}/scene{scene:03d}_ev{value:+d}.jpg".replace("+0", "0"),
                kind,
                f"s{scene}",
                exposure=20.0 * value,
                aligned=True,
            )


def parking_lots_over_days(f: Miniature) -> None:
    """Parking spaces, empty or occupied, with the time and space in the name: 2012-09-12_06_05_16#012.jpg."""
    for day in range(8):
        for hour in range(4):
            for space in range(3):
                kind = ("Empty", "Occupied")[int(f.rng.integers(0, 2))]
                f.photo(f"PKLot/{kind}/2012-09-{12 + day}_{6 + hour:02d}_05_16#{space:03d}.jpg", kind, f"day{day}")


def expressions_of_subjects(f: Miniature) -> None:
    """Faces by emotion; the last frames of each sequence: anger/S010_004_00000017.png, ...18.png, ...19.png."""
    for subject in range(18):
        for sequence in (1, 4):
            kind = ("anger", "fear", "happy")[(subject + sequence) % 3]
            for frame in range(3):
                name = f"S{10 + subject:03d}_{sequence:03d}_{14 + frame:08d}.png"
                f.photo(f"CK+/{kind}/{name}", kind, f"S{subject}", mode="L", aligned=True)


def one_film_per_class(f: Miniature) -> None:
    """Signs A to D with the consecutive frames of one film each: A/A1.jpg, A/A2.jpg, ..."""
    for kind in "ABCD":
        for frame in range(1, 31):
            f.photo(f"asl/{kind}/{kind}{frame}.jpg", kind, film=kind, frame=frame)


def walks_of_persons(f: Miniature) -> None:
    """Silhouettes of walks, normal or with a coat, a folder per person in each: coat/007/007-cl-01-090-034.png."""
    for person in range(1, 15):
        for kind, code in (("coat", "cl"), ("normal", "nm")):
            for frame in range(3):
                f.photo(f"gait/{kind}/{person:03d}/{person:03d}-{code}-01-090-{30 + frame:03d}.png", kind, f"p{person}")


def videos_only(f: Miniature) -> None:
    """Class folders of videos without a single image."""
    for kind in ("run", "walk"):
        for number in range(4):
            f.text(f"{kind}/{number}.mp4", "no video, only a name")


VIDEO = layouts_of(
    "video and series",
    {
        counter_across_class_folders: Answer(
            CLASSES, ("folders",), "person: consecutive numbers across folders", ask_groups=True, fewest_groups=3
        ),
        frames_in_video_folders: Answer(CLASSES, ("table",), "video folder"),
        frames_of_actions: Answer(CLASSES, ("folders",), "scene gNN (of a class)", fewest_groups=7),
        driving_with_masks_per_split: Answer(MASKS, ("masks",), split="either"),
        streets_of_cities: Answer(MASKS, ("masks",), split="either", targets="labelIds"),
        stereo_pairs_with_disparity: Answer(
            ("image",), ("pairs",), "left and right", targets="disp", refusal="disparit|16 bit|stereo|two images"
        ),
        stereo_pairs_in_class_folders: Answer(CLASSES, ("folders",), "pair: number before L and R"),
        continuous_shooting_of_phones: Answer(CLASSES, ("folders",), "time of the shooting in the name"),
        exposure_brackets: Answer(CLASSES, ("folders",), "scene in the name"),
        parking_lots_over_days: Answer(CLASSES, ("folders",), "day in the name", ask_groups=True, fewest_groups=4),
        expressions_of_subjects: Answer(CLASSES, ("folders",), "subject, across folders"),
        one_film_per_class: Answer(CLASSES, ("folders",), "consecutive frames of a class", ask_groups=True),
        walks_of_persons: Answer(CLASSES, ("folders",), "person folder, across classes"),
        videos_only: Answer(refusal="no labelled images|video|no images"),
    },
)
