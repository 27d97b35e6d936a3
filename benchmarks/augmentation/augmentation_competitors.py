"""Implementations that `compare_augmentation` compares, and the worker processes in which they run.

All start from uint8 images as in a pixel store and return float32 in 0..1 on the device. Axes: B (or N) images, S
pixels per side.
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

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise its import looks for a newer version

import numpy as np
import torch

Tensor = torch.Tensor
AugmentedBatch = tuple[Tensor, Tensor | None]
"""Images, float32 [B, 3, S, S], and masks, int64 [B, S, S], or None without masks."""
Augmenter = Callable[[Tensor, Tensor | None], AugmentedBatch]
"""Function from images, uint8 [B, S, S, 3], and optional masks, uint8 [B, S, S], to the augmented batch."""

CLASSES = 5
ROTATION, SCALE, TRANSLATION = 15.0, 0.1, 0.08
AMPLITUDE, WAVELENGTH = 3.0, 56.0
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.1, 0.1, 0.2, 0.05  # hue: share of a full turn
SIGMA = WAVELENGTH / (2 * math.pi * math.sqrt(2))
"""Standard deviation of the Gaussian: noise smoothed by it has the mean frequency 1 / (sigma sqrt 2) along an axis."""
ALPHA = AMPLITUDE / math.sqrt(2) * SIGMA * math.sqrt(12 * math.pi)
"""Factor from smoothed noise in -1..1 to pixels along an axis."""
ROUGH_GAIN = 0.67  # measured: restores the amplitude if the Gaussian is truncated
ROUGH = "albumentations, rough"
SHARED: list[Tensor] = []  # in a worker process: input images and masks, output images and masks


@dataclass(frozen=True)
class AugmentationRecipe:
    """Parts of the augmentation that are applied, and the size of the batch."""

    elastic: bool = True
    colour: bool = True
    masks: bool = False
    images: int = 64
    size: int = 224
    """Pixels per side."""


RECIPES = {
    "images": AugmentationRecipe(),
    "images and masks": AugmentationRecipe(masks=True),
    "geometry only": AugmentationRecipe(elastic=False, colour=False),
}


def macula(recipe: AugmentationRecipe, device: torch.device) -> Augmenter:
    """Return Macula's policy: one sampling map per image and one matrix for the channels."""
    from stages.augmentations import BatchRandom, Policy, transform_targets
    from stages.preprocessing.resize import scale

    amounts: dict[str, Any] = {"flip_horizontal": True, "rotation": ROTATION, "scale": SCALE}
    amounts["translation"] = TRANSLATION
    if recipe.elastic:
        amounts["elastic"] = {"amplitude": AMPLITUDE, "wavelength": WAVELENGTH}
    if recipe.colour:
        amounts |= {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": 360 * HUE}
    policy = Policy(amounts, size=recipe.size, channels=3, outside="zeros")
    epochs = itertools.count()

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> AugmentedBatch:
        draws = BatchRandom(0, next(epochs), np.arange(len(image_NHWC)))
        image_BCHW, warp = policy(scale(image_NHWC.to(device), 255), draws)
        if mask_NHW is not None:
            assert warp is not None
            mask_NHW = transform_targets("labels", mask_NHW.to(device), warp)
        return image_BCHW, mask_NHW

    return batch


def kornia(recipe: AugmentationRecipe, device: torch.device) -> Augmenter:
    """Return a chain of Kornia's modules, each of which writes the whole batch."""
    import kornia.augmentation as K
    from kornia.constants import DataKey, Resample

    kernel = 2 * math.ceil(3 * SIGMA) + 1
    alpha = ALPHA / (recipe.size / 2)  # in Kornia's coordinates the image is 2 wide
    steps: list[Any] = [K.RandomHorizontalFlip(p=0.5)]
    steps += [K.RandomAffine(ROTATION, (TRANSLATION, TRANSLATION), (1 - SCALE, 1 + SCALE), p=1.0)]
    if recipe.elastic:
        steps += [K.RandomElasticTransform((kernel, kernel), (SIGMA, SIGMA), (alpha, alpha), p=1.0)]
    if recipe.colour:
        steps += [K.ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, HUE, p=1.0)]
    nearest = {DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": False}}
    keys = ["input", "mask"] if recipe.masks else ["input"]
    chain = K.AugmentationSequential(*steps, data_keys=keys, extra_args=nearest)

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> AugmentedBatch:
        image_BCHW = image_NHWC.to(device).permute(0, 3, 1, 2).float().div_(255).contiguous()
        if mask_NHW is None:
            return chain(image_BCHW), None
        image_BCHW, mask_B1HW = chain(image_BCHW, mask_NHW.to(device).float()[:, None])
        return image_BCHW, mask_B1HW[:, 0].long()

    return batch


def torchvision(recipe: AugmentationRecipe) -> Augmenter:
    """Return torchvision's transforms v2, applied image by image."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    shift, zoom = (TRANSLATION, TRANSLATION), (1 - SCALE, 1 + SCALE)
    steps: list[Any] = [v2.RandomHorizontalFlip(0.5), v2.RandomAffine(ROTATION, shift, zoom, interpolation=bilinear)]
    if recipe.elastic:
        # In torchvision's coordinates the image is 2 wide; the factor is relative to a size of 1.
        steps += [v2.ElasticTransform(2 * ALPHA, SIGMA)]
    if recipe.colour:
        steps += [v2.ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, HUE)]
    chain = v2.Compose([*steps, v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)])

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> AugmentedBatch:
        image_NCHW = image_NHWC.permute(0, 3, 1, 2)
        if mask_NHW is None:
            return torch.stack([chain(tv_tensors.Image(image_CHW)) for image_CHW in image_NCHW]), None
        pairs = zip(image_NCHW, mask_NHW, strict=True)
        made = [chain(tv_tensors.Image(image_CHW), tv_tensors.Mask(mask_HW)) for image_CHW, mask_HW in pairs]
        return torch.stack([image for image, _ in made]), torch.stack([mask for _, mask in made]).long()

    return batch


def albumentations(recipe: AugmentationRecipe, rough: bool = False) -> Augmenter:
    """Return Albumentations' transforms (OpenCV), applied image by image; `rough` truncates the Gaussian."""
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)  # one thread per worker
    shift = (-TRANSLATION, TRANSLATION)
    steps: list[Any] = [A.HorizontalFlip(p=0.5)]
    affine = {"rotate": (-ROTATION, ROTATION), "scale": (1 - SCALE, 1 + SCALE), "keep_ratio": True}
    steps += [A.Affine(**affine, translate_percent={"x": shift, "y": shift}, p=1.0)]
    if recipe.elastic:
        alpha = ALPHA * (ROUGH_GAIN if rough else 1)
        steps += [A.ElasticTransform(alpha, SIGMA, approximate=rough, noise_distribution="uniform", p=1.0)]
    if recipe.colour:
        amounts = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION}
        ranges = {name: (1 - change, 1 + change) for name, change in amounts.items()}
        steps += [A.ColorJitter(**ranges, hue=(-HUE, HUE), p=1.0)]
    chain = A.Compose(steps)

    def batch(image_NHWC: Tensor, mask_NHW: Tensor | None) -> AugmentedBatch:
        images, masks = image_NHWC.numpy(), None if mask_NHW is None else mask_NHW.numpy()
        if masks is None:
            return to_float(np.stack([chain(image=image)["image"] for image in images])), None
        made = [chain(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)]
        mask_NHW = torch.from_numpy(np.stack([one["mask"] for one in made])).long()
        return to_float(np.stack([one["image"] for one in made])), mask_NHW

    return batch


def to_float(image_NHWC: np.ndarray[Any, Any]) -> Tensor:
    """Convert images from uint8 [N, H, W, C] to float32 [N, C, H, W] in 0..1."""
    return torch.from_numpy(image_NHWC).permute(0, 3, 1, 2).float().div_(255)


ON_THREADS: dict[str, Callable[[AugmentationRecipe, torch.device], Augmenter]] = {"macula": macula, "kornia": kornia}
"""Implementations that augment whole batches on torch's threads."""
ON_PROCESSES: dict[str, Callable[[AugmentationRecipe], Augmenter]] = {
    "torchvision": torchvision,
    "albumentations": albumentations,
    ROUGH: partial(albumentations, rough=True),
}
"""Implementations that augment image by image in worker processes."""


def initialize(threads: int, keep_memory: bool, shared: list[Tensor]) -> None:
    """Initialize a worker process.

    Args:
        threads: number of torch's threads.
        keep_memory: let glibc keep freed memory, as Macula's training does.
        shared: input images and masks, output images and masks.
    """
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    SHARED[:] = shared
    if keep_memory:
        from stages.core.memory import keep_freed_memory

        keep_freed_memory()


def start_processes(
    count: int, shared: list[Tensor], threads: int = 1, keep_memory: bool = False
) -> ProcessPoolExecutor:
    """Start worker processes.

    Args:
        count: number of processes.
        shared: input images and masks, output images and masks.
        threads: threads of each process.
        keep_memory: let glibc keep freed memory, as Macula's training does.
    """
    context = multiprocessing.get_context("spawn")
    arguments = (threads, keep_memory, shared)
    return ProcessPoolExecutor(count, mp_context=context, initializer=initialize, initargs=arguments)


@cache
def augmenter(name: str, recipe: AugmentationRecipe, device: str = "cpu") -> Augmenter:
    """Return an implementation by name; each process builds it once.

    Args:
        name: a key of `ON_THREADS` or `ON_PROCESSES`.
        recipe: the augmentations and the size of the batch.
        device: device of the whole-batch implementations.
    """
    return ON_THREADS[name](recipe, torch.device(device)) if name in ON_THREADS else ON_PROCESSES[name](recipe)


def call_alone(name: str, recipe: AugmentationRecipe, device: str) -> Callable[[], AugmentedBatch]:
    """Return the call that is timed for an implementation that runs alone in its process.

    Args:
        name: a key of `ON_THREADS` or `ON_PROCESSES`.
        recipe: the augmentations and the size of the batch.
        device: `cpu` or `cuda`.
    """
    return partial(augmenter(name, recipe, device), SHARED[0], SHARED[1] if recipe.masks else None)


def augment_part(name: str, recipe: AugmentationRecipe, first: int, last: int) -> None:
    """Augment a worker's part of a batch and write it into the shared output.

    Args:
        name: a key of `ON_PROCESSES`.
        recipe: the augmentations and the size of the batch.
        first: index of the first image.
        last: index after the last image.
    """
    image_NHWC, mask_NHW, image_BCHW, mask_BHW = (shared[first:last] for shared in SHARED)
    image, mask = augmenter(name, recipe)(image_NHWC, mask_NHW if recipe.masks else None)
    image_BCHW.copy_(image)
    if mask is not None:
        mask_BHW.copy_(mask)


def call_shared(
    pool: ProcessPoolExecutor, count: int, shared: list[Tensor], name: str, recipe: AugmentationRecipe
) -> AugmentedBatch:
    """Augment one batch in several processes, each of which augments a part, like the workers of a data loader.

    Args:
        pool: the processes.
        count: number of processes.
        shared: input images and masks, output images and masks.
        name: a key of `ON_PROCESSES`.
        recipe: the augmentations and the size of the batch.
    """
    bounds = [recipe.images * at // count for at in range(count + 1)]
    list(pool.map(partial(augment_part, name, recipe), bounds[:-1], bounds[1:]))
    return shared[2], shared[3] if recipe.masks else None
