"""Group `nets`: our nets and some well-known ones on the CPU, Caffe beside its own code and beside other libraries."""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfie.bench import contenders, net_files
from selfie.bench.contenders import HELD, NOT_HELD, OURS, OURS_AVX2, STOCK, STOCK_AVX2, Contender
from selfie.bench.record import Row, in_turns, median_ratio
from selfie.bench.workload import PHOTOS, Setting, make_form, make_run, photograph
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.net import caffe_net, variants

BATCH = 8
PAUSE = 0.1  # seconds until the threads of the contender before do not spin any more
LARGEST_DIFFERENCE = 1e-3  # of the scores, relative to the largest: more is another net, not rounding
RACES = (  # net, pictures of a batch, what is done
    *(("vgg16", BATCH, work) for work in ("forward", "training")),
    *(("squeezenet", BATCH, work) for work in ("forward", "training")),
    ("squeezenet", 1, "forward"),
    ("open_nsfw", BATCH, "forward"),
    ("open_nsfw", 1, "forward"),
    *((name, BATCH, "forward") for name in ("caffenet", "googlenet", "demo")),
    ("det2", 32, "forward"),  # as the face filter takes them
    ("det3", 4, "forward"),
)
QUICK = ("vgg16", "squeezenet", "open_nsfw")  # the nets of the short version
WANTED = {  # times as fast as the fastest other library, and as thrifty as Caffe without oneDNN, that ours is to be
    ("vgg16", BATCH, "forward"): {"fastest": 2.2, "memory": round(1 / 1.2, 3)},
    ("vgg16", BATCH, "training"): {"fastest": 2.5},
    ("squeezenet", BATCH, "forward"): {"fastest": 1.2},
    ("squeezenet", 1, "forward"): {"fastest": 1.2},
    ("open_nsfw", BATCH, "forward"): {"fastest": 1.2},
    ("open_nsfw", 1, "forward"): {"fastest": 1.0},
    **{(name, BATCH, "forward"): {"fastest": 1.0} for name in ("caffenet", "googlenet", "demo")},
    ("det2", 32, "forward"): {"fastest": 1.0},
    ("det3", 4, "forward"): {"fastest": 1.0},
}
WANTED_HELD = {("vgg16", "forward"): {"fastest": 1.6}}  # all held to AVX2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Race:
    """A race: which net does what, and who takes part.

    folder   what net_files.prepare wrote
    ours     our contender, and `stock`, the one without oneDNN
    others   the other libraries
    wanted   times as fast as `stock` ("stock") and the fastest of `others` ("fastest") that ours is to be, and as
             thrifty as `stock` ("memory")
    """

    variant: str
    work: str
    folder: Path
    rounds: int
    ours: str
    stock: str
    others: Sequence[str]
    wanted: dict[str, float]

    @property
    def title(self) -> str:
        """Return what is raced: net, limit of the CPU, work."""
        return f"{self.variant}{self.ours.removeprefix(OURS)} {self.work}"


class Measured(NamedTuple):
    """The result of a race, by contender.

    images        pictures of a batch
    rounds        milliseconds per picture, round by round
    processor     least processor time, milliseconds per picture
    memory        MB
    differences   of the answers, see _differences
    """

    images: int
    rounds: dict[str, list[float]]
    processor: dict[str, float]
    memory: dict[str, float]
    differences: dict[str, float]


def nets(setting: Setting) -> Iterable[Row]:
    """Race nets on photographs, forward and in training."""
    for name in contenders.missing():
        log.warning("no measurement of %s: 'pip install -r requirements-bench.txt' installs it", name)
    installed = [name for name in contenders.MODULES if name not in contenders.missing()]
    rounds = 3 if setting.quick else 9
    for variant, batch, work in RACES:
        if setting.quick and variant not in QUICK:
            continue
        folder = _prepared(setting.folder, variant, batch)
        others = [name for name in installed if work == "forward" or name in contenders.CAN_TRAIN]
        wanted = WANTED.get((variant, batch, work), {})
        yield from _run(Race(variant, work, folder, rounds, OURS, STOCK, others, wanted))
        if batch == BATCH:
            held = [name + HELD for name in others if name not in NOT_HELD]
            wanted = {"stock": 1, **WANTED_HELD.get((variant, work), {})}
            yield from _run(Race(variant, work, folder, rounds, OURS_AVX2, STOCK_AVX2, held, wanted))


def _prepared(folder: Path, variant: str, batch: int) -> Path:
    """Write a net and its input, a batch of photographs, for all contenders; the folder."""
    if variant in variants.VARIANTS:
        home = make_run(folder, variant).folder
        mean = variants.get(variant).preprocessing.mean
    else:
        home, mean = make_form(folder / "forms" / variant, variant), variants.IMAGENET_MEAN
    side = caffe_net.load(home / "deploy.prototxt").blobs["data"].shape[-1]
    photos = np.stack([image.square(photograph(PHOTOS[number % len(PHOTOS)])) for number in range(batch)])
    data = image.prepare(photos, side, mean)
    prepared = folder / "nets" / f"{variant}-{batch}"
    net_files.prepare(home / "deploy.prototxt", home / "random.caffemodel", data, prepared)
    return prepared


def _measure(race: Race) -> Measured:
    """Let all contenders iterate in turns."""
    with contextlib.ExitStack() as stack:
        names = (race.ours, race.stock, *race.others)
        entered = {name: stack.enter_context(Contender(name, race.folder, race.work)) for name in names}
        images = len(np.load(race.folder / "input.npy"))

        def milliseconds(contender: Contender, _: int) -> float:
            time.sleep(PAUSE)
            return contender.seconds() / images * 1000

        turns = {name: partial(milliseconds, contender) for name, contender in entered.items()}
        rounds = in_turns(race.rounds, turns)
        memory = {name: contender.megabytes() for name, contender in entered.items()}
    processor = {name: min(contender.processor) / images * 1000 for name, contender in entered.items()}
    return Measured(images, rounds, processor, memory, _differences(race, entered))


def _run(race: Race) -> Iterator[Row]:
    """Hold a race; yields a row for each contender beside ours, and one for memory."""
    images, rounds, processor, memory, differences = _measure(race)
    fastest = min(race.others, key=lambda name: statistics.median(rounds[name]), default="")
    bounds = {fastest: race.wanted.get("fastest"), race.stock: race.wanted.get("stock")}
    ours = rounds.pop(race.ours)
    for name, times in rounds.items():
        yield Row(
            "nets",
            f"{race.title}, batches of {images}",
            "ms per image",
            statistics.median(ours),
            statistics.median(times),
            name,
            median_ratio(times, ours),
            bounds.get(name),
            {
                "rounds": {"ours": ours, "peer": times},
                "difference of answers": differences.get(name),
                "least processor time": {"ours": processor[race.ours], "peer": processor[name]},
            },
        )
    yield Row(
        "nets",
        f"{race.title}, largest memory",
        "MB",
        memory[race.ours],
        memory[race.stock],
        race.stock,
        memory[race.stock] / memory[race.ours],
        race.wanted.get("memory"),
        memory,
    )


def _differences(race: Race, entered: dict[str, Contender]) -> dict[str, float]:
    """Return each contender's largest difference of scores from `stock`, relative to the largest; none in training.

    SelfieError if one is more than rounding.
    """
    if race.work != "forward":
        return {}
    expected = entered[race.stock].scores
    differences = {
        name: float(np.abs(contender.scores - expected).max() / np.abs(expected).max())
        for name, contender in entered.items()
    }
    if any(difference > LARGEST_DIFFERENCE for difference in differences.values()):
        raise SelfieError(f"{race.variant}: not all compute the same: {differences}")
    return differences
