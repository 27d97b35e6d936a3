"""Static int8 quantization with ONNX Runtime: uint8 activations, int8 weights per channel (Jacob et al. 2018).

Activation ranges are moving averages over training images, which are less sensitive to outliers than extremes. Other
combinations of types are slower on x86 than float32.
"""

import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from stages.core.shapes import Array, Integer
from stages.quantization.onnx_graph import find_network_nodes, find_weighted_layers, separate_shared_weights
from stages.runtime.engines import INPUT

OPERATORS = [
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool",
    "Concat", "Resize",
]  # fmt: skip
MAX_GROUPS = 24
"""Maximum number of groups of consecutive layers whose sensitivity is measured."""


class _CalibrationImages(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Iterable[Integer[Array, "S S C"]]) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, Integer[Array, "1 S S C"]] | None:
        """Return the next image as the input of the graph; None after the last one."""
        image = next(self.images, None)
        return None if image is None else {INPUT: image[None]}


class Quantizer:
    """Writes int8 versions of a float32 file in which selected layers stay float32."""

    def __init__(self, source: Path, images: Sequence[Integer[Array, "S S C"]], work: Path) -> None:
        """Read the graph; `write` measures the activation ranges once.

        Args:
            source: float32 ONNX file.
            images: images of the training split at the working size.
            work: folder for temporary files.
        """
        self.source, self.images, self.ranges = work / "separate_weights.onnx", images, work / "ranges.json"
        model = onnx.load(source)
        separate_shared_weights(model)
        onnx.save(model, self.source)
        graph = model.graph
        self.layers, self.network = find_weighted_layers(graph), find_network_nodes(graph)
        self.others = [node.name for node in graph.node if node.name not in self.network]

    def write(self, file: Path, left: Iterable[str] = ()) -> None:
        """Write an int8 file in which the layers named in `left` stay float32."""
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # the quantizer recommends preprocessing that was already done
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                quantize_static(
                    str(self.source),
                    str(file),
                    None if self.ranges.exists() else _CalibrationImages(self.images),
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

    def layer_groups(self) -> list[list[str]]:
        """Return groups of consecutive layers whose sensitivity is measured together, at most `MAX_GROUPS`."""
        count = min(MAX_GROUPS, len(self.layers))
        return [list(map(str, part)) for part in np.array_split(np.array(self.layers), count)] if count else []

    def write_only(self, file: Path, group: Iterable[str]) -> None:
        """Write a file in which only the layers in `group` are int8."""
        self.write(file, left=self.network - set(group))
