"""Faults planted in real images, each at any strength; at strength 0 nothing is changed.

A `Change` makes another shot of a shot. Whom it befalls makes it a fault: all images of one class (a confounder), a
copy that stands beside its original, all images of validation (drift), or a single image (an odd one).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, PngImagePlugin

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
EXIF_MAKE, EXIF_CHANGED, EXIF_MORE, EXIF_TAKEN = 0x010F, 0x0132, 0x8769, 0x9003
CAMERAS, DAYS, FIRST_DAY = ("Alpha", "Beta"), 30, datetime(2024, 5, 1, 12)
VALIDATION = 0.2
STAMP = 8  # a stamp has an eighth of the sides


@dataclass(frozen=True)
class Shot:
    """An image and how its file is written."""

    image: Array
    """uint8 [H, W] or [H, W, 3]."""
    label: str
    split: str
    path: str
    quality: int
    """Of a JPEG, 1 to 100; 0: PNG."""
    camera: str
    day: float
    """When it was taken, days after the first."""
    padding: int = 0
    """Bytes of a comment in the file."""
    arrival: int = 1
    origin: str = ""


@dataclass(frozen=True)
class Case:
    """A data set and what was planted in it."""

    shots: list[Shot]
    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Kind of copy: (path of the original, path of the copy)."""
    odd: dict[str, list[str]] = field(default_factory=dict)
    """Kind of oddity: paths."""
    mislabelled: list[str] = field(default_factory=list)
    """Paths of images that got another label."""


Change = Callable[[Shot, float, Rng], Shot]


def written(shot: Shot) -> bytes:
    """The bytes of its file."""
    exif = Image.Exif()
    exif[EXIF_MAKE] = shot.camera
    taken = (FIRST_DAY + timedelta(days=shot.day)).strftime("%Y:%m:%d %H:%M:%S")
    exif[EXIF_CHANGED] = taken
    exif.get_ifd(EXIF_MORE)[EXIF_TAKEN] = taken
    file = io.BytesIO()
    if shot.quality:
        comment = {"comment": b" " * shot.padding} if shot.padding else {}
        Image.fromarray(shot.image).save(file, "JPEG", quality=shot.quality, exif=exif, **comment)
    else:
        text = PngImagePlugin.PngInfo()
        if shot.padding:
            text.add_text("Comment", " " * shot.padding)
        Image.fromarray(shot.image).save(file, "PNG", exif=exif, pnginfo=text)
    return file.getvalue()


def brightness(shot: Shot, levels: float, rng: Rng) -> Shot:
    """So many grey levels brighter."""
    return _recoloured(shot, shot.image + float(levels))


def contrast(shot: Shot, share: float, rng: Rng) -> Shot:
    """Deviations from the middle grey larger by a share."""
    return _recoloured(shot, 127.5 + (shot.image - 127.5) * (1 + share))


def cast(shot: Shot, levels: float, rng: Rng) -> Shot:
    """So many levels more red, as many less blue; nothing to a grey image."""
    return _recoloured(shot, shot.image + levels * np.array([1, 0, -1])) if shot.image.ndim == 3 else shot


def noise(shot: Shot, levels: float, rng: Rng) -> Shot:
    """Gaussian noise of so many levels."""
    return _recoloured(shot, shot.image + rng.normal(0, levels, shot.image.shape)) if levels else shot


def blur(shot: Shot, share: float, rng: Rng) -> Shot:
    """Gaussian blur; its deviation is a share of the shorter side."""
    if not share:
        return shot
    radius = share * min(shot.image.shape[:2])
    return replace(shot, image=np.asarray(Image.fromarray(shot.image).filter(ImageFilter.GaussianBlur(radius))))


def border(shot: Shot, levels: float, rng: Rng) -> Shot:
    """The outermost sixteenth, one pixel at least, so many levels brighter."""
    rim = max(1, round(min(shot.image.shape[:2]) / 16))
    inside = np.zeros(shot.image.shape[:2], bool)
    inside[rim:-rim, rim:-rim] = True
    brighter = _recoloured(shot, shot.image + float(levels)).image
    return replace(shot, image=np.where(inside if shot.image.ndim == 2 else inside[:, :, None], shot.image, brighter))


def stamp(shot: Shot, share: float, rng: Rng) -> Shot:
    """In a share of the images, a white square in the upper right corner."""
    if rng.random() >= share:
        return shot
    image = shot.image.copy()
    height, width = (max(1, side // STAMP) for side in image.shape[:2])
    image[:height, -width:] = 255
    return replace(shot, image=image)


def compression(shot: Shot, lost: float, rng: Rng) -> Shot:
    """JPEG, its quality so much below 95."""
    return replace(shot, quality=95 - round(lost)) if lost else shot


def padding(shot: Shot, count: float, rng: Rng) -> Shot:
    """A comment of so many bytes in the file."""
    return replace(shot, padding=round(count))


def camera(shot: Shot, share: float, rng: Rng) -> Shot:
    """A share of the images by one camera, the rest by either."""
    return replace(shot, camera=CAMERAS[0]) if rng.random() < share else shot


def date(shot: Shot, days: float, rng: Rng) -> Shot:
    """Taken so many days later."""
    return replace(shot, day=shot.day + days)


def reduced(shot: Shot, share: float, rng: Rng) -> Shot:
    """Both sides smaller by a share."""
    return _scaled(shot, 1 - share, 1 - share)


def enlarged(shot: Shot, share: float, rng: Rng) -> Shot:
    """Both sides larger by a share."""
    return _scaled(shot, 1 + share, 1 + share)


def elongated(shot: Shot, share: float, rng: Rng) -> Shot:
    """The longer side larger by a share."""
    height, width = shot.image.shape[:2]
    return _scaled(shot, 1 + share * (height > width), 1 + share * (height <= width))


def cropped(shot: Shot, share: float, rng: Rng) -> Shot:
    """A share of each side cut away, more or less of it on the left and above."""
    height, width = shot.image.shape[:2]
    rows, columns = round(height * share), round(width * share)
    top, left = int(rng.integers(rows + 1)), int(rng.integers(columns + 1))
    return replace(shot, image=shot.image[top : top + height - rows, left : left + width - columns])


def mirrored(shot: Shot, whether: float, rng: Rng) -> Shot:
    """Left to right."""
    return replace(shot, image=shot.image[:, ::-1]) if whether else shot


def dimmed(shot: Shot, share: float, rng: Rng) -> Shot:
    """Darker by a share."""
    return _recoloured(shot, shot.image * (1 - share))


def washed_out(shot: Shot, share: float, rng: Rng) -> Shot:
    """Nearer to white by a share."""
    return _recoloured(shot, 255 - (255.0 - shot.image) * (1 - share))


def blanked(shot: Shot, share: float, rng: Rng) -> Shot:
    """Nearer by a share to one level all over, its own mean."""
    return _recoloured(shot, shot.image.mean() + (shot.image - shot.image.mean()) * (1 - share))


def _recoloured(shot: Shot, levels: Array) -> Shot:
    return replace(shot, image=np.asarray(levels).round().clip(0, 255).astype(np.uint8))


def _scaled(shot: Shot, down: float, across: float) -> Shot:
    height, width = shot.image.shape[:2]
    size = (max(1, round(width * across)), max(1, round(height * down)))
    if size == (width, height):
        return shot
    return replace(shot, image=np.asarray(Image.fromarray(shot.image).resize(size, Image.Resampling.LANCZOS)))


CONFOUNDERS: dict[str, tuple[Change, tuple[float, ...]]] = {
    "brightness, levels": (brightness, (10, 20, 40)),
    "colour cast, levels": (cast, (20, 40)),
    "blur, share of side": (blur, (0.02, 0.04)),
    "border, levels": (border, (40,)),
    "stamp, share of images": (stamp, (0.25, 0.5, 1)),
    "JPEG quality, below 95": (compression, (2, 15)),
    "file size, bytes": (padding, (1000,)),
    "camera, share of images": (camera, (0.5, 1)),
    "date, days": (date, (5, 15)),
}
"""What befalls the images of one class, and how strongly."""
COPIES: dict[str, tuple[Change, float]] = {
    "JPEG quality 90": (compression, 5),
    "JPEG quality 50": (compression, 45),
    "JPEG quality 20": (compression, 75),
    "3/4 of the size": (reduced, 0.25),
    "1/2 of the size": (reduced, 0.5),
    "cropped by 2 %": (cropped, 0.02),
    "cropped by 5 %": (cropped, 0.05),
    "cropped by 10 %": (cropped, 0.1),
    "mirrored": (mirrored, 1),
    "10 levels brighter": (brightness, 10),
    "30 levels brighter": (brightness, 30),
    "half the contrast": (contrast, -0.5),
}
"""How a copy differs from its original."""
DRIFTS: dict[str, tuple[Change, tuple[float, ...]]] = {
    "brightness, levels": (brightness, (10, 20)),
    "contrast, share": (contrast, (-0.2,)),
    "blur, share of side": (blur, (0.01, 0.02)),
    "noise, levels": (noise, (5,)),
}
"""How images of validation, of a later arrival or of another origin differ."""
ODD: dict[str, tuple[Change, float]] = {
    "dark": (dimmed, 0.9),
    "washed out": (washed_out, 0.9),
    "blurred": (blur, 0.1),
    "blank": (blanked, 1),
    "four times as large": (enlarged, 3),
    "five times as long": (elongated, 4),
}
"""What befalls single images."""


def clean(pool: list[tuple[Array, str]], quality: int, rng: Rng, classes: int, each: int, meaning: bool = True) -> Case:
    """Images of some classes at random, a fifth of each class for validation.

    Args:
        pool: images with their classes.
        quality: of the JPEGs; 0: PNG.
        rng: draws.
        classes: how many.
        each: images of each, or as many as there are.
        meaning: false: labels are dealt at random, so that nothing but what is planted can foretell them.
    """
    names = sorted({label for _, label in pool})
    chosen = [str(name) for name in rng.permutation(names)[:classes]]
    drawn = []
    for name in chosen:
        own = [image for image, label in pool if label == name]
        drawn += [(own[i], name) for i in rng.permutation(len(own))[:each]]
    labels = [label for _, label in drawn]
    if not meaning:
        labels = [str(label) for label in rng.permutation(labels)]
    numbers = rng.permutation(len(drawn))
    shots, seen = [], dict.fromkeys(chosen, 0)
    for (image, _), label, number in zip(drawn, labels, numbers, strict=True):
        seen[label] += 1
        split = "val" if seen[label] <= VALIDATION * labels.count(label) else "train"
        made_by, day = str(rng.choice(CAMERAS)), float(rng.uniform(0, DAYS))
        suffix = "jpg" if quality else "png"
        shots.append(Shot(image, label, split, f"{label}/{number:05d}.{suffix}", quality, made_by, day))
    return Case(shots)


def confounded(case: Case, change: Change, strength: float, rng: Rng) -> Case:
    """All images of one class changed."""
    spoiled = case.shots[0].label
    return replace(case, shots=[change(s, strength, rng) if s.label == spoiled else s for s in case.shots])


def copied(case: Case, each: int, rng: Rng) -> Case:
    """So many copies of every kind, each of another original, half of them in the other split."""
    originals = iter(rng.permutation(len(case.shots)))
    added, pairs = [], {}
    for kind, (change, strength) in COPIES.items():
        pairs[kind] = []
        for number in range(each):
            shot = case.shots[next(originals)]
            split = shot.split if number % 2 else {"train": "val", "val": "train"}[shot.split]
            stem, _, suffix = shot.path.rpartition(".")
            path = f"{stem}9.{'jpg' if change is compression else suffix}"
            added.append(change(replace(shot, split=split, path=path), strength, rng))
            pairs[kind].append((shot.path, path))
    return replace(case, shots=case.shots + added, pairs=pairs)


def mislabelled(case: Case, share: float, rng: Rng) -> Case:
    """A share of the images under another label, any with equal chance."""
    names = sorted({shot.label for shot in case.shots})
    wrong = set(rng.permutation(len(case.shots))[: round(share * len(case.shots))].tolist())
    shots = [
        replace(s, label=str(rng.choice([n for n in names if n != s.label]))) if i in wrong else s
        for i, s in enumerate(case.shots)
    ]
    return replace(case, shots=shots, mislabelled=[case.shots[i].path for i in sorted(wrong)])


def drifted(case: Case, whom: str, change: Change, strength: float, rng: Rng) -> Case:
    """All images of validation changed; or a fifth of all, which arrived later or come from elsewhere."""
    shots = []
    for shot in case.shots:
        meant = shot.split == "val" if whom == "validation" else rng.random() < VALIDATION
        if whom == "arrival":
            shot = replace(shot, arrival=1 + meant)
        if whom == "origin":
            shot = replace(shot, origin="there" if meant else "here")
        shots.append(change(shot, strength, rng) if meant else shot)
    return replace(case, shots=shots)


def with_odd(case: Case, each: int, rng: Rng) -> Case:
    """So many images spoiled in each manner."""
    shots, places, odd = list(case.shots), iter(rng.permutation(len(case.shots))), {}
    for kind, (change, strength) in ODD.items():
        chosen = [int(next(places)) for _ in range(each)]
        for i in chosen:
            shots[i] = change(shots[i], strength, rng)
        odd[kind] = [shots[i].path for i in chosen]
    return replace(case, shots=shots, odd=odd)
