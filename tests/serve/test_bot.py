"""The bot against a foreign server: mastodon_mock, over HTTP on loopback, with its faults; real Caffe scores."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.gather.limits import Limits
from selfie.serve.bot import words
from selfie.serve.bot.bot import Bot, Settings, quieter
from selfie.serve.bot.ledger import Ledger
from selfie.serve.bot.network import Later, TokenError
from selfie.serve.scorer import Scorer

if find_spec("mastodon") is None or find_spec("mastodon_mock") is None:
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

import requests
from mastodon_mock import config
from mastodon_mock import testing as mock

from selfie.serve.bot import mastodon

ACCOUNTS = [
    config.SeedAccount(username="deepselfie", bot=True, access_token="bot_token"),
    config.SeedAccount(username="alice", access_token="alice_token"),
    config.SeedAccount(username="bob", access_token="bob_token"),
    config.SeedAccount(username="robot", bot=True, access_token="robot_token"),
]


@pytest.fixture
def server():
    """A server with the bot's account and three others."""
    with mock.MockServer(seed=config.SeedConfig(accounts=ACCOUNTS)) as server:
        yield server


@pytest.fixture(scope="module")
def scorer(tiny_run):
    """A real net in its child process."""
    with Scorer(tiny_run) as scorer:
        yield scorer


@pytest.fixture
def bot(server, scorer, tmp_path):
    """The bot, after its first look; `bot.friends` are the others' clients."""
    network = mastodon.Mastodon(server.base_url, "bot_token")
    limits = Limits(allow_networks=("127.0.0.0/8",), ports=frozenset({server.port}))
    with closing(network), Ledger(tmp_path / "ledger", network.account) as ledger:
        bot = Bot(network, ledger, scorer, Settings(limits=limits, per_account=3, about="https://example.org/about"))
        bot.once()
        bot.friends = SimpleNamespace(**{one.username: server.client(one.username) for one in ACCOUNTS})
        yield bot


def selfie(width: int = 300, height: int = 300, brightness: int = 160) -> bytes:
    noise = np.random.default_rng(1).normal(brightness, 30, (height, width, 3)).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


def ask(client, text: str = "@deepselfie look!", picture: bytes | None = None, **more):
    """Post a mention, with a picture attached."""
    media = [client.media_post(picture, mime_type="image/png", file_name="a.png")] if picture else None
    return client.status_post(text, media_ids=media, **more)


def answers(client, post) -> list:
    """The bot's answers to a post, as its author sees them."""
    below = client.status_context(post["id"])["descendants"]
    return [one for one in below if one["account"]["username"] == "deepselfie"]


def fail_once(server, **fault) -> None:
    """Let the server's next answer that matches path and methods be of that type and status."""
    match = {name: fault[name] for name in ("path", "methods") if name in fault}
    effect = {"type": "status", **{name: fault[name] for name in ("type", "status") if name in fault}}
    rule = {"match": match, "effect": effect, "count": 1}
    requests.post(f"{server.base_url}/api/v1/_mock/faults", json=rule, timeout=10).raise_for_status()


def text_of(answer) -> str:
    return mastodon.Content(answer["content"]).text


def test_a_selfie_gets_its_score(bot):
    """Score, word, percentile; only those who saw the question see the answer, and no public timeline has it."""
    alice = bot.friends.alice
    posts = [ask(alice, picture=selfie(), visibility=visibility) for visibility in ("public", "unlisted", "direct")]
    bot.once()
    for post, visibility in zip(posts, ("unlisted", "unlisted", "direct")):
        (answer,) = answers(alice, post)
        assert str(answer["visibility"]) == visibility and "@alice" in answer["content"]
        assert "looking at your selfie ... you get a score of " in text_of(answer)
        assert words.SQUASHED not in text_of(answer)
    scored = bot.scorer.score([selfie()])[0]
    assert f"{scored.score:.1%}" in text_of(answer) and f"{scored.percentile:.0f} % of the selfies" in text_of(answer)


def test_what_is_not_square_is_scored_and_told(bot):
    """As the post did: squashed, which costs points."""
    post = ask(bot.friends.alice, picture=selfie(400, 300))
    bot.once()
    (answer,) = answers(bot.friends.alice, post)
    assert "score of" in text_of(answer) and words.SQUASHED in text_of(answer)


def test_a_linked_picture_is_looked_at(bot, server):
    """Where none is attached; addresses of accounts and tags are none."""
    address = bot.friends.bob.media_post(selfie(), mime_type="image/png", file_name="a.png")["url"]
    post = ask(bot.friends.alice, f"@deepselfie @bob #selfie look: {address}")
    bot.once()
    assert "score of" in text_of(answers(bot.friends.alice, post)[0])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("@deepselfie what does a score mean?", words.MEANING),
        ("@deepselfie hello", words.NO_PICTURE),
        ("@deepselfie http://127.0.0.1:1/a.jpg", "I could not look at that: "),
        ("@deepselfie http://169.254.169.254/latest", "I could not look at that: "),
        ("@deepselfie file:///etc/passwd", words.NO_PICTURE),
    ],
)
def test_other_mentions_get_an_answer_too(bot, text, told):
    """What a score means, that there is no picture, or that an address may not be asked."""
    post = ask(bot.friends.alice, text)
    bot.once()
    (answer,) = answers(bot.friends.alice, post)
    assert told.split(".")[0] in text_of(answer)


def test_a_broken_picture_is_told(bot):
    """In one sentence; the bot goes on."""
    posts = [ask(bot.friends.alice, picture=selfie()[:200]), ask(bot.friends.bob, picture=selfie())]
    bot.once()
    assert "I could not look at that" in text_of(answers(bot.friends.alice, posts[0])[0])
    assert "score of" in text_of(answers(bot.friends.bob, posts[1])[0])


def test_who_gets_no_answer(bot):
    """Programs, the bot itself, who has said stop (and not start since), who only chats, who asks too often."""
    alice, bob, robot, own = bot.friends.alice, bot.friends.bob, bot.friends.robot, bot.friends.deepselfie
    silent = [ask(robot, picture=selfie()), ask(own, "I am @deepselfie", selfie())]
    silent += [ask(bob, "@deepselfie stop!"), ask(bob, picture=selfie())]
    bot.once()
    post = ask(alice, picture=selfie())
    bot.once()
    silent.append(alice.status_post("@deepselfie thanks", in_reply_to_id=answers(alice, post)[0]["id"]))
    heard = [ask(alice, picture=selfie()) for _ in range(2)]
    silent.append(ask(alice, picture=selfie()))  # its fourth today
    bot.once()
    assert all(len(answers(alice, post)) == 1 for post in heard)
    assert not [post for post in silent if answers(bot.friends.deepselfie, post)]
    ask(bob, "@deepselfie start")
    post = ask(bob, picture=selfie())
    bot.once()
    assert len(answers(bob, post)) == 1
    counts = bot.ledger.counts()
    counts.pop("own", None)  # some servers tell an account that it has mentioned itself
    silently = {"bot": 1, "limit of the account": 1, "nothing asked": 1, "stop or start": 2, "stopped": 1}
    assert counts == {"sent": 4, **silently}


def test_mentions_before_the_first_start_are_not_answered(server, scorer, tmp_path):
    """Nobody expects an answer to what was said before there was a bot; many that come at once are all answered."""
    alice = server.client("alice")
    before = ask(alice, "@deepselfie hello?")
    with closing(mastodon.Mastodon(server.base_url, "bot_token")) as network:
        with Ledger(tmp_path, network.account) as ledger:
            bot = Bot(network, ledger, scorer, Settings(per_account=1000))
            bot.once()
            posts = [ask(alice, f"@deepselfie hello {number}?") for number in range(50)]  # more than a page
            bot.once()
        assert not answers(alice, before)
        assert [len(answers(alice, post)) for post in posts] == [1] * 50


@pytest.mark.parametrize(
    "fault",
    [
        {"path": "/api/v1/notifications", "status": 503},
        {"path": "/api/v1/notifications", "type": "ratelimit"},
        {"path": "/api/v1/notifications", "type": "malformed"},
        {"path": "/api/v1/statuses", "methods": ["POST"], "status": 500},
        {"path": "/api/v1/statuses", "methods": ["POST"], "status": 429},
        {"path": "/api/v1/statuses", "methods": ["POST"], "type": "malformed"},
    ],
    ids=str,
)
def test_a_servers_faults_delay_an_answer_and_never_double_it(bot, server, fault):
    """Each is Later; the next look finishes the work."""
    post = ask(bot.friends.alice, "@deepselfie what?")
    fail_once(server, **fault)
    with pytest.raises(Later):
        bot.once()
    bot.once()
    bot.once()
    assert len(answers(bot.friends.alice, post)) == 1


def test_a_deleted_mention_is_left(bot, server):
    """Between its noting and the answer: no error, no answer elsewhere."""
    post = ask(bot.friends.alice, "@deepselfie what?")
    bot.note()
    bot.friends.alice.status_delete(post)
    fail_once(server, path="/api/v1/statuses", methods=["POST"], status=404)  # which the mock leaves out
    bot.once()
    assert bot.ledger.counts() == {"gone": 1}


def test_nothing_personal_stays(bot):
    """After the answer neither name nor text nor address of the picture is in the ledger's files."""
    ask(bot.friends.alice, picture=selfie())
    bot.once()
    files = b"".join(path.read_bytes() for path in bot.ledger.folder.iterdir() if path.name.startswith("bot.sqlite"))
    assert b"alice" not in files and b"looking" not in files and b"http" not in files
    assert (bot.ledger.folder / "author.key").stat().st_mode & 0o777 == 0o600


KILLED = """if True:
    import itertools, os, signal, sys, uuid
    from pathlib import Path
    from mastodon import Mastodon as Client
    from selfie.serve.bot.bot import Bot, Settings
    from selfie.serve.bot.ledger import Ledger
    from selfie.serve.bot.mastodon import Mastodon

    server, folder = sys.argv[1], Path(sys.argv[2])
    Bot.key = lambda self, entry: uuid.uuid4().hex  # so that the server's memory for keys is no help

    def look(at):
        steps = itertools.count(1)

        def step(*_):
            if next(steps) == at:
                os.kill(os.getpid(), signal.SIGKILL)

        def stepping(function):
            def call(*arguments):
                step()
                result = function(*arguments)
                step()
                return result
            return call

        network = Mastodon(server, "bot_token")
        for name in ("newest", "mentions", "answered", "answer"):
            setattr(network, name, stepping(getattr(network, name)))
        with Ledger(folder, network.account) as ledger:
            ledger.database.set_trace_callback(step)
            Bot(network, ledger, None, Settings(per_account=1000)).once()

    look(0)
    alice = Client(access_token="alice_token", api_base_url=server)
    for at in range(1, 200):
        print(alice.status_post(f"@deepselfie {at}?")["id"], flush=True)
        child = os.fork()
        if not child:
            look(at)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:  # it got to the end before that step
            break
"""


def test_a_kill_at_any_step_costs_no_answer_and_doubles_none(server, tmp_path):
    """SIGKILL before and after every statement of the ledger and every call of the server, one after the other."""
    code = [sys.executable, "-c", KILLED, server.base_url, tmp_path]
    result = subprocess.run(code, cwd=paths.ROOT / "tools", capture_output=True, text=True, timeout=120)
    posts = [{"id": identity} for identity in result.stdout.split()]
    assert result.returncode == 0 and 20 < len(posts) < 199, result.stderr
    assert [len(answers(server.client("alice"), post)) for post in posts] == [1] * len(posts)


def state_of(ledger) -> str:
    """The state of the one mention in a ledger, which another process has open."""
    with closing(sqlite3.connect(ledger / "bot.sqlite")) as database:
        return database.execute("SELECT state FROM mentions").fetchone()[0]


def test_mentions_are_answered_within_a_minute_and_ctrl_c_ends_the_command(server, tiny_run, tmp_path):
    """The command as a user starts it; the stream wakes it long before its next poll."""
    (tmp_path / "token").write_text("bot_token\n")
    arguments = ["--server", server.base_url, "--token-file", tmp_path / "token", "--ledger", tmp_path / "ledger"]
    arguments += ["--run", tiny_run.folder, "--allow-network", "127.0.0.0/8", "--poll", "55"]
    with testlib.started("tools/bot.py", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert "@deepselfie answers" in process.stdout.readline()
        time.sleep(2)  # its stream is open
        alice, start = server.client("alice"), time.monotonic()
        post = ask(alice, picture=selfie())
        testlib.wait_until(lambda: answers(alice, post))
        assert time.monotonic() - start < 30
        testlib.wait_until(lambda: state_of(tmp_path / "ledger") == "sent")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and output == "1 sent\n", errors


def test_what_the_user_has_wrong_is_one_line(server, tmp_path):
    """A token that is not accepted, a server that is none; a ledger of another account, or in use."""
    with pytest.raises(TokenError, match="access token"):
        mastodon.Mastodon(server.base_url, "no_token")
    with pytest.raises(SelfieError, match="does not answer"):
        mastodon.Mastodon("http://127.0.0.1:9", "bot_token")
    with Ledger(tmp_path, "1"), pytest.raises(SelfieError, match="another process"), Ledger(tmp_path, "1"):
        pass
    with pytest.raises(SelfieError, match="another account"), Ledger(tmp_path, "2"):
        pass
    (tmp_path / "author.key").rename(tmp_path / "elsewhere")
    with pytest.raises(SelfieError, match="put it back"), Ledger(tmp_path, "1"):
        pass  # with a new key, everybody who has said stop would be answered again
    (tmp_path / "elsewhere").rename(tmp_path / "author.key")
    (tmp_path / "bot.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(SelfieError, match="cannot be used as a ledger"), Ledger(tmp_path, "1"):
        pass


def test_answers_are_short_and_never_louder_than_the_question():
    """280 characters, X's limit, where there is no link; what is not known counts as private."""
    name = "n" * 30
    texts = [words.score(name, 0.001, 1, False), words.score(name, 1, 100, False), words.no_picture(name)]
    texts.append(words.score(name, 1, 100, False, unknown=True))
    assert words.UNKNOWN in texts[-1] and "Wow" not in texts[-1]
    assert max(map(len, texts)) <= 280
    assert [quieter(one) for one in ("public", "unlisted", "private", "direct", "?")] == [
        "unlisted",
        "unlisted",
        "private",
        "direct",
        "direct",
    ]
