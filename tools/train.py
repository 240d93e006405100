#!/usr/bin/env python3
"""Finetune a net with `caffe train`, in a run folder that keeps everything: prototxts, log, metrics, snapshots.

Ctrl-C or SIGTERM: Caffe snapshots and stops; --resume goes on from the newest intact snapshot. --set changes any field
of the solver: --set base_lr=0.0005 --set max_iter=2000.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    started_with = (args.weights, args.solver, args.epochs, args.batch, args.seed, args.replace, args.set, args.lmdb)
    if args.resume and any(started_with):
        parser.error("--resume goes on with the options of the start: it takes --variant, --run and --gpu only")
    if not args.variant and not (args.resume and args.run):
        parser.error("--variant says which net to train (--resume --run DIR knows it)")

    from selfie.common import paths
    from selfie.runs import train

    if args.resume:
        run = train.resume(args.run or paths.RUNS / args.variant, args.variant, args.gpu)
    else:
        run = train.train(make_job(args))
    print(f"{run.folder}: {run.info['iterations']} iterations, {run.info['caffemodel']}")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", help="a folder of prototxt/: vgg16, squeezenet, demo ...")
    parser.add_argument("--run", type=Path, metavar="DIR", help="run folder to make (default: runs/<variant>)")
    parser.add_argument("--lmdb", type=Path, metavar="DIR", help="databases train and val (default: data/lmdb)")
    parser.add_argument(
        "--weights", metavar="FILE", help="pretrained caffemodel (default: the variant's; 'none': random weights)"
    )
    parser.add_argument("--solver", type=Path, metavar="FILE", help="solver file (default: solver/<variant>.prototxt)")
    parser.add_argument(
        "--gpu",
        help="GPU to use, or several: 0,1, each with a batch of its own per iteration; cpu: none "
        "(default: CPU, or with --resume the device of the start)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="pictures per iteration and GPU (default: the variant's)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest intact snapshot")
    parser.add_argument("--replace", action="store_true", help="remove an older run of that name first")
    parser.add_argument("--epochs", type=float, metavar="N", help="length in epochs; sets max_iter")
    parser.add_argument("--seed", type=cli.seed, metavar="S", help="random_seed of the solver")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="set a solver field; may be repeated"
    )
    return parser


def make_job(args: argparse.Namespace):
    from selfie.common import paths
    from selfie.common.errors import SelfieError
    from selfie.net import variants
    from selfie.runs.prepare import Job, starting_weights

    settings = {}
    for item in args.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise SelfieError(f"--set {item}: write FIELD=VALUE")
        settings[name] = value
    variant = variants.get(args.variant)
    return Job(
        variant,
        args.lmdb or paths.ROOT / variant.data,
        args.run or paths.RUNS / variant.name,
        starting_weights(variant, args.weights),
        args.solver,
        None if args.gpu == "cpu" else args.gpu,
        args.seed,
        args.epochs,
        args.batch,
        args.replace,
        settings,
    )


if __name__ == "__main__":
    cli.run(main)
