"""Instaloader: one .json or .json.xz for each post, with its pictures beside it under the same name."""

from __future__ import annotations

from selfie.data.posts.source import PROFILE as A_PROFILE
from selfie.data.posts.source import VIDEO, Hint, Source, at, first

PROFILE = "Profile"


def recognises(record: dict) -> bool:
    """Whether it is a node as Instaloader wraps it, or as Instagram gives it."""
    node = record.get("node")
    return isinstance(node, dict) and (
        isinstance(record.get("instaloader"), dict)
        or "edge_media_preview_like" in node
        or isinstance(node.get("iphone_struct"), dict)
        or ("shortcode" in node and "owner" in node)
    )


def _left_out(record: dict) -> str:
    kind = first(record, "instaloader.node_type")
    if kind == PROFILE or ("edge_followed_by" in record["node"] and "shortcode" not in record["node"]):
        return A_PROFILE
    if kind and kind not in ("Post", "StoryItem"):
        return "no post but another of Instaloader's records"
    film = at(record, "node.is_video") is True or "Video" in first(record, "node.__typename")
    return VIDEO if film else ""


def _hides(record: dict) -> bool:
    places = ("node.like_and_view_counts_disabled", "node.iphone_struct.like_and_view_counts_disabled")
    return any(at(record, place) is True for place in places)


SOURCE = Source(
    "Instaloader",
    recognises,
    {
        "id": ("node.shortcode", "node.code", "node.iphone_struct.code", "node.id"),
        "user": ("node.owner.username", "node.iphone_struct.user.username", "node.owner.id"),
        "followers": ("node.owner.edge_followed_by.count", "node.iphone_struct.user.follower_count"),
        "likes": (
            "node.edge_media_preview_like.count",
            "node.edge_liked_by.count",
            "node.likes.count",
            "node.iphone_struct.like_count",
        ),
        "caption": (
            "node.edge_media_to_caption.edges.0.node.text",
            "node.caption.text",
            "node.caption",
            "node.iphone_struct.caption.text",
        ),
        "posted_at": ("node.taken_at_timestamp", "node.date", "node.iphone_struct.taken_at"),
    },
    _left_out,
    lambda record, stem: Hint([stem], several=True, beside=True),
    _hides,
)
PROFILE_FIELDS = {
    "user": ("node.username",),
    "other": ("node.id",),
    "followers": ("node.edge_followed_by.count", "node.iphone_struct.follower_count"),
}
