"""Admission middleware: API key, queue length, body size, memory and time limit of each request, and its log line."""

import asyncio
import hmac
import json
import logging
import math
import sys
import time
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.core.plurals import quantity
from stages.images.decoder_logging import silence_decoders
from stages.serving.hot_reload import ModelHolder
from stages.serving.http_errors import Refused
from stages.serving.memory_budget import BODY, MemoryBudget, Reservation
from stages.serving.metrics import Metrics
from stages.serving.settings import Settings

log = logging.getLogger("macula.serve")
OPEN = frozenset(("/", "/page.js", "/docs", "/docs.js", "/openapi.json", "/v2/health/live", "/v2/health/ready"))
"""Routes that require no key: pages without secrets, and health probes."""
CLIENT_CLOSED = 499
"""Logged status of a request whose client disconnected before it was complete, as in nginx."""
FORM_PARSER = "python_multipart"
"""Logger of the form parser, which reports malformed forms of clients."""


class AdmissionMiddleware:
    """ASGI middleware that admits, limits and logs requests."""

    def __init__(
        self, app: ASGIApp, settings: Settings, key: str, holder: ModelHolder, bodies: MemoryBudget, metrics: Metrics
    ) -> None:
        """Wrap an ASGI application.

        Args:
            app: application.
            settings: limits of requests.
            key: API key that clients must send; empty if none is required.
            holder: current model.
            bodies: memory budget of request bodies.
            metrics: Prometheus metrics.
        """
        self.app, self.settings, self.holder, self.bodies, self.metrics = app, settings, holder, bodies, metrics
        self.key = key.encode()
        self.admitted = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        state = RequestState(receive, send, int(self.settings.megabytes * 1e6), _name(scope), scope["method"])
        counted = scope["method"] == "POST"
        if scope["method"] == "HEAD":  # uvicorn, which keeps the original scope, omits the body
            scope = {**scope, "method": "GET"}
        body = Reservation(self.bodies)
        self.admitted += counted
        self.metrics.inside.set(self.admitted)
        try:
            self._check(scope, counted)
            async with asyncio.timeout(self.settings.seconds):
                if counted:
                    await body.acquire(BODY * state.announced(scope))
                await self.app(scope, state.receive, state.send)
        except Refused as refused:
            await state.refuse(refused)
        except TimeoutError:
            await state.refuse(
                Refused(503, f"no response within {self.settings.seconds:g} s; try again", self._retry_after())
            )
        except ClientDisconnect:
            state.status = state.status or CLIENT_CLOSED
        except Exception:
            log.exception("failed", extra={"fields": {"request": state.name, "path": scope["path"]}})
            await state.refuse(Refused(500, f"internal error in request {state.name}; see the log of the server"))
        finally:
            body.release()
            self.admitted -= counted
            self.metrics.inside.set(self.admitted)
            self._log(scope, state, time.perf_counter() - started)

    def _check(self, scope: Scope, counted: bool) -> None:
        if self.key and scope["path"] not in OPEN and not self._is_authorized(dict(scope["headers"])):
            raise Refused(401, "an API key is required: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        if counted and self.admitted > self.settings.queue:
            limit = quantity(self.settings.queue, "request")
            raise Refused(429, f"the queue is full ({limit}); try again later", self._retry_after())

    def _is_authorized(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        shown = bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(shown, self.key)

    def _retry_after(self) -> int:
        """Return the expected time until the admitted requests are complete, seconds; at least 1."""
        batches = self.holder.now.batches
        return max(1, math.ceil(self.admitted * batches.seconds_per_image))

    def _log(self, scope: Scope, state: "RequestState", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.record_request(route, state.status, seconds)
        if route in OPEN and state.status < 400:
            return  # probes arrive every few seconds
        fields = {
            "request": state.name,
            "method": state.method,
            "path": scope["path"],
            "status": state.status,
            "ms": round(1000 * seconds, 2),
            "bytes": state.bytes,
            "client": (scope.get("client") or ("",))[0],
        }
        log.info("request", extra={"fields": fields})


class RequestState:
    """State of a request: its bytes so far, and whether its response has started."""

    def __init__(self, receive: Receive, send: Send, most: int, name: str, method: str) -> None:
        """Create the state of a new request.

        Args:
            receive: ASGI receive function.
            send: ASGI send function.
            most: maximum size of the body, bytes.
            name: id of the request.
            method: HTTP method.
        """
        self._receive, self._send, self.most = receive, send, most
        self.name, self.method = name, method
        self.bytes, self.status = 0, 0

    def announced(self, scope: Scope) -> int:
        """Return the size of the body in bytes: its Content-Length, or the maximum if that is missing or larger."""
        length = dict(scope["headers"]).get(b"content-length", b"")
        return min(int(length), self.most) if length.isdigit() else self.most

    async def receive(self) -> Message:
        """Return the next message of the body.

        Raises:
            Refused: the body is too large.
        """
        message = await self._receive()
        self.bytes += len(message.get("body", b""))
        if self.bytes > self.most:
            raise Refused(413, f"the request has more than {self.most / 1e6:g} MB; send a smaller file, or fewer files")
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the id of the request."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.name.encode())]
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Send an error response, unless the response has already started."""
        if self.status:
            return
        headers = [(b"content-type", b"application/json")]
        if refused.retry_after is not None:
            headers.append((b"retry-after", str(refused.retry_after).encode()))
        if refused.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        body = json.dumps({"error": refused.message}).encode()
        headers.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _name(scope: Scope) -> str:
    """Return the X-Request-Id of the client if it is valid, else a new id."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    plain = 0 < len(given) <= 64 and given.isascii() and given.replace("-", "").replace("_", "").isalnum()
    return given if plain else uuid.uuid4().hex[:16]


class JsonFormatter(logging.Formatter):
    """Log formatter with one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        fields: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def configure_logging() -> None:
    """Log to standard error as JSON lines, including uvicorn; silence the parsers of images and forms."""
    silence_decoders()
    logging.getLogger(FORM_PARSER).setLevel(logging.CRITICAL + 1)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("macula.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").disabled = True
