"""Groups `start`, `lmdb`, `faces`, `labels` and `growth`: whole commands, from their start to their end."""

from __future__ import annotations

import logging
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import cv2

from selfie.bench.record import Row, in_turns, median_ratio
from selfie.bench.workload import Cost, Setting, command, make_manifest, make_run
from selfie.common import paths, plots
from selfie.data import datum
from selfie.data.lmdb_reader import Database
from selfie.faces import mtcnn

CONVERT_IMAGESET = paths.BUILD / "caffe" / "bin" / "convert_imageset"

log = logging.getLogger(__name__)


def start(setting: Setting) -> Iterable[Row]:
    """Start every command for its --help, and one for one picture's score."""
    helps = {
        path.name: min(command(path, "--help").seconds for _ in range(3))
        for path in sorted([*paths.ROOT.glob("tools/*.py"), *paths.ROOT.glob("pycaffe_scripts/*.py")])
    }
    slowest = max(helps, key=lambda name: helps[name])
    title = f"--help, the slowest of {len(helps)} commands: {slowest}"
    yield Row("start", title, "s", helps[slowest], wanted=0.3, detail=helps)
    run = make_run(setting.folder, "squeezenet")
    picture = setting.pictures(1, 1080).parent / "images" / "000000.jpg"
    times = [command("tools/score.py", "--run", run.folder, picture).seconds for _ in range(5)]
    title = "score.py one.jpg, squeezenet"
    yield Row("start", title, "s", statistics.median(times), wanted=1.5, detail={"rounds": times})


# --- lmdb ------------------------------------------------------------------------------------------------------------


def lmdb(setting: Setting) -> Iterable[Row]:
    """Build a raw database beside Caffe's convert_imageset, of pictures that the JPEG decoder halves and others."""
    yield _lmdb_row(setting, 1000, "same pixels", compare=True)
    yield _lmdb_row(setting, 1080, "halved by the JPEG decoder", compare=False)


def _lmdb_row(setting: Setting, side: int, what: str, compare: bool) -> Row:
    """Build both databases in turns, of JPEGs of `side` pixels; `compare` their pixels in the end."""
    count, rounds = (1000, 2) if setting.quick else (2000, 3)
    labels = setting.pictures(count, side)
    rates = in_turns(
        rounds,
        {
            "ours": lambda _: count / make_lmdb(setting, labels, "--raw").seconds,
            "peer": lambda _: count / convert_imageset(setting, labels),
        },
    )
    detail: dict = {"rounds": rates}
    if compare:
        detail["largest difference of a pixel"] = _largest_difference(setting)
    return Row(
        "lmdb",
        f"raw LMDB of JPEGs of {side} px ({what})",
        "images/s",
        statistics.median(rates["ours"]),
        statistics.median(rates["peer"]),
        "convert_imageset",
        median_ratio(rates["ours"], rates["peer"]),
        1.8,
        detail,
    )


def make_lmdb(setting: Setting, labels: Path, *options: str) -> Cost:
    """Rebuild <folder>/lmdb with our command; returns its cost."""
    out = setting.folder / "lmdb"
    shutil.rmtree(out, ignore_errors=True)
    inputs = ("--labels", labels, "--images", labels.parent / "images")
    return command("tools/make_lmdb.py", *inputs, "--out", out, *options)


def convert_imageset(setting: Setting, labels: Path) -> float:
    """Build <folder>/peer with Caffe's own tool, of the same pictures in the order of our LMDB; its seconds."""
    shutil.rmtree(setting.folder / "peer", ignore_errors=True)
    lines = [line.split("\t") for line in (setting.folder / "lmdb/train/list.txt").read_text().splitlines()]
    (setting.folder / "list").write_text("".join(f"{path} {label}\n" for _, label, path in lines))
    begin = time.perf_counter()
    subprocess.run(
        [
            *(CONVERT_IMAGESET, "--resize_height=256", "--resize_width=256"),
            *(f"{labels.parent}/images/", setting.folder / "list", setting.folder / "peer"),
        ],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begin


def _largest_difference(setting: Setting) -> int:
    """Return the largest difference between a pixel of our raw LMDB and of Caffe's, in levels."""
    import lmdb as pylmdb

    with (
        pylmdb.open(str(setting.folder / "peer"), readonly=True, lock=False) as env,
        env.begin() as transaction,
        Database(setting.folder / "lmdb" / "train") as ours,
    ):
        return max(
            int(cv2.absdiff(datum.decode(theirs)[0], pixels).max())
            for (_, theirs), (_, pixels, _) in zip(transaction.cursor(), ours)
        )


# --- faces, labels ---------------------------------------------------------------------------------------------------


def faces(setting: Setting) -> Iterable[Row]:
    """Filter JPEGs of 1080 px by their faces; the command's start is in the time, a second or two of it."""
    count = 100 if setting.quick else 2000
    labels = setting.pictures(count, 1080)
    inputs = ("--manifest", labels, "--images", labels.parent / "images", "--out", setting.folder / "faces.csv")
    for detector in ("lbp", "mtcnn"):
        if detector == "mtcnn" and (problem := mtcnn.problem()):
            log.warning("no measurement of MTCNN: %s", problem)
            continue
        cost = command("tools/filter_faces.py", *inputs, "--detector", detector)
        title = f"face filter {detector}, JPEGs of 1080 px"
        wanted = 150 if detector == "mtcnn" and not setting.quick else None
        yield Row("faces", title, "images/s", count / cost.seconds, wanted=wanted, detail=cost._asdict())


def labels(setting: Setting) -> Iterable[Row]:
    """Label millions of rows."""
    rows = 500_000 if setting.quick else 5_000_000
    for suffix, most in ((".parquet", 15), (".csv", 25)):
        source = make_manifest(setting.folder, rows, suffix)
        cost = command("tools/label.py", "--manifest", source, "--out", setting.folder / "labels.csv")
        title = f"labels of {rows:,} rows of {suffix[1:]}"
        yield Row("labels", title, "s", cost.seconds, wanted=None if setting.quick else most, detail=cost._asdict())
        yield Row("labels", f"{title}: memory", "MB", cost.megabytes, wanted=3000)


# --- growth ----------------------------------------------------------------------------------------------------------


def growth(setting: Setting) -> Iterable[Row]:
    """Run LMDB, labels and scoring (the demo net) at 1,000, 10,000 and 100,000: cost per item, and memory."""
    sizes = (1000, 10_000) if setting.quick else (1000, 10_000, 100_000)
    costs = _costs(setting, sizes)
    _draw_growth(setting.folder / "growth.png", sizes, costs)
    for name, of_sizes in costs.items():
        before, last = of_sizes[-2:]
        detail = {str(size): cost._asdict() for size, cost in zip(sizes, of_sizes)}
        title = f"{name}: {sizes[-1]:,} against {sizes[-2]:,}, times the cost"
        yield Row("growth", title, "x", last.seconds / before.seconds, detail=detail)
        most = 500 if name == "lmdb" else None
        yield Row("growth", f"{name}: memory at {sizes[-1]:,}", "MB", last.megabytes, wanted=most)


def _costs(setting: Setting, sizes: Iterable[int]) -> dict[str, list[Cost]]:
    """Return what each command costs at each size."""
    run = make_run(setting.folder, "demo")
    costs: dict[str, list[Cost]] = {"lmdb": [], "labels": [], "scoring": []}
    for size in sizes:
        source = setting.pictures(size, 128)
        costs["lmdb"].append(make_lmdb(setting, source))
        shutil.rmtree(setting.folder / "lmdb")
        costs["scoring"].append(command("tools/score.py", "--run", run.folder, "--csv", source.parent / "images"))
        manifest = make_manifest(setting.folder, size, ".parquet")
        costs["labels"].append(
            command("tools/label.py", "--out", setting.folder / "labels.csv", "--manifest", manifest)
        )
    return costs


def _draw_growth(path: Path, sizes: Iterable[int], costs: dict[str, list[Cost]]) -> None:
    """Plot the seconds of each command against the size, both logarithmic."""
    with plots.figure(path) as axis:
        for name, of_sizes in costs.items():
            axis.loglog(sizes, [cost.seconds for cost in of_sizes], marker="o", label=name)
        axis.set_xlabel("pictures (labels: rows)")
        axis.set_ylabel("seconds, with starting up")
        axis.legend()
