"""Programs that run the stages of `dvc.yaml` by name and do not import them: `python -m flows.pipeline`."""

from stages.core.interrupts import exit_during_imports

exit_during_imports()  # before a module of this package imports anything else
