"""Draw random requests, most of them malformed or hostile, and send them, including bodies that never end."""

import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.serving import fuzz_images as files

Rng = np.random.Generator
TIMEOUT = 15.0
"""Seconds, after which a request counts as hanging."""
HANGS = "hangs"
CLOSED = "closed"
"""Outcome of a request: the server closed the connection without an HTTP response."""
LEFT = "left"
"""Outcome of a request whose client closed the connection."""


@dataclass(frozen=True)
class FuzzRequest:
    """Bytes of a request, and the way in which they are sent."""

    kind: str
    head: bytes
    body: bytes = b""
    leaves: bool = False
    """The client closes the connection after its last byte, without waiting for a response."""
    pause: float = 0.0
    """Seconds between the two halves of the body."""


def draw_request(rng: Rng, model: str) -> FuzzRequest:
    """Draw a random request; `model` is the name of the served model."""
    kind = list(KINDS)[rng.choice(len(KINDS), p=np.array([w for w, _ in KINDS.values()]) / TOTAL)]
    return KINDS[kind][1](rng, kind, model)


def send_request(request: FuzzRequest, host: str, port: int) -> str:
    """Send a request and return its outcome.

    Args:
        request: the request.
        host: host of the server.
        port: port of the server.

    Returns:
        The status of the response, or `CLOSED`, `LEFT` or `HANGS`.

    Raises:
        OSError: the server does not accept the connection, or does not receive the request within `TIMEOUT`.
    """
    deadline = time.monotonic() + TIMEOUT
    with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
        response = b""
        with contextlib.suppress(ConnectionError):  # the server may respond and close before it has read everything
            middle = len(request.body) // 2
            connection.sendall(request.head + request.body[:middle])
            time.sleep(request.pause)
            connection.sendall(request.body[middle:])
        if request.leaves:
            return LEFT
        with contextlib.suppress(ConnectionError, TimeoutError):
            while piece := connection.recv(1 << 16):
                response += piece[: 64 - len(response)]
                connection.settimeout(max(0.001, deadline - time.monotonic()))
    if time.monotonic() >= deadline:
        return HANGS
    return response.split()[1].decode() if response.startswith(b"HTTP/") else CLOSED


def _wire(path: str, body: bytes, *headers: str, method: str = "POST", length: int | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: here", "Connection: close", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _image(make: Callable[[Rng], bytes]) -> Callable[[Rng, str, str], FuzzRequest]:
    """Return a function that draws a request with images for one of the image routes."""

    def one(rng: Rng, kind: str, model: str) -> FuzzRequest:
        query = str(
            rng.choice(
                ["", "", "", "", "?drawing=true", "?drawing=maybe", "?picture=true", "?drawing=1&drawing=0&x=%00"]
            )
        )
        if rng.random() < 0.6:
            body = make(rng)
            return FuzzRequest(kind, _wire(f"/v1/predict{query}", body, "Content-Type: image/png"), body)
        path, field, count = (
            ("answers", "images", int(rng.integers(1, 5))) if rng.random() < 0.5 else ("answer", "image", 1)
        )
        body = _form([(field, f"{n}.png", make(rng)) for n in range(count)])
        return FuzzRequest(kind, _wire(f"/v1/{path}{query}", body, FORM), body)

    return one


FORM = "Content-Type: multipart/form-data; boundary=fuzz"


def _form(parts: list[tuple[str, str | None, bytes]], end: bytes = b"--fuzz--\r\n") -> bytes:
    body = b""
    for field, name, data in parts:
        filename = "" if name is None else f'; filename="{name}"'
        head = f'--fuzz\r\nContent-Disposition: form-data; name="{field}"{filename}\r\n\r\n'
        body += head.encode("latin-1", "replace") + data + b"\r\n"
    return body + end


def _forms(rng: Rng, kind: str, model: str) -> FuzzRequest:
    """Draw a form with too many, nameless or unknown parts, an unusual charset, or a damaged body, part or boundary."""
    image, one = files.whole(rng), str(rng.choice(["image", "images"]))
    charset = str(
        rng.choice(["utf-7", "undefined", "punycode", "utf-16", "idna", "hex", "rot13", "a\x80b", "x" * 5000])
    )
    kinds: list[tuple[str, bytes]] = [
        (FORM, _form([(one, "a.png", image)] * int(rng.integers(2, 200)))),
        (FORM, _form([(one, None, image)])),
        (FORM, _form([("other", "a.png", image), ("", "", b"")])),
        (FORM, _form([(one, "a.png", image)], b"")),
        (FORM, _form([(one, "a.png", image)])[: rng.integers(1, 200)]),
        (FORM, _form([(one, "\xff\xfe+2AA-" * int(rng.integers(1, 200)), image)])),
        (FORM, b"--fuzz\r\n" + b"X: " + b"y" * int(rng.integers(1, 200_000)) + b"\r\n\r\n"),
        (FORM, b"--fuzz\r\nContent-Disposition: form-data\r\n\r\nx\r\n--fuzz--\r\n"),
        (FORM, b"--fuzz\r\n\r\n" * int(rng.integers(1, 2000))),
        (FORM, rng.bytes(int(rng.integers(0, 3000)))),
        (FORM + f"; charset={charset}", _form([(one, "+2AA-\xff", image)])),
        (FORM.replace("fuzz", ""), _form([(one, "a.png", image)])),
        (FORM.replace("; boundary=fuzz", ""), _form([(one, "a.png", image)])),
        (FORM.replace("fuzz", "f" * 300), image),
        ("Content-Type: multipart/form-data;;;=;\"", image),
        ("Content-Type: application/x-www-form-urlencoded", b"images=" + image),
    ]  # fmt: skip
    header, body = kinds[rng.integers(len(kinds))]
    path = str(rng.choice(["/v1/predict", "/v1/predict-many", "/v1/predict-many?drawing=true"]))
    return FuzzRequest(kind, _wire(path, body, header), body)


def _tensor(rng: Rng, kind: str, model: str) -> FuzzRequest:
    """Draw a request of the Open Inference Protocol, usually with wrong values or lengths."""
    shape = [int(rng.integers(1, 3)), int(rng.integers(1, 9)), int(rng.integers(1, 9)), 3]
    pixels = rng.integers(0, 256, shape).astype(np.uint8)
    given: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": shape, "data": pixels.tolist()}
    strange: list[Any] = [
        None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**400, "", "\ud800",
        "x" * 3000, [], {}, [[]], [None], [1, [2, 3]], [1e400] * 3, {"binary_data_size": -1},
        {"binary_data_size": 2**70}, [2**31, 2**31, 2, 3],
        [0, 0, 0, 3], [1, 1, 1, 3.0], [-1, -1, 1, 3], [64, 1, 1, 3], [65, 1, 1, 3], [1, 50_000_000, 1, 3],
    ]  # fmt: skip
    message: dict[str, Any] = {"id": "1", "inputs": [given]}
    headers, tail = [], b""
    if rng.random() < 0.5:
        del given["data"]
        given["parameters"] = {"binary_data_size": pixels.nbytes + int(rng.choice([0, 0, 0, 1, -1, 2**31]))}
        tail = pixels.tobytes() + bytes(int(rng.choice([0, 0, 0, 5])))
    for _ in range(int(rng.integers(0, 3))):
        place = [given, message, given.get("parameters")][rng.integers(3)]
        place = place if isinstance(place, dict) else given
        keys = [*place, "outputs", "parameters", "binary_data_output"]
        place[keys[rng.integers(len(keys))]] = strange[rng.integers(len(strange))]
    if rng.random() < 0.3:
        message["outputs"] = [
            {"name": str(rng.choice(["probability", "nothing"])), "parameters": {"binary_data": True}}
        ]
    head = json.dumps(message).encode()
    if rng.random() < 0.2:
        head = head[: rng.integers(0, len(head))] if rng.random() < 0.5 else rng.bytes(40) + head
    if tail:
        wrong = ["-1", "9" * 5000, "1e3", "\xb2", "", str(len(head) + 10**6), str(len(head) - 1)]
        length = str(len(head)) if rng.random() < 0.7 else wrong[rng.integers(len(wrong))]
        headers.append(f"Inference-Header-Content-Length: {length}")
    name = model if rng.random() < 0.9 else str(rng.choice(["nothing", "%00", "..%2f..", "%ff%fe", "a" * 9000]))
    return FuzzRequest(kind, _wire(f"/v2/models/{name}/infer", head + tail, *headers), head + tail)


def _deep(rng: Rng, kind: str, model: str) -> FuzzRequest:
    """Draw a request with JSON that is deeply nested, long, or full of digits."""
    many = int(rng.integers(1, 200_000))
    one = b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": '
    kinds = (
        b"[" * many,
        b'{"inputs":' * many,
        b"1" * many,
        b"[" + b"{}," * many + b"{}]",
        b'"' + b"\\u0000" * many + b'"',
        one + b"[" * (many % 900) + b"1" + b"]" * (many % 900) + b"}]}",
    )
    body = kinds[rng.integers(len(kinds))]
    return FuzzRequest(kind, _wire(f"/v2/models/{model}/infer", body, "Content-Type: application/json"), body)


def _malformed(rng: Rng, kind: str, model: str) -> FuzzRequest:
    """Draw a request in malformed or unusual HTTP, or bytes that are not HTTP."""
    image, path = (
        files.whole(rng),
        str(rng.choice(["/v1/predict", "/v1/predict-many", "/v1/model", "/", "/metrics", "*"])),
    )
    pieces = b"%x\r\n" % len(image) + image + b"\r\n0\r\n\r\n"
    chunked = _wire(path, b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    method = str(
        rng.choice(["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "PATCH", "CONNECT", "PROPFIND", "ODD"])
    )
    kinds: list[tuple[bytes, bytes]] = [
        (_wire(path, image, method=method), image),
        (_wire(path, image, length=max(0, len(image) - int(rng.integers(1, 99)))), image),
        (_wire(path, image, f"Content-Length: {len(image)}"), image),
        (_wire(path, image, length=-1), image),
        (_wire(path, image, "Transfer-Encoding: chunked"), pieces),
        (chunked, pieces),
        (chunked, b"fffffffffffffffff\r\n" + image),
        (chunked, b"-1\r\n" + image),
        (_wire(path, b"", "Upgrade: websocket", method="GET").replace(b"close", b"Upgrade"), b""),
        (_wire("/" + "a" * int(rng.integers(1, 80_000)), b"", method="GET"), b""),
        (_wire("/v1/predict?drawing=" + "%ff" * 300 + "&" * 300, image), image),
        (_wire("/\xff\xfe/%00/..//%2e%2e", b"", method="GET"), b""),
        (_wire(path, image, "X-Request-ID: \xff\xfe{}", "X-API-Key: \xff", "Authorization: Bearer"), image),
        (_wire(path, image, *(f"X-{n}: {'y' * 90}" for n in range(int(rng.integers(1, 900))))), image),
        (_wire(path, image, "Content-Type: \xff/\xff", "Accept-Encoding: gzip;q=nan", "Range: bytes=9-1"), image),
        (_wire(path, image).replace(b"HTTP/1.1", b"HTTP/9.9"), image),
        (rng.bytes(int(rng.integers(1, 2000))), b"\r\n\r\n"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + rng.bytes(60), b""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
    ]  # fmt: skip
    head, body = kinds[rng.integers(len(kinds))]
    return FuzzRequest(kind, head, body)


def _leaving(rng: Rng, kind: str, model: str) -> FuzzRequest:
    """Draw a request whose client closes the connection within the head, within the body, or before the response."""
    image = files.whole(rng) * int(rng.choice([1, 1, 900]))
    whole = _wire("/v1/predict", image) if rng.random() < 0.5 else _wire("/v1/predict-many", image, FORM)
    if rng.random() < 0.3:
        return FuzzRequest(kind, whole[: rng.integers(1, len(whole))], leaves=True)
    return FuzzRequest(kind, whole, image[: rng.integers(0, len(image) + 1)], leaves=True)


def _slow(rng: Rng, kind: str, model: str) -> FuzzRequest:
    """Draw a request whose body is sent in two halves, or whose body or head is never completed."""
    image = files.whole(rng)
    whole = _wire("/v1/predict", image)
    short = _wire("/v1/predict", image, length=len(image) + int(rng.integers(1, 10**6)))
    kinds = (FuzzRequest(kind, whole, image, pause=0.5), FuzzRequest(kind, short, image), FuzzRequest(kind, whole[:-3]))
    return kinds[rng.integers(len(kinds))]


def _large(rng: Rng, kind: str, model: str) -> FuzzRequest:
    """Draw a request with more bytes than are allowed, in one body or one part."""
    body = bytes(int(rng.choice([31_000_000, 40_000_000])))
    if rng.random() < 0.5:
        body = _form([("images", "a.png", body)])
        return FuzzRequest(kind, _wire("/v1/predict-many", body, FORM), body)
    path = str(rng.choice(["/v1/predict", f"/v2/models/{model}/infer"]))
    return FuzzRequest(kind, _wire(path, body), body)


KINDS: dict[str, tuple[float, Callable[[Rng, str, str], FuzzRequest]]] = {
    "whole images": (8, _image(files.whole)),
    "bits flipped": (22, _image(files.flipped)),
    "truncated": (10, _image(files.truncated)),
    "spliced": (8, _image(files.spliced)),
    "odd images": (10, _image(files.odd)),
    "bombs": (6, _image(files.bomb)),
    "not images": (6, _image(files.not_an_image)),
    "forms": (8, _forms),
    "tensors": (12, _tensor),
    "deep JSON": (1, _deep),
    "wire": (6, _malformed),
    "left": (3, _leaving),
    "slow": (0.3, _slow),
    "large": (0.2, _large),
}
"""Weight of each kind of request, and the function that draws one."""
TOTAL = sum(weight for weight, _ in KINDS.values())
