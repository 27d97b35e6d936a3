#!/usr/bin/env bash
# Versions:  CPython 3.11, tqdm 4.70.1
# Behaviour: A program reads the first records of a generator in one loop, leaves the loop, and reads the rest in another.
#            If a progress bar that is shown is around the first loop, the generator continues. If the bar is disabled, as
#            with `disable=None` where the output is not a terminal, the generator is closed when the loop is left and its
#            remaining items are lost without an error: a disabled bar delegates with `yield from`, and closing a generator
#            closes the one that it delegates to. `disable=None` therefore changes the result between a terminal and a log.
# Remedy:    Leave the loop over the generator only with a `break` in a loop that has no bar, or update a bar by hand.
# Output:    bar that is shown: 0, then [1, 2, 3]
#            bar that is disabled: 0, then []
#            disable=None, output is a file: 0, then []
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check tqdm==4.70.1

cat > bars.py <<'PYTHON'
import io

from tqdm import tqdm


def records():
    for number in range(4):
        yield number


for name, disable in (
    ("bar that is shown", False),
    ("bar that is disabled", True),
    ("disable=None, output is a file", None),
):
    source = records()
    for header in tqdm(source, disable=disable, file=io.StringIO()):
        break
    print(f"{name}: {header}, then {list(source)}")
PYTHON

env/bin/python bars.py | tee seen.txt
diff seen.txt - <<'EXPECTED'
bar that is shown: 0, then [1, 2, 3]
bar that is disabled: 0, then []
disable=None, output is a file: 0, then []
EXPECTED
