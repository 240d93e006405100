"""The contenders of the race of nets: Caffe and other libraries on the CPU, each in a process of its own.

An iteration is "forward" (a forward pass to the scores) or "training" (forward and backward passes, to every weight's
gradient). The processes run `net_peer`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

from selfie.common.errors import SelfieError
from selfie.common.worker import Worker

OURS, STOCK = "Caffe", "Caffe without oneDNN"
HELD = ", AVX2 only"  # ends the name of a contender who computes as on a CPU that has no more than that
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2"}
OURS_AVX2, STOCK_AVX2 = OURS + HELD, STOCK + HELD
CAFFES = (OURS, STOCK, OURS_AVX2, STOCK_AVX2)
MODULES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "PyTorch": "torch", "PyTorch channels_last": "torch"}
NOT_HELD = ("ONNX Runtime",)  # it knows no such setting
CAN_TRAIN = ("PyTorch", "PyTorch channels_last")


def missing() -> list[str]:
    """List the other libraries that are not installed here; all of them need onnx, too."""
    return [
        name
        for name, module in MODULES.items()
        if not (importlib.util.find_spec(module) and importlib.util.find_spec("onnx"))
    ]


class Contender:
    """A process with the net of a folder in it. Leaving the `with` block ends it; SelfieError if it fails.

    name        Caffe's, or another library's, with HELD or without
    scores      of the first iteration, which is not measured: flat float64; empty for "training"
    processor   seconds of processor time, over all cores, of each iteration that was measured
    """

    def __init__(self, name: str, folder: Path, work: str) -> None:
        self.name = name
        self.processor: list[float] = []
        environment = {**(AVX2 if name.endswith(HELD) else {}), **({"CAFFE_ONEDNN": "0"} if STOCK in name else {})}
        self._process = Worker(sys.executable, "bench.net_peer", **environment)
        try:
            self.scores = np.array(self._ask("prepare", name=name, folder=str(folder), work=work)["scores"])
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__()

    def seconds(self) -> float:
        """Run one iteration and return its time.

        Its processor time says more on a busy machine, except of those who spin while they wait for another thread.
        """
        cost = self._ask("iterate")
        self.processor.append(cost["processor"])
        return cost["seconds"]

    def megabytes(self) -> float:
        """Return the largest resident set so far."""
        return self._ask("memory")["megabytes"]

    def _ask(self, action: str, **values: object) -> dict:
        try:
            return self._process.ask(action, **values)
        except SelfieError as error:
            raise SelfieError(f"{self.name} failed in the benchmark of nets: {error}") from error
