"""The first stage: walk through the posts with a tag, newest first, and note those that may be gathered.

A walk goes back to where the walk before began, or to the end; a walk that was interrupted goes on at its page. Each
page is one step of the ledger, so its posts are noted, and what was left out is counted, exactly once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from tqdm import tqdm

from selfie.gather import consent
from selfie.gather.ledger import Ledger, Walk
from selfie.gather.source import Page, Post, Source

DAY = 86_400


def note(source: Source, tag: str, ledger: Ledger, age_days: float, limit: int) -> int:
    """Walk on through a tag's posts until its end or until `limit` posts were looked at; returns how many are new.

    age_days: at which age a post is due for its revisit.
    """
    new = looked = 0
    with tqdm(total=limit, desc=f"noting #{tag}", unit="post", disable=None) as bar:
        for page, walk in _pages(source, tag, ledger.walk(source.host, tag)):
            now = time.time()
            good, left_out = sort(page, tag, now)
            new += ledger.note(source.host, tag, good, left_out, walk, now, age_days * DAY)
            size = len(page.posts) + page.malformed
            looked += size
            bar.update(min(size, max(0, limit - bar.n)))
            if looked >= limit:
                break
    return new


def look(source: Source, tag: str, limit: int) -> Counter[str]:
    """Walk from the newest post on as `note` would, and only count."""
    counts: Counter[str] = Counter()
    with tqdm(total=limit, desc=f"looking at #{tag}", unit="post", disable=None) as bar:
        for page, _ in _pages(source, tag, Walk("", "", "")):
            good, left_out = sort(page, tag, time.time())
            counts.update([*left_out, *["may be noted"] * len(good)])
            bar.update(min(len(page.posts) + page.malformed, max(0, limit - bar.n)))
            if sum(counts.values()) >= limit:
                break
    return counts


def sort(page: Page, tag: str, now: float) -> tuple[list[Post], list[str]]:
    """Part a page into posts that may be noted, and the reasons of those that are left out."""
    good, left_out = [], ["malformed"] * page.malformed
    for post in page.posts:
        reason = consent.reason_against(post, tag, now)
        if reason is None:
            good.append(post)
        else:
            left_out.append(reason)
    return good, left_out


def _pages(source: Source, tag: str, walk: Walk) -> Iterator[tuple[Page, Walk]]:
    """Yield the pages of a walk, each with how far the walk is behind it.

    A server that leads back to a page of this walk, or to pages without posts, ends it: there is nothing further.
    """
    seen = {walk.at}
    while True:
        page = source.page(tag, walk.at, walk.until)
        newest = walk.newest or page.newest
        if not page.newest or not page.cursor or page.cursor in seen:
            yield page, Walk("", "", newest or walk.until)  # the next walk ends where this one began
            return
        seen.add(page.cursor)
        walk = Walk(page.cursor, newest, walk.until)
        yield page, walk
