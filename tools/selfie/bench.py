"""What `make bench` measures: the commands and their peers on the same work, in turns.

Each group of GROUPS is a function that returns rows for the table. What is compared takes turns, round by round, so
that a machine with other work to do slows all of them; a ratio is the median of the rounds' ratios. Everything that is
measured is kept in bench.json, group by group, so a group can be measured again alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Callable, NamedTuple

import cv2
import numpy as np
import polars as pl

from selfie import database, image, net, parallel, paths, peers, plots, runs, score
from selfie.errors import SelfieError

PHOTOS = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "motorcycle_left.png", "rocket.jpg")
DIFFERENT = 400  # pictures that are drawn; more files are these again, with another comment inside
CONVERT_IMAGESET = paths.BUILD / "caffe" / "bin" / "convert_imageset"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A line of the table. `ours` and `peer` in `unit`; `ratio` says how many times better ours is (time: peer / ours,
    images/s: ours / peer). `wanted` is the bound that was set: of the ratio, or of `ours` where there is no peer."""

    group: str
    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    wanted: float | None = None
    detail: dict = field(default_factory=dict)

    @property
    def fine(self) -> bool | None:
        """Whether the bound is kept; None without one. Times, memory and differences are to be below
        it, all else above."""
        if self.wanted is None:
            return None
        value = self.ours if self.ratio is None else self.ratio
        less_is_better = self.ratio is None and self.unit in ("s", "MB", "relative")
        return value <= self.wanted if less_is_better else value >= self.wanted


class Cost(NamedTuple):
    """What a command took. `cores`: processor time / time;  `megabytes`: the largest resident set of its process."""

    seconds: float
    cores: float
    megabytes: float


@dataclass(frozen=True)
class Setting:
    """Where the benchmark's own files are, and whether it is the short one."""

    folder: Path
    quick: bool

    def pictures(self, count: int, side: int) -> Path:
        return pictures(self.folder / f"{count}x{side}", count, side)


# A process begins with the memory of the one that started it on its account, so a small one starts what is measured.
WATCH = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds, usage = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, seconds, (usage.ru_utime + usage.ru_stime) / seconds, usage.ru_maxrss / 1024]))
"""


def command(*arguments: object, **environment: str) -> Cost:
    """Run `python <arguments>` from the project's root, with `environment` added to ours and its output thrown away.
    SelfieError if it fails."""
    done = subprocess.run([sys.executable, "-S", "-c", WATCH, sys.executable, *map(str, arguments)], cwd=paths.ROOT,
                          capture_output=True, text=True, errors="replace", env={**os.environ, **environment})
    code, *cost = json.loads(done.stdout) if done.returncode == 0 else (done.returncode,)
    if code:
        raise SelfieError(f"{' '.join(map(str, arguments))} failed: {done.stderr.strip()[-500:]}")
    return Cost(*cost)


def in_turns(rounds: int, **contenders: Callable[[int], float]) -> dict[str, list[float]]:
    """name -> what contender(round) returned, in seconds or images/s, for each round; they take turns, each round in
    another order."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    orders = random.Random(2015)
    for number in range(rounds):
        for name in orders.sample([*contenders], len(contenders)):
            found[name].append(contenders[name](number))
    return found


def median_ratio(first: list[float], second: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(first, second))


# --- work to do ------------------------------------------------------------------------------------------------------


def pictures(folder: Path, count: int, side: int) -> Path:
    """`count` JPEGs of `side` x `side` pixels in folder/images, with folder/labels.csv; made once. Returns labels.csv.

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
    paths.write_csv(labels, pl.DataFrame({"id": names, "path": names, "split": ["train"] * count,
                                          "label": [number % 2 for number in range(count)]}))
    return labels


def _draw(task: tuple[Path, int, int, int]) -> None:
    """Picture `number`, into all files that have its pixels."""
    folder, number, count, side = task
    rng = np.random.default_rng([2015, number])
    scene = _photo(PHOTOS[number % len(PHOTOS)])
    part = int(min(scene.shape[:2]) * rng.uniform(0.6, 1))
    top, left = (rng.integers(0, length - part + 1) for length in scene.shape[:2])
    picture = cv2.resize(scene[top:top + part, left:left + part], (side, side), interpolation=cv2.INTER_CUBIC)
    cv2.setRNGSeed(number)
    grain = cv2.randn(np.empty((side, side, 3), np.int16), 0, 5)
    data = cv2.imencode(".jpg", cv2.add(picture.astype(np.int16), grain, dtype=cv2.CV_8U),
                        [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    for copy in range(number, count, DIFFERENT):
        comment = b"\xff\xfe\x00\x0a%08d" % copy
        (folder / "images" / f"{copy:06d}.jpg").write_bytes(data[:2] + comment + data[2:])


@cache
def _photo(name: str) -> np.ndarray:
    """A photograph of scikit-image's wheel: real, and here without a download."""
    import skimage
    return image.read_named(Path(skimage.__file__).parent / "data" / name)


def make_run(folder: Path, variant: str) -> runs.Run:
    """A finished run of a net with random weights: speed does not depend on what it has learnt.

    But it does on numbers below 1e-38, of which a saturated softmax would fill the gradients; so pictures, which reach
    from -123 to 151, are brought to about 1 by the first layer, and all others keep that (He et al. 2015).
    """
    run = runs.Run(folder / "runs" / variant, {
        "variant": variant, "state": "finished", "caffemodel": "random.caffemodel",
        "lmdb": {"train": {"inputs": {"preprocessing": image.PREPROCESSING}}}})
    if not (run.folder / "run.json").exists():
        run.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.PROTOTXT / variant / "deploy.prototxt", run.folder / "deploy.prototxt")
        caffe_net, rng = net.load(run.folder / "deploy.prototxt"), np.random.default_rng(2015)
        for weights, *_ in caffe_net.params.values():
            weights.data[...] = rng.standard_normal(weights.data.shape, np.float32) * (2 * weights.shape[0] /
                                                                                      weights.count) ** 0.5
        next(iter(caffe_net.params.values()))[0].data[...] /= 64
        caffe_net.save(str(run.folder / "random.caffemodel"))
        paths.write_csv(run.folder / "val_scores.csv", pl.DataFrame({
            "key": list("abcd"), "label": [0, 0, 1, 1], "score": [0.1, 0.4, 0.6, 0.9]}))
        run.save()
    return run


def manifest(folder: Path, rows: int, suffix: str) -> Path:
    """A manifest of `rows` invented posts, .parquet or .csv; made once."""
    path = folder / f"manifest{rows}{suffix}"
    if path.exists():
        return path
    rng = np.random.default_rng(2015)
    number = pl.int_range(rows, eager=True)
    table = pl.DataFrame({
        "id": "s" + number.cast(pl.String).str.zfill(8), "path": number.cast(pl.String) + ".jpg",
        "user": "u" + pl.Series(rng.integers(0, max(1, rows // 5), rows)).cast(pl.String),
        "followers": (50 * (1 + rng.pareto(1, rows))).clip(1, 1e8).astype(np.int64),
        "likes": rng.lognormal(3, 1, rows).astype(np.int64),
        "tags": pl.Series([" ".join(f"tag{k}" for k in range(n)) for n in range(25)]).gather(rng.integers(0, 25, rows)),
        "posted_at": (pl.Series(rng.integers(1_420_000_000, 1_445_000_000, rows)) * 1000).cast(
            pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")})
    folder.mkdir(parents=True, exist_ok=True)
    with paths.atomic_path(path) as temporary:
        table.write_parquet(temporary) if suffix == ".parquet" else table.write_csv(temporary)
    return path


# --- groups ----------------------------------------------------------------------------------------------------------


def start(setting: Setting) -> Iterable[Row]:
    """Every command's --help, and one picture's score."""
    helps = {path.name: min(command(path, "--help").seconds for _ in range(3))
             for path in sorted([*paths.ROOT.glob("tools/*.py"), *paths.ROOT.glob("pycaffe_scripts/*.py")])}
    slowest = max(helps, key=helps.get)
    yield Row("start", f"--help, the slowest of {len(helps)} commands: {slowest}", "s", helps[slowest], wanted=0.3,
              detail=helps)
    run = make_run(setting.folder, "squeezenet")
    one = setting.pictures(1, 1080).parent / "images" / "000000.jpg"
    times = [command("tools/score.py", "--run", run.folder, one).seconds for _ in range(5)]
    yield Row("start", "score.py one.jpg, squeezenet", "s", statistics.median(times), wanted=1.5,
              detail={"rounds": times})


def lmdb(setting: Setting) -> Iterable[Row]:
    """make_lmdb.py --raw beside Caffe's convert_imageset: from their start to their end."""
    count, rounds = (1000, 2) if setting.quick else (2000, 3)
    for side, what in ((1000, "same pixels"), (1080, "halved by the JPEG decoder")):
        labels = setting.pictures(count, side)
        found = in_turns(rounds, ours=lambda _, labels=labels: count / make_lmdb(setting, labels, "--raw").seconds,
                         peer=lambda _, labels=labels: count / convert_imageset(setting, labels))
        detail = {"rounds": found}
        if side == 1000:
            detail["largest difference of a pixel"] = _largest_difference(setting)
        yield Row("lmdb", f"raw LMDB of JPEGs of {side} px ({what})", "images/s", statistics.median(found["ours"]),
                  statistics.median(found["peer"]), "convert_imageset", median_ratio(found["ours"], found["peer"]),
                  1.8, detail)


def make_lmdb(setting: Setting, labels: Path, *options: str) -> Cost:
    """Into <folder>/lmdb, from nothing."""
    shutil.rmtree(setting.folder / "lmdb", ignore_errors=True)
    return command("tools/make_lmdb.py", "--labels", labels, "--images", labels.parent / "images", "--out",
                   setting.folder / "lmdb", *options)


def convert_imageset(setting: Setting, labels: Path) -> float:
    """Seconds that Caffe's own tool takes for the same pictures, into <folder>/peer. The order is that of our LMDB."""
    shutil.rmtree(setting.folder / "peer", ignore_errors=True)
    lines = [line.split("\t") for line in (setting.folder / "lmdb/train/list.txt").read_text().splitlines()]
    (setting.folder / "list").write_text("".join(f"{path} {label}\n" for _, label, path in lines))
    begin = time.perf_counter()
    subprocess.run([CONVERT_IMAGESET, "--resize_height=256", "--resize_width=256", f"{labels.parent}/images/",
                    setting.folder / "list", setting.folder / "peer"], check=True, capture_output=True)
    return time.perf_counter() - begin


def _largest_difference(setting: Setting) -> int:
    """Between a pixel of our raw LMDB and of Caffe's, in levels."""
    import lmdb as pylmdb

    from selfie import datum
    with pylmdb.open(str(setting.folder / "peer"), readonly=True, lock=False) as env, env.begin() as transaction, \
            database.Database(setting.folder / "lmdb" / "train") as ours:
        return max(int(cv2.absdiff(datum.decode(theirs)[0], pixels).max())
                   for (_, theirs), (_, pixels, _) in zip(transaction.cursor(), ours))


def scoring(setting: Setting) -> Iterable[Row]:
    """score.py's pipeline on JPEGs of 1080 px beside the bare net on pictures in memory, and beside the best that
    can be expected: the time that all cores take to read the pictures, and then that for the net."""
    for variant, short in (("squeezenet", 200), ("vgg16", 32)):
        share, rounds = short if setting.quick else 1000, 2
        run = make_run(setting.folder, variant)
        names = sorted(map(str, (setting.pictures(2000, 1080).parent / "images").iterdir()))
        caffe_net, busy, size = run.net(), [], min(16, share // 4)

        def ours(number: int, run=run, share=share, busy=busy, names=names, size=size) -> float:
            """Pictures per second, from the call on: with the first batch, for which Caffe packs the weights."""
            scored = score.score(run, names[number * share:(number + 1) * share], batch=size)
            used, begin = time.process_time(), time.perf_counter()
            assert all(one.error is None for one in scored)
            seconds = time.perf_counter() - begin
            busy.append((time.process_time() - used) / seconds)
            return share / seconds

        def bare(_: int, run=run, share=share, caffe_net=caffe_net, size=size) -> float:
            batch = np.random.default_rng(0).integers(0, 256, (size, 256, 256, 3), dtype=np.uint8)
            begin = time.perf_counter()
            for _ in range(share // size):
                net.scores(caffe_net, batch, run.variant)
            return share // size * size / (time.perf_counter() - begin)

        def reading(number: int, share=share, names=names, size=size) -> float:
            begin = time.perf_counter()
            for _ in score.read_ahead(names[number * share:(number + 1) * share], size):
                pass
            return share / (time.perf_counter() - begin)

        found = in_turns(rounds, ours=ours, bare=bare, reading=reading)
        found["best"] = [1 / (1 / one + 1 / other) for one, other in zip(found["bare"], found["reading"])]
        for peer, peer_name in (("bare", "the bare net"), ("best", "reading, then the bare net")):
            yield Row("scoring", f"{variant}, JPEGs of 1080 px", "images/s", statistics.median(found["ours"]),
                      statistics.median(found[peer]), peer_name, median_ratio(found["ours"], found[peer]),
                      0.95 if (variant, peer, setting.quick) == ("vgg16", "bare", False) else None,
                      {"rounds": found, "cores": parallel.cores(), "cores busy": statistics.median(busy)})


def nets(setting: Setting) -> Iterable[Row]:
    """VGG16 and SqueezeNet, 8 photographs at a time, in Caffe beside its own code and other libraries on the CPU."""
    for name in peers.missing():
        log.warning("no measurement of %s: 'pip install -r requirements-bench.txt' brings it", name)
    bounds = {"vgg16 forward": {"fastest": 1.6, "memory": round(1 / 1.2, 3)}, "vgg16 training": {"fastest": 2.5}}
    for variant in ("vgg16", "squeezenet"):
        run, folder = make_run(setting.folder, variant), setting.folder / "nets" / variant
        photos = np.stack([image.square(_photo(PHOTOS[number % len(PHOTOS)])) for number in range(8)])
        peers.prepare(run.deploy, run.folder / "random.caffemodel",
                      image.prepare(photos, run.variant.crop, run.variant.mean), folder)
        for work in ("forward", "training"):
            rounds = 3 if setting.quick else 9
            others = [name for name in (peers.MODULES if work == "forward" else peers.TRAIN)
                      if name not in peers.missing()]
            yield from _race(variant, work, folder, rounds, (peers.OURS, peers.STOCK), others,
                             bounds.get(f"{variant} {work}", {}))
            yield from _race(variant, work, folder, rounds, (peers.OURS_AVX2, peers.STOCK_AVX2), (), {"stock": 1})


def _race(variant: str, work: str, folder: Path, rounds: int, caffes: tuple[str, str], others: Iterable[str],
          wanted: dict[str, float]) -> Iterable[Row]:
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
    differences = {name: float(np.abs(one.answer - reference).max() / np.abs(reference).max())
                   for name, one in contenders.items() if work == "forward"}
    if any(difference > 1e-3 for difference in differences.values()):
        raise SelfieError(f"{variant}: not all compute the same: {differences}")
    fastest = min(others, key=lambda name: statistics.median(found[name]), default="")
    bounds = {fastest: wanted.get("fastest"), name_of_stock: wanted.get("stock")}
    what = variant + name_of_ours.removeprefix(peers.OURS)
    for name, times in found.items():
        yield Row("nets", f"{what} {work}, batches of {images}", "ms per image", statistics.median(ours),
                  statistics.median(times), name, median_ratio(times, ours), bounds.get(name),
                  {"rounds": {"ours": ours, "peer": times}, "difference of answers": differences.get(name),
                   "least processor time": {"ours": processor[name_of_ours], "peer": processor[name]}})
    yield Row("nets", f"{what} {work}, largest memory", "MB", memory[name_of_ours], memory[name_of_stock],
              name_of_stock, memory[name_of_stock] / memory[name_of_ours], wanted.get("memory"), memory)


def faces(setting: Setting) -> Iterable[Row]:
    """The face filter on JPEGs of 1080 px."""
    count = 100 if setting.quick else 400
    labels = setting.pictures(count, 1080)
    for detector in ("lbp", "mtcnn"):
        if detector == "mtcnn" and not _has_mtcnn():
            log.warning("no measurement of MTCNN: its weights are not here ('make weights VARIANT=mtcnn')")
            continue
        cost = command("tools/filter_faces.py", "--manifest", labels, "--images", labels.parent / "images", "--out",
                       setting.folder / "faces.csv", "--detector", detector)
        yield Row("faces", f"face filter {detector}, JPEGs of 1080 px", "images/s", count / cost.seconds,
                  detail=cost._asdict())


def _has_mtcnn() -> bool:
    from selfie import mtcnn
    return not mtcnn.available()


def labels(setting: Setting) -> Iterable[Row]:
    """label.py on millions of rows."""
    rows = 500_000 if setting.quick else 5_000_000
    for suffix, most in ((".parquet", 15), (".csv", 40)):
        source = manifest(setting.folder, rows, suffix)
        cost = command("tools/label.py", "--manifest", source, "--out", setting.folder / "labels.csv")
        what = f"labels of {rows:,} rows of {suffix[1:]}"
        yield Row("labels", what, "s", cost.seconds, wanted=None if setting.quick else most, detail=cost._asdict())
        yield Row("labels", f"{what}: memory", "MB", cost.megabytes, wanted=3000)


def crops(setting: Setting) -> Iterable[Row]:
    """The best crop: the dense search beside 1000 random crops, as in the post."""
    from selfie.crops import Searcher, space
    run = make_run(setting.folder, "squeezenet")
    searcher = Searcher(run)
    photos = [_photo("astronaut.png"), _photo("coffee.png")][:1 if setting.quick else 2]
    found = {"dense": [], "random": []}
    for photo in photos:
        for method, results in found.items():
            results.append(searcher.search(photo, space(photo, run.variant), method))
    seconds = {method: [result.seconds for result in results] for method, results in found.items()}
    scores = {method: [result.best[0][1] for result in results] for method, results in found.items()}
    yield Row("crops", "best crop, dense search, squeezenet", "s", statistics.mean(seconds["dense"]),
              statistics.mean(seconds["random"]), "1000 random crops", median_ratio(seconds["random"],
                                                                                    seconds["dense"]),
              detail={"seconds": seconds, "best scores": scores})


def growth(setting: Setting) -> Iterable[Row]:
    """LMDB, labels and scoring (the demo net) at 1,000, 10,000 and 100,000: cost per item, and memory."""
    sizes = (1000, 10_000) if setting.quick else (1000, 10_000, 100_000)
    run, costs = make_run(setting.folder, "demo"), {"lmdb": [], "labels": [], "scoring": []}
    for size in sizes:
        source = setting.pictures(size, 128)
        costs["lmdb"].append(make_lmdb(setting, source))
        shutil.rmtree(setting.folder / "lmdb")
        costs["scoring"].append(command("tools/score.py", "--run", run.folder, "--csv", source.parent / "images"))
        costs["labels"].append(command("tools/label.py", "--out", setting.folder / "labels.csv", "--manifest",
                                       manifest(setting.folder, size, ".parquet")))
    with plots.figure(setting.folder / "growth.png") as axis:
        for name, of_sizes in costs.items():
            axis.loglog(sizes, [cost.seconds for cost in of_sizes], marker="o", label=name)
        axis.set_xlabel("pictures (labels: rows)")
        axis.set_ylabel("seconds, with starting up")
        axis.legend()
    for name, of_sizes in costs.items():
        before, last = of_sizes[-2:]
        detail = {str(size): cost._asdict() for size, cost in zip(sizes, of_sizes)}
        yield Row("growth", f"{name}: {sizes[-1]:,} against {sizes[-2]:,}, times the cost", "x",
                  last.seconds / before.seconds, detail=detail)
        yield Row("growth", f"{name}: memory at {sizes[-1]:,}", "MB", last.megabytes,
                  wanted=500 if name == "lmdb" else None)


GROUPS = {function.__name__: function for function in (start, nets, lmdb, scoring, faces, labels, crops, growth)}


# --- all of it -------------------------------------------------------------------------------------------------------


def measure(folder: Path, names: Iterable[str], quick: bool) -> dict:
    """Measure groups and put them into folder/bench.json beside those that were measured before; its content."""
    return record(folder / "bench.json", GROUPS, names, Setting(folder, quick), machine)


def record(file: Path, groups: dict[str, Callable], names: Iterable[str], setting, machine: Callable[[], dict]) -> dict:
    """Measure those of `groups` called `names`, each with `setting`, into a JSON file; its content."""
    report = paths.read_json(file) if file.exists() else {"groups": {}}
    for name in names:
        log.info("measuring %s", name)
        rows = [{**asdict(row), "fine": row.fine} for row in groups[name](setting)]
        if not rows:  # why has been said
            continue
        report["machine"] = {**report.get("machine", {}), **machine()}
        report["groups"][name] = {"quick": setting.quick, "rows": rows,
                                  "measured": datetime.now(timezone.utc).isoformat(timespec="minutes")}
        paths.write_json(file, report)
    return report


def machine() -> dict:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo")
    model = next((line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
                  if line.startswith("model name")), "") if info.exists() else ""
    return {"cpu": model or platform.machine(), "cores": parallel.cores(), "system": platform.platform(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "blas_kernel": net.caffe().blas_kernel(), "python": platform.python_version()}


def table(report: dict, groups: Iterable[str] | None = None) -> list[str]:
    """The report as lines of Markdown, in the order of `groups` (default: of `make bench`)."""
    lines = ["| what | ours | peer | ratio | wanted |", "|---|---|---|---|---|"]
    for name in (name for name in groups or GROUPS if name in report["groups"]):
        for row in report["groups"][name]["rows"]:
            peer = "" if row["peer"] is None else f"{_number(row['peer'])} ({row['peer_name']})"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            wanted = "" if row["wanted"] is None else f"{row['wanted']:g}{'' if row['fine'] else ' **missed**'}"
            lines.append(f"| {row['what']} | {_number(row['ours'])} {row['unit']} | {peer} | {ratio} | {wanted} |")
    return lines


def _number(value: float) -> str:
    if 0 < value < 0.01:
        return f"{value:.0e}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
