"""Layouts of microscopy: dots, numbered label images, stacks, films, plates and channels in several files."""

import numpy as np

from benchmarks.layouts.annotation_files import coco
from benchmarks.layouts.layout_answers import CLASSES, MASKS, NAMES, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature


def dots_beside_cells(f: Miniature) -> None:
    """Simulated cells in one folder with an image of dots each: 001cell.png and 001dots.png."""
    for number in range(1, 41):
        count = int(f.rng.integers(2, 8))
        shot = f.photo(f"cells/{number:03d}cell.png", count, objects=count, size=(80, 40))
        f.pixels(f"cells/{number:03d}dots.png", shot.dots)


def mask_per_nucleus(f: Miniature) -> None:
    """Nuclei with a folder per image, which has images/ID.png and one mask per nucleus with a random name in masks."""
    for _ in range(28):
        name = f.rng.bytes(16).hex()
        shot = f.photo(f"stage1_train/{name}/images/{name}.png", 4, objects=4)
        for number in range(1, 5):
            mask = np.where(shot.numbered == number, 255, 0).astype(np.uint8)
            f.pixels(f"stage1_train/{name}/masks/{f.rng.bytes(16).hex()}.png", mask)


def numbered_labels_of_films(f: Miniature) -> None:
    """Two films of cells, 01/t000.tif, with a number per cell in 16 bits in 01_GT/SEG/man_seg000.tif."""
    for film in ("01", "02"):
        for frame in range(24):
            shot = f.photo(f"Fluo/{film}/t{frame:03d}.tif", 4, film=film, frame=frame, objects=4, mode="L")
            f.pixels(f"Fluo/{film}_GT/SEG/man_seg{frame:03d}.tif", shot.numbered)


def numbered_labels_of_photos(f: Miniature) -> None:
    """Cells in images, and in labels 16-bit label images of the same names with the numbers of the cells."""
    for number in range(32):
        count = 2 + number % 5
        shot = f.photo(f"cells/images/{number:03d}.tif", count, objects=count, size=(80, 40), mode="L")
        f.pixels(f"cells/labels/{number:03d}.tif", shot.numbered)


def stacks_of_organelles(f: Miniature) -> None:
    """Two stacks of sections: stack1 has raw, membranes, mitochondria and synapses; stack2 has raw without labels."""
    for number in range(20):
        shot = f.photo(f"vnc/stack1/raw/{number:02d}.tif", film="stack1", frame=number, mode="L")
        f.photo(f"vnc/stack2/raw/{number:02d}.tif", film="stack2", frame=number, mode="L", counts=False)
        for place, part in enumerate(("membranes", "mitochondria", "synapses"), 1):
            f.pixels(f"vnc/stack1/{part}/{number:02d}.png", np.where(shot.numbered == place, 255, 0).astype(np.uint8))


def labels_with_longer_numbers(f: Miniature) -> None:
    """Sections raw/00.tif with labels/labels00000000.png: the numbers agree, but not their digits."""
    for number in range(24):
        shot = f.photo(f"vnc/raw/{number:02d}.tif", film="stack", frame=number, mode="L")
        f.pixels(f"vnc/labels/labels{number:08d}.png", shot.mask)


def sixteen_sections(f: Miniature) -> None:
    """Sixteen consecutive sections, section_01.tif to section_16.tif, with masks in another folder."""
    for number in range(1, 17):
        shot = f.photo(f"sections/raw/section_{number:02d}.tif", film="stack", frame=number, mode="L")
        f.pixels(f"sections/masks/section_{number:02d}.tif", shot.mask)


def slices_with_test_slices(f: Miniature) -> None:
    """Sections of a neuron: train/image and train/label with the numbers 0 to 29, and test without labels."""
    for number in range(30):
        shot = f.photo(f"train/image/{number}.png", film="train", frame=number, mode="L")
        f.pixels(f"train/label/{number}.png", 255 - shot.mask)
        f.photo(f"test/{number}.png", film="test", frame=number, mode="L", counts=False)


def wells_over_time(f: Miniature) -> None:
    """Cells in COCO; names have cell line, well, position and time: A172_Phase_A7_1_00d04h00m_3.tif."""
    shots = {}
    for well in range(12):
        for hour in range(0, 20, 4):
            name = f"A172_Phase_{'ABCD'[well % 4]}{5 + well // 4}_{1 + well % 2}_00d{hour:02d}h00m_3.tif"
            shots[name] = f.photo(f"images/{name}", 3, f"well{well}", frame=hour // 4, mode="L")
    f.json("annotations/livecell_coco.json", coco(shots))


def channels_in_files(f: Miniature) -> None:
    """Proteins: four files per cell (ID_red.png, ID_green.png, ...) and a table of ID and classes."""
    rows = []
    for number in range(24):
        name = f.rng.bytes(8).hex()
        for channel in ("red", "green", "blue", "yellow"):
            f.photo(f"train/{name}_{channel}.png", scene=name, mode="L", aligned=True)
        rows.append({"Id": name, "Target": ("16 0", "7", "0", "2 16")[number % 4]})
    f.table("train.csv", rows)


def plates_and_wells(f: Miniature) -> None:
    """Cell painting: a table with plate, well, site, path and mechanism; the sites of a well have one mechanism."""
    rows = []
    for well in range(30):
        plate, name, kind = (
            f"Week{1 + well % 5}",
            f"{'BCDEFG'[well // 5]}{2 + well % 5:02d}",
            ("DMSO", "Actin", "Aurora")[well % 3],
        )
        for site in range(1, 4):
            path = f"{plate}/{name}_s{site}.tif"
            f.photo(path, kind, f"well{well}", mode="L")
            rows.append(
                {"Metadata_Plate": plate, "Metadata_Well": name, "Metadata_Site": site, "Image_Path": path, "MOA": kind}
            )
    f.table("metadata.csv", rows)


def focus_and_count_in_names(f: Miniature) -> None:
    """Simulated cells; the name has the well, the count C and the blur F: SIMCEPImages_A01_C3_F17_s05.TIF."""
    for well in range(1, 17):
        count = 2 + well % 5
        for focus in (1, 17, 48):
            f.photo(
                f"BBBC005/SIMCEPImages_A{well:02d}_C{count}_F{focus}_s{well:02d}.TIF",
                float(count),
                f"well{well}",
                objects=count,
                size=(80, 40),
                mode="L",
                aligned=True,
            )


def planes_of_pollen(f: Miniature) -> None:
    """Pollen in class folders with several focal planes per grain: betula/pollen12_z03.png."""
    for grain in range(21):
        kind = ("alnus", "betula", "corylus")[grain % 3]
        for plane in range(4):
            f.photo(f"pollen/{kind}/pollen{grain:02d}_z{plane:02d}.png", kind, f"grain{grain}", frame=plane, mode="L")


def plankton_with_rare_classes(f: Miniature) -> None:
    """Plankton in class folders with random numbers as names; the rarest class has two images."""
    for kind, count in (
        ("copepod_calanoid", 40),
        ("chaetognath_other", 25),
        ("shrimp-like_other", 14),
        ("fish_larvae", 2),
    ):
        for _ in range(count):
            f.photo(
                f"train/{kind}/{f.rng.integers(10**4, 10**6)}.jpg",
                kind,
                size=(48 + int(f.rng.integers(0, 20)), 40),
                mode="L",
            )


def colonies_with_json(f: Miniature) -> None:
    """Petri dishes with one JSON per image that has the number of colonies and a box of each."""
    for number in range(24):
        shot = f.photo(f"AGAR/{number + 300}.jpg", 3)
        labels = [
            {"class": "S.aureus", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "id": place}
            for place, (x0, y0, x1, y1) in enumerate(shot.boxes)
        ]
        f.json(f"AGAR/{number + 300}.json", {"sample_id": number, "colonies_number": 3, "labels": labels})


def fields_of_patients_slides(f: Miniature) -> None:
    """Bone marrow in class folders; names have patient, slide and field: P07_S2_field03.png."""
    for patient in range(18):
        kind = ("AML", "healthy")[patient % 2]
        for slide in (1, 2):
            for field in range(1, 4):
                f.photo(f"marrow/{kind}/P{patient:02d}_S{slide}_field{field:02d}.png", kind, f"p{patient}")


MICROSCOPY = layouts_of(
    "microscopy",
    {
        dots_beside_cells: Answer(("regression", "instances"), ("dots",)),
        mask_per_nucleus: Answer(("instances",), ("instances",)),
        numbered_labels_of_films: Answer(
            ("instances",), ("instances",), "consecutive frames of a film", ask_groups=True
        ),
        numbered_labels_of_photos: Answer(("instances",), ("instances",)),
        stacks_of_organelles: Answer(MASKS, ("masks",), "consecutive sections", targets=r"\{label\}", ask_groups=True),
        labels_with_longer_numbers: Answer(MASKS, ("masks",), "consecutive sections", ask_groups=True),
        sixteen_sections: Answer(MASKS, ("masks",), "consecutive sections", ask_groups=True),
        slices_with_test_slices: Answer(MASKS, ("masks",), "consecutive sections", ask_groups=True),
        wells_over_time: Answer(("instances",), ("coco",), "well and position"),
        channels_in_files: Answer(refusal="channel|colou?r|several (files|images)|_red|candidates"),
        plates_and_wells: Answer(CLASSES, ("table",), "well of a plate (or plate)", fewest_groups=5),
        focus_and_count_in_names: Answer(("regression",), (), "well", refusal=NAMES),
        planes_of_pollen: Answer(CLASSES, ("folders",), "grain in the name"),
        plankton_with_rare_classes: Answer(CLASSES, ("folders",), asks=("fish_larvae",)),
        colonies_with_json: Answer(("instances", "regression"), refusal=r"JSON|\.json|not imported"),
        fields_of_patients_slides: Answer(CLASSES, ("folders",), "patient in the name"),
    },
)
