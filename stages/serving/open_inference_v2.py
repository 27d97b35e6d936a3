"""The Open Inference Protocol (v2), JSON and binary tensors, so that existing clients work.

https://github.com/open-inference/open-inference-protocol; the binary tensors are Triton's extension of it.
The one input is the batch of pixels, the outputs are those of the graph.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from stages.runtime.engines import INPUT
from stages.serving.hot_reload import Deployed, ModelHolder
from stages.serving.http_errors import Refused
from stages.serving.memory_budget import Room, bytes_a_pixel
from stages.serving.schemas import FAILURES, body_of, tensors
from stages.serving.settings import Settings
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
HEADER = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data"]
PARSED = 32  # bytes that JSON takes for each of its own, where it holds little but brackets
MOST_LISTED = 2**20  # values of an output as JSON: some 90 MB while they are written down
TYPES = {"uint8": "UINT8", "uint16": "UINT16", "float32": "FP32", "int64": "INT64"}


def add(app: FastAPI, holder: ModelHolder, room: Room, settings: Settings) -> None:
    """Add its routes to a server."""

    async def named(name: str) -> Deployed:
        if name != holder.now.name:
            raise Refused(404, f"there is no model {name!r}; this server has {holder.now.name!r}")
        return holder.now

    async def exact(name: str, version: str) -> Deployed:
        deployed = await named(name)
        if version != deployed.digest:
            raise Refused(404, f"there is no version {version!r} of {name!r}; this server has {deployed.digest!r}")
        return deployed

    @app.get("/v2")
    async def server() -> JSONResponse:
        """What this server is."""
        return JSONResponse({"name": "macula", "version": "1", "extensions": EXTENSIONS})

    @app.get("/v2/health/live")
    async def live() -> JSONResponse:
        """It runs."""
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        """It has a model; before that it does not listen."""
        return JSONResponse({"ready": True})

    spec = holder.now.model.spec
    body = body_of({"application/json": tensors(spec.channels, kind_of(spec))})
    _add_model(app, "/v2/models/{name}", named, room, body, settings)
    _add_model(app, "/v2/models/{name}/versions/{version}", exact, room, body, settings)


def _add_model(
    app: FastAPI,
    path: str,
    found: Callable[..., Awaitable[Deployed]],
    room: Room,
    kinds: dict[str, Any],
    settings: Settings,
) -> None:
    """Routes of a model; `found` gives the one that the path names, or refuses."""

    @app.get(f"{path}/ready", responses=FAILURES)
    async def ready(deployed: Annotated[Deployed, Depends(found)]) -> JSONResponse:
        """The model of that name answers."""
        return JSONResponse({"name": deployed.name, "ready": True})

    @app.get(path, responses=FAILURES)
    async def model(deployed: Annotated[Deployed, Depends(found)]) -> JSONResponse:
        """Its inputs and outputs."""
        return JSONResponse(described(deployed))

    @app.post(f"{path}/infer", responses=FAILURES, openapi_extra=kinds)
    async def infer(request: Request, deployed: Annotated[Deployed, Depends(found)]) -> Response:
        """The graph's outputs for a batch of pixels."""
        with deployed.used():
            body, header = await request.body(), request.headers.get(HEADER)
            length = _length(header, len(body))
            async with room.taken(PARSED * length):
                asked, image_NHWC = await asyncio.to_thread(read_request, body, length, deployed, settings)
            loop = asyncio.get_running_loop()
            async with room.taken(image_NHWC[..., 0].size * bytes_a_pixel(deployed.model.spec)):
                outputs = await loop.run_in_executor(deployed.batches.pool, _ran, deployed, image_NHWC)
                return await asyncio.to_thread(write_response, asked, outputs, deployed)


def kind_of(spec: TaskSpec) -> str:
    """The protocol's name for the type of pixels."""
    return "UINT16" if spec.depth == 16 else "UINT8"


def described(deployed: Deployed) -> dict[str, Any]:
    """Name, versions, inputs and outputs, as the protocol has them."""
    inputs, outputs = deployed.model.signature
    return {
        "name": deployed.name,
        "versions": [deployed.digest],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": n, "datatype": TYPES[d], "shape": s} for n, d, s in inputs],
        "outputs": [{"name": n, "datatype": TYPES[d], "shape": s} for n, d, s in outputs],
    }


def read_request(body: bytes, length: int, deployed: Deployed, settings: Settings) -> tuple[dict[str, Any], Array]:
    """What is asked, by the JSON of so many bytes, and the pixels [N, H, W, C].

    Raises:
        Refused: 400, the request is not as the protocol has it; 413, too many images or pixels.
    """
    try:
        asked = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the request is no JSON: {error}") from None
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, "inputs: a list of the one input is needed")
    (given,) = inputs
    kind = kind_of(deployed.model.spec)
    if given.get("name") != INPUT or given.get("datatype") != kind:
        raise Refused(
            400,
            f"inputs: {INPUT!r} of datatype {kind} is needed, not {given.get('name')!r} of {given.get('datatype')!r}",
        )
    shape = _shape(given.get("shape"), deployed, settings)
    dtype = np.dtype(np.uint16 if kind == "UINT16" else np.uint8)
    size = _parameters(given).get("binary_data_size")
    if size is not None:
        if size != len(body) - length or size != int(np.prod(shape)) * dtype.itemsize:
            raise Refused(
                400, f"binary_data_size: {size!r}, but {len(body) - length} bytes came for shape {list(shape)}"
            )
        return asked, np.frombuffer(body, dtype.newbyteorder("<"), offset=length).astype(dtype, copy=False).reshape(
            shape
        )
    return asked, _values(given.pop("data", None), shape, dtype)


def _length(header: str | None, most: int) -> int:
    if header is None:
        return most
    digits = (
        header.isascii() and header.isdigit() and len(header) <= len(str(most))
    )  # int() raises on thousands of them
    if not digits or int(header) > most:
        raise Refused(400, f"{HEADER}: {header[:40]!r} is no length of a header in {most} bytes")
    return int(header)


def _shape(shape: Any, deployed: Deployed, settings: Settings) -> tuple[int, int, int, int]:
    channels = deployed.model.spec.channels
    whole = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if not whole or len(shape) != 4 or shape[3] != channels:
        raise Refused(400, f"shape: [N, H, W, {channels}] is needed, each at least 1, not {shape!r}")
    if shape[0] > settings.images:
        raise Refused(413, f"shape: {shape[0]} images; at most {settings.images} at once")
    if shape[1] * shape[2] > settings.megapixels * 1e6:
        raise Refused(413, f"shape: {shape[1]}x{shape[2]} is above {settings.megapixels:g} megapixels")
    return tuple(shape)


def _values(data: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError):
        values = np.asarray(None)
    if values.dtype.kind not in "iu" or values.size != np.prod(shape):
        raise Refused(400, f"data: {int(np.prod(shape))} whole numbers are needed for shape {list(shape)}")
    if values.min() < 0 or values.max() > np.iinfo(dtype).max:
        raise Refused(
            400, f"data: values from {values.min()} to {values.max()}; 0 to {np.iinfo(dtype).max} are possible"
        )
    return values.astype(dtype).reshape(shape)


def _ran(deployed: Deployed, image_NHWC: Array) -> dict[str, Array]:
    model = deployed.model
    if model.batches:
        return model.run(list(image_NHWC))
    if len(image_NHWC) > 1:
        raise Refused(400, "this model takes one image a call")
    outputs = model.outputs(image_NHWC[0])
    return {
        name: outputs[name] if model.spec.representation == "boxes" else outputs[name][None] for name in model.names
    }


def write_response(asked: dict[str, Any], outputs: dict[str, Array], deployed: Deployed) -> Response:
    """The outputs that are asked for, all where none is named; as JSON or behind it.

    Raises:
        Refused: 400, there is no such output, or JSON would have to hold too much of it.
    """
    wanted = _wanted(asked, outputs)
    told, tail = [], b""
    for name, binary in wanted.items():
        values = np.ascontiguousarray(outputs[name])
        one: dict[str, Any] = {"name": name, "datatype": TYPES[values.dtype.name], "shape": list(values.shape)}
        if binary:
            tail += values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
            one["parameters"] = {"binary_data_size": values.nbytes}
        else:
            if values.size > MOST_LISTED:
                raise Refused(
                    400,
                    f"outputs: {name} has {values.size} values; above {MOST_LISTED} ask for it as binary, "
                    'with "parameters": {"binary_data": true}, or send a smaller image',
                )
            one["data"] = values.ravel().tolist()
        told.append(one)
    head: dict[str, Any] = {"model_name": deployed.name, "model_version": deployed.digest, "outputs": told}
    if isinstance(asked.get("id"), str):
        head["id"] = asked["id"]
    data = json.dumps(head).encode()
    if not tail:
        return Response(data, media_type="application/json")
    return Response(data + tail, media_type="application/octet-stream", headers={HEADER: str(len(data))})


def _wanted(asked: dict[str, Any], outputs: dict[str, Array]) -> dict[str, bool]:
    """Name: whether it is to be binary."""
    binary = _parameters(asked).get("binary_data_output") is True
    named = asked.get("outputs")
    if not named:
        return dict.fromkeys(outputs, binary)
    wanted = {}
    for one in named if isinstance(named, list) else [named]:
        name = one.get("name") if isinstance(one, dict) else one
        if not isinstance(name, str) or name not in outputs:
            raise Refused(400, f"outputs: there is no {name!r}; this model has {', '.join(outputs)}")
        wanted[name] = _parameters(one).get("binary_data", binary) is True
    return wanted


def _parameters(thing: Any) -> dict[str, Any]:
    found = thing.get("parameters") if isinstance(thing, dict) else None
    return found if isinstance(found, dict) else {}
