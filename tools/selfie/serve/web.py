"""The application: the page, /score and /explain, metrics; the Open Inference Protocol joins from inference_routes.

Answers are JSON. Where there is no score they hold `error`, one line, and the status says whose fault it is; a 429 or
503 says in Retry-After when to come again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from selfie.runs.score import Scored
from selfie.serve import explainer, inference_routes, openapi, page
from selfie.serve.guard import Guard
from selfie.serve.intake import Refused, Taken
from selfie.serve.metrics import CONTENT_TYPE
from selfie.serve.page import Page
from selfie.serve.service import Service


def build(service: Service) -> FastAPI:
    """Make the application of a service."""
    shown = page.make(service.name, service.scorer.validation_selfies, service.scorer.run.meaning)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.batcher.close()

    app = FastAPI(
        title="Selfie scores",
        version="1",
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its script would come from a CDN
        redoc_url=None,
    )
    app.add_middleware(Guard, metrics=service.metrics, headers=shown.headers)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    _add_page(app, service, shown)
    _add_scores(app, service)
    inference_routes.add(app, service)
    return app


def _add_page(app: FastAPI, service: Service, shown: Page) -> None:
    """Add what a browser asks for, and /metrics."""

    @app.get("/", include_in_schema=False)
    async def front() -> HTMLResponse:
        return HTMLResponse(shown.text)

    @app.get("/ethics", include_in_schema=False)
    async def ethics() -> PlainTextResponse:
        text = page.ethics()
        if text is None:
            raise HTTPException(404)
        return PlainTextResponse(text)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_scores(app: FastAPI, service: Service) -> None:
    """Add /score and /explain."""
    threads = ThreadPoolExecutor(explainer.ROOM + 1, "explain")

    async def scored(request: Request) -> tuple[Taken, Scored]:
        """Score the picture of a request."""
        async with service.intake.body(request) as body:
            service.allow(request)
            taken = await service.intake.picture(request, body)
            (answer,) = await service.score([taken.data])
            return taken, replace(answer, path=taken.path)

    @app.post("/score", summary="Score one picture", **openapi.SCORE)
    async def score(request: Request) -> JSONResponse:
        _, answer = await scored(request)
        return JSONResponse(answer.fields(), 200 if answer.error is None else 422)

    @app.post("/explain", summary="Score one picture and say why", **openapi.EXPLAIN)
    async def explain(request: Request, preview: bool = False) -> Response:
        taken, answer = await scored(request)
        if answer.error is not None:
            return JSONResponse(answer.fields(), 422)

        async def lines() -> AsyncIterator[str]:
            yield json.dumps(answer.fields()) + "\n"
            found = {"error": explainer.SWITCHED_OFF}
            if service.explainer:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(threads, service.explainer.explain, taken.data, preview)
            yield json.dumps(found) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse({"error": error.why}, error.status, headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    (*_, name), message = error.errors()[0]["loc"], error.errors()[0]["msg"]
    return JSONResponse({"error": f"{name}: {message}"}, 422)
