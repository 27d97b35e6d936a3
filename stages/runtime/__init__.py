"""The exported model at work: onnxruntime, numpy, Pillow and nothing else."""

from stages.runtime.model import Model

__all__ = ["Model"]
