"""Measurements, side by side in one run, and what became of them."""
