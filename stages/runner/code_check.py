"""Check that the code on disk is the code whose digests DVC has recorded for a stage.

The stage `fingerprint` writes `data/code/NAME.txt` for each stage, on which that stage depends in `dvc.yaml`. Code may
be edited between that and the end of a stage, which can be hours later. Outputs of such a run would be stored as
results of the recorded code, so the runner compares before it calls `main` and again before it renames the outputs.
"""

import os
import sys
import time
from functools import cache
from pathlib import Path

import stages
from stages.core.errors import UserError
from stages.core.import_closure import CodeTree
from stages.core.source_digest import SourceCache

RECORDS = Path("data/code")
"""Output of `fingerprint`: NAME.txt has a line for each file of the code of `stages/NAME.py`, digest and path."""
CACHE = Path("work/code.json")
PACKAGE = Path(stages.__file__).parent
PAUSES = (0.0, 0.3, 1.0)
"""Seconds before each comparison: an editor may be writing a file at that moment."""
SHOWN = 5


@cache
def source_cache() -> SourceCache:
    """Return the cache of parsed files that stages in this folder share."""
    return SourceCache(CACHE)


def code_digest(stage: str) -> str:
    """Return the record of a stage's code on disk: the digest and path of each file, one per line.

    If it differs from the record that `fingerprint` has written, DVC would run the stage again.

    Args:
        stage: name of the module below `stages`, such as `train`.

    Raises:
        ModuleNotFoundError: there is no such module.
        FileNotFoundError: a file was deleted meanwhile.
    """
    return CodeTree(PACKAGE, source_cache()).record(f"stages.{stage}")


class CodeCheck:
    """Comparison of a stage's code on disk with its record, before and after the stage has run."""

    def __init__(self, stage: str) -> None:
        """Read the record of `stage`, the name of a module below `stages`.

        Raises:
            UserError: there is no record.
        """
        self._stage, self._file = stage, RECORDS / f"{stage}.txt"
        if not self._file.exists():
            raise UserError(f"{self._file} does not exist; add it to the deps of this stage, and `dvc repro` writes it")
        self._recorded = self._file.read_text()

    def compare(self) -> None:
        """Compare the code on disk with the record.

        Raises:
            UserError: the code has changed; the message names the files.
        """
        for pause in PAUSES:
            time.sleep(pause)
            try:
                found = code_digest(self._stage)
            except FileNotFoundError as error:
                changed = f"{error.filename} does not exist"
                continue
            if found == self._recorded:
                source_cache().save()
                return
            changed = self._changed(found)
        raise UserError(
            f"the code of `{self._stage}` has changed since {self._file} was written: {changed}. "
            "Outputs of this run are discarded; run `dvc repro` again"
        )

    def check_imports(self) -> None:
        """Check that all modules of the project in this process are in the record.

        Raises:
            UserError: a module is missing from the record, because its name is composed when the code runs.
        """
        tree = CodeTree(PACKAGE, source_cache())
        recorded = set(_files(self._recorded))
        loaded = {name: tree.file_of(name) for name in sys.modules if name.split(".")[0] == "stages"}
        missing = sorted(name for name, file in loaded.items() if file is not None and file not in recorded)
        if missing:
            more = f" and {len(missing) - SHOWN} more modules" if len(missing) > SHOWN else ""
            raise UserError(
                f"`{self._stage}` has imported {', '.join(missing[:SHOWN])}{more}, which {self._file} does not list: "
                "DVC would not notice an edit there. Write an import statement, or the full name of the module as a "
                "string"
            )

    def _changed(self, found: str) -> str:
        before, now = _files(self._recorded), _files(found)
        changed = sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        return ", ".join(changed[:SHOWN]) + more


def _files(record: str) -> dict[str, str]:
    return {file: digest for digest, file in (line.split("  ", 1) for line in record.splitlines())}


def code_check_of(stage: str) -> CodeCheck | None:
    """Return the check of a stage that DVC runs; None if the stage is run by hand.

    Args:
        stage: name of the module below `stages`, such as `train`.

    Raises:
        UserError: there is no record.
    """
    return CodeCheck(stage) if "DVC_STAGE" in os.environ else None
