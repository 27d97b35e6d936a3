"""Compute a digest of the code of every stage: `python -m stages.fingerprint CODE OUTPUT`.

Stages depend on these digests instead of the code itself. An edit of comments, docstrings or formatting changes no
digest: DVC then reruns only this stage, which takes less than a second.
"""

from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.import_closure import CodeTree
from stages.runner.code_check import source_cache
from stages.runner.stage import In, Out, run


def main(code: In, output: Out) -> dict[str, Any]:
    """Write `NAME.txt` for each `NAME.py` in the folder `code`: digest and path of each file that it depends on.

    Raises:
        UserError: the code changed while its digests were computed.
    """
    records = _records(code)
    for name, text in records.items():
        (output / f"{name}.txt").write_text(text)
    source_cache().save(only_used=True)
    if _records(code) != records:
        raise UserError("code was edited while its digests were computed; run `dvc repro` again")
    return {}


def _records(code: Path) -> dict[str, str]:
    tree = CodeTree(code, source_cache())
    names = sorted(file.stem for file in code.glob("*.py") if not file.stem.startswith("__"))
    return {name: tree.record(f"{code.name}.{name}") for name in names}


if __name__ == "__main__":
    run(main, check_code=False)
