"""Prometheus metrics: requests, durations, batches, and the current model."""

import os
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which worker processes share their metrics."""


class Metrics:
    """Metrics of a server."""

    def __init__(self) -> None:
        """Create the metrics in a separate registry."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "macula_requests", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        timed = partial(Histogram, buckets=SECONDS, registry=self.registry)
        self.seconds = timed(
            "macula_request_seconds", "Time from the headers of a request to the end of its response", ["route"]
        )
        self.steps = timed("macula_step_seconds", "Time of decoding an image, and of waiting for a run", ["step"])
        self.runs = timed("macula_run_seconds", "Duration of a run of the model")
        self.sizes = Histogram("macula_run_images", "Images per run", buckets=SIZES, registry=self.registry)
        self.inside = Gauge(
            "macula_inside", "Requests in progress", registry=self.registry, multiprocess_mode="livesum"
        )
        self.reloads = Counter("macula_reloads", "Model reloads by outcome", ["outcome"], registry=self.registry)
        self.model = Gauge(
            "macula_model_info", "Current model", ["digest", "version"], registry=self.registry,
            multiprocess_mode="livemax",
        )  # fmt: skip

    def step(self, name: str, seconds: float) -> None:
        """Record the duration in seconds of a step, `decode` or `wait`."""
        self.steps.labels(name).observe(seconds)

    def record_run(self, images: int, seconds: float) -> None:
        """Record the number of images and the duration in seconds of a run of the model."""
        self.runs.observe(seconds)
        self.sizes.observe(images)

    def record_request(self, route: str, status: int, seconds: float) -> None:
        """Record a request.

        Args:
            route: path of the route.
            status: HTTP status.
            seconds: duration of the request, seconds.
        """
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def set_model(self, digest: str, version: str) -> None:
        """Set the digest and version of the current model; with several workers, earlier models remain listed."""
        if SHARED not in os.environ:
            self.model.clear()
        self.model.labels(digest, version).set(1)

    def text(self) -> bytes:
        """Return the metrics of all worker processes in the format of Prometheus."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
