"""A run's net as part of work that is done elsewhere: what its rows depend on, and the net in who does it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.net import memory
from selfie.net.caffe_net import ScoringNet
from selfie.runs import run_folder
from selfie.runs.run_folder import Run

PROCESS = 400_000_000  # bytes of a process with all libraries, but no net


def parameters(run: Run, gpu: int | None, batch: int) -> dict[str, Any]:
    """Describe the net, JSON-ready: its run's folder, which all must see, the hash of its weights, GPU and batch."""
    return {
        "run": str(run.folder.resolve()),
        "caffemodel": paths.sha256(run.caffemodel),
        "size": run.preprocessing.size,
        **({"detail": run.preprocessing.detail} if run.preprocessing.detail else {}),
        "preprocessing": image.PREPROCESSING,
        "gpu": gpu,
        "batch": batch,
    }


def memory_of(net: ScoringNet, batch: int) -> int:
    """Estimate the bytes of a process that scores in batches of that size with the net."""
    return PROCESS + memory.scoring(net.net).total(batch)


def net_of(described: dict[str, Any]) -> ScoringNet:
    """Load the net that `parameters` described, once in each process. SelfieError where another one is in its place."""
    return _net(described["run"], described["caffemodel"], described["gpu"])


@lru_cache(1)
def _net(folder: str, caffemodel: str, gpu: int | None) -> ScoringNet:
    run = run_folder.load(folder)
    if paths.sha256(run.caffemodel) != caffemodel:
        raise SelfieError(f"{folder} holds other weights here than where the command was given")
    return run.net(gpu)
