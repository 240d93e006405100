"""The pictures of posts: fetched, looked at, written, and compared with those that are here."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np

from selfie.common import parallel, paths
from selfie.data import image
from selfie.gather import fetch as fetcher
from selfie.gather.ledger import Kept, Wanted, stem
from selfie.gather.limits import FetchError, Limits
from selfie.gather.pace import Pace, retry_after
from selfie.gather.robots import Robots

PASSING = ("host", "unreachable", "tls", "protocol", "cut-off", "time")  # reasons that may not hold tomorrow
KINDS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "heic", "avif")
SMALL = 32  # side in pixels of what a perceptual hash is made of
LOW = 8  # frequencies of it, in each direction


class Outcome(NamedTuple):
    """What became of a wanted picture: it is here, or why not, and whether trying again may help."""

    key: int
    kept: Kept | None
    reason: str = ""
    passing: bool = False


class Fetcher:
    """Fetches pictures into a folder: a connection to a host at a time, to at most `jobs` hosts.

    While a host is asked for its next picture, another thread decodes and hashes the last one. A picture is on the disk
    before the next is asked for, so that SIGKILL costs at most the one that is on its way.
    """

    def __init__(self, images: Path, limits: Limits, robots: Robots, pace: Pace, jobs: int) -> None:
        self.images, self.limits, self.robots, self.pace, self.jobs = images, limits, robots, pace, jobs

    def outcomes(self, wanted: list[Wanted]) -> Iterator[Outcome]:
        """Yield what became of each, as soon as it is known, in no order."""
        hosts: defaultdict[str, list[Wanted]] = defaultdict(list)
        for one in wanted:
            hosts[urlsplit(one.url).netloc].append(one)
        done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        todo: queue.SimpleQueue[list[Wanted]] = queue.SimpleQueue()
        for group in hosts.values():
            todo.put(group)
        stop, lookers = threading.Event(), ThreadPoolExecutor(parallel.cores())
        threads = [
            threading.Thread(target=self._work, args=(todo, lookers, done, stop), daemon=True)
            for _ in range(min(self.jobs, len(hosts)))
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in wanted:
                outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            stop.set()
            for thread in threads:
                thread.join(2)  # it may be waiting for a host's turn; what it brings then is found by the next run
            lookers.shutdown(wait=False)

    def _work(
        self, todo: queue.SimpleQueue, lookers: ThreadPoolExecutor, done: queue.SimpleQueue, stop: threading.Event
    ) -> None:
        looking: Future[Outcome] | None = None
        try:
            while True:
                for wanted in todo.get_nowait():
                    if stop.is_set():
                        return
                    brought = self._bring(wanted)
                    if looking:
                        futures.wait([looking])
                    looking = lookers.submit(self._look, wanted, brought)
                    looking.add_done_callback(lambda looked: done.put(looked.exception() or looked.result()))
        except queue.Empty:
            return
        except BaseException as error:  # a full disk, our own bugs: raised where the outcomes are read
            done.put(error)

    def _bring(self, wanted: Wanted) -> Path | Outcome:
        """Fetch a picture and write it, or say why there is none; one that an earlier process had written when it was
        killed is taken from the disk.
        """
        place, host = stem(self.images, wanted.key), urlsplit(wanted.url).netloc
        for kind in KINDS:
            if (here := place.with_suffix(f".{kind}")).exists():
                return here
        try:
            with self.pace.turn(host):
                got = fetcher.fetch(wanted.url, self.limits, self.robots.rules)
        except FetchError as error:
            if error.status in (429, 503):
                self.pace.hold(host, min(retry_after(error.headers) or 30, 900))
            reason = f"picture: {error.status}" if error.status else f"picture: {error.reason}"
            passing = error.reason in PASSING or error.status == 429 or (error.status or 0) >= 500
            return Outcome(wanted.key, None, reason, passing)
        path = place.with_suffix(f".{got.kind}")
        for torn in path.parent.glob(f".{path.stem}.*"):  # of a process that was killed while it wrote
            torn.unlink()
        with paths.atomic_write(path, "wb") as file:
            file.write(got.data)
        return path

    def _look(self, wanted: Wanted, brought: Path | Outcome) -> Outcome:
        """Look at a picture that was brought; one that cannot be used does not stay."""
        if isinstance(brought, Outcome):
            return brought
        data = brought.read_bytes()
        try:
            header = image.header(data)
            perceptual = perceptual_hash(image.decode(data, SMALL))
        except image.BadImage as error:
            brought.unlink()
            return Outcome(wanted.key, None, f"picture: {fetcher.reason(error)[0]}")
        name, digest = brought.relative_to(self.images).as_posix(), hashlib.sha256(data).hexdigest()
        return Outcome(wanted.key, Kept(name, digest, header.width, header.height, perceptual))


def perceptual_hash(bgr: np.ndarray) -> int:
    """Hash a picture (H x W x 3 uint8) so that the same one, scaled or compressed anew, differs in few of 64 bits.

    The signs of the lowest 8 x 8 frequencies of its 32 x 32 luminance against their median (DCT hash; C. Zauner,
    "Implementation and benchmarking of perceptual image hash functions", 2010).
    """
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:LOW, :LOW].flatten()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
