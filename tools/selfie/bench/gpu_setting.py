"""The setting of the GPU benchmark: device, precisions, and the Python that has PyTorch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from selfie.common.errors import SelfieError
from selfie.net import variants
from selfie.net.variants import Variant

PRECISIONS = {"TF32": "1", "fp32": "0"}  # those that both sides know -> what CAFFE_TF32 is for them


@dataclass(frozen=True)
class Setting:
    """A setting of the GPU benchmark.

    folder   for its files
    quick    whether it is the short one, with a miniature net
    gpu      number of the GPU; None: the CPU, which tries the benchmark itself where there is no GPU
    torch    the Python that has PyTorch, where a group needs it
    seconds  after which what is not done has to be told as it is; None: any time
    """

    folder: Path
    quick: bool
    gpu: int | None
    torch: str = ""
    seconds: float | None = None

    @property
    def device(self) -> str:
        """Return the device in PyTorch's words."""
        return "cpu" if self.gpu is None else f"cuda:{self.gpu}"

    @property
    def variant(self) -> Variant:
        """Return the net that is measured."""
        return variants.get("demo" if self.quick else "vgg16")

    @property
    def precisions(self) -> list[str]:
        """List the precisions to measure; a CPU has no TF32."""
        return ["fp32"] if self.gpu is None else list(PRECISIONS)

    @property
    def caffe_flags(self) -> list[str]:
        """Return the flags of the caffe executable for the device."""
        return [] if self.gpu is None else ["-gpu", str(self.gpu)]


def find_torch(given: str | None = None) -> str:
    """Find a Python that has PyTorch: `given`, or this one, or the first on the PATH. SelfieError if none has."""
    for python in [given] if given else [sys.executable, shutil.which("python3")]:
        if python is None or not shutil.which(python):
            continue
        question = "import importlib.util as i, sys; sys.exit(i.find_spec('torch') is None)"
        if subprocess.run([python, "-c", question], capture_output=True).returncode == 0:
            return python
    raise SelfieError(
        f"PyTorch, the peer, is not in {given or 'this Python nor in the first on the PATH'}: pip "
        "install -r requirements-bench.txt, or --torch PYTHON, or --only layers training gtest"
    )
