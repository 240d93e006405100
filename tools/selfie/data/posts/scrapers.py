"""Tables of scrapers of Instagram: Apify's and Bright Data's, as JSON, CSV, or any other table."""

from __future__ import annotations

from selfie.data.posts.source import VIDEO, Hint, Source, at, first, names_of_urls

PROFILE = {"user": ("username",), "other": ("id",), "followers": ("followersCount", "followers")}
LATEST = "latestPosts"  # Apify's profiles hold their newest posts
FILES = ("path", "file", "filename", "file_name", "local_path", "image_path")


def is_profile(record: dict) -> bool:
    """Whether it is a profile as Apify has it."""
    return "username" in record and "followersCount" in record and "shortCode" not in record


def _is_apify(record: dict) -> bool:
    return "shortCode" in record and ("likesCount" in record or "ownerUsername" in record)


def _apify_left_out(record: dict) -> str:
    return VIDEO if first(record, "type").casefold() in ("video", "reel") or at(record, "isVideo") is True else ""


def _apify_hint(record: dict, stem: str) -> Hint:
    urls = names_of_urls(record.get("displayUrl"), record.get("images"))
    names = [first(record, *FILES), first(record, "shortCode"), first(record, "id"), *urls]
    return Hint([name for name in names if name], several=True)


APIFY = Source(
    "Apify",
    _is_apify,
    {
        "id": ("shortCode", "id"),
        "user": ("ownerUsername", "owner.username", "ownerId"),
        "followers": ("followersCount", "ownerFollowersCount", "owner.followersCount"),
        "likes": ("likesCount",),
        "tags": ("hashtags",),
        "caption": ("caption",),
        "posted_at": ("timestamp", "takenAt"),
    },
    _apify_left_out,
    _apify_hint,
)


def _is_bright(record: dict) -> bool:
    return "user_posted" in record and ("date_posted" in record or "likes" in record)


def _bright_left_out(record: dict) -> str:
    if first(record, "content_type", "product_type").casefold() in ("video", "reel", "clips"):
        return VIDEO
    only_films = names_of_urls(record.get("videos")) and not names_of_urls(record.get("photos"))
    return VIDEO if only_films else ""


def _bright_hint(record: dict, stem: str) -> Hint:
    shortcode = first(record, "shortcode") or (names_of_urls(record.get("url")) or [""])[0]
    names = [first(record, *FILES), shortcode, first(record, "post_id"), first(record, "pk")]
    return Hint([name for name in (*names, *names_of_urls(record.get("photos"))) if name], several=True)


BRIGHT_DATA = Source(
    "Bright Data",
    _is_bright,
    {
        "id": ("shortcode", "post_id", "pk", "content_id", "url"),
        "user": ("user_posted", "user_posted_id"),
        "followers": ("followers", "followers_count"),
        "likes": ("likes", "num_likes"),
        "tags": ("hashtags",),
        "caption": ("description", "caption"),
        "posted_at": ("date_posted", "timestamp"),
    },
    _bright_left_out,
    _bright_hint,
)
