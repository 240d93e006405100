#!/usr/bin/env python3
"""Keep the selfies with at least one face, and note how many faces there are and where the largest is.

Adds to the manifest: face_count; face_x, face_y, face_w, face_h, the largest face's box, relative to the upright
picture (0 to 1); face_error, why a picture could not be read. What is taken out is listed, with the reason, in
<out>.removed.csv. MTCNN runs on Caffe ('make caffe', 'make weights VARIANT=mtcnn'); lbp needs neither, but finds only
frontal faces. An interrupted run resumes when it is started again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--manifest", required=True, metavar="M", help=".csv, .jsonl or .parquet with id and path")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder that the manifest's paths start from")
    parser.add_argument("--out", required=True, metavar="M2", help="manifest to write")
    parser.add_argument(
        "--detector",
        default="auto",
        choices=("auto", "mtcnn", "lbp"),
        help="auto: mtcnn if it can run, else lbp (default: %(default)s)",
    )
    parser.add_argument("--keep-all", action="store_true", help="take nothing out, only add the columns")
    cli.add_jobs(parser)
    args = parser.parse_args(argv)
    # Before any BLAS is loaded: the cores share the pictures, and last digits shall not depend on BLAS's threads.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"

    import polars as pl

    from selfie.common import paths
    from selfie.common.errors import SelfieError
    from selfie.data import manifest
    from selfie.faces import annotate

    out = Path(args.out)
    if out.resolve() == Path(args.manifest).resolve():
        parser.error("--out is the manifest itself: name another file")
    if out.suffix.lower() not in manifest.SUFFIXES:
        parser.error(f"--out must end in {', '.join(manifest.SUFFIXES)}")
    if not Path(args.images).is_dir():
        raise SelfieError(f"no such folder of images: {args.images}")
    partial, removed_list = out.with_name(f".{out.name}.partial"), out.with_name(f"{out.stem}.removed.csv")
    table = manifest.read(args.manifest)
    manifest.require(table, ("id", "path"), args.manifest)
    table = annotate.annotate(table, args.images, args.detector, args.jobs, partial)

    if len(table) and table["face_count"].null_count() == len(table):
        partial.unlink()
        raise SelfieError(
            f"none of the {len(table)} pictures can be read ({table['face_error'][0]}): is --images right?"
        )

    reason = pl.coalesce("face_error", pl.when(pl.col("face_count") == 0).then(pl.lit("no face")))
    removed = table.select("id", "path", reason=reason).drop_nulls("reason")
    if args.keep_all:
        removed_list.unlink(missing_ok=True)
    else:
        table = table.filter(reason.is_null())
        paths.write_csv(removed_list, removed)
    manifest.write(table, out)
    partial.unlink()

    without = (removed["reason"] == "no face").sum()
    fate = "kept all the same" if args.keep_all else f"removed, see {removed_list}"
    print(f"{len(table)} selfies in {out}; without a face {without}, unreadable {len(removed) - without}: {fate}")


if __name__ == "__main__":
    cli.run(main)
