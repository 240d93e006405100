#!/usr/bin/env python3
"""Answer who mentions an account of yours with a selfie: the score, as @deepselfie did.

    python3 tools/bot.py --server https://mastodon.example --token-file token.txt --run runs/vgg16

The first start answers nothing: it notes where the mentions end, and what comes later is answered within a minute. The
ledger (--ledger) knows what became of each mention; with it the bot can be killed and started at any moment, and
answers nobody twice. Ctrl-C ends it.

Answers are seen by those who could see the mention, and stand in no public timeline. Programs, and who has said stop,
get none. Mark the account as a bot in its settings, and read docs/ethics.md first: what a public bot should say.
"""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import logging
import signal
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from selfie.common import cli
from selfie.common.errors import SelfieError

if TYPE_CHECKING:
    from selfie.serve.bot.mastodon import Mastodon
    from selfie.serve.bot.x import X


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--server", metavar="URL", help="the account's server, one with Mastodon's API: https://...")
    network.add_argument("--x", action="store_true", help="the account is on X")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a file with the account's access token; X: a JSON object with the four keys of docs/bot.md",
    )
    parser.add_argument(
        "--ledger", type=Path, default=Path("data/bot"), metavar="FOLDER", help="default: %(default)s; keep it"
    )
    cli.add_run(parser)
    cli.add_gpu(parser)
    parser.add_argument(
        "--poll", type=cli.positive, default=20, metavar="S", help="seconds between looks (default: %(default)s)"
    )
    parser.add_argument(
        "--per-account", type=cli.positive, default=10, metavar="N", help="answers a day to one (default: %(default)s)"
    )
    parser.add_argument(
        "--per-day", type=cli.positive, default=1000, metavar="N", help="answers a day to all (default: %(default)s)"
    )
    parser.add_argument("--about", default="", metavar="URL", help='where more is said; told to who asks "?"')
    parser.add_argument(
        "--allow-network",
        type=cli.network,
        action="append",
        default=[],
        metavar="NET",
        help="fetch pictures from this private network, too",
    )
    parser.add_argument("--once", action="store_true", help="answer what has come, and end")
    args = parser.parse_args(argv)
    if not args.x and not (args.server or "").startswith(("https://", "http://")):
        raise SelfieError("which server: name its address, https://..., with --server (or say --x)")
    if args.token_file is None:
        raise SelfieError("as whom: name the file of the account's access token with --token-file")

    from selfie.gather.limits import DEFAULTS, Limits
    from selfie.runs import run_folder
    from selfie.serve.bot.bot import Bot, Settings
    from selfie.serve.bot.ledger import Ledger
    from selfie.serve.scorer import Scorer

    cli.point_to_ethics()
    logging.getLogger("selfie").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    port = urlsplit(args.server or "").port
    limits = Limits(allow_networks=tuple(args.allow_network), ports=DEFAULTS.ports | ({port} if port else set()))
    run = run_folder.find(args.run)
    settings = Settings(args.poll, args.per_account, args.per_day, args.about, limits, run.meaning)
    with (
        closing(opened(args.server, args.token_file)) as network,
        Ledger(args.ledger, network.account) as ledger,
        Scorer(run, args.gpu) as scorer,
    ):
        bot = Bot(network, ledger, scorer, settings)
        if args.once:
            bot.once()
        else:
            print(f"@{network.name} answers, with {run.folder}; Ctrl-C ends it", flush=True)
            with suppress(KeyboardInterrupt):
                bot.run()
        print(", ".join(f"{number} {state}" for state, number in ledger.counts().items()) or "no mentions yet")
    return 0


def opened(server: str | None, token_file: Path) -> X | Mastodon:
    """Log in where the account is."""
    if server is None:
        from selfie.serve.bot.x import X

        return X(token_file)
    from selfie.common import paths
    from selfie.serve.bot.mastodon import Mastodon

    token = paths.read_text(token_file, "token file").strip()
    if not token:
        raise SelfieError(f"{token_file} is empty: it should hold the account's access token")
    return Mastodon(server, token)


if __name__ == "__main__":
    cli.run(main)
