"""An ONNX model made by `export`: file bytes in, answers out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from stages.frame.errors import UserError
from stages.images.reading import read, to_channels
from stages.tasks import TASKS

INPUT, OUTPUT = "image", "probability"
REQUIRED = ("task", "labels", "channels", "version")


class Model:
    """A session and what the file says of itself."""

    def __init__(self, file: Path, threads: int = 0) -> None:
        """Open a model.

        Args:
            file: an ONNX file written by `export`.
            threads: of onnxruntime; 0 lets it choose.

        Raises:
            UserError: the file is missing, damaged, or no model of Macula.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if not file.is_file():
            raise UserError(f"model: {file} does not exist; `dvc repro` writes data/export/model.onnx")
        try:
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a type of its own for each way a file can be damaged
            raise UserError(f"model: {file} cannot be opened by onnxruntime: {error}") from error
        stored = self.session.get_modelmeta().custom_metadata_map
        missing = [key for key in REQUIRED if key not in stored]
        if missing:
            raise UserError(f"model: {file} says nothing of its {', '.join(missing)}; it was not written by `export`")
        self.metadata: dict[str, Any] = {key: json.loads(value) for key, value in stored.items()}
        self.labels: list[str] = self.metadata["labels"]

    def decode_file(self, data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Bytes of an image file to the uint8 [H, W, C] that the graph takes; raises `reading.Unreadable`."""
        return to_channels(read(data).image, self.metadata["channels"])

    def probabilities(self, images: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> np.ndarray[Any, Any]:
        """Run the graph on images [H, W, C] of one size; [N, K] in 0..1."""
        (result,) = self.session.run([OUTPUT], {INPUT: np.stack(images)})
        return np.asarray(result)

    def answer(self, data: bytes) -> dict[str, Any]:
        """The decoded answer for the bytes of one image file; raises `reading.Unreadable`."""
        probability_NK = self.probabilities([self.decode_file(data)])
        return TASKS[self.metadata["task"]].decode(probability_NK, self.labels)[0]
