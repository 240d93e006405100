"""The bot on X: Tweepy against a server of ours on loopback that answers as X's API v2 does."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from urllib.parse import parse_qs, urlsplit

import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.serve.bot import words
from selfie.serve.bot.bot import Bot, Settings
from selfie.serve.bot.ledger import Ledger
from selfie.serve.bot.network import Later, TokenError

if find_spec("tweepy") is None:
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

import requests

from selfie.serve.bot import x

OWN, ALICE = "1", "2"


class Handler(BaseHTTPRequestHandler):
    """Own account, mentions by since_id in pages of two, answers, search."""

    def log_message(self, *_: object) -> None:
        pass

    def say(self, value: dict, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), content)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.server.asked.append((address.path, query))
        if self.server.faults:
            return self.say({}, **self.server.faults.pop(0))
        if address.path == "/2/users/me":
            return self.say({"data": {"id": OWN, "name": "bot", "username": "deepselfie"}})
        if address.path == "/2/tweets/search/recent":
            post = query["query"].split()[0].split(":")[1]
            sent = [
                {"id": key, "text": "t", "edit_history_tweet_ids": [key]}
                for key, one in self.server.sent.items()
                if one[0] == post
            ]
            return self.say({"data": sent, "meta": {}} if sent else {"meta": {"result_count": 0}})
        new = [one for one in self.server.posts if int(one["id"]) > int(query.get("since_id", 0))][::-1]
        start = int(query.get("pagination_token", 0))
        page = new[start : start + 2]
        meta = {"newest_id": new[0]["id"]} if new else {}
        meta |= {"next_token": str(start + 2)} if start + 2 < len(new) else {}
        media = [{"media_key": "3_1", "type": "photo", "url": "http://127.0.0.1:1/a.jpg"}]
        users = [{"id": ALICE, "name": "Alice", "username": "alice"}]
        return self.say({"data": page, "meta": meta, "includes": {"users": users, "media": media}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.faults:
            return self.say({}, **self.server.faults.pop(0))
        identity = str(1000 + len(self.server.sent))
        self.server.sent[identity] = (body["reply"]["in_reply_to_tweet_id"], body["text"])
        if self.server.cut_off:
            self.server.cut_off = False
            return self.connection.close()
        return self.say({"data": {"id": identity, "text": body["text"]}}, 201)


@pytest.fixture
def server():
    """X on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.posts, server.sent, server.asked, server.faults, server.cut_off = [], {}, [], [], False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def network(server, tmp_path, monkeypatch):
    """The account; Tweepy has X's address built in, so its session leads elsewhere."""

    class Elsewhere(requests.adapters.HTTPAdapter):
        def send(self, request, **options):
            request.url = request.url.replace("https://api.twitter.com", f"http://127.0.0.1:{server.server_port}")
            return super().send(request, **options)

    class Session(x.Session):
        def __init__(self):
            super().__init__()
            self.mount("https://", Elsewhere())

    monkeypatch.setattr(x, "Session", Session)
    (tmp_path / "keys.json").write_text(json.dumps(dict.fromkeys(x.KEYS, "secret")))
    with closing(x.X(tmp_path / "keys.json")) as network:
        yield network


@pytest.fixture
def bot(server, network, tmp_path):
    """The bot, after its first look. What these tests ask for needs no net."""
    with Ledger(tmp_path / "ledger", network.account) as ledger:
        bot = Bot(network, ledger, None, Settings(about="https://example.org/about", per_account=100))
        bot.once()
        yield bot


def post(server, text: str, **more) -> str:
    identity = str(10 + len(server.posts))
    server.posts.append(
        {
            "id": identity,
            "author_id": ALICE,
            "edit_history_tweet_ids": [identity],
            "text": f"@deepselfie {text}",
            **more,
        }
    )
    return identity


def test_mentions_are_answered_in_their_order_and_read_once(bot, server):
    """Also over several pages; a link would cost, so none is in an answer."""
    posts = [post(server, f"what is {number}?") for number in range(5)]
    bot.once()
    assert [one[0] for one in server.sent.values()] == posts
    assert all(text == f"@alice {words.MEANING}" for _, text in server.sent.values())
    bot.once()
    assert len(server.sent) == 5 and server.asked[-1][1]["since_id"] == posts[-1]


def test_a_picture_is_what_is_attached_or_linked(network, server):
    """Not the address that X writes into the text for what is attached."""
    attached = [{"url": "https://t.co/1", "expanded_url": "https://x.example/photo/1", "media_key": "3_1"}]
    linked = [{"url": "https://t.co/2", "expanded_url": "https://example.org/a.jpg"}]
    post(server, "see https://t.co/1", entities={"urls": attached}, attachments={"media_keys": ["3_1"]})
    post(server, "see https://t.co/2", entities={"urls": linked}, referenced_tweets=[{"type": "replied_to", "id": "5"}])
    first, second = network.mentions("")
    assert first.pictures == ("http://127.0.0.1:1/a.jpg",) and not first.reply
    assert second.pictures == ("https://example.org/a.jpg",) and second.reply
    assert (first.text, first.name, first.author) == ("see", "alice", ALICE)


def test_an_answer_that_was_cut_off_is_looked_for(bot, server):
    """X has no name for an answer: its search says that it was sent."""
    post(server, "what?")
    server.cut_off = True
    with pytest.raises(Later):
        bot.once()
    bot.once()
    assert len(server.sent) == 1 and bot.ledger.counts() == {"sent": 1}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 429, "x_rate_limit_reset": "99999999999"}, Later),
        ({"status": 503}, Later),
        ({"status": 401}, TokenError),
        ({"status": 403}, TokenError),
    ],
    ids=str,
)
def test_faults_of_x(bot, server, fault, error):
    """Patience where it helps; one line where only the user can."""
    server.faults.append(fault)
    with pytest.raises(error):
        bot.once()


def test_a_post_that_may_not_be_answered_is_left(bot, server):
    """It is deleted, or its author has blocked the bot."""
    post(server, "what?")
    bot.note()
    server.faults.append({"status": 403})
    bot.finish(bot.ledger.open()[0])
    assert bot.ledger.counts() == {"gone": 1}


def test_keys_that_are_incomplete_are_one_line(tmp_path):
    """Which are needed is told."""
    (tmp_path / "keys.json").write_text('["consumer_key"]')
    with pytest.raises(SelfieError, match="consumer_key, consumer_secret"):
        x.X(tmp_path / "keys.json")
