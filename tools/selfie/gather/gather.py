"""A gathering from the order to the manifest: terms first, then the stages."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NamedTuple
from urllib.parse import urlsplit

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.gather import export, note, revisit
from selfie.gather.api import Api
from selfie.gather.bluesky import Bluesky
from selfie.gather.ledger import Ledger
from selfie.gather.limits import Limits
from selfie.gather.mastodon import Mastodon
from selfie.gather.pace import Pace
from selfie.gather.pictures import Fetcher
from selfie.gather.reading import TAG
from selfie.gather.robots import AGENT, Robots
from selfie.gather.source import Source

log = logging.getLogger(__name__)
NETWORKS: dict[str, Callable[[Api], Source]] = {"mastodon": Mastodon, "bluesky": Bluesky}
FORBIDDING = {  # servers whose terms are known to forbid it
    "mastodon.social": "its terms forbid automated gathering and training since July 2025",
}


@dataclass(frozen=True)
class Order:
    """What to gather, and how.

    server          host or address of the server; https unless it says http
    tag             of the posts, with or without #
    contact         mail or page of whoever gathers, for the User-Agent
    terms_read      hosts whose terms were read
    age_days        at which a post is revisited
    limit           posts to look at in one run
    per_second      requests to one host; 0: only its own limits
    jobs            hosts asked for pictures at a time
    allow_networks  as in Limits
    token_file      file with an access token for the server
    network         what the server speaks: one of NETWORKS
    """

    server: str
    tag: str
    contact: str
    terms_read: tuple[str, ...] = ()
    age_days: float = 30
    limit: int = 100_000
    per_second: float = 1.0
    jobs: int = 4
    allow_networks: tuple[str, ...] = ()
    token_file: Path | None = None
    network: str = "mastodon"


class Done(NamedTuple):
    """What a run led to. counts: {stage: {reason: number}} over all runs of this ledger; rows: of the manifest;
    observed: when the last likes were counted; waiting: posts that are not due yet.
    """

    counts: dict[str, dict[str, int]]
    rows: int
    observed: str
    waiting: int


def run(order: Order, folder: Path, stage: str = "both") -> Done:
    """Do the stages "note", "revisit" or "both" in a folder, and write its manifest.

    SelfieError with advice where a server refuses; what was done until then stays, and the next run goes on from there.
    """
    source, fetcher = _prepared(order, folder / "images")
    tag = _tag(order)
    with Ledger(folder) as ledger:
        ledger.terms_read(source.host, time.time())
        try:
            if stage in ("both", "note"):
                note.note(source, tag, ledger, order.age_days, order.limit)
            if stage in ("both", "revisit"):
                revisit.revisit(source, ledger)
                revisit.pictures(fetcher, ledger)
        finally:
            rows, observed = export.manifest(ledger, folder / "manifest.csv")
        counts = {name: found for name in ("note", "revisit", "pictures") if (found := ledger.counts(name))}
        return Done(counts, rows, observed, ledger.number_waiting())


def dry_run(order: Order) -> Counter[str]:
    """Look at the posts from the newest on as `run` would, and count; nothing is written."""
    source, _ = _prepared(order, Path())
    return note.look(source, _tag(order), order.limit)


def forget(folder: Path, who: str) -> tuple[int, int]:
    """Delete everything of an author (user@host, or a DID) or a post (its uri), in the manifest too.

    Returns the number of posts deleted, and of selfies that are left. SelfieError for what is neither.
    """
    if not re.fullmatch(r"@?[^@\s/]+@[^@\s/]+|did:[^\s/]+|(https?|at)://\S+", who.strip()):
        raise SelfieError(f"'{who}' is neither user@host (did:... on Bluesky) nor the uri of a post in manifest.csv")
    paths.existing(folder / "ledger.sqlite", "ledger")
    with Ledger(folder) as ledger:
        number = ledger.forget(who)
        return number, export.manifest(ledger, folder / "manifest.csv")[0]


def _prepared(order: Order, images: Path) -> tuple[Source, Fetcher]:
    """Check an order and make what carries it out; nothing is asked before the terms were read."""
    base = order.server if "://" in order.server else f"https://{order.server}"
    try:
        parts = urlsplit(base)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        for network in order.allow_networks:
            ipaddress.ip_network(network)
    except ValueError as error:
        raise SelfieError(f"{error}: --server is a host's name, --allow-network a network like 127.0.0.1/32") from error
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/"):
        raise SelfieError(f"'{order.server}' is not a server: name its host, like pixelfed.example")
    if host not in order.terms_read:
        raise SelfieError(
            f"read the terms of {host} first (https://{host}/about); only if they allow it, say so: --terms-read={host}"
        )
    if host in FORBIDDING:
        log.warning("%s: %s; go on only with its owner's leave", host, FORBIDDING[host])
    if not re.fullmatch(r"[\x21-\x7e]{3,200}", order.contact):
        raise SelfieError("--contact is a mail address or a page of yours, without spaces")
    ports = frozenset({80, 443, port})
    limits = Limits(ports=ports, allow_networks=order.allow_networks, agent=f"{AGENT}/1 (+{order.contact})")
    robots, pace = Robots(limits), Pace(order.per_second)
    api = Api(f"{parts.scheme}://{parts.netloc}", limits, robots, pace, _token(order.token_file))
    return NETWORKS[order.network](api), Fetcher(images, limits, robots, pace, order.jobs)


def _tag(order: Order) -> str:
    tag = order.tag.lstrip("#").lower()
    if not TAG.fullmatch(tag):
        raise SelfieError(f"'{order.tag}' is not a tag: it is one word")
    return tag


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    token = paths.read_text(path, "token file").strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise SelfieError(f"{path} does not hold an access token: one word")
    return token
