"""The routes of a server: images in, answers out."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
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
from stages.serving.admission import Gate, log_lines
from stages.serving.hot_reload import ModelHolder, about
from stages.serving.http_errors import Refused
from stages.serving.inference import Answering
from stages.serving.memory_budget import rooms
from stages.serving.metrics import Metrics
from stages.serving.settings import KEY, Settings

DRAWING = Query(description="with `drawing`: the answer drawn over the image, a JPEG as data: URI")
PICTURE = Query(description="with `picture`: the answered mask or image, a file as data: URI")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; img-src data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
FILE = {"type": "string", "format": "binary"}
FILES = {"type": "array", "items": FILE}


def create(settings: Settings, key: str = "") -> FastAPI:
    """A server of one model, which is opened here.

    Raises:
        UserError: the model cannot be opened.
    """
    metrics = Metrics()
    holder = ModelHolder(settings, metrics)
    bodies, images = rooms(settings)
    answering = Answering(settings, metrics, images, cores())

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(holder.watch())
        yield
        watching.cancel()

    title = "Macula" if key else f"Macula: {holder.now.name}"  # the description is told without the key, the name not
    app = FastAPI(title=title, lifespan=life, docs_url=None, redoc_url=None)
    api_docs.add(app, POLICY, bool(key))
    _images(app, holder, answering, settings)
    _others(app, holder, metrics)
    open_inference_v2.add(app, holder, images, settings)
    _errors(app)
    app.add_middleware(Gate, settings=settings, key=key, holder=holder, bodies=bodies, metrics=metrics)
    return app


def _images(app: FastAPI, holder: ModelHolder, answering: Answering, settings: Settings) -> None:
    one = schemas.answered(holder.now.model.spec.task)
    raw = schemas.body_of({"application/octet-stream": FILE, "multipart/form-data": _form("image", FILE)})
    many = schemas.body_of({"multipart/form-data": _form("images", FILES)})

    @app.post("/v1/answer", responses={200: {"model": one}, **schemas.FAILURES}, openapi_extra=raw)
    async def answer(
        request: Request, drawing: Annotated[bool, DRAWING] = False, picture: Annotated[bool, PICTURE] = False
    ) -> JSONResponse:
        """Answer one image: the bytes of its file as the body, or in the field `image` of a form."""
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with _sent_form(request, 1) as form:
                data = await _upload(form.get("image"), "image")
        else:
            data = await request.body()
        with holder.now.used() as deployed:
            given = await answering.answer(deployed, data, drawing, picture)
        return JSONResponse(given | _by(deployed))

    @app.post("/v1/answers", responses={200: {"model": schemas.Several}, **schemas.FAILURES}, openapi_extra=many)
    async def answers(
        request: Request, drawing: Annotated[bool, DRAWING] = False, picture: Annotated[bool, PICTURE] = False
    ) -> JSONResponse:
        """Answer several images, files in the fields `images` of a form; one that fails has its error alone."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refused(400, "send a form (multipart/form-data) with files in its fields `images`")
        room = asyncio.Semaphore(2 * cores())

        async def each(deployed: Any, upload: Any) -> dict[str, Any]:
            async with room:
                name = str(getattr(upload, "filename", None) or "").encode(errors="replace").decode()
                try:
                    data = await _upload(upload, "images")
                    return {"name": name} | await answering.answer(deployed, data, drawing, picture)
                except Refused as refused:
                    return {"name": name, "error": refused.words}

        async with _sent_form(request, settings.images) as form:
            uploads = form.getlist("images")
            if not uploads or not all(isinstance(one, UploadFile) for one in uploads):
                raise Refused(400, "the form needs files in its fields `images`")
            with holder.now.used() as deployed:
                given = await asyncio.gather(*(each(deployed, upload) for upload in uploads))
        return JSONResponse({"answers": given} | _by(deployed))


def _form(field: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [field], "properties": {field: kind}}


def _others(app: FastAPI, holder: ModelHolder, metrics: Metrics) -> None:
    page = resources.files("stages.web").joinpath("server/server_page.html").read_text()
    script = resources.files("stages.web").joinpath("server/server_page.js").read_text()

    @app.get("/v1/model")
    async def model() -> JSONResponse:
        """What answers: task, labels, scores with intervals, version of the data, commit."""
        return JSONResponse(about(holder.now))

    @app.get("/metrics", response_class=PlainTextResponse)
    async def figures() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def root() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": POLICY})

    @app.get("/page.js", include_in_schema=False)
    async def code() -> Response:
        return Response(script, media_type="text/javascript")


class _InMemory(MultiPartParser):
    """Writes no file, however large: there is room for the body, and a container's /tmp may hold less."""

    spool_max_size = sys.maxsize


@asynccontextmanager
async def _sent_form(request: Request, files: int) -> AsyncIterator[FormData]:
    """What came in a form of so many files at most."""
    try:
        async with aclosing(request.stream()) as stream:
            form = await _InMemory(request.headers, stream, max_files=files, max_fields=1, max_part_size=1).parse()
    except MultiPartException as error:
        raise Refused(400, error.message) from None
    except UnicodeError as error:  # of names in an encoding that the client has chosen
        raise Refused(400, f"the form cannot be read: {error}") from None
    try:
        yield form
    finally:
        await form.close()


async def _upload(upload: Any, field: str) -> bytes:
    if not isinstance(upload, UploadFile):
        raise Refused(400, f"the form needs a file in its field `{field}`")
    return await upload.read()


def _by(deployed: Any) -> dict[str, Any]:
    return {"model": {"name": deployed.name, "version": deployed.version, "digest": deployed.digest}}


def _errors(app: FastAPI) -> None:
    """Every error is `{"error": words}`."""

    def words(status: int, text: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": text}, status, headers)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        hint = "; /docs lists what there is" if error.status_code == 404 else ""
        return words(error.status_code, f"{error.detail}{hint}", error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return words(400, told)


def from_environment() -> FastAPI:
    """For a worker process of uvicorn."""
    log_lines()
    return create(Settings.from_environment(), os.environ.get(KEY, ""))
