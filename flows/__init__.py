"""Programs that run the stages of `dvc.yaml` by name and do not import them: `python -m flows.pipeline`."""

import stages  # noqa: F401  # handles Ctrl-C during the imports of a module of this package
