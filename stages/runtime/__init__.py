"""The exported model at work: onnxruntime, numpy, Pillow and nothing else."""

from stages.runtime.model import Model, shipped

__all__ = ["Model", "shipped"]
