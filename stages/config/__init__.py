"""Params: their schema, reading `params.yaml`, editing it, and names that have changed."""
