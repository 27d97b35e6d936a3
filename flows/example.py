"""A kept parameter set on its data, in a clone: `python -m flows.example NAME SOURCE ["KEY=VALUE ..."]`."""

import sys
from pathlib import Path

from flows.worktrees import changes_of, clone_name, ended, example, params_with, run
from stages.core.errors import UserError


def main(name: str, source: str, changes: str = "") -> Path:
    """Run docs/examples/NAME.yaml, further changed where asked, on the data at `source`; gives the clone.

    Raises:
        UserError: there is no such example or source, a change is wrong, or the line stopped.
    """
    kept = example(name)
    if not Path(source).exists():
        raise UserError(f"SOURCE: {source!r} does not exist; docs/examples/{name}.yaml says what it is")
    here = {"ingest": {"source": str(Path(source).absolute())}}
    folder = Path("work/examples") / clone_name(name, changes)
    run(folder, params_with([kept, here, changes_of(changes)], f"docs/examples/{name}.yaml {changes}".strip()))
    return folder


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(f"error: NAME and SOURCE are needed, and perhaps CHANGES; not {sys.argv[1:]}")
    try:
        print(f"\n{ended(main(*sys.argv[1:]))}")
    except UserError as error:
        sys.exit(f"error: {error}")
