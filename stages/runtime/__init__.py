"""The exported model at work: onnxruntime, numpy, Pillow and nothing else."""

from stages.runtime.onnx_model import Model, digest_of, shipped

__all__ = ["Model", "digest_of", "shipped"]
