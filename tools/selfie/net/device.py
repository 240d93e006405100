"""Devices to compute on: whether GPUs can be used and how much memory they have, asked before Caffe would fail.

`look` asks in a process of its own (`python -m selfie.net.device`), because whoever asks opens the GPU and keeps some
of its memory.
"""

from __future__ import annotations

import ctypes
import logging
import re
import sys
from dataclasses import asdict, dataclass

from selfie.common.errors import SelfieError
from selfie.common.worker import Worker, serve
from selfie.net import pycaffe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """A GPU's answer.

    problem       why it cannot be used, "" if it can
    free, total   memory in bytes; 0 where it cannot be used, or where the driver would not tell
    """

    problem: str = ""
    free: int = 0
    total: int = 0


def ids(text: str) -> list[int]:
    """Read "0,1" as the numbers 0 and 1; SelfieError unless they are different numbers from 0 on."""
    numbers = [int(part) for part in text.split(",")] if re.fullmatch(r"[0-9]+(,[0-9]+)*", text) else []
    if not numbers or len(set(numbers)) < len(numbers):
        raise SelfieError(f"GPU {text}: give the number of a GPU, or different ones with commas: 0,1")
    return numbers


def first(text: str | None) -> int | None:
    """Return the first GPU of "0,1", on which a training's selfies are scored; None for the CPU."""
    return None if text is None else ids(text)[0]


def check(text: str) -> dict[int, Gpu]:
    """Ask the GPUs of "0,1", by number; SelfieError unless all of them can be used."""
    numbers = ids(text)
    pycaffe.check_gpu_build()
    if len(numbers) > 1 and not pycaffe.caffe().has_nccl():
        raise SelfieError(
            f"GPU {text}: several GPUs need NCCL, and this Caffe was built without it: give one, or 'make caffe NCCL=1'"
        )
    gpus = {number: look(number) for number in numbers}
    for number, gpu in gpus.items():
        refuse(number, gpu.problem)
    return gpus


def refuse(number: int, problem: str) -> None:
    """Raise SelfieError if there is a problem with a GPU."""
    if problem:
        raise SelfieError(f"GPU {number} cannot be used: {problem}; leave GPU out to compute on the CPU")


def use_device(number: int | None) -> None:
    """Compute on the CPU (None) or on a GPU. SelfieError where that GPU cannot be used."""
    if number is None:
        pycaffe.caffe().set_mode_cpu()
        return
    refuse(number, pycaffe.gpu_problem(number))
    pycaffe.caffe().set_device(number)
    pycaffe.caffe().set_mode_gpu()


def look(number: int) -> Gpu:
    """Ask a GPU in a process of its own; SelfieError if that fails otherwise than by a problem with the GPU."""
    with Worker(sys.executable, "net.device") as process:
        return Gpu(**process.ask("look", number=number))


def answer(number: int) -> dict:
    """Answer `look` in that process."""
    problem = pycaffe.gpu_problem(number)
    return asdict(Gpu(problem) if problem else Gpu("", *memory(number)))


def memory(number: int) -> tuple[int, int]:
    """Ask the driver for (free, total) bytes of a usable GPU; (0, 0), with a warning, if it does not tell."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        for call in (
            lambda: cuda.cuInit(0),
            lambda: cuda.cuDeviceGet(ctypes.byref(handle), number),
            lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle),
            lambda: cuda.cuCtxPushCurrent_v2(context),
            lambda: cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)),
            lambda: cuda.cuCtxPopCurrent_v2(ctypes.byref(context)),
            lambda: cuda.cuDevicePrimaryCtxRelease_v2(handle),
        ):
            if code := call():
                raise OSError(f"error {code}")
    except (OSError, AttributeError) as error:
        log.warning("GPU %d does not tell how much memory it has (%s): it is not checked", number, error)
        return 0, 0
    return free.value, total.value


def take(number: int, spare: int) -> int:
    """Take the memory of the GPU that this thread works on, but for `spare` bytes, until this process ends.

    Returns how many bytes; SelfieError if the driver refuses.
    """
    free, _ = memory(number)
    pointer, size = ctypes.c_uint64(), max(0, free - spare)
    code = ctypes.CDLL("libcuda.so.1").cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size))
    if code:
        raise SelfieError(f"GPU {number} does not give {size / 1e9:.1f} GB of memory (error {code})")
    return size


if __name__ == "__main__":
    serve({"look": answer})
