"""Load a model on this machine and compare its predictions with golden images.

`python -m stages.deployment.local_check MODEL GOLDEN ENGINE` prints the result as JSON. A deployment runs it in a
subprocess, because a model file could crash the process or exhaust the memory.
"""

import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.memory import allowed, bound
from stages.deployment.golden_images import Values, judge, read_golden
from stages.deployment.golden_selection import predicted_values
from stages.images.decode import Unreadable
from stages.runtime import Model, compute_digest
from stages.serving.model_loading import COPIES, MEMORY, load_model
from stages.serving.settings import Settings

SECONDS = 300
"""Time limit for loading the model and predicting all golden images."""


def check(model: Path, golden_file: Path, engine: str) -> dict[str, Any]:
    """Return whether the model passes its golden images, and a message; a model that cannot be loaded does not pass.

    Args:
        model: ONNX file.
        golden_file: golden images.
        engine: auto, onnxruntime or openvino.

    Raises:
        UserError: the golden images cannot be read.
    """
    golden = read_golden(golden_file)
    try:
        opened = load_model(Settings(model=str(model), engine=engine))
    except UserError as error:
        return {"passed": False, "message": str(error), "digest": compute_digest(model)}
    verdict = judge(golden, [_prediction(opened, image.data) for image in golden.images])
    return {
        "passed": verdict.passed,
        "message": verdict.message,
        "digest": compute_digest(model),
        "engine": f"{opened.engine.name} in {opened.engine.precision}",
        "largest": verdict.largest if math.isfinite(verdict.largest) else None,
        "mean": verdict.mean if math.isfinite(verdict.mean) else None,
    }


def _prediction(model: Model, data: bytes) -> Values | str:
    try:
        return predicted_values(model, data)
    except Unreadable as error:
        return f"the image {error}"
    except Exception as error:  # onnxruntime's exceptions have no common base class
        return f"no prediction: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def main(arguments: list[str]) -> int:
    """Check a model with limited time and memory, and print the result as JSON."""
    model, golden, engine = Path(arguments[0]), Path(arguments[1]), arguments[2]
    signal.alarm(SECONDS)  # in case the process that would end this one has died
    try:
        bound(min(MEMORY, allowed() // 2) + COPIES * model.stat().st_size)
        result = check(model, golden, engine)
    except (UserError, OSError) as error:
        result = {"passed": False, "message": str(error)}
    except MemoryError:
        result = {"passed": False, "message": f"model: loading {model} requires too much memory"}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
