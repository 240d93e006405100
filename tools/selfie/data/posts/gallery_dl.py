"""Gallery-dl: picture.jpg.json beside picture.jpg, from Instagram and many other places."""

from __future__ import annotations

from selfie.data.posts.source import FURTHER, VIDEO, Hint, Source, text

FILMS = ("mp4", "webm", "mov", "m4v", "mkv", "avi", "m3u8", "mpd")


def _recognises(record: dict) -> bool:
    named = isinstance(record.get("category"), str) and isinstance(record.get("extension"), str)
    return named and bool({"subcategory", "filename", "post_shortcode", "likes"} & set(record))


def _left_out(record: dict) -> str:
    if text(record.get("extension")).casefold() in FILMS:
        return VIDEO
    number = text(record.get("num"))
    return FURTHER if number.isdecimal() and len(number) < 9 and int(number) > 1 else ""


SOURCE = Source(
    "gallery-dl",
    _recognises,
    {
        "id": ("post_shortcode", "post_id", "tweet_id", "shortcode", "media_id", "id"),
        "user": (
            *("username", "author.name", "author.handle", "author.username", "account.acct", "user.name"),
            *("user.username", "owner.username", "owner_id", "author", "user", "blog_name", "uploader"),
        ),
        "followers": (
            *("author.followers_count", "account.followers_count", "user.followers_count"),  # a retweet is its author's
            *("author.followersCount", "owner.followers_count", "followers"),
        ),
        "likes": (
            *("likes", "favorite_count", "favourites_count", "likeCount", "stats.favourites", "total_bookmarks"),
            *("favorites", "faves", "like_count", "ups", "score"),
        ),
        "tags": ("tags", "hashtags"),
        "caption": ("description", "content", "text"),
        "posted_at": ("post_date", "date", "created_at", "createdAt"),
    },
    _left_out,
    lambda record, stem: Hint([stem, f"{text(record.get('filename'))}.{text(record.get('extension'))}"], beside=True),
)
