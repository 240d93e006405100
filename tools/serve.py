#!/usr/bin/env python3
"""Serve a run: a page to score one's own selfie, POST /score for programs, and the Open Inference Protocol below /v2.

The page is for this machine only unless --host says otherwise; before you show it to others read docs/ethics.md, and
docs/serve.md on proxies, limits and metrics. Pictures are scored in memory, in a child process, and nothing of them is
kept or logged. Needs the packages of requirements-serve.txt.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

from collections.abc import Sequence

from selfie.common import cli


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    cli.add_run(parser)
    cli.add_gpu(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=cli.natural, default=8000, help="0: any that is free (default: %(default)s)")
    parser.add_argument("--batch", type=cli.positive, default=16, metavar="N", help="pictures (default: %(default)s)")
    parser.add_argument(
        "--wait", type=cli.natural, default=10, metavar="MS", help="for others of a batch (default: %(default)s)"
    )
    parser.add_argument(
        "--room", type=cli.positive, default=64, metavar="N", help="pictures that may wait (default: %(default)s)"
    )
    parser.add_argument(
        "--per-minute",
        type=cli.natural,
        default=60,
        metavar="N",
        help="pictures that one client may have scored; 0: no limit (default: %(default)s)",
    )
    parser.add_argument(
        "--patience", type=cli.positive, default=30, metavar="S", help="seconds until a batch has hung (%(default)s)"
    )
    parser.add_argument(
        "--proxy", type=cli.address, metavar="IP", help="of the proxy in front, which says who its clients are"
    )
    parser.add_argument("--no-explain", action="store_true", help="scores only: no best crop, no properties")
    args = parser.parse_args(argv)

    from selfie.runs import run_folder
    from selfie.serve import server
    from selfie.serve.allowance import Allowance
    from selfie.serve.explainer import Explainer
    from selfie.serve.scorer import Scorer
    from selfie.serve.service import Service

    listening = server.listen(args.host, args.port)
    run = run_folder.find(args.run)
    with Scorer(run, args.gpu, args.patience) as scorer:
        explainer = None if args.no_explain else Explainer(run, args.gpu)
        try:
            allowance = Allowance(args.per_minute)
            service = Service(scorer, explainer, allowance, batch=args.batch, wait=args.wait / 1000, room=args.room)
            server.run(service, listening, args.proxy)
        finally:
            if explainer:
                explainer.close()


if __name__ == "__main__":
    cli.run(main)
