"""The work that benchmarks give: pictures, manifests, runs with random weights; and commands, watched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import polars as pl

from selfie.bench import net_forms
from selfie.common import parallel, paths, times
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.net import caffe_net, variants
from selfie.net.prototxt import dump
from selfie.runs.run_folder import Run

PHOTOS = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "motorcycle_left.png", "rocket.jpg")
GRAIN = (5.0, 0.0, 0.0)  # standard deviation of the noise in blue, green and red, in levels
DIFFERENT = 400  # pictures that are drawn; more files are these again, with another comment inside


class Cost(NamedTuple):
    """The cost of a command.

    cores       processor time over time
    megabytes   largest resident set of its process
    """

    seconds: float
    cores: float
    megabytes: float


@dataclass(frozen=True)
class Setting:
    """The benchmark's folder and length.

    folder        for its own files
    quick         the short one
    count, side   pictures of group cluster, and their pixels; None: its own
    """

    folder: Path
    quick: bool
    count: int | None = None
    side: int | None = None

    def pictures(self, count: int, side: int) -> Path:
        """Make `count` JPEGs of `side` pixels, once; labels.csv beside images/."""
        return make_pictures(self.folder / f"{count}x{side}", count, side)


# A process begins with the memory of the one that started it on its account, so a small one starts what is measured.
WATCH = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds, usage = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, seconds, (usage.ru_utime + usage.ru_stime) / seconds, usage.ru_maxrss / 1024]))
"""


def command(*arguments: object, **environment: str) -> Cost:
    """Run `python <arguments>` from the project's root, with `environment` added to ours; its output is thrown away.

    SelfieError, with the end of its stderr, if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", WATCH, sys.executable, *map(str, arguments)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
    )
    code, *cost = json.loads(done.stdout) if done.returncode == 0 else (done.returncode,)
    if code:
        raise SelfieError(f"{' '.join(map(str, arguments))} failed: {done.stderr.strip()[-500:]}")
    return Cost(*cost)


# --- work to do ------------------------------------------------------------------------------------------------------


def make_pictures(folder: Path, count: int, side: int) -> Path:
    """Draw `count` JPEGs of `side` x `side` pixels into folder/images, once; returns folder/labels.csv.

    Random parts of scikit-image's photographs with film grain, so that a file of 1080 pixels has the 150 to 250 kB of
    a phone's. No two files are equal: make_lmdb would take them for the same selfie.
    """
    labels = folder / "labels.csv"
    if labels.exists():
        return labels
    (folder / "images").mkdir(parents=True, exist_ok=True)
    tasks = [(folder, number, count, side) for number in range(min(count, DIFFERENT))]
    for _ in parallel.threads(_draw, tasks):
        pass
    names = [f"{number:06d}.jpg" for number in range(count)]
    paths.write_csv(
        labels,
        pl.DataFrame(
            {"id": names, "path": names, "split": ["train"] * count, "label": [number % 2 for number in range(count)]}
        ),
    )
    return labels


def _draw(task: tuple[Path, int, int, int]) -> None:
    """Draw picture `number` into all files that have its pixels."""
    folder, number, count, side = task
    rng = np.random.default_rng([2015, number])
    scene = photograph(PHOTOS[number % len(PHOTOS)])
    part = int(min(scene.shape[:2]) * rng.uniform(0.6, 1))
    top, left = (rng.integers(0, length - part + 1) for length in scene.shape[:2])
    picture = cv2.resize(scene[top : top + part, left : left + part], (side, side), interpolation=cv2.INTER_CUBIC)
    cv2.setRNGSeed(number)
    grain = cv2.randn(np.empty((side, side, 3), np.int16), np.zeros(3), np.array(GRAIN))
    data = cv2.imencode(
        ".jpg", cv2.add(picture.astype(np.int16), grain, dtype=cv2.CV_8U), [cv2.IMWRITE_JPEG_QUALITY, 85]
    )[1].tobytes()
    for copy in range(number, count, DIFFERENT):
        comment = b"\xff\xfe\x00\x0a%08d" % copy
        (folder / "images" / f"{copy:06d}.jpg").write_bytes(data[:2] + comment + data[2:])


@cache
def photograph(name: str) -> np.ndarray:
    """Read a photograph of scikit-image's wheel, uint8 BGR: real, and here without a download."""
    import skimage

    return image.read_named(Path(skimage.__file__).parent / "data" / name)


def make_run(folder: Path, variant: str) -> Run:
    """Make a finished run of a net with random weights, once: speed does not depend on what it has learned."""
    database = {"count": 1, "content": "", "inputs": {"rows": "", "images": "", "preprocessing": image.PREPROCESSING}}
    run = Run(
        folder / "runs" / variant,
        {
            **{"variant": variant, "state": "finished", "started": times.now(), "ended": times.now(), "command": []},
            **{"seed": 2015, "gpu": None, "parameters": 0, "max_iter": 1, "iterations": 1, "versions": {}},
            **{"weights": None, "caffemodel": "random.caffemodel"},
            "preprocessing": asdict(variants.get(variant).preprocessing),
            "lmdb": {"path": "none", "train": database, "val": database},
        },
    )
    if not (run.folder / "run.json").exists():
        run.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.PROTOTXT / variant / "deploy.prototxt", run.folder / "deploy.prototxt")
        save_random(run.folder)
        paths.write_csv(
            run.folder / "val_scores.csv",
            pl.DataFrame({"key": list("abcd"), "label": [0, 0, 1, 1], "score": [0.1, 0.4, 0.6, 0.9]}),
        )
        run.save()
    return run


def make_form(folder: Path, name: str) -> Path:
    """Make the folder of a net of net_forms, deploy.prototxt and random.caffemodel in it, once."""
    if not (folder / "random.caffemodel").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "deploy.prototxt").write_text(dump(net_forms.build(name), name))
        save_random(folder)
    return folder


def save_random(folder: Path) -> None:
    """Write random.caffemodel for the deploy.prototxt of a folder.

    Speed depends on numbers below 1e-38, with which a saturated softmax would fill the gradients; so the first layer
    scales pictures, which reach from -123 to 151, to about 1, and all others keep that (He et al. 2015).
    """
    net, rng = caffe_net.load(folder / "deploy.prototxt"), np.random.default_rng(2015)
    kinds = {name: layer.type for name, layer in zip(net._layer_names, net.layers)}
    for name, (weights, *others) in net.params.items():
        noise = rng.standard_normal(weights.data.shape, np.float32)
        if kinds[name] in ("BatchNorm", "Scale", "PReLU"):
            weights.data[...] = noise * 0.1 + (0.5 if kinds[name] == "Scale" else 0)
            for other in others if kinds[name] == "BatchNorm" else ():  # variance and count
                other.data[...] = 1
        else:
            weights.data[...] = noise * (2 * weights.shape[0] / weights.count) ** 0.5
    next(iter(net.params.values()))[0].data[...] /= 64
    net.save(str(folder / "random.caffemodel"))


def make_manifest(folder: Path, rows: int, suffix: str) -> Path:
    """Write a manifest of `rows` invented posts, .parquet or .csv, once."""
    path = folder / f"manifest{rows}{suffix}"
    if path.exists():
        return path
    rng = np.random.default_rng(2015)
    number = pl.int_range(rows, eager=True)
    table = pl.DataFrame(
        {
            "id": "s" + number.cast(pl.String).str.zfill(8),
            "path": number.cast(pl.String) + ".jpg",
            "user": "u" + pl.Series(rng.integers(0, max(1, rows // 5), rows)).cast(pl.String),
            "followers": (50 * (1 + rng.pareto(1, rows))).clip(1, 1e8).astype(np.int64),
            "likes": rng.lognormal(3, 1, rows).astype(np.int64),
            "tags": pl.Series([" ".join(f"tag{k}" for k in range(n)) for n in range(25)]).gather(
                rng.integers(0, 25, rows)
            ),
            "posted_at": (pl.Series(rng.integers(1_420_000_000, 1_445_000_000, rows)) * 1000)
            .cast(pl.Datetime("ms"))
            .dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    with paths.atomic_path(path) as temporary:
        table.write_parquet(temporary) if suffix == ".parquet" else table.write_csv(temporary)
    return path
