"""Layouts with tables: numbers, points, annotators, specimens, sites, and tables that do not agree with the files."""

from typing import Any

import numpy as np

from benchmarks.layouts.layout_answers import CLASSES, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature


def popularity_with_flags(f: Miniature) -> None:
    """Pets and a table of Id without suffix, five 0/1 flags of the photo, and a score of 1 to 100."""
    rows = []
    for _ in range(48):
        name, score = f.rng.bytes(16).hex(), int(f.rng.integers(1, 101))
        f.photo(f"train/{name}.jpg", {"Pawpularity": float(score)})
        flags = {key: int(f.rng.integers(0, 2)) for key in ("Subject Focus", "Eyes", "Face", "Blur", "Human")}
        rows.append({"Id": name, **flags, "Pawpularity": score})
    f.table("train.csv", rows)


def one_measured_number(f: Miniature) -> None:
    """Photos and a table of file and weight in grams, with semicolons and decimal commas."""
    rows = []
    for number in range(48):
        weight = float(f.rng.integers(800, 9000)) / 10
        f.photo(f"img/{number:03d}.jpg", weight)
        rows.append({"file": f"img/{number:03d}.jpg", "weight_g": f"{weight}".replace(".", ",")})
    f.table("weights.csv", rows, ";")


def four_sides_of_a_weighed_part(f: Miniature) -> None:
    """Parts from four sides and a table of file, part and weight; two parts can have the same weight."""
    rows = []
    for part in range(20):
        for side in range(4):
            name = f"{f.rng.bytes(4).hex()}.jpg"
            f.photo(f"photos/{name}", 100.0 + part // 2, f"part{part}")
            rows.append({"file": name, "part_id": f"A{part * 7:04d}", "side": side, "weight": 100 + part // 2})
    f.table("parts.csv", rows)


def points_of_faces(f: Miniature) -> None:
    """Faces and a table with x and y columns of three points in pixels; some cells are empty."""
    rows = []
    for number in range(40):
        boxes = f.photo(f"faces/face{number:03d}.png", 3 - (number % 9 == 0), mode="L").boxes
        row: dict[str, Any] = {"image": f"faces/face{number:03d}.png"}
        for name, (x0, y0, _, _) in zip(("left_eye", "right_eye", "nose"), boxes, strict=True):
            row |= {f"{name}_x": x0, f"{name}_y": y0}
        rows.append(row | ({"nose_x": "", "nose_y": ""} if number % 9 == 0 else {}))
    f.table("points.csv", rows)


def specimens_within_species(f: Miniature) -> None:
    """Insects and a table of file, species and specimen; each specimen has several photos and one species."""
    rows = []
    for specimen in range(24):
        for _ in range(4):
            kind, name = ("apis", "bombus", "osmia")[specimen % 3], f"{f.rng.bytes(4).hex()}.jpg"
            f.photo(f"images/{name}", kind, f"specimen{specimen}")
            rows.append({"filename": name, "species": kind, "specimen": f"ZMB-{2031 + 5 * specimen}"})
    f.table("specimens.csv", rows)


def splits_in_a_column(f: Miniature) -> None:
    """Photos and a table with path, label, subject and split; subjects stay in one split."""
    rows = []
    for subject in range(30):
        for number in range(2):
            kind, split = ("open", "closed")[(subject + number) % 2], ("train", "val", "test")[max(0, subject % 6 - 3)]
            f.photo(f"data/{subject:02d}{number}.png", kind, f"s{subject}")
            rows.append(
                {"path": f"data/{subject:02d}{number}.png", "label": kind, "subject": f"S{subject}", "split": split}
            )
    f.table("index.csv", rows)


def votes_of_annotators(f: Miniature) -> None:
    """Photos and a table with one row per image and annotator; the annotators disagree about some images."""
    rows = []
    for number in range(40):
        f.photo(f"images/{number:03d}.jpg")
        rows += [
            {
                "image": f"images/{number:03d}.jpg",
                "annotator": who,
                "label": ("spiral", "smooth")[(number + (number % 5 == 0) * place) % 2],
            }
            for place, who in enumerate(("A", "B", "C"))
        ]
    f.table("votes.csv", rows)


def images_of_several_sites(f: Miniature) -> None:
    """Slides of five hospitals and a table of path, site, scanner and label."""
    rows = []
    for number in range(60):
        site, kind = "ABCDE"[number % 5], ("tumor", "normal")[int(f.rng.integers(0, 2))]
        path = f"hospital_{site}/{f.rng.bytes(4).hex()}.png"
        f.photo(path, kind, exposure=8.0 * (number % 5))
        rows.append({"path": path, "site": site, "scanner": ("Aperio", "Hamamatsu")[number % 2], "label": kind})
    f.table("slides.csv", rows)


def table_per_day(f: Miniature) -> None:
    """Three days with a folder and a table of names and labels each."""
    for day in (1, 2, 3):
        rows = []
        for number in range(20):
            kind = ("ripe", "unripe")[number % 2]
            f.photo(f"day{day}/img_{number:02d}.jpg", kind)
            rows.append({"image": f"img_{number:02d}.jpg", "label": kind})
        f.table(f"day{day}/labels.csv", rows)


def table_of_other_files(f: Miniature) -> None:
    """A table that lists 60 images, of which the folder has 36."""
    rows = []
    for number in range(60):
        kind = ("a", "b")[number % 2]
        if number < 36:
            f.photo(f"images/{number:03d}.jpg", kind)
        rows.append({"file": f"{number:03d}.jpg", "label": kind})
    f.table("labels.csv", rows)


def spreadsheet(f: Miniature) -> None:
    """Photos with random names and their labels in a spreadsheet of Excel."""
    for _ in range(30):
        f.photo(f"photos/{f.rng.bytes(4).hex()}.jpg")
    f.files["labels.xlsx"] = b"PK\x03\x04" + b"\0" * 60


def leaves_with_several_targets(f: Miniature) -> None:
    """Leaves and a table of id, main stress (class 0 to 3), one severity per stress, and a total severity."""
    rows = []
    for number in range(48):
        kind = number % 4
        f.photo(f"leaf/images/{number}.jpg", (str(kind), float(kind)))
        rows.append(
            {
                "id": number,
                "predominant_stress": kind,
                "miner": int(kind == 1) * 3,
                "rust": int(kind == 2) * 2,
                "severity": kind,
            }
        )
    f.table("leaf/dataset.csv", rows)


def two_labels_per_image(f: Miniature) -> None:
    """Products with names as numbers and a table of id, gender, category and colour; any of them can be predicted."""
    rows = []
    for number in range(60):
        row = {
            "id": 1163 + 37 * number,
            "gender": ("Men", "Women")[number % 2],
            "masterCategory": ("Apparel", "Footwear", "Bags")[number % 3],
            "baseColour": ("Blue", "Red", "Black", "White")[number % 4],
        }
        f.photo(
            f"images/{row['id']}.jpg",
            tuple(str(row[key]) for key in ("gender", "masterCategory", "baseColour")),
            look=str(row["masterCategory"]),
        )
        rows.append(row)
    f.table("styles.csv", rows)


def counts_of_objects(f: Miniature) -> None:
    """Photos of seedlings and a table with their count."""
    rows = []
    for number in range(40):
        count = int(np.clip(f.rng.poisson(4), 1, 9))
        f.photo(f"plots/plot_{number:03d}.png", float(count), objects=count, size=(100, 32))
        rows.append({"filename": f"plot_{number:03d}.png", "count": count})
    f.table("plots/counts.csv", rows)


NUMBER = ("regression",)
TABLES = layouts_of(
    "tables",
    {
        popularity_with_flags: Answer(NUMBER, ("table",)),
        one_measured_number: Answer(NUMBER, ("table",)),
        four_sides_of_a_weighed_part: Answer(NUMBER, ("table",), "column part_id"),
        points_of_faces: Answer(("landmarks",), ("table",)),
        specimens_within_species: Answer(CLASSES, ("table",), "column specimen"),
        splits_in_a_column: Answer(CLASSES, ("table",), "column subject", split="source"),
        votes_of_annotators: Answer(refusal="several rows per image|more than one row|listed twice"),
        images_of_several_sites: Answer(CLASSES, ("table",), fewest_groups=5),
        table_per_day: Answer(CLASSES, (), fewest_groups=3),
        table_of_other_files: Answer(CLASSES, ("table",), asks=("036.jpg|24 ",), refusal="036.jpg|24 "),
        spreadsheet: Answer(refusal="xlsx"),
        leaves_with_several_targets: Answer(
            (*CLASSES, *NUMBER), ("table",), asks=("severity|predominant_stress|miner",)
        ),
        two_labels_per_image: Answer(CLASSES, ("table",), asks=("gender|masterCategory|baseColour",)),
        counts_of_objects: Answer(NUMBER, ("table",)),
    },
)
