"""LitServe's server, started by `python -m benchmarks.serving.litserve_service PORT`.

The model and the environment variables are those of `benchmarks.serving.shared_classifier`.
"""

import io
import sys
from typing import Any

import litserve
from PIL import Image

from benchmarks.serving.shared_classifier import BATCH, WORKERS, Array, ServedNetwork

BATCH_DELAY = 0.01  # seconds from the first image of a batch to the call


class SingleImageApi(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    """API with one image per call."""

    def setup(self, device: str) -> None:
        """Load the model in a worker."""
        self.network = ServedNetwork()

    def decode_request(self, request) -> Array:  # type: ignore[no-untyped-def]  # without annotation, so that it is a form
        """Return the image of a form, uint8 [H, W, C]."""
        return self.network.pixels(Image.open(io.BytesIO(request["image"].file.read())))

    def predict(self, x: Array) -> Array:
        """Return the probabilities [K] of one image [H, W, C]."""
        return self.network(x[None])[0]

    def encode_response(self, output: Array) -> dict[str, Any]:
        """Return the response for one image."""
        return self.network.record(output)


class BatchingApi(SingleImageApi):
    """API that gets images of several requests per call, stacked by LitServe."""

    def predict(self, x: Array) -> Array:
        """Return the probabilities [N, K] of images [N, H, W, C]."""
        return self.network(x)


def main() -> None:
    """Start the server with its faster queue and without an access log."""
    api = BatchingApi(max_batch_size=BATCH, batch_timeout=BATCH_DELAY) if BATCH > 1 else SingleImageApi()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
