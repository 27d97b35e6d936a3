"""The line: a file here is a stage that `python -m stages.NAME` runs, a folder a noun that stages share."""

import os
import sys
from types import TracebackType

# Threads that wait for others sleep: on a busy machine those that spin take the cores from the ones that work, and
# training gets 5 to 20 times slower. Read when OpenMP is loaded, hence before torch is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# By default, onnxruntime contacts a server of its maker and stores a machine id in the home folder
# to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _hide_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show no traceback of Ctrl-C, which may come while a stage is still importing."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _hide_interrupt
