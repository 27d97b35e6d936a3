"""Decode every image once, to the working size: `python -m stages.prepare INGESTED GATED OUTPUT`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stages.frame import In, Out, UserError, run
from stages.frame.sections import Prepare
from stages.images.manifest import DATASET, labels_of, pictures, read_manifest
from stages.images.reading import to_channels
from stages.images.store import write_split
from stages.networks.preprocessing import resize


def main(ingested: In, gated: In, output: Out, *, prepare: Prepare) -> dict[str, Any]:
    """Write the pixel store of train and val; `gated` is the gate's word that the line may go on."""
    rows = read_manifest(ingested)
    if set(rows["split"]) != {"train", "val"}:
        raise UserError(f"images are only in {sorted(set(rows['split']))}; training needs train and val: see split")
    dataset = json.loads((ingested / DATASET).read_text())
    about = {**dataset, "labels": labels_of(rows), "size": prepare.size, "channels": prepare.channels}
    counts = {}
    for split, part in rows.groupby("split"):
        write_split(output, str(split), _resized(part, ingested, prepare), part, about)
        counts[str(split)] = len(part)
    return {"size": prepare.size, "channels": prepare.channels, **counts}


def _resized(rows: pd.DataFrame, ingested: Path, prepare: Prepare) -> Iterator[np.ndarray]:
    for picture in tqdm(pictures(rows, ingested), total=len(rows), desc="prepare", unit="img", disable=None):
        image = torch.from_numpy(to_channels(picture.image, prepare.channels).copy())
        yield resize(image[None], prepare.size)[0].numpy()


if __name__ == "__main__":
    run(main)
