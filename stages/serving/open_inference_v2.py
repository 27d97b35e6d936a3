"""Open Inference Protocol (v2) with JSON and binary tensors, for existing clients.

https://github.com/open-inference/open-inference-protocol; binary tensors are an extension by Triton.
The input is a batch of pixels; the outputs are those of the graph.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from stages.core.plurals import quantity
from stages.core.shapes import Array, Integer
from stages.runtime.engines import INPUT
from stages.serving.hot_reload import LoadedModel, ModelHolder
from stages.serving.http_errors import Refused
from stages.serving.memory_budget import PARSED, MemoryBudget, bytes_per_pixel
from stages.serving.schemas import FAILURES, request_body, tensor_schema
from stages.serving.settings import Settings
from stages.tasks.task_spec import TaskSpec

HEADER = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data"]
MAX_SHOWN = 80  # characters of a value in a message
MAX_JSON_VALUES = 2**20  # of an output; encoding them requires about 90 MB
TYPES = {"uint8": "UINT8", "uint16": "UINT16", "float32": "FP32", "int64": "INT64"}


def add_routes(app: FastAPI, holder: ModelHolder, budget: MemoryBudget, settings: Settings) -> None:
    """Add the routes of the protocol to an application.

    Args:
        app: application.
        holder: current model.
        budget: memory budget of pixels.
        settings: limits of requests.
    """

    async def named(name: str) -> LoadedModel:
        if name != holder.now.name:
            raise Refused(404, f"unknown model {name!r}; this server has {holder.now.name!r}")
        return holder.now

    async def exact(name: str, version: str) -> LoadedModel:
        deployed = await named(name)
        if version != deployed.digest:
            raise Refused(404, f"unknown version {version!r} of {name!r}; this server has {deployed.digest!r}")
        return deployed

    @app.get("/v2")
    async def server() -> JSONResponse:
        """Return the name and extensions of the server."""
        return JSONResponse({"name": "macula", "version": "1", "extensions": EXTENSIONS})

    @app.get("/v2/health/live")
    async def live() -> JSONResponse:
        """Report that the server is running."""
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        """Report that the model is loaded; before that, the server does not listen."""
        return JSONResponse({"ready": True})

    spec = holder.now.model.spec
    body = request_body({"application/json": tensor_schema(spec.channels, datatype_of(spec))})
    _add_model(app, "/v2/models/{name}", named, budget, body, settings)
    _add_model(app, "/v2/models/{name}/versions/{version}", exact, budget, body, settings)


def _add_model(
    app: FastAPI,
    path: str,
    find_model: Callable[..., Awaitable[LoadedModel]],
    budget: MemoryBudget,
    body_schema: dict[str, Any],
    settings: Settings,
) -> None:
    """Add the routes of a model.

    Args:
        app: application.
        path: path of the model.
        find_model: returns the model of the path, or raises `Refused`.
        budget: memory budget of pixels.
        body_schema: OpenAPI schema of the request body.
        settings: limits of requests.
    """

    @app.get(f"{path}/ready", responses=FAILURES)
    async def ready(deployed: Annotated[LoadedModel, Depends(find_model)]) -> JSONResponse:
        """Report that the model is ready."""
        return JSONResponse({"name": deployed.name, "ready": True})

    @app.get(path, responses=FAILURES)
    async def model(deployed: Annotated[LoadedModel, Depends(find_model)]) -> JSONResponse:
        """Return the inputs and outputs of the model."""
        return JSONResponse(describe_signature(deployed))

    @app.post(f"{path}/infer", responses=FAILURES, openapi_extra=body_schema)
    async def infer(request: Request, deployed: Annotated[LoadedModel, Depends(find_model)]) -> Response:
        """Return the outputs of the graph for a batch of pixels."""
        with deployed.used():
            body, header = await request.body(), request.headers.get(HEADER)
            length = _length(header, len(body))
            async with budget.reserve(PARSED * length):
                payload, image_NHWC = await asyncio.to_thread(read_request, body, length, deployed, settings)
            loop = asyncio.get_running_loop()
            async with budget.reserve(image_NHWC[..., 0].size * bytes_per_pixel(deployed.model.spec)):
                outputs = await loop.run_in_executor(deployed.batches.pool, _run_graph, deployed, image_NHWC)
                return await asyncio.to_thread(write_response, payload, outputs, deployed)


def datatype_of(spec: TaskSpec) -> str:
    """Return the datatype of pixels in the protocol."""
    return "UINT16" if spec.depth == 16 else "UINT8"


def describe_signature(deployed: LoadedModel) -> dict[str, Any]:
    """Return name, versions, platform, inputs and outputs of the model in the format of the protocol."""
    inputs, outputs = deployed.model.signature
    return {
        "name": deployed.name,
        "versions": [deployed.digest],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": n, "datatype": TYPES[d], "shape": s} for n, d, s in inputs],
        "outputs": [{"name": n, "datatype": TYPES[d], "shape": s} for n, d, s in outputs],
    }


def read_request(
    body: bytes, length: int, deployed: LoadedModel, settings: Settings
) -> tuple[dict[str, Any], Integer[Array, "N H W C"]]:
    """Parse a request into its JSON and its pixels.

    Args:
        body: body of the request.
        length: length of the JSON at the start of the body, bytes; binary data follow.
        deployed: loaded model.
        settings: limits of requests.

    Raises:
        Refused: 400, malformed request; 413, too many images or pixels.
    """
    try:
        payload = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the request is not valid JSON: {error}") from None
    inputs = payload.get("inputs") if isinstance(payload, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, "inputs: a list with exactly one input is required")
    (tensor,) = inputs
    kind = datatype_of(deployed.model.spec)
    for key, required in (("name", INPUT), ("datatype", kind)):
        if tensor.get(key) != required:
            raise Refused(400, f"inputs: {key} is {_shown(tensor, key)}; {required!r} is required")
    shape = _shape(tensor, deployed, settings)
    dtype = np.dtype(np.uint16 if kind == "UINT16" else np.uint8)
    size = _parameters(tensor).get("binary_data_size")
    if size is not None:
        needed, received = int(np.prod(shape)) * dtype.itemsize, len(body) - length
        if size != received or size != needed:
            raise Refused(
                400,
                f"inputs: binary_data_size is {str(size)[:MAX_SHOWN]}, shape {list(shape)} requires "
                f"{quantity(needed, 'byte')}, and the body contains {quantity(received, 'byte')} after the JSON; all "
                "three must be equal",
            )
        return payload, np.frombuffer(body, dtype.newbyteorder("<"), offset=length).astype(dtype, copy=False).reshape(
            shape
        )
    return payload, _values(tensor.pop("data", None), shape, dtype)


def _length(header: str | None, most: int) -> int:
    if header is None:
        return most
    digits = (
        header.isascii() and header.isdigit() and len(header) <= len(str(most))
    )  # int() raises for thousands of digits
    if not digits or int(header) > most:
        raise Refused(400, f"{HEADER}: {header[:40]!r} is not a valid length; an integer up to {most} is required")
    return int(header)


def _shown(values: dict[str, Any], key: str) -> str:
    """Return a value of the request for a message, truncated; `missing` if there is none."""
    return repr(values[key])[:MAX_SHOWN] if key in values else "missing"


def _shape(tensor: dict[str, Any], deployed: LoadedModel, settings: Settings) -> tuple[int, int, int, int]:
    shape: Any = tensor.get("shape")
    channels = deployed.model.spec.channels
    whole = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if not whole or len(shape) != 4 or shape[3] != channels:
        raise Refused(
            400,
            f"inputs: shape is {_shown(tensor, 'shape')}; [N, H, W, {channels}] is required, with integers of at least "
            "1",
        )
    if shape[0] > settings.images:
        raise Refused(413, f"inputs: shape: {shape[0]} images are above the limit of {settings.images} per request")
    if shape[1] * shape[2] > settings.megapixels * 1e6:
        raise Refused(
            413,
            f"inputs: shape: {shape[2]}x{shape[1]} pixels are above the limit of {settings.megapixels:g} megapixels",
        )
    return tuple(shape)


def _values(data: Any, shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Integer[Array, "N H W C"]:
    required = f"shape {list(shape)} requires {quantity(int(np.prod(shape)), 'integer')}"
    if data is None:
        raise Refused(400, f"inputs: data is missing; {required}, or binary data with the parameter binary_data_size")
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError):
        raise Refused(
            400, f"inputs: data is nested unevenly or contains a number that is too large; {required}"
        ) from None
    if values.size != np.prod(shape):
        raise Refused(400, f"inputs: data has {quantity(values.size, 'value')}, but {required}")
    if values.dtype.kind not in "iu":
        raise Refused(400, f"inputs: data contains values that are not integers, but {required}")
    if values.min() < 0 or values.max() > np.iinfo(dtype).max:
        raise Refused(
            400,
            f"inputs: data has values from {values.min()} to {values.max()}; the range is 0 to {np.iinfo(dtype).max}",
        )
    return values.astype(dtype).reshape(shape)


def _run_graph(deployed: LoadedModel, image_NHWC: Integer[Array, "N H W C"]) -> dict[str, Array]:
    model = deployed.model
    if model.batches:
        return model.run(list(image_NHWC))
    if len(image_NHWC) > 1:
        raise Refused(400, "this model accepts one image per request; send the images separately")
    outputs = model.outputs(image_NHWC[0])
    return {
        name: outputs[name] if model.spec.representation == "boxes" else outputs[name][None] for name in model.names
    }


def write_response(payload: dict[str, Any], outputs: dict[str, Array], deployed: LoadedModel) -> Response:
    """Return the requested outputs, by default all, as JSON or as binary data after the JSON.

    Args:
        payload: JSON of the request.
        outputs: outputs of the graph.
        deployed: loaded model.

    Raises:
        Refused: 400, unknown output, or too many values for JSON.
    """
    requested = _requested_outputs(payload, outputs)
    described, tail = [], b""
    for name, binary in requested.items():
        values = np.ascontiguousarray(outputs[name])
        tensor: dict[str, Any] = {"name": name, "datatype": TYPES[values.dtype.name], "shape": list(values.shape)}
        if binary:
            tail += values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
            tensor["parameters"] = {"binary_data_size": values.nbytes}
        else:
            if values.size > MAX_JSON_VALUES:
                raise Refused(
                    400,
                    f"outputs: {name} has {values.size:,} values; request more than {MAX_JSON_VALUES:,} as binary "
                    'data, with "parameters": {"binary_data": true}, or send a smaller image',
                )
            tensor["data"] = values.ravel().tolist()
        described.append(tensor)
    head: dict[str, Any] = {"model_name": deployed.name, "model_version": deployed.digest, "outputs": described}
    if isinstance(payload.get("id"), str):
        head["id"] = payload["id"]
    data = json.dumps(head).encode()
    if not tail:
        return Response(data, media_type="application/json")
    return Response(data + tail, media_type="application/octet-stream", headers={HEADER: str(len(data))})


def _requested_outputs(payload: dict[str, Any], outputs: dict[str, Array]) -> dict[str, bool]:
    """Return the requested outputs, and whether each is binary."""
    binary = _parameters(payload).get("binary_data_output") is True
    named = payload.get("outputs")
    if not named:
        return dict.fromkeys(outputs, binary)
    requested = {}
    for output in named if isinstance(named, list) else [named]:
        name = output.get("name") if isinstance(output, dict) else output
        if not isinstance(name, str) or name not in outputs:
            raise Refused(400, f"outputs: unknown output {name!r}; this model has {', '.join(outputs)}")
        requested[name] = _parameters(output).get("binary_data", binary) is True
    return requested


def _parameters(value: Any) -> dict[str, Any]:
    parameters = value.get("parameters") if isinstance(value, dict) else None
    return parameters if isinstance(parameters, dict) else {}
