"""Show the augmented training images: `python -m stages.augment PREPARED OUTPUT`."""

import json
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from stages.augmentations import BatchRandom
from stages.config.schema_training import Augment, Train
from stages.dataset.pixel_store import PixelStore, open_split
from stages.images.contact_sheet import contact_sheet
from stages.runner.stage import In, Out, run
from stages.tasks.task_spec import TaskSpec, task_spec_of
from stages.training.batch_loader import Batch, BatchLoader, load_batch
from stages.training.batch_preview import DrawnLevels, draw_bones, draw_example, drawn_levels
from stages.training.devices import torch_device
from stages.training.training_plan import build_policy, sampling_probabilities

SHEET_IMAGES = 32
VARIANT_IMAGES, VARIANTS = 4, 7  # number of images in `variants.png`, and of augmented versions of each


def main(prepared: In, output: Out, *, augment: Augment, train: Train) -> dict[str, Any]:
    """Write the augmentation policy with reasons (`policy.json`) and two contact sheets with targets drawn on them.

    `sheet.png` shows the first images of an epoch as the network receives them. `variants.png` shows some images
    without augmentation and with several augmentations.

    Raises:
        UserError: `train.device` is not available, an augmentation is unknown or cannot be applied to these images, or
            `train.foreground_share` cannot be applied to these labels.
    """
    store = open_split(prepared, "train")
    spec, device = task_spec_of(store.about), torch_device(train.device)
    policy, chosen = build_policy(augment, store)
    loader = BatchLoader(store, spec, policy, train.batch_size, train.seed, sampling_probabilities(store, train))
    batches = loader.batches(epoch=1, device=device)
    first = list(islice(((batch, i) for batch in batches for i in range(len(batch.index_B))), SHEET_IMAGES))
    levels = drawn_levels(store, spec)
    images = [draw_example(batch, i, spec, levels) for batch, i in first]
    contact_sheet(images, [_caption(batch, i, store, spec) for batch, i in first]).save(output / "sheet.png")
    _variants(loader, device, levels).save(output / "variants.png")
    done = {one.name: one.amounts.model_dump() for one in chosen if one.amounts is not None}
    why = {one.name: one.why for one in chosen}
    text = json.dumps({"outside": policy.outside, "done": done, "why": why}, indent=1)
    (output / "policy.json").write_text(text + "\n")
    return {"images": len(images), "done": done}


def _caption(batch: Batch, index: int, store: PixelStore, spec: TaskSpec) -> str:
    """Return the label of an image; if the policy mixes images, its classes (at most two) with their proportions."""
    if spec.representation == "class" and batch.target.ndim == 2:
        share_K = batch.target[index].cpu()
        largest = [k for k in share_K.argsort(descending=True)[:2].tolist() if share_K[k] > 0]
        return " ".join(f"{spec.labels[k]} {share_K[k]:.0%}" for k in largest)
    return str(store.rows["label"].iloc[batch.index_B[index]])


def _variants(loader: BatchLoader, device: torch.device, levels: DrawnLevels) -> Image.Image:
    """Draw one row per image: the original with its articulated parts, then augmented versions."""
    store, spec = loader.store, loader.spec
    pictures, captions = [], []
    for index in np.linspace(0, len(store) - 1, min(VARIANT_IMAGES, len(store))).astype(int):
        original = load_batch(store, spec, np.array([index]), device)
        bone_K7 = None if store.bones is None else store.bones.padded(original.index_B)[0]
        pictures.append(draw_bones(draw_example(original, 0, spec, levels), bone_K7))
        captions.append("original")
        for number in range(VARIANTS):
            augmented = loader.augmented(original.index_B, BatchRandom(loader.seed, number, original.index_B), device)
            pictures.append(draw_example(augmented, 0, spec, levels))
            captions.append("augmented")
    return contact_sheet(pictures, captions, columns=1 + VARIANTS)


if __name__ == "__main__":
    run(main)
