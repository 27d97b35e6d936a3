"""Model that LitServe and BentoML serve: the ONNX file that Macula serves, with images decoded by Pillow.

Runs in an environment of these libraries without Macula (infra/locks/serving-peers.txt). Environment variables: MODEL,
THREADS per session, WORKERS (processes), and BATCH (maximum number of images per call; 1 switches batching off).
"""

import json
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

WORKERS, BATCH = int(os.environ.get("WORKERS", "1")), int(os.environ.get("BATCH", "1"))

Array = np.ndarray[Any, Any]


class ServedNetwork:
    """Session for the model file, and its labels."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        about = self.session.get_modelmeta().custom_metadata_map
        self.labels = json.loads(about["labels"])
        self.mode = "L" if about["channels"] == "1" else "RGB"

    def pixels(self, image: Image.Image) -> Array:
        """Return the pixels, uint8 [H, W, C]; the graph accepts any size."""
        values = np.asarray(image.convert(self.mode))
        return values if values.ndim == 3 else values[:, :, None]

    def __call__(self, images: Array) -> Array:
        """Return the probabilities [N, K] of images [N, H, W, C]."""
        return self.session.run(None, {"image": images})[0]

    def record(self, probability: Array) -> dict[str, Any]:
        """Return the response for one image, whose probabilities are [K]."""
        by_label = {label: float(value) for label, value in zip(self.labels, probability, strict=True)}
        return {"label": self.labels[int(probability.argmax())], "probability": by_label}
