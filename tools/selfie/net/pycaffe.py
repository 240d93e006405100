"""Access to pycaffe and to the caffe executable: imported when first asked for, one line of error where not built."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from selfie.common import paths
from selfie.common.errors import SelfieError

CAFFE = paths.BUILD / "caffe" / "bin" / "caffe"
LOG_LEVEL = "GLOG_minloglevel"  # glog's variable, in glog's spelling

Message = Any  # a protobuf message of caffe.proto


class Blob(Protocol):
    """A caffe.Blob: values and gradients as live views of Caffe's memory."""

    data: np.ndarray
    diff: np.ndarray

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def count(self) -> int: ...
    def reshape(self, *shape: int) -> None: ...


class Layer(Protocol):
    """A caffe.Layer: its type and its learned blobs, weights first."""

    type: str
    blobs: Sequence[Blob]


class Net(Protocol):
    """A caffe.Net, as far as it is used here."""

    blobs: Mapping[str, Blob]
    params: Mapping[str, Sequence[Blob]]
    layers: Sequence[Layer]
    top_names: Mapping[str, Sequence[str]]
    bottom_names: Mapping[str, Sequence[str]]
    _layer_names: Sequence[str]

    def forward(self) -> dict[str, np.ndarray]: ...
    def backward(self) -> dict[str, np.ndarray]: ...
    def _forward(self, start: int, end: int) -> None: ...
    def _backward(self, start: int, end: int) -> None: ...
    def reshape(self) -> None: ...
    def copy_from(self, caffemodel: str) -> None: ...
    def save(self, caffemodel: str) -> None: ...


def caffe() -> ModuleType:
    """Import pycaffe, with glog silenced below errors; SelfieError where it was not built."""
    quiet = LOG_LEVEL not in os.environ
    if quiet:
        os.environ[LOG_LEVEL] = "2"
    try:
        return importlib.import_module("caffe")
    except ImportError as error:
        problem = f"the wheel of Caffe cannot be used here: {error}"
        raise SelfieError(problem if of_wheel() else f"Caffe is not built ({error}): run 'make setup'") from error
    finally:
        if quiet:  # glog has read it while it was loaded; a `caffe train` that we start is to log
            del os.environ[LOG_LEVEL]


def caffe_pb2() -> ModuleType:
    """Import the messages of caffe.proto."""
    caffe()
    return importlib.import_module("caffe.proto.caffe_pb2")


def binary() -> Path:
    """Return the program caffe: that of a wheel where one is installed, else that of our build. SelfieError without."""
    inside = in_wheel("bin/caffe")
    if inside is not None:
        return inside
    if not CAFFE.exists():
        raise SelfieError("Caffe is not built: run 'make setup'")
    return CAFFE


def in_wheel(name: str) -> Path | None:
    """Find a file that the wheel has installed by the end of its path; None where it has none, or there is no wheel."""
    wheel = _wheel()
    files = (Path(file.locate()) for file in (wheel and wheel.files) or () if file.match(name))
    return next((file.resolve() for file in files if file.exists()), None)


def version() -> str:
    """Return Caffe's version, and that of the wheel that it came in, if it did."""
    wheel = _wheel()
    return f"{caffe().__version__} (wheel {wheel.version})" if wheel else caffe().__version__


def of_wheel() -> bool:
    """Tell whether Caffe came as a wheel."""
    return _wheel() is not None


def _wheel() -> importlib.metadata.Distribution | None:
    """Find the wheel that Caffe was installed from; None for one that was built here."""
    try:
        return importlib.metadata.distribution("caffe")
    except importlib.metadata.PackageNotFoundError:
        return None


def source(installed: Path) -> Path:
    """Return the source that an installed Caffe was built from; the folder with the tests' data if it came without."""
    cache = installed.parent / "CMakeCache.txt"
    text = cache.read_text() if cache.exists() else ""
    home = re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", text, re.MULTILINE)
    return Path(home[1]) if home else installed.parent / "test"


def gpu_problem(number: int) -> str:
    """Say why a GPU cannot be used, in Caffe's words; "" if it can. Opens it here. SelfieError in a CPU build."""
    check_gpu_build()
    return importlib.import_module("caffe._caffe").gpu_problem(number)


def is_gpu_build() -> bool:
    """Tell whether the Caffe in use was built with CUDA."""
    caffe()
    return hasattr(importlib.import_module("caffe._caffe"), "gpu_problem")


def check_gpu_build() -> None:
    """Raise SelfieError unless the Caffe in use was built with CUDA."""
    if not is_gpu_build():
        raise SelfieError(
            "a GPU was asked for, but this Caffe was built for the CPU only: leave GPU out, or build it "
            "for GPUs ('make caffe CUDA=13')"
        )


def read_net(prototxt: Path) -> Message:
    """Read a prototxt as NetParameter. SelfieError if it is none."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(paths.read_text(prototxt, "prototxt"), caffe_pb2().NetParameter())
    except text_format.ParseError as error:
        raise SelfieError(f"{prototxt} is not a net: {error}") from error


@contextmanager
def errors_of_user() -> Iterator[None]:
    """Turn what Caffe refuses inside, its caffe.Error, into a SelfieError of the same words."""
    try:
        yield
    except caffe().Error as error:
        raise SelfieError(f"Caffe: {error}") from error


def parse_binary(message: Message, path: Path) -> Message:
    """Fill a protobuf message from a file; SelfieError if it is damaged or something else."""
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(paths.regular(path).read_bytes())
    except DecodeError as error:
        raise SelfieError(f"{path} is damaged, or not a Caffe file") from error
    return message
