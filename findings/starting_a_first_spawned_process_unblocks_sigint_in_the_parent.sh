#!/usr/bin/env bash
# Versions:  CPython 3.11, pebble 5.2.3
# Behaviour: A thread blocks SIGINT, as one does to start workers that must not receive Ctrl-C, and creates a pool with the
#            start method `spawn`. Starting the first worker also starts multiprocessing's resource tracker, which blocks
#            SIGINT, starts a process and then unblocks it, whatever the mask was before. Afterwards SIGINT is unblocked in
#            the parent, and the worker has inherited that. A second pool, when the tracker is already running, behaves as
#            expected. The DataLoader of torch 2.15 with multiprocessing_context="spawn" was seen to do the same.
# Remedy:    Call multiprocessing.resource_tracker.ensure_running() before blocking the signal.
# Output:    first pool: blocked in the parent False, in the worker False
#            second pool: blocked in the parent True, in the worker True
#            first pool after ensure_running(): blocked in the parent True, in the worker True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pebble==5.2.3

cat > pools.py <<'PYTHON'
import multiprocessing
import signal
import sys
from multiprocessing import resource_tracker

from pebble import ProcessPool


def is_blocked():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def report(name):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn")) as pool:
        worker = pool.schedule(is_blocked).result()
    print(f"{name}: blocked in the parent {is_blocked()}, in the worker {worker}")


if __name__ == "__main__":
    if sys.argv[1:] == ["tracker first"]:
        resource_tracker.ensure_running()
        report("first pool after ensure_running()")
    else:
        report("first pool")
        report("second pool")
PYTHON

{ env/bin/python pools.py; env/bin/python pools.py "tracker first"; } | tee seen.txt
diff seen.txt - <<'EXPECTED'
first pool: blocked in the parent False, in the worker False
second pool: blocked in the parent True, in the worker True
first pool after ensure_running(): blocked in the parent True, in the worker True
EXPECTED
