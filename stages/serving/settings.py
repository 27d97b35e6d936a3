"""Settings of the server: the model file, limits of a request, and limits of all requests together."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SETTINGS = "MACULA_SERVE"
"""Environment variable that passes the settings to worker processes."""
KEY = "MACULA_API_KEY"
"""Environment variable with the API key that clients must send; empty if none is required."""

MIN_KEEP_ALIVE = 1.0  # seconds; less would close connections that clients have just opened


@dataclass(frozen=True)
class Settings:
    """Model and options of `macula serve` except for `--host`, `--port` and `--open`."""

    model: str
    """ONNX file. The server watches it and loads a new file that replaces it."""
    name: str = ""
    """Name of the model in responses and in paths of the Open Inference Protocol; empty: the name of its data set."""
    engine: str = "auto"
    """auto, onnxruntime or openvino; auto selects OpenVINO if available and clearly faster on this machine."""
    threads: int = 0
    """Threads per run of the model; 0: the cores are divided among all concurrent runs."""
    parallel: int = 0
    """Concurrent runs of the model in each worker; 0: one per core, divided among the workers."""
    workers: int = 1
    """Worker processes; each loads the model."""
    batch: int = 16
    """Maximum number of images per run."""
    latency: float = 0.1
    """Maximum expected duration of a run of several images, or the waiting time of the first if longer, in seconds."""
    queue: int = 128
    """Maximum number of POST requests in progress in each worker; further ones get status 429."""
    megabytes: float = 32.0
    """Maximum size of a request body, MB; larger bodies get status 413."""
    megapixels: float = 50.0
    """Maximum size of an image, megapixels; larger images get status 413."""
    memory: float = 0.0
    """Memory limit of all workers together, GiB; 0: the limit of the container or the machine. Images wait until memory
    for their pixels is available; an image that exceeds the limit gets status 413."""
    seconds: float = 30.0
    """Maximum time from the headers of a request to its response, seconds; then the request gets status 503."""
    images: int = 64
    """Maximum number of images per request."""
    keep_alive: float = 75.0
    """Time after which a connection without a request is closed, seconds: a new one, or one after its last response."""

    def to_environment(self) -> None:
        """Pass the settings to worker processes."""
        os.environ[SETTINGS] = json.dumps(asdict(self))

    @staticmethod
    def from_environment() -> "Settings":
        """Return the settings that `to_environment` has passed to this worker process."""
        return Settings(**json.loads(os.environ[SETTINGS]))

    @property
    def file(self) -> Path:
        """Path of the model file."""
        return Path(self.model)

    def runs(self, cores: int) -> tuple[int, int]:
        """Return the number of concurrent runs of the model per worker, and the threads of each run.

        >>> Settings("m", workers=2).runs(8), Settings("m", workers=4, parallel=1).runs(8), Settings("m").runs(1)
        ((4, 1), (1, 2), (1, 1))
        """
        share = max(1, cores // self.workers)
        parallel = self.parallel or share
        return parallel, self.threads or max(1, share // parallel)
