"""Layouts that are empty, unlabelled, damaged or packed, or that have files that do not belong to the data."""

import numpy as np
from PIL import Image

from benchmarks.layouts.layout_answers import CLASSES, Answer, layouts_of
from benchmarks.layouts.miniature import ImageTruth, Miniature


def empty_folder(f: Miniature) -> None:
    """A folder without any file."""


def text_files_only(f: Miniature) -> None:
    """A repository that has the code and a README with a link to the images, but no images."""
    f.text("README.md", "# Data\nDownload the images from the project page.\n")
    f.text("train.py", "print('train')\n")
    f.text("requirements.txt", "numpy\n")


def unlabelled_images(f: Miniature) -> None:
    """Photos of a camera in one folder without labels."""
    for number in range(40):
        f.photo(f"DCIM/100CANON/IMG_{number + 1:04d}.JPG")


def one_class_only(f: Miniature) -> None:
    """One class folder."""
    for number in range(40):
        f.photo(f"scratches/{number:03d}.png", "scratches")


def truncated_files(f: Miniature) -> None:
    """Class folders in which every fifth file ends early."""
    for kind in ("cat", "dog"):
        for number in range(30):
            path = f"{kind}/{f.rng.bytes(4).hex()}.jpg"
            f.photo(path, kind)
            if number % 5 == 0:
                f.files[path] = f.files[path][:200]
                del f.truth[path]


def readme_and_thumbnails(f: Miniature) -> None:
    """Class folders with a README, a licence, a preview, and a folder of thumbnails in each class."""
    for kind in ("oak", "pine", "birch"):
        for _ in range(18):
            name = f.rng.bytes(4).hex()
            photo = Image.fromarray(f.photo(f"trees/{kind}/{name}.jpg", kind).image)
            f.pixels(f"trees/{kind}/thumbs/{name}_thumb.jpg", np.asarray(photo.resize((16, 12))))
    f.photo("trees/preview.png", counts=False, size=(160, 120))
    f.text("trees/README.md", "# Trees\n")
    f.text("trees/LICENSE", "CC0\n")


def zip_below_a_folder(f: Miniature) -> None:
    """A folder with a README and a zip, which has the class folders."""
    inner = Miniature(f"{f.name}_inner")
    seedlings(inner)
    f.archive("images.zip", inner)
    f.text("README.txt", "Unpack images.zip.\n")


def seedlings(f: Miniature) -> None:
    """Class folders without any difficulty."""
    for kind in ("maize", "wheat"):
        for _ in range(24):
            f.photo(f"{kind}/{f.rng.bytes(4).hex()}.png", kind)


def files_of_a_mac(f: Miniature) -> None:
    """Class folders with __MACOSX, ._ files and .DS_Store."""
    seedlings(f)
    for path in list(f.truth):
        f.files[f"__MACOSX/._{path}"] = b"\0\5\26\7\0\2\0\0Mac OS X"
    f.files[".DS_Store"] = f.files["maize/.DS_Store"] = b"\0\0\0\1Bud1"


def copied_class_folder(f: Miniature) -> None:
    """Class folders with a copy of one of them, `maize - Copy`, whose files are identical."""
    seedlings(f)
    for path in [path for path in f.truth if path.startswith("maize/")]:
        copy = path.replace("maize/", "maize - Copy/")
        f.files[copy], f.truth[copy] = f.files[path], ImageTruth("maize - Copy", path, optional=True)


def mixed_sizes(f: Miniature) -> None:
    """Class folders of images from 24 to 120 pixels, landscape and portrait, as JPEG, PNG and BMP."""
    for kind in ("bolt", "nut", "washer"):
        for number in range(20):
            size = (int(f.rng.integers(24, 120)), int(f.rng.integers(24, 120)))
            f.photo(f"{kind}/{f.rng.bytes(4).hex()}.{('jpg', 'png', 'bmp')[number % 3]}", kind, size=size)


def mixed_depths(f: Miniature) -> None:
    """Class folders in which a third of the images has 16 bits."""
    for kind in ("a_weld", "b_weld"):
        for number in range(24):
            f.photo(f"{kind}/{f.rng.bytes(4).hex()}.png", kind, mode="I;16" if number % 3 == 0 else "L")


def same_image_in_two_classes(f: Miniature) -> None:
    """Class folders in which four files are in both classes."""
    seedlings(f)
    for path in [path for path in f.truth if path.startswith("maize/")][:4]:
        copy = path.replace("maize/", "wheat/")
        f.files[copy], f.truth[copy] = f.files[path], ImageTruth("wheat", path)


def medical_files_only(f: Miniature) -> None:
    """DICOM files in one folder per patient."""
    for patient in range(6):
        for number in range(3):
            f.files[f"patient{patient:02d}/IM{number:04d}.dcm"] = b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0"


def masks_of_some_images(f: Miniature) -> None:
    """Forty images, of which 24 have a mask in another folder."""
    for number in range(40):
        shot = f.photo(f"images/{number:03d}.png", optional=number >= 24)
        if number < 24:
            f.pixels(f"masks/{number:03d}.png", shot.mask)


def two_data_sets(f: Miniature) -> None:
    """Two unrelated data sets in one folder: fruits in class folders, and leaves with masks."""
    for kind in ("apple", "pear"):
        for _ in range(20):
            f.photo(f"fruits/{kind}/{f.rng.bytes(4).hex()}.jpg", kind, optional=True)
    for number in range(24):
        shot = f.photo(f"leaves/images/{number:02d}.png", None, optional=True)
        f.pixels(f"leaves/masks/{number:02d}.png", np.where(shot.mask, 1, 0).astype(np.uint8))


DAMAGED = layouts_of(
    "damaged or unusual",
    {
        empty_folder: Answer(refusal="no files"),
        text_files_only: Answer(refusal="no labelled images|0 images"),
        unlabelled_images: Answer(refusal="no labelled images"),
        one_class_only: Answer(CLASSES, asks=("one class|at least two",), refusal="no labelled images|one class"),
        truncated_files: Answer(CLASSES, ("folders",), asks=("cannot be used|truncated|rejected|incomplete",)),
        readme_and_thumbnails: Answer(CLASSES, ("folders",)),
        zip_below_a_folder: Answer(CLASSES, (), refusal="zip|archive"),
        files_of_a_mac: Answer(CLASSES, ("folders",)),
        copied_class_folder: Answer(CLASSES, ("folders",), asks=("Copy|copies",)),
        mixed_sizes: Answer(CLASSES, ("folders",)),
        mixed_depths: Answer(CLASSES, ("folders",), asks=("16",)),
        same_image_in_two_classes: Answer(CLASSES, ("folders",), asks=("copies|copy|two classes|both",)),
        medical_files_only: Answer(refusal="DICOM"),
        masks_of_some_images: Answer(("segmentation",), ("masks",)),
        two_data_sets: Answer((*CLASSES, "segmentation"), asks=("leaves|fruits",)),
    },
)
