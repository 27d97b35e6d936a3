"""LitServe's server: `python -m benchmarks.serving.litserve_service PORT`; see `benchmarks.serving.shared_classifier`."""

import io
import sys
from typing import Any

import litserve
from PIL import Image

from benchmarks.serving.shared_classifier import BATCH, WORKERS, Array, Network

WAIT = 0.01  # seconds, from the first image of a call until it is made


class One(litserve.LitAPI):
    """An image a call."""

    def setup(self, device: str) -> None:
        """In each worker."""
        self.network = Network()

    def decode_request(self, request) -> Array:  # not annotated: it stands for a form
        """The image of a form."""
        return self.network.pixels(Image.open(io.BytesIO(request["image"].file.read())))

    def predict(self, x: Array) -> Array:
        """Of one image."""
        return self.network(x[None])[0]

    def encode_response(self, output: Array) -> dict[str, Any]:
        """JSON."""
        return self.network.record(output)


class Gathered(One):
    """Images of several requests in a call, stacked by LitServe."""

    def predict(self, x: Array) -> Array:
        """Of images [N, H, W, C]."""
        return self.network(x)


def main() -> None:
    """As many workers as cores, as it advises for a CPU, its faster queue, and no log of accesses."""
    api = Gathered(max_batch_size=BATCH, batch_timeout=WAIT) if BATCH > 1 else One()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
