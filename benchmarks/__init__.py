"""Benchmarks: Macula compared with other libraries in one run, and measurements of its own parts."""
