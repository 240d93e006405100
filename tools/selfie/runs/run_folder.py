"""Run folders: what one training left behind, and how commands find it.

    runs/<name>/  train_val.prototxt, solver.prototxt        exactly what was trained
                  deploy.prototxt, deploy_conv.prototxt      what scores one window, or all windows of a larger picture
                  log.txt, metrics.csv, curves.png           what Caffe said, as numbers, as a picture
                  snapshots/                                 .caffemodel and .solverstate files
                  val_scores.csv                             score and label of each validation selfie
                  held_out.csv                               of heads on a frozen net: the same of every selfie
                  run.json                                   versions, seeds, hashes, preprocessing, command line, state

A run is "preparing" while its folder is made, then "started", then "trained" (its weights are final), then "finished"
(its validation selfies are scored, too). While a training writes into the folder, it holds its lock.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import subprocess
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, cached_property
from pathlib import Path

import cv2

from selfie.common import locks, paths, shapes, temporaries, times
from selfie.common.errors import SelfieError
from selfie.data import label_rule
from selfie.data.image import IMAGE_SIZE, Preprocessing
from selfie.data.label_rule import Meaning
from selfie.data.lmdb_inputs import MAX_SIZE
from selfie.data.lmdb_reader import Database
from selfie.net import caffe_net, pycaffe, variants
from selfie.net.caffe_net import ScoringNet
from selfie.net.variants import Readout, Variant

log = logging.getLogger(__name__)


PREPARING = "preparing"
HELD_OUT = "held_out.csv"
ENDED = ("trained", "finished")  # states in which the weights are final

# What run.json must have to be used: what every version has written. A run that has ended has more.
DATABASE = {
    "count": int,
    "content": str,
    "inputs": {"rows": str, "images": str, "size?": int, "detail?": int, "preprocessing?": int},
    "labels_file?": dict,
}
SHAPE = {
    "variant": str,
    "state": str,
    "started": str,
    "command": [str],
    "seed": int,
    "max_iter": int,
    "gpu": (str, None),
    "batch?": int,
    "parameters": int,
    "preprocessing?": {"mean": [float], "crop": int, "size": int, "detail?": int},
    "lmdb": {"path": str, "train": DATABASE, "val": DATABASE},
    "frozen?": {
        "shrink": int,
        "smooth": int,
        "readings": str,
        "readout": {"blobs": [str], "pools": [str], "folds": int, "seeds": int, "views": [str]},
    },
    "calibration?": dict,
    "nets?": dict,
    "weights": ({"path": str, "sha256": str}, None),
    "versions": dict,
}
END_SHAPE = {"ended": str, "iterations": int, "caffemodel": str, "caffemodel_sha256?": str}
UNTRAINED = {"snapshots", "train_val.prototxt", "deploy.prototxt", "deploy_conv.prototxt", "solver.prototxt"}
REMAINS = UNTRAINED | {  # of a run without its run.json
    *("log.txt", "metrics.csv", "curves.png", "val_scores.csv"),
    *("readings", "heads", "start.caffemodel", "weights.caffemodel", HELD_OUT),
}


class Content(Enum):
    """What a folder holds, for whoever wants to train in it."""

    NOTHING = "nothing, or what a training that never began has left"
    REMAINS = "a part of a run, without run.json"
    RUN = "a run"
    FOREIGN = "something else"


def content(folder: Path) -> Content:
    """Say what is in a folder (or at its path)."""
    if not folder.is_dir():
        return Content.FOREIGN
    file = folder / "run.json"
    if file.exists():
        try:
            return Content.NOTHING if paths.read_json(file).get("state") == PREPARING else Content.RUN
        except SelfieError:
            return Content.RUN
    names = {path.name for path in folder.iterdir()}
    names = {name for name in names if name != locks.LOCK and not temporaries.OURS.fullmatch(name)}
    if names and not ("snapshots" in names and names <= REMAINS):
        return Content.FOREIGN
    trained = names - UNTRAINED or ("snapshots" in names and any((folder / "snapshots").iterdir()))
    return Content.REMAINS if trained else Content.NOTHING


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
            mean, crop, size = (recorded[name] for name in ("mean", "crop", "size"))
            return Preprocessing(tuple(mean), crop, size, recorded.get("detail", 0))
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
        """Return the run's variant, with the run's own preprocessing, and what it reads of a frozen net."""
        own = self.info.get("frozen") or {}
        changed = {name: own[name] for name in ("shrink", "smooth") if own} | ({"readout": self.readout} if own else {})
        return replace(variants.get(self.info["variant"]), preprocessing=self.preprocessing, **changed)

    @cached_property
    def readout(self) -> Readout:
        """Return what the run's heads read of a frozen net. KeyError for a run that has no heads."""
        own = self.info["frozen"]["readout"]
        blobs, pools, views = (tuple(own[name]) for name in ("blobs", "pools", "views"))
        return Readout(blobs, pools, own["folds"], own["seeds"], views)

    @property
    def meaning(self) -> Meaning:
        """Return what its labels mean, that is, what its scores are the probability of."""
        return label_rule.meaning(self.info["lmdb"]["train"].get("labels_file", {}).get("rule"))

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
        """Return the run's final weights; SelfieError if training has not ended, or if they are not what it wrote."""
        if self.info["state"] not in ENDED:
            raise SelfieError(f"{self.folder} is not finished: go on with 'make train RUN={self.folder} RESUME=1'")
        path = self.folder / self.info["caffemodel"]
        if not path.is_file():
            raise SelfieError(f"no such caffemodel: {path}")
        status = path.stat()
        recorded = self.info.get("caffemodel_sha256")  # runs before version 0.3 have none
        if recorded and _sha256_of(path, status.st_size, status.st_mtime_ns) != recorded:
            raise SelfieError(f"{path} is damaged: it is not what the training wrote (by the hash in run.json)")
        return path

    @property
    def deploy(self) -> Path:
        """Return the prototxt of the net that scores."""
        return self._unchanged("deploy.prototxt")

    @property
    def deploy_conv(self) -> Path:
        """Return the prototxt of the net that scores all windows of a picture. SelfieError if its variant has none.

        Runs that have none of their own (before version 0.2) take today's.
        """
        if not self.variant.deploy:
            raise SelfieError(f"variant {self.variant.name} has no net for scoring many windows: take another run")
        own = self.folder / "deploy_conv.prototxt"
        return (
            self._unchanged(own.name) if own.exists() else paths.PROTOTXT / self.variant.deploy / "deploy_conv.prototxt"
        )

    def _unchanged(self, name: str) -> Path:
        """Return a net of the run folder; SelfieError if it is not what the training wrote: Caffe may abort on it."""
        path = paths.existing_file(self.folder / name, "net")
        recorded = self.info.get("nets", {}).get(name)  # runs before version 0.3 have none
        if recorded and paths.sha256(path) != recorded:
            raise SelfieError(f"{path} was changed since the training wrote it (by the hash in run.json): train again")
        return path

    def database(self, split: str) -> Path:
        """Return the folder of a split's finished database, checked against the one that the run was trained on.

        All code opens a run's databases by this method. SelfieError if it was rebuilt since from other labels (its
        selfies may then have been trained on), in another size or with another detail.
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
        if inputs.get("detail", 0) != self.preprocessing.detail:
            raise SelfieError(f"{folder} was built with another --detail than {self.folder} learned from: train again")
        return folder

    def net(self, gpu: int | None = None) -> ScoringNet:
        """Load the run's net for scoring, with its final weights."""
        caffemodel = self.caffemodel  # first: an unfinished run should say so
        net = caffe_net.load(self.deploy, caffemodel, gpu)
        data, answer = (list(net.blobs[name].shape) if name in net.blobs else [] for name in ("data", "prob"))
        if len(data) != 4 or math.prod(answer[1:]) != 2:
            raise SelfieError(
                f"{self.deploy} does not take pictures as data, or answers otherwise than by two probabilities, prob"
            )
        height, width = data[2:]
        if (height, width) != (self.preprocessing.crop,) * 2:  # Caffe would abort when the first picture comes
            raise SelfieError(
                f"{self.deploy} takes pictures of {height} x {width} pixels, but run.json says that the crop is "
                f"{self.preprocessing.crop}: train again"
            )
        return ScoringNet(net, self.preprocessing, gpu)

    def check_not_replaced(self) -> None:
        """Raise SelfieError if the folder holds another training by now, whose scores would not be this one's."""
        now = paths.read_json(self.folder / "run.json")
        if any(now.get(name) != self.info.get(name) for name in ("started", "caffemodel_sha256")):
            raise SelfieError(f"{self.folder} was trained anew meanwhile, so these scores are not its own: score again")

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
    info = shapes.read(folder / "run.json", SHAPE)
    problem = shapes.fault(info, END_SHAPE) if info["state"] in ENDED else ""
    if problem := problem or _out_of_range(info):
        raise SelfieError(f"{folder / 'run.json'} is damaged: {problem}")
    return Run(folder, info)


def _out_of_range(info: dict) -> str:
    """Name what is of the right type in run.json and cannot be; "" if nothing is."""
    prepared = info.get("preprocessing") or {"mean": [0, 0, 0], "crop": 1, "size": 1}
    limits = {
        "batch": 1 <= info.get("batch", 1) <= 1 << 20,
        "max_iter": 1 <= info["max_iter"] < 1 << 31,
        "preprocessing": len(prepared["mean"]) == 3
        and 1 <= prepared["crop"] <= prepared["size"] <= MAX_SIZE
        and 0 <= prepared.get("detail", 0) <= prepared["size"],
        "lmdb": all(info["lmdb"][split]["count"] >= 1 for split in ("train", "val")),
        "started": _is_time(info["started"]),
        "ended": _is_time(info.get("ended", info["started"])),
    }
    return next((f"{name} cannot be {info[name]!r}" for name, fine in limits.items() if not fine), "")


def _is_time(text: str) -> bool:
    try:
        times.date(text)
    except (ValueError, OverflowError):
        return False
    return True


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
        except (SelfieError, OSError) as error:
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


@cache
def _sha256_of(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file; computed once in each process for as long as its size and time of change stay."""
    return paths.sha256(path)


def versions() -> dict[str, str]:
    """Return the versions that a run depends on: Caffe's build, Python, packages, and the project's commit."""
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "lmdb", "protobuf")}
    return {
        "caffe": pycaffe.version(),
        "blas_kernel": pycaffe.caffe().blas_kernel(),
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
