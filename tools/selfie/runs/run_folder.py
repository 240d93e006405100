"""Run folders: what one training left behind, and how commands find it.

    runs/<name>/  train_val.prototxt, solver.prototxt        exactly what was trained
                  deploy.prototxt, deploy_conv.prototxt      what scores one window, or all windows of a larger picture
                  log.txt, metrics.csv, curves.png           what Caffe said, as numbers, as a picture
                  snapshots/                                 .caffemodel and .solverstate files
                  val_scores.csv                             score and label of each validation selfie
                  run.json                                   versions, seeds, hashes, preprocessing, command line, state

A run is "started", then "trained" (its weights are final), then "finished" (its validation selfies are scored, too).
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import subprocess
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data.image import IMAGE_SIZE, Preprocessing
from selfie.data.lmdb_reader import Database
from selfie.net import caffe_net, pycaffe, variants
from selfie.net.caffe_net import ScoringNet
from selfie.net.variants import Variant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run folder and its run.json."""

    folder: Path
    info: dict

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing that the run was trained with, whatever its variant says today.

        For runs older than version 0.2 it is read from their train_val.prototxt; SelfieError if that does not say.
        """
        recorded = self.info.get("preprocessing")
        if recorded:
            return Preprocessing(tuple(recorded["mean"]), recorded["crop"], recorded["size"])
        message = pycaffe.read_net(paths.existing(self.folder / "train_val.prototxt", "prototxt"))
        # Of training and validation, which share mean and crop: the latter is fed as scoring is.
        data_layers = [layer.transform_param for layer in message.layer if layer.type == "Data"]
        if not data_layers or len(data_layers[-1].mean_value) != 3 or not data_layers[-1].crop_size:
            raise SelfieError(f"{self.folder} does not record how its pictures were prepared: train it again")
        mean = tuple(round(value, 4) for value in data_layers[-1].mean_value)  # a prototxt holds them as float32
        size = self.info["lmdb"]["train"]["inputs"].get("size", IMAGE_SIZE)
        return Preprocessing(mean, data_layers[-1].crop_size, size)

    @cached_property
    def variant(self) -> Variant:
        """Return the run's variant, with the run's own preprocessing."""
        return replace(variants.get(self.info["variant"]), preprocessing=self.preprocessing)

    @property
    def batch(self) -> int:
        """Return the selfies per iteration on each GPU; runs that recorded none had their variant's."""
        return self.info.get("batch", self.variant.batch)

    @property
    def finished(self) -> bool:
        """Tell whether the run's last step has ended."""
        return self.info.get("state") == "finished"

    @property
    def caffemodel(self) -> Path:
        """Return the run's final weights; SelfieError if training has not ended."""
        if self.info.get("state") not in ("trained", "finished"):
            raise SelfieError(f"{self.folder} is not finished: go on with 'make train RUN={self.folder} RESUME=1'")
        return paths.existing(self.folder / self.info["caffemodel"], "caffemodel")

    @property
    def deploy(self) -> Path:
        """Return the prototxt of the net that scores."""
        return paths.existing(self.folder / "deploy.prototxt", "deploy net")

    @property
    def deploy_conv(self) -> Path:
        """Return the prototxt of the net that scores all windows of a picture. SelfieError if its variant has none.

        Runs that have none of their own (before version 0.2) take today's.
        """
        if not self.variant.deploy:
            raise SelfieError(f"variant {self.variant.name} has no net for scoring many windows: take another run")
        own = self.folder / "deploy_conv.prototxt"
        return own if own.exists() else paths.PROTOTXT / self.variant.deploy / "deploy_conv.prototxt"

    def database(self, split: str) -> Path:
        """Return the folder of a split's finished database, checked against the one that the run was trained on.

        All code opens a run's databases by this method. SelfieError if it was rebuilt since from other labels (its
        selfies may then have been trained on) or in another size.
        """
        folder = paths.ROOT / self.info["lmdb"]["path"] / split
        trained = self.info["lmdb"]["train"]["inputs"]
        with Database(folder) as records:
            inputs = records.meta["inputs"]
        if inputs["rows"] != trained["rows"]:
            raise SelfieError(f"{folder} was built from other labels than {self.folder} was trained on: train again")
        size = inputs.get("size", IMAGE_SIZE)
        if size != self.preprocessing.size:
            raise SelfieError(
                f"{folder} holds pictures of {size} pixels, but {self.folder} was trained on "
                f"{self.preprocessing.size}: train again"
            )
        return folder

    def net(self, gpu: int | None = None) -> ScoringNet:
        """Load the run's net for scoring, with its final weights."""
        caffemodel = self.caffemodel  # first: an unfinished run should say so
        return ScoringNet(caffe_net.load(self.deploy, caffemodel, gpu), self.preprocessing, gpu)

    def save(self, **changes: object) -> Run:
        """Write run.json with `changes`; returns the changed run."""
        info = {**self.info, **changes}
        paths.write_json(self.folder / "run.json", info)
        return Run(self.folder, info)


def load(folder: str | Path) -> Run:
    """Load the run in `folder`; SelfieError if it is not a run folder."""
    folder = paths.existing(folder, "run folder")
    if not (folder / "run.json").exists():
        raise SelfieError(f"{folder} is not a run folder: it has no run.json")
    info = paths.read_json(folder / "run.json")
    if "variant" not in info:
        raise SelfieError(f"{folder / 'run.json'} names no variant: not written by tools/train.py")
    return Run(folder, info)


def find(folder: str | Path | None = None) -> Run:
    """Load the run in `folder`, or by default the newest finished one below runs/ that can score.

    A run whose last step, the scoring of its validation selfies, was interrupted is not finished.
    """
    if folder is not None:
        return load(folder)
    candidates = []
    for path in paths.RUNS.glob("*/run.json"):
        try:
            run = load(path.parent)
        except SelfieError as error:
            log.warning("skipping a run: %s", error)
            continue
        if run.finished and all((run.folder / name).exists() for name in ("deploy.prototxt", "val_scores.csv")):
            candidates.append(run)
    if not candidates:
        raise SelfieError(f"no finished run in {paths.RUNS}: train one ('make demo' is the quickest), or give --run")
    newest = max(candidates, key=lambda run: run.info["ended"])
    here = Path.cwd()  # named as its user would name it
    folder = newest.folder.relative_to(here) if newest.folder.is_relative_to(here) else newest.folder
    log.info("using %s, the newest finished run", folder)
    return Run(folder, newest.info)


def versions() -> dict[str, str]:
    """Return the versions that a run depends on: Caffe's build, Python, packages, and the project's commit."""
    caffe = pycaffe.caffe()
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "lmdb", "protobuf")}
    return {
        "caffe": caffe.__version__,
        "blas_kernel": caffe.blas_kernel(),
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **packages,
        "project": _commit(),
    }


def _commit() -> str:
    """Return the project's commit, or 'unknown' and why."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=paths.ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown: git is not installed"
    return answer.stdout.strip() or "unknown: not a git checkout"
