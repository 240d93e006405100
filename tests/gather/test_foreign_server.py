"""Gathering from a server that is not ours: mastodon_mock, with posts that Mastodon.py puts there, and its faults."""

from __future__ import annotations

import csv
import sqlite3
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from rude import picture

import testlib
from selfie.gather import gather
from selfie.gather.gather import Order


@pytest.fixture
def server(tmp_path):
    """mastodon_mock with five people, each of whom may post."""
    if not all(map(find_spec, ("protego", "mastodon", "mastodon_mock"))):
        testlib.skip("gather", "mastodon_mock, Mastodon.py or protego is not installed")
    from mastodon_mock.config import DatabaseConfig, MastodonMockConfig, SeedAccount, SeedConfig
    from mastodon_mock.testing import MockServer

    names = {"anna": {}, "ben": {}, "cara": {"locked": True}, "robby": {"bot": True}, "dora": {"note": "#nobot"}}
    accounts = [SeedAccount(username=name, access_token=name, **more) for name, more in names.items()]
    config = MastodonMockConfig(
        database=DatabaseConfig(path=str(tmp_path / "mock.sqlite")),
        media_storage_path=str(tmp_path / "media"),
        seed=SeedConfig(accounts=accounts),
    )
    with MockServer(config=config) as mock:
        with sqlite3.connect(tmp_path / "mock.sqlite") as database:  # its API cannot change this
            database.execute("UPDATE accounts SET indexable = username <> 'ben'")
        database.close()
        yield mock


def post(server, name: str, seed: int, words: str = "me #selfie", **fields) -> str:
    """Post a picture as somebody; returns the post's id."""
    client = server.client(name)
    media = [client.media_post(picture(seed=seed), "image/jpeg")] if seed else []
    return client.status_post(words, media_ids=media, **fields)["id"]


def order(server) -> Order:
    return Order(
        server=server.base_url,
        tag="#Selfie",
        contact="me@example.org",
        terms_read=("127.0.0.1",),
        age_days=0,
        per_second=0,
        allow_networks=("127.0.0.1/32",),
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_foreign_server_is_gathered_from(server, tmp_path):
    """Likes of the revisit; who objects, and what is not public, without a picture or deleted is left out."""
    kept = [post(server, "anna", seed) for seed in range(1, 11)]
    for _ in range(32):  # more than a page in all
        post(server, "anna", 0, "no picture #selfie")
    for name in ("ben", "cara", "robby", "dora"):
        post(server, name, 50)
    post(server, "anna", 60, sensitive=True)
    post(server, "anna", 61, visibility="unlisted")
    server.client("ben").status_reblog(kept[0])
    done = gather.run(order(server), tmp_path / "out", "note")
    assert done.counts["note"] == {
        "noted": 10,
        "account is not indexable": 1,
        "account locked": 1,
        "by a bot": 1,
        "marked as sensitive": 1,
        "no picture": 32,
        "profile says no": 1,
    }
    for name in ("ben", "cara"):
        server.client(name).status_favourite(kept[7])
    server.client("anna").status_delete(kept[8])
    done = gather.run(order(server), tmp_path / "out")
    assert done.counts["revisit"] == {"counted": 9, "gone": 1}
    likes = {row["uri"].rsplit("/", 1)[1]: row["likes"] for row in rows(tmp_path / "out")}
    assert len(likes) == 9 and likes[str(kept[7])] == "2" and set(likes.values()) == {"0", "2"}


def test_its_faults_are_lived_through(server, tmp_path, monkeypatch):
    """A limit of requests, an error, half an answer, in each stage; the outcome is the same as without."""
    import requests  # comes with Mastodon.py

    waited: list[float] = []
    monkeypatch.setattr("selfie.gather.api.time", SimpleNamespace(sleep=waited.append))
    for seed in range(1, 4):
        post(server, "anna", seed)
    limited = {"type": "ratelimit", "headers": {"Retry-After": "1", "X-RateLimit-Reset": str(int(time.time()) + 1)}}
    effects = (limited, {"type": "status", "status": 502}, {"type": "malformed"})
    for path in ("/api/v1/timelines/*", "/api/v1/statuses*"):
        for effect in effects:
            rule = {"match": {"path": path}, "effect": effect, "count": 1}
            requests.post(f"{server.base_url}/api/v1/_mock/faults", json=rule, timeout=10).raise_for_status()
    assert gather.run(order(server), tmp_path / "out").rows == 3
    assert waited == [1, 2, 4] * 2


def test_a_forgotten_author_is_not_gathered_again(server, tmp_path):
    for seed in range(1, 4):
        post(server, "anna", seed)
    gather.run(order(server), tmp_path / "out")
    assert gather.forget(tmp_path / "out", "anna@127.0.0.1") == (3, 0)
    post(server, "anna", 9)
    assert gather.run(order(server), tmp_path / "out").counts["note"]["asked to be forgotten"] == 1
