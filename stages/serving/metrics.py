"""Figures for Prometheus: requests, seconds, batches, and which model answers."""

import os
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: the folder in which worker processes add up their figures."""


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        """In a registry of its own."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "macula_requests", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        timed = partial(Histogram, buckets=SECONDS, registry=self.registry)
        self.seconds = timed("macula_request_seconds", "From the first byte to the answer", ["route"])
        self.steps = timed("macula_step_seconds", "An image's decoding, its wait for a run", ["step"])
        self.runs = timed("macula_run_seconds", "A run of the model")
        self.sizes = Histogram("macula_run_images", "Images of a run", buckets=SIZES, registry=self.registry)
        self.inside = Gauge(
            "macula_inside", "Requests being answered", registry=self.registry, multiprocess_mode="livesum"
        )
        self.reloads = Counter("macula_reloads", "New models by outcome", ["outcome"], registry=self.registry)
        self.model = Gauge(
            "macula_model_info", "Which model answers", ["digest", "version"], registry=self.registry,
            multiprocess_mode="livemax",
        )  # fmt: skip

    def step(self, name: str, seconds: float) -> None:
        """`decode` or `wait`."""
        self.steps.labels(name).observe(seconds)

    def ran(self, images: int, seconds: float) -> None:
        """A run of the model."""
        self.runs.observe(seconds)
        self.sizes.observe(images)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def answers_with(self, digest: str, version: str) -> None:
        """The model that answers from now on."""
        if SHARED not in os.environ:
            self.model.clear()
        self.model.labels(digest, version).set(1)

    def text(self) -> bytes:
        """As Prometheus reads it; of all worker processes where there are several."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
