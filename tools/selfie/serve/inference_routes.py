"""The addresses of the Open Inference Protocol, version 2: health, metadata, inference."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse, Response

from selfie.serve import inference, openapi
from selfie.serve.intake import LARGEST_PICTURE, Refused
from selfie.serve.service import Service

LARGEST_BODY = 32_000_000  # bytes


def add(app: FastAPI, service: Service) -> None:
    """Add /v2 and what is below it to the application."""
    model = "/v2/models/{model}"
    in_version = f"{model}/versions/{{version}}"
    named = Path(json_schema_extra={"enum": [service.name]})  # told in /openapi.json; another one is answered with 404

    @app.get("/v2", summary="Name, version and extensions", **openapi.protocol("get"))
    async def server() -> dict:
        return {"name": "selfie", "version": version("selfie"), "extensions": inference.EXTENSIONS}

    @app.get("/v2/health/live", summary="Whether the server lives", **openapi.protocol("get"))
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", summary="Whether a picture could be scored at once", **openapi.protocol("ready"))
    async def ready() -> JSONResponse:
        return _readiness(service)

    @app.get(f"{model}/ready", summary="The same of a model", **openapi.protocol("ready of model"))
    async def model_ready(model: str = named) -> JSONResponse:
        _check(service, model)
        return _readiness(service)

    @app.get(f"{in_version}/ready", include_in_schema=False)
    async def version_ready(model: str, version: str) -> JSONResponse:
        _check(service, model, version)
        return _readiness(service)

    @app.get(model, summary="The model's inputs and outputs", **openapi.protocol("model"))
    async def metadata(model: str = named) -> dict:
        _check(service, model)
        return inference.metadata(model)

    @app.get(in_version, include_in_schema=False)
    async def version_metadata(model: str, version: str) -> dict:
        _check(service, model, version)
        return inference.metadata(model)

    @app.post(f"{model}/infer", summary="Score up to 16 pictures", **openapi.INFER)
    async def infer(request: Request, model: str = named) -> Response:
        return await _infer(service, model, request)

    @app.post(f"{in_version}/infer", include_in_schema=False)
    async def version_infer(model: str, version: str, request: Request) -> Response:
        _check(service, model, version)
        return await _infer(service, model, request)


async def _infer(service: Service, model: str, request: Request) -> Response:
    """Score the pictures of a request."""
    async with service.intake.body(request, LARGEST_BODY) as body:
        _check(service, model)
        query = inference.read(body, request.headers.get(inference.HEADER_LENGTH))
        if any(len(picture) > LARGEST_PICTURE for picture in query.pictures):
            raise Refused(413, f"a picture of more than {LARGEST_PICTURE / 1e6:.0f} MB: send a smaller one")
        service.allow(request, len(query.pictures))
        answer, headers = inference.write(query, model, await service.score(query.pictures))
        return Response(answer, headers=headers)


def _check(service: Service, model: str, version: str = inference.VERSION) -> None:
    if model != service.name or version != inference.VERSION:
        raise Refused(404, f"there is the model {service.name}, version {inference.VERSION}")


def _readiness(service: Service) -> JSONResponse:
    ready = service.scorer.ready
    return JSONResponse({"ready": ready}, 200 if ready else 503, {} if ready else {"Retry-After": "2"})
