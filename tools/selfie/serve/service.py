"""What the application works with, and the way of a picture through it: allowance, queue, net."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from selfie.runs.score import Scored
from selfie.serve.allowance import Allowance
from selfie.serve.batcher import LARGEST, ROOM, WAIT, Batcher, Full
from selfie.serve.explainer import Explainer
from selfie.serve.intake import Intake, Refused
from selfie.serve.metrics import Metrics
from selfie.serve.scorer import Scorer


@dataclass
class Service:
    """The parts of one server. explainer: None where explanations are not wanted.

    batch, wait, room   of the Batcher, which is made when the event loop runs
    """

    scorer: Scorer
    explainer: Explainer | None = None
    allowance: Allowance = field(default_factory=Allowance)
    intake: Intake = field(default_factory=Intake)
    metrics: Metrics = field(default_factory=Metrics)
    batch: int = LARGEST
    wait: float = WAIT
    room: int = ROOM
    batcher: Batcher = field(init=False)

    def __post_init__(self) -> None:
        explainer = self.explainer
        self.metrics.watch(
            lambda: self.scorer.ready,
            scorer=lambda: self.scorer.restarts,
            explainer=lambda: explainer.restarts if explainer else 0,
        )

    @property
    def name(self) -> str:
        """Return the model's name: the run folder's."""
        return self.scorer.run.folder.resolve().name

    def start(self) -> None:
        """Start gathering batches, in the running event loop."""
        self.batcher = Batcher(self.scorer.score, self.metrics, self.batch, self.wait, self.room)

    def allow(self, request: Request, pictures: int = 1) -> None:
        """Take pictures off the client's allowance. Refused if it has none left."""
        seconds = self.allowance.take(request.client.host if request.client else "", pictures)
        if seconds:
            raise Refused(429, f"too many pictures from your address: try again in {seconds} s", seconds)

    async def score(self, pictures: list[bytes]) -> list[Scored]:
        """Score pictures together with those of other requests. Refused if the queue has no room for them."""
        try:
            return await self.batcher.score(pictures)
        except Full as full:
            raise Refused(503, str(full), full.retry_after) from full
