"""The contact sheet of exactly what training will see: `python -m stages.augment PREPARED OUTPUT`."""

from itertools import islice
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

SHOWN = 32  # images, of as many batches as that takes


def main(prepared: In, output: Out, *, augment: Augment, train: Train) -> dict[str, Any]:
    """Write `sheet.png`: the first images of the first epoch as the network gets them, labels drawn where they went."""
    store = open_split(prepared, "train")
    outline = outline_of(store.about)
    feed = Feed(store, outline, Policy(**augment.model_dump()), train.batch_size, train.seed)
    batches = feed.batches(epoch=1, device=device_of(train.device))
    first = list(islice(((batch, i) for batch in batches for i in range(len(batch.index_B))), SHOWN))
    images = [drawn(batch, i, outline) for batch, i in first]
    captions = [str(store.rows["label"].iloc[batch.index_B[i]]) for batch, i in first]
    contact_sheet(images, captions).save(output / "sheet.png")
    return {"images": len(images)}


if __name__ == "__main__":
    run(main)
