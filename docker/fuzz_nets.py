#!/usr/bin/env python3
"""Compare random nets of a built Caffe with Caffe's own layers (CAFFE_ONEDNN=0), value by value.

Each net is made twice, with oneDNN and without, on the same numbers, and both are used in the same random way: forward,
forward of some layers, backward, blobs and parameters read and written between, arrays that are kept, other batch
sizes, parameters shared with another net, several nets in threads. After each step the blobs that it looks at have to
be the same but for rounding. A net depends on the seed and its number alone:

    docker/fuzz_nets.py --count 1000                    for each set of instructions that this CPU has
    docker/fuzz_nets.py --isa AVX2 --only 123 --show    one, with its prototxt

Exit status 1 if a value was wrong or a process ended. Undecided are nets whose values grow beyond what can be compared,
or whose gradients differ as much between two roundings of Caffe's own.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ISAS = ("AVX512_CORE", "AVX2", "SSE41")  # as ONEDNN_MAX_CPU_ISA names them
AT_ONCE = 40  # nets of a process
ROUNDING = 1e-3  # of the largest value: some layers of Winograd's algorithm, one after the other
LARGE = 1e3  # of what LRN takes: what it makes of that is 34 at most, and has the rounding of larger numbers
UNDECIDED = "undecided"
GRADIENT_ROUNDING = 2e-2  # on average: a ReLU or a maximum may turn over
ROUNDED, OTHER_ROUNDINGS = 1e-6, 12  # if it moves more: so much is added to the input, so often


class Maker:
    """A random net as prototxt. shapes: of the blobs that a layer may still take, C x H x W."""

    def __init__(self, dice: random.Random) -> None:
        self.dice, self.layers, self.count = dice, [], 0
        self.phase = "TRAIN" if dice.random() < 0.15 else "TEST"
        self.backward = dice.random() < 0.3
        self.batch = dice.choice((1, 1, 2, 3, 5))
        self.shape = (dice.choice((1, 3, 16, 20, 32)), dice.randint(7, 30), dice.randint(7, 30))
        self.blob = "data"
        self.grown = False  # products of blobs: of large values LRN makes small ones, and keeps their rounding
        if dice.random() < 0.25:
            self.entry()
        for _ in range(dice.randint(2, 7)):
            dice.choice((self.chain, self.chain, self.chain, self.residual, self.residual, self.fire, self.pool))()
        if dice.random() < 0.3:
            self.add("InnerProduct", "inner_product_param { num_output: 7 }", top="end")

    def text(self) -> str:
        sizes = " ".join(f"dim: {size}" for size in (self.batch, *self.shape0))
        head = f"force_backward: {str(self.backward).lower()} state {{ phase: {self.phase} }} "
        return (
            head
            + f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {sizes} }} }} }}\n'
            + ("\n".join(self.layers))
        )

    @property
    def shape0(self) -> tuple[int, int, int]:
        return self.first if hasattr(self, "first") else self.shape

    def add(self, kind: str, param: str = "", bottoms: list[str] | None = None, top: str = "") -> str:
        """Append a layer; without a top it is in place or not, by chance."""
        if not hasattr(self, "first"):
            self.first = self.shape
        self.count += 1
        bottoms = bottoms or [self.blob]
        if not top:
            top = bottoms[0] if self.dice.random() < 0.75 and bottoms[0] != "data" else f"b{self.count}"
        ends = " ".join(f'bottom: "{name}"' for name in bottoms)
        self.layers.append(f'layer {{ name: "l{self.count}" type: "{kind}" {ends} top: "{top}" {param} }}')
        self.blob = top
        return top

    def convolution(self, outputs: int | None = None, keep: bool = False, halve: bool = False) -> None:
        """Append a convolution; one that keeps height and width, or takes every other pixel of every other row."""
        dice, (channels, height, width) = self.dice, self.shape
        outputs = outputs or dice.choice((1, 5, 8, 16, 16, 20, 32, 33, 48, 64))
        kernel = dice.choice((1, 1, 1, 3, 3, 5)) if min(height, width) >= 5 and not halve else 1
        pad = kernel // 2 if keep or dice.random() < 0.6 or halve else 0
        stride = 2 if halve else 1 if keep or dice.random() < 0.7 else 2
        more = ""
        if dice.random() < 0.3:
            more += " bias_term: false"
        if dice.random() < 0.1 and channels % 4 == 0 and outputs % 4 == 0:
            more += " group: 4"
        self.add("Convolution", f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {pad} "
                 f"stride: {stride}{more} }}", top=f"b{self.count + 1}")  # fmt: skip
        self.shape = (outputs, *((size + 2 * pad - kernel) // stride + 1 for size in (height, width)))

    def entry(self) -> None:
        """Append a first layer as large nets have it: a large convolution with a stride."""
        dice = self.dice
        channels, kernel, stride = dice.choice((1, 3, 3, 4)), dice.choice((5, 7, 7, 9, 11)), dice.choice((2, 2, 3, 4))
        pad, outputs = dice.randint(0, kernel // 2), dice.choice((16, 20, 32, 48))
        self.shape = self.first = (channels, dice.randint(30, 70), dice.randint(30, 70))
        self.add("Convolution", f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {pad} "
                 f"stride: {stride} }}", top=f"b{self.count + 1}")  # fmt: skip
        self.shape = (outputs, *((size + 2 * pad - kernel) // stride + 1 for size in self.shape[1:]))
        self.rectifier()

    def affine(self) -> None:
        """Append a BatchNorm, a Scale or both."""
        dice = self.dice
        if dice.random() < 0.8:
            # Statistics of a few values would make much of rounding.
            stored = "use_global_stats: true" if self.phase == "TRAIN" or dice.random() < 0.3 else ""
            self.add("BatchNorm", f"batch_norm_param {{ {stored} eps: {dice.choice(('1e-5', '1e-3'))} }}")
        if dice.random() < 0.8:
            axis = dice.choice(("", "", "axis: -3", "axis: 1 num_axes: 0", "axis: 0 num_axes: 2"))
            axis = axis if self.dice.random() < 0.3 else ""
            axis = "" if "axis: 0" in axis else axis  # it would hold the batch
            self.add("Scale", f"scale_param {{ bias_term: {dice.choice(('true', 'false'))} {axis} }}")

    def rectifier(self) -> None:
        kind = self.dice.random()
        if kind < 0.5:
            self.add("ReLU")
        elif kind < 0.65:
            self.add("ReLU", "relu_param { negative_slope: 0.2 }")
        elif kind < 0.85:
            shared = self.dice.choice(("", "channel_shared: true"))
            self.add("PReLU", f"prelu_param {{ {shared} }}")
        elif kind < 0.9:
            self.add("Power", "power_param { scale: 0.7 shift: 0.1 }")
        if self.dice.random() < 0.15 and self.phase == "TEST":
            self.add("Dropout")
        if self.dice.random() < 0.1 and not self.grown:
            self.add(
                "LRN", f"lrn_param {{ local_size: {self.dice.choice((3, 5))} alpha: 0.001 }}", top=f"n{self.count}"
            )

    def chain(self) -> None:
        """Append a convolution and what follows one."""
        self.convolution()
        if self.dice.random() < 0.7:
            self.affine()
        self.rectifier()

    def residual(self) -> None:
        """Append two or three branches, of half the height and width or of all, and their sum, product or maximum."""
        dice, start, shape = self.dice, self.blob, self.shape
        halve = dice.random() < 0.3
        outputs = shape[0] if dice.random() < 0.5 else dice.choice((16, 32, 24))
        ends = []
        for _ in range(2 if dice.random() < 0.85 else 3):
            self.blob, self.shape = start, shape
            if halve:
                self.convolution(dice.choice((16, 24, 32, None)), halve=True)
                self.affine()
                self.rectifier()
            if ends or outputs != self.shape[0] or dice.random() < 0.4:
                for _ in range(dice.randint(0, 2)):
                    self.convolution(keep=True)
                    self.affine()
                    self.rectifier()
                self.convolution(outputs, keep=True)
                if dice.random() < 0.8:
                    self.affine()
            ends.append(self.blob)
        if dice.random() < 0.3:
            ends.reverse()
        operation = dice.choice(("SUM", "SUM", "SUM", "SUM", "PROD", "MAX"))
        self.grown = self.grown or operation == "PROD"
        weights = " ".join(f"coeff: {dice.choice((1, -1, 0.5))}" for _ in ends) if operation == "SUM" else ""
        weights = weights if dice.random() < 0.2 else ""
        self.add("Eltwise", f"eltwise_param {{ operation: {operation} {weights} }}", ends, top=f"e{self.count}")
        self.rectifier()

    def fire(self) -> None:
        """Append two or three branches and their concatenation."""
        self.convolution(keep=True)
        self.rectifier()
        start, shape, ends, outputs = self.blob, self.shape, [], 0
        blocks = self.dice.random() < 0.5  # of which oneDNN's memory format is made
        for _ in range(self.dice.choice((2, 2, 2, 3))):
            self.blob, self.shape = start, shape
            self.convolution(self.dice.choice((16, 32, 48)) if blocks else None, keep=True)
            if self.dice.random() < 0.3:
                self.affine()
            self.rectifier()
            ends.append(self.blob)
            outputs += self.shape[0]
        self.add("Concat", "", ends, top=f"c{self.count}")
        self.shape = (outputs, *shape[1:])
        if self.dice.random() < 0.3:
            self.affine()

    def pool(self) -> None:
        channels, height, width = self.shape
        if min(height, width) < 3:
            return
        kind, size, stride = self.dice.choice(("MAX", "MAX", "AVE")), self.dice.randint(2, 3), self.dice.randint(1, 2)
        pad = self.dice.choice((0, 0, 1))
        self.add("Pooling", f"pooling_param {{ pool: {kind} kernel_size: {size} stride: {stride} pad: {pad} }}",
                 top=f"p{self.count}")  # fmt: skip
        self.shape = (channels, *(self.pooled(length, size, stride, pad) for length in (height, width)))

    @staticmethod
    def pooled(length: int, size: int, stride: int, pad: int) -> int:
        pooled = -(-(length + 2 * pad - size) // stride) + 1
        return pooled - 1 if pad and (pooled - 1) * stride >= length + pad else pooled


class Pair:
    """A net with oneDNN and the same without, used in the same way."""

    def __init__(self, text: str, phase: str, seed: int) -> None:
        import caffe
        import numpy as np

        self.np, self.noise = np, np.random.default_rng(seed)
        self.path = Path(f"net{os.getpid()}.prototxt")
        self.path.write_text(text)
        self.phase = getattr(caffe, phase)
        self.caffe = caffe
        self.ours = caffe.Net(str(self.path), self.phase)
        os.environ["CAFFE_ONEDNN"] = "0"
        self.stock = caffe.Net(str(self.path), self.phase)
        os.environ["CAFFE_ONEDNN"] = "1"
        self.kept = []
        self.names = list(self.ours.blobs)
        self.layers = list(self.ours._layer_names)
        for name in self.ours.params:
            for index in range(len(self.ours.params[name])):
                self.set_parameter(name, index)
        self.set_blob("data")

    def set_parameter(self, name: str, index: int) -> None:
        """Give a parameter values that keep the blobs' about 1."""
        kind = self.ours.layers[self.layers.index(name)].type
        shape = tuple(self.ours.params[name][index].shape)
        values = self.noise.standard_normal(shape).astype("f")
        if kind == "BatchNorm":
            values = abs(values) + 0.5 if index else values * 0.5
            values = self.np.full(shape, self.noise.choice((0, 1, 1.5), p=(0.03, 0.67, 0.3))) if index == 2 else values
        elif kind in ("Convolution", "InnerProduct") and index == 0:
            values *= (2 * shape[0] / values.size) ** 0.5
        elif kind == "PReLU":
            values *= 0.3
        self.ours.params[name][index].data[...] = values
        self.stock.params[name][index].data[...] = values

    def set_blob(self, name: str) -> None:
        values = self.noise.standard_normal(tuple(self.ours.blobs[name].shape)).astype("f")
        self.ours.blobs[name].data[...] = values
        self.stock.blobs[name].data[...] = values

    def compare(self, names: list[str]) -> str:
        """Say which blob differs."""
        for name in names:
            ours, stock = self.ours.blobs[name].data, self.stock.blobs[name].data
            if ours.shape != stock.shape:
                return f"{name}: shape {ours.shape}, not {stock.shape}"
            if not self.close(ours, stock):
                return f"{name}: {abs(ours - stock).max()} of {abs(stock).max()}"
        return ""

    def too_large(self) -> bool:
        """Tell whether Caffe's own values have left the range in which ROUNDING is that of the layers.

        LRN makes large values small and keeps their rounding. Of one that is not finite, Winograd's algorithm makes a
        tile of such.
        """
        values = {name: abs(blob.data) for name, blob in self.stock.blobs.items()}
        kinds = {name: layer.type for name, layer in zip(self.layers, self.stock.layers)}
        normalised = [self.stock.bottom_names[name][0] for name, kind in kinds.items() if kind == "LRN"]
        finite = all(self.np.isfinite(of).all() for of in values.values())
        return not finite or any(values[name].max() > LARGE for name in normalised)

    def close(self, ours, stock) -> bool:
        np = self.np
        if not np.array_equal(np.isfinite(ours), np.isfinite(stock)):
            return False
        finite = np.isfinite(stock)
        ours, stock = ours[finite], stock[finite]
        return stock.size == 0 or abs(ours - stock).max() <= ROUNDING * abs(stock).max()

    def compare_gradients(self) -> str:
        names = ["data", *(name for name, blobs in self.ours.params.items() for _ in blobs)]
        for name, ours, stock in zip(names, self.differentiated(self.ours), self.differentiated(self.stock)):
            if wrong := self.distance(ours.diff, stock.diff):
                return f"gradient of {name}: {wrong}"
        return ""

    @staticmethod
    def differentiated(net) -> list:
        """List the blobs with gradients: the input and all parameters."""
        return [net.blobs["data"], *(blob for blobs in net.params.values() for blob in blobs)]

    def distance(self, gradient, right) -> str:
        """Say how far a gradient is from the right one, if that is more than rounding explains."""
        size = float(self.np.sqrt((right.astype("d") ** 2).sum()))
        difference = float(self.np.sqrt(((gradient.astype("d") - right) ** 2).sum()))
        return "" if difference <= GRADIENT_ROUNDING * size + 1e-6 else f"{difference} of {size}"

    # --- steps: each does the same with both nets, and says what is wrong

    def forward(self, dice: random.Random) -> str:
        if dice.random() < 0.5:
            self.set_blob("data")
        self.ours._forward(0, len(self.layers) - 1)
        self.stock._forward(0, len(self.layers) - 1)
        return self.look(dice)

    def part(self, dice: random.Random) -> str:
        first, last = sorted(dice.sample(range(len(self.layers)), 2))
        first = dice.choice((0, first))
        self.ours._forward(first, last)
        self.stock._forward(first, last)
        return self.look(dice)

    def look(self, dice: random.Random) -> str:
        return self.compare(dice.sample(self.names, dice.randint(0, min(3, len(self.names)))))

    def surgery(self, dice: random.Random) -> str:
        name = dice.choice(list(self.ours.params) or [""])
        if name:
            self.set_parameter(name, dice.randrange(len(self.ours.params[name])))
        return self.look(dice)

    def write(self, dice: random.Random) -> str:
        self.set_blob(dice.choice(self.names))
        return self.look(dice)

    def keep(self, dice: random.Random) -> str:
        """Keep arrays, of a blob or a parameter, for some time; what is written there later must be seen."""
        if self.kept and dice.random() < 0.5:
            self.kept.pop()
        elif self.ours.params and dice.random() < 0.5:
            name = dice.choice(list(self.ours.params))
            ours, stock = self.ours.params[name][0].data, self.stock.params[name][0].data
            self.kept.append(ours)
            ours *= 0.9
            stock *= self.np.float32(0.9)
        else:
            self.kept.append(self.ours.blobs[dice.choice(self.names)].data)
        return ""

    def batch(self, dice: random.Random) -> str:
        self.kept.clear()
        size = [dice.choice((1, 2, 3, 4, 6)), *self.ours.blobs["data"].shape[1:]]
        for net in (self.ours, self.stock):
            net.blobs["data"].reshape(*size)
            net.reshape()
        self.set_blob("data")
        return self.forward(dice)

    def share(self, dice: random.Random) -> str:
        self.kept.clear()
        other = self.caffe.Net(str(self.path), self.phase)
        for name, blobs in other.params.items():
            for ours, theirs in zip(self.ours.params[name], blobs):
                theirs.data[...] = ours.data
        self.ours.share_with(other)
        self.surgery(dice)
        return self.forward(dice)

    def backward(self, dice: random.Random) -> str:
        if not self.ours_is_backward:
            return ""
        end = self.ours.outputs[0]
        noise = self.noise.standard_normal(tuple(self.ours.blobs[end].shape)).astype("f")
        for net in (self.ours, self.stock):
            self.back(net, noise)
        wrong = self.compare_gradients()
        if wrong and self.turns_over(noise):
            return UNDECIDED
        return wrong or self.compare(self.names)

    @staticmethod
    def back(net, noise) -> None:
        net.forward()
        net.clear_param_diffs()
        net.blobs[net.outputs[0]].diff[...] = noise
        for other in net.outputs[1:]:
            net.blobs[other].diff[...] = 0
        net.backward()

    def turns_over(self, noise) -> bool:
        """Tell whether Caffe's own gradients differ as much, when its input is rounded otherwise.

        A rectifier or maximum turns over where two values are nearly equal, and the whole gradient behind it moves.
        """
        data = self.stock.blobs["data"].data
        before, gradients = data.copy(), [of.diff.copy() for of in self.differentiated(self.stock)]
        found = False
        for _ in range(OTHER_ROUNDINGS):
            data[...] = before * (1 + ROUNDED * self.noise.standard_normal(before.shape).astype("f"))
            self.back(self.stock, noise)
            moved = (of.diff for of in self.differentiated(self.stock))
            found = found or any(self.distance(*pair) for pair in zip(moved, gradients))
        data[...] = before
        self.back(self.stock, noise)
        return found

    def threads(self, dice: random.Random) -> str:
        """The same net in three threads, while this one looks at the parameters."""
        nets = [self.caffe.Net(str(self.path), self.phase) for _ in range(3)]
        for net in nets:
            net.share_with(self.ours)
            net.blobs["data"].reshape(*self.ours.blobs["data"].shape)
            net.blobs["data"].data[...] = self.ours.blobs["data"].data

        def compute(net):
            self.caffe.set_mode_cpu()
            for _ in range(3):
                net.forward()

        workers = [threading.Thread(target=compute, args=(net,)) for net in nets]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.stock.forward()
        for net in nets:
            for name in net.outputs:
                if not self.close(net.blobs[name].data, self.stock.blobs[name].data):
                    return f"{name} in a thread"
        self.ours.forward()
        return self.compare(list(self.ours.outputs))

    ours_is_backward = False


def run(number: int, seed: int, show: bool) -> str:
    """Make a net and use it; say what is wrong, or UNDECIDED."""
    dice = random.Random(f"{seed} {number}")
    maker = Maker(dice)
    text = maker.text()
    if show:
        print(text)
    pair = Pair(text, maker.phase, dice.randrange(1 << 30))
    pair.ours_is_backward = maker.backward
    chances = {"forward": 6, "part": 5, "surgery": 4, "write": 2, "keep": 3, "batch": 2, "share": 1, "backward": 3}
    chances["threads"] = 0.5
    steps = ["forward", *dice.choices(list(chances), list(chances.values()), k=8), "forward"]
    if maker.phase == "TRAIN":
        steps = [step for step in steps if step != "threads"]
    try:
        for step in steps:
            wrong = getattr(pair, step)(dice)
            if show:
                print(step, wrong)
            if wrong:
                return UNDECIDED if wrong == UNDECIDED or pair.too_large() else f"{step}: {wrong}"
        wrong = pair.compare(pair.names)
        return UNDECIDED if wrong and pair.too_large() else wrong
    finally:
        pair.path.unlink()


def work(numbers: range, seed: int, show: bool) -> int:
    """Run some nets in this process; a line for each."""
    os.environ["CAFFE_ONEDNN"] = "1"
    os.chdir(os.environ.get("TMPDIR", "/tmp"))
    wrong = 0
    for number in numbers:
        print(number, end=" ", flush=True)
        said = run(number, seed, show)
        wrong += said not in ("", UNDECIDED)
        print(said or "ok", flush=True)
    return min(wrong, 1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caffe", type=Path, default=ROOT / "build" / "caffe", help="an installed Caffe")
    parser.add_argument("--isa", nargs="+", default=list(ISAS), help="sets of instructions (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="nets for each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2015, metavar="S", help="(default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first's number (default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="the number of one net")
    parser.add_argument("--show", action="store_true", help="print prototxts and steps")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    numbers = range(options.first, options.first + options.count)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    if options.work:
        return work(numbers, options.seed, options.show)
    wrong = 0
    for isa in options.isa:
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "PYTHONPATH": str(options.caffe.resolve() / "python"),
                       "GLOG_minloglevel": "3"}  # fmt: skip
        done = found = large = 0
        for first in range(numbers.start, numbers.stop, AT_ONCE):
            count = min(AT_ONCE, numbers.stop - first)
            command = [sys.executable, __file__, "--work", "--first", str(first), "--count", str(count),
                       "--seed", str(options.seed), *(["--show"] if options.show else [])]  # fmt: skip
            child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
            if options.show:
                print(child.stdout)
            lines = [line for line in child.stdout.splitlines() if line.split(" ")[0].isdigit()]
            bad = [line for line in lines if not line.endswith((" ok", f" {UNDECIDED}"))]
            large += sum(line.endswith(f" {UNDECIDED}") for line in lines)
            if child.returncode not in (0, 1) or (child.returncode == 1 and not bad):
                bad = bad or [f"{first}..: the process ended with {child.returncode}"]
            for line in bad:
                print(f"--isa {isa} --seed {options.seed} --only {line}", flush=True)
            done, found = done + len(lines), found + len(bad)
        print(f"{isa}: {done} nets, {found} wrong, {large} {UNDECIDED}", flush=True)
        wrong += found
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
