"""Img2dataset: 00000.parquet beside the folder 00000 with 000000000.jpg and 000000000.json.

It downloads the pictures of a list of addresses. Likes and users are there if the list had them and
--save_additional_columns kept them.
"""

from __future__ import annotations

from selfie.data.posts.source import Hint, Source, first


def _recognises(record: dict) -> bool:
    return {"key", "url", "status"} <= set(record)


def _left_out(record: dict) -> str:
    return "" if first(record, "status") in ("success", "") else "img2dataset could not download it"


def _hint(record: dict, stem: str) -> Hint:
    key = first(record, "key")
    return Hint([f"{stem}/{key}", key] if key else [])


SOURCE = Source(
    "img2dataset",
    _recognises,
    {
        "id": ("id", "key"),
        "caption": ("caption",),
        "user": ("user", "username", "user_name", "owner", "ownerUsername", "owner_username", "author", "user_id"),
        "followers": ("followers", "followersCount", "followers_count", "follower_count", "num_followers"),
        "likes": ("likes", "likesCount", "likes_count", "like_count", "num_likes", "favorites", "favourites"),
        "tags": ("tags", "hashtags"),
        "posted_at": ("posted_at", "timestamp", "date", "date_posted", "created_at", "taken_at"),
    },
    _left_out,
    _hint,
)
