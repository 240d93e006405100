"""The benchmark on a GPU (`make bench-gpu`): Caffe beside PyTorch on the same card, and beside itself on the CPU.

Groups, as in `cpu`, are functions that return rows. On the CPU (setting.gpu None) the same code runs with small nets.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Iterable

from selfie.bench.caffe_time import layers
from selfie.bench.duel import squeezenet, vgg16
from selfie.bench.first_meeting import crops, errors, first, memory
from selfie.bench.gpu_setting import Setting
from selfie.bench.gtest import gtest
from selfie.bench.losses import training
from selfie.bench.record import describe_machine, record_groups
from selfie.bench.sanitizer import sanitizer
from selfie.common.worker import Worker
from selfie.net import pycaffe

# In the order of their worth to somebody who has a GPU for a few minutes.
IN_ORDER = (first, gtest, training, vgg16, memory, errors, squeezenet, layers, sanitizer, crops)
GROUPS = {function.__name__: function for function in IN_ORDER}


def measure(setting: Setting, names: Iterable[str]) -> dict:
    """Measure groups into folder/bench_gpu.json, or bench_gpu_cpu.json of a trial on the CPU; its content."""
    name = "bench_gpu.json" if setting.gpu is not None else "bench_gpu_cpu.json"
    return record_groups(setting.folder / name, GROUPS, names, setting, lambda: machine(setting))


def machine(setting: Setting) -> dict:
    """List what the numbers depend on: as on the CPU, and versions, GPUs and their driver."""
    description = {
        **describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "protobuf")},
        "caffe build": pycaffe.version() if pycaffe.of_wheel() else pycaffe.CAFFE.resolve().parents[2].name,
    }
    if setting.torch:
        with Worker(setting.torch, "bench.torch_peer") as peer:
            description["peer"] = peer.ask("hello", device=setting.device, tf32=True)
    if setting.gpu is not None and shutil.which("nvidia-smi"):
        description["gpus"] = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,name,driver_version,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    return description
