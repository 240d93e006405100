"""Posts from servers with Mastodon's API: Mastodon, Pixelfed, and others that speak it.

Three GETs are all that is needed, none of them with a login where the server's timelines are open:

    /api/v1/timelines/tag/:tag      newest first, pages by the Link header
    /api/v1/statuses?id[]=          many again, those deleted are absent (4.3)
    /api/v1/statuses/:id            one again

They go through our own guarded transport rather than Mastodon.py: that takes 40 times the CPU time (it reads some 800
posts a second on a core), and bounds neither the size of an answer nor the time for it.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from selfie.common import times
from selfie.common.errors import SelfieError
from selfie.gather import consent
from selfie.gather.api import Api, Json
from selfie.gather.limits import FetchError
from selfie.gather.reading import TAG, URL, checked, count
from selfie.gather.source import Page, Post

log = logging.getLogger(__name__)
PAGE = 40  # posts on a page, the most that Mastodon gives
BATCH = 20  # posts read again at a time, the most that Mastodon gives


class Mastodon:
    """A server with Mastodon's API as a Source."""

    def __init__(self, api: Api) -> None:
        self.api, self.host = api, urlsplit(api.base).hostname or ""
        self._one_by_one = False

    @property
    def batch(self) -> int:
        """How many posts `again` reads at a time."""
        return BATCH

    def page(self, tag: str, cursor: str, until: str) -> Page:
        """Return the page of public posts with a tag; see Source."""
        parameters = [("only_media", "true"), ("limit", str(PAGE))]
        parameters += [("max_id", cursor)] if cursor else []
        parameters += [("since_id", until)] if until else []
        try:
            answer = self.api.get(f"/api/v1/timelines/tag/{quote(tag, safe='')}", parameters)
        except FetchError as error:
            raise self._refused(error, f"the posts tagged {tag}") from error
        if not isinstance(answer.value, list):
            raise SelfieError(f"{self.host} does not answer as Mastodon's API does: a page of posts is no list")
        posts = [self._post(status) for status in answer.value]
        ids = [identity for status in answer.value if (identity := _id(status))]
        good = [post for post in posts if post is not None]
        return Page(good, len(posts) - len(good), _next(answer, ids), ids[0] if ids else "")

    def again(self, ids: list[str]) -> dict[str, Post | None]:
        """Read posts again; see Source."""
        if not self._one_by_one:
            try:
                found = self._many(ids)
            except FetchError as error:
                if error.status not in (400, 404, 405, 422):
                    raise self._refused(error, "posts") from error
                found = None
            if found is not None:
                missing = [one for one in ids if one not in found]
                # A server that knows none of them may only not know how to be asked.
                if not missing or found or self._one(missing[0]) == {missing[0]: None}:
                    return {**found, **dict.fromkeys(missing)}
            self._one_by_one = True
            log.info("%s gives posts one by one only: this takes longer", self.host)
        return {key: post for one in ids for key, post in self._one(one).items()}

    def _many(self, ids: list[str]) -> dict[str, Post | None] | None:
        value = self.api.get("/api/v1/statuses", [("id[]", one) for one in ids]).value
        if not isinstance(value, list):
            return None
        posts = [post for status in value if (post := self._post(status))]
        return {post.id: post for post in posts if post.id in ids}

    def _one(self, identity: str) -> dict[str, Post | None]:
        """{id: post}, {id: None} if it is gone, {} if it cannot be understood."""
        try:
            post = self._post(self.api.get(f"/api/v1/statuses/{quote(identity, safe='')}").value)
        except FetchError as error:
            if error.status in (404, 410):
                return {identity: None}
            raise self._refused(error, "posts") from error
        return {identity: post} if post and post.id == identity else {}

    def _refused(self, error: FetchError, what: str) -> SelfieError:
        if error.status in (401, 403, 422):
            return SelfieError(
                f"{self.host} answers {error.status}: it shows {what} to its members only; if its terms allow it, name "
                "the file of an access token of yours (--token-file)"
            )
        if error.reason == "redirects":
            return SelfieError(f"{self.host} sends on to another address: name that one with --server")
        if error.status in (404, 410):
            return SelfieError(f"{self.host} answers {error.status}: it has no Mastodon API; is --server right?")
        return SelfieError(f"{self.host}: {error}")

    def _post(self, status: Any) -> Post | None:
        """Read what we need of a status; None where it is none, or lacks something of it."""
        try:
            account = status["account"]
            acct = str(account["acct"]).lower()
            media = status["media_attachments"]
            images = all(one["type"] == "image" for one in media)
            return Post(
                id=checked(_id(status)),
                uri=checked(URL.fullmatch(status["uri"]))[0],
                author=acct if "@" in acct else f"{acct}@{self.host}",
                followers=count(account["followers_count"]),
                likes=count(status["favourites_count"]),
                tags=tuple(name.lower() for one in status["tags"] if TAG.fullmatch(name := one["name"])),
                posted_at=int(times.seconds(status["created_at"])),
                edited_at=int(times.seconds(status["edited_at"])) if status.get("edited_at") else 0,
                pictures=tuple(checked(URL.fullmatch(one["url"]))[0] for one in media) if images else (),
                licence=_licence(media),
                objections=consent.objections(status, account),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return None


def _id(status: Any) -> str:
    """The id of a status, a text; "" where there is none."""
    identity = status.get("id") if isinstance(status, dict) else None
    return identity if isinstance(identity, str) and re.fullmatch(r"[\w-]{1,100}", identity) else ""


def _licence(media: list) -> str:
    """The licence of a post's picture, where the server has one for it (Pixelfed)."""
    licence = media[0].get("license") if media else None
    title = licence.get("title") if isinstance(licence, dict) else licence
    return " ".join(title.encode(errors="ignore").decode().split())[:100] if isinstance(title, str) else ""


def _next(answer: Json, ids: list[str]) -> str:
    """Where the next page begins: as the Link header says; after the last post where there is no such header."""
    links = answer.headers.get_all("Link", [])
    if not links:
        return ids[-1] if ids else ""
    match = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', ", ".join(links))
    values = parse_qs(urlsplit(match[1]).query).get("max_id", []) if match else []
    return values[0] if values and re.fullmatch(r"[\w-]{1,100}", values[0]) else ""
