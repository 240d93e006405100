"""Commands that run until they are told to end, the page and the bot: disturbed while they work, they answer the same.

Who asks meanwhile gets the right answer or none; whoever ends leaves no process; who goes on, or is started again, does
the work that is left, once.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from faults.jobs import PATIENCE, Setting
from faults.outcome import HANG, LOST, SAME, Outcome
from faults.processes import descendants, started
from faults.stops import CHILD, PAUSE, STOPS, Problem, bad_end, disturb, fresh, outlived
from faults.waits import BACK, Clock

ENDS_THE_PARENT = {*STOPS} - {CHILD, PAUSE}
SET_BACK = "clock set back"
WAYS = (*STOPS, SET_BACK)
ANSWERS = 180  # seconds until a service that goes on has to answer again
ASKED = 4  # mentions of the bot, pictures of the page


@dataclass
class Service:
    """A command in the background, with what it has said."""

    process: subprocess.Popen
    said: Path

    def text(self) -> str:
        return self.said.read_text(errors="replace")

    def wait_for(self, words: str, seconds: float) -> bool:
        """Wait until it says these words, ends, or time is over; returns whether it has said them."""
        deadline = time.monotonic() + seconds
        while words not in self.text() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return words in self.text()

    def end(self, how: str, chance: random.Random) -> Problem | None:
        """End it in a way that ends it; (verdict, details) if it does not end well."""
        family = descendants(self.process.pid)
        disturb(self.process.pid, family, how, chance)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return HANG, f"it did not end within {PATIENCE} s"
        return bad_end(self.text(), self.process.returncode, how) or outlived(family)


@contextlib.contextmanager
def serving(arguments: list, folder: Path, environment: dict[str, str] | None = None) -> Iterator[Service]:
    """Start a command that writes what it says into a file of a folder."""
    said, name = tempfile.mkstemp(dir=folder, prefix="said-")
    with started(arguments, said, said, env=environment) as process:
        os.close(said)
        yield Service(process, Path(name))


def services(setting: Setting, folder: Path, seed: int, numbers: range) -> Iterator[Outcome]:
    """Disturb the page's server and the bot, in each way."""
    pictures = [path.read_bytes() for path in sorted(setting.images.iterdir())[:ASKED]]
    cases: list[Case] = [Page(setting, folder / "page", pictures), Account(setting, folder / "account", pictures)]
    for number in numbers:
        for place, case in enumerate(cases):
            how = WAYS[(number + place) % len(WAYS)]
            chance = random.Random(f"{seed}/{case.name}/{number}")
            verdict, details = case.disturbed(how, chance)
            yield Outcome(how, case.name, number, verdict, details)


class Case:
    """A service, and what it gives in peace."""

    name: str

    def __init__(self, setting: Setting, folder: Path, pictures: list[bytes]) -> None:
        self.setting, self.folder, self.pictures = setting, folder, pictures
        self.seconds = 0.0  # from start to work, in peace
        self.peace: list = []

    def environment(self, how: str) -> tuple[Clock | None, dict[str, str] | None]:
        """The clock and the environment of a service whose clock is to be set; (None, None) for others."""
        if how != SET_BACK:
            return None, None
        clock = Clock(self.folder)
        clock.set(0)
        return clock, clock.environment

    def disturbed(self, how: str, chance: random.Random) -> Problem:
        """Disturb it at a random moment of its life: (verdict, details)."""
        raise NotImplementedError

    def strike(self, service: Service, how: str, clock: Clock | None, chance: random.Random) -> Problem | None:
        """Wait for a moment, then disturb the service; (verdict, details) if one that ends does not end well."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(chance.uniform(0, 2 * self.seconds))
        if clock is not None:
            clock.set(-chance.choice(BACK))
            return None
        if how in ENDS_THE_PARENT:
            return service.end(how, chance)
        disturb(service.process.pid, descendants(service.process.pid), how, chance)
        return None


class Page(Case):
    """tools/serve.py: pictures are scored all the time while it is disturbed."""

    name = "serve"

    def command(self) -> list:
        return ["tools/serve.py", "--run", self.setting.run, "--port", "0", "--per-minute", "0", "--batch", "1"]

    def disturbed(self, how: str, chance: random.Random) -> Problem:
        fresh(self.folder)
        if not self.peace:
            with serving(self.command(), self.folder) as service:
                began = time.monotonic()
                self.peace = self._all_answers(service)
                self.seconds = time.monotonic() - began
            assert None not in self.peace, service.text()
        clock, environment = self.environment(how)
        with serving(self.command(), self.folder, environment) as service, self._asking(service) as wrong:
            problem = self.strike(service, how, clock, chance)
            if not problem and how not in ENDS_THE_PARENT:
                problem = self._still_right(service)
                problem = problem or service.end("SIGTERM", chance)
        if wrong:
            return LOST, f"a wrong answer: {wrong[0]}"
        if problem:
            return problem
        with serving(self.command(), self.folder) as service:
            again = self._all_answers(service)
            problem = service.end("SIGINT", chance)
        if problem or again != self.peace:
            return problem or (LOST, f"started again it answers {again}")
        return SAME, ""

    def _still_right(self, service: Service) -> Problem | None:
        """Ask until all answers are right; (verdict, details) if that takes too long."""
        deadline = time.monotonic() + ANSWERS
        while (answers := self._all_answers(service)) != self.peace:
            if service.process.poll() is not None:
                failure = bad_end(service.text(), service.process.returncode, CHILD)
                return failure or (LOST, f"it ended: {service.text()[-300:]}")
            if time.monotonic() > deadline:
                return HANG, f"its answers after {ANSWERS} s: {answers}"
            time.sleep(0.2)
        return None

    @contextlib.contextmanager
    def _asking(self, service: Service) -> Iterator[list]:
        """Ask all the time in a thread; yields the list of wrong answers."""
        wrong: list = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set() and service.process.poll() is None:
                answers = self._all_answers(service, 1)
                wrong.extend(pair for pair in zip(answers, self.peace) if pair[0] is not None and pair[0] != pair[1])
                time.sleep(0.02)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield wrong
        finally:
            over.set()
            asking.join()

    def _all_answers(self, service: Service, seconds: float = PATIENCE) -> list:
        """Its score of each picture; None where it has none."""
        if not service.wait_for(": ready", seconds):
            return [None] * len(self.pictures)
        address = service.text().split(": ready")[0].split()[-1]
        return [_score(address, data) for data in self.pictures]


def _score(address: str, data: bytes) -> float | None:
    """Ask the page for a picture's score; None if it has no answer now."""
    try:
        answer = requests.post(f"{address}score", files={"picture": ("selfie.png", data)}, timeout=ANSWERS)
    except requests.RequestException:
        return None
    return answer.json()["score"] if answer.status_code == 200 else None


class Account(Case):
    """tools/bot.py on a server of its own: mentions wait for it, and each gets one answer, the right one."""

    name = "bot"

    def disturbed(self, how: str, chance: random.Random) -> Problem:
        fresh(self.folder)
        if not self.peace:
            with self._server() as (server, command):
                posts = self._mentions(server)
                began = time.monotonic()
                with serving([*command, "--once"], self.folder) as service:
                    assert service.process.wait(PATIENCE) == 0, service.text()
                self.seconds = (time.monotonic() - began) / 2
                self.peace = self._answers(server, posts)
        fresh(self.folder)
        clock, environment = self.environment(how)
        with self._server() as (server, command):
            posts = self._mentions(server)
            with serving([*command, "--poll", "1"], self.folder, environment) as service:
                problem = self.strike(service, how, clock, chance)
                if not problem and how not in ENDS_THE_PARENT:
                    problem = self._all_answered(service, server, posts) or service.end("SIGINT", chance)
            if problem:
                return problem
            with serving([*command, "--once"], self.folder) as service:
                if service.process.wait(PATIENCE):
                    return LOST, f"it cannot go on: {service.text()[-300:]}"
            answers = self._answers(server, posts)
        return (SAME, "") if answers == self.peace else (LOST, f"its answers: {answers}")

    def _all_answered(self, service: Service, server, posts: list) -> Problem | None:
        """Wait for its answers; it may also end, in one line. (verdict, details) for another end, and if none come."""
        deadline = time.monotonic() + ANSWERS
        while [len(answers) for answers in self._answers(server, posts)] != [1] * len(posts):
            if service.process.poll() is not None:
                return bad_end(service.text(), service.process.returncode, CHILD)
            if time.monotonic() > deadline:
                return HANG, f"no answer within {ANSWERS} s: {service.text()[-300:]}"
            time.sleep(0.2)
        return None

    @contextlib.contextmanager
    def _server(self) -> Iterator[tuple]:
        """A server with the bot's account and another; the bot has looked at it once. Yields it, and the command."""
        from mastodon_mock import config
        from mastodon_mock import testing as mock

        names = ("deepselfie", "alice")
        accounts = [config.SeedAccount(username=name, access_token=f"{name}_token") for name in names]
        (self.folder / "token").write_text("deepselfie_token\n")
        with mock.MockServer(seed=config.SeedConfig(accounts=accounts)) as server:
            command = ["tools/bot.py", "--server", server.base_url, "--token-file", self.folder / "token"]
            command += ["--ledger", self.folder / "ledger", "--run", self.setting.run, "--allow-network", "127.0.0.0/8"]
            with serving([*command, "--once"], self.folder) as service:
                assert service.process.wait(PATIENCE) == 0, service.text()
            yield server, command

    def _mentions(self, server) -> list:
        """Mention the bot with each of the pictures."""
        alice = server.client("alice")
        posts = []
        for data in self.pictures:
            media = alice.media_post(data, mime_type="image/png", file_name="a.png")
            posts.append(alice.status_post("@deepselfie look!", media_ids=[media]))
        return posts

    def _answers(self, server, posts: list) -> list[list[str]]:
        """The texts of the bot's answers to each of the posts."""
        alice = server.client("alice")
        below = [alice.status_context(post["id"])["descendants"] for post in posts]
        return [[one["content"] for one in answers if one["account"]["username"] == "deepselfie"] for answers in below]
