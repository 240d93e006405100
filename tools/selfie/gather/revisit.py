"""The second stage: read each noted post again when it is due, count its likes, and fetch its picture.

What is gone by then, or whose author has objected or changed it since, is deleted here as well.
"""

from __future__ import annotations

import time

from tqdm import tqdm

from selfie.gather import consent
from selfie.gather.ledger import Due, Ledger
from selfie.gather.pictures import Fetcher, Outcome
from selfie.gather.source import Post, Source

PICTURES = 64  # that are under way together
TRIES = 3  # runs in which a picture may fail before its post is left out
MISSING = object()
START = (-(2**62), 0)  # before every time that is due
DISTANCE = 3  # bits in which perceptual hashes of the same picture differ


def revisit(source: Source, ledger: Ledger) -> None:
    """Read again every post of the source's host that is due by now. Each batch is one step."""
    now = time.time()
    after = START
    with tqdm(total=ledger.number_due(source.host, now), desc="revisiting", unit="post", disable=None) as bar:
        while batch := ledger.due(source.host, now, after, source.batch):
            after = batch[-1][0], batch[-1][1].key
            posts = source.again([due.id for _, due in batch])
            observed = time.time()
            with ledger.step():
                reasons = [_judge(ledger, due, posts.get(due.id, MISSING), observed) for _, due in batch]
                ledger.count("revisit", reasons)
            bar.update(len(batch))


def _judge(ledger: Ledger, due: Due, post: Post | object | None, now: float) -> str:
    """Enter what became of one post; returns the reason under which it is counted."""
    if post is MISSING or (isinstance(post, Post) and post.uri != due.uri):
        return "cannot be read now"  # it stays due
    if not isinstance(post, Post):
        reason: str | None = "gone"
    elif ledger.hashed(post.author) != due.author:
        reason = "another author"
    elif post.edited_at != due.edited_at:
        reason = "edited since it was noted"
    else:
        reason = consent.reason_against(post, None, now)
        if reason is None:
            ledger.counted(due.key, post, now)
            return "counted"
    ledger.delete(due.key)
    return reason or ""


def pictures(fetcher: Fetcher, ledger: Ledger) -> None:
    """Fetch the pictures of all counted posts. Each picture is one step."""
    after = START
    ledger.sweep()
    with tqdm(total=ledger.number_wanted(), desc="fetching pictures", unit="picture", disable=None) as bar:
        while batch := ledger.wanted(after, PICTURES):
            after = batch[-1][0], batch[-1][1].key
            for outcome in fetcher.outcomes([wanted for _, wanted in batch]):
                with ledger.step():
                    ledger.count("pictures", [_enter(ledger, outcome)])
                ledger.sweep()
                bar.update()


def _enter(ledger: Ledger, outcome: Outcome) -> str:
    """Enter what became of one picture; returns the reason under which it is counted."""
    if outcome.kept:
        repeated = ledger.like(outcome.kept.sha256, outcome.kept.perceptual, DISTANCE)
        if repeated is None:
            ledger.keep(outcome.key, outcome.kept)
            return "kept"
        ledger.leave_out(outcome.key, repeated, outcome.kept.path)
        return repeated
    if outcome.passing and ledger.tried(outcome.key) < TRIES:
        return f"{outcome.reason} (to be tried again)"
    ledger.leave_out(outcome.key, outcome.reason)
    return outcome.reason
