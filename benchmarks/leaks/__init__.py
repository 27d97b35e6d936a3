"""Leaks between the splits: which of them configure and the audits find."""
