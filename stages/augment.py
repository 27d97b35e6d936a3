"""The contact sheet of exactly what training will see: `python -m stages.augment PREPARED OUTPUT`."""

from typing import Any

from stages.augmentations import Policy
from stages.frame import In, Out, run
from stages.frame.sections import Augment, Train
from stages.images.sheet import contact_sheet
from stages.images.store import open_split
from stages.learning.batches import Feed
from stages.learning.devices import device_of
from stages.learning.drawing import drawn
from stages.tasks.outline import outline_of

MOST = 64


def main(prepared: In, output: Out, *, augment: Augment, train: Train) -> dict[str, Any]:
    """Write `sheet.png`: the first batch of the first epoch, as the network gets it, labels drawn where they went."""
    store = open_split(prepared, "train")
    outline = outline_of(store.about)
    feed = Feed(store, outline, Policy(**augment.model_dump()), train.batch_size, train.seed)
    batch = next(feed.batches(epoch=1, device=device_of(train.device)))
    images = [drawn(batch, i, outline) for i in range(min(MOST, len(batch.index_B)))]
    captions = [str(store.rows["label"].iloc[index]) for index in batch.index_B[:MOST]]
    contact_sheet(images, captions).save(output / "sheet.png")
    return {"images": len(images)}


if __name__ == "__main__":
    run(main)
