"""Groups of images from a table beside them, such as the patients in `metadata.csv` beside images and masks."""

from collections.abc import Sequence
from dataclasses import replace

from stages.config.schema_data import Ingest
from stages.core.errors import UserError, did_you_mean
from stages.core.plurals import list_names, quantity
from stages.images.archives import SourceFiles
from stages.importers.image_paths import ImageFinder
from stages.importers.sample import Sample, read_label_file
from stages.importers.table import read_table

MAX_LISTED = 3


def with_groups_of_table(files: SourceFiles, samples: Sequence[Sample], ingest: Ingest) -> list[Sample]:
    """Return the samples with the groups of `ingest.group_table`; unchanged if it is empty.

    Args:
        files: files of the source by path.
        samples: images, whose paths are relative to `ingest.inside`.
        ingest: params of the source.

    Raises:
        Unreadable: the table cannot be read.
        UserError: the table or a column of it is missing, or an image has no group.
    """
    name, columns = ingest.group_table, ingest.columns
    if not name:
        return list(samples)
    if name not in files:
        raise UserError(f"ingest.group_table: {name} is not in the source; {did_you_mean(name, sorted(files))}")
    rows = read_table(read_label_file(files, name), name).rows
    for key, column in (("path", columns.path), ("group", columns.group)):
        if column not in rows.columns:
            hint = did_you_mean(str(column), list(rows.columns))
            raise UserError(f"{name} has no column {column!r} (ingest.columns.{key}); {hint}")
    found, _ = ImageFinder(sample.path for sample in samples).find_all(rows[columns.path])
    groups = zip(rows[columns.path], rows[columns.group].str.strip(), strict=True)
    group_of = {found[path]: group for path, group in groups if path in found and group}
    if missing := [sample.path for sample in samples if sample.path not in group_of]:
        images = quantity(len(missing), "image has", "images have")
        raise UserError(
            f"ingest.group_table: {images} no group in {name} ({list_names(missing, MAX_LISTED)}); add a row for each, "
            "with its group, or leave the images out by ingest.files"
        )
    return [replace(sample, group=group_of[sample.path]) for sample in samples]
