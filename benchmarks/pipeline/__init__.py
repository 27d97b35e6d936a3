"""Measurements of the whole pipeline: example scores and scaling with the number of images."""
