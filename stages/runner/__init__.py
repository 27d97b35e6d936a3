"""The stage runner: calls a stage's `main` with checked params and code, and complete or absent outputs."""
