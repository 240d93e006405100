#!/usr/bin/env python3
"""Find the best crop of pictures: the part of each that the net scores highest.

Three searches: dense (the default: all windows of an image pyramid in a few forward passes of a convolutional net, then
exact scores of the best and of their neighbours), grid (x, y and scale at equal steps) and random (as in the post).

Written to --out, for each picture NAME: NAME_crop1.png and so on (their file scores what is printed), NAME_heat.png
(where good crops are); and crops.png with all pictures before and after. A crop may well cut out the person: the post
calls those rude, and --keep-face forbids them. A crop that is unlike what the net learned from is said to be so, where
the run can tell. A picture that cannot be used is named, and the exit code is 1.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.realpath(f"{__file__}/../../tools"))  # before .venv is there, too

import selfie.common.quiet_start  # noqa: F401

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfie.common import cli, names

if TYPE_CHECKING:
    import numpy as np

    from selfie.experiments.crops import Result


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)

    from selfie.common.errors import SelfieError
    from selfie.data import image
    from selfie.experiments import crop_plots, crop_space, crops
    from selfie.faces import detectors
    from selfie.runs import run_folder, score

    run = run_folder.find(args.run)
    named = [(each, None) if isinstance(each, str) else (each.path, each.error) for each in score.expand(args.paths)]
    out = args.out or run.folder / "crops"
    searcher = crops.Searcher(run, args.gpu)
    detect = detectors.load(args.detector) if args.keep_face else None
    searched: list[tuple[np.ndarray, Result]] = []
    for (name, problem), stem in zip(named, stems(name for name, _ in named)):
        try:
            if problem:
                raise SelfieError(problem)
            bgr = image.read(name)
            aspect = args.aspect or bgr.shape[1] / bgr.shape[0]
            keep = crop_space.face(bgr, detect) if detect else None
            allowed = crop_space.space(bgr, run.preprocessing.crop, aspect, args.min_scale, keep)
            result = searcher.search(bgr, allowed, args.method, args.top, args.count, args.steps, args.seed)
        except SelfieError as error:
            cli.tell_error(f"{names.shown(name)}: {error}")
            continue
        files = crop_plots.write(out, stem, bgr, result)
        if not searched and not args.json:
            print(f" score      best  picture (scored by {run.folder})")
        (print_json if args.json else print_lines)(name, result, files)
        searched.append((bgr, result))
    if searched:
        crop_plots.draw_before_after(out / "crops.png", searched)
    return 1 if len(searched) < len(named) else 0


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders")
    cli.add_run(parser)
    cli.add_gpu(parser)
    parser.add_argument(
        "--method", choices=("dense", "grid", "random"), default="dense", help="kind of search (default: %(default)s)"
    )
    parser.add_argument(
        "--count",
        type=cli.up_to(1_000_000),
        default=1000,
        metavar="N",
        help="crops that random tries (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=cli.up_to(200), default=10, metavar="N", help="grid: steps per parameter (default: %(default)s)"
    )
    parser.add_argument(
        "--aspect",
        type=aspect,
        default=1.0,
        metavar="W:H",
        help="width to height of the crops, or 'picture': that of the picture (default: 1:1)",
    )
    parser.add_argument(
        "--min-scale",
        type=scale,
        default=0.4,
        metavar="S",
        help="side of the smallest crop as a fraction of the largest crop's (default: %(default)s)",
    )
    parser.add_argument("--keep-face", action="store_true", help="only crops that contain the whole largest face")
    parser.add_argument(
        "--detector",
        choices=("auto", "mtcnn", "lbp"),
        default="auto",
        help="face detector for --keep-face (default: %(default)s)",
    )
    parser.add_argument("--top", type=cli.positive, default=1, metavar="N", help="crops to keep (default: %(default)s)")
    cli.add_seed(parser, of="the random search")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the pictures (default: <run>/crops)")
    parser.add_argument("--json", action="store_true", help="one JSON object per picture")
    return parser


def aspect(text: str) -> float | None:
    """Read a width to height, '4:5' or '0.8', from 0.1 to 10; 'picture' is None."""
    if text == "picture":
        return None
    width, _, height = text.partition(":")
    try:
        ratio = float(width) / float(height or 1)
    except ZeroDivisionError as error:
        raise ValueError(text) from error
    if not 0.1 <= ratio <= 10:
        raise ValueError(text)
    return ratio


def scale(text: str) -> float:
    """Read a number above 0 and at most 1."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return number


def stems(names: Iterable[str]) -> Iterator[str]:
    """Yield the files' names without folder and suffix; with a number where two would be the same."""
    counts: dict[str, int] = {}
    for name in names:
        stem = Path(name).stem
        counts[stem] = counts.get(stem, 0) + 1
        yield stem if counts[stem] == 1 else f"{stem}-{counts[stem]}"


def print_lines(name: str, result: Result, files: list[Path]) -> None:
    from selfie.runs import trust

    for (window, score), file, unlike in zip(result.best, files, result.unlike or [0.0] * len(files)):
        print(
            f"{100 * result.original:5.1f}% -> {100 * score:5.1f}%  {names.shown(name)}  "
            f"{window.width} x {window.height} at ({window.left}, {window.top})  {names.shown(file)}"
            f"{'  (a crop unlike what this net learned from)' if unlike >= trust.UNKNOWN else ''}"
        )


def print_json(name: str, result: Result, files: list[Path]) -> None:
    import dataclasses
    import json

    best = [
        {"score": score, **dataclasses.asdict(window), **result.space.relative(window), "file": str(file)}
        for (window, score), file in zip(result.best, files)
    ]
    for crop, unlike in zip(best, result.unlike or []):
        crop["unlike"] = unlike
    record = {
        "path": name,
        "score": result.original,
        "best": best,
        "crops": len(result.windows),
        "forwards": result.forwards,
        "seconds": round(result.seconds, 3),
    }
    print(names.json_printable(json.dumps(record, ensure_ascii=False)))


if __name__ == "__main__":
    cli.run(main)
