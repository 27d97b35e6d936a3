"""Measure the peak arithmetic rate of one core: `python -m benchmarks.inference.peak_flops` prints JSON.

The product of two large matrices is computed by torch and by OpenVINO, because on some processors torch uses slower
float32 instructions than the machine has. Rates are in GFLOP per processor second, by number of bits.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

SIDES = (1024, 2048)
TINY_SIDES = (64,)
REPETITIONS = 9


def rate(call: Callable[[], Any], side: int) -> float:
    """Return the highest rate of a product of two matrices [side, side], in GFLOP per processor second."""
    call()
    taken = []
    for _ in range(REPETITIONS):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return 2 * side**3 / min(taken) / 1e9


def by_torch(side: int) -> dict[int, float]:
    """Return torch's rates for float32, bf16, and uint8 with int8, by bits."""
    import torch

    torch.set_num_threads(1)
    one = torch.rand(side, side)
    half, unsigned, signed = one.bfloat16(), (one * 100).to(torch.uint8), (one * 100).to(torch.int8)
    return {
        32: rate(lambda: one @ one, side),
        16: rate(lambda: half @ half, side),
        8: rate(lambda: torch._int_mm(unsigned, signed), side),
    }


def by_openvino(side: int) -> dict[int, float]:
    """Return OpenVINO's rates for float32 and bf16, by bits."""
    import openvino
    from openvino import opset13

    numbers = np.random.default_rng(0).random((side, side), np.float32)
    given = opset13.parameter([side, side], openvino.Type.f32)
    product = openvino.Model([opset13.matmul(given, opset13.constant(numbers), False, False)], [given])
    found = {}
    for bits, precision in ((32, "f32"), (16, "bf16")):
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
        request = openvino.Core().compile_model(product, "CPU", settings).create_infer_request()
        found[bits] = rate(lambda request=request: request.infer([numbers], share_inputs=True), side)  # type: ignore[misc]
    return found


def main(sides: Sequence[int] = SIDES) -> dict[str, dict[str, float]]:
    """Return the highest rate by library and number of bits; a library that is not installed is skipped."""
    found: dict[str, dict[str, float]] = {}
    for name, by in (("torch", by_torch), ("OpenVINO", by_openvino)):
        if find_spec(name.lower()) is None:
            print(f"skipped: {name} is not installed", file=sys.stderr)
            continue
        rates = [by(side) for side in sides]
        found[name] = {str(bits): max(one[bits] for one in rates) for bits in rates[0]}
    return found


if __name__ == "__main__":
    print(json.dumps(main(TINY_SIDES if "--tiny" in sys.argv else SIDES)))
