#!/usr/bin/env python3
"""Give a built Caffe damaged files, and see that each is accepted rightly or refused by a caffe.Error.

Real Caffe reads them in worker processes: caffemodels into a net that then computes, prototxts as nets that compute
forward and backward, solverstates into a solver that takes a step. What each of them is depends on the seed and its
number alone, so one that fails can be run again:

    docker/fuzz_caffe.py                                  2,000 of each kind
    docker/fuzz_caffe.py --kinds prototxt --only 1234     one, its file kept in --keep

A table at the end says how many were accepted, refused (caffe.Error), refused by another exception, ended the process,
hung, or were wrongly accepted: by a net that does not hold what the file says. Exit status 1 if any of the last four.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz_damage import INPUTS, NET, ON_ITS_OWN, SOLVER, damaged_bytes, damaged_message, damaged_text, deep, nets

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("caffemodel", "prototxt", "solverstate")
OUTCOMES = ("accepted", "caffe.Error", "other exception", "ended", "hung", "wrongly accepted")
MEMORY = 3 << 30  # bytes of address space that a worker gets
PATIENCE = 300  # seconds for one file: some ask for a million pictures
MAX_COMPUTED = 4_000_000  # values of a net that is asked to compute

# --- one worker ------------------------------------------------------------------------------------------------------


class Worker:
    """Real Caffe, in a folder of its own, that reads damaged files."""

    def __init__(self, folder: Path) -> None:
        import caffe
        import numpy as np
        from caffe.proto import caffe_pb2
        from google.protobuf import text_format

        self.caffe, self.np, self.pb2, self.text_format = caffe, np, caffe_pb2, text_format
        os.chdir(folder)
        self.texts = nets()
        if not Path("ready").exists():
            self._prepare()

    def _prepare(self) -> None:
        """Write the whole files that are damaged afterwards, and those that layers read."""
        import cv2
        import lmdb

        picture = self.np.random.RandomState(1).randint(0, 255, (12, 14, 3)).astype("uint8")
        cv2.imwrite("picture.png", picture)
        Path("list.txt").write_text("picture.png 1\n" * 5)
        Path("windows.txt").write_text("# 0\npicture.png\n3\n12\n14\n2\n1 0.9 1 1 8 8\n0 0.1 2 2 9 9\n")
        with lmdb.open("lmdb", map_size=1 << 20) as database, database.begin(write=True) as transaction:
            for number in range(5):
                datum = self.pb2.Datum(channels=3, height=8, width=9, data=bytes(216), label=number)
                transaction.put(b"%08d" % number, datum.SerializeToString())
        Path("H").write_bytes(
            self.pb2.BlobProto(num=1, channels=1, height=3, width=3, data=[1] * 9).SerializeToString()
        )
        both = INPUTS.format("a", "dim: 4 dim: 3") + (
            'layer { name: "o" type: "HDF5Output" bottom: "a" bottom: "a" hdf5_output_param { file_name: "x.h5" } }'
        )
        self.net(both).forward()
        Path("hdf5.txt").write_text("x.h5\n")
        for number, text in enumerate((deep(), NET % (ON_ITS_OWN, "lstm"))):
            Path(f"{number}.prototxt").write_text(text)
            Path(f"{number}.solver").write_text(SOLVER.format(number, ("SGD", "Adam")[number]))
            solver = self.caffe.get_solver(f"{number}.solver")
            solver.step(2)
            solver.snapshot()
        Path("ready").touch()

    def net(self, text: str):
        Path("case.prototxt").write_text(text)
        return self.caffe.Net("case.prototxt", self.caffe.TRAIN)

    def run(self, kind: str, seed: int, number: int) -> tuple[str, str]:
        """Make damage `number` and read it: an outcome, and what Caffe said."""
        dice = random.Random(f"{kind} {seed} {number}")
        before = set(os.listdir())
        try:
            said = getattr(self, kind)(dice)
        except Exception as error:
            of_caffe = isinstance(error, getattr(self.caffe, "Error", ()))
            return "caffe.Error" if of_caffe else "other exception", f"{type(error).__name__}: {error}"
        finally:
            for name in set(os.listdir()) - before - {f"case.{kind}"}:
                Path(name).unlink()
        return ("wrongly accepted", said) if said else ("accepted", "")

    def prototxt(self, dice: random.Random) -> str:
        """Make a net, and compute where it is small; say what is wrong with its blobs."""
        if dice.random() < 0.1:
            return self.solver(dice)
        text = dice.choice(self.texts)
        if dice.random() < 0.5:
            message = self.text_format.Parse(text, self.pb2.NetParameter())
            damaged_message(dice, message)
            text = self.text_format.MessageToString(message)
        else:
            text = damaged_text(dice, text)
        Path("case.prototxt").write_text(text)
        net = self.caffe.Net("case.prototxt", dice.choice((self.caffe.TRAIN, self.caffe.TEST)))
        sizes = sum(int(self.np.prod(blob.shape)) for blob in [*net.blobs.values(), *learned(net)])
        if sizes <= MAX_COMPUTED:
            net.forward()
            net.backward()
            net.forward()
        return self.wrong_shapes(net)

    def solver(self, dice: random.Random) -> str:
        """Make a solver and let it take two steps."""
        message = self.text_format.Parse(SOLVER.format(0, "SGD"), self.pb2.SolverParameter())
        damaged_message(dice, message)
        text = self.text_format.MessageToString(message)
        Path("case.prototxt").write_text(damaged_text(dice, text) if dice.random() < 0.5 else text)
        solver = self.caffe.get_solver("case.prototxt")
        message = self.text_format.Parse(Path("case.prototxt").read_text(), self.pb2.SolverParameter())
        if message.iter_size <= 100:
            solver.step(2)
        return self.wrong_shapes(solver.net)

    def caffemodel(self, dice: random.Random) -> str:
        """Copy weights into a net and compute; say where the net holds something else than the file."""
        number = dice.randrange(2)
        self.damage(dice, f"s{number}_iter_2.caffemodel", self.pb2.NetParameter(), "case.caffemodel")
        net = self.caffe.Net(f"{number}.prototxt", self.caffe.TRAIN)
        before = [blob.data.copy() for blob in learned(net)]
        try:
            net.copy_from("case.caffemodel")
        except Exception:
            same = all(self.np.array_equal(old, new.data) for old, new in zip(before, learned(net)))
            if not same:
                return "refused, but the net has changed"
            raise
        wrong = self.wrong_shapes(net) or self.wrong_values(net)
        net.forward()
        return wrong

    def solverstate(self, dice: random.Random) -> str:
        """Restore a solver and take a step."""
        number = dice.randrange(2)
        self.damage(dice, f"s{number}_iter_2.solverstate", self.pb2.SolverState(), "case.solverstate")
        solver = self.caffe.get_solver(f"{number}.solver")
        solver.restore("case.solverstate")
        solver.step(1)
        return self.wrong_shapes(solver.net) or self.wrong_history(solver)

    def damage(self, dice: random.Random, whole: str, message, target: str) -> None:
        data = Path(whole).read_bytes()
        if dice.random() < 0.5:
            message.ParseFromString(data)
            damaged_message(dice, message)
            data = message.SerializeToString()
        else:
            data = damaged_bytes(dice, data)
        Path(target).write_bytes(data)

    def wrong_shapes(self, net) -> str:
        for name, blob in [*net.blobs.items(), *(("a parameter", blob) for blob in learned(net))]:
            if blob.count != int(self.np.prod(tuple(blob.shape), dtype=object)):
                return f"{name}: {blob.count} values of shape {tuple(blob.shape)}"
        return ""

    def wrong_values(self, net) -> str:
        """Whether what the file says of a layer, by protobuf's other reader, is what the net holds."""
        message = self.pb2.NetParameter()
        message.ParseFromString(Path("case.caffemodel").read_bytes())
        for layer in message.layer:
            for index, (said, blob) in enumerate(zip(layer.blobs, net.params.get(layer.name, ()))):
                values = self.np.array(said.double_data or said.data, "float32")
                last = [other for other in message.layer if other.name == layer.name][-1] is layer
                if values.size != blob.count or (last and not same_values(self.np, values, blob.data)):
                    return f"{layer.name}, blob {index}, is not what the file says"
        return ""

    def wrong_history(self, solver) -> str:
        """Whether a snapshot of the restored solver has values for the shapes that it says."""
        solver.snapshot()
        names = [name for name in os.listdir() if name.endswith(".solverstate") and name != "case.solverstate"]
        state = self.pb2.SolverState()
        state.ParseFromString(Path(max(names, key=lambda name: os.stat(name).st_mtime_ns)).read_bytes())
        for blob in state.history:
            if self.np.prod(blob.shape.dim, dtype=object) != len(blob.data):
                return f"history: {len(blob.data)} values of shape {list(blob.shape.dim)}"
        return ""


def learned(net) -> list:
    return [blob for blobs in net.params.values() for blob in blobs]


def same_values(np, said, held) -> bool:
    return np.array_equal(said, held.ravel(), equal_nan=True)


def work(folder: Path) -> None:
    """Read "KIND SEED NUMBER" lines, answer each with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    worker = Worker(folder)
    print("ready", file=answers)
    for line in sys.stdin:
        kind, seed, number = line.split()
        print(json.dumps(worker.run(kind, int(seed), int(number))), file=answers)


# --- all of them -----------------------------------------------------------------------------------------------------


class Pool:
    """Workers, each restarted when it ended or hung, and the answers to each case."""

    def __init__(self, folder: Path, caffe: Path, jobs: int) -> None:
        self.folder, self.jobs = folder, jobs
        self.environment = {**os.environ, "PYTHONPATH": str(caffe / "python"), "GLOG_minloglevel": "4"}
        self.environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        self.workers: dict[int, subprocess.Popen] = {}

    def start(self, slot: int) -> subprocess.Popen:
        home = self.folder / str(slot)
        home.mkdir(exist_ok=True)
        with (home / "stderr").open("ab") as stderr:
            worker = subprocess.Popen(
                [sys.executable, __file__, "--worker", home], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=stderr, env=self.environment, cwd=home,
            )  # fmt: skip
        self.workers[slot] = worker
        if worker.stdout.readline() != b"ready\n":
            raise SystemExit(f"fuzz_caffe.py: error: no worker starts, see {home}/stderr")
        return worker

    def answers(self, cases):
        """Yield (case, outcome, what was said), in the order in which they come."""
        cases, running = iter(cases), {}
        try:
            for slot in range(self.jobs):
                self.give(slot, self.start(slot), cases, running)
            while running:
                for slot in self.wait(running):
                    worker, case, since = running.pop(slot)
                    yield (case, *self.answer(worker, since))
                    worker = worker if worker.poll() is None else self.start(slot)
                    self.give(slot, worker, cases, running)
        finally:
            for worker in self.workers.values():
                worker.kill()
                worker.wait()

    def give(self, slot, worker, cases, running) -> None:
        case = next(cases, None)
        if case is not None:
            worker.stdin.write((" ".join(map(str, case)) + "\n").encode())
            worker.stdin.flush()
            running[slot] = (worker, case, time.monotonic())

    def wait(self, running) -> list[int]:
        """Wait for answers or for patience to end: the slots."""
        pipes = {worker.stdout: slot for slot, (worker, *_) in running.items()}
        ready, _, _ = select.select(list(pipes), [], [], 1)
        late = [slot for slot, (*_, since) in running.items() if time.monotonic() - since > PATIENCE]
        return sorted({*(pipes[pipe] for pipe in ready), *late})

    def answer(self, worker, since) -> tuple[str, str]:
        if not select.select([worker.stdout], [], [], 0)[0]:
            worker.kill()
            worker.wait()
            return "hung", f"more than {PATIENCE} seconds"
        line = worker.stdout.readline()
        if line:
            return tuple(json.loads(line))
        code = worker.wait()
        return "ended", signal.Signals(-code).name if code < 0 else f"exit status {code}"


def table(counts: dict[str, collections.Counter]) -> str:
    """A row for each kind, a column for each outcome."""
    rows = [["", *OUTCOMES], *([kind, *(str(row[outcome]) for outcome in OUTCOMES)] for kind, row in counts.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join(lines)


def fuzz(caffe: Path, kinds: list[str], seed: int, numbers: range, jobs: int, keep: Path | None = None):
    """Run all cases: the counts of outcomes by kind, and a line for each that must not be."""
    counts = {kind: collections.Counter() for kind in kinds}
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(keep or Path(folder), caffe, jobs)
        cases = [(kind, seed, number) for kind in kinds for number in numbers]
        for (kind, _, number), outcome, said in pool.answers(cases):
            counts[kind][outcome] += 1
            if outcome in OUTCOMES[2:]:
                bad.append(f"--seed {seed} --kinds {kind} --only {number}: {outcome}: {said}")
                print(bad[-1], flush=True)
    return counts, bad


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caffe", type=Path, default=ROOT / "build" / "caffe", help="an installed Caffe")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what is damaged (default: all)")
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2015, metavar="S", help="(default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="the number of one case")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), metavar="N", help="worker processes (default: one per core)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder for the workers' files, which stay")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        work(options.worker)
        return 0
    numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        options.keep = options.keep.resolve()
    counts, bad = fuzz(options.caffe.resolve(), options.kinds, options.seed, numbers, options.jobs, options.keep)
    print(table(counts))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
