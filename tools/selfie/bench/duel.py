"""Group `vgg16` of the GPU benchmark: scoring and training beside PyTorch on the same card, in both precisions.

Caffe and PyTorch run in processes of their own, so that neither holds memory that the other wants, and take turns.
"""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Callable

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row, in_turns, median_ratio
from selfie.common.worker import OutOfMemory, Worker
from selfie.net import architectures

LAYOUTS = ("contiguous", "channels_last")  # PyTorch's; which one is faster depends on the device
SECONDS = 0.5  # of work between two clock readings

log = logging.getLogger(__name__)


def vgg16(setting: Setting) -> Iterable[Row]:
    """Measure scoring and training in all precisions, and the share of the card's matrix rate that each reaches."""
    for precision in setting.precisions:
        rate = matrix_rate(setting, precision)
        yield Row("vgg16", f"matrix product of {precision} in PyTorch", "TFLOP/s", rate / 1e12)
        for mode in ("forward", "training"):
            rows = []
            for row in _duels(setting, precision, mode, rate):
                rows.append(row)
                yield row
            if rows:
                yield _share_of_rate(max(rows, key=lambda row: row.ours))


def _share_of_rate(best: Row) -> Row:
    """Return the shares of the matrix rate that both sides reach in a duel, in percent."""
    assert best.peer is not None
    ours = 100 * best.detail["share"]
    title = f"{best.what}: share of the matrix rate"
    return Row("vgg16", title, "%", ours, ours / best.ours * best.peer, best.peer_name)


def matrix_rate(setting: Setting, precision: str) -> float:
    """Measure the FLOP/s of a large product of float32 matrices on this device, by PyTorch: the median of five."""
    size, count = (512, 2) if setting.quick else (8192, 10)
    with Worker(setting.torch, "bench.torch_peer") as peer:
        peer.ask("hello", device=setting.device, tf32=precision == "TF32")
        seconds = statistics.median(peer.ask("matrix", size=size, count=count)["seconds"] for _ in range(5))
    return 2 * size**3 * count / seconds


def _duels(setting: Setting, precision: str, mode: str, rate: float) -> Iterator[Row]:
    """Measure all batch sizes that fit."""
    for batch in (2, 4) if setting.quick else (32, 64, 128):
        title = f"{setting.variant.name} {mode}, batch {batch}, {precision}"
        log.info("%s", title)
        try:
            yield duel(setting, precision, mode, batch, rate, title)
        except OutOfMemory as error:
            log.warning("no measurement of %s: %s", title, error)


def duel(setting: Setting, precision: str, mode: str, batch: int, rate: float, title: str) -> Row:
    """Let Caffe and PyTorch, in both its layouts, iterate the same net in turns; the better layout is the peer.

    mode   "forward" or "training"
    rate   of matrix products on this device, FLOP/s
    """
    rates, count, flop = _rates(setting, precision, mode, batch)
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
        None if setting.quick else 1.0,
        {
            "rounds": rates,
            "iterations per round": count,
            "GFLOP per picture": flop / 1e9,
            "share": medians["ours"] * flop / rate,
        },
    )


def _rates(setting: Setting, precision: str, mode: str, batch: int) -> tuple[dict[str, list[float]], int, int]:
    """Measure {"ours" or one of LAYOUTS: images/s, round by round}; with iterations per round and FLOP per picture."""
    variant = setting.variant
    with (
        Worker(sys.executable, "bench.caffe_peer", CAFFE_TF32=PRECISIONS[precision]) as caffe,
        Worker(setting.torch, "bench.torch_peer") as torch,
    ):
        caffe.ask("hello", gpu=setting.gpu)
        torch.ask("hello", device=setting.device, tf32=precision == "TF32")
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
