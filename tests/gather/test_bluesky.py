"""Gathering from Bluesky: the same ledger and stages. The server is ours, written from Bluesky's lexicons."""

from __future__ import annotations

import csv
import time
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

import pytest
from rude import picture
from strict import Strict

import testlib
from selfie.common.errors import SelfieError
from selfie.gather import gather
from selfie.gather.gather import Order

DAY = 86_400


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Sky:
    """Views of posts and profiles, {uri: view} and {did: profile}, behind Strict.xrpc."""

    def __init__(self, server: Strict) -> None:
        self.server, self.posts, self.profiles = server, {}, {}
        server.xrpc = self.answer

    def post(self, number: int, user: int = 1, age_days: float = 40, **fields) -> dict:
        """Put in a post with a picture; returns its view, to be changed."""
        did, when = f"did:plc:user{user}", iso(time.time() - age_days * DAY + number / 1000)
        self.server.media[f"/{number}.jpg"] = picture(seed=number), {}
        facet = {"features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "Selfie"}]}
        image = {"thumb": "", "fullsize": f"{self.server.url}/{number}.jpg", "alt": ""}
        view = {
            "uri": f"at://{did}/app.bsky.feed.post/{number}",
            "author": {"did": did, "handle": f"user{user}.example", "labels": []},
            "record": {"text": "not to be stored", "createdAt": when, "facets": [facet], "tags": ["me"]},
            "embed": {"$type": "app.bsky.embed.images#view", "images": [image]},
            "likeCount": number,
            "indexedAt": when,
            "labels": [],
            **fields,
        }
        self.profiles.setdefault(did, {"did": did, "followersCount": 100 * user, "description": "hello", "labels": []})
        self.posts[view["uri"]] = view
        return view

    def answer(self, query: str, given: dict) -> tuple[int, object]:
        if query == "app.bsky.feed.getPosts":
            assert len(given["uris"]) <= 25
            return 200, {"posts": [self.posts[uri] for uri in given["uris"] if uri in self.posts]}
        if query == "app.bsky.actor.getProfiles":
            assert len(given["actors"]) <= 25
            return 200, {"profiles": [self.profiles[did] for did in given["actors"] if did in self.profiles]}
        assert query == "app.bsky.feed.searchPosts" and given["tag"] == ["selfie"]
        until, since = given.get("until", ["9"])[0], given.get("since", ["0"])[0]
        found = [view for view in self.posts.values() if since <= view["indexedAt"] < until]
        found.sort(key=lambda view: view["indexedAt"], reverse=True)
        return 200, {"posts": found[: int(given["limit"][0])], "cursor": "100"}


@pytest.fixture
def sky():
    if find_spec("protego") is None:
        testlib.skip("gather", "protego is not installed")
    with Strict() as server:
        yield Sky(server)


def order(sky, **fields) -> Order:
    given = {"terms_read": ("127.0.0.1",), "per_second": 0, "allow_networks": ("127.0.0.1/32",), **fields}
    return Order(server=sky.server.url, tag="selfie", contact="me@example.org", network="bluesky", **given)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_posts_become_a_manifest(sky, tmp_path):
    """Likes and followers are those of the revisit; followers come from the authors' profiles."""
    for number in range(1, 61):
        sky.post(number, user=number % 30 + 1)
    gather.run(order(sky), tmp_path, "note")
    for number, view in enumerate(sky.posts.values(), 1):
        view["likeCount"] = 1000 + number
    done = gather.run(order(sky), tmp_path, "revisit")
    assert done.counts["note"] == {"noted": 60} or done.counts["note"]["noted"] == 60
    assert done.counts["pictures"] == {"kept": 60}
    for row in rows(tmp_path):
        number = int(row["uri"].rsplit("/", 1)[1])
        assert (row["likes"], row["followers"]) == (str(1000 + number), str(100 * (number % 30 + 1)))
        assert set(row["tags"].split()) == {"selfie", "me"}
    assert b"not to be stored" not in (tmp_path / "ledger.sqlite").read_bytes()


def test_a_walk_passes_over_nothing_and_ends(sky, tmp_path):
    """Over pages of 100, with posts of the same millisecond at their edges; the next walk asks for what is new."""
    for number in range(1, 251):
        sky.post(number // 3 * 3, user=1, uri=f"at://did:plc:user1/app.bsky.feed.post/{number}")
    assert gather.run(order(sky), tmp_path, "note").counts["note"]["noted"] == 250
    sky.server.seen.clear()
    sky.post(1000, age_days=1)
    assert gather.run(order(sky), tmp_path, "note").counts["note"]["noted"] == 251
    assert len([path for path in sky.server.seen if "searchPosts" in path]) <= 2


LEFT_OUT = {
    "marked as sensitive": lambda view, profile: view.update(labels=[{"val": "nudity"}]),
    "account is not indexable": lambda view, profile: view["author"].update(labels=[{"val": "!no-unauthenticated"}]),
    "by a bot": lambda view, profile: profile.update(labels=[{"val": "bot"}]),
    "account limited": lambda view, profile: profile.update(labels=[{"val": "!hide"}]),
    "profile says no": lambda view, profile: profile.update(description="Ghent. #NoAI"),
    "no picture": lambda view, profile: view.update(embed={"$type": "app.bsky.embed.video#view"}),
    "several pictures": lambda view, profile: view["embed"].update(images=view["embed"]["images"] * 2),
    "without the tag": lambda view, profile: view["record"].update(facets=[]),
    "malformed": lambda view, profile: view.update(likeCount=None),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_whose_posts_are_left_out(sky, tmp_path, reason):
    view = sky.post(1)
    LEFT_OUT[reason](view, sky.profiles["did:plc:user1"])
    done = gather.run(order(sky), tmp_path)
    assert set(done.counts["note"]) == {reason} and (done.rows, done.waiting) == (0, 0)


def test_labels_that_were_taken_back_do_not_count(sky, tmp_path):
    sky.post(1)["author"]["labels"] = [{"val": "spam", "neg": True}]
    assert gather.run(order(sky), tmp_path).rows == 1


@pytest.mark.parametrize(
    "change",
    [
        {"author": None},
        {"author": {"did": "x"}},
        {"record": 7},
        {"uri": "https://a.example/1"},
        {"indexedAt": "2020-13-01"},
    ],
    ids=str,
)
def test_what_is_no_post_is_counted(sky, tmp_path, change):
    sky.post(1)
    sky.post(2, user=2).update(change)
    done = gather.run(order(sky), tmp_path)
    assert done.rows == 1 and done.counts["note"]["malformed"] >= 1


def test_what_is_gone_is_deleted_and_who_asks_is_forgotten(sky, tmp_path):
    for number in range(1, 6):
        sky.post(number, user=number)
    gather.run(order(sky), tmp_path, "note")
    del sky.posts["at://did:plc:user2/app.bsky.feed.post/2"]
    assert gather.run(order(sky), tmp_path).counts["revisit"] == {"counted": 4, "gone": 1}
    assert gather.forget(tmp_path, "did:plc:user3") == (1, 3)
    assert gather.forget(tmp_path, "at://did:plc:user4/app.bsky.feed.post/4") == (1, 2)


def test_an_ill_server_does_not_delete_everything(sky, tmp_path):
    for number in range(1, 4):
        sky.post(number)
    gather.run(order(sky), tmp_path, "note")
    sky.server.faults = [("/xrpc/app.bsky.feed.getPosts", 200, {}, b'{"posts": []}')]
    assert gather.run(order(sky), tmp_path).counts["revisit"] == {"counted": 3}


@pytest.mark.parametrize(("status", "words"), [(403, "--token-file"), (400, "--token-file"), (404, "--server")])
def test_a_server_that_refuses(sky, tmp_path, status, words):
    sky.server.faults = [("/xrpc", status, {}, b"{}")]
    with pytest.raises(SelfieError, match=words):
        gather.run(order(sky), tmp_path)
