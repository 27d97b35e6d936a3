"""What every request passes: the key, room inside, bytes, time; and the one line that is logged of it."""

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

from stages.images.decoder_logging import silence_decoders
from stages.serving.hot_reload import ModelHolder
from stages.serving.http_errors import Refused
from stages.serving.memory_budget import BODY, Room, Share
from stages.serving.metrics import Metrics
from stages.serving.settings import Settings

log = logging.getLogger("macula.serve")
OPEN = frozenset(("/", "/page.js", "/docs", "/docs.js", "/openapi.json", "/v2/health/live", "/v2/health/ready"))
"""Routes that need no key: pages ask for it and hold no secret, and probes know none."""
LEFT = 499
"""What log and figures say of a client that went away before it had sent all; nginx's number."""
FORMS = "python_multipart"
"""Logger that tells what it thinks of foreign bytes, as decoders do."""


class Gate:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, settings: Settings, key: str, holder: ModelHolder, bodies: Room, metrics: Metrics
    ) -> None:
        """`key`: what clients must show; empty: nothing. `bodies`: room for what they send."""
        self.app, self.settings, self.holder, self.bodies, self.metrics = app, settings, holder, bodies, metrics
        self.key = key.encode()
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        passing = Passing(receive, send, int(self.settings.megabytes * 1e6), _name(scope))
        counted = scope["method"] == "POST"
        body = Share(self.bodies)
        self.inside += counted
        self.metrics.inside.set(self.inside)
        try:
            self._refuse(scope, counted)
            async with asyncio.timeout(self.settings.seconds):
                if counted:
                    await body.take(BODY * passing.announced(scope))
                await self.app(scope, passing.receive, passing.send)
        except Refused as refused:
            await passing.refuse(refused)
        except TimeoutError:
            await passing.refuse(Refused(503, f"no answer within {self.settings.seconds:g} s; try again", self._soon()))
        except ClientDisconnect:
            passing.status = passing.status or LEFT
        except Exception:
            log.exception("failed", extra={"told": {"request": passing.name, "path": scope["path"]}})
            await passing.refuse(Refused(500, f"the server failed on request {passing.name}; its log says why"))
        finally:
            body.give_back()
            self.inside -= counted
            self.metrics.inside.set(self.inside)
            self._tell(scope, passing, time.perf_counter() - started)

    def _refuse(self, scope: Scope, counted: bool) -> None:
        if self.key and scope["path"] not in OPEN and not self._shown(dict(scope["headers"])):
            raise Refused(401, "a key is needed: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        if counted and self.inside > self.settings.queue:
            raise Refused(429, f"{self.settings.queue} requests are inside already; try again later", self._soon())

    def _shown(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        shown = bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(shown, self.key)

    def _soon(self) -> int:
        """Seconds until what is inside will have left."""
        batches = self.holder.now.batches
        return max(1, math.ceil(self.inside * batches.seconds_an_image))

    def _tell(self, scope: Scope, passing: "Passing", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.answered(route, passing.status, seconds)
        if route in OPEN and passing.status < 400:
            return  # probes come every few seconds
        told = {
            "request": passing.name,
            "method": scope["method"],
            "path": scope["path"],
            "status": passing.status,
            "ms": round(1000 * seconds, 2),
            "bytes": passing.bytes,
            "client": (scope.get("client") or ("",))[0],
        }
        log.info("request", extra={"told": told})


class Passing:
    """A request on its way: counts its bytes, knows whether its answer has begun."""

    def __init__(self, receive: Receive, send: Send, most: int, name: str) -> None:
        """`most`: bytes of a body."""
        self._receive, self._send, self.most, self.name = receive, send, most, name
        self.bytes, self.status = 0, 0

    def announced(self, scope: Scope) -> int:
        """Bytes of the body that may come: as its head says, and where that says nothing, as many as are allowed."""
        length = dict(scope["headers"]).get(b"content-length", b"")
        return min(int(length), self.most) if length.isdigit() else self.most

    async def receive(self) -> Message:
        """The next piece; raises `Refused` beyond the limit."""
        message = await self._receive()
        self.bytes += len(message.get("body", b""))
        if self.bytes > self.most:
            raise Refused(413, f"more than {self.most / 1e6:g} MB; send a smaller file, or fewer at once")
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the answer, with the request's name."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.name.encode())]
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Answer with an error; where the answer had begun, nothing can be said any more."""
        if self.status:
            return
        headers = [(b"content-type", b"application/json")]
        if refused.retry_after is not None:
            headers.append((b"retry-after", str(refused.retry_after).encode()))
        if refused.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        body = json.dumps({"error": refused.words}).encode()
        headers.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _name(scope: Scope) -> str:
    """The client's own name for the request, where it gave a plain one; else a new one."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    plain = 0 < len(given) <= 64 and given.isascii() and given.replace("-", "").replace("_", "").isalnum()
    return given if plain else uuid.uuid4().hex[:16]


class Lines(logging.Formatter):
    """A JSON object a line; of requests nothing but figures and addresses."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "told", {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def log_lines() -> None:
    """Log to standard error, and what uvicorn says too; what decoders think of an image is told to who sent it."""
    silence_decoders()
    logging.getLogger(FORMS).setLevel(logging.CRITICAL + 1)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in ("macula.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").disabled = True
