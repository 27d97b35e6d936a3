"""Import several tables as one: each refers to the images of its own folder, which is the group of these images."""

from collections.abc import Callable
from dataclasses import replace

from stages.images.archives import Rejection, SourceFiles
from stages.importers.sample import ImportResult, Sample


def import_tables(
    files: SourceFiles, tables: list[str], import_one: Callable[[SourceFiles, str], ImportResult]
) -> ImportResult:
    """Import tables of a source by an importer of one table, whose files are those of the folder of the table.

    If the tables are in several folders, images without a group have the folder of their table as the group.

    Args:
        files: files of the source by path.
        tables: paths of the tables.
        import_one: (files, path of the table) -> samples and rejected files.

    Raises:
        Unreadable: a table cannot be read.
        UserError: a table is refused by the importer.
    """
    samples: dict[str, Sample] = {}
    rejected: list[Rejection] = []
    folders = {table: table.rpartition("/")[0] for table in tables}
    has_groups = len({*folders.values()}) > 1
    for table, folder in folders.items():
        start = f"{folder}/".removeprefix("/")
        part = {path.removeprefix(start): read for path, read in files.items() if path.startswith(start)}
        found, refused = import_one(part, table.removeprefix(start))
        rejected += [replace(one, path=start + one.path) for one in refused]
        for one in found:
            path = start + one.path
            if path in samples:
                rejected.append(Rejection(path, f"{table} lists the image too, which another table lists"))
            else:
                group = folder if one.group is None and has_groups else one.group
                samples[path] = replace(one, path=path, group=group)
    unused = dict.fromkeys(one for one in rejected if one.is_unused and one.path not in {*samples, *tables})
    return list(samples.values()), [*unused, *(one for one in rejected if not one.is_unused)]
