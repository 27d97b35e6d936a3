"""Leak structures in miniature: folders in which several images show one subject, each with graded strengths.

A structure writes files and returns, for each image, what it shows. Two images that show one subject must not be in
different splits unless a finding says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.leaks.leak_images import (
    COPIES,
    SIZE,
    Array,
    Change,
    Rng,
    as_image,
    clouds,
    draw_object,
    encode,
    photo,
)

CLASSES = ("disc", "cross")
IMAGES, COPIED = 72, 30  # images of a folder, and images of which there are copies
SUBJECTS, VIEWS = 24, 4  # subjects, and images of each subject


@dataclass
class LeakCase:
    """Files of a folder, and what each image shows."""

    files: dict[str, bytes] = field(default_factory=dict)
    shows: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, subject: object, image: Array, **encoding: Any) -> None:
        """Add an image.

        Args:
            path: path in the folder.
            subject: what the image shows.
            image: the image.
            encoding: arguments of `encode`.
        """
        self.files[path], self.shows[path] = encode(image, **encoding), str(subject)


Write = Callable[[float, Rng], LeakCase]


@dataclass(frozen=True)
class LeakStructure:
    """A kind of leak."""

    write: Write
    strengths: tuple[float, ...]
    kinds: tuple[str, ...] = ()
    """Beginnings of the kinds of copies (`stages.near_duplicates.planted_copies`) that this leak consists of."""
    consecutive: bool = False
    """True if images with consecutive numbers are related."""


def word(rng: Rng) -> str:
    """Return a random name without digits."""
    return "".join(rng.choice(list("abcdefghijklmnoprstuvwxyz"), 8))


def _copies(change: Change, relabelled: bool = False, folder: str = "") -> Write:
    def write(strength: float, rng: Rng) -> LeakCase:
        case = LeakCase()
        for number in range(IMAGES):
            image, label = photo(rng, number % 2), CLASSES[number % 2]
            case.add(f"{label}/{word(rng)}.png", number, image)
            if number < COPIED:
                label = CLASSES[(number + relabelled) % 2]
                case.add(f"{label}/{folder}{word(rng)}.png", number, change(image, strength, rng))
        return case

    return write


def _unrelated(strength: float, rng: Rng) -> LeakCase:
    """Write photos of which no two show the same object."""
    case = LeakCase()
    for number in range(IMAGES + COPIED):
        case.add(f"{CLASSES[number % 2]}/{word(rng)}.png", number, photo(rng, number % 2))
    return case


def _unchanged(image: Array, strength: float, rng: Rng) -> Array:
    return image


def _suffixed(strength: float, rng: Rng) -> LeakCase:
    """Write augmented copies with the name of the original and a suffix: mirrored, turned, brighter and cropped."""
    case = LeakCase()
    names = ("mirrored", "brighter, levels", "cropped, share of the side", "rotated, degrees")
    for number in range(SUBJECTS):
        image, name = photo(rng, number % 2), word(rng)
        for copy in range(VIEWS):
            changed = image
            for kind in rng.permutation(names)[: 1 + int(strength)] if copy else ():
                change, amounts = COPIES[str(kind)]
                changed = change(changed, amounts[min(1, len(amounts) - 1)], rng)
            case.add(f"{CLASSES[number % 2]}/{name}_jpg.rf.{rng.bytes(8).hex()}.png", number, changed)
    return case


def _views(vary: Callable[[int, int, float, Rng], Callable[[], Array]], name: Callable[[int, int, Rng], str]) -> Write:
    """Return a structure in which each subject has several views.

    Args:
        vary: function from the subject, its class, the strength and the generator to a function that returns a view.
        name: function from the subject, the number of the view and the generator to the name of the file.
    """

    def write(strength: float, rng: Rng) -> LeakCase:
        case = LeakCase()
        for subject in range(SUBJECTS):
            view = vary(subject, subject % 2, strength, rng)
            for number in range(VIEWS):
                case.add(f"{CLASSES[subject % 2]}/{name(subject, number, rng)}.png", subject, view())
        return case

    return write


def _moved(image: Array, pixels: float, rng: Rng) -> Array:
    """Return the image from a camera that moved by up to some pixels."""
    rows, columns = rng.integers(-round(pixels), round(pixels) + 1, 2)
    return np.roll(image, (rows, columns), axis=(0, 1))


def _exposed(subject: int, kind: int, strength: float, rng: Rng) -> Callable[[], Array]:
    scene, turn = photo(rng, kind), iter(range(VIEWS))
    return lambda: as_image(scene * (1 - strength * next(turn) / VIEWS) + rng.normal(0, 2, scene.shape))


def _in_quick_succession(subject: int, kind: int, strength: float, rng: Rng) -> Callable[[], Array]:
    scene = photo(rng, kind)
    return lambda: as_image(_moved(scene, strength, rng) + rng.normal(0, 3, scene.shape))


def _same_background(subject: int, kind: int, strength: float, rng: Rng) -> Callable[[], Array]:
    """Return photos of one camera trap: the same background in other light, and an animal at another place."""
    background = clouds(rng)
    return lambda: as_image(draw_object(background * rng.uniform(1 - strength, 1), rng, kind))


def _sides(subject: int, kind: int, strength: float, rng: Rng) -> Callable[[], Array]:
    """Return photos of an object from several sides: a surface that turns, on one background."""
    surface, background, step = clouds(rng, SIZE, 4 * SIZE), clouds(rng), iter(range(VIEWS))
    inside = np.hypot(*np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]) < (0.8, 0.7)[kind]

    def view() -> Array:
        start = round(strength * SIZE * next(step))
        return as_image(np.where(inside[:, :, None], surface[:, start : start + SIZE], background))

    return view


def _patient(subject: int, kind: int, strength: float, rng: Rng) -> Callable[[], Array]:
    """Return images of one patient: a common anatomy, and differences between the visits."""
    anatomy = clouds(rng)
    return lambda: as_image(draw_object((1 - strength) * anatomy + strength * clouds(rng), rng, kind))


def _eyes(subject: int, kind: int, strength: float, rng: Rng) -> Callable[[], Array]:
    """Return images of the left and the right eye, which mirror each other, at several visits."""
    eye, turn = photo(rng, kind), iter(range(VIEWS))

    def view() -> Array:
        changed = as_image((1 - strength) * eye + strength * clouds(rng))
        return changed[:, ::-1] if next(turn) % 2 else changed

    return view


def _stereo(strength: float, rng: Rng) -> LeakCase:
    case = LeakCase()
    for pair in range(IMAGES // 2):
        wide = draw_object(clouds(rng, SIZE, SIZE + 20), rng, pair % 2)
        shift, name = round(strength * SIZE), word(rng)
        for side, start in (("left", 0), ("right", shift)):
            case.add(f"{CLASSES[pair % 2]}/{name}_{side}.png", pair, as_image(wide[:, start : start + SIZE]))
    return case


def _video(across: bool) -> Write:
    """Return films of a moving camera; with `across`, each film changes between the classes and counts on."""

    def write(strength: float, rng: Rng) -> LeakCase:
        case, count = LeakCase(), 0
        for film in range(4):
            wide = clouds(rng, SIZE, SIZE + 24 * 6)
            for frame in range(24):
                kind = (frame // 3 if across else film) % 2
                start = round(strength * frame)
                view = draw_object(wide[:, start : start + SIZE], np.random.default_rng(film), kind, (0.5, 0.5))
                name = f"frame_{count:05d}" if across else f"film{film}_{frame:03d}"
                case.add(f"{CLASSES[kind]}/{name}.png", film, as_image(view + rng.normal(0, 2, view.shape)))
                count += 1
        return case

    return write


def _sections(strength: float, rng: Rng) -> LeakCase:
    """Write consecutive sections of four blocks, which change slowly from one to the next."""
    case = LeakCase()
    for block in range(4):
        section = clouds(rng)
        for number in range(20):
            section = (1 - strength) * section + strength * clouds(rng)
            view = draw_object(128 + (section - section.mean()) * 45 / section.std(), rng, block % 2)
            case.add(f"{CLASSES[block % 2]}/block{'abcd'[block]}_z{number:02d}.png", block, as_image(view))
    return case


def _tiles(overlap: bool) -> Write:
    """Return tiles of large images, with the place of the tile in the name."""

    def write(strength: float, rng: Rng) -> LeakCase:
        case, step = LeakCase(), round(SIZE * (1 - strength)) if overlap else SIZE
        for slide in range(8):
            large = clouds(rng, SIZE + 2 * step, SIZE + 3 * step) * rng.uniform(0.5, 1, 3)
            for row in range(3):
                for column in range(4):
                    part = large[row * step :, column * step :][:SIZE, :SIZE]
                    path = f"{CLASSES[slide % 2]}/{word(np.random.default_rng(slide))}_{row * step}_{column * step}.png"
                    case.add(path, slide, as_image(part))
        return case

    return write


def _patches(strength: float, rng: Rng) -> LeakCase:
    """Write random patches of a few scenes, with names that do not state the scene."""
    case = LeakCase()
    for scene in range(12):
        side = round(SIZE * strength)
        large = clouds(rng, side, side) * rng.uniform(0.5, 1, 3)
        for _ in range(8):
            top, left = rng.integers(0, side - SIZE + 1, 2)
            path = f"{CLASSES[scene % 2]}/{word(rng)}.png"
            case.add(path, scene, as_image(large[top : top + SIZE, left : left + SIZE]))
    return case


def _patients(where: str) -> Write:
    """Return images of patients whose number is in the name, folder, table, or only in the time of the photo."""

    def write(strength: float, rng: Rng) -> LeakCase:
        case, table = LeakCase(), ["path,label,patient"]
        for subject in range(SUBJECTS):
            view, label = _patient(subject, subject % 2, strength, rng), CLASSES[subject % 2]
            for number in range(VIEWS):
                name = word(rng)
                path = {
                    "name": f"{label}/P{subject:03d}_{name}.png",
                    "folder": f"{label}/patient{subject:03d}/{name}.png",
                    "column": f"images/{name}.png",
                    "time": f"{label}/{name}.jpg",
                }[where]
                taken = f"2020:01:{1 + subject:02d} 12:{number:02d}:00" if where == "time" else ""
                case.add(path, subject, view(), kind="JPEG" if taken else "PNG", taken=taken)
                table.append(f"{path},{label},{subject:03d}")
        if where == "column":
            case.files["labels.csv"] = "\n".join(table).encode()
        return case

    return write


def _random_name(subject: int, number: int, rng: Rng) -> str:
    return word(rng)


KINDS_OF_COPY = {
    "re-encoded, JPEG quality": ("re-encoded",),
    "resized, factor": ("reduced",),
    "mirrored": ("mirrored",),
    "cropped, share of the side": ("cropped",),
    "brighter, levels": ("darkened",),
    "gamma": ("darkened",),
    "thumbnails": ("reduced",),
}
CONTROL = "no related images"
"""Structure without a leak: what is found in it is a false alarm."""
STRUCTURES: dict[str, LeakStructure] = {
    CONTROL: LeakStructure(_unrelated, (0,)),
    "exact copies": LeakStructure(_copies(_unchanged), (1,)),
    "exact copies in two classes": LeakStructure(_copies(_unchanged, relabelled=True), (1,)),
    **{
        f"copies: {name}": LeakStructure(_copies(change), strengths, KINDS_OF_COPY.get(name, ()))
        for name, (change, strengths) in COPIES.items()
    },
    "re-encoded copies in two classes, quality": LeakStructure(
        _copies(COPIES["re-encoded, JPEG quality"][0], relabelled=True), (50, 20), ("re-encoded",)
    ),
    "thumbnails in a folder, factor": LeakStructure(
        _copies(COPIES["resized, factor"][0], folder="thumbs/"), (0.5, 0.25), ("reduced",)
    ),
    "augmented copies with suffixes, changes at once": LeakStructure(_suffixed, (1, 2)),
    "exposure brackets, loss of light": LeakStructure(_views(_exposed, _random_name), (0.5, 0.9), ("darkened",)),
    "exposure brackets of named objects, loss of light": LeakStructure(
        _views(_exposed, lambda subject, number, rng: f"e{number}_obj{subject:03d}"), (0.5, 0.9), ("darkened",)
    ),
    "quick succession, pixels of movement": LeakStructure(
        _views(_in_quick_succession, _random_name), (0, 1, 3), ("photographed",)
    ),
    "one background, loss of light": LeakStructure(
        _views(_same_background, _random_name), (0.1, 0.5), ("photographed",)
    ),
    "object from several sides, turn": LeakStructure(
        _views(_sides, _random_name), (0.05, 0.15, 0.5), ("photographed",)
    ),
    "left and right eye, difference": LeakStructure(
        _views(_eyes, lambda subject, number, rng: f"{subject:04d}_{'LR'[number % 2]}_visit{number // 2}"), (0.1, 0.3)
    ),
    "stereo pairs, disparity": LeakStructure(_stereo, (0.02, 0.05, 0.1)),
    "films, pixels per frame": LeakStructure(_video(across=False), (1, 4), consecutive=True),
    "films across class folders, pixels per frame": LeakStructure(_video(across=True), (1, 4), consecutive=True),
    "sections, change per section": LeakStructure(_sections, (0.1, 0.3), consecutive=True),
    "overlapping tiles, overlap": LeakStructure(_tiles(overlap=True), (0.25, 0.5)),
    "adjacent tiles": LeakStructure(_tiles(overlap=False), (0,)),
    "patches of scenes, side of the scene": LeakStructure(_patches, (1.1, 1.3)),
    "patient in the name, difference": LeakStructure(_patients("name"), (0.2, 0.5)),
    "patient in the folder, difference": LeakStructure(_patients("folder"), (0.2, 0.5)),
    "patient in a column, difference": LeakStructure(_patients("column"), (0.2, 0.5)),
    "patient in the time of the photo, difference": LeakStructure(_patients("time"), (0.2, 0.5)),
}
"""Leak structures by name; the unit of the strength follows the comma."""
