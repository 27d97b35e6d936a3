"""A folder per class."""

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.archives import Rejection, SourceFiles
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample, fixed_annotation


def import_folders(files: SourceFiles, name: str, ingest: Ingest, own_split: bool) -> ImportResult:
    """A folder per class; with `own_split` a folder per split around them."""
    items, refused = [], []
    tops = {path.split("/")[0] for path in files if "/" in path}
    named = sorted(top for top in tops if top.lower() in SPLIT_WORDS)
    if not own_split and len(named) > 1:
        raise UserError(f"the folders {named} name splits, not classes; set split.by: source to keep that split")
    for path, read in files.items():
        *inner, _ = path.split("/")
        split = SPLIT_WORDS.get(inner.pop(0).lower()) if own_split and inner else None
        if own_split and split is None:
            refused.append(
                Rejection(path, f"not in a folder named {', '.join(SPLIT_WORDS)}, as split.by: source wants")
            )
        elif not inner:
            refused.append(Rejection(path, "not in a class folder"))
        else:
            items.append(Sample(path, fixed_annotation(Annotation(labels=(inner[0],))), None, split, read))
    return items, refused
