"""Run an example of docs/examples on its data, in a clone: `python -m flows.example NAME SOURCE ["KEY=VALUE ..."]`."""

import sys
from pathlib import Path

from flows.worktrees import change_params, clone_name, example, parse_changes, run_in_clone, summarize_run
from stages.core.errors import UserError
from stages.core.plurals import quantity


def main(name: str, source: str, changes: str = "") -> Path:
    """Run docs/examples/NAME.yaml on data in a clone of the project.

    Args:
        name: name of the example.
        source: path of the data.
        changes: further changes of params as `KEY=VALUE ...`.

    Returns:
        Folder of the clone.

    Raises:
        UserError: the example or the source does not exist, a change is invalid, or the pipeline failed.
    """
    kept = example(name)
    if not Path(source).exists():
        raise UserError(f"the source {source!r} does not exist; docs/examples/{name}.yaml describes the data")
    here = {"ingest": {"source": str(Path(source).absolute())}}
    folder = Path("work/examples") / clone_name(name, changes)
    run_in_clone(
        folder, change_params([kept, here, parse_changes(changes)], f"docs/examples/{name}.yaml {changes}".strip())
    )
    return folder


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        given = quantity(len(sys.argv) - 1, "argument")
        sys.exit(f'error: got {given}; usage: python -m flows.example NAME SOURCE ["KEY=VALUE ..."]')
    try:
        print(f"\n{summarize_run(main(*sys.argv[1:]))}")
    except UserError as error:
        sys.exit(f"error: {error}")
