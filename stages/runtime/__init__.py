"""Inference with an exported model; requires onnxruntime, numpy and Pillow only."""

from stages.runtime.onnx_model import Model, compute_digest, open_shipped_model

__all__ = ["Model", "compute_digest", "open_shipped_model"]
