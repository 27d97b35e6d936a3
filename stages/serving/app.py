"""FastAPI application: the routes of the server."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from stages.core.cpu import cores
from stages.serving import api_docs, open_inference_v2, schemas
from stages.serving.admission import AdmissionMiddleware, configure_logging
from stages.serving.hot_reload import ModelHolder, describe_model
from stages.serving.http_errors import Refused
from stages.serving.inference import Predictor
from stages.serving.json_images import MANY_EXAMPLE, describe_text, read_base64, read_json, read_json_images
from stages.serving.memory_budget import MemoryBudget, memory_budgets
from stages.serving.metrics import Metrics
from stages.serving.settings import KEY, Settings

DRAWING = Query(
    description="add `drawing`: the prediction drawn over the image, a JPEG as a data URI; the levels of 16-bit images "
    "are stretched between two percentiles"
)
PICTURE = Query(
    description="add `picture`: the predicted mask or image, a file as a data URI; only for tasks that predict one; "
    "`mask_values` of /v1/model has the value of each class in a mask"
)
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; img-src data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
FORM, JSON = "multipart/form-data", "application/json"
FILE = {"type": "string", "format": "binary"}
FILES = {"type": "array", "items": FILE}


def create_app(settings: Settings, key: str = "") -> FastAPI:
    """Load the model and return the application.

    Args:
        settings: model and limits.
        key: API key that clients must send; empty if none is required.

    Raises:
        UserError: the model cannot be loaded or run, or the memory limit is too low for it.
    """
    metrics = Metrics()
    holder = ModelHolder(settings, metrics)
    bodies, images = memory_budgets(settings)
    predictor = Predictor(settings, metrics, images, cores())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(holder.watch())
        yield
        watching.cancel()

    title = "Macula" if key else f"Macula: {holder.now.name}"  # /openapi.json requires no key, so it omits the name
    app = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None)
    api_docs.add_routes(app, POLICY, bool(key))
    _add_prediction_routes(app, holder, predictor, images, settings)
    _add_information_routes(app, holder, metrics)
    open_inference_v2.add_routes(app, holder, images, settings)
    _add_error_handlers(app)
    app.add_middleware(AdmissionMiddleware, settings=settings, key=key, holder=holder, bodies=bodies, metrics=metrics)
    return app


def _add_prediction_routes(
    app: FastAPI, holder: ModelHolder, predictor: Predictor, images: MemoryBudget, settings: Settings
) -> None:
    """Add the routes that predict image files.

    Args:
        app: application.
        holder: current model.
        predictor: decodes images and runs the model.
        images: memory budget of images.
        settings: limits of requests.
    """
    one = schemas.response_model(holder.now.model.spec.task)
    raw = schemas.request_body(
        {
            "application/octet-stream": FILE,
            "multipart/form-data": _form("image", FILE),
            "application/json": _form("image", schemas.BASE64),
        }
    )
    many = schemas.request_body(
        {
            "multipart/form-data": _form("images", FILES),
            "application/json": _form("images", {"type": "array", "items": schemas.BASE64}),
        }
    )

    @app.post("/v1/predict", responses={200: {"model": one}, **schemas.FAILURES}, openapi_extra=raw)
    @app.post("/v1/answer", include_in_schema=False)  # the route of earlier releases
    async def predict(
        request: Request, drawing: Annotated[bool, DRAWING] = False, picture: Annotated[bool, PICTURE] = False
    ) -> JSONResponse:
        """Predict one image: the body, a file in the field `image` of a form, or base64 in JSON."""
        kind = content_type(request)
        data = await _read_image(request, kind, images)
        with holder.now.used() as deployed, _explained(data, kind):
            response = await predictor.predict(deployed, data, drawing, picture)
        return JSONResponse(response | _model_of(deployed))

    @app.post(
        "/v1/predict-many", responses={200: {"model": schemas.BatchResponse}, **schemas.FAILURES}, openapi_extra=many
    )
    @app.post("/v1/answers", include_in_schema=False)  # the route of earlier releases
    async def predict_many(
        request: Request, drawing: Annotated[bool, DRAWING] = False, picture: Annotated[bool, PICTURE] = False
    ) -> JSONResponse:
        """Predict several images: files in the fields `images` of a form, or base64 in JSON; each has its own error."""
        kind = content_type(request)
        if kind not in (FORM, JSON):
            raise Refused(
                400,
                f"the content type is {kind or 'missing'}; send a form (multipart/form-data) with files in the fields "
                f"`images`, or JSON (application/json): {MANY_EXAMPLE}",
            )
        slots = asyncio.Semaphore(2 * cores())

        async def each(deployed: Any, sent: Any) -> dict[str, Any]:
            async with slots:
                name = str(getattr(sent, "filename", None) or "").encode(errors="replace").decode()
                try:
                    data = await (
                        asyncio.to_thread(read_base64, sent, "images") if kind == JSON else _upload(sent, "images")
                    )
                    return {"name": name} | await predictor.predict(deployed, data, drawing, picture)
                except Refused as refused:
                    return {"name": name, "error": refused.message}

        async def predict_all(all_sent: list[Any]) -> JSONResponse:
            with holder.now.used() as deployed:
                responses = await asyncio.gather(*(each(deployed, sent) for sent in all_sent))
            return JSONResponse({"answers": responses} | _model_of(deployed))

        if kind == JSON:
            return await predict_all(await read_json_images(request, images, settings.images))
        async with _parse_form(request, settings.images) as form:
            uploads = form.getlist("images")
            if not uploads or not all(isinstance(upload, UploadFile) for upload in uploads):
                raise Refused(400, "the form requires files in the fields `images`")
            return await predict_all(uploads)


async def _read_image(request: Request, kind: str, budget: MemoryBudget) -> bytes:
    """Return the image file that a request of the media type `kind` contains."""
    if kind == FORM:
        async with _parse_form(request, 1) as form:
            return await _upload(form.get("image"), "image")
    if kind == JSON:
        return await asyncio.to_thread(read_base64, await read_json(request, "image", budget), "image")
    return await request.body()


@contextmanager
def _explained(data: bytes, kind: str) -> Iterator[None]:
    """Add to the error of an image that cannot be read how to send it, if the body is text."""
    try:
        yield
    except Refused as refused:
        hint = describe_text(data) if refused.status == 422 and kind not in (FORM, JSON) else ""
        if not hint:
            raise
        raise Refused(422, f"{refused.message}; {hint}") from None


def content_type(request: Request) -> str:
    """Return the media type of a request in lower case, without parameters (RFC 9110, 8.3.1)."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _form(field: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [field], "properties": {field: kind}}


def _add_information_routes(app: FastAPI, holder: ModelHolder, metrics: Metrics) -> None:
    page = resources.files("stages.web").joinpath("server/server_page.html").read_text()
    script = resources.files("stages.web").joinpath("server/server_page.js").read_text()

    @app.get("/v1/model")
    async def model() -> JSONResponse:
        """Return the description of the model: task, labels, scores with intervals, data version, commit."""
        return JSONResponse(describe_model(holder.now))

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> PlainTextResponse:
        """Return metrics in the format of Prometheus."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def root() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": POLICY})

    @app.get("/page.js", include_in_schema=False)
    async def code() -> Response:
        return Response(script, media_type="text/javascript")


class _InMemoryParser(MultiPartParser):
    """Form parser that keeps files in memory: they are within the memory budget, and /tmp may be smaller."""

    spool_max_size = sys.maxsize


@asynccontextmanager
async def _parse_form(request: Request, files: int) -> AsyncIterator[FormData]:
    """Parse a form with at most `files` files, and yield its data; raise Refused (400) if it is not valid."""
    try:
        async with aclosing(request.stream()) as stream:
            form = await _InMemoryParser(
                request.headers, stream, max_files=files, max_fields=1, max_part_size=1
            ).parse()
    except MultiPartException as error:
        is_text = error.message.startswith("Part exceeded")  # a field that is not a file
        hint = " Send images as files: curl -F image=@photo.jpg" if is_text else ""
        raise Refused(400, error.message + hint) from None
    except UnicodeError as error:  # names in an encoding chosen by the client
        raise Refused(400, f"the form cannot be read: {error}") from None
    try:
        yield form
    finally:
        await form.close()


async def _upload(upload: Any, field: str) -> bytes:
    if not isinstance(upload, UploadFile):
        raise Refused(400, f"the form requires a file in the field `{field}`")
    return await upload.read()


def _model_of(deployed: Any) -> dict[str, Any]:
    return {"model": {"name": deployed.name, "version": deployed.version, "digest": deployed.digest}}


def _add_error_handlers(app: FastAPI) -> None:
    """Add handlers that return every error as `{"error": message}`."""

    def error_response(status: int, message: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": message}, status, headers)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        hint = "; /docs lists the routes" if error.status_code == 404 else ""
        headers = dict(error.headers or {})
        if headers.get("Allow") == "GET":
            headers["Allow"] = "GET, HEAD"  # see `AdmissionMiddleware`
        return error_response(error.status_code, f"{error.detail}{hint}", headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['input']!r}: {e['msg'][:1].lower()}{e['msg'][1:]}"
            for e in error.errors()
        )
        return error_response(400, problems)


def from_environment() -> FastAPI:
    """Configure logging and return the application of a worker process of uvicorn.

    Raises:
        UserError: see `create_app`.
    """
    configure_logging()
    return create_app(Settings.from_environment(), os.environ.get(KEY, ""))
