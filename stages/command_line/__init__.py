"""The `macula` command: one file per command or small group, imported lazily so that help appears at once."""
