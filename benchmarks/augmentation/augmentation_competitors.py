"""Who is compared in `benchmarks.augmentation.compare_augmentation`, and the processes that some of them run in.

From uint8 images as a pixel store has them to float32 in 0..1 on the device. Axes: B (or N) images, S pixels a side.
"""

import itertools
import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask its registry for a newer version on import

import numpy as np
import torch

Tensor = torch.Tensor
Batch = tuple[Tensor, Tensor | None]
"""float32 [B, 3, S, S] and the mask, int64 [B, S, S]."""
Contestant = Callable[[Tensor, Tensor | None], Batch]
"""From uint8 [B, S, S, 3] and perhaps a mask, uint8 [B, S, S]."""

IMAGES, SIZE, CLASSES = 64, 224, 5
ROTATION, SCALE, TRANSLATION = 15.0, 0.1, 0.08
AMPLITUDE, WAVELENGTH = 3.0, 56.0
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.1, 0.1, 0.2, 0.05  # hue: share of a full turn
SIGMA = WAVELENGTH / (2 * math.pi * math.sqrt(2))
"""Of the Gaussian: noise smoothed by it has the mean frequency 1 / (sigma sqrt 2) along an axis."""
ALPHA = AMPLITUDE / math.sqrt(2) * SIGMA * math.sqrt(12 * math.pi)
"""Factor from noise in -1..1, so smoothed, to pixels along an axis."""
ROUGH_GAIN = 0.67  # seen: what brings the amplitude back where the Gaussian is cut short
ROUGH = "albumentations, rough"
SHARED: list[Tensor] = []  # of a worker process: the images and masks given, and those wanted


@dataclass(frozen=True)
class Recipe:
    """Which part of the whole is asked for."""

    elastic: bool = True
    colour: bool = True
    masks: bool = False


RECIPES = {
    "images": Recipe(),
    "images and masks": Recipe(masks=True),
    "moves alone": Recipe(elastic=False, colour=False),
}


def macula(recipe: Recipe, device: torch.device) -> Contestant:
    """One sampling map an image, one matrix of the channels."""
    from stages.augmentations import Draws, Policy, move
    from stages.preprocessing.resize import scale

    amounts: dict[str, Any] = {"flip_horizontal": True, "rotation": ROTATION, "scale": SCALE}
    amounts["translation"] = TRANSLATION
    if recipe.elastic:
        amounts["elastic"] = {"amplitude": AMPLITUDE, "wavelength": WAVELENGTH}
    if recipe.colour:
        amounts |= {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": 360 * HUE}
    policy = Policy(amounts, size=SIZE, channels=3, outside="zeros")
    epochs = itertools.count()

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> Batch:
        draws = Draws(0, next(epochs), np.arange(len(image_NHWC)))
        image_BCHW, warp = policy(scale(image_NHWC.to(device)), draws)
        if mask_NHW is not None:
            mask_NHW = move("labels", mask_NHW.to(device), warp)
        return image_BCHW, mask_NHW

    return batch


def kornia(recipe: Recipe, device: torch.device) -> Contestant:
    """A chain of modules, each of which writes the batch anew."""
    import kornia.augmentation as K
    from kornia.constants import DataKey, Resample

    reach = 2 * math.ceil(3 * SIGMA) + 1
    alpha = ALPHA / (SIZE / 2)  # in its coordinates the image is 2 wide
    steps: list[Any] = [K.RandomHorizontalFlip(p=0.5)]
    steps += [K.RandomAffine(ROTATION, (TRANSLATION, TRANSLATION), (1 - SCALE, 1 + SCALE), p=1.0)]
    if recipe.elastic:
        steps += [K.RandomElasticTransform((reach, reach), (SIGMA, SIGMA), (alpha, alpha), p=1.0)]
    if recipe.colour:
        steps += [K.ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, HUE, p=1.0)]
    nearest = {DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": False}}
    keys = ["input", "mask"] if recipe.masks else ["input"]
    chain = K.AugmentationSequential(*steps, data_keys=keys, extra_args=nearest)

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> Batch:
        image_BCHW = image_NHWC.to(device).permute(0, 3, 1, 2).float().div_(255).contiguous()
        if mask_NHW is None:
            return chain(image_BCHW), None
        image_BCHW, mask_B1HW = chain(image_BCHW, mask_NHW.to(device).float()[:, None])
        return image_BCHW, mask_B1HW[:, 0].long()

    return batch


def torchvision(recipe: Recipe) -> Contestant:
    """Its second version, image by image."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    shift, zoom = (TRANSLATION, TRANSLATION), (1 - SCALE, 1 + SCALE)
    steps: list[Any] = [v2.RandomHorizontalFlip(0.5), v2.RandomAffine(ROTATION, shift, zoom, interpolation=bilinear)]
    if recipe.elastic:
        steps += [
            v2.ElasticTransform(2 * ALPHA, SIGMA)
        ]  # in its coordinates the image is 2 wide, the factor's size is 1
    if recipe.colour:
        steps += [v2.ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, HUE)]
    chain = v2.Compose([*steps, v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)])

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> Batch:
        image_NCHW = image_NHWC.permute(0, 3, 1, 2)
        if mask_NHW is None:
            return torch.stack([chain(tv_tensors.Image(image_CHW)) for image_CHW in image_NCHW]), None
        pairs = zip(image_NCHW, mask_NHW, strict=True)
        made = [chain(tv_tensors.Image(image_CHW), tv_tensors.Mask(mask_HW)) for image_CHW, mask_HW in pairs]
        return torch.stack([image for image, _ in made]), torch.stack([mask for _, mask in made]).long()

    return batch


def albumentations(recipe: Recipe, rough: bool = False) -> Contestant:
    """OpenCV, image by image."""
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)  # a worker is one thread
    shift = (-TRANSLATION, TRANSLATION)
    steps: list[Any] = [A.HorizontalFlip(p=0.5)]
    affine = {"rotate": (-ROTATION, ROTATION), "scale": (1 - SCALE, 1 + SCALE), "keep_ratio": True}
    steps += [A.Affine(**affine, translate_percent={"x": shift, "y": shift}, p=1.0)]
    if recipe.elastic:
        alpha = ALPHA * (ROUGH_GAIN if rough else 1)
        steps += [A.ElasticTransform(alpha, SIGMA, approximate=rough, noise_distribution="uniform", p=1.0)]
    if recipe.colour:
        near = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION}
        ranges = {name: (1 - change, 1 + change) for name, change in near.items()}
        steps += [A.ColorJitter(**ranges, hue=(-HUE, HUE), p=1.0)]
    chain = A.Compose(steps)

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> Batch:
        images, masks = image_NHWC.numpy(), None if mask_NHW is None else mask_NHW.numpy()
        if masks is None:
            return as_float(np.stack([chain(image=image)["image"] for image in images])), None
        made = [chain(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)]
        mask_NHW = torch.from_numpy(np.stack([one["mask"] for one in made])).long()
        return as_float(np.stack([one["image"] for one in made])), mask_NHW

    return batch


def as_float(image_NHWC: np.ndarray[Any, Any]) -> Tensor:
    """Float in 0..1, channels first."""
    return torch.from_numpy(image_NHWC).permute(0, 3, 1, 2).float().div_(255)


ON_THREADS: dict[str, Callable[[Recipe, torch.device], Contestant]] = {"macula": macula, "kornia": kornia}
ON_PROCESSES: dict[str, Callable[[Recipe], Contestant]] = {
    "torchvision": torchvision,
    "albumentations": albumentations,
    ROUGH: partial(albumentations, rough=True),
}


def start(threads: int, kept: bool, shared: list[Tensor]) -> None:
    """Make a process ready."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    SHARED[:] = shared
    if kept:
        from stages.core.memory import keep_freed_memory

        keep_freed_memory()


def processes(count: int, shared: list[Tensor], threads: int = 1, kept: bool = False) -> ProcessPoolExecutor:
    """So many, each with so many threads; `kept`: glibc keeps freed memory."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=start, initargs=(threads, kept, shared))


@cache
def made(name: str, recipe: Recipe, device: str = "cpu") -> Contestant:
    """A contestant in a process, which keeps it."""
    return ON_THREADS[name](recipe, torch.device(device)) if name in ON_THREADS else ON_PROCESSES[name](recipe)


def one_call(name: str, recipe: Recipe, device: str) -> Callable[[], Batch]:
    """What is timed of a contestant with the process to itself."""
    return partial(made(name, recipe, device), SHARED[0], SHARED[1] if recipe.masks else None)


def part(name: str, recipe: Recipe, first: int, last: int) -> None:
    """One process's part of a batch that it shares with others, as the workers of a loader do."""
    image_NHWC, mask_NHW, image_BCHW, mask_BHW = (shared[first:last] for shared in SHARED)
    image, mask = made(name, recipe)(image_NHWC, mask_NHW if recipe.masks else None)
    image_BCHW.copy_(image)
    if mask is not None:
        mask_BHW.copy_(mask)


def shared_call(pool: ProcessPoolExecutor, count: int, shared: list[Tensor], name: str, recipe: Recipe) -> Batch:
    """What is timed of a contestant whose batch is shared among processes."""
    bounds = [IMAGES * at // count for at in range(count + 1)]
    list(pool.map(partial(part, name, recipe), bounds[:-1], bounds[1:]))
    return shared[2], shared[3] if recipe.masks else None
