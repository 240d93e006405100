"""What /openapi.json says of requests and answers, beyond what FastAPI reads off the code."""

from __future__ import annotations

from typing import Any

from selfie.runs import trust
from selfie.serve import inference
from selfie.serve.intake import JSON, LONGEST_ADDRESS, MULTIPART

DESCRIPTION = (
    "Scores selfies by a run of the selfie experiment. The score is the net's probability that a picture is good, by "
    "default in the better half by likes among posts with a similar audience; the percentile is the share of the run's "
    "validation selfies that it beats. Pictures are JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF of at most 10 MB and "
    "50 megapixels. Nothing is kept."
)

_NUMBER = {"type": ["number", "null"]}
_TEXT = {"type": "string"}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": _TEXT}}
_SCORED = {
    "type": "object",
    "required": ["path", "score", "percentile", "error"],
    "properties": {
        "path": {**_TEXT, "description": "the file's name, or the address"},
        "score": {**_NUMBER, "minimum": 0, "maximum": 1, "description": "probability of good"},
        "percentile": {**_NUMBER, "minimum": 0, "maximum": 100},
        "error": {"type": ["string", "null"]},
        "low": {**_NUMBER, "description": "with high a 95 % interval of the score, where the net is an ensemble"},
        "high": _NUMBER,
        "unlike": {
            **_NUMBER,
            "minimum": 0,
            "maximum": 100,
            "description": "likewise: percent of the selfies that it learned from which are closer to their average; "
            f"from {trust.UNKNOWN:.0f} on the net does not know such pictures, and the score says little",
        },
    },
}
_RETRY = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
_REASONS = {
    400: "the body is broken",
    404: "there is no such model",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is of another type",
    422: "no picture that can be read",
    429: "too many pictures from this client",
    503: "busy",
}


def _answer(description: str, schema: dict, kind: str = JSON) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {**_answer(_REASONS[status], _ERROR), **({"headers": _RETRY} if status in (429, 503) else {})}
        for status in statuses
    }


_PICTURE = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "additionalProperties": False,
                    "properties": {"picture": {**_TEXT, "format": "binary"}},
                }
            },
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["address"],
                    "additionalProperties": False,
                    "properties": {"address": {**_TEXT, "format": "uri", "minLength": 1, "maxLength": LONGEST_ADDRESS}},
                }
            },
        },
    }
}
_OF_A_PICTURE = _errors(400, 408, 413, 415, 422, 429, 503)

SCORE: dict[str, Any] = {
    "openapi_extra": _PICTURE,
    "responses": {200: _answer("the score, as tools/score.py --json writes it", _SCORED), **_OF_A_PICTURE},
    "response_model": None,
}
EXPLAIN: dict[str, Any] = {
    "openapi_extra": _PICTURE,
    "description": "Two lines of JSON: the score as soon as it is there, then the explanation: the best crop, as "
    "shares of the upright picture, and the measured properties with their influence in percentage points; or `error`. "
    "With `preview` a small copy of the picture, as a data: address.",
    "responses": {200: _answer("the two lines", _TEXT, "application/x-ndjson"), **_OF_A_PICTURE},
    "response_model": None,
}

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _TEXT,
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": _TEXT,
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}
_TENSORS = {"type": "array", "items": _TENSOR}
INFER: dict[str, Any] = {
    "description": (inference.__doc__ or "").partition("\n\n")[2],
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "required": ["inputs"],
                        "properties": {"id": _TEXT, "inputs": {**_TENSORS, "minItems": 1, "maxItems": 1}},
                    }
                }
            },
        }
    },
    "responses": {
        200: {
            "description": "the scores",
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "required": ["model_name", "outputs"],
                        "properties": {"model_name": _TEXT, "model_version": _TEXT, "outputs": _TENSORS},
                    }
                },
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **_errors(400, 404, 408, 413, 415, 429, 503),
    },
    "response_model": None,
}


def protocol(kind: str) -> dict[str, Any]:
    """Describe an answer of the protocol: "get", "ready", "model", or "ready of model"."""
    statuses = {"get": (), "ready": (503,), "model": (404,), "ready of model": (404, 503)}[kind]
    return {"responses": {200: _answer("what was asked for", {"type": "object"}), **_errors(*statuses)}} | {
        "response_model": None
    }
