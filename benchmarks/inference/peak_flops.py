"""What one core of the machine can do at most: `python -m benchmarks.inference.peak_flops`, told as JSON.

The product of two large matrices, by torch and by OpenVINO, whichever is faster: on some processors torch takes slower
instructions for 32 bits than the machine has. GFLOP in a second of the processor, by bits.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIDES = (1024, 2048)
TIMES = 9


def rate(call: Callable[[], Any], side: int) -> float:
    """GFLOP a second at best."""
    call()
    taken = []
    for _ in range(TIMES):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return 2 * side**3 / min(taken) / 1e9


def by_torch(side: int) -> dict[int, float]:
    """32 bits, bf16, and uint8 with int8."""
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
    """32 bits, and bf16 inside."""
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


def main() -> dict[str, dict[str, float]]:
    """The best of each, by who did it."""
    found: dict[str, dict[str, float]] = {}
    for name, by in (("torch", by_torch), ("OpenVINO", by_openvino)):
        rates = [by(side) for side in SIDES]
        found[name] = {str(bits): max(one[bits] for one in rates) for bits in rates[0]}
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
