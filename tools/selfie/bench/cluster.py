"""Group `cluster`: commands with two workers beside the same on one machine, on thousands of pictures."""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from selfie.bench.record import Row, in_turns, median_ratio
from selfie.bench.workload import Cost, Setting, command, make_run
from selfie.faces import mtcnn

COUNT, QUICK, SIDE = 10_000, 1000, 320  # pictures, and their pixels: of small ones, overhead is the larger share
WORKERS = 2
WANTED = 0.95  # of the rate of one machine, at COUNT pictures
ROUNDS = {"make_lmdb": 3}  # which is short; of others one

log = logging.getLogger(__name__)


def cluster(setting: Setting) -> Iterable[Row]:
    """Run each command by itself and with WORKERS, in turns. (That both give the same bytes, tests/cluster holds.)"""
    if find_spec("distributed") is None:
        log.warning("no measurement of workers: .venv/bin/pip install -r requirements-cluster.txt")
        return
    count = setting.count or (QUICK if setting.quick else COUNT)
    labels = setting.pictures(count, setting.side or SIDE)
    for name, arguments in _commands(setting, labels).items():
        costs: dict[str, list[Cost]] = {"one machine": [], "workers": []}
        contenders = {way: partial(_rate, setting, arguments, count, way, costs[way]) for way in costs}
        rates = in_turns(ROUNDS.get(name, 1), contenders)
        one, workers = rates["one machine"], rates["workers"]
        title = f"{name}, {count:,} JPEGs of {setting.side or SIDE} px, {WORKERS} workers"
        yield Row(
            *("cluster", title, "images/s", statistics.median(workers), statistics.median(one), "one machine"),
            median_ratio(workers, one),
            WANTED if count >= COUNT else None,
            {way: [cost._asdict() for cost in of_way] for way, of_way in costs.items()},
        )
        one, workers = ([cost.seconds * cost.cores for cost in costs[way]] for way in ("one machine", "workers"))
        title, middle = f"{title}: processor time", statistics.median
        yield Row("cluster", title, "s", middle(workers), middle(one), "one machine", median_ratio(one, workers))


def _commands(setting: Setting, labels: Path) -> dict[str, tuple[object, ...]]:
    """List the commands: {name: arguments}."""
    inputs, out = ("--images", labels.parent / "images"), _out(setting)
    commands: dict[str, tuple[object, ...]] = {}
    for detector in ("lbp", "mtcnn"):
        if detector == "mtcnn" and (problem := mtcnn.problem()):
            log.warning("no measurement of MTCNN: %s", problem)
            continue
        faces = ("--manifest", labels, *inputs, "--out", out / "faces.csv", "--detector", detector)
        commands[f"filter_faces {detector}"] = ("tools/filter_faces.py", *faces)
    commands["make_lmdb"] = ("tools/make_lmdb.py", "--labels", labels, *inputs, "--out", out / "lmdb")
    run = make_run(setting.folder, "squeezenet").folder
    commands["score squeezenet"] = ("tools/score.py", "--run", run, "--csv", inputs[1], "--shards", out / "shards")
    return commands


def _rate(
    setting: Setting, arguments: tuple[object, ...], count: int, way: str, costs: list[Cost], number: int
) -> float:
    """Run a command from the start; pictures per second."""
    shutil.rmtree(_out(setting), ignore_errors=True)
    _out(setting).mkdir()
    costs.append(command(*arguments, *(("--workers", WORKERS) if way == "workers" else ())))
    shutil.rmtree(_out(setting))
    return count / costs[-1].seconds


def _out(setting: Setting) -> Path:
    """Where commands write."""
    return setting.folder / "cluster"
