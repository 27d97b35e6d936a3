"""The line: a file here is a stage that `python -m stages.NAME` runs, a folder a noun that stages share."""
