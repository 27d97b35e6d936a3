"""Check params.yaml and write all params with their defaults: `python -m stages.resolve PARAMS OUTPUT`.

The other stages depend on this output, so that a changed default reruns exactly the stages that use its section.
"""

import sys
from pathlib import Path

from stages.config.load import load
from stages.config.resolved import as_yaml
from stages.core.errors import UserError
from stages.runner.code_check import code_check_of


def main(given: Path, output: Path) -> None:
    """Write all params of the file `given` to `output`, which is complete or absent.

    Raises:
        UserError: the file is not readable or has mistakes, all of which are listed, or the code was edited while DVC
            ran this stage.
    """
    check = code_check_of("resolve")
    text = as_yaml(load(given))
    part = output.with_name(f"{output.name}.part")
    part.write_text(text, encoding="utf-8")
    if check is not None:
        check.compare()
    part.replace(output)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m stages.resolve PARAMS OUTPUT")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        sys.exit(f"error: {error}")
