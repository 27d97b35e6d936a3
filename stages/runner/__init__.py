"""Run a stage from the command line: params, outputs, and the check that its code is what DVC recorded."""
