"""int8: activations as uint8, weights as int8 a channel, ranges from training images, by ONNX Runtime's quantizer.

Jacob et al. 2018; ranges as a moving average over images, which outliers spoil less. Other pairs of types are slower on
x86 than what they replace.
"""

import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from stages.quantization.onnx_graph import between, layers
from stages.runtime.engines import INPUT

Array = np.ndarray[Any, Any]
OPERATORS = [
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Concat", "Resize",
]  # fmt: skip
MOST_GROUPS = 24
"""Into so many groups of neighbouring layers a deep network is cut when their sensitivity is asked."""


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Iterable[Array]) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        """One image a call, as the graph takes it."""
        image = next(self.images, None)
        return None if image is None else {INPUT: image[None]}


class Quantizer:
    """Makes int8 files of one float32 file, with some layers left as they are; ranges are measured once."""

    def __init__(self, source: Path, images: Sequence[Array], work: Path) -> None:
        """`images`: [S, S, C] working images of the training split; `work`: a folder for what is in between."""
        self.source, self.images, self.ranges = source, images, work / "ranges.json"
        graph = onnx.load(source).graph
        self.layers, self.network = layers(graph), between(graph)
        self.others = [node.name for node in graph.node if node.name not in self.network]

    def write(self, file: Path, left: Iterable[str] = ()) -> None:
        """Write the int8 file; `left`: names of layers that stay float32."""
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # the quantizer advises what was done already
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                quantize_static(
                    str(self.source),
                    str(file),
                    None if self.ranges.exists() else _Images(self.images),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=OPERATORS,
                    nodes_to_exclude=[*self.others, *left],
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    extra_options={"CalibMovingAverage": True},
                    calibration_cache_path=str(self.ranges),
                )
        finally:
            root.setLevel(level)

    def groups(self) -> list[list[str]]:
        """Layers whose sensitivity is asked together: each alone, or neighbours where there are many."""
        count = min(MOST_GROUPS, len(self.layers))
        return [list(map(str, part)) for part in np.array_split(np.array(self.layers), count)] if count else []

    def only(self, file: Path, group: Iterable[str]) -> None:
        """Write a file in which only these layers are int8."""
        self.write(file, left=self.network - set(group))
