"""Whose posts are gathered: public ones of people who have not said no, in any way in which a server can say it."""

from __future__ import annotations

import re
from typing import Any

from selfie.gather.source import Post

# What is counted for a post that is left out -> says a status of Mastodon's API so? Kept in the order of asking.
OBJECTIONS = {
    "a boost, not a post": lambda status, account: bool(status.get("reblog")),
    "not public": lambda status, account: status.get("visibility") != "public",
    "marked as sensitive": lambda status, account: bool(status.get("sensitive") or status.get("spoiler_text")),
    "by a bot": lambda status, account: bool(account.get("bot") or account.get("group")),
    "account locked": lambda status, account: bool(account.get("locked")),
    "account limited": lambda status, account: bool(account.get("limited") or account.get("suspended")),
    "account in memory of somebody": lambda status, account: bool(account.get("memorial")),
    "account says noindex": lambda status, account: bool(account.get("noindex")),
    "account is not indexable": lambda status, account: account.get("indexable") is False,
    "profile says no": lambda status, account: says_no(account.get("note")),
}
NO = re.compile(r"\bno[\s_-]?(bots?|ai|index|archive|train|training)\b", re.IGNORECASE)


def says_no(profile: Any) -> bool:
    """Tell whether the words of a profile ask not to be gathered: #nobot, #noai, #noindex and the like."""
    return isinstance(profile, str) and bool(NO.search(re.sub(r"<[^>]*>", "", profile)))


def objections(status: dict, account: dict) -> tuple[str, ...]:
    """List what a status of Mastodon's API, and the account inside it, say against gathering it."""
    return tuple(reason for reason, holds in OBJECTIONS.items() if holds(status, account))


def reason_against(post: Post, tag: str | None, now: float) -> str | None:
    """Say why a post is left out; None if it may be noted. The first reason counts. `tag`: one that it must have."""
    if post.objections:
        return post.objections[0]
    if tag is not None and tag.lower() not in post.tags:
        return "without the tag"
    if not post.pictures:
        return "no picture"
    if len(post.pictures) > 1:
        return "several pictures"  # its likes are for all of them
    if post.posted_at > now + 86_400:
        return "posted in the future"
    return None
