"""The snapshots of a run: which there are, and which of them Caffe will be able to restore."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import caffe_net, pycaffe
from selfie.net.caffe_net import Shapes
from selfie.runs.run_folder import Run

log = logging.getLogger(__name__)


def snapshots(folder: Path) -> list[tuple[int, Path]]:
    """List (iteration, .solverstate) of a run's snapshots, newest first."""
    states = [
        (int(match.group(1)), path)
        for path in (folder / "snapshots").glob("*.solverstate")
        if (match := re.search(r"_iter_(\d+)\.solverstate$", path.name))
    ]
    return sorted(states, reverse=True)


def newest_intact(run: Run) -> tuple[int, Path]:
    """Return (iteration, .solverstate) of the newest snapshot whose two files are whole and belong together."""
    layers = caffe_net.learned_layers(run.variant)
    for iteration, state in snapshots(run.folder):
        try:
            _check(state, iteration, layers)
            return iteration, state
        except (SelfieError, OSError) as error:
            log.warning("skipping %s: %s", state.name, error)
    raise SelfieError(f"{run.folder} has no intact snapshot to resume from: start it again with --replace")


def _check(state: Path, iteration: int, layers: Shapes) -> None:
    """Raise SelfieError unless Caffe will be able to restore a .solverstate and the .caffemodel beside it."""
    message = pycaffe.parse_binary(pycaffe.caffe_pb2().SolverState(), state)
    blobs = sum(len(shapes) for shapes in layers.values())
    if message.iter != iteration or not message.HasField("current_step") or len(message.history) < blobs:
        raise SelfieError("it is incomplete")
    caffemodel = state.with_suffix(".caffemodel")
    if paths.resolved(paths.ROOT / message.learned_net) != paths.resolved(caffemodel):
        raise SelfieError(f"it belongs to {message.learned_net}: has the run folder been moved?")
    caffe_net.check_weights(layers, caffemodel)
