"""Mentions on a server with Mastodon's API, by Mastodon.py."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from typing import Any

from selfie.common.errors import SelfieError
from selfie.serve.bot.network import Gone, Later, Mention, TokenError

try:
    import mastodon
    import requests
except ImportError as error:
    raise SelfieError(
        f"the bot needs Mastodon.py ({error}): run '.venv/bin/python -m pip install -r requirements-serve.txt'"
    ) from error

log = logging.getLogger(__name__)
TIMEOUT = 20.0  # seconds for an answer of the server
PAGE = 40  # notifications on a page
AGENT = "selfie-experiment-bot"


class Mastodon:
    """An account on a server, as a Network.

    server: its address; token: an access token with the scopes read:accounts, read:notifications, read:statuses and
    write:statuses. SelfieError where the server or the token is wrong.
    """

    links = True

    def __init__(self, server: str, token: str) -> None:
        self._api = mastodon.Mastodon(
            api_base_url=server, access_token=token, ratelimit_method="throw", request_timeout=TIMEOUT, user_agent=AGENT
        )
        try:
            with problems():
                own = self._api.me()
        except (Later, Gone) as error:
            raise SelfieError(f"{server}: {error}; is it a server with Mastodon's API?") from error
        self.account, self.name = str(own["id"]), own["acct"]
        self._mentioned = threading.Event()
        self._stream: Any = None

    def newest(self) -> str:
        """See Network."""
        with problems():
            page = self._api.notifications(types=["mention"], limit=1)
        return str(page[0]["id"]) if page else ""

    def mentions(self, after: str) -> list[Mention]:
        """See Network. Pages are read from the oldest on, so what comes meanwhile is on a later one."""
        found: list[Mention] = []
        while True:
            with problems():
                # Without min_id the newest page would come: "0" is before all ids, whatever they look like.
                page = self._api.notifications(types=["mention"], min_id=after or "0", limit=PAGE)
            new = sorted((one for one in page if _place(one["id"]) > _place(after)), key=lambda one: _place(one["id"]))
            if not new:
                return found
            found += [mention for one in new if (mention := mention_of(one))]
            after = str(new[-1]["id"])

    def answered(self, post: str) -> str | None:
        """See Network."""
        with problems():
            below = self._api.status_context(post)["descendants"]
        own = (one for one in below if str(one["account"]["id"]) == self.account)
        return next((str(one["id"]) for one in own if str(one["in_reply_to_id"]) == post), None)

    def answer(self, post: str, text: str, visibility: str, key: str) -> str:
        """See Network."""
        with problems():
            answer = self._api.status_post(
                text, in_reply_to_id=post, visibility=visibility, idempotency_key=key, language="en"
            )
        return str(answer["id"])

    def wait(self, seconds: float) -> None:
        """See Network. Streams end without a word, so they only wake: what has come is asked for."""
        if self._stream is None or not self._stream.is_alive():
            with suppress(mastodon.MastodonError, requests.RequestException):
                self._stream = self._api.stream_user(Bell(self._mentioned), run_async=True, timeout=3600)
        self._mentioned.wait(seconds)
        self._mentioned.clear()

    def close(self) -> None:
        """End the stream."""
        if self._stream is not None:
            self._stream.close()


class Bell(mastodon.StreamListener):
    """Sets an event when there may be a mention."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def on_notification(self, notification: Any) -> None:
        """A notification of any kind."""
        self._event.set()

    def on_abort(self, err: Exception) -> None:
        """The stream has ended: the next wait opens another."""


@contextmanager
def problems() -> Iterator[None]:
    """Turn Mastodon.py's errors into Later, Gone and TokenError."""
    try:
        yield
    except mastodon.MastodonRatelimitError as error:
        raise Later("the server asks for patience", 300) from error
    except mastodon.MastodonUnauthorizedError as error:
        raise TokenError("the server does not accept the access token: make a new one in its settings") from error
    except mastodon.MastodonNotFoundError as error:
        raise Gone("it is not there") from error
    except mastodon.MastodonServerError as error:
        raise Later("the server has a problem") from error
    except mastodon.MastodonAPIError as error:
        status = error.args[1] if len(error.args) > 1 else None
        if status == 403:
            raise TokenError(
                "the access token lacks a scope (read, write:statuses), or the account is limited"
            ) from error
        if status == 429:
            raise Later("the server asks for patience", 300) from error
        if status in (400, 410, 422):
            raise Gone(f"the server refuses ({status})") from error
        raise Later(f"the server's answer makes no sense ({type(error).__name__})") from error
    except (mastodon.MastodonNetworkError, requests.RequestException) as error:
        raise Later("the server does not answer") from error
    except (mastodon.MastodonError, ValueError, KeyError, TypeError) as error:
        raise Later(f"the server's answer makes no sense ({type(error).__name__})") from error


def _place(identity: object) -> tuple[int, str]:
    """Order ids as servers do: numbers by their value, others, which are of one length, by their letters."""
    text = str(identity)
    return len(text), text


def mention_of(notification: Any) -> Mention | None:
    """Read a notification. Pictures: what is attached, or else what is linked, by the author of this very post."""
    try:
        status, account = notification["status"], notification["account"]
        content = Content(status["content"])
        attached = [one["url"] for one in status["media_attachments"] if one["type"] == "image" and one["url"]]
        return Mention(
            id=str(notification["id"]),
            post=str(status["id"]),
            author=str(account["id"]),
            name=account["acct"],
            bot=bool(account["bot"]),
            reply=status["in_reply_to_id"] is not None,
            visibility=str(getattr(status["visibility"], "value", status["visibility"])),
            text=content.text,
            pictures=tuple(attached or content.links),
        )
    except (KeyError, TypeError, AttributeError) as error:
        log.warning("a mention cannot be read, and gets no answer (%s)", type(error).__name__)
        return None


class Content(HTMLParser):
    """The HTML of a post. text: without mentions and addresses; links: addresses that are no mentions and no tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self._words: list[str] = []
        self._inside = False  # a link
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        """The words."""
        return " ".join(word for word in " ".join(self._words).split() if not word.startswith(("@", "http")))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A link begins, or the next word."""
        self._words.append(" ")
        if tag == "a":
            values = dict(attrs)
            self._inside = True
            address = values.get("href") or ""
            kinds = (values.get("class") or "").split()
            if address.startswith(("http://", "https://")) and not {"mention", "hashtag"} & set(kinds):
                self.links.append(address)

    def handle_endtag(self, tag: str) -> None:
        """A link ends."""
        self._inside = self._inside and tag != "a"

    def handle_data(self, data: str) -> None:
        """Words; in a link they are a name or an address."""
        if not self._inside:
            self._words.append(data)
