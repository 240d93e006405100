"""The shape of a JSON file: which keys it must have and of which types, so that a damaged one ends in one line.

A shape is a type (str, int, float for any number, bool, dict, list), a tuple of shapes of which one must fit (None is
one), a list of one shape that all elements have or of several for as many elements, or a dict of shapes by key; a key
that ends in '?' may be missing, and {str: shape} is an object of which all values have that shape.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from selfie.common import paths
from selfie.common.errors import SelfieError

NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def read(path: str | os.PathLike, shape: dict, advice: str = "") -> dict:
    """Read a JSON object of a certain shape; SelfieError names the first thing that is wrong, and gives the advice."""
    try:
        value = paths.read_json(path)
    except SelfieError as error:
        raise SelfieError("; ".join(filter(None, (str(error), advice)))) from error
    if problem := fault(value, shape):
        message = f"{path} is damaged, or not a file of this project: {problem}"
        raise SelfieError("; ".join(filter(None, (message, advice))))
    return value


def fault(value: Any, shape: Any, name: str = "") -> str:
    """Say what keeps a JSON value from having a shape; "" if it has it."""
    if isinstance(shape, tuple):
        faults = [fault(value, one, name) for one in shape]
        return "" if "" in faults else faults[0]
    if isinstance(shape, list):
        if not isinstance(value, list) or len(shape) not in (1, len(value)):
            return f"{name or 'it'} is not a list" + (f" of {len(shape)}" if len(shape) > 1 else "")
        wanted = shape if len(shape) > 1 else shape * len(value)
        return _first(fault(one, wanted[number], f"{name}[{number}]") for number, one in enumerate(value))
    if isinstance(shape, dict) and str in shape:
        return fault(value, dict, name) or _first(
            fault(one, shape[str], f"{name}.{key}".strip(".")) for key, one in value.items()
        )
    if isinstance(shape, dict):
        return fault(value, dict, name) or _first(_key_fault(value, key, shape[key], name) for key in shape)
    if _fits(value, shape):
        return ""
    return f"{name or 'it'} is not {'null' if shape is None else NAMES[shape]}"


def _key_fault(value: dict, key: str, shape: Any, name: str) -> str:
    """Say what is wrong with one key of an object."""
    full = f"{name}.{key}".strip(".").rstrip("?")
    bare = key.rstrip("?")
    if bare in value:
        return fault(value[bare], shape, full)
    return "" if key.endswith("?") else f"it has no {full}"


def _first(faults: Iterable[str]) -> str:
    return next(filter(None, faults), "")


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a type; JSON's true is no number, and an int is a float."""
    if kind is None:
        return value is None
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)
