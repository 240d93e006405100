#!/usr/bin/env python3
"""Finetune a net with `caffe train`, in a run folder that keeps everything: prototxts, log, metrics, snapshots.

Ctrl-C or SIGTERM: Caffe snapshots and stops; --resume goes on from the newest intact snapshot. --set changes any field
of the solver: --set base_lr=0.0005 --set max_iter=2000.
"""

from pathlib import Path

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", required=True, help="a folder of prototxt/: vgg16, squeezenet, demo ...")
    parser.add_argument("--run", type=Path, help="run folder to make (default: runs/<variant>)")
    parser.add_argument("--lmdb", type=Path, help="folder with the databases train and val (default: data/lmdb)")
    parser.add_argument("--weights", help="pretrained caffemodel (default: the variant's; 'none': from scratch)")
    parser.add_argument("--solver", type=Path, help="solver file (default: solver/<variant>.prototxt)")
    parser.add_argument(
        "--gpu",
        help="GPU to use, or several: 0,1 (default: CPU, or with --resume that of the start); "
        "each reads a batch of its own for a step; cpu: none",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="pictures per pass and GPU (default: the net's own)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest intact snapshot")
    parser.add_argument("--replace", action="store_true", help="remove an older run of that name first")
    parser.add_argument("--epochs", type=float, help="passes over the training split; sets max_iter")
    parser.add_argument("--seed", type=int, help="random_seed of the solver")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a solver field")
    args = parser.parse_args(argv)
    settings = dict(
        item.split("=", 1) if "=" in item else parser.error(f"--set {item}: write FIELD=VALUE") for item in args.set
    )
    if args.resume and (
        args.weights or args.solver or args.epochs or args.batch or args.seed or args.replace or settings
    ):
        parser.error("--resume goes on with the options of the start: it takes --variant, --run and --gpu only")

    from selfie.common import paths
    from selfie.net import variants
    from selfie.runs import train

    variant = variants.get(args.variant)
    folder = args.run or paths.RUNS / variant.name
    if args.resume:
        finished = train.resume(folder, variant, args.gpu)
    else:
        finished = train.train(
            train.Job(
                variant,
                args.lmdb or paths.ROOT / variant.data,
                folder,
                train.starting_weights(variant, args.weights),
                args.solver,
                None if args.gpu == "cpu" else args.gpu,
                args.seed,
                args.epochs,
                args.batch,
                args.replace,
                settings,
            )
        )
    print(f"{finished.folder}: {finished.info['iterations']} iterations, {finished.info['caffemodel']}")


if __name__ == "__main__":
    cli.run(main)
