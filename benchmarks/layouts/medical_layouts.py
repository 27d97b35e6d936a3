"""Layouts of medical data sets: patients, eyes, slides, slices, lesions and videos."""

import io
from typing import Any

import numpy as np

from benchmarks.layouts.layout_answers import CLASSES, MASKS, Answer, layouts_of
from benchmarks.layouts.miniature import Miniature

SPLITS = ("train", "val", "test")


def xrays_in_split_folders(f: Miniature) -> None:
    """Chest X-rays of children in train, val and test by class; names contain the person: person17_bacteria_3.jpeg."""
    for person in range(48):
        kind, split = ("NORMAL", "PNEUMONIA")[person % 2], SPLITS[max(0, person % 16 - 13)]
        for number in range(1 + person % 3):
            name = f"person{person}_bacteria_{number}" if person % 2 else f"NORMAL2-IM-{person:04d}-{number:04d}"
            f.photo(f"chest_xray/{split}/{kind}/{name}.jpeg", kind, f"p{person}", mode="L")


def xrays_with_findings(f: Miniature) -> None:
    """Chest X-rays in one folder and a table with several findings per image, patient, age and view."""
    rows = []
    for patient in range(1, 25):
        for visit in range(1 + patient % 4):
            name = f"{patient:08d}_{visit:03d}.png"
            found = [("No Finding",), ("Effusion",), ("Effusion", "Mass"), ("Nodule",)][(patient + visit) % 4]
            f.photo(f"images/{name}", frozenset(found), f"p{patient}", mode="L")
            rows.append(
                {
                    "Image Index": name,
                    "Finding Labels": "|".join(found),
                    "Follow-up #": visit,
                    "Patient ID": patient,
                    "Patient Age": 20 + 2 * patient,
                    "View Position": "PA",
                }
            )
    f.table("Data_Entry_2017.csv", rows)


def brain_slices_by_patient(f: Miniature) -> None:
    """Slices of brain MRI in one folder per patient, each with its mask: ..._11.tif and ..._11_mask.tif."""
    for patient in range(12):
        case = f"TCGA_CS_{4941 + patient * 3}_1996{patient % 9 + 1:02d}09"
        for number in range(1, 7):
            stem = f"kaggle_3m/{case}/{case}_{number}"
            f.pixels(f"{stem}_mask.tif", f.photo(f"{stem}.tif", scene=case, frame=number).mask)


def eyes_with_a_table(f: Miniature) -> None:
    """Fundus photos of left and right eyes (10_left.jpeg) and a table of image and grade 0 to 4, without suffix."""
    rows = []
    for patient in range(10, 50):
        for side in ("left", "right"):
            grade = str(int(f.rng.integers(0, 4)))
            f.photo(f"train/{patient}_{side}.jpeg", grade, f"p{patient}")
            rows.append({"image": f"{patient}_{side}", "level": grade})
    f.table("trainLabels.csv", rows)


def eyes_in_class_folders(f: Miniature) -> None:
    """Fundus photos in one folder per diagnosis; the two eyes of a patient (0012_left.png) can be in two folders."""
    for patient in range(30):
        for side in ("left", "right"):
            kind = ("Cataract", "Glaucoma", "Normal")[int(f.rng.integers(0, 3))]
            f.photo(f"fundus/{kind}/{patient:04d}_{side}.png", kind, f"p{patient}")


def histology_patches_of_patients(f: Miniature) -> None:
    """Patches of breast histology: a folder per patient, in it the classes 0 and 1, coordinates in the name."""
    for patient in range(10253, 10265):
        for number in range(8):
            kind = str(number % 2)
            name = f"{patient}_idx5_x{50 * number + 1}_y{1101 + 50 * (number % 3)}_class{kind}.png"
            f.photo(f"IDC/{patient}/{kind}/{name}", kind, f"slide{patient}")


def tiles_of_slides(f: Miniature) -> None:
    """Tiles of colorectal slides in one folder per tissue; the name has slide, row and column of the tile."""
    for slide in range(10):
        for number in range(8):
            kind = ("01_TUMOR", "02_STROMA", "03_COMPLEX")[number % 3]
            name = (
                f"{f.rng.integers(1000, 99999)}_CRC-Prim-HE-{slide + 1:02d}_Row_{151 * number}_Col_{301 + number}.tif"
            )
            f.photo(f"Kather/{kind}/{name}", kind, f"slide{slide}")


def magnifications_of_biopsies(f: Miniature) -> None:
    """Breast biopsies at four magnifications in nested folders: class, method, subtype, slide, magnification."""
    for slide in range(16):
        kind, subtype = (("benign", "adenosis"), ("malignant", "lobular_carcinoma"))[slide % 2]
        case = f"SOB_{kind[0].upper()}_{subtype[0].upper()}-14-{22549 + 31 * slide}AB"
        for magnification in (40, 100, 200, 400):
            name = f"{case}-{magnification}-{1 + slide % 5:03d}.png"
            f.photo(f"breast/{kind}/SOB/{subtype}/{case}/{magnification}X/{name}", (kind, subtype), case, look=kind)


def lesions_with_metadata(f: Miniature) -> None:
    """Skin lesions in two folders and a table of lesion, image without suffix, diagnosis, age, sex and site."""
    rows: list[dict[str, Any]] = []
    for lesion in range(36):
        for _ in range(1 + lesion % 3):
            name, kind = f"ISIC_{24306 + len(rows) * 7:07d}", ("nv", "mel", "bkl")[lesion % 3 if lesion % 6 else 1]
            f.photo(f"HAM10000_images_part_{1 + len(rows) % 2}/{name}.jpg", kind, f"lesion{lesion}")
            rows.append(
                {
                    "lesion_id": f"HAM_{118 + lesion * 13:07d}",
                    "image_id": name,
                    "dx": kind,
                    "dx_type": "histo",
                    "age": 30 + lesion,
                    "sex": ("male", "female")[lesion % 2],
                    "localization": "back",
                }
            )
    f.table("HAM10000_metadata.csv", rows)


def lesions_with_segmentation(f: Miniature) -> None:
    """Skin lesions with one binary mask each in another folder, named ISIC_0000000_segmentation.png."""
    for number in range(30):
        shot = f.photo(f"ISIC2018_Task1_Input/ISIC_{number * 11:07d}.jpg", objects=1)
        f.pixels(f"ISIC2018_Task1_GroundTruth/ISIC_{number * 11:07d}_segmentation.png", shot.mask)


def frames_of_lung_ultrasound(f: Miniature) -> None:
    """Frames of ultrasound videos in one folder per diagnosis; names contain the video and the frame."""
    for video in range(15):
        kind = ("covid", "pneumonia", "regular")[video % 3]
        for frame in range(6):
            f.photo(f"pocus/{kind}/{kind[:3]}_vid{video:02d}_frame{frame * 10:03d}.png", kind, f"v{video}", frame=frame)


def breast_ultrasound_with_masks(f: Miniature) -> None:
    """Breast ultrasound in class folders with masks beside the images: benign (1).png, benign (1)_mask.png."""
    for kind in ("benign", "malignant", "normal"):
        for number in range(1, 17):
            stem = f"BUSI/{kind}/{kind} ({number})"
            shot = f.photo(f"{stem}.png", kind, objects=2)
            f.pixels(f"{stem}_mask.png", np.where((shot.numbered == 1) & (kind != "normal"), 255, 0).astype(np.uint8))
            if kind == "benign" and number == 9:
                f.pixels(f"{stem}_mask_1.png", np.where(shot.numbered == 2, 255, 0).astype(np.uint8))


def cardiac_slices(f: Miniature) -> None:
    """Short-axis slices of the heart: a folder per patient, two phases, masks of values 0 to 3 with the suffix _gt."""
    for patient in range(1, 13):
        for phase in (1, 12):
            for number in range(3):
                stem = f"training/patient{patient:03d}/patient{patient:03d}_frame{phase:02d}_slice_{number}"
                shot = f.photo(f"{stem}.png", scene=f"p{patient}", frame=number, mode="L")
                f.pixels(f"{stem}_gt.png", shot.numbered.astype(np.uint8))


def lungs_left_and_right(f: Miniature) -> None:
    """Chest X-rays with a mask of the left and one of the right lung in two folders of the same file names."""
    for number in range(1, 29):
        name = f"MCUCXR_{number:04d}_{number % 2}.png"
        shot = f.photo(f"MontgomerySet/CXR_png/{name}", objects=2, mode="L")
        for side, value in (("leftMask", 1), ("rightMask", 2)):
            f.pixels(
                f"MontgomerySet/ManualMask/{side}/{name}", np.where(shot.numbered == value, 255, 0).astype(np.uint8)
            )


def vessels_with_field_of_view(f: Miniature) -> None:
    """Fundus photos with a manual segmentation of vessels (21_manual1.gif) and a mask of the field of view."""
    for number in range(21, 41):
        shot = f.photo(f"DRIVE/training/images/{number}_training.tif")
        f.pixels(f"DRIVE/training/1st_manual/{number}_manual1.gif", shot.mask)
        f.pixels(f"DRIVE/training/mask/{number}_training_mask.gif", np.pad(np.full((24, 36), 255, np.uint8), 4))


def vessels_by_two_graders(f: Miniature) -> None:
    """Fundus photos of the left and right eye of children with the vessels of two graders, all in one folder."""
    for child in range(1, 15):
        for side in "LR":
            shot = f.photo(f"CHASEDB1/Image_{child:02d}{side}.jpg", scene=f"c{child}")
            for grader, moved in (("1st", 0), ("2nd", 1)):
                f.pixels(f"CHASEDB1/Image_{child:02d}{side}_{grader}HO.png", np.roll(shot.mask, moved, axis=1))


def bone_age(f: Miniature) -> None:
    """X-rays of hands, 1377.png, and a table with id, age of the bone in months, and sex."""
    rows = []
    for number in range(1377, 1425):
        age = int(f.rng.integers(20, 220))
        f.photo(f"boneage-training-dataset/{number}.png", float(age), mode="L")
        rows.append({"id": number, "boneage": age, "male": str(number % 3 == 0)})
    f.table("boneage-training-dataset.csv", rows)


def arrays_with_splits(f: Miniature) -> None:
    """One npz of 28-pixel images with train, val and test arrays."""
    arrays: dict[str, Any] = {}
    for split, count in (("train", 60), ("val", 24), ("test", 24)):
        arrays[f"{split}_images"] = f.rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3)[:, None]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    f.files["tissuemnist.npz"] = buffer.getvalue()


def endoscopy_in_class_folders(f: Miniature) -> None:
    """Endoscopy images in class folders with random names."""
    for kind in ("dyed-lifted-polyps", "esophagitis", "normal-cecum"):
        for _ in range(20):
            f.photo(f"kvasir/{kind}/{f.rng.bytes(8).hex()}.jpg", kind)


def colonoscopy_sequences(f: Miniature) -> None:
    """Frames of colonoscopies, numbered 1 to 72 across the videos, with masks of polyps of the same names."""
    for number in range(1, 73):
        shot = f.photo(f"CVC/Original/{number}.tif", film=f"seq{(number - 1) // 12}", frame=number)
        f.pixels(f"CVC/Ground Truth/{number}.tif", shot.mask)


def knees_of_two_sides(f: Miniature) -> None:
    """X-rays of knees by split and grade; 9001695L.png and 9001695R.png are the knees of one patient."""
    for patient in range(40):
        for side in "LR":
            grade, split = str(int(f.rng.integers(0, 3))), SPLITS[max(0, patient % 10 - 7)]
            f.photo(f"KneeXray/{split}/{grade}/{9001695 + 37 * patient}{side}.png", grade, f"p{patient}", mode="L")


def cells_of_thin_smears(f: Miniature) -> None:
    """Blood cells in class folders; the name has patient, smear and image: C33P1thinF_IMG_2015_cell_179.png."""
    for patient in range(20):
        kind = ("Parasitized", "Uninfected")[patient % 2]
        for number in range(5):
            taken = f"201506{patient + 10}_11475{patient % 7}a"
            name = f"C{33 + patient}P{patient}thinF_IMG_{taken}_cell_{number * 23 + 7}.png"
            f.photo(f"cell_images/{kind}/{name}", kind, f"p{patient}")


def mammograms_with_several_findings(f: Miniature) -> None:
    """Mammograms and a table with one row per finding, so that an image can be benign and malignant."""
    rows = []
    for patient in range(20):
        for view in ("CC", "MLO"):
            path = f"images/P_{patient:05d}_LEFT_{view}.png"
            f.photo(path, scene=f"p{patient}", mode="L")
            kinds = [("BENIGN",), ("MALIGNANT",), ("BENIGN", "MALIGNANT")][patient % 3]
            rows += [
                {
                    "patient_id": f"P_{patient:05d}",
                    "image view": view,
                    "abnormality id": place + 1,
                    "pathology": kind,
                    "image file path": path,
                }
                for place, kind in enumerate(kinds)
            ]
    f.table("mass_case_description_train_set.csv", rows)


MEDICAL = layouts_of(
    "medical",
    {
        xrays_in_split_folders: Answer(CLASSES, ("folders",), "person in the name", split="source"),
        xrays_with_findings: Answer(("multilabel",), (), "column Patient ID"),
        brain_slices_by_patient: Answer(MASKS, ("masks",), "patient folder"),
        eyes_with_a_table: Answer(CLASSES, (), "number before _left and _right"),
        eyes_in_class_folders: Answer(CLASSES, (), "number before _left and _right, across folders"),
        histology_patches_of_patients: Answer(CLASSES, (), "patient folder"),
        tiles_of_slides: Answer(CLASSES, ("folders",), "slide CRC-Prim-HE-NN"),
        magnifications_of_biopsies: Answer(CLASSES, (), "slide"),
        lesions_with_metadata: Answer(CLASSES, (), "column lesion_id"),
        lesions_with_segmentation: Answer(MASKS, ("masks",)),
        frames_of_lung_ultrasound: Answer(CLASSES, ("folders",), "video in the name"),
        breast_ultrasound_with_masks: Answer((*MASKS, *CLASSES)),
        cardiac_slices: Answer(MASKS, ("masks",), "patient"),
        lungs_left_and_right: Answer(MASKS, ("masks",), targets=r"\{label\}"),
        vessels_with_field_of_view: Answer(MASKS, ("masks",), targets="manual"),
        vessels_by_two_graders: Answer(MASKS, ("masks",), "child", targets="HO"),
        bone_age: Answer(("regression",), ("table",)),
        arrays_with_splits: Answer(CLASSES, ("arrays",), split="source"),
        endoscopy_in_class_folders: Answer(CLASSES, ("folders",)),
        colonoscopy_sequences: Answer(MASKS, ("masks",), "consecutive frames", ask_groups=True),
        knees_of_two_sides: Answer(CLASSES, ("folders",), "number before L and R", split="source"),
        cells_of_thin_smears: Answer(CLASSES, ("folders",), "patient C..P.."),
        mammograms_with_several_findings: Answer(
            ("multilabel",), (), "column patient_id", refusal="several rows per image|rows? .*image"
        ),
    },
)
