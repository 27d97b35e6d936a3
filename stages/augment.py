"""What training will see: `python -m stages.augment PREPARED OUTPUT`."""

import json
from itertools import islice
from typing import Any

import numpy as np
import torch

from stages.augmentations import Draws, Policy
from stages.dataset.pixel_store import Store, open_split
from stages.frame.sections import Augment, Train
from stages.images.contact_sheet import contact_sheet
from stages.runner.stage import In, Out, run
from stages.tasks.task_spec import TaskSpec, task_spec_of
from stages.training.batch_loader import Batch, Feed, load
from stages.training.batch_preview import drawn, with_bones
from stages.training.devices import device_of
from stages.training.training_plan import policy_of

SHOWN = 32  # images, of as many batches as that takes
OFTEN, TIMES = 4, 7  # images that are shown as they are and changed in so many ways


def main(prepared: In, output: Out, *, augment: Augment, train: Train) -> dict[str, Any]:
    """Write `policy.json`, what is done and why; `sheet.png`, the first images of the first epoch as the network gets
    them; and `variants.png`, some images as they are and in many ways. Labels are drawn where they went.
    """
    store = open_split(prepared, "train")
    spec, device = task_spec_of(store.about), device_of(train.device)
    policy, chosen = policy_of(augment, store)
    batches = Feed(store, spec, policy, train.batch_size, train.seed).batches(epoch=1, device=device)
    first = list(islice(((batch, i) for batch in batches for i in range(len(batch.index_B))), SHOWN))
    images = [drawn(batch, i, spec) for batch, i in first]
    contact_sheet(images, [_caption(batch, i, store, spec) for batch, i in first]).save(output / "sheet.png")
    _variants(store, spec, policy, train.seed, device).save(output / "variants.png")
    done = {one.name: one.amounts.model_dump() for one in chosen if one.amounts is not None}
    why = {one.name: one.why for one in chosen}
    text = json.dumps({"outside": policy.outside, "done": done, "why": why}, indent=1)
    (output / "policy.json").write_text(text + "\n")
    return {"images": len(images), "done": done}


def _caption(batch: Batch, index: int, store: Store, spec: TaskSpec) -> str:
    """The label; where images were mixed, both."""
    if spec.representation == "class" and batch.target.ndim == 2:
        share_K = batch.target[index].cpu()
        parts = [k for k in share_K.argsort(descending=True)[:2].tolist() if share_K[k] > 0]
        return " ".join(f"{spec.labels[k]} {share_K[k]:.0%}" for k in parts)
    return str(store.rows["label"].iloc[batch.index_B[index]])


def _variants(store: Store, spec: TaskSpec, policy: Policy, seed: int, device: torch.device) -> Any:
    """Each row: an image with its parts, and what may become of it."""
    pictures, captions = [], []
    for index in np.linspace(0, len(store) - 1, min(OFTEN, len(store))).astype(int):
        plain = load(store, spec, np.array([index]), device)
        bone_K7 = None if store.bones is None else store.bones.of(plain.index_B)[0]
        pictures.append(with_bones(drawn(plain, 0, spec), bone_K7))
        captions.append("as it is")
        for time in range(TIMES):
            feed = Feed(store, spec, policy, 1, seed)
            pictures.append(drawn(feed.changed(plain.index_B, Draws(seed, time, plain.index_B), device), 0, spec))
            captions.append("changed")
    return contact_sheet(pictures, captions, columns=1 + TIMES)


if __name__ == "__main__":
    run(main)
