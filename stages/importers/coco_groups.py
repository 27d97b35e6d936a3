"""Keys of the images of a COCO file that identify related images, such as `location` and `seq_id`."""

from typing import Any

from stages.core.plurals import quantity

Json = dict[str, Any]
NAMES = frozenset(
    "location locations site camera station place plot video film movie clip sequence seq scene session patient "
    "subject animal individual donor slide series group document plant tree".split()
)
"""Words in the names of such keys."""
NOT_GROUPS = frozenset("frame num number index count width height x y".split())
"""Words in the names of keys that number the images of a group."""
FEWEST_GROUPS, ENOUGH = 5, 8  # values of a key; those of the coarsest key, if another one has more


def propose_group_key(data: Json, fewest: int = FEWEST_GROUPS) -> tuple[str, str]:
    """Return the coarsest key with enough values that all images have, and the reason; empty if there is none.

    Of locations and sequences, locations are chosen: images of one location in training and validation would overstate
    the score for new locations.

    Args:
        data: content of the file.
        fewest: minimum number of values of a key.
    """
    images = [image for image in data["images"] if isinstance(image, dict)]
    shared = [key for key in images[0] if all(_is_value(image.get(key)) for image in images)] if images else []
    counts = {key: len({str(image[key]) for image in images}) for key in shared if _names_group(key)}
    counts = {key: count for key, count in counts.items() if fewest <= count < len(images)}
    if not counts:
        return "", ""
    chosen = min(counts, key=lambda key: (counts[key] < ENOUGH, counts[key]))
    others = [f"{key} has {count} values" for key, count in counts.items() if key != chosen]
    values = quantity(counts[chosen], "value")
    why = f"{values} of this key in {quantity(len(images), 'image')}; images with the same value share a split"
    return chosen, "; ".join([why, *others])


def _names_group(key: str) -> bool:
    words = set(key.lower().replace("-", "_").split("_"))
    return bool(words & NAMES) and not words & NOT_GROUPS


def _is_value(value: object) -> bool:
    return isinstance(value, str | int) and value != ""
