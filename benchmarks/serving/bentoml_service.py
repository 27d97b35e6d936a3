"""BentoML's service: `bentoml serve benchmarks.serving.bentoml_service:Classifier`; see `benchmarks.serving.shared_classifier`."""

from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from benchmarks.serving.shared_classifier import BATCH, WORKERS, Network


class One:
    """An image a call."""

    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(route="/predict")
    def predict(self, image: Image) -> dict[str, Any]:
        """The answer of one image."""
        return self.network.record(self.network(self.network.pixels(image)[None])[0])


class Gathered:
    """Images of several requests in a call, by adaptive batching."""

    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=max(BATCH, 2))
    def predict(self, image: list[Image]) -> list[dict[str, Any]]:
        """The answers of some images."""
        probabilities = self.network(np.stack([self.network.pixels(one) for one in image]))
        return [self.network.record(probability) for probability in probabilities]


Classifier = bentoml.service(workers=WORKERS, logging={"access": {"enabled": False}})(Gathered if BATCH > 1 else One)
