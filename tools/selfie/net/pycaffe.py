"""Access to pycaffe and to the caffe executable: imported when first asked for, one line of error where not built."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from types import ModuleType

from selfie.common import paths
from selfie.common.errors import SelfieError

CAFFE = paths.BUILD / "caffe" / "bin" / "caffe"
LOG_LEVEL = "GLOG_minloglevel"  # glog's variable, in glog's spelling


def caffe() -> ModuleType:
    """pycaffe, with glog silenced below errors; SelfieError where it was not built."""
    quiet = LOG_LEVEL not in os.environ
    if quiet:
        os.environ[LOG_LEVEL] = "2"
    try:
        return importlib.import_module("caffe")
    except ImportError as error:
        raise SelfieError(f"Caffe is not built ({error}): run 'make caffe'") from error
    finally:
        if quiet:  # glog has read it while it was loaded; a `caffe train` that we start is to log
            del os.environ[LOG_LEVEL]


def caffe_pb2() -> ModuleType:
    """Caffe's protobuf messages."""
    caffe()
    return importlib.import_module("caffe.proto.caffe_pb2")


def binary() -> Path:
    """The caffe executable; SelfieError where it was not built."""
    if not CAFFE.exists():
        raise SelfieError("Caffe is not built: run 'make caffe'")
    return CAFFE


def source(installed: Path) -> Path:
    """The source that a Caffe was built from; where it came without, the folder with the tests' data."""
    cache = installed.parent / "CMakeCache.txt"
    if not cache.exists():
        return installed.parent / "test"
    return Path(re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", cache.read_text(), re.MULTILINE)[1])


def gpu_problem(number: int) -> str:
    """Why a GPU cannot be used, in Caffe's words; "" if it can. Opens it here. SelfieError in a CPU build."""
    check_gpu_build()
    return importlib.import_module("caffe._caffe").gpu_problem(number)


def is_gpu_build() -> bool:
    """Whether the Caffe in use was built with CUDA."""
    caffe()
    return hasattr(importlib.import_module("caffe._caffe"), "gpu_problem")


def check_gpu_build() -> None:
    """SelfieError unless the Caffe in use was built with CUDA."""
    if not is_gpu_build():
        raise SelfieError(
            "a GPU was asked for, but this Caffe was built for the CPU only: leave GPU out, or build it "
            "for GPUs ('make caffe CUDA=13')"
        )


def parse_binary(message, path: Path):
    """Fill a protobuf message from a file; SelfieError if it is damaged or something else."""
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise SelfieError(f"{path} is damaged, or not a Caffe file") from error
    return message
