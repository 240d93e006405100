#!/usr/bin/env python3
"""Keep the selfies with at least one face, and note how many faces there are and where the largest is.

Adds to the manifest: face_count; face_x, face_y, face_w, face_h, the largest face's box, relative to the upright
picture (0 to 1); face_error, why a picture could not be read. What is removed is listed, with the reason, in
<out without its suffix>.removed.csv. MTCNN runs on Caffe ('make caffe', 'make weights VARIANT=mtcnn'); lbp needs
neither, but finds only frontal faces. An interrupted run resumes when it is started again.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import os
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--manifest", required=True, metavar="FILE", help="table with id and path, see docs/data.md")
    cli.add_table(parser)
    parser.add_argument("--images", required=True, metavar="DIR", help="folder that the manifest's paths start from")
    parser.add_argument("--out", required=True, metavar="FILE", help="manifest to write")
    parser.add_argument(
        "--detector",
        default="auto",
        choices=("auto", "mtcnn", "lbp"),
        help="auto: mtcnn if it can run, else lbp (default: %(default)s)",
    )
    parser.add_argument(
        "--min-face",
        type=float,
        metavar="SHARE",
        help="smallest face that mtcnn looks for, as a share of the picture's longer side (default: 0.077, a "
        "thirteenth: no head of a selfie is smaller; 0 looks for all down to an eighteenth, in half more time)",
    )
    parser.add_argument("--keep-all", action="store_true", help="remove nothing, only add the columns")
    cli.add_outside(parser)
    cli.add_jobs(parser)
    cli.add_cluster(parser)
    args = parser.parse_args(argv)
    # Before any BLAS is loaded: the cores share the pictures, and last digits shall not depend on BLAS's threads.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"

    from selfie.cluster import mapper
    from selfie.data import manifest
    from selfie.faces import annotate, face_filter

    out = Path(args.out)
    if os.path.realpath(out) == os.path.realpath(args.manifest):
        parser.error("--out is the manifest itself: name another file")
    if out.suffix.lower() not in manifest.SUFFIXES:
        parser.error(f"--out must end in {', '.join(manifest.SUFFIXES)}")
    reading = manifest.Reading(dict(args.map), args.decimal, args.outside)
    min_face = annotate.MIN_FACE if args.min_face is None else args.min_face
    inputs = (args.manifest, args.images, out, args.detector, args.keep_all, args.jobs, reading, min_face)
    with mapper.workers(args.scheduler, args.workers, args.shards or f"{out}.shards", args.shard_rows) as workers:
        done = face_filter.filter_file(*inputs, workers)
    fate = f"removed, see {done.removed_list}" if done.removed_list else "kept all the same"
    print(f"{done.rows} selfies in {out}; without a face {done.without_face}, unreadable {done.unreadable}: {fate}")


if __name__ == "__main__":
    cli.run(main)
