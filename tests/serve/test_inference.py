"""The Open Inference Protocol, as a foreign client speaks it: NVIDIA's tritonclient."""

from __future__ import annotations

import base64
import json
from importlib.util import find_spec

import numpy as np
import pytest

import testlib
from selfie.runs import score

if find_spec("tritonclient") is None or find_spec("fastapi") is None:
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

import requests
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from selfie.serve import inference
from selfie.serve.intake import Refused


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as made:
        yield made


def tensor(data: list[bytes], binary: bool = True, shape: list[int] | None = None) -> triton.InferInput:
    """Make the input of a request; inside JSON pictures are base64."""
    made = triton.InferInput("picture", shape or [len(data)], "BYTES")
    elements = data if binary else [base64.b64encode(one) for one in data]
    return made.set_data_from_numpy(np.array(elements, np.object_).reshape(shape or [len(data)]), binary_data=binary)


def test_the_server_tells_what_it_is(client, server):
    """Alive, ready, with a name, and a model whose inputs and outputs a client can fill in."""
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(server.model)
    assert client.is_model_ready(server.model, "1") and not client.is_model_ready("another")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    for version in ("", "1"):
        described = client.get_model_metadata(server.model, version)
        assert described["name"] == server.model and described["versions"] == ["1"]
        assert described["inputs"] == [{"name": "picture", "datatype": "BYTES", "shape": [-1]}]
        assert [one["datatype"] for one in described["outputs"]] == ["FP32", "FP32", "BYTES", "FP32"]


@pytest.mark.parametrize("sent", [True, False], ids=["binary", "base64"])
@pytest.mark.parametrize("back", [True, False, None], ids=["binary back", "JSON back", "default"])
def test_scores_are_those_of_the_command(client, server, tiny_run, files, sent, back):
    """However tensors travel; a broken picture among them has an error, and no score."""
    wanted = list(score.score(tiny_run, [str(path) for path in files[:5]]))
    data = [path.read_bytes() for path in files[:5]]
    outputs = back is not None and [triton.InferRequestedOutput(name, back) for name in inference.NAMES]
    answer = client.infer(
        server.model, [tensor([*data, b"GIF8 nonsense"], sent)], outputs=outputs or None, request_id="7"
    )
    assert answer.get_response()["id"] == "7" and answer.get_response()["model_name"] == server.model
    for name in ("score", "percentile"):
        values = answer.as_numpy(name).astype(float)
        assert values[:5] == pytest.approx([getattr(one, name) for one in wanted], abs=1e-4) and np.isnan(values[5])
    errors = [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("error")]
    assert errors == [""] * 5 + ["broken or truncated"]


def test_only_what_is_asked_for_comes_back(client, server, files):
    """Some binary, some not; the shape is that of the input."""
    outputs = [triton.InferRequestedOutput("percentile", False), triton.InferRequestedOutput("score", True)]
    data = [path.read_bytes() for path in files[:3]]
    answer = client.infer(server.model, [tensor(data, shape=[3, 1])], "1", outputs=outputs)
    tensors = answer.get_response()["outputs"]
    assert [(one["name"], one["shape"], "data" in one) for one in tensors] == [
        ("percentile", [3, 1], True),
        ("score", [3, 1], False),
    ]
    assert answer.as_numpy("score").shape == answer.as_numpy("percentile").shape == (3, 1)
    assert answer.as_numpy("error") is None


def test_a_mistake_of_the_client_is_told_to_it(client, server, files):
    """As its own exception, in a line."""
    data = files[0].read_bytes()
    for model, inputs, outputs, words in (
        ("another", tensor([data]), None, f"there is the model {server.model}"),
        (server.model, tensor([data] * 17), None, "from 1 to 16"),
        (
            server.model,
            triton.InferInput("image", [1], "BYTES").set_data_from_numpy(np.array([b"x"], object)),
            None,
            "one input",
        ),
        (
            server.model,
            triton.InferInput("picture", [1], "FP32").set_data_from_numpy(np.ones(1, "f4")),
            None,
            "datatype BYTES",
        ),
        (server.model, tensor([data]), [triton.InferRequestedOutput("prob")], "there are the outputs"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            client.infer(model, [inputs], outputs=outputs)


GOOD = {"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [1], "data": ["eA=="]}]}


@pytest.mark.parametrize(
    "body, length",
    [
        (b"", None),
        (b"[]", None),
        (b"nonsense", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"inputs": NaN}', None),
        *(
            (json.dumps({"inputs": inputs}).encode(), None)
            for inputs in (None, 7, [], [7], {}, [{}], GOOD["inputs"] * 2)
        ),
        *(
            (json.dumps({"inputs": [{**GOOD["inputs"][0], **wrong}]}).encode(), None)
            for wrong in (
                *({"shape": shape} for shape in (None, [], [0], [-1], [2], [True], ["1"], [1, 2], [1, 1, 1], [10**30])),
                *({"data": data} for data in (None, 7, {}, [7], ["!"], [["eA=="], 7], ["eA==", "eA=="], ["é"])),
                *({"parameters": {"binary_data_size": size}} for size in (1, -1, True, "0", 1e9)),
            )
        ),
        *((json.dumps({**GOOD, **wrong}).encode(), None) for wrong in ({"id": 7}, {"outputs": 7}, {"outputs": [{}]})),
        (json.dumps({**GOOD, "outputs": [{"name": "score"}, {"name": "score"}]}).encode(), None),
        *((json.dumps(GOOD).encode(), length) for length in ("-1", "x", "99999", "9" * 40, "3", "²")),
        (json.dumps(GOOD).encode() + b"more", str(len(json.dumps(GOOD)))),
    ],
)
def test_what_is_no_request_is_refused(body, length):
    """In one line, with a status that says it is the client's fault."""
    with pytest.raises(Refused) as refused:
        inference.read(body, length)
    assert refused.value.status == 400 and refused.value.why and "\n" not in refused.value.why


def test_binary_data_that_lies_about_its_elements_is_refused(server):
    """An element that is longer than the data, or bytes too many."""
    header = json.dumps(
        {"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}]}
    ).encode()
    for data in (b"\xff\xff\xff\xffab", b"\x01\x00\x00\x00ab", b"\x02\x00\x00\x00ab!", b"\x00\x00"):
        answer = requests.post(
            f"{server.address}v2/models/{server.model}/infer",
            header + data,
            headers={inference.HEADER_LENGTH: str(len(header))},
        )
        assert answer.status_code == 400 and set(answer.json()) == {"error"}, data
