"""Import images that are sorted into one folder per class."""

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.path_parts import IMAGE_SUFFIXES, name_of, suffix_of
from stages.dataset.annotations import Annotation
from stages.images.archives import DOCUMENT_SUFFIXES, LABEL_SUFFIXES, NOTES, Rejection, SourceFiles
from stages.importers.path_patterns import compile_pattern
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample, fixed_annotation, split_from_path
from stages.importers.sidecar_files import match_files


def import_folders(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import one folder per class; with `has_split`, these folders are inside one folder per split.

    Tables, documents and files outside the folders without the suffix of an image are not used, and not rejected.
    With the patterns `ingest.images` and `ingest.targets`, target files of images, such as masks, are not used; nor are
    files that match `ingest.targets` without {key}. With {label} in `ingest.images` alone, this folder names the class,
    and {group} the group.

    Args:
        files: files of the source by path.
        name: not used; the folders name the classes.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits.

    Raises:
        UserError: several top folders have names of splits, but `has_split` is False and no pattern names the class; or
            the patterns match no files.
    """
    left_out = _files_beside_images(files, ingest)
    samples, rejected = [], [Rejection(path, "matches ingest.targets", is_unused=True) for path in sorted(left_out)]
    files = {path: read for path, read in files.items() if path not in left_out}
    named_by = compile_pattern(ingest.images, "ingest.images") if names_class(ingest) else None
    tops = {path.split("/")[0] for path in files if "/" in path}
    named = sorted(top for top in tops if top.lower() in SPLIT_WORDS)
    if not has_split and len(named) > 1 and named_by is None:
        raise UserError(
            f"the folders {', '.join(named)} are named like splits, not like classes; set split.by: source to use them "
            "as splits, or rename them if they are classes"
        )
    for path, read in files.items():
        *inner, _ = path.split("/")
        suffix = suffix_of(path).lower()
        is_document = suffix in LABEL_SUFFIXES or suffix in DOCUMENT_SUFFIXES or NOTES.match(name_of(path))
        if (is_document and suffix not in IMAGE_SUFFIXES) or (not inner and suffix not in IMAGE_SUFFIXES):
            rejected.append(Rejection(path, "is not an image", is_unused=True))
            continue
        split = SPLIT_WORDS.get(inner.pop(0).lower()) if has_split and inner else None
        if has_split and split is None:
            rejected.append(
                Rejection(
                    path, f"is not in the folder of a split ({', '.join(SPLIT_WORDS)}), which split.by: source requires"
                )
            )
        elif named_by is not None:
            found = named_by.fullmatch(path)
            if found is None:
                rejected.append(Rejection(path, f"does not match ingest.images {ingest.images}"))
                continue
            known = found.groupdict()
            annotate = fixed_annotation(Annotation(labels=(known["label"],)))
            samples.append(Sample(path, annotate, known.get("group"), split or split_from_path(path), read))
        elif not inner:
            rejected.append(Rejection(path, "is not in a class folder"))
        else:
            samples.append(Sample(path, fixed_annotation(Annotation(labels=(inner[0],))), None, split, read))
    return samples, rejected


def _files_beside_images(files: SourceFiles, ingest: Ingest) -> set[str]:
    """Return the files that the patterns leave out: target files of images, or all that match a pattern without {key}.

    Raises:
        UserError: a pattern is invalid or matches no file.
    """
    if ingest.targets and "{key}" not in ingest.targets:
        expression = compile_pattern(ingest.targets, "ingest.targets")
        found = {path for path in files if expression.fullmatch(path)}
        if not found:
            raise UserError(f"ingest.targets: {ingest.targets} matches no file; correct the pattern, or remove it")
        return found
    if not (ingest.images and ingest.targets):
        return set()
    images, targets = match_files(files, ingest)
    return {path for key in images.keys() & targets.keys() for path, _ in targets[key]}


def names_class(ingest: Ingest) -> bool:
    """Return whether `ingest.images` names the folder of the class, in the format folders."""
    return "{label}" in ingest.images and not ingest.targets
