"""Layouts of satellite and aerial images: tiles of scenes, bands in one or several files, pairs before and after."""

import io

import numpy as np
import tifffile

from benchmarks.layouts.annotation_files import run_lengths
from benchmarks.layouts.layout_answers import CLASSES, MASKS, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature

COLOURS = np.array([[0, 0, 0], [0, 255, 255], [255, 255, 0], [0, 255, 0]], np.uint8)  # by class: land cover
CITIES = ("austin", "chicago", "vienna")


def land_use_with_class_in_names(f: Miniature) -> None:
    """Sentinel tiles in class folders; the name repeats the class and has a number: AnnualCrop/AnnualCrop_1.jpg."""
    for kind in ("AnnualCrop", "Forest", "SeaLake"):
        for number in range(1, 21):
            f.photo(f"2750/{kind}/{kind}_{number}.jpg", kind)


def land_use_of_thirteen_bands(f: Miniature) -> None:
    """Sentinel tiles in class folders as TIFF of 13 bands with 16 bits."""
    for kind in ("AnnualCrop", "Forest"):
        for number in range(1, 21):
            path = f"allBands/{kind}/{kind}_{number}.tif"
            grey = f.photo(path, kind).image.mean(axis=2)
            buffer = io.BytesIO()
            bands = np.stack([grey * (30 + band) for band in range(13)], axis=-1).astype(np.uint16)
            tifffile.imwrite(buffer, bands, photometric="minisblack", planarconfig="contig")
            f.files[path] = buffer.getvalue()


def aerial_scenes_numbered_from_zero(f: Miniature) -> None:
    """Aerial scenes in class folders, agricultural/agricultural00.tif."""
    for kind in ("agricultural", "airplane", "beach"):
        for number in range(20):
            f.photo(f"UCMerced/Images/{kind}/{kind}{number:02d}.tif", kind)


def tiles_of_cities(f: Miniature) -> None:
    """Tiles of aerial photos and masks of buildings of the same names; austin12_x512_y0.png is of austin12."""
    for number in range(12):
        photo = f"{CITIES[number % 3]}{number // 3 + 1}"
        for tile in range(6):
            name = f"{photo}_x{512 * (tile % 3)}_y{512 * (tile // 3)}.png"
            f.pixels(f"AerialImageDataset/gt/{name}", f.photo(f"AerialImageDataset/images/{name}", scene=photo).mask)


def coloured_land_cover(f: Miniature) -> None:
    """Satellite images and coloured masks of land cover in one folder: 104_sat.jpg and 104_mask.png."""
    for number in range(30):
        stem = f"land-train/{104 + 17 * number}"
        shot = f.photo(f"{stem}_sat.jpg")
        f.pixels(f"{stem}_mask.png", COLOURS[np.minimum(shot.numbered, 3)])


def before_and_after(f: Miniature) -> None:
    """Change detection: train, val and test with A (before), B (after) and label, all with the same names."""
    for number in range(48):
        split = ("train", "val", "test")[max(0, number % 8 - 5)]
        name = f"{split}_{number + 1}.png"
        shot = f.photo(f"LEVIR/{split}/A/{name}", scene=f"place{number}", aligned=True)
        f.photo(f"LEVIR/{split}/B/{name}", scene=f"place{number}", aligned=True)
        f.pixels(f"LEVIR/{split}/label/{name}", shot.mask)


def disasters_before_and_after(f: Miniature) -> None:
    """Disasters: places before and after, hurricane-michael_00000042_pre_disaster.png, with masks in targets."""
    for place in range(20):
        event = ("hurricane-michael", "mexico-earthquake", "palu-tsunami", "socal-fire")[place % 4]
        for when in ("pre", "post"):
            stem = f"{event}_{place * 11:08d}_{when}_disaster"
            shot = f.photo(f"xview/images/{stem}.png", scene=f"place{place}", aligned=True)
            f.pixels(f"xview/targets/{stem}_target.png", np.where(shot.mask, 1, 0).astype(np.uint8))


def ships_with_run_lengths(f: Miniature) -> None:
    """Ships and a table with one row of run lengths per ship; images without ships have an empty cell."""
    rows = []
    for number in range(40):
        name = f"{f.rng.bytes(5).hex()}.jpg"
        shot = f.photo(f"train_v2/{name}", objects=2)
        kept = range(1, number % 3 + 1)
        rows += [{"ImageId": name, "EncodedPixels": run_lengths(shot.numbered == ship)} for ship in kept]
        if not kept:
            rows.append({"ImageId": name, "EncodedPixels": ""})
    f.table("train_ship_segmentations_v2.csv", rows)


def rotated_boxes(f: Miniature) -> None:
    """Aerial images with rotated boxes in labelTxt: eight coordinates, class and difficulty per line."""
    for number in range(30):
        shot = f.photo(f"DOTA/images/P{number * 7:04d}.png")
        lines = ["imagesource:GoogleEarth", "gsd:0.146"]
        lines += [f"{x0}.0 {y0}.0 {x1}.0 {y0}.0 {x1}.0 {y1}.0 {x0}.0 {y1}.0 ship 0" for x0, y0, x1, y1 in shot.boxes]
        f.text(f"DOTA/labelTxt/P{number * 7:04d}.txt", "\n".join(lines))


def bands_in_folders(f: Miniature) -> None:
    """Clouds: a folder per band (train_red, train_green, train_nir) and train_gt, one file per patch in each."""
    for scene in range(6):
        for patch in range(6):
            name = f"patch_{patch + 1}_{patch + 1}_by_{scene}_LC08_L1TP_0020{scene}3_20160520.TIF"
            for band in ("red", "green", "nir"):
                shot = f.photo(
                    f"38-Cloud/train_{band}/{band}_{name}", scene=f"scene{scene}", mode="L", aligned=True, optional=True
                )
            f.pixels(f"38-Cloud/train_gt/gt_{name}", shot.mask)


def buildings_in_geojson(f: Miniature) -> None:
    """Tiles of a city with outlines of buildings as GeoJSON in coordinates of the Earth."""
    for number in range(24):
        f.photo(f"RGB-PanSharpen/RGB_AOI_2_Vegas_img{number}.tif")
        ring = [[-115.3, 36.1], [-115.29, 36.1], [-115.29, 36.11], [-115.3, 36.1]]
        features = [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}]
        f.json(
            f"geojson/buildings/buildings_AOI_2_Vegas_img{number}.geojson",
            {"type": "FeatureCollection", "features": features},
        )


def folder_per_patch(f: Miniature) -> None:
    """Patches with a folder each, which has one TIFF per band and a JSON with labels and coordinates."""
    for number in range(16):
        patch = f"S2A_MSIL2A_20170613T101031_{number}_{45 + number}"
        for band in ("B02", "B03", "B04"):
            f.photo(f"BigEarthNet/{patch}/{patch}_{band}.tif", scene=patch, mode="L", aligned=True)
        f.json(
            f"BigEarthNet/{patch}/{patch}_labels_metadata.json",
            {"labels": ["Pastures", "Sea and ocean"][: 1 + number % 2], "projection": "UTM"},
        )


def dates_of_fields(f: Miniature) -> None:
    """Fields with a folder each and an image per date; the table has one row per field with its crop."""
    rows = []
    for number in range(24):
        kind = ("maize", "wheat", "rape")[number % 3]
        for month in (4, 5, 6):
            f.photo(f"crops/field_{number:04d}/2019-{month:02d}-01.tif", kind, f"field{number}")
        rows.append({"field": f"field_{number:04d}", "crop": kind})
    f.table("crops/fields.csv", rows)


def low_and_high_resolution(f: Miniature) -> None:
    """Super-resolution: the same names in LR and HR, where HR has twice the width and height."""
    for number in range(30):
        shot = f.photo(f"LR/{number:04d}.png")
        f.pixels(f"HR/{number:04d}.png", shot.image.repeat(2, axis=0).repeat(2, axis=1))


SATELLITES = layouts_of(
    "satellites",
    {
        land_use_with_class_in_names: Answer(CLASSES, ("folders",)),
        land_use_of_thirteen_bands: Answer(CLASSES, ("folders",), refusal="channels|bands"),
        aerial_scenes_numbered_from_zero: Answer(CLASSES, ("folders",)),
        tiles_of_cities: Answer(MASKS, ("masks",), "photo: city and number", fewest_groups=3),
        coloured_land_cover: Answer(MASKS, ("masks",), refusal="colou?r"),
        before_and_after: Answer(
            (), refusal="before and after|two (images|inputs)|pair", asks=("/B/|before",), related="place"
        ),
        disasters_before_and_after: Answer(MASKS, ("masks",), "place (or event)", fewest_groups=4),
        ships_with_run_lengths: Answer(
            (*MASKS, "instances"), refusal="run.?length|EncodedPixels|several rows per image"
        ),
        rotated_boxes: Answer(("instances",), refusal="rotated|labelTxt|eight|DOTA|oriented"),
        bands_in_folders: Answer(
            MASKS, (), "scene", asks=("green|nir|band",), fewest_groups=6, refusal="band|channel|several (files|images)"
        ),
        buildings_in_geojson: Answer(refusal="GeoJSON"),
        folder_per_patch: Answer(refusal="band|channel|JSON|no labelled images"),
        dates_of_fields: Answer(CLASSES, (), "field folder", refusal="fields.csv|folder"),
        low_and_high_resolution: Answer(("image",), ("pairs",), targets="HR", refusal="size"),
    },
)
