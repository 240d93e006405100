#!/usr/bin/env python3
"""Measure Caffe on a GPU beside PyTorch on the same card, and check that it is right; a table and JSON.

Groups: first (import and one batch, against the CPU's answers), gtest (upstream's tests), training (SqueezeNet on the
published tiles: the losses of the CPU), vgg16 (scoring and training at batch 32, 64 and 128 beside PyTorch, in TF32
and in full precision, with the share of the card's matrix rate), memory (beside the estimate), errors (mistakes that
have to end in one line), squeezenet (as vgg16, at batch 64), layers (`caffe time` of VGG16), sanitizer (CUDA's
compute-sanitizer over one pass of the layers that our patches change), crops (the dense search beside the CPU). Needs
a GPU build of Caffe; PyTorch may be in another Python. The numbers go to OUT/bench_gpu.json, row by row. `--device
cpu --quick` tries the benchmark itself where there is no GPU. tools/gpu_check.sh measures all of it with bounds on
the time.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli

# gpu.GROUPS, which is slow to import
GROUPS = ("first", "gtest", "training", "vgg16", "memory", "errors", "squeezenet", "layers", "sanitizer", "crops")


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--device",
        type=device_name,
        default="0",
        metavar="GPU",
        help="number of the GPU, or cpu (default: %(default)s)",
    )
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, metavar="GROUP", help="measure these groups again, keep the others"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a miniature net and few iterations: half a minute on a CPU"
    )
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has PyTorch (default: this one, or python3)")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="end upstream's tests by then, and tell how far they came",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for all it makes (default: build/bench-gpu)")
    args = parser.parse_args(argv)

    from selfie.bench import gpu, gpu_setting
    from selfie.bench.record import table
    from selfie.common import paths
    from selfie.net import device, pycaffe

    names = args.only or GROUPS
    if args.device == "cpu":
        pycaffe.binary()
    else:
        device.check(args.device)
    number = None if args.device == "cpu" else int(args.device)
    torch = gpu_setting.find_torch(args.torch) if {"vgg16", "squeezenet"} & {*names} else ""
    out = (args.out or paths.BUILD / "bench-gpu").absolute()
    setting = gpu_setting.Setting(out, args.quick, number, torch, args.seconds)
    print(*table(gpu.measure(setting, names), GROUPS), sep="\n")


def device_name(text: str) -> str:
    """Read the number of a GPU, or cpu."""
    if text != "cpu" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not the number of a GPU, nor cpu")
    return text


if __name__ == "__main__":
    cli.run(main)
