"""Group `vgg16` of the GPU benchmark: scoring and training beside PyTorch on the same card, in both precisions.

Caffe and PyTorch run in processes of their own and take turns. These stay for all batches of a precision: to start them
takes as long as to measure one.
"""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Callable

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row, in_turns, median_ratio
from selfie.common.worker import OutOfMemory, Worker
from selfie.net import architectures

LAYOUTS = ("contiguous", "channels_last")  # PyTorch's; which one is faster depends on the device
SECONDS = 0.3  # of work between two clock readings

log = logging.getLogger(__name__)


def vgg16(setting: Setting) -> Iterable[Row]:
    """Measure scoring and training in all precisions, and the share of the card's matrix rate that each reaches."""
    for precision in setting.precisions:
        with Sides(setting, precision) as sides:
            rate = matrix_rate(sides)
            yield Row("vgg16", f"matrix product of {precision} in PyTorch", "TFLOP/s", rate / 1e12)
            for mode in ("forward", "training"):
                rows = []
                for row in _duels(sides, mode, rate):
                    rows.append(row)
                    yield row
                if rows:
                    yield _share_of_rate(max(rows, key=lambda row: row.ours))


class Sides:
    """The processes of Caffe and PyTorch in one precision: started when first asked for, ended with the block."""

    def __init__(self, setting: Setting, precision: str) -> None:
        self.setting, self.precision = setting, precision
        self._processes = ExitStack()
        self._pair: tuple[Worker, Worker] | None = None

    def pair(self) -> tuple[Worker, Worker]:
        """Return the processes (Caffe, PyTorch), which have chosen device and precision."""
        if self._pair is None:
            caffe = Worker(sys.executable, "bench.caffe_peer", CAFFE_TF32=PRECISIONS[self.precision])
            self._processes.enter_context(caffe)
            torch = self._processes.enter_context(Worker(self.setting.torch, "bench.torch_peer"))
            caffe.ask("hello", gpu=self.setting.gpu)
            torch.ask("hello", device=self.setting.device, tf32=self.precision == "TF32")
            self._pair = caffe, torch
        return self._pair

    def end(self) -> None:
        """End the processes, as after one had no memory; others are started when they are asked for."""
        self._pair = None
        self._processes.close()

    def __enter__(self) -> Sides:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _share_of_rate(best: Row) -> Row:
    """Return the shares of the matrix rate that both sides reach in a duel, in percent."""
    assert best.peer is not None
    ours = 100 * best.detail["share"]
    title = f"{best.what}: share of the matrix rate"
    return Row("vgg16", title, "%", ours, ours / best.ours * best.peer, best.peer_name)


def matrix_rate(sides: Sides) -> float:
    """Measure the FLOP/s of a large product of float32 matrices on this device, by PyTorch: the median of five."""
    size, count = (512, 2) if sides.setting.quick else (8192, 10)
    _, torch = sides.pair()
    seconds = statistics.median(torch.ask("matrix", size=size, count=count)["seconds"] for _ in range(5))
    return 2 * size**3 * count / seconds


def _duels(sides: Sides, mode: str, rate: float) -> Iterator[Row]:
    """Measure all batch sizes that fit."""
    for batch in (2, 4) if sides.setting.quick else (32, 64, 128):
        title = f"{sides.setting.variant.name} {mode}, batch {batch}, {sides.precision}"
        log.info("%s", title)
        try:
            yield duel(sides, mode, batch, rate, title)
        except OutOfMemory as error:
            log.warning("no measurement of %s: %s", title, error)
            sides.end()


def duel(sides: Sides, mode: str, batch: int, rate: float, title: str) -> Row:
    """Let Caffe and PyTorch, in both its layouts, iterate the same net in turns; the better layout is the peer.

    mode   "forward" or "training"
    rate   of matrix products on this device, FLOP/s
    """
    rates, count, flop = _rates(sides, mode, batch)
    medians = {name: statistics.median(of_rounds) for name, of_rounds in rates.items()}
    layout = max(LAYOUTS, key=lambda name: medians[name])
    return Row(
        "vgg16",
        title,
        "images/s",
        medians["ours"],
        medians[layout],
        f"PyTorch, {layout}",
        median_ratio(rates["ours"], rates[layout]),
        None if sides.setting.quick else 1.0,
        {
            "rounds": rates,
            "iterations per round": count,
            "GFLOP per picture": flop / 1e9,
            "share": medians["ours"] * flop / rate,
        },
    )


def _rates(sides: Sides, mode: str, batch: int) -> tuple[dict[str, list[float]], int, int]:
    """Measure {"ours" or one of LAYOUTS: images/s, round by round}; with iterations per round and FLOP per picture."""
    setting, variant = sides.setting, sides.setting.variant
    caffe, torch = sides.pair()
    ours = caffe.ask("prepare", variant=variant.name, batch=batch, training=mode == "training")
    chain = architectures.chain(variant)
    theirs = torch.ask("prepare", chain=chain, batch=batch, side=variant.crop, classes=variant.classes)
    if theirs["parameters"] != ours["parameters"]:
        raise RuntimeError(f"not the same net: {ours['parameters']} and {theirs['parameters']} parameters")
    contenders: dict[str, Callable[..., dict]] = {
        "ours": partial(caffe.ask, mode),
        **{layout: partial(torch.ask, mode, layout=layout) for layout in LAYOUTS},
    }
    count = _warm_up(contenders.values(), setting)

    def rate_of(iterate: Callable[..., dict], _: int) -> float:
        return count * batch / iterate(count=count)["seconds"]

    rounds = 2 if setting.quick else 5
    rates = in_turns(rounds, {name: partial(rate_of, iterate) for name, iterate in contenders.items()})
    return rates, count, 2 * ours[f"{mode}_macs"]


def _warm_up(contenders: Iterable[Callable[..., dict]], setting: Setting) -> int:
    """Let each choose its algorithms; returns how many iterations of the slowest take SECONDS, 1 to 50."""
    slowest = 0.0
    for iterate in contenders:
        iterate(count=1)
        slowest = max(slowest, iterate(count=1)["seconds"])
    return 1 if setting.quick else max(1, min(50, round(SECONDS / slowest)))
