"""The pipeline: each module is a stage or command (`python -m stages.NAME`), each subpackage code that they share."""

import os
import sys
from types import TracebackType

from stages.core.interrupts import exit_during_imports

# Waiting OpenMP threads sleep instead of spinning. On a busy machine, spinning threads take the cores from those that
# compute, and training becomes 5 to 20 times slower. OpenMP reads this variable when it is loaded, with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# By default, onnxruntime contacts a server of its vendor and stores a machine id in the home folder. It reads this
# variable when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _hide_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error, but not of Ctrl-C."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _hide_interrupt
exit_during_imports()
