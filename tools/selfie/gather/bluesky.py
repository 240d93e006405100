"""Posts from Bluesky, or another AppView of the AT Protocol.

    app.bsky.feed.searchPosts      newest first; many servers want a login for it
    app.bsky.feed.getPosts         25 again, those deleted are absent
    app.bsky.actor.getProfiles     followers and words of 25 authors, which a post does not carry

A walk's place is a time, not the server's cursor: that is a number of results, which is another place by the next day.
Authors are known by their DID, as a handle can change hands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from selfie.common import parallel, times
from selfie.common.errors import SelfieError
from selfie.gather import consent
from selfie.gather.api import Api
from selfie.gather.limits import FetchError
from selfie.gather.reading import TAG, URL, checked, count
from selfie.gather.source import Page, Post

PAGE = 100
BATCH = 25
DID = re.compile(r"did:[a-z]+:[\w.:%-]{1,200}")
URI = re.compile(r"at://did:[\w.:%-]{1,200}/app\.bsky\.feed\.post/[\w.~:-]{1,100}")
LABELS = {  # of an account, by itself or by moderators -> objection; any label of a post is one
    "!no-unauthenticated": "account is not indexable",
    "bot": "by a bot",
    "!hide": "account limited",
    "!warn": "account limited",
    "!takedown": "account limited",
    "spam": "account limited",
}


class Bluesky:
    """A server that answers app.bsky queries, as a Source."""

    def __init__(self, api: Api) -> None:
        self.api, self.host = api, urlsplit(api.base).hostname or ""

    @property
    def batch(self) -> int:
        """How many posts `again` reads at a time."""
        return BATCH

    def page(self, tag: str, cursor: str, until: str) -> Page:
        """Return the page of posts with a tag; see Source. Cursors are times, ISO 8601 with milliseconds."""
        parameters = [("q", f"#{tag}"), ("tag", tag), ("sort", "latest"), ("limit", str(PAGE))]
        parameters += [("until", cursor)] if cursor else []
        parameters += [("since", until)] if until else []
        views = self._get("app.bsky.feed.searchPosts", parameters, "posts")
        found = self._read(views)
        moments = [moment for view in views if (moment := _moment(view))]
        # `until` is not inclusive: a millisecond later, so that no post of the same one is passed over.
        last = min(moments) + timedelta(milliseconds=1) if moments else None
        return Page(list(found.values()), len(views) - len(found), _iso(last), _iso(max(moments, default=None)))

    def again(self, ids: list[str]) -> dict[str, Post | None]:
        """Read posts again; see Source. A server that finds none of several is asked for each: it may only be ill."""
        views = self._get("app.bsky.feed.getPosts", [("uris", one) for one in ids], "posts")
        if not views and len(ids) > 1:
            return {key: post for one in ids for key, post in self.again([one]).items()}
        found = self._read(views)
        understood = {one: post for one, post in found.items() if one in ids}
        named = {view.get("uri") for view in views if isinstance(view, dict)}
        return {**understood, **dict.fromkeys(one for one in ids if one not in named)}

    def _get(self, query: str, parameters: list[tuple[str, str]], field: str) -> list:
        """Ask a query; returns the list in its answer's `field`."""
        try:
            value = self.api.get(f"/xrpc/{query}", parameters).value
        except FetchError as error:
            if error.status in (400, 401, 403):
                raise SelfieError(
                    f"{self.host} answers {error.status} to {query}: it wants a login, or the one given is over; name "
                    "the file of an access token of yours (--token-file)"
                ) from error
            if error.status == 404:
                raise SelfieError(f"{self.host} has no {query}: is --server right?") from error
            raise SelfieError(f"{self.host}: {error}") from error
        if not isinstance(value, dict) or not isinstance(value.get(field), list):
            raise SelfieError(f"{self.host} does not answer {query} as Bluesky does")
        return value[field]

    def _read(self, views: list) -> dict[str, Post]:
        """Read {uri: post} of views of posts; one that is none, or whose author has no profile, is missing."""
        authors = list(dict.fromkeys(did for view in views if (did := _did(view))))
        profiles = {}
        for some in parallel.batches(authors, BATCH):
            for profile in self._get("app.bsky.actor.getProfiles", [("actors", did) for did in some], "profiles"):
                if isinstance(profile, dict):
                    profiles[profile.get("did")] = profile
        posts = (_post(view, profiles) for view in views)
        return {post.uri: post for post in posts if post is not None}


def _post(view: Any, profiles: dict) -> Post | None:
    """Read what we need of a view of a post; None where it is none, or lacks something of it."""
    try:
        profile, record = profiles[_did(view)], view["record"]
        uri = checked(URI.fullmatch(view["uri"]))[0]
        return Post(
            id=uri,
            uri=uri,
            author=_did(view),
            followers=count(profile["followersCount"]),
            likes=count(view["likeCount"]),
            tags=tuple(dict.fromkeys(tag.lower() for tag in _tags(record) if TAG.fullmatch(tag))),
            posted_at=int(checked(_moment(view)).timestamp()),
            pictures=tuple(checked(URL.fullmatch(one["fullsize"]))[0] for one in _images(view.get("embed"))),
            objections=tuple(_objections(view, profile)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _did(view: Any) -> str:
    author = view.get("author") if isinstance(view, dict) else None
    did = author.get("did") if isinstance(author, dict) else None
    return did if isinstance(did, str) and DID.fullmatch(did) else ""


def _tags(record: dict) -> Iterator[str]:
    """The tags of a post: those in its text, and those beside it."""
    yield from record.get("tags") or []
    for facet in record.get("facets") or []:
        yield from (one["tag"] for one in facet["features"] if one.get("$type") == "app.bsky.richtext.facet#tag")


def _images(embed: Any) -> list:
    """The pictures in an embed, also beside a post that is quoted."""
    kind = embed.get("$type") if isinstance(embed, dict) else None
    if kind == "app.bsky.embed.recordWithMedia#view":
        return _images(embed["media"])
    return embed["images"] if kind == "app.bsky.embed.images#view" else []


def _objections(view: dict, profile: dict) -> Iterator[str]:
    """What a post and its author's profile say against gathering it."""
    if view.get("labels"):
        yield "marked as sensitive"
    for account in (view["author"], profile):
        for label in account.get("labels") or []:
            if label.get("val") in LABELS and not label.get("neg"):
                yield LABELS[label["val"]]
    if consent.says_no(profile.get("description")):
        yield "profile says no"


def _moment(view: Any) -> datetime | None:
    """When a post was posted, as servers sort it: its own date, or when it was first seen if that is earlier."""
    try:
        dates = [view["record"]["createdAt"], view["indexedAt"]]
        return min(times.moment(text) for text in dates)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _iso(moment: datetime | None) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else ""
