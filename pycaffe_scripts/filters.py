#!/usr/bin/env python3
"""Show how a run's net sees: what excites its filters, and the feature maps of one selfie.

For filters of one layer it finds the patches of the run's test selfies that excite them most, each exactly as large as
what the filter's unit sees, and what in those patches does it: by deconvolution (Zeiler and Fergus) and by guided
gradients. Without --blob and --filters: twelve filters, at random, at the end of the third stage, as in the post.
Writes patches.png, guided.png, deconvolution.png and patches.json into <run>/filters/<blob>.

With --maps it draws the feature maps of a selfie, layer by layer, instead: into <run>/maps/<name of the file>.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))  # before .venv is there, too

from selfie.common import cli


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--run", help="run folder (default: the newest finished run)")
    parser.add_argument("--blob", help="blob whose filters are shown (default: the last of the third stage)")
    parser.add_argument("--filters", type=int, nargs="+", metavar="N", help="filters to show (default: some at random)")
    parser.add_argument("--count", type=int, default=12, help="filters to choose (default: %(default)s)")
    parser.add_argument("--top", type=int, default=9, help="patches per filter (default: %(default)s)")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="default: %(default)s")
    parser.add_argument("--limit", type=int, default=2000, help="selfies to look through (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2015, help="of the choice of filters (default: %(default)s)")
    parser.add_argument("--maps", metavar="SELFIE", help="draw the feature maps of this file instead")
    parser.add_argument("--gpu", type=int, help="GPU to use (default: CPU)")
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--json", action="store_true", help="print the patches as JSON")
    args = parser.parse_args(argv)
    if min(args.count, args.top, args.limit) < 1:
        parser.error("--count, --top and --limit must be at least 1")

    from selfie.runs import run_folder

    run = run_folder.find(args.run)
    files = draw_maps(run, args) if args.maps else draw_patches(run, args)
    if args.maps or not args.json:
        print("\n".join(map(str, files)))


def draw_maps(run, args):
    from selfie.data import image
    from selfie.experiments import filters

    picture = image.square(image.read_named(args.maps))
    folder = args.out or run.folder / "maps" / Path(args.maps).stem
    return filters.draw_maps(filters.feature_maps(run, picture, args.gpu), folder)


def draw_patches(run, args):
    import json

    from selfie.common import paths
    from selfie.experiments import filters

    blob, found = filters.find(
        run,
        args.blob,
        args.filters,
        count=args.count,
        top=args.top,
        split=args.split,
        limit=args.limit,
        seed=args.seed,
        gpu=args.gpu,
    )
    folder = args.out or run.folder / "filters" / blob.replace("/", "_")
    files = filters.draw(run, blob, found, folder, args.split, args.gpu)
    told = {
        "run": str(run.folder),
        "blob": blob,
        "split": args.split,
        "filters": [[patch._asdict() for patch in patches] for patches in found],
    }
    paths.write_json(folder / "patches.json", told)
    if args.json:
        print(json.dumps(told))
    return [*files, folder / "patches.json"]


if __name__ == "__main__":
    cli.run(main)
