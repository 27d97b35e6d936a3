"""Documentation page at /docs, which shows openapi.json without resources of other hosts."""

from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from stages.serving.admission import OPEN

SCHEMES = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
"""Security schemes of OpenAPI 3.1 for the API key."""


def add_routes(app: FastAPI, policy: str, keyed: bool) -> None:
    """Add the documentation page to an application, and its security schemes to openapi.json if a key is required.

    Args:
        app: application.
        policy: content security policy of the page.
        keyed: True if the server requires an API key.
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
        _add_security(app)


def _add_security(app: FastAPI) -> None:
    openapi = app.openapi

    def with_key() -> dict[str, Any]:
        schema = openapi()
        schema.setdefault("components", {})["securitySchemes"] = SCHEMES
        schema["security"] = [{scheme: []} for scheme in SCHEMES]
        for path in OPEN & schema["paths"].keys():
            for operation in schema["paths"][path].values():
                operation["security"] = []
        return schema

    app.openapi = with_key  # type: ignore[method-assign]
