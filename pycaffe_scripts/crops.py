#!/usr/bin/env python3
"""Find the best crop of pictures: the part of each that the net scores highest.

Three searches: dense (the default: all windows of an image pyramid in a few passes of a convolutional net, then exact
scores of the best and of their neighbours), grid (x, y and scale at equal steps) and random (as in the post).

Written to --out, for each picture NAME: NAME_crop1.png and so on (their file scores what is printed), NAME_heat.png
(where good crops are); and crops.png with all pictures before and after. A crop may well cut out the person: the post
calls those rude, and --keep-face forbids them. A picture that cannot be used is named, and the exit code is 1.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))  # before .venv is there, too

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders")
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--gpu", type=int, help="GPU to use (default: CPU)")
    parser.add_argument("--method", choices=("dense", "grid", "random"), default="dense")
    parser.add_argument("--count", type=int, default=1000, help="crops that random tries (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps of grid per parameter (default: %(default)s)")
    parser.add_argument(
        "--aspect",
        type=aspect,
        default=1.0,
        metavar="W:H",
        help="width to height of the crops, or 'picture': that of the picture (default: 1:1)",
    )
    parser.add_argument(
        "--min-scale",
        type=float,
        default=0.4,
        metavar="S",
        help="side of the smallest crops, of the largest one's (default: %(default)s)",
    )
    parser.add_argument("--keep-face", action="store_true", help="only crops with the whole of the largest face")
    parser.add_argument("--detector", choices=("auto", "mtcnn", "lbp"), default="auto", help="for --keep-face")
    parser.add_argument("--top", type=int, default=1, help="how many crops to keep (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2015)
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: <run>/crops)")
    parser.add_argument("--json", action="store_true", help="one JSON object per picture")
    args = parser.parse_args(argv)
    if min(args.count, args.steps, args.top) < 1:
        parser.error("--count, --steps and --top must be at least 1")
    if not 0 < args.min_scale <= 1:
        parser.error("--min-scale must be above 0 and at most 1")
    return search(args)


def aspect(text):
    """A number from '4:5', '0.8' or 'picture' (None)."""
    if text == "picture":
        return None
    width, _, height = text.partition(":")
    width, height = float(width), float(height or 1)
    if not (height > 0 and 0.1 <= width / height <= 10):
        raise ValueError(text)
    return width / height


def search(args):
    """All pictures, one after the other; the exit code."""
    from selfie.common.errors import SelfieError
    from selfie.data import image
    from selfie.experiments import crops
    from selfie.faces import detectors
    from selfie.runs import run_folder, score

    run = run_folder.find(args.run)
    names = score.expand(args.paths)
    out = args.out or run.folder / "crops"
    searcher = crops.Searcher(run, args.gpu)
    detect = detectors.load(args.detector) if args.keep_face else None
    done, bad = [], 0
    for name, stem in zip(names, stems(names)):
        try:
            bgr = image.read(name)
            allowed = crops.space(
                bgr,
                run.preprocessing.crop,
                args.aspect or bgr.shape[1] / bgr.shape[0],
                args.min_scale,
                crops.face(bgr, detect) if detect else None,
            )
            result = searcher.search(bgr, allowed, args.method, args.top, args.count, args.steps, args.seed)
        except SelfieError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            bad += 1
            continue
        files = [out / f"{stem}_crop{number}.png" for number in range(1, len(result.best) + 1)]
        for file, (window, _) in zip(files, result.best):
            image.write(file, window.cut(bgr))
        crops.draw_heat(out / f"{stem}_heat.png", bgr, result)
        (tell_json if args.json else tell)(name, result, files)
        done.append((bgr, result))
    if done:
        crops.draw_before_after(out / "crops.png", done)
    return 1 if bad else 0


def stems(names):
    """The files' names without folder and suffix; a number where two would be the same."""
    seen = {}
    for name in names:
        stem = Path(name).stem
        seen[stem] = seen.get(stem, 0) + 1
        yield stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"


def tell(name, result, files):
    for (window, value), file in zip(result.best, files):
        print(
            f"{100 * result.original:5.1f}% -> {100 * value:5.1f}%  {name}  {window.width} x {window.height} at "
            f"({window.left}, {window.top})  {file}"
        )


def tell_json(name, result, files):
    import dataclasses
    import json

    best = [
        {"score": value, **dataclasses.asdict(window), **result.space.relative(window), "file": str(file)}
        for (window, value), file in zip(result.best, files)
    ]
    print(
        json.dumps(
            {
                "path": name,
                "score": result.original,
                "best": best,
                "crops": len(result.windows),
                "forwards": result.forwards,
                "seconds": round(result.seconds, 3),
            },
            ensure_ascii=False,
        )
    )


if __name__ == "__main__":
    cli.run(main)
