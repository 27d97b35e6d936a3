"""Layouts that labelling tools export, such as COCO, YOLO, Pascal VOC, CVAT, LabelMe, DeepLabCut and Roboflow."""

from collections.abc import Iterator

import numpy as np

from benchmarks.layouts.annotation_files import HEIGHT, WIDTH, coco, voc, yolo
from benchmarks.layouts.layout_answers import CLASSES, Answer, layouts_of
from benchmarks.layouts.miniature import ImageTruth, Miniature

SPLITS = ("train", "val", "test")
OBJECTS = ("instances",)
SHARES = {"train": 24, "valid": 8, "test": 6}


def coco_of_three_splits(f: Miniature) -> None:
    """COCO with one JSON per split, annotations/instances_train.json, and a folder of images per split."""
    for split in SPLITS:
        names = [f"{number:012d}.jpg" for number in range(100 * len(split), 100 * len(split) + 16)]
        shots = {name: f.photo(f"{split}/{name}", 3) for name in names}
        f.json(f"annotations/instances_{split}.json", coco(shots))


def coco_in_one_file(f: Miniature) -> None:
    """COCO with one JSON for all images."""
    shots = {f"{number:04d}.jpg": f.photo(f"images/{number:04d}.jpg", 3) for number in range(36)}
    f.json("result.json", coco(shots))


def yolo_with_splits(f: Miniature) -> None:
    """YOLO with data.yaml and the folders images and labels in each of train, val and test."""
    for split in SPLITS:
        for number in range(16):
            shot = f.photo(f"{split}/images/{split}{number:03d}.jpg", 3)
            f.text(f"{split}/labels/{split}{number:03d}.txt", yolo(shot.boxes))
    f.text("data.yaml", "train: train/images\nval: val/images\ntest: test/images\nnc: 2\nnames: [cell, debris]\n")


def yolo_beside_images(f: Miniature) -> None:
    """YOLO as labelImg writes it: text files beside the images, and classes.txt."""
    for number in range(36):
        f.text(f"export/IMG_{number * 3:04d}.txt", yolo(f.photo(f"export/IMG_{number * 3:04d}.jpg", 3).boxes))
    f.text("export/classes.txt", "cell\ndebris\n")


def yolo_polygons(f: Miniature) -> None:
    """YOLO with polygons, images/train and labels/train, images/val and labels/val, without a test split."""
    for split in SPLITS[:2]:
        for number in range(20):
            shot = f.photo(f"images/{split}/{split}_{number:02d}.png", 3)
            f.text(f"labels/{split}/{split}_{number:02d}.txt", yolo(shot.boxes, polygons=True))
    f.text("dataset.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cell\n  1: debris\n")


def voc_with_image_sets(f: Miniature) -> None:
    """Pascal VOC with JPEGImages, Annotations and ImageSets/Main of train, val and test."""
    for place, split in enumerate(SPLITS):
        names = [f"2007_{1000 * place + number:06d}" for number in range(16)]
        for name in names:
            f.text(
                f"VOC2007/Annotations/{name}.xml",
                voc(f"{name}.jpg", "dog", f.photo(f"VOC2007/JPEGImages/{name}.jpg", 3).boxes),
            )
        f.text(f"VOC2007/ImageSets/Main/{split}.txt", "\n".join(names))


def voc_in_lower_case(f: Miniature) -> None:
    """Pascal VOC in folders named images and annotations."""
    for number in range(36):
        f.text(
            f"annotations/maksssksksss{number}.xml",
            voc(f"maksssksksss{number}.png", "with_mask", f.photo(f"images/maksssksksss{number}.png", 3).boxes),
        )


def cvat_for_images(f: Miniature) -> None:
    """CVAT for images 1.1: one annotations.xml for all images."""
    entries = []
    for number in range(24):
        shot = f.photo(f"images/{number:03d}.png", 3)
        boxes = "".join(
            f'<box label="cell" xtl="{a}" ytl="{b}" xbr="{c}" ybr="{d}" occluded="0"/>' for a, b, c, d in shot.boxes
        )
        entries.append(
            f'<image id="{number}" name="{number:03d}.png" width="{WIDTH}" height="{HEIGHT}">{boxes}</image>'
        )
    f.text(
        "annotations.xml",
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{"".join(entries)}</annotations>',
    )


def label_studio(f: Miniature) -> None:
    """Label Studio: a JSON list of tasks with results in percent."""
    tasks = []
    for number in range(24):
        shot = f.photo(f"upload/{number:03d}.png", 3)
        results = [
            {
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": WIDTH,
                "value": {
                    "x": 100 * a / WIDTH,
                    "y": 100 * b / HEIGHT,
                    "width": 100 * (c - a) / WIDTH,
                    "height": 100 * (d - b) / HEIGHT,
                    "rectanglelabels": ["cell"],
                },
            }
            for a, b, c, d in shot.boxes
        ]
        tasks.append(
            {"id": number, "data": {"image": f"/data/upload/{number:03d}.png"}, "annotations": [{"result": results}]}
        )
    f.json("project-1-at-2024-01-01.json", tasks)


def labelme(f: Miniature) -> None:
    """LabelMe: a JSON with polygons beside each image."""
    for number in range(24):
        shot = f.photo(f"{number:03d}.jpg", 3)
        shapes = [
            {"label": "cell", "points": [[a, b], [c, b], [c, d], [a, d]], "shape_type": "polygon"}
            for a, b, c, d in shot.boxes
        ]
        f.json(
            f"{number:03d}.json",
            {
                "version": "5.2",
                "flags": {},
                "shapes": shapes,
                "imagePath": f"{number:03d}.jpg",
                "imageData": None,
                "imageHeight": HEIGHT,
                "imageWidth": WIDTH,
            },
        )


def vgg_image_annotator(f: Miniature) -> None:
    """VIA in the folders train and val, each with images and via_region_data.json."""
    for split in SPLITS[:2]:
        entries = {}
        for number in range(14):
            shot = f.photo(f"balloon/{split}/{split}{number}.jpg", 3)
            regions = [
                {
                    "shape_attributes": {"name": "polygon", "all_points_x": [a, c, c, a], "all_points_y": [b, b, d, d]},
                    "region_attributes": {},
                }
                for a, b, c, d in shot.boxes
            ]
            entries[f"{split}{number}.jpg1"] = {"filename": f"{split}{number}.jpg", "size": 1, "regions": regions}
        f.json(f"balloon/{split}/via_region_data.json", entries)


def create_ml(f: Miniature) -> None:
    """CreateML: one JSON list of images with boxes by their centres."""
    entries = []
    for number in range(20):
        shot = f.photo(f"{number}.jpg", 3)
        boxes = [
            {"label": "cell", "coordinates": {"x": (a + c) / 2, "y": (b + d) / 2, "width": c - a, "height": d - b}}
            for a, b, c, d in shot.boxes
        ]
        entries.append({"image": f"{number}.jpg", "annotations": boxes})
    f.json("_annotations.createml.json", entries)


def supervisely(f: Miniature) -> None:
    """Supervisely: img and ann with NAME.png.json for each image, and meta.json."""
    for number in range(20):
        shot = f.photo(f"project/ds0/img/{number:02d}.png", 3)
        objects = [
            {
                "classTitle": "cell",
                "geometryType": "rectangle",
                "points": {"exterior": [[a, b], [c, d]], "interior": []},
            }
            for a, b, c, d in shot.boxes
        ]
        f.json(
            f"project/ds0/ann/{number:02d}.png.json",
            {"size": {"height": HEIGHT, "width": WIDTH}, "objects": objects, "tags": []},
        )
    f.json("project/meta.json", {"classes": [{"title": "cell", "shape": "rectangle"}], "tags": []})


def open_images_boxes(f: Miniature) -> None:
    """Open Images: a table with a row per box, ImageID without suffix and relative coordinates."""
    rows = []
    for _ in range(30):
        name = f.rng.bytes(8).hex()
        for a, b, c, d in f.photo(f"validation/{name}.jpg", 3).boxes:
            rows.append(
                {
                    "ImageID": name,
                    "Source": "xclick",
                    "LabelName": "/m/0cmf2",
                    "Confidence": 1,
                    "XMin": a / WIDTH,
                    "XMax": c / WIDTH,
                    "YMin": b / HEIGHT,
                    "YMax": d / HEIGHT,
                    "IsOccluded": 0,
                }
            )
    f.table("validation-annotations-bbox.csv", rows)


def _points(f: Miniature, video: str, frames: int) -> None:
    """Add a folder of frames of a video with its table of DeepLabCut."""
    lines = ["scorer,lab,lab,lab,lab", "bodyparts,nose,nose,tail,tail", "coords,x,y,x,y"]
    for frame in range(frames):
        path = f"labeled-data/{video}/img{frame * 7:04d}.png"
        boxes = f.photo(path, 2, video, frame=frame).boxes
        lines.append(f"{path},{boxes[0][0]}.0,{boxes[0][1]}.0,{boxes[2][2] - 1}.0,{boxes[2][3] - 1}.0")
    f.text(f"labeled-data/{video}/CollectedData_lab.csv", "\n".join(lines) + "\n")


def deeplabcut_of_one_video(f: Miniature) -> None:
    """DeepLabCut with frames of one video and its table, and a configuration file."""
    _points(f, "reachingvideo1", 40)
    for path in list(f.truth):  # one video cannot be kept in one split: its frames are a series
        f.truth[path] = ImageTruth(2, path, "reachingvideo1", list(f.truth).index(path))
    f.text("config.yaml", "Task: reach\nbodyparts: [nose, tail]\n")


def deeplabcut_of_two_videos(f: Miniature) -> None:
    """DeepLabCut with two videos of different animals, each with its own folder and table."""
    for video in ("mouse_m3", "mouse_m7"):
        _points(f, video, 24)
        for place, path in enumerate([path for path in f.truth if video in path]):
            f.truth[path] = ImageTruth(2, path, video, place)


def _roboflow(f: Miniature, copies: int) -> Iterator[tuple[str, str, str]]:
    """Yield the split, stem of the original and name of each image; training images have augmented copies."""
    for split, count in SHARES.items():
        for number in range(count):
            original = f"{split}IMG_{number * 31 + 7:04d}"
            for _ in range(copies if split == "train" else 1):
                yield split, original, f"{original}_jpg.rf.{f.rng.bytes(16).hex()}"


def roboflow_yolo(f: Miniature) -> None:
    """Roboflow as YOLO: train, valid and test; three augmented copies NAME_jpg.rf.HASH.jpg of each training image."""
    for split, original, name in _roboflow(f, 3):
        f.text(
            f"{split}/labels/{name}.txt", yolo(f.photo(f"{split}/images/{name}.jpg", 3, original, aligned=True).boxes)
        )
    f.text(
        "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['cell', 'debris']\n",
    )


def roboflow_coco(f: Miniature) -> None:
    """Roboflow as COCO: train, valid and test, each with its images and _annotations.coco.json."""
    shots: dict[str, dict] = {split: {} for split in SHARES}
    for split, original, name in _roboflow(f, 2):
        shots[split][f"{name}.jpg"] = f.photo(f"{split}/{name}.jpg", 3, original, aligned=True)
    for split, found in shots.items():
        f.json(f"{split}/_annotations.coco.json", coco(found))


def roboflow_voc_in_one_folder(f: Miniature) -> None:
    """Roboflow as Pascal VOC with train only, XML files beside the images, three augmented copies of each image."""
    for split, original, name in _roboflow(f, 3):
        if split == "train":
            f.text(
                f"train/{name}.xml",
                voc(f"{name}.jpg", "cell", f.photo(f"train/{name}.jpg", 3, original, aligned=True).boxes),
            )


def roboflow_class_folders(f: Miniature) -> None:
    """Roboflow as folders: train, valid and test by class, with augmented copies in train."""
    for place, (split, original, name) in enumerate(_roboflow(f, 3)):
        kind = ("daisy", "rose")[(place // 3 if split == "train" else place) % 2]
        f.photo(f"{split}/{kind}/{name}.jpg", kind, original, aligned=True)


def roboflow_classes_table(f: Miniature) -> None:
    """Roboflow as multilabel table: train, valid and test, each with _classes.csv of one 0/1 column per class."""
    rows: dict[str, list] = {split: [] for split in SHARES}
    for place, (split, original, name) in enumerate(_roboflow(f, 1)):
        found = {"crack": place % 2, "rust": place // 2 % 2, "stain": place // 4 % 2}
        f.photo(f"{split}/{name}.jpg", frozenset(key for key, value in found.items() if value), original)
        rows[split].append({"filename": f"{name}.jpg", **found})
    for split, found_rows in rows.items():
        f.table(f"{split}/_classes.csv", found_rows)


def roboflow_boxes_table(f: Miniature) -> None:
    """Roboflow for TensorFlow: a table with a row per box, filename,width,height,class,xmin,ymin,xmax,ymax."""
    rows = []
    for split, original, name in _roboflow(f, 1):
        if split == "train":
            for a, b, c, d in f.photo(f"train/{name}.jpg", 3, original, aligned=True).boxes:
                rows.append(
                    {
                        "filename": f"{name}.jpg",
                        "width": WIDTH,
                        "height": HEIGHT,
                        "class": "cell",
                        "xmin": a,
                        "ymin": b,
                        "xmax": c,
                        "ymax": d,
                    }
                )
    f.table("train/_annotations.csv", rows)


def darknet_with_lists(f: Miniature) -> None:
    """Darknet: obj_train_data with images and text files, obj.names, and lists train.txt and valid.txt."""
    lists: dict[str, list[str]] = {"train": [], "valid": []}
    for number in range(36):
        path = f"obj_train_data/frame_{f.rng.bytes(4).hex()}.png"
        f.text(path[:-3] + "txt", yolo(f.photo(path, 3).boxes))
        lists["valid" if number % 4 == 0 else "train"].append(f"data/{path}")
    for name, lines in lists.items():
        f.text(f"{name}.txt", "\n".join(lines) + "\n")
    f.text("obj.names", "cell\ndebris\n")
    f.text("obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n")


def key_points_in_coco(f: Miniature) -> None:
    """COCO key points: one person per image with three points and a box."""
    shots = {f"{number:05d}.jpg": f.photo(f"images/{number:05d}.jpg", (1, 3), objects=1) for number in range(30)}
    content = coco(shots, ("person",))
    content["categories"][0] |= {"keypoints": ["head", "hip", "foot"], "skeleton": [[1, 2], [2, 3]]}
    for entry in content["annotations"]:
        x, y, width, height = (int(value) for value in np.array(entry["bbox"]))
        middle = x + width // 2
        entry |= {
            "keypoints": [middle, y, 2, middle, y + height // 2, 2, middle, y + height - 1, 2],
            "num_keypoints": 3,
        }
    f.json("annotations/person_keypoints.json", content)


EXPORTS = layouts_of(
    "labelling tools",
    {
        coco_of_three_splits: Answer(OBJECTS, ("coco",), split="either"),
        coco_in_one_file: Answer(OBJECTS, ("coco",)),
        yolo_with_splits: Answer(OBJECTS, ("yolo",), split="source"),
        yolo_beside_images: Answer(OBJECTS, ("yolo",)),
        yolo_polygons: Answer(OBJECTS, ("yolo",)),
        voc_with_image_sets: Answer(OBJECTS, ("voc",), split="source"),
        voc_in_lower_case: Answer(OBJECTS, ("voc",)),
        cvat_for_images: Answer(OBJECTS, refusal="CVAT"),
        label_studio: Answer(OBJECTS, refusal="Label Studio"),
        labelme: Answer(OBJECTS, refusal="LabelMe"),
        vgg_image_annotator: Answer(OBJECTS, refusal="VIA", split="either"),
        create_ml: Answer(OBJECTS, refusal="CreateML"),
        supervisely: Answer(OBJECTS, refusal="Supervisely"),
        open_images_boxes: Answer(OBJECTS, refusal="box"),
        deeplabcut_of_one_video: Answer(("landmarks",), ("deeplabcut",), "frames of one video", ask_groups=True),
        deeplabcut_of_two_videos: Answer(("landmarks",), (), "frames of two videos", ask_groups=True, fewest_groups=2),
        roboflow_yolo: Answer(OBJECTS, ("yolo",), "original before _jpg.rf", split="source"),
        roboflow_coco: Answer(OBJECTS, ("coco",), "original before _jpg.rf", split="either"),
        roboflow_voc_in_one_folder: Answer(OBJECTS, ("voc",), "original before _jpg.rf"),
        roboflow_class_folders: Answer(CLASSES, ("folders",), "original before _jpg.rf", split="source"),
        roboflow_classes_table: Answer(("multilabel",), (), split="either", refusal="one column per class"),
        roboflow_boxes_table: Answer(OBJECTS, refusal="one box per row"),
        darknet_with_lists: Answer(OBJECTS, ("yolo",), split="either"),
        key_points_in_coco: Answer(("landmarks", "instances"), ("coco",)),
    },
)
