"""The routes of a server for people: a page at /docs shows its openapi.json, and asks no other host for anything."""

from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from stages.serving.admission import OPEN

SCHEMES = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
"""How a key is shown, either way, as OpenAPI 3.1 describes it."""


def add(app: FastAPI, policy: str, keyed: bool) -> None:
    """Add the page to a server.

    Args:
        app: the server.
        policy: the page's content security policy.
        keyed: the server wants a key, which its description says.
    """
    page = resources.files("stages.web").joinpath("server/api_docs.html").read_text(encoding="utf-8")
    script = resources.files("stages.web").joinpath("server/api_docs.js").read_text(encoding="utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    @app.get("/docs.js", include_in_schema=False)
    async def code() -> Response:
        return Response(script, media_type="text/javascript")

    if keyed:
        _tell_of_the_key(app)


def _tell_of_the_key(app: FastAPI) -> None:
    described = app.openapi

    def with_key() -> dict[str, Any]:
        told = described()
        told.setdefault("components", {})["securitySchemes"] = SCHEMES
        told["security"] = [{scheme: []} for scheme in SCHEMES]
        for path in OPEN & told["paths"].keys():
            for one in told["paths"][path].values():
                one["security"] = []
        return told

    app.openapi = with_key  # type: ignore[method-assign]
