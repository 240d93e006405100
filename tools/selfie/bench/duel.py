"""Groups `vgg16` and `squeezenet` of the GPU benchmark: scoring and training beside PyTorch on the same card.

Caffe and PyTorch run in processes of their own and take turns. These stay for all batches of a precision: to start them
takes as long as to measure one.
"""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Callable

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row, in_turns, median_ratio
from selfie.common.worker import OutOfMemory, Worker
from selfie.net import architectures, variants
from selfie.net.variants import Variant

LAYOUTS = ("contiguous", "channels_last")  # PyTorch's; which one is faster depends on the device
SECONDS = 0.3  # of work between two clock readings
MEASURED = "ours, measured"  # Caffe with CAFFE_CUDNN_MEASURE=1, a contender at one batch size
MEASURED_AT = 64
BATCHES = (32, 64, 128)
QUICK_BATCHES = (2, 4)

log = logging.getLogger(__name__)


def vgg16(setting: Setting) -> Iterable[Row]:
    """Measure scoring and training in all precisions, and the share of the card's matrix rate that each reaches."""
    for precision in setting.precisions:
        with Sides(setting, precision, "vgg16", setting.variant) as sides:
            rate = matrix_rate(sides)
            yield Row("vgg16", f"matrix product of {precision} in PyTorch", "TFLOP/s", rate / 1e12)
            for mode in ("forward", "training"):
                rows = []
                for row in _duels(sides, mode, BATCHES, rate):
                    rows.append(row)
                    yield row
                if rows:
                    yield _share_of_rate(max(rows, key=lambda row: row.ours))


def squeezenet(setting: Setting) -> Iterable[Row]:
    """Measure scoring and training of a net of many small layers, in one batch size and the quicker precision."""
    with Sides(setting, setting.precisions[0], "squeezenet", variants.get("squeezenet")) as sides:
        for mode in ("forward", "training"):
            yield from _duels(sides, mode, [MEASURED_AT])


class Sides:
    """The processes of Caffe and PyTorch for one net in one precision: started when first asked for, ended with the
    block. group: of the rows.
    """

    def __init__(self, setting: Setting, precision: str, group: str, variant: Variant) -> None:
        self.setting, self.precision, self.group, self.variant = setting, precision, group, variant
        self._processes = ExitStack()
        self._known: dict[str, Worker] = {}

    def process(self, name: str) -> Worker:
        """Return the process "ours", MEASURED or "torch", which has chosen device and precision."""
        if name not in self._known:
            if name == "torch":
                started = Worker(self.setting.torch, "bench.torch_peer")
            else:
                how = {"CAFFE_TF32": PRECISIONS[self.precision], "CAFFE_CUDNN_MEASURE": str(int(name == MEASURED))}
                started = Worker(sys.executable, "bench.caffe_peer", **how)
            self._known[name] = self._processes.enter_context(started)
            if name == "torch":
                started.ask("hello", device=self.setting.device, tf32=self.precision == "TF32")
            else:
                started.ask("hello", gpu=self.setting.gpu)
        return self._known[name]

    def end(self) -> None:
        """End the processes, as after one had no memory; others are started when they are asked for."""
        self._known = {}
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
    return Row(best.group, title, "%", ours, ours / best.ours * best.peer, best.peer_name)


def matrix_rate(sides: Sides) -> float:
    """Measure the FLOP/s of a large product of float32 matrices on this device, by PyTorch: the median of five."""
    size, count = (512, 2) if sides.setting.quick else (8192, 10)
    torch = sides.process("torch")
    seconds = statistics.median(torch.ask("matrix", size=size, count=count)["seconds"] for _ in range(5))
    return 2 * size**3 * count / seconds


def _duels(sides: Sides, mode: str, batches: Sequence[int], rate: float | None = None) -> Iterator[Row]:
    """Measure all batch sizes that fit."""
    for batch in QUICK_BATCHES[: len(batches)] if sides.setting.quick else batches:
        title = f"{sides.variant.name} {mode}, batch {batch}, {sides.precision}"
        log.info("%s", title)
        try:
            row = duel(sides, mode, batch, rate, title)
            yield row
            if MEASURED in row.detail["rounds"]:
                yield _measured(row)
        except OutOfMemory as error:
            log.warning("no measurement of %s: %s", title, error)
            sides.end()


def _measured(row: Row) -> Row:
    """Return the row of Caffe with measured algorithms in a duel, beside Caffe as it is."""
    rounds = row.detail["rounds"]
    ratio = median_ratio(rounds[MEASURED], rounds["ours"])
    title = f"{row.what}, algorithms measured"
    return Row(row.group, title, "images/s", statistics.median(rounds[MEASURED]), row.ours, "ours", ratio)


def duel(sides: Sides, mode: str, batch: int, rate: float | None, title: str) -> Row:
    """Let Caffe and PyTorch, in both its layouts, iterate the same net in turns; the better layout is the peer.

    mode   "forward" or "training"
    rate   of matrix products on this device, FLOP/s, for the share of it that is reached
    """
    rates, count, flop = _rates(sides, mode, batch)
    medians = {name: statistics.median(of_rounds) for name, of_rounds in rates.items()}
    layout = max(LAYOUTS, key=lambda name: medians[name])
    return Row(
        sides.group,
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
            "share": medians["ours"] * flop / rate if rate else None,
        },
    )


def _rates(sides: Sides, mode: str, batch: int) -> tuple[dict[str, list[float]], int, int]:
    """Measure {"ours", MEASURED or one of LAYOUTS: images/s, round by round}.

    With iterations per round and FLOP per picture.
    """
    setting, variant = sides.setting, sides.variant
    names = ["ours", MEASURED] if setting.gpu is not None and batch == MEASURED_AT else ["ours"]
    told = {"variant": variant.name, "batch": batch, "training": mode == "training"}
    ours, *_ = [sides.process(name).ask("prepare", **told) for name in names]
    torch = sides.process("torch")
    layers = architectures.plain_layers(variant)
    theirs = torch.ask("prepare", layers=layers, batch=batch, side=variant.crop, classes=variant.classes)
    if theirs["parameters"] != ours["parameters"]:
        raise RuntimeError(f"not the same net: {ours['parameters']} and {theirs['parameters']} parameters")
    contenders: dict[str, Callable[..., dict]] = {
        **{name: partial(sides.process(name).ask, mode) for name in names},
        **{layout: partial(torch.ask, mode, layout=layout) for layout in LAYOUTS},
    }
    count = _warm_up(contenders.values(), setting)

    def rate_of(iterate: Callable[..., dict], _: int) -> float:
        return count * batch / iterate(count=count)["seconds"]

    rounds = 2 if setting.quick else 5
    rates = in_turns(rounds, {name: partial(rate_of, iterate) for name, iterate in contenders.items()})
    for name in names[1:]:
        sides.process(name).ask("release")
    return rates, count, 2 * ours[f"{mode}_macs"]


def _warm_up(contenders: Iterable[Callable[..., dict]], setting: Setting) -> int:
    """Let each choose its algorithms; returns how many iterations of the slowest take SECONDS, 1 to 50."""
    slowest = 0.0
    for iterate in contenders:
        iterate(count=1)
        slowest = max(slowest, iterate(count=1)["seconds"])
    return 1 if setting.quick else max(1, min(50, round(SECONDS / slowest)))
