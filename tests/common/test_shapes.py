"""Shapes of JSON files: what fits is read, the first thing that does not is named."""

from __future__ import annotations

import json

import pytest

from selfie.common import paths, shapes
from selfie.common.errors import SelfieError

SHAPE = {
    "name": str,
    "size": int,
    "mean": [float],
    "gpu": (str, None),
    "in": {"rows": str, "seed?": int},
    "range?": [float, float],
    "counts?": {str: int},
}
GOOD = {"name": "a", "size": 1, "mean": [1, 2.5], "gpu": None, "in": {"rows": "x"}, "more": {}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"gpu": "0"}, ""),
        ({"in": {"rows": "x", "seed": 3}}, ""),
        ({"size": True}, "size is not a whole number"),
        ({"size": 1.0}, "size is not a whole number"),
        ({"mean": [1, "2"]}, r"mean\[1\] is not a number"),
        ({"mean": {}}, "mean is not a list"),
        ({"mean": []}, ""),
        ({"range": [1, 2]}, ""),
        ({"counts": {}}, ""),
        ({"counts": {"a": 1, "b": None}}, r"counts\.b is not a whole number"),
        ({"range": [1]}, "range is not a list of 2"),
        ({"range": [1, None]}, r"range\[1\] is not a number"),
        ({"gpu": 0}, "gpu is not a text"),
        ({"in": {}}, r"it has no in\.rows"),
        ({"in": {"rows": "x", "seed": None}}, r"in\.seed is not a whole number"),
        ({"in": None}, "in is not an object"),
    ],
)
def test_faults_are_named(tmp_path, change, problem):
    (tmp_path / "x.json").write_text(json.dumps({**GOOD, **change}))
    if not problem:
        assert shapes.read(tmp_path / "x.json", SHAPE) == {**GOOD, **change}
        return
    with pytest.raises(SelfieError, match=rf"x\.json is damaged, .*: {problem}; do this$"):
        shapes.read(tmp_path / "x.json", SHAPE, "do this")


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff\xfe{}", b"[" * 99999])
def test_what_is_no_json_object_is_one_line(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    for read in (paths.read_json, lambda path: shapes.read(path, SHAPE)):
        with pytest.raises(SelfieError, match=r"x\.json"):
            read(tmp_path / "x.json")
