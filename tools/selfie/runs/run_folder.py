"""Run folders: what one training left behind, and how commands find it.

runs/<name>/  train_val.prototxt, solver.prototxt, deploy.prototxt   exactly what was trained and what scores it
              log.txt, metrics.csv, curves.png                       what Caffe said, as numbers, as a picture
              snapshots/                                             .caffemodel and .solverstate files
              val_scores.csv                                         score and label of each validation selfie
              run.json                                               versions, seeds, hashes, command line, state
"""

from __future__ import annotations

import logging
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data.lmdb_reader import Database
from selfie.net import caffe_net, pycaffe, variants
from selfie.net.variants import Variant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run folder and its run.json."""

    folder: Path
    info: dict

    @property
    def variant(self) -> Variant:
        return variants.get(self.info["variant"])

    @property
    def finished(self) -> bool:
        return self.info.get("state") == "finished"

    @property
    def caffemodel(self) -> Path:
        """The finished run's weights; SelfieError if training has not ended."""
        if not self.finished:
            raise SelfieError(
                f"{self.folder} is not finished: go on with 'make train VARIANT={self.info['variant']} "
                f"RUN={self.folder} RESUME=1'"
            )
        return paths.existing(self.folder / self.info["caffemodel"], "caffemodel")

    @property
    def deploy(self) -> Path:
        return paths.existing(self.folder / "deploy.prototxt", "deploy net")

    def database(self, split: str) -> Path:
        """The finished database of a split that belongs to the one the run was trained on.

        SelfieError if it was built from other labels since: its selfies may then have been trained on.
        """
        folder = paths.ROOT / self.info["lmdb"]["path"] / split
        with Database(folder) as records:
            if records.meta["inputs"]["rows"] != self.info["lmdb"]["train"]["inputs"]["rows"]:
                raise SelfieError(f"{folder} was built from other labels than {self.folder} was trained on: train anew")
        return folder

    def net(self, gpu: int | None = None):
        """The run's net for scoring, with its final weights."""
        caffemodel = self.caffemodel  # first: an unfinished run should say so
        return caffe_net.load(self.deploy, caffemodel, gpu)

    def save(self, **changes: object) -> Run:
        """Write run.json with `changes`; returns the changed run."""
        info = {**self.info, **changes}
        paths.write_json(self.folder / "run.json", info)
        return Run(self.folder, info)


def load(folder: str | Path) -> Run:
    """The run in `folder`; SelfieError if it is none."""
    folder = paths.existing(folder, "run folder")
    if not (folder / "run.json").exists():
        raise SelfieError(f"{folder} is not a run folder: it has no run.json")
    info = paths.read_json(folder / "run.json")
    if "variant" not in info:
        raise SelfieError(f"{folder / 'run.json'} names no variant: not written by tools/train.py")
    return Run(folder, info)


def find(folder: str | Path | None = None) -> Run:
    """The run in `folder`, or by default the newest finished one below runs/ that can score (has a deploy net)."""
    if folder is not None:
        return load(folder)
    able = []
    for path in paths.RUNS.glob("*/run.json"):
        try:
            run = load(path.parent)
        except SelfieError as error:
            log.warning("passing over a run: %s", error)
            continue
        if run.finished and (run.folder / "deploy.prototxt").exists():
            able.append(run)
    if not able:
        raise SelfieError(f"no finished run in {paths.RUNS}: train one ('make demo' is the quickest), or give --run")
    newest = max(able, key=lambda run: run.info["ended"])
    log.info("using %s, the newest finished run", newest.folder.relative_to(paths.ROOT))
    return newest


def snapshots(folder: Path) -> list[tuple[int, Path]]:
    """(iteration, .solverstate) of a run's snapshots, newest first."""
    states = [
        (int(match.group(1)), path)
        for path in (folder / "snapshots").glob("*.solverstate")
        if (match := re.search(r"_iter_(\d+)\.solverstate$", path.name))
    ]
    return sorted(states, reverse=True)


def versions() -> dict[str, str]:
    """What computed this: Caffe's build, Python and the packages that matter, and the project's commit."""
    import importlib.metadata

    import cv2

    caffe = pycaffe.caffe()
    found = {name: importlib.metadata.version(name) for name in ("numpy", "lmdb", "protobuf")}
    return {
        "caffe": caffe.__version__,
        "blas_kernel": caffe.blas_kernel(),
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **found,
        "project": _commit(),
    }


def _commit() -> str:
    """The project's commit, where git can tell."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=paths.ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown: git is not installed"
    return answer.stdout.strip() or "unknown: not a git checkout"
