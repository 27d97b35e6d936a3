"""Preprocessing shared by `prepare`, training and the exported graph."""
