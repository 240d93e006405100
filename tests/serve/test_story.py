"""The whole story on loopback, as a user tells it with commands: from strangers' posts to a bot's answer and a page."""

from __future__ import annotations

import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from strict import Strict

import testlib
from browser import Browser
from selfie.data.demo_corpus import corpus

if None in map(find_spec, ("fastapi", "mastodon", "mastodon_mock", "protego")):
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

from mastodon_mock import config
from mastodon_mock import testing as mock

MINUTE = 60
LOCAL = ("--allow-network", "127.0.0.0/8")


def run(*arguments: object) -> str:
    """Run a command that has to succeed; returns what it prints."""
    result = testlib.command(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Path:
    """A folder with a run that was trained on selfies gathered from a server full of generated ones."""
    folder = tmp_path_factory.mktemp("story")
    corpus.make(folder / "corpus", users=45, seed=1)
    with Strict() as server:
        for number, row in enumerate(pl.read_csv(folder / "corpus/manifest.csv").iter_rows(named=True), 1):
            path = folder / "corpus/images" / row["path"]
            if path.is_file() and row["followers"] is not None and row["likes"] is not None:
                tags = [{"name": name, "url": ""} for name in (row["tags"] or "").split()]
                server.post(
                    *(number, path.read_bytes()),
                    **{"user": row["user"], "account_followers_count": max(0, row["followers"])},
                    **{"favourites_count": max(0, row["likes"]), "tags": tags},
                )
        who = ("--terms-read", "127.0.0.1", "--contact", "me@example.org", "--rate", "0", *LOCAL)
        run("tools/gather.py", "--server", server.url, "--tag", "selfie", *who, "--out", folder / "gathered")
    images = folder / "gathered/images"
    faces, labels, lmdb = folder / "faces.csv", folder / "labels.csv", folder / "lmdb"
    manifest = folder / "gathered/manifest.csv"
    run("tools/filter_faces.py", "--manifest", manifest, "--images", images, "--out", faces, "--detector", "lbp")
    split = ("--split", "0.6,0.2,0.2", "--group-size", 20, "--min-age-days", 0)
    run("tools/label.py", "--manifest", faces, "--images", images, "--out", labels, *split)
    run("tools/make_lmdb.py", "--labels", labels, "--images", images, "--out", lmdb)
    start = ("--weights", "none", "--epochs", 2)
    run("tools/train.py", "--variant", "demo", "--lmdb", lmdb, "--run", folder / "run", *start)
    return folder


def test_the_gathered_selfies_have_labels_and_a_net(story):
    """Half of each group is good; the net scores them in the order that the run was evaluated with."""
    labels = pl.read_csv(story / "labels.csv")
    assert labels.height > 150 and abs(labels["label"].mean() - 0.5) < 0.02
    pictures = sorted((story / "gathered/images").rglob("*.jpeg"))[:4]
    assert len(run("tools/score.py", "--run", story / "run", "--csv", *pictures).splitlines()) == 5


def test_the_bot_answers_a_mention_within_a_minute(story):
    """On another server, with the net that was trained."""
    accounts = [config.SeedAccount(username=name, access_token=f"{name}_token") for name in ("deepselfie", "alice")]
    (story / "token").write_text("deepselfie_token")
    picture = sorted((story / "gathered/images").rglob("*.jpeg"))[0].read_bytes()
    with mock.MockServer(seed=config.SeedConfig(accounts=accounts)) as server:
        arguments = ("--server", server.base_url, "--token-file", story / "token", "--ledger", story / "bot")
        arguments += ("--run", story / "run", *LOCAL)
        with testlib.started("tools/bot.py", *arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert "answers" in process.stdout.readline()
            time.sleep(1)
            alice, start = server.client("alice"), time.monotonic()
            media = alice.media_post(picture, mime_type="image/jpeg", file_name="a.jpg")
            post = alice.status_post("@deepselfie What do you think about my picture?", media_ids=[media])
            below = lambda: alice.status_context(post["id"])["descendants"]  # noqa: E731
            testlib.wait_until(below, MINUTE)
            assert time.monotonic() - start < MINUTE
            assert "you get a score of " in below()[0]["content"]


def test_the_page_scores_an_upload(story):
    """In a browser, as somebody with a phone does it: choose a picture, read its score."""
    picture = sorted((story / "gathered/images").rglob("*.jpeg"))[0]
    arguments = ("tools/serve.py", "--run", story / "run", "--port", 0)
    with testlib.started(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        line = next(line for line in process.stderr if "ready" in line)
        with Browser(390, 844) as browser:
            browser.open(line.split(": ")[0])
            browser.wait("document.body.dataset.ready")
            browser.choose("#file", picture)
            browser.wait("!document.getElementById('result').hidden")
            shown = browser.run("document.getElementById('number').textContent")
    score = run("tools/score.py", "--run", story / "run", "--csv", picture).splitlines()[1].split(",")[1]
    assert f"{100 * float(score):.1f}" in shown
