"""Registry of augmentations by their names in params.yaml, in order of application."""

from stages.augmentations import (
    affine,
    articulated,
    colour,
    elastic,
    mixing,
    photometric,
    similarity,
    thin_plate,
    trivial,
)
from stages.augmentations.augmentation_interface import Augmentation

AUGMENTATIONS: dict[str, Augmentation] = {
    "crop": affine.CROP,
    "flip_horizontal": similarity.FLIP_HORIZONTAL,
    "flip_vertical": similarity.FLIP_VERTICAL,
    "stretch": affine.STRETCH,
    "shear": affine.SHEAR,
    "scale": similarity.SCALE,
    "rotation": similarity.ROTATION,
    "translation": similarity.TRANSLATION,
    "trivial": trivial.TRIVIAL,
    "articulated": articulated.ARTICULATED,
    "thin_plate": thin_plate.THIN_PLATE,
    "elastic": elastic.ELASTIC,
    "saturation": colour.SATURATION,
    "hue": colour.HUE,
    "tint": colour.TINT,
    "contrast": colour.CONTRAST,
    "brightness": colour.BRIGHTNESS,
    "gamma": photometric.GAMMA,
    "mixup": mixing.MIXUP,
    "cutmix": mixing.CUTMIX,
    "cutout": mixing.CUTOUT,
    "blur": photometric.BLUR,
    "poisson": photometric.POISSON,
    "noise": photometric.NOISE,
    "jpeg": photometric.JPEG,
}
