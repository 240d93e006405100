"""Gathering: what is noted, left out and kept, against a strict server; nothing is lost, nothing fetched twice."""

from __future__ import annotations

import csv
import dataclasses
import json
import sqlite3
import subprocess
import sys
import time
from email.message import Message
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from rude import picture
from strict import Strict, iso

import gather as command
import testlib
from selfie.common.errors import SelfieError
from selfie.data import label_filters, labels, manifest
from selfie.data.label_settings import Settings
from selfie.gather import consent, gather, pace, pictures, robots
from selfie.gather.gather import Order
from selfie.gather.limits import FetchError, Limits

WHO = "me@example.org"


@pytest.fixture(autouse=True)
def libraries():
    if find_spec("protego") is None:
        testlib.skip("gather", "protego is not installed")


@pytest.fixture
def server():
    with Strict() as strict:
        yield strict


def order(server, **fields) -> Order:
    """An order for a server on loopback, without patience of our own."""
    given = {"terms_read": ("127.0.0.1",), "per_second": 0, "allow_networks": ("127.0.0.1/32",), **fields}
    return Order(server=server.url, tag="selfie", contact=WHO, **given)


def arguments(server, out: Path, *more: str) -> list[str]:
    """The same as a command's arguments."""
    given = ["--server", server.url, "--tag", "selfie", "--terms-read", "127.0.0.1", "--contact", WHO, "--rate", "0"]
    return [*given, "--allow-network", "127.0.0.1/32", "--out", str(out), *more]


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> bytes:
    """Everything that the folder holds."""
    return b"".join(path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file())


@pytest.fixture
def quick(monkeypatch):
    """Waiting takes no time; returns the seconds that were waited."""
    waited: list[float] = []
    monkeypatch.setattr("selfie.gather.api.time.sleep", waited.append)
    return waited


# --- from posts to the manifest --------------------------------------------------------------------------------------


def test_posts_become_a_manifest_that_the_labels_read(server, tmp_path):
    """With the likes and followers of the revisit; the pictures are the server's bytes."""
    for number in range(1, 101):
        server.post(number, picture(seed=number), user=f"user{number % 30}")
    gather.run(order(server), tmp_path, "note")
    for number, status in server.statuses.items():
        status["favourites_count"], status["account"]["followers_count"] = 1000 + number, 60 + number
    done = gather.run(order(server), tmp_path, "revisit")
    assert done.rows == 100 and done.waiting == 0
    assert done.counts["pictures"] == {"kept": 100}
    for row in rows(tmp_path):
        number = int(row["uri"].rsplit("/", 1)[1])
        assert (tmp_path / "images" / row["path"]).read_bytes() == server.media[f"/media/{number}.jpg"][0]
        assert (row["likes"], row["followers"], row["tags"]) == (str(1000 + number), str(60 + number), "selfie me")
        assert (row["width"], row["height"]) == ("40", "30")
    assert len({row["user"] for row in rows(tmp_path)}) == 30
    table = manifest.read(tmp_path / "manifest.csv", labels.READS)
    settings = Settings(as_of=label_filters.parse_date(done.observed), min_age_days=0, group_size=20)
    labelled, _ = labels.label(table, settings, tmp_path / "images", 1, tmp_path / "manifest.csv")
    assert labelled.height == 100 and labelled["label"].sum() == 50


def test_no_text_and_no_name_is_kept(server, tmp_path):
    """Of an author, nothing but the keyed hash, and what the post's own uri says; the key is its owner's only."""
    server.post(1, picture(), user="somebody", uri="https://a.example/p/1")
    gather.run(order(server), tmp_path)
    everything = contents(tmp_path)
    assert b"somebody" not in everything and b"must not be stored" not in everything
    assert (tmp_path / "author.key").stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    gather.run(order(server), other)
    assert rows(other)[0]["user"] != rows(tmp_path)[0]["user"], "the hash does not depend on the key"


def test_a_post_is_revisited_at_its_age_and_not_before(server, tmp_path):
    server.post(1, picture(), age_days=29.9)
    server.post(2, picture(seed=2), age_days=30.1)
    done = gather.run(order(server), tmp_path)
    assert (done.rows, done.waiting) == (1, 1)
    assert gather.run(order(server, age_days=20), tmp_path).waiting == 1, "its age was fixed when it was noted"


LEFT_OUT = {
    "not public": {"visibility": "unlisted"},
    "a boost, not a post": {"reblog": {"id": "9"}},
    "marked as sensitive": {"sensitive": True},
    "by a bot": {"account_bot": True},
    "account locked": {"account_locked": True},
    "account limited": {"account_limited": True},
    "account in memory of somebody": {"account_memorial": True},
    "account says noindex": {"account_noindex": True},
    "account is not indexable": {"account_indexable": False},
    "profile says no": {"account_note": "<p>Photos of Ghent. <a href='x'>#<span>NoBot</span></a></p>"},
    "without the tag": {"tags": [{"name": "me"}]},
    "several pictures": {"media_attachments": [{"type": "image", "url": "http://a.example/1"}] * 2},
    "no picture": {"media_attachments": [{"type": "video", "url": "http://a.example/1"}]},
    "posted in the future": {"created_at": iso(time.time() + 3 * 86_400)},
    "malformed": {"favourites_count": "many"},
}
MALFORMED = [
    {"account": None}, {"created_at": "yesterday"}, {"uri": "javascript:alert(1)"}, {"uri": None}, {"tags": 7},
    {"favourites_count": -1}, {"favourites_count": 2**70}, {"favourites_count": True}, {"media_attachments": [1]},
    {"id": 7}, {"id": "../../x"}, {"created_at": None}, {"media_attachments": [{"type": "image", "url": None}]},
    {"uri": "https://a.example/\ud800"}, {"created_at": "0001-01-01T00:00:00+14:00"}, {"id": ""}, {"tags": [None]},
]  # fmt: skip


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_whose_posts_are_left_out(server, tmp_path, reason):
    """When they are noted, and, where somebody says no only later, at the revisit; nothing of them stays then."""
    server.post(1, picture(), **LEFT_OUT[reason], user="unwilling")
    done = gather.run(order(server), tmp_path / "before")
    assert (done.counts["note"], done.rows, done.waiting) == ({reason: 1}, 0, 0)
    if reason in ("without the tag", "malformed"):
        return
    server.statuses.clear()
    server.post(1, picture(), user="unwilling")
    gather.run(order(server), tmp_path / "after", "note")
    server.post(1, picture(), **LEFT_OUT[reason], user="unwilling")
    done = gather.run(order(server), tmp_path / "after")
    assert (done.counts["revisit"], done.rows, done.waiting) == ({reason: 1}, 0, 0)
    assert b"unwilling" not in contents(tmp_path / "after")


@pytest.mark.parametrize("fields", MALFORMED, ids=ascii)
def test_what_is_no_post_is_counted(server, tmp_path, fields):
    """Nothing that a server writes ends the walk: the post behind it is noted."""
    server.post(1, picture())
    server.post(2, picture(seed=2)).update(fields)
    done = gather.run(order(server), tmp_path)
    assert done.counts["note"] == {"malformed": 1, "noted": 1} and done.rows == 1


def test_halves_of_characters_and_strange_licences(server, tmp_path):
    """Text that cannot be written is not kept, and breaks nothing."""
    licence = {"title": "CC\ud800 BY\n4.0"}
    post = server.post(1, picture(), user="anna\udfff", uri="https://a.example/1")
    post["media_attachments"][0]["license"] = licence
    post["tags"].append({"name": "\ud800"})
    assert gather.run(order(server), tmp_path).rows == 1
    assert rows(tmp_path)[0]["licence"] == "CC BY 4.0"


def test_what_is_gone_or_edited_at_the_revisit_is_deleted(server, tmp_path):
    for number in range(1, 6):
        server.post(number, picture(seed=number), user=f"user{number}")
    server.statuses[5]["edited_at"] = iso(time.time() - 86_400)
    gather.run(order(server), tmp_path, "note")
    del server.statuses[1]
    server.statuses[2]["edited_at"] = iso(time.time())
    server.statuses[3]["account"]["acct"] = "somebody_else"
    done = gather.run(order(server), tmp_path)
    assert done.counts["revisit"] == {"counted": 2, "another author": 1, "edited since it was noted": 1, "gone": 1}
    assert {row["uri"].rsplit("/", 1)[1] for row in rows(tmp_path)} == {"4", "5"}
    assert not any(b"user%d/" % number in contents(tmp_path) for number in (1, 2, 3))


def test_a_server_that_cannot_read_many_is_asked_one_by_one(server, tmp_path):
    """And one that answers with nothing is not taken to have lost all: that would delete everything."""
    for number in range(1, 4):
        server.post(number, picture(seed=number))
    gather.run(order(server), tmp_path, "note")
    del server.statuses[2]
    server.many = False
    assert gather.run(order(server), tmp_path).counts["revisit"] == {"counted": 2, "gone": 1}
    gather.run(order(server), tmp_path / "b", "note")
    server.many = True
    server.faults = [("/api/v1/statuses?", 200, {}, b"[]")]
    assert gather.run(order(server), tmp_path / "b").counts["revisit"] == {"counted": 2}


# --- walks -----------------------------------------------------------------------------------------------------------


def test_a_later_walk_asks_only_for_what_is_new(server, tmp_path):
    for number in range(1, 101):
        server.post(number)
    assert gather.run(order(server), tmp_path, "note").counts["note"] == {"noted": 100}
    for number in range(101, 151):
        server.post(number)
    server.seen.clear()
    assert gather.run(order(server), tmp_path, "note").counts["note"] == {"noted": 150}
    assert len([path for path in server.seen if "timelines" in path]) == 3


def test_a_limit_ends_a_run_and_the_next_goes_on(server, tmp_path):
    for number in range(1, 101):
        server.post(number)
    for expected in (40, 80, 100, 100):
        assert gather.run(order(server, limit=40), tmp_path, "note").counts["note"] == {"noted": expected}


def test_shuffled_pages_and_posts_that_come_twice(server, tmp_path):
    """Each post is noted once, by its uri, also when the same one has several ids."""
    server.shuffled = True
    for number in range(1, 101):
        server.post(number, uri=f"https://a.example/p/{number // 2}")
    assert gather.run(order(server), tmp_path, "note").counts["note"] == {"noted": 51, "known already": 49}


def test_a_server_that_leads_in_circles(server, tmp_path):
    """A cursor that comes again ends the walk."""
    server.post(1)
    page = b"[" + json.dumps(server.statuses[1]).encode() + b"]"
    link = {"Link": '<http://x.example/?max_id=7>; rel="next"'}
    server.faults = [("/api/v1/timelines", 200, link, page)] * 50
    gather.run(order(server), tmp_path, "note")
    assert len(server.seen) <= 4


def test_a_dry_run_counts_and_writes_nothing(server, tmp_path):
    server.post(1, picture())
    server.post(2, account_bot=True)
    out = tmp_path / "out"
    result = testlib.command("tools/gather.py", *arguments(server, out, "--dry-run"))
    assert result.returncode == 0, result.stderr
    assert "may be noted" in result.stdout and "by a bot" in result.stdout
    assert not out.exists() and not any("/media/" in path for path in server.seen)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture_is_kept_once(server, tmp_path):
    """The same bytes, the same picture scaled and compressed anew; not one that is only similar."""
    face = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (400, 300, 3), np.uint8), (0, 0), 20)
    face = cv2.normalize(face, None, 0, 255, cv2.NORM_MINMAX)
    other = cv2.flip(face, 1)

    def jpeg(bgr, quality=90):
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    for number, data in enumerate((jpeg(face), jpeg(face), jpeg(cv2.resize(face, (150, 200)), 60), jpeg(other)), 1):
        server.post(number, data, age_days=50 - number)
    done = gather.run(order(server), tmp_path)
    assert done.counts["pictures"] == {"kept": 2, "nearly the same picture": 1, "same picture": 1}
    assert len(list((tmp_path / "images").rglob("*.jpeg"))) == done.rows == 2


def test_perceptual_hashes_tell_pictures_apart(skimage_data):
    """Of real photographs: close for the same one compressed anew, far for others."""
    photos = [
        cv2.imread(str(skimage_data / name)) for name in ("astronaut.png", "coffee.png", "chelsea.png", "camera.png")
    ]
    hashes = [pictures.perceptual_hash(photo) for photo in photos]
    for photo, own in zip(photos, hashes):
        for scale, quality in ((0.5, 50), (0.25, 80), (1.3, 70)):
            data = cv2.imencode(".jpg", cv2.resize(photo, None, fx=scale, fy=scale), [1, quality])[1]
            again = pictures.perceptual_hash(cv2.imdecode(data, cv2.IMREAD_COLOR))
            assert bin(own ^ again).count("1") <= 3
            assert all(bin(again ^ other).count("1") > 12 for other in hashes if other != own)


PICTURES = {
    "picture: 404": lambda server: server.media.clear(),
    "picture: not-a-picture": lambda server: server.media.update({"/media/1.jpg": (b"<html>", {})}),
    "picture: broken": lambda server: server.media.update({"/media/1.jpg": (picture()[:300], {})}),
    "picture: robots": lambda server: setattr(server, "robots", "User-agent: *\nDisallow: /media"),
    "picture: private": lambda server: server.statuses[1].update(
        media_attachments=[{"type": "image", "url": "http://10.0.0.1/1.jpg"}]
    ),
    "picture: credentials": lambda server: server.statuses[1].update(
        media_attachments=[{"type": "image", "url": "http://me:it@127.0.0.1/1.jpg"}]
    ),
}


@pytest.mark.parametrize("reason", PICTURES)
def test_a_picture_that_is_not_to_be_had(server, tmp_path, reason):
    """Is counted by its reason, once; the post is left out for good."""
    server.post(1, picture())
    PICTURES[reason](server)
    done = gather.run(order(server), tmp_path)
    assert done.counts["pictures"] == {reason: 1} and done.rows == 0
    server.seen.clear()
    assert gather.run(order(server), tmp_path).counts["pictures"] == {reason: 1}
    assert not any("/media/" in path for path in server.seen)


@pytest.mark.parametrize(
    "headers, kept",
    [
        ({"X-Robots-Tag": "noai"}, 0),
        ({"X-Robots-Tag": "all, NoImageAI"}, 0),
        ({"X-Robots-Tag": "none"}, 0),
        ({"X-Robots-Tag": "selfie-experiment: noindex"}, 0),
        ({"X-Robots-Tag": "otherbot: noindex, nofollow"}, 1),
        ({"X-Robots-Tag": "otherbot: nofollow, selfie-experiment: noimageindex"}, 0),
        ({"X-Robots-Tag": "max-snippet: 0, nofollow"}, 1),
        ({"tdm-reservation": "1"}, 0),
        ({"tdm-reservation": "0"}, 1),
    ],
    ids=str,
)
def test_headers_that_reserve_a_picture(server, tmp_path, headers, kept):
    server.post(1)
    server.media["/media/1.jpg"] = picture(), headers
    done = gather.run(order(server), tmp_path)
    assert done.counts["pictures"] == {"kept" if kept else "picture: robots": 1}


def test_a_picture_is_tried_in_three_runs(server, tmp_path):
    server.post(1, picture())
    server.faults = [("/media/", 503, {}, b"")] * 2
    for expected in ({"picture: 503 (to be tried again)": 1}, {"picture: 503 (to be tried again)": 2}):
        assert gather.run(order(server), tmp_path).counts["pictures"] == expected
    assert gather.run(order(server), tmp_path).rows == 1
    server.post(2, picture(seed=2))
    server.faults = [("/media/", 500, {}, b"")] * 3
    for _ in range(3):
        done = gather.run(order(server), tmp_path)
    assert done.counts["pictures"]["picture: 500"] == 1
    assert gather.run(order(server), tmp_path).rows == 1


def test_a_robots_txt_that_cannot_be_read_allows_nothing(server, tmp_path, quick):
    """RFC 9309: as long as it answers with a fault. Nothing is lost by then."""
    server.post(1, picture())
    server.faults = [("/robots.txt", 500, {}, b"")]
    with pytest.raises(SelfieError, match=r"robots\.txt cannot be read: the host answers 500.*goes on"):
        gather.run(order(server), tmp_path)
    assert server.seen == ["/robots.txt"]
    assert gather.run(order(server), tmp_path).rows == 1


# --- servers with limits and faults ----------------------------------------------------------------------------------


def test_a_server_is_asked_only_when_its_terms_were_read(server, tmp_path):
    """Its own: the terms of another do not count."""
    for terms in ([], ["other.example"]):
        more = [text for host in terms for text in ("--terms-read", host)]
        given = ["--server", server.url, "--tag", "selfie", "--contact", WHO, "--out", str(tmp_path / "out"), *more]
        result = testlib.command("tools/gather.py", *given)
        lines = result.stderr.strip().splitlines()
        assert result.returncode == 1 and "docs/ethics.md" in lines[0]
        assert len(lines) == 2 and lines[1].startswith("error: ") and "--terms-read=127.0.0.1" in lines[1]
    assert not server.seen and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "status, words",
    [(401, "--token-file"), (403, "--token-file"), (404, "no Mastodon API"), (400, "answers 400"), (301, "sends on")],
)
def test_a_server_that_refuses_ends_the_run_in_one_line(server, tmp_path, status, words):
    server.faults = [("/api", status, {"Location": "https://a.example/"} if status == 301 else {}, b"{}")]
    with pytest.raises(SelfieError, match=words) as caught:
        gather.run(order(server), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_token_opens_the_server_and_goes_nowhere_else(server, tmp_path):
    server.token = "secret"
    server.post(1, picture())
    (tmp_path / "token").write_text("secret\n")
    assert gather.run(order(server, token_file=tmp_path / "token"), tmp_path / "out").rows == 1
    assert b"secret" not in contents(tmp_path / "out")


@pytest.mark.parametrize(
    "fault",
    [
        (500, {}, b""),
        (502, {}, b"<html>"),
        (503, {"Retry-After": "7"}, b""),
        (200, {}, b'{"error": "trunc'),
        (200, {}, b"\xff"),
        (200, {}, b"[" * 200_000),
    ],
    ids=str,
)
def test_a_fault_that_passes_is_waited_for(server, tmp_path, quick, fault):
    server.post(1, picture())
    server.faults = [("/api/v1/timelines", *fault)] * 3
    assert gather.run(order(server), tmp_path).rows == 1
    expected = [7.0] * 3 if fault[1] else [1.0, 2.0, 4.0]
    assert [seconds for seconds in quick if seconds >= 1] == expected


def test_a_fault_that_stays_ends_the_run_and_loses_nothing(server, tmp_path, quick):
    for number in range(1, 101):
        server.post(number, picture(seed=number))
    server.faults = [("/api/v1/timelines/tag/selfie?only_media=true&limit=40&max_id=61", 503, {}, b"")] * 5
    with pytest.raises(SelfieError, match=r"503.*goes on from here"):
        gather.run(order(server), tmp_path)
    assert gather.run(order(server), tmp_path).rows == 100
    assert sum("max_id" not in path for path in server.seen if "timelines" in path) == 1


def test_too_many_requests_are_waited_for_as_long_as_the_server_says(server, tmp_path, quick):
    """By Retry-After, or else by its reset, read against its own clock, which is three hours ahead here."""
    ahead = time.time() + 3 * 3600
    date = {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(ahead))}
    server.post(1, picture())
    server.faults = [
        ("/api/v1/timelines", 429, {"Retry-After": "11"}, b"{}"),
        ("/api/v1/timelines", 429, {**date, "X-RateLimit-Reset": iso(ahead + 20)}, b"{}"),
        ("/api/v1/timelines", 429, {**date, "X-RateLimit-Reset": str(int(ahead + 30))}, b"{}"),
    ]
    assert gather.run(order(server), tmp_path).rows == 1
    assert [round(seconds) for seconds in quick if seconds >= 1] == pytest.approx([11, 20, 30], abs=1)


def test_a_server_that_asks_for_hours_is_left_for_later(server, tmp_path, quick):
    server.faults = [("/api", 429, {"Retry-After": "7200"}, b"{}")]
    with pytest.raises(SelfieError, match=r"wait 2 h.*goes on"):
        gather.run(order(server), tmp_path)


def headers(**fields: object) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = str(value)
    return message


def test_requests_are_spread_over_the_time_that_a_server_gives(monkeypatch):
    """300 in 5 minutes, of which 100 are left for 200 seconds: one in 2 seconds."""
    now = 1000.0
    waited: list[float] = []
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    monkeypatch.setattr(pace.time, "sleep", waited.append)
    paced = pace.Pace(10)
    reset = iso(time.time() + 200)
    with paced.turn("a"):
        paced.learn("a", headers(X_RateLimit_Remaining=100, X_RateLimit_Reset=reset))
    with paced.turn("a"):
        pass
    with paced.turn("b"):
        pass
    with paced.turn("b"):
        pass
    assert waited == [0, pytest.approx(2, abs=0.1), 0, pytest.approx(0.1)]


@pytest.mark.parametrize("text", ["", "soon", "-5", "9" * 400, "nan", "Wed, 99 Foo 2026", "٣", "1e9"])
def test_headers_of_nonsense_are_no_limits(text):
    assert pace.retry_after(headers(Retry_After=text, X_RateLimit_Reset=text)) is None
    pace.Pace(0).learn("a", headers(X_RateLimit_Remaining=text, X_RateLimit_Reset=text))


def test_the_pace_holds_over_a_run(server, tmp_path):
    for number in range(1, 6):
        server.post(number, picture(seed=number))
    start = time.monotonic()
    gather.run(order(server, per_second=20), tmp_path)
    assert time.monotonic() - start > 0.05 * (len([path for path in server.seen if path != "/robots.txt"]) - 1)
    assert {agent for agent, _ in server.asked} == {f"selfie-experiment/1 (+{WHO})"}


# --- killed ----------------------------------------------------------------------------------------------------------

KILLED = """if True:
    import json, os, pathlib, signal, sys
    sys.path[:0] = ["tools"]
    left = 0

    def tick():
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    import gather
    import selfie.gather.gather  # here once: the command imports it when it is called, which is in each child
    from selfie.gather import ledger, pictures

    def around(module, name):
        real = getattr(module, name)
        def wrapped(*given, **named):
            tick()
            result = real(*given, **named)
            tick()
            return result
        setattr(module, name, wrapped)

    around(ledger.Ledger, "count")  # inside a step: its changes are not committed
    around(ledger.Ledger, "sweep")  # behind a step
    around(pictures.fetcher, "fetch")
    around(os, "replace")
    around(os, "fsync")

    def run(until, number, contact):
        "Run the command in a process of its own, killed at a tick (0: at none); returns its exit status."
        global left
        child = os.fork()
        if not child:
            left = until
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            gather.main([*sys.argv[2:], "--out", f"{sys.argv[1]}/{number}", "--contact", contact])
            os._exit(0)
        return os.waitpid(child, 0)[1]

    here = []  # the keys of the pictures on the disk, after each kill
    while run(len(here) + 1, len(here) + 1, f"run{len(here) + 1}") == signal.SIGKILL:
        number = len(here) + 1
        images = pathlib.Path(sys.argv[1], str(number), "images")
        here.append([int(path.stem) for path in images.glob("*/[0-9]*")])
        assert run(0, number, f"again{number}") == 0
    print(json.dumps(here))
"""


def outcome(folder: Path) -> tuple:
    """What a gathering led to, but for the times."""
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        counts = database.execute("SELECT * FROM counts ORDER BY stage, reason").fetchall()
        posts = database.execute("SELECT uri, state, reason, path, sha256, likes FROM posts ORDER BY uri").fetchall()
    database.close()
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return counts, posts, files, [(row["path"], row["sha256"], row["likes"]) for row in rows(folder)]


def test_killed_at_every_step_nothing_is_lost_or_fetched_twice(server, tmp_path):
    """By SIGKILL before and after whatever changes something; the next run leads to what a run in peace leads to.

    A picture that is on the disk is never fetched again; only the one that was on its way then is.
    """
    for number in range(1, 5):
        server.post(number, picture(seed=number % 3), age_days=60 - number, account_bot=number == 3)
    gather.run(order(server), tmp_path / "peace")
    given = [*arguments(server, tmp_path)[:-2], "--jobs", "1"]
    code = [sys.executable, "-c", KILLED, tmp_path, *given]
    result = subprocess.run(code, capture_output=True, text=True, timeout=200, cwd=Path(command.__file__).parents[1])
    assert result.returncode == 0, result.stderr
    here = json.loads(result.stdout)
    assert len(here) > 40 and max(map(len, here)) == 3, "it was not killed at every step"
    with sqlite3.connect(tmp_path / "peace" / "ledger.sqlite") as database:
        uris = dict(database.execute("SELECT key, uri FROM posts"))
    database.close()
    for number, keys in enumerate(here, 1):
        assert outcome(tmp_path / str(number)) == outcome(tmp_path / "peace"), f"killed at step {number}"
        first, again = (asked_for_pictures(server, f"{run}{number}") for run in ("run", "again"))
        on_disk = {f"/media/{uris[key].rsplit('/', 1)[1]}.jpg" for key in keys}
        assert not again & on_disk, f"killed at step {number}: fetched what was here"
        assert len(first | again) == 3 and len(first & again) <= 1, f"killed at step {number}: {first} and {again}"


def asked_for_pictures(server: Strict, contact: str) -> set[str]:
    """Which pictures a run asked for; each once."""
    paths = [path for agent, path in server.asked if f"{contact})" in agent and "/media/" in path]
    assert len(paths) == len(set(paths))
    return set(paths)


def test_two_at_once_are_refused(server, tmp_path):
    server.post(1, picture())
    server.latency = 0.5
    with testlib.started("tools/gather.py", *arguments(server, tmp_path), stdout=-3, stderr=-3):
        testlib.wait_until(lambda: server.seen)
        with pytest.raises(SelfieError, match="another process"):
            gather.run(order(server), tmp_path)


# --- being forgotten -------------------------------------------------------------------------------------------------


def test_a_person_who_asks_is_forgotten(server, tmp_path):
    """Rows, pictures and manifest; and is not gathered again, though nothing tells who it was."""
    for number in range(1, 7):
        server.post(number, picture(seed=number), user="Anna" if number < 4 else "ben@other.example")
    gather.run(order(server), tmp_path)
    result = testlib.command("tools/gather.py", "--out", tmp_path, "--forget", "@anna@127.0.0.1")
    assert result.returncode == 0 and result.stdout.startswith("3 posts forgotten, 3 selfies"), result.stderr
    assert b"anna" not in contents(tmp_path).lower() and len(rows(tmp_path)) == 3
    assert len(list((tmp_path / "images").rglob("*.jpeg"))) == 3
    server.post(8, picture(seed=8), user="anna")
    done = gather.run(order(server), tmp_path)
    assert done.counts["note"]["asked to be forgotten"] == 1 and done.rows == 3
    assert gather.forget(tmp_path, "BEN@other.example")[0] == 3


def test_a_post_is_forgotten_by_its_uri(server, tmp_path):
    server.post(1, picture())
    server.post(2, picture(seed=2))
    gather.run(order(server), tmp_path)
    uri = rows(tmp_path)[0]["uri"]
    assert gather.forget(tmp_path, uri) == (1, 1)
    assert uri.encode() not in contents(tmp_path)


def test_a_picture_that_a_killed_process_left_is_forgotten_too(server, tmp_path):
    """Written, or half written, but not entered."""
    server.post(1, picture(), user="anna")
    gather.run(order(server), tmp_path, "note")
    folder = tmp_path / "images" / "0000"
    folder.mkdir(parents=True)
    (folder / "0000001.jpeg").write_bytes(picture())
    (folder / ".0000001.abc.jpeg").write_bytes(picture()[:100])
    (tmp_path / ".manifest.abc.csv").write_text("users/anna")
    assert gather.forget(tmp_path, "anna@127.0.0.1") == (1, 0)
    assert not list(folder.iterdir()) and b"anna" not in contents(tmp_path)


def test_forgetting_needs_a_name_and_a_ledger(tmp_path):
    for who in ("anna", "", "@", "ftp://x"):
        with pytest.raises(SelfieError, match="user@host"):
            gather.forget(tmp_path, who)
    with pytest.raises(SelfieError, match="no such ledger"):
        gather.forget(tmp_path, "a@b.example")
    assert not list(tmp_path.iterdir())


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        ({"tag": "two words"}, "not a tag"),
        ({"contact": "me and you"}, "--contact"),
        ({"contact": "x\r\nX: 1"}, "--contact"),
        ({"server": "ftp://127.0.0.1"}, "not a server"),
        ({"server": "http://127.0.0.1:port"}, "--server"),
        ({"server": "127.0.0.1/@anna"}, "not a server"),
        ({"allow_networks": ("here",)}, "--allow-network"),
        ({"token_file": Path("/no/such")}, "no such token file"),
    ],
    ids=str,
)
def test_an_order_with_a_mistake(server, tmp_path, change, words):
    with pytest.raises(SelfieError, match=words):
        gather.run(dataclasses.replace(order(server), **change), tmp_path / "out")
    assert not server.seen and not (tmp_path / "out").exists()


def test_a_server_inside_ones_own_network_is_not_asked(server, tmp_path):
    """Unless its network is allowed by name."""
    with pytest.raises(SelfieError, match="public"):
        gather.run(order(server, allow_networks=()), tmp_path)
    assert not server.seen


@pytest.mark.parametrize("damage", ["not SQLite", "newer", "no key", "short key"])
def test_a_folder_that_is_damaged_is_left_alone(server, tmp_path, damage):
    server.post(1, picture())
    gather.run(order(server), tmp_path)
    if damage == "not SQLite":
        (tmp_path / "ledger.sqlite").write_bytes(b"x" * 5000)
    elif damage == "newer":
        with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    elif damage == "no key":
        (tmp_path / "author.key").unlink()
    else:
        (tmp_path / "author.key").write_bytes(b"x")
    before = contents(tmp_path)
    with pytest.raises(SelfieError, match=r"ledger|author\.key"):
        gather.run(order(server), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "words, no",
    [
        ("no bots please", True), ("#NoAI", True), ("#noindex", True), ("no-training", True), ("no air", False),
        ("casino botanist", False), ("I know AI", False), (None, False), ("<b>#no</b>bot", True), ("", False),
    ],
)  # fmt: skip
def test_what_a_profile_may_say(words, no):
    assert consent.says_no(words) is no


def test_robots_txt_is_asked_for_once_and_by_our_name(server):
    server.robots = "User-agent: *\nDisallow: /\n\nUser-agent: selfie-experiment\nDisallow: /private\n"
    port = int(server.url.rsplit(":", 1)[1])
    rules = robots.Robots(Limits(ports=frozenset({port}), allow_networks=("127.0.0.1/32",)))
    rules.request(f"{server.url}/public.jpg")
    with pytest.raises(FetchError):
        rules.request(f"{server.url}/private/a.jpg")
    assert server.seen == ["/robots.txt"]
