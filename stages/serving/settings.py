"""What a server grants to a request, and to all of them together."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SETTINGS = "MACULA_SERVE"
"""Environment variable by which worker processes learn the settings."""
KEY = "MACULA_API_KEY"
"""Environment variable that holds the key a client must show; empty: none is asked for."""


@dataclass(frozen=True)
class Settings:
    """Everything that `python -m stages.serve` can be told but for the address."""

    model: str
    """The ONNX file; it is watched, and a new one in its place is taken over."""
    name: str = ""
    """Of the model in the Open Inference Protocol; empty: that of its data."""
    engine: str = "auto"
    """auto, onnxruntime or openvino; auto takes the faster one on this machine."""
    threads: int = 0
    """Of one run of the model; 0: so many that all runs of all workers fill the cores."""
    parallel: int = 0
    """Runs of the model at once in each worker; 0: one a core, shared out among the workers."""
    workers: int = 1
    """Processes, each with the model."""
    batch: int = 16
    """Images of one run at most."""
    latency: float = 0.1
    """Seconds that a run of several images may take at most, by what runs took so far; as long as the first of them
    has waited where that is more."""
    queue: int = 128
    """Requests inside at most; more are answered 429."""
    megabytes: float = 32.0
    """Of a request's body at most; more are answered 413."""
    megapixels: float = 50.0
    """Of an image at most; more are answered 413."""
    memory: float = 0.0
    """GiB that all workers may take together; 0: what the container or the machine allows. Images wait until there is
    room for their pixels; one that never has room is answered 413."""
    seconds: float = 30.0
    """From a request's first byte to its answer at most; longer is answered 503."""
    images: int = 64
    """In a request at most."""

    def to_environment(self) -> None:
        """Hand them to worker processes."""
        os.environ[SETTINGS] = json.dumps(asdict(self))

    @staticmethod
    def from_environment() -> "Settings":
        """In a worker process: what `to_environment` left."""
        return Settings(**json.loads(os.environ[SETTINGS]))

    @property
    def file(self) -> Path:
        """The model's."""
        return Path(self.model)

    def runs(self, cores: int) -> tuple[int, int]:
        """How many runs of the model a worker has at once, and the threads of each, on so many cores.

        >>> Settings("m", workers=2).runs(8), Settings("m", workers=4, parallel=1).runs(8), Settings("m").runs(1)
        ((4, 1), (1, 2), (1, 1))
        """
        share = max(1, cores // self.workers)
        parallel = self.parallel or share
        return parallel, self.threads or max(1, share // parallel)
