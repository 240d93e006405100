"""Solver files: read, and rewritten with some values changed but the comments kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import pycaffe
from selfie.net.prototxt import scalar
from selfie.net.pycaffe import Message

STRING = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""  # a quoted value, in which '#' begins no comment


def parse(text: str, name: str = "solver") -> Message:
    """Read `text` as a SolverParameter; SelfieError with Caffe's own words if it is not one."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, pycaffe.caffe_pb2().SolverParameter())
    except text_format.ParseError as error:
        raise SelfieError(f"{name}: {error}") from error


def check(name: str, value: str) -> None:
    """Raise SelfieError, in Caffe's words, unless a solver has a field `name` that can be `value`."""
    try:
        parse(change("", {name: value}), f"--set {name}={value}")
    except SelfieError as error:
        raise SelfieError(re.sub(r": \d+:\d+ : (?:'[^']*': )?", ": ", str(error), count=1)) from error


def read(file: Path) -> Message:
    """Read a solver file; SelfieError if it is none."""
    return parse(paths.read_text(file, "solver"), str(file))


def change(text: str, settings: Mapping[str, object]) -> str:
    """Put each `key: value` of `settings` in place of the text's own, or at its end where it has none."""
    for key, value in settings.items():
        line = f"{key}: {value if isinstance(value, str) and _is_bare(value) else scalar(value)}"
        pattern = rf"^{re.escape(key)}:(?:{STRING}|[^#\n\"'])*?(?=\s*(#.*)?$)"
        text, count = re.subn(pattern, line.replace("\\", r"\\"), text, flags=re.MULTILINE)
        if not count:
            text = text.rstrip("\n") + f"\n{line}\n"
    return text


def _is_bare(value: str) -> bool:
    """Tell numbers and booleans from a command line, which are not quoted, from strings."""
    return re.fullmatch(r"true|false|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value) is not None
