"""What `make bench` measures: the commands and their peers on the same work, in turns.

Each group of GROUPS is a function that returns rows for the table. What is compared takes turns, round by round, so
that a machine with other work to do slows all of them; a ratio is the median of the rounds' ratios. Everything that is
measured is kept in bench.json, group by group, so a group can be measured again alone.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from selfie.bench import peers
from selfie.bench.record import Row, describe_machine, in_turns, median_ratio, record_groups
from selfie.bench.workload import PHOTOS, Cost, Setting, command, make_manifest, make_run, photograph
from selfie.common import parallel, paths, plots
from selfie.common.errors import SelfieError
from selfie.data import datum, image
from selfie.data.lmdb_reader import Database
from selfie.experiments.crops import Searcher, space
from selfie.faces import mtcnn
from selfie.runs import score

CONVERT_IMAGESET = paths.BUILD / "caffe" / "bin" / "convert_imageset"

log = logging.getLogger(__name__)


# --- groups ----------------------------------------------------------------------------------------------------------


def start(setting: Setting) -> Iterable[Row]:
    """Every command's --help, and one picture's score."""
    helps = {
        path.name: min(command(path, "--help").seconds for _ in range(3))
        for path in sorted([*paths.ROOT.glob("tools/*.py"), *paths.ROOT.glob("pycaffe_scripts/*.py")])
    }
    slowest = max(helps, key=helps.get)
    yield Row(
        "start",
        f"--help, the slowest of {len(helps)} commands: {slowest}",
        "s",
        helps[slowest],
        wanted=0.3,
        detail=helps,
    )
    run = make_run(setting.folder, "squeezenet")
    one = setting.pictures(1, 1080).parent / "images" / "000000.jpg"
    times = [command("tools/score.py", "--run", run.folder, one).seconds for _ in range(5)]
    yield Row(
        "start", "score.py one.jpg, squeezenet", "s", statistics.median(times), wanted=1.5, detail={"rounds": times}
    )


def lmdb(setting: Setting) -> Iterable[Row]:
    """make_lmdb.py --raw beside Caffe's convert_imageset: from their start to their end."""
    count, rounds = (1000, 2) if setting.quick else (2000, 3)
    for side, what in ((1000, "same pixels"), (1080, "halved by the JPEG decoder")):
        labels = setting.pictures(count, side)
        found = in_turns(
            rounds,
            ours=lambda _, labels=labels: count / make_lmdb(setting, labels, "--raw").seconds,
            peer=lambda _, labels=labels: count / convert_imageset(setting, labels),
        )
        detail = {"rounds": found}
        if side == 1000:
            detail["largest difference of a pixel"] = _largest_difference(setting)
        yield Row(
            "lmdb",
            f"raw LMDB of JPEGs of {side} px ({what})",
            "images/s",
            statistics.median(found["ours"]),
            statistics.median(found["peer"]),
            "convert_imageset",
            median_ratio(found["ours"], found["peer"]),
            1.8,
            detail,
        )


def make_lmdb(setting: Setting, labels: Path, *options: str) -> Cost:
    """Into <folder>/lmdb, from nothing."""
    shutil.rmtree(setting.folder / "lmdb", ignore_errors=True)
    return command(
        "tools/make_lmdb.py",
        "--labels",
        labels,
        "--images",
        labels.parent / "images",
        "--out",
        setting.folder / "lmdb",
        *options,
    )


def convert_imageset(setting: Setting, labels: Path) -> float:
    """Seconds that Caffe's own tool takes for the same pictures, into <folder>/peer. The order is that of our LMDB."""
    shutil.rmtree(setting.folder / "peer", ignore_errors=True)
    lines = [line.split("\t") for line in (setting.folder / "lmdb/train/list.txt").read_text().splitlines()]
    (setting.folder / "list").write_text("".join(f"{path} {label}\n" for _, label, path in lines))
    begin = time.perf_counter()
    subprocess.run(
        [
            CONVERT_IMAGESET,
            "--resize_height=256",
            "--resize_width=256",
            f"{labels.parent}/images/",
            setting.folder / "list",
            setting.folder / "peer",
        ],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begin


def _largest_difference(setting: Setting) -> int:
    """Between a pixel of our raw LMDB and of Caffe's, in levels."""
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


def scoring(setting: Setting) -> Iterable[Row]:
    """score.py's pipeline on JPEGs of 1080 px beside the bare net on pictures in memory, and beside the best that
    can be expected: the time that all cores take to read the pictures, and then that for the net."""
    for variant, short in (("squeezenet", 200), ("vgg16", 32)):
        share, rounds = short if setting.quick else 1000, 2
        run = make_run(setting.folder, variant)
        names = sorted(map(str, (setting.pictures(2000, 1080).parent / "images").iterdir()))
        net, busy, size = run.net(), [], min(16, share // 4)

        def ours(number: int, run=run, share=share, busy=busy, names=names, size=size) -> float:
            """Pictures per second, from the call on: with the first batch, for which Caffe packs the weights."""
            scored = score.score(run, names[number * share : (number + 1) * share], batch=size)
            used, begin = time.process_time(), time.perf_counter()
            assert all(one.error is None for one in scored)
            seconds = time.perf_counter() - begin
            busy.append((time.process_time() - used) / seconds)
            return share / seconds

        def bare(_: int, share=share, net=net, size=size) -> float:
            batch = np.random.default_rng(0).integers(0, 256, (size, 256, 256, 3), dtype=np.uint8)
            begin = time.perf_counter()
            for _ in range(share // size):
                net.scores(batch)
            return share // size * size / (time.perf_counter() - begin)

        def reading(number: int, share=share, names=names, size=size) -> float:
            begin = time.perf_counter()
            for _ in score.read_ahead(names[number * share : (number + 1) * share], size):
                pass
            return share / (time.perf_counter() - begin)

        found = in_turns(rounds, ours=ours, bare=bare, reading=reading)
        found["best"] = [1 / (1 / one + 1 / other) for one, other in zip(found["bare"], found["reading"])]
        for peer, peer_name in (("bare", "the bare net"), ("best", "reading, then the bare net")):
            yield Row(
                "scoring",
                f"{variant}, JPEGs of 1080 px",
                "images/s",
                statistics.median(found["ours"]),
                statistics.median(found[peer]),
                peer_name,
                median_ratio(found["ours"], found[peer]),
                0.95 if (variant, peer, setting.quick) == ("vgg16", "bare", False) else None,
                {"rounds": found, "cores": parallel.cores(), "cores busy": statistics.median(busy)},
            )


def nets(setting: Setting) -> Iterable[Row]:
    """VGG16 and SqueezeNet, 8 photographs at a time, in Caffe beside its own code and other libraries on the CPU."""
    for name in peers.missing():
        log.warning("no measurement of %s: 'pip install -r requirements-bench.txt' brings it", name)
    bounds = {"vgg16 forward": {"fastest": 1.6, "memory": round(1 / 1.2, 3)}, "vgg16 training": {"fastest": 2.5}}
    for variant in ("vgg16", "squeezenet"):
        run, folder = make_run(setting.folder, variant), setting.folder / "nets" / variant
        photos = np.stack([image.square(photograph(PHOTOS[number % len(PHOTOS)])) for number in range(8)])
        peers.prepare(
            run.deploy,
            run.folder / "random.caffemodel",
            run.preprocessing.prepare(photos),
            folder,
        )
        for work in ("forward", "training"):
            rounds = 3 if setting.quick else 9
            others = [
                name for name in (peers.MODULES if work == "forward" else peers.TRAIN) if name not in peers.missing()
            ]
            yield from _race(
                variant, work, folder, rounds, (peers.OURS, peers.STOCK), others, bounds.get(f"{variant} {work}", {})
            )
            yield from _race(variant, work, folder, rounds, (peers.OURS_AVX2, peers.STOCK_AVX2), (), {"stock": 1})


def _race(
    variant: str,
    work: str,
    folder: Path,
    rounds: int,
    caffes: tuple[str, str],
    others: Iterable[str],
    wanted: dict[str, float],
) -> Iterable[Row]:
    """Passes of all contenders in turns. `caffes`: ours, and the one without oneDNN. `wanted`: how many times as fast
    as that ("stock") and as the fastest of `others` ("fastest") we are to be, and as thrifty as that ("memory")."""
    name_of_ours, name_of_stock = caffes
    with contextlib.ExitStack() as stack:
        contenders = {name: stack.enter_context(peers.Contender(name, folder, work)) for name in (*caffes, *others)}
        images = len(np.load(folder / "input.npy"))

        def milliseconds(one: peers.Contender) -> float:
            time.sleep(0.1)  # until the threads of whoever was before do not spin any more
            return one.seconds() / images * 1000

        found = in_turns(rounds, **{name: lambda _, one=one: milliseconds(one) for name, one in contenders.items()})
        memory = {name: one.megabytes() for name, one in contenders.items()}
        processor = {name: min(one.processor) / images * 1000 for name, one in contenders.items()}
    ours, reference = found.pop(name_of_ours), contenders[name_of_stock].answer
    differences = {
        name: float(np.abs(one.answer - reference).max() / np.abs(reference).max())
        for name, one in contenders.items()
        if work == "forward"
    }
    if any(difference > 1e-3 for difference in differences.values()):
        raise SelfieError(f"{variant}: not all compute the same: {differences}")
    fastest = min(others, key=lambda name: statistics.median(found[name]), default="")
    bounds = {fastest: wanted.get("fastest"), name_of_stock: wanted.get("stock")}
    what = variant + name_of_ours.removeprefix(peers.OURS)
    for name, times in found.items():
        yield Row(
            "nets",
            f"{what} {work}, batches of {images}",
            "ms per image",
            statistics.median(ours),
            statistics.median(times),
            name,
            median_ratio(times, ours),
            bounds.get(name),
            {
                "rounds": {"ours": ours, "peer": times},
                "difference of answers": differences.get(name),
                "least processor time": {"ours": processor[name_of_ours], "peer": processor[name]},
            },
        )
    yield Row(
        "nets",
        f"{what} {work}, largest memory",
        "MB",
        memory[name_of_ours],
        memory[name_of_stock],
        name_of_stock,
        memory[name_of_stock] / memory[name_of_ours],
        wanted.get("memory"),
        memory,
    )


def faces(setting: Setting) -> Iterable[Row]:
    """The face filter on JPEGs of 1080 px."""
    count = 100 if setting.quick else 400
    labels = setting.pictures(count, 1080)
    for detector in ("lbp", "mtcnn"):
        if detector == "mtcnn" and not _has_mtcnn():
            log.warning("no measurement of MTCNN: its weights are not here ('make weights VARIANT=mtcnn')")
            continue
        cost = command(
            "tools/filter_faces.py",
            "--manifest",
            labels,
            "--images",
            labels.parent / "images",
            "--out",
            setting.folder / "faces.csv",
            "--detector",
            detector,
        )
        yield Row(
            "faces",
            f"face filter {detector}, JPEGs of 1080 px",
            "images/s",
            count / cost.seconds,
            detail=cost._asdict(),
        )


def _has_mtcnn() -> bool:
    return not mtcnn.available()


def labels(setting: Setting) -> Iterable[Row]:
    """label.py on millions of rows."""
    rows = 500_000 if setting.quick else 5_000_000
    for suffix, most in ((".parquet", 15), (".csv", 40)):
        source = make_manifest(setting.folder, rows, suffix)
        cost = command("tools/label.py", "--manifest", source, "--out", setting.folder / "labels.csv")
        what = f"labels of {rows:,} rows of {suffix[1:]}"
        yield Row("labels", what, "s", cost.seconds, wanted=None if setting.quick else most, detail=cost._asdict())
        yield Row("labels", f"{what}: memory", "MB", cost.megabytes, wanted=3000)


def crops(setting: Setting) -> Iterable[Row]:
    """The best crop: the dense search beside 1000 random crops, as in the post."""
    run = make_run(setting.folder, "squeezenet")
    searcher = Searcher(run)
    photos = [photograph("astronaut.png"), photograph("coffee.png")][: 1 if setting.quick else 2]
    found = {"dense": [], "random": []}
    for photo in photos:
        for method, results in found.items():
            results.append(searcher.search(photo, space(photo, run.preprocessing.crop), method))
    seconds = {method: [result.seconds for result in results] for method, results in found.items()}
    scores = {method: [result.best[0][1] for result in results] for method, results in found.items()}
    yield Row(
        "crops",
        "best crop, dense search, squeezenet",
        "s",
        statistics.mean(seconds["dense"]),
        statistics.mean(seconds["random"]),
        "1000 random crops",
        median_ratio(seconds["random"], seconds["dense"]),
        detail={"seconds": seconds, "best scores": scores},
    )


def growth(setting: Setting) -> Iterable[Row]:
    """LMDB, labels and scoring (the demo net) at 1,000, 10,000 and 100,000: cost per item, and memory."""
    sizes = (1000, 10_000) if setting.quick else (1000, 10_000, 100_000)
    run, costs = make_run(setting.folder, "demo"), {"lmdb": [], "labels": [], "scoring": []}
    for size in sizes:
        source = setting.pictures(size, 128)
        costs["lmdb"].append(make_lmdb(setting, source))
        shutil.rmtree(setting.folder / "lmdb")
        costs["scoring"].append(command("tools/score.py", "--run", run.folder, "--csv", source.parent / "images"))
        costs["labels"].append(
            command(
                "tools/label.py",
                "--out",
                setting.folder / "labels.csv",
                "--manifest",
                make_manifest(setting.folder, size, ".parquet"),
            )
        )
    with plots.figure(setting.folder / "growth.png") as axis:
        for name, of_sizes in costs.items():
            axis.loglog(sizes, [cost.seconds for cost in of_sizes], marker="o", label=name)
        axis.set_xlabel("pictures (labels: rows)")
        axis.set_ylabel("seconds, with starting up")
        axis.legend()
    for name, of_sizes in costs.items():
        before, last = of_sizes[-2:]
        detail = {str(size): cost._asdict() for size, cost in zip(sizes, of_sizes)}
        yield Row(
            "growth",
            f"{name}: {sizes[-1]:,} against {sizes[-2]:,}, times the cost",
            "x",
            last.seconds / before.seconds,
            detail=detail,
        )
        yield Row(
            "growth", f"{name}: memory at {sizes[-1]:,}", "MB", last.megabytes, wanted=500 if name == "lmdb" else None
        )


GROUPS = {function.__name__: function for function in (start, nets, lmdb, scoring, faces, labels, crops, growth)}


# --- all of it -------------------------------------------------------------------------------------------------------


def measure(folder: Path, names: Iterable[str], quick: bool) -> dict:
    """Measure groups and put them into folder/bench.json beside those that were measured before; its content."""
    return record_groups(folder / "bench.json", GROUPS, names, Setting(folder, quick), describe_machine)
