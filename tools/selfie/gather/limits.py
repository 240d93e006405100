"""What a fetch may cost, and the error that says why one was refused."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message

from selfie.common.errors import SelfieError


@dataclass(frozen=True)
class Limits:
    """The bounds of a fetch.

    bytes           largest content, counted while it arrives
    seconds         for everything together: names, connections, redirects, content
    redirects       followed at most
    ports           that may be asked
    allow_networks  networks ("127.0.0.0/8") whose addresses are allowed although they are not public: for tests, and
                    for servers of one's own
    agent           the User-Agent; name a contact in it where you gather
    """

    bytes: int = 10_000_000
    seconds: float = 20
    redirects: int = 3
    ports: frozenset[int] = frozenset({80, 443})
    allow_networks: tuple[str, ...] = ()
    agent: str = "selfie-experiment (fetches single pictures that people ask it to look at)"


DEFAULTS = Limits()


class FetchError(SelfieError):
    """A fetch that was refused or failed. Its message is fit to be told to whoever gave the address: it names neither
    what a name resolved to nor what answered there.

    reason   a short word for counting:
             address, scheme, credentials, port, private   the address is refused, nothing was asked
             host, unreachable, tls, protocol, cut-off     no answer, or none that is HTTP
             status, redirects                             an answer without content
             time, size                                    over a limit
             empty, not-a-picture, pixels, broken          the content is no picture to use
             and what a caller's own rules refuse
    status   of the answer, where its status is the reason
    headers  of that answer
    """

    def __init__(self, reason: str, message: str, status: int | None = None, headers: Message | None = None) -> None:
        super().__init__(message)
        self.reason, self.status, self.headers = reason, status, headers or Message()
