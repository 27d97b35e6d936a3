"""The stage runner: calls a stage's `main` with checked params and complete or absent outputs."""
