"""Predict one part of a batch for a worker of Dask: `python -m stages.batch_prediction.part_process`.

Reads a pickled `PartRequest` from standard input and writes the pickled `PartResult` to standard output. The process
ends when standard input is closed, as it is when the worker was killed.
"""

import os
import pickle
import sys
import threading
import time
from pathlib import Path

from stages.batch_prediction.cluster_pool import PartRequest, PartResult, missing
from stages.batch_prediction.inputs import STDIN
from stages.batch_prediction.worker_pool import OutputRow, predict_images
from stages.core.errors import UserError
from stages.images.decoder_logging import silence_decoders


def predict_part(request: PartRequest) -> PartResult:
    """Return the rows of a part, or the error of the user that ended it."""
    for source in request.sources:
        if source != STDIN and not Path(source).exists():
            return PartResult(problem=missing(source))
    rows: list[OutputRow] = []
    times: list[float] = []
    try:
        for _, chunk in predict_images(iter(request.images), request.job, request.spec):
            rows += chunk
            times.append(time.perf_counter())
    except UserError as error:
        return PartResult(problem=str(error))
    return PartResult(rows, times[-1] - times[0])  # without the first image, which waited for the model


def _end_with_worker() -> None:
    os.read(0, 1)  # returns when the other end is closed; nothing follows the request
    os._exit(1)


def main() -> None:
    """Predict the part that standard input contains."""
    request: PartRequest = pickle.load(sys.stdin.buffer)  # noqa: S301  written by `run_part`
    threading.Thread(target=_end_with_worker, daemon=True).start()
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # what libraries print must not be a part of the result
        silence_decoders()
        output.write(pickle.dumps(predict_part(request)))


if __name__ == "__main__":
    main()
