"""Constant load of a prediction server by a few threads, which count lost requests."""

import http.client
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

PAUSE = 0.02
"""Seconds between two requests of a thread."""
SECONDS = 30.0
"""Time limit of a request."""


@dataclass
class Load:
    """Threads that send an image again and again while the block runs.

    A request is lost if its response has another status than 200, or if there is none.
    """

    port: int
    image: bytes
    threads: int = 4
    sent: int = 0
    lost: list[str] = field(default_factory=list)
    """Reason of each lost request."""

    def __post_init__(self) -> None:
        """Prepare the threads, which `__enter__` starts."""
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._running = [threading.Thread(target=self._send, daemon=True) for _ in range(self.threads)]

    def __enter__(self) -> "Load":
        """Start the load."""
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop the load; requests in progress end first."""
        self._stop.set()
        for thread in self._running:
            thread.join(2 * SECONDS)

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        while not self._stop.is_set():
            reason = self._request(connection)
            with self._lock:
                self.sent += 1
                if reason:
                    self.lost.append(reason)
            time.sleep(PAUSE)
        connection.close()

    def _request(self, connection: http.client.HTTPConnection) -> str:
        """Send the image; return why the request is lost, or an empty string."""
        try:
            connection.request("POST", "/v1/predict", self.image, {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:  # also an incomplete response
            connection.close()
            return repr(error)
        return "" if response.status == http.HTTPStatus.OK else f"{response.status}: {content[:200]!r}"
