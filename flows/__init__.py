"""Flows run the stages of `dvc.yaml` by name and import none: `python -m flows.pipeline`."""
