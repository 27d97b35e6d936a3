"""BentoML's service, started by `bentoml serve benchmarks.serving.bentoml_service:Classifier`.

The model and the environment variables are those of `benchmarks.serving.shared_classifier`.
"""

from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from benchmarks.serving.shared_classifier import BATCH, WORKERS, ServedNetwork


class SingleImageService:
    """Service with one image per call."""

    def __init__(self) -> None:
        self.network = ServedNetwork()

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator, unused-ignore]
    def predict(self, image: Image) -> dict[str, Any]:
        """Return the response for one image."""
        return self.network.record(self.network(self.network.pixels(image)[None])[0])


class BatchingService:
    """Service that collects images of several requests for a call, by adaptive batching."""

    def __init__(self) -> None:
        self.network = ServedNetwork()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=max(BATCH, 2))  # type: ignore[untyped-decorator, unused-ignore]
    def predict(self, image: list[Image]) -> list[dict[str, Any]]:
        """Return the responses for several images."""
        probabilities = self.network(np.stack([self.network.pixels(one) for one in image]))
        return [self.network.record(probability) for probability in probabilities]


Classifier = bentoml.service(workers=WORKERS, logging={"access": {"enabled": False}})(
    BatchingService if BATCH > 1 else SingleImageService
)
