"""Solver files: read, and written anew with some values changed but the comments kept."""

from __future__ import annotations

import re

from selfie.common.errors import SelfieError
from selfie.net import pycaffe


def parse(text: str, name: str = "solver"):
    """`text` as a caffe SolverParameter; SelfieError with Caffe's own words if it is not one."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, pycaffe.caffe_pb2().SolverParameter())
    except text_format.ParseError as error:
        raise SelfieError(f"{name}: {error}") from error


def change(text: str, settings: dict[str, object]) -> str:
    """`text` with each `key: value` of `settings` in place of the file's own, or appended where it has none."""
    for key, value in settings.items():
        line = f'{key}: "{value}"' if isinstance(value, str) and not _is_bare(value) else f"{key}: {value}"
        text, count = re.subn(
            rf"^{re.escape(key)}:[^#\n]*?(?=\s*(#.*)?$)", line.replace("\\", r"\\"), text, flags=re.MULTILINE
        )
        if not count:
            text = text.rstrip("\n") + f"\n{line}\n"
    return text


def _is_bare(value: str) -> bool:
    """Numbers and booleans from a command line are not quoted."""
    return re.fullmatch(r"true|false|[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value) is not None
