"""Errors, memory, CPU and provenance: code that everything else may import."""
