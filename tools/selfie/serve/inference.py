"""The Open Inference Protocol, version 2, of one model: names, shapes, and requests and answers as bytes.

Clients of Triton and KServe speak it (tritonclient, kserve). The model takes pictures and answers with scores:

    picture     BYTES [N] or [N, 1]   image files, at most 16
    score       FP32 [N]              probability of *good*; NaN (in JSON null) where there is an error
    percentile  FP32 [N]              percent of the run's validation selfies that it beats; likewise
    error       BYTES [N]             why there is no score; empty where there is one
    unlike      FP32 [N]              percent of the selfies that it learned from which are closer to their average than
                                      this picture, see runs.trust; NaN where that is not known

Tensors come and go as binary data behind the JSON (the extension binary_tensor_data: each element of BYTES is preceded
by its length, four bytes, least first), as tritonclient sends them, or inside it; pictures inside JSON are base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfie.runs.score import Scored
from selfie.serve.intake import Refused, parsed

HEADER_LENGTH = "Inference-Header-Content-Length"
LARGEST_REQUEST = 16  # pictures
VERSION = "1"
EXTENSIONS = ["binary_tensor_data"]
INPUT = {"name": "picture", "datatype": "BYTES", "shape": [-1]}
OUTPUTS = [
    {"name": "score", "datatype": "FP32", "shape": [-1]},
    {"name": "percentile", "datatype": "FP32", "shape": [-1]},
    {"name": "error", "datatype": "BYTES", "shape": [-1]},
    {"name": "unlike", "datatype": "FP32", "shape": [-1]},
]
NAMES = [str(output["name"]) for output in OUTPUTS]


@dataclass(frozen=True)
class Query:
    """A request that was understood: pictures, the outputs that are asked for, and which of them as binary data."""

    id: str | None
    shape: list[int]
    pictures: list[bytes]
    outputs: list[str]
    binary: set[str]


def metadata(model: str) -> dict:
    """Describe the model."""
    return {"name": model, "versions": [VERSION], "platform": "caffe", "inputs": [INPUT], "outputs": OUTPUTS}


def read(body: bytes, header_length: str | None) -> Query:
    """Read a request's body; header_length is the header Inference-Header-Content-Length. Refused if it is wrong."""
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or len(header_length) > 12 or int(header_length) > len(body):
            raise Refused(400, f"{HEADER_LENGTH} is not a length within the body")
        length = int(header_length)
    request = parsed(body[:length])
    tensors = _objects(request, "inputs")
    if not isinstance(request, dict) or len(tensors) != 1 or tensors[0].get("name") != INPUT["name"]:
        raise Refused(400, 'give one input, "picture"')
    identity = request.get("id")
    if identity is not None and not isinstance(identity, str):
        raise Refused(400, '"id" is not a text')
    shape = _shape(tensors[0])
    outputs, binary = _wanted(request)
    return Query(identity, shape, _pictures(tensors[0], math.prod(shape), body[length:]), outputs, binary)


def _objects(request: object, name: str) -> list[dict]:
    """Return a list of objects in a request, or []."""
    found = request.get(name) if isinstance(request, dict) else None
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Refused(400, f'"{name}" is not a list of tensors')
    return found


def _shape(tensor: dict) -> list[int]:
    shape = tensor.get("shape")
    if tensor.get("datatype") != "BYTES":
        raise Refused(400, '"picture" is of datatype BYTES')
    if (
        not isinstance(shape, list)
        or not all(type(side) is int and 0 < side <= LARGEST_REQUEST for side in shape)
        or (len(shape) != 1 and shape[1:] != [1])
    ):
        raise Refused(400, f'"picture" has the shape [N] or [N, 1], N from 1 to {LARGEST_REQUEST}')
    return shape


def _pictures(tensor: dict, count: int, rest: bytes) -> list[bytes]:
    """Take the pictures out of a tensor: binary data in `rest`, or base64."""
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if rest:
            raise Refused(400, "there are bytes behind the request that belong to no tensor")
        pictures = _from_base64(tensor.get("data"))
    else:
        if type(size) is not int or size != len(rest):
            raise Refused(400, f"binary_data_size is not {len(rest)}, the bytes behind the request")
        pictures = _split(rest)
    if len(pictures) != count:
        raise Refused(400, f"the shape says {count} pictures, there are {len(pictures)}")
    return pictures


def _from_base64(data: Any) -> list[bytes]:
    while isinstance(data, list) and data and isinstance(data[0], list):  # nested as the shape is
        if not all(isinstance(row, list) for row in data):
            raise Refused(400, '"data" is not a list of texts')
        data = [one for row in data for one in row]
    if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
        raise Refused(400, '"data" is not a list of texts')
    try:
        return [base64.b64decode(one, validate=True) for one in data]
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "pictures inside JSON are base64") from error


def _split(rest: bytes) -> list[bytes]:
    """Split binary data of BYTES into its elements."""
    pictures, place = [], 0
    while place < len(rest):
        size = int.from_bytes(rest[place : place + 4], "little")
        place += 4
        if place + size > len(rest):
            raise Refused(400, "an element of the binary data is longer than the data")
        pictures.append(rest[place : place + size])
        place += size
    return pictures


def _wanted(request: dict) -> tuple[list[str], set[str]]:
    """List the outputs that are asked for (default: all), and those of them that are to be binary."""
    by_default = _parameters(request).get("binary_data_output", False)
    asked = _objects(request, "outputs") or [{"name": name} for name in NAMES]
    names = [one.get("name") for one in asked]
    if len(set(map(str, names))) < len(names) or not set(map(str, names)) <= set(NAMES):
        raise Refused(400, f"there are the outputs {', '.join(NAMES)}, each once")
    return [str(name) for name in names], {
        str(one["name"]) for one in asked if _parameters(one).get("binary_data", by_default) is True
    }


def _parameters(holder: dict) -> dict:
    found = holder.get("parameters")
    return found if isinstance(found, dict) else {}


def write(query: Query, model: str, scored: Sequence[Scored]) -> tuple[bytes, dict[str, str]]:
    """Write an answer: its body, and its headers."""
    tensors, binary = [], []
    for name in query.outputs:
        values = [getattr(one, name) for one in scored]
        tensor: dict[str, Any] = {"name": name, "shape": query.shape}
        tensor["datatype"] = next(output["datatype"] for output in OUTPUTS if output["name"] == name)
        if name not in query.binary:
            tensor["data"] = [value or "" for value in values] if name == "error" else values
        else:
            data = _bytes(values) if name == "error" else np.array(values, "<f4").tobytes()  # None becomes NaN
            tensor["parameters"] = {"binary_data_size": len(data)}
            binary.append(data)
        tensors.append(tensor)
    answer = {"model_name": model, "model_version": VERSION, "outputs": tensors}
    header = json.dumps(answer if query.id is None else {**answer, "id": query.id}).encode()
    if not query.binary:
        return header, {"Content-Type": "application/json"}
    return b"".join([header, *binary]), {
        "Content-Type": "application/octet-stream",
        HEADER_LENGTH: str(len(header)),
    }


def _bytes(texts: Sequence[str | None]) -> bytes:
    """Join texts as binary data of BYTES."""
    encoded = [(text or "").encode() for text in texts]
    return b"".join(len(one).to_bytes(4, "little") + one for one in encoded)
