"""Programs that run the stages of `dvc.yaml` by name and do not import them: `python -m flows.pipeline`."""
