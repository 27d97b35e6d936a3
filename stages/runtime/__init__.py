"""Inference with an exported model; requires only the base dependencies in pyproject.toml, not torch or pandas."""

from stages.runtime.onnx_model import Model, compute_digest, open_shipped_model

__all__ = ["Model", "compute_digest", "open_shipped_model"]
