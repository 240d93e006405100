"""Scores for pictures of strangers, computed in a child process: what dies there is started again.

    with Scorer(run_folder.find()) as scorer:
        for one in scorer.score([Path("a.jpg").read_bytes(), Path("b.jpg").read_bytes()]):
            print(one.error or f"{one.score:.1%}, better than {one.percentile:.0f} % of selfies")

It needs none of the packages of requirements-serve.txt. `score` may be called from several threads: while the pictures
of one call are in the net, those of the next are decoded, so two callers that take turns keep the net busy.

Caffe ends its process where one of its checks fails, and a decoder may crash or loop for ever on a picture made for
that. Whoever waits then has his pictures scored again, one by one, while nobody else's are in the process: so a picture
that ends it a second time is to blame, gets an error, and costs the others no more than time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from selfie.runs import score
from selfie.runs.run_folder import Run
from selfie.runs.score import Scored
from selfie.serve.child import Child, ChildDied

PATIENCE = 30.0  # seconds for a batch
TO_BLAME = "could not be scored"  # of a picture that ends the process, or makes it hang


class Scorer:
    """A run's net in a child process, on the CPU or a GPU. Making it waits until a picture was scored.

    SelfieError, with the reason, if the run cannot score. patience: seconds after which a batch counts as hung.
    """

    def __init__(self, run: Run, gpu: int | None = None, patience: float = PATIENCE) -> None:
        score.check_preprocessing(run)
        self.run = run
        self._child = Child("serve.score_child", {"run": str(run.folder.resolve()), "gpu": gpu}, patience)
        self._turns = Turns()
        try:
            self._child.wait()
        except BaseException:
            self._child.close()
            raise

    @property
    def ready(self) -> bool:
        """Tell whether a picture could be scored at once; not so while the process starts again."""
        return self._child.ready

    @property
    def restarts(self) -> int:
        """Count how often the process had to be started again."""
        return self._child.restarts

    @property
    def pid(self) -> int | None:
        """Return the process's id; None while it starts."""
        return self._child.pid

    @property
    def validation_selfies(self) -> int:
        """Count the selfies that percentiles refer to."""
        return self._child.hello["validation_selfies"]

    def score(self, pictures: Sequence[bytes]) -> list[Scored]:
        """Score the bytes of image files as one batch, in their order; each Scored has a score or an error.

        ChildDied if the scorer is closed meanwhile.
        """
        if not pictures:
            return []
        try:
            with self._turns.shared():
                return self._ask(pictures)
        except ChildDied:
            return [self._alone(picture) for picture in pictures]

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, pictures: Sequence[bytes]) -> list[Scored]:
        return [Scored("", **answer) for answer in self._child.ask({}, pictures)["scored"]]

    def _alone(self, picture: bytes) -> Scored:
        """Score a picture that was in the process when it ended, while no other is there."""
        with self._turns.alone():
            self._child.wait()
            try:
                return self._ask([picture])[0]
            except ChildDied:
                self._child.wait()  # ChildDied if it was closed: then the picture is not to blame
                return Scored("", error=TO_BLAME)


class Turns:
    """A lock that many hold together, or one alone; who wants to be alone goes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._one = False
        self._wanting = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._one and not self._wanting)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it alone."""
        with self._changed:
            self._wanting += 1
            self._changed.wait_for(lambda: not self._one and not self._together)
            self._wanting -= 1
            self._one = True
        try:
            yield
        finally:
            with self._changed:
                self._one = False
                self._changed.notify_all()
