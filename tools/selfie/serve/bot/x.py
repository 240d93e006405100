"""Mentions on X, by Tweepy. Reading and writing cost money there: only what is new is read, and answers have no link.

X has no name for an answer by which it would take it once only. Whether an answer that was cut off has been sent is
asked of its search, which knows posts some seconds after they were written; so it is asked after half a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfie.common import shapes
from selfie.common.errors import SelfieError
from selfie.serve.bot.network import Gone, Later, Mention, TokenError

try:
    import requests
    import tweepy
except ImportError as error:
    raise SelfieError(
        f"a bot on X needs Tweepy ({error}): run '.venv/bin/python -m pip install -r requirements-serve.txt'"
    ) from error

KEYS = ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
TIMEOUT = 20.0  # seconds for an answer of the server
PAGE = 100  # mentions on a page
FIELDS = {
    "expansions": ["author_id", "attachments.media_keys"],
    "tweet_fields": ["entities", "referenced_tweets"],
    "media_fields": ["type", "url"],
    "user_fields": ["username"],
}


class X:
    """An account on X, as a Network. keys: a JSON file with KEYS, of an app that may read and write."""

    links = False

    def __init__(self, keys: Path) -> None:
        found = shapes.read(keys, dict.fromkeys(KEYS, str), f"a JSON object with {', '.join(KEYS)} is needed")
        self._client = tweepy.Client(**{name: found[name] for name in KEYS})
        self._client.session = Session()
        try:
            with problems():
                own = self._client.get_me(user_auth=True).data
        except (Later, Gone) as error:
            raise SelfieError(f"X: {error}") from error
        self.account, self.name = str(own.id), own.username

    def newest(self) -> str:
        """See Network."""
        with problems():
            page = self._client.get_users_mentions(self.account, max_results=5, user_auth=True)
        return str(page.meta.get("newest_id", ""))

    def mentions(self, after: str) -> list[Mention]:
        """See Network. X gives the newest first, so all pages are read before the first mention is told."""
        found: list[Mention] = []
        options: dict[str, Any] = {"since_id": after} if after else {}
        while True:
            with problems():
                page = self._client.get_users_mentions(
                    self.account, max_results=PAGE, user_auth=True, **FIELDS, **options
                )
            users = {str(user.id): user.username for user in page.includes.get("users", [])}
            media = {one.media_key: one for one in page.includes.get("media", [])}
            found += [mention_of(post, users, media) for post in page.data or []]
            token = page.meta.get("next_token")
            if not token:
                return sorted(found, key=lambda mention: int(mention.id))
            options["pagination_token"] = token

    def answered(self, post: str) -> str | None:
        """See Network."""
        query = f"in_reply_to_tweet_id:{post} from:{self.name}"
        with problems():
            page = self._client.search_recent_tweets(query, max_results=10, user_auth=True)
        return str(page.data[0].id) if page.data else None

    def answer(self, post: str, text: str, visibility: str, key: str) -> str:
        """See Network. Answers on X are as public as what they answer."""
        with problems():
            try:
                return str(self._client.create_tweet(text=text, in_reply_to_tweet_id=post, user_auth=True).data["id"])
            except tweepy.Forbidden as error:  # the post is deleted, or its author has blocked the bot
                raise Gone("X does not allow the answer") from error

    def wait(self, seconds: float) -> None:
        """See Network."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close the connections."""
        self._client.session.close()


class Session(requests.Session):
    """A session whose requests all end."""

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """As requests', with a timeout."""
        return super().request(*arguments, **{"timeout": TIMEOUT, **options})


@contextmanager
def problems() -> Iterator[None]:
    """Turn Tweepy's errors into Later, Gone and TokenError."""
    try:
        yield
    except tweepy.TooManyRequests as error:
        reset = error.reset_time
        raise Later("X asks for patience", max(30.0, reset - time.time()) if reset else 900.0) from error
    except (tweepy.Unauthorized, tweepy.Forbidden) as error:
        raise TokenError("X does not accept the keys, or they may not read and write: make new ones") from error
    except (tweepy.NotFound, tweepy.BadRequest) as error:
        raise Gone("X refuses") from error
    except (tweepy.TweepyException, requests.RequestException) as error:
        raise Later("X does not answer, or has a problem") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Later(f"X's answer makes no sense ({type(error).__name__})") from error


def mention_of(post: Any, users: dict[str, str], media: dict[str, Any]) -> Mention:
    """Read a post. Pictures: what is attached, or else what is linked. X does not say which accounts are programs."""
    entities = post.entities or {}
    keys = (post.attachments or {}).get("media_keys", [])
    attached = [media[key].url for key in keys if key in media and media[key].type == "photo" and media[key].url]
    links = [one.get("expanded_url", one["url"]) for one in entities.get("urls", []) if "media_key" not in one]
    words = [word for word in post.text.split() if not word.startswith(("@", "http://", "https://"))]
    return Mention(
        id=str(post.id),
        post=str(post.id),
        author=str(post.author_id),
        name=users.get(str(post.author_id), ""),
        bot=False,
        reply=any(one.type == "replied_to" for one in post.referenced_tweets or []),
        visibility="public",
        text=" ".join(words),
        pictures=tuple(attached or links),
    )
