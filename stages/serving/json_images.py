"""Images as base64 in JSON, which many HTTP clients send."""

import asyncio
import base64
import binascii
import json
import re
from typing import Any

from fastapi import Request

from stages.serving.http_errors import Refused
from stages.serving.memory_budget import PARSED, MemoryBudget

EXAMPLE = '{"image": "<base64 of the file>"}'
MANY_EXAMPLE = '{"images": ["<base64 of a file>", ...]}'
DATA_URI = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
BASE64 = re.compile(rb"\s*(data:[^,]{0,200},)?[A-Za-z0-9+/_=\s-]{16,}")
TESTED = 256  # first bytes of a body that are tested for JSON and base64
URL_SAFE = str.maketrans("-_", "+/")


async def read_json(request: Request, field: str, budget: MemoryBudget) -> Any:
    """Return the value of a field of a JSON request.

    Args:
        request: request of the media type application/json.
        field: `image` or `images`.
        budget: memory budget for the parsed JSON.

    Raises:
        Refused: 400, the body is not JSON or has no such field; 413, it exceeds the budget.
    """
    body = b"".join([chunk async for chunk in request.stream()])  # unlike `request.body`, which keeps it
    example = EXAMPLE if field == "image" else MANY_EXAMPLE
    async with budget.reserve(PARSED * len(body)):
        try:
            payload = await asyncio.to_thread(json.loads, body)
        except (ValueError, RecursionError) as error:
            raise Refused(
                400,
                f"the request is not valid JSON: {error}; send {example}, or the bytes of the file with the content "
                "type application/octet-stream",
            ) from None
    if not isinstance(payload, dict) or field not in payload:
        found = f"of type {type(payload).__name__}"
        if isinstance(payload, dict):
            found = f"an object with the fields {[name[:40] for name in payload][:5]}"
        raise Refused(400, f"the JSON is {found}; send {example}")
    return payload[field]


async def read_json_images(request: Request, budget: MemoryBudget, most: int) -> list[str]:
    """Return the values of the list `images` of a JSON request.

    Args:
        request: request of the media type application/json.
        budget: memory budget for the parsed JSON.
        most: maximum number of images.

    Raises:
        Refused: see `read_json`; or 400, it is not a list of text or is empty; 413, it has more images than `most`.
    """
    values = await read_json(request, "images", budget)
    if not isinstance(values, list) or not values:
        raise Refused(400, f"images: a list with at least one image is required; send {MANY_EXAMPLE}")
    if len(values) > most:
        raise Refused(413, f"images: {len(values)} images are above the limit of {most} per request")
    for number, value in enumerate(values, 1):
        if not isinstance(value, str):
            found = f"image {number} is of type {type(value).__name__}"
            raise Refused(400, f"images: base64 text is required, but {found}; send {MANY_EXAMPLE}")
    return values


def read_base64(value: Any, field: str) -> bytes:
    r"""Return the bytes of an image in base64: standard or URL-safe, with line breaks, or as a data URI.

    Args:
        value: value of the JSON.
        field: `image` or `images`, for the error message.

    Raises:
        Refused: 400, the value is not base64.

    >>> read_base64("data:image/png;base64,iVBO\nRw", "image")
    b'\x89PNG'
    """
    example = EXAMPLE if field == "image" else MANY_EXAMPLE
    if not isinstance(value, str):
        raise Refused(400, f"{field}: base64 text is required, not {type(value).__name__}; send {example}")
    prefix = DATA_URI.match(value)
    text = "".join(value[prefix.end() if prefix else 0 :].split()).rstrip("=").translate(URL_SAFE)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, f"{field}: the text is not valid base64 ({error}); send {example}") from None


def describe_text(body: bytes) -> str:
    """Return how to send an image instead of a body that is JSON or base64 with another content type; else ''.

    >>> describe_text(b'{"image": "iVBORw"}')
    'the body is JSON: send it with the content type application/json'
    """
    if body[:TESTED].lstrip()[:1] == b"{":
        return "the body is JSON: send it with the content type application/json"
    if BASE64.fullmatch(body[:TESTED]):
        return f"the body is base64: send the bytes of the file, or JSON (application/json): {EXAMPLE}"
    return ""
