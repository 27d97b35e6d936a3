"""The contact sheet of exactly what training will see: `python -m stages.augment PREPARED OUTPUT`."""

from typing import Any

import torch

from stages.augmentations import Policy
from stages.frame import In, Out, run
from stages.frame.sections import Augment, Train
from stages.images.sheet import contact_sheet
from stages.images.store import open_split
from stages.learning.batches import training_batches
from stages.learning.devices import device_of

MOST = 64


def main(prepared: In, output: Out, *, augment: Augment, train: Train) -> dict[str, Any]:
    """Write `sheet.png`: the first batch of the first epoch, as the network gets it."""
    store = open_split(prepared, "train")
    policy = Policy(**augment.model_dump())
    batches = training_batches(store, train.batch_size, policy, train.seed, epoch=1, device=device_of(train.device))
    image_BCHW, label_B = next(batches)
    image_BHWC = (image_BCHW[:MOST].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    contact_sheet(list(image_BHWC), [store.labels[label] for label in label_B[:MOST].tolist()]).save(
        output / "sheet.png"
    )
    return {"images": len(image_BHWC)}


if __name__ == "__main__":
    run(main)
