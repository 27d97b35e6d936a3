"""Files beside the proposed params that show groups of similar images: the table, and pictures of some groups."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from stages.configuration.group_similarity import decode_for_signature
from stages.images.contact_sheet import contact_sheet
from stages.images.decode import Unreadable
from stages.images.image_statistics import to_grey, to_uint8
from stages.importers.sample import Sample

GROUPS, OF_GROUP = 12, 8  # groups shown, one per row, and the first images of each


def draw_groups(items: Sequence[Sample], rows: Mapping[str, str], max_megapixels: float) -> Image.Image:
    """Return a contact sheet with one group per row: the largest, the smallest, and evenly spread ones between.

    Args:
        items: images of the source.
        rows: group by path.
        max_megapixels: value of `ingest.max_megapixels`.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    for item in items:
        if item.path in rows:
            groups[rows[item.path]].append(item)
    by_size = sorted(groups.values(), key=len, reverse=True)
    shown = np.unique(np.linspace(0, len(by_size) - 1, GROUPS).astype(int)).tolist()
    blank = np.full((1, 1), 255, np.uint8)
    pictures, captions = [], []
    for group in (by_size[place] for place in shown):
        views = _decode(group[:OF_GROUP], max_megapixels)
        rest = OF_GROUP - len(views)
        pictures += [image for _, image in views] + [blank] * rest
        captions += [path.rpartition("/")[2] for path, _ in views] + [""] * rest
    return contact_sheet(pictures, captions, columns=OF_GROUP)


def _decode(items: Sequence[Sample], max_megapixels: float) -> list[tuple[str, np.ndarray]]:
    """Return the paths and 8-bit pixels of the images that can be read."""
    found = []
    for item in items:
        try:
            image = decode_for_signature(item.read(), max_megapixels).image
        except (Unreadable, OSError):  # reported by `inspect_images` and by ingest
            continue
        found.append((item.path, to_uint8(image) if image.shape[2:] == (3,) else to_grey(image)))
    return found
