"""Params sections, being moved to `stages.config`."""
