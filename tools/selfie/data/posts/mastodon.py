"""Statuses as Mastodon's API gives them, in a list, or one on a line."""

from __future__ import annotations

from typing import Any

from selfie.data.posts.source import NO_PICTURE, VIDEO, Hint, Source, names_of_urls, text


def _recognises(record: dict) -> bool:
    return isinstance(record.get("account"), dict) and "favourites_count" in record and "media_attachments" in record


def _media(record: dict) -> list[dict[str, Any]]:
    media = record.get("media_attachments")
    return [each for each in media if isinstance(each, dict)] if isinstance(media, list) else []


def _left_out(record: dict) -> str:
    if record.get("reblog"):
        return "a boost of another's post"
    kinds = {text(each.get("type")) for each in _media(record)}
    if kinds & {"image", "unknown"}:
        return ""
    return VIDEO if kinds & {"video", "gifv"} else NO_PICTURE


def _hint(record: dict, stem: str) -> Hint:
    names = []
    for each in _media(record):
        if text(each.get("type")) in ("image", "unknown"):
            names += [text(each.get("id")), *names_of_urls(each.get("url"), each.get("remote_url"))]
    return Hint([name for name in (text(record.get("id")), *names) if name], several=True)


SOURCE = Source(
    "Mastodon",
    _recognises,
    {
        "id": ("id", "uri"),
        "user": ("account.acct", "account.username", "account.id"),
        "followers": ("account.followers_count",),
        "likes": ("favourites_count",),
        "tags": ("tags",),
        "posted_at": ("created_at",),
    },
    _left_out,
    _hint,
)
