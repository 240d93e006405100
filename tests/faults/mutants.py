"""Mutants of the files that are read: each is used or refused in one line, in bounded time and memory.

A process of its own reads them one after the other and says what came of each; if it ends or hangs, its parent knows at
which mutant, and goes on with the next.
"""

from __future__ import annotations

import json
import os
import queue
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from faults.jobs import Setting
from faults.outcome import HANG, ONE_LINE, TRACEBACK, UNNAMED, USED, Outcome
from selfie.common import paths
from selfie.common.errors import SelfieError

SECONDS, GIGABYTES = 20, 3  # that one mutant may take

WRONG = (None, True, 7, -1, 1e300, 10**30, "", "x", "\ud800", [], [None], {}, {"a": 1})


def mutants(setting: Setting, seed: int, numbers: range) -> Iterator[Outcome]:
    """Read mutants of each kind; `numbers` of them each."""
    for target in TARGETS:
        start = numbers.start
        while start < numbers.stop:
            for number, verdict, details in _read_from(setting, target, seed, start, numbers.stop):
                start = number + 1
                yield Outcome("mutant", target, number, verdict, details)


def _read_from(setting: Setting, target: str, seed: int, start: int, stop: int) -> Iterator[tuple[int, str, str]]:
    """Let a process read mutants from number `start` on: (number, verdict, details) of each until it ends."""
    arguments = [sys.executable, "-m", "faults.mutants", setting.folder, target, seed, start, stop]
    places = os.pathsep.join([str(paths.ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places, "GLOG_minloglevel": "2"}
    with subprocess.Popen(
        list(map(str, arguments)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines: queue.Queue[str] = queue.Queue()
        told: list[str] = []
        readers = [
            threading.Thread(target=lambda: [*map(lines.put, process.stdout), lines.put("")]),
            threading.Thread(target=lambda: told.extend(process.stderr)),
        ]
        for reader in readers:
            reader.start()
        number, end = start, None
        try:
            while number < stop and end is None:
                try:
                    line = lines.get(timeout=SECONDS + 40 * (number == start))
                except queue.Empty:
                    end = number, HANG, f"more than {SECONDS} s"
                    continue
                if line:
                    yield tuple(json.loads(line))
                    number += 1
                else:
                    end = number, UNNAMED, f"exit code {process.wait()}"
        finally:
            process.kill()
            for reader in readers:
                reader.join()
        if end:
            yield *end[:2], f"{end[2]}: {''.join(told)[-300:]}"


# --- in the process --------------------------------------------------------------------------------------------------


def changed(data: bytes, chance: random.Random) -> bytes:
    """Change bytes: flipped bits, a piece set to one value or noise, cut out, doubled, swapped, or cut off."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if not result:
            return bytes(result)
        at = min(int(chance.expovariate(8 / len(result))), len(result) - 1) if chance.random() < 0.5 else None
        at = chance.randrange(len(result)) if at is None else at
        size = chance.choice((1, 1, 4, 64, 4096))
        kind = chance.randrange(7)
        if kind == 0:
            result[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            result[at : at + size] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF))]) * len(result[at : at + size])
        elif kind == 2:
            result[at : at + size] = chance.randbytes(len(result[at : at + size]))
        elif kind == 3:
            del result[at : at + size]
        elif kind == 4:
            result[at:at] = result[at : at + size]
        elif kind == 5:
            to = chance.randrange(len(result))
            result[to : to + size] = result[at : at + size]
        elif chance.random() < 0.3:
            del result[at:]
    return bytes(result)


def changed_json(data: bytes, chance: random.Random) -> bytes:
    """Change a value somewhere inside JSON, or its bytes."""
    if chance.random() < 0.2:
        return changed(data, chance)
    whole = {"": json.loads(data)}
    holder, key = whole, ""
    while isinstance(holder[key], (dict, list)) and holder[key] and chance.random() < 0.8:
        holder = holder[key]
        key = chance.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
    if chance.random() < 0.3 and holder is not whole:
        del holder[key]
    else:
        holder[key] = chance.choice(WRONG)
    return json.dumps(whole[""]).encode()


Read = Callable[[], object]


def _mutated(folder: Path, name: str, chance: random.Random) -> None:
    """Put a mutant in a file's place; the original stays in memory of the process."""
    file = folder / name
    original = _originals.setdefault(str(file), file.read_bytes())
    file.write_bytes((changed_json if name.endswith(".json") else changed)(original, chance))


_originals: dict[str, bytes] = {}


def _restore() -> None:
    for name, data in _originals.items():
        Path(name).write_bytes(data)


def _picture(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.data import image

    height, width = chance.randrange(1, 90), chance.randrange(1, 90)
    noise = np.random.default_rng(chance.randrange(1 << 30)).integers(0, 255, (height, width, 3), np.uint8)
    suffix = chance.choice((".jpg", ".png", ".webp", ".bmp", ".tiff"))
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, chance.randrange(2)] if suffix == ".jpg" else []
    image.decode_square(changed(cv2.imencode(suffix, noise, options)[1].tobytes(), chance))


def _table(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.data import label_settings, labels, manifest

    rows = ["id,path,user,followers,likes,tags,posted_at"]
    rows += [f"{n},{n}.jpg,u{n % 9},{100 + n},{n * 7 % 50},a b,2015-01-{1 + n % 28:02}" for n in range(60)]
    name = chance.choice(("t.csv", "t.jsonl"))
    text = "\n".join(rows)
    if name == "t.jsonl":
        head = rows[0].split(",")
        text = "\n".join(json.dumps(dict(zip(head, row.split(",")))) for row in rows[1:])
    (scratch / name).write_bytes(changed(text.encode(), chance))
    frame = manifest.read(scratch / name, labels.READS)
    labels.label(frame, label_settings.Settings(group_size=10, min_age_days=0), path=scratch / name)


def _run(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.runs import run_folder

    folder = _copied(setting.run, scratch)
    _mutated(folder, "run.json", chance)
    run = run_folder.load(folder)
    run.database("val")
    if run.finished:
        run.net().scores(np.zeros((1, run.preprocessing.size, run.preprocessing.size, 3), np.uint8))


def _weights(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.net import caffe_net

    folder = _copied(setting.run, scratch)
    name = "snapshots/run_iter_24.caffemodel"
    _mutated(folder, name, chance)
    caffe_net.load(folder / "deploy.prototxt", folder / name)


def _state(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.net import pycaffe
    from selfie.runs import run_folder, snapshots

    folder = _copied(setting.run, scratch)
    for file in (folder / "snapshots").glob("*.solverstate"):  # a snapshot knows where its weights are
        state = pycaffe.parse_binary(pycaffe.caffe_pb2().SolverState(), file)
        state.learned_net = str(file.with_suffix(".caffemodel"))
        file.write_bytes(state.SerializeToString())
    _mutated(folder, f"snapshots/run_iter_24.{chance.choice(('solverstate', 'caffemodel'))}", chance)
    snapshots.newest_intact(run_folder.load(folder))


def _net(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.runs import run_folder

    folder = _copied(setting.run, scratch)
    _mutated(folder, "deploy.prototxt", chance)
    run_folder.load(folder).net()


def _database(name: str) -> Callable[[Setting, Path, random.Random], None]:
    def read(setting: Setting, scratch: Path, chance: random.Random) -> None:
        from selfie.data.lmdb_reader import Database

        folder = _copied(setting.lmdb, scratch) / "val"
        _mutated(folder, name, chance)
        with Database(folder) as records:
            for _ in records:
                pass

    return read


def _copied(folder: Path, scratch: Path) -> Path:
    """A copy of a folder, made once in each process."""
    if not (scratch / folder.name).exists():
        shutil.copytree(folder, scratch / folder.name)
    return scratch / folder.name


TARGETS: dict[str, Callable[[Setting, Path, random.Random], None]] = {
    "picture": _picture,
    "table": _table,
    "run.json": _run,
    "meta.json": _database("meta.json"),
    "data.mdb": _database("data.mdb"),
    "caffemodel": _weights,
    "snapshot": _state,
    "deploy.prototxt": _net,
}


def read(setting: Setting, target: str, seed: int, numbers: range) -> Iterator[tuple[int, str, str]]:
    """In the process: read mutants of a target."""
    with tempfile.TemporaryDirectory() as scratch:
        for number in numbers:
            try:
                TARGETS[target](setting, Path(scratch), random.Random(f"{seed}/{target}/{number}"))
                yield number, USED, ""
            except SelfieError as error:
                yield number, ONE_LINE, str(error)[:200]
            except OSError as error:  # which a command tells in one line, if it is about a file
                yield number, ONE_LINE if error.filename else TRACEBACK, repr(error)
            except BaseException as error:  # polars panics in exceptions that are no Exception
                yield number, TRACEBACK, repr(error)[:500]
            _restore()


def main() -> None:
    """Read the mutants that the arguments name; one line of JSON about each."""
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30,) * 2)
    folder, target, seed, start, stop = sys.argv[1:]
    for line in read(Setting(Path(folder)), target, int(seed), range(int(start), int(stop))):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
