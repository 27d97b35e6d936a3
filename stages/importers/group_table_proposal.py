"""Propose groups from a table beside the images, such as the patients in `metadata.csv`, for `configure`."""

from dataclasses import replace

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.images.decode import Unreadable
from stages.importers.format_candidate import FormatCandidate
from stages.importers.group_table import with_groups_of_table
from stages.importers.indexed_files import IndexedFiles
from stages.importers.sample import read_label_file
from stages.importers.table import read_table
from stages.importers.table_columns import NO_COLUMNS, find_path_column, infer_columns

OWN_TABLE = ("table", "deeplabcut", "arrays")  # formats whose groups are in the label file, or in none


def propose_group_table(files: IndexedFiles, candidate: FormatCandidate, ingest: Ingest) -> FormatCandidate:
    """Return the candidate with the groups of a table beside the images, if one names a group of every image.

    Args:
        files: files of the source by path.
        candidate: candidate of any format.
        ingest: current params.
    """
    if candidate.format in OWN_TABLE or any(sample.group is not None for sample in candidate.samples):
        return candidate
    for name in files.tables:
        try:
            rows, decimal = read_table(read_label_file(files, name), name)
            named = find_path_column(rows, [sample.path for sample in candidate.samples])
            if named is None:
                continue
            roles, reasons = infer_columns(rows.drop(columns=named[0]), decimal)
            if roles["group"] is None:
                continue
            columns = NO_COLUMNS | {"path": named[0], "group": roles["group"]}
            tried = Ingest.model_validate(ingest.model_dump() | {"group_table": name, "columns": columns})
            samples = with_groups_of_table(files, candidate.samples, tried)
        except (Unreadable, UserError, ValueError):  # the search for tables of labels reports why
            continue
        return replace(
            candidate,
            samples=tuple(samples),
            changes=candidate.changes | {"group_table": name, "columns": columns},
            reasons=candidate.reasons
            | {"group_table": f"{roles['group']} groups all images", "columns.group": reasons["columns.group"]},
        )
    return candidate
