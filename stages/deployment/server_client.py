"""Client of a running `macula serve`: current model, predictions and counters of requests."""

import base64
import json
import re
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from stages.core.errors import UserError
from stages.deployment.golden_images import Values, comparable_values, read_picture

SAMPLE = re.compile(r"^(macula_\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
PREDICTING = ("predict", "answer", "infer")
"""Parts of the routes that run the model."""
SERVER_ERROR = 500


class ServerError(Exception):
    """A request failed; the message contains the status or the reason."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0 if there was no response."""


@dataclass(frozen=True)
class Response:
    """Response to one image."""

    values: Values
    digest: str
    """First digits of the SHA-256 of the model that predicted the image."""
    seconds: float


@dataclass(frozen=True)
class Traffic:
    """Counters of a server since its start."""

    requests: float
    """Finished requests of predictions."""
    errors: float
    """Those with a status of 500 or higher."""
    refused_reloads: float

    def since(self, other: "Traffic", own_requests: int = 0, own_errors: int = 0) -> "Traffic":
        """Return the difference from an earlier state, without our own requests.

        Args:
            other: earlier state.
            own_requests: requests of the deployment itself in between.
            own_errors: those of them that failed with a status of 500 or higher.
        """
        return Traffic(
            max(0.0, self.requests - other.requests - own_requests),
            max(0.0, self.errors - other.errors - own_errors),
            self.refused_reloads - other.refused_reloads,
        )


class ServerClient:
    """Client of one server; each request uses a new connection, so that all worker processes are reached."""

    def __init__(self, url: str, key: str = "", timeout: float = 30.0) -> None:
        """Create a client.

        Args:
            url: address of the server, such as http://127.0.0.1:8000.
            key: API key; empty if the server requires none.
            timeout: time limit of a request, seconds.

        Raises:
            UserError: the address is not one of HTTP.
        """
        if not url.startswith(("http://", "https://")):
            raise UserError(f"deploy: {url!r} is not the address of a server; write http://HOST:PORT")
        self.url, self.timeout = url.rstrip("/"), timeout
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def model(self) -> dict[str, Any]:
        """Return the description of the current model, see `describe_model`.

        Raises:
            ServerError: there is no response, or an error.
        """
        return json.loads(self._request("/v1/model"))

    def predict(self, data: bytes, deviation: Mapping[str, float], picture: bool = False) -> Response:
        """Predict an image file.

        Args:
            data: bytes of the file.
            deviation: standard deviation of each scalar, see `comparable_values`.
            picture: request the predicted image.

        Raises:
            ServerError: there is no response, or an error.
        """
        started = time.perf_counter()
        body = json.loads(self._request(f"/v1/predict{'?picture=true' if picture else ''}", data))
        seconds = time.perf_counter() - started
        pixels = read_picture(base64.b64decode(body["picture"].partition(",")[2])) if picture else None
        values = comparable_values(body["answer"], body["task"], (body["height"], body["width"]), deviation, pixels)
        return Response(values, body["model"]["digest"], seconds)

    def traffic(self) -> Traffic:
        """Return the counters of the server.

        Raises:
            ServerError: there is no response, or an error.
        """
        requests = errors = refused = 0.0
        for name, labels, value in SAMPLE.findall(self._request("/metrics").decode()):
            label = dict(LABEL.findall(labels))
            if name == "macula_reloads_total" and label.get("outcome") == "refused":
                refused += float(value)
            if name == "macula_requests_total" and any(part in label["route"] for part in PREDICTING):
                requests += float(value)
                errors += float(value) if int(label["status"]) >= SERVER_ERROR else 0.0
        return Traffic(requests, errors, refused)

    def _request(self, path: str, data: bytes | None = None) -> bytes:
        headers = self._headers | ({"Content-Type": "application/octet-stream"} if data is not None else {})
        request = urllib.request.Request(self.url + path, data, headers)  # noqa: S310 checked in __init__
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:  # noqa: S310
                return response.read()
        except HTTPError as error:
            with error:
                text = error.read(500).decode(errors="replace")
            advice = "; set MACULA_API_KEY" if error.code in (401, 403) else ""
            raise ServerError(f"{self.url}{path}: status {error.code}: {text}{advice}", error.code) from None
        except (OSError, HTTPException) as error:
            raise ServerError(f"{self.url}{path}: no response: {error}") from None
