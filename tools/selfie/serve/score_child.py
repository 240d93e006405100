"""The child process that scores: it holds the net, decodes the pictures of one batch while another is in the net."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from selfie.common import parallel
from selfie.common.errors import SelfieError
from selfie.data.image import BadImage
from selfie.runs import evaluate, run_folder, score, trust
from selfie.runs.score import Picture, Scored
from selfie.serve import child


class Scoring:
    """A run's net, and the scores of its validation selfies, that percentiles refer to."""

    def __init__(self, run: str, gpu: int | None) -> None:
        cv2.setNumThreads(1)  # the cores are shared among pictures
        self._run = run_folder.load(run)
        self._net = self._run.net(gpu)
        self._reference = evaluate.validation_scores(self._run, gpu)["score"].to_numpy()
        self._judge = trust.of(self._run)
        self._decoders = ThreadPoolExecutor(parallel.cores())

    def hello(self) -> dict:
        """Score a grey picture, from its bytes on; say what is scored by. SelfieError if that fails."""
        side = self._net.preprocessing.size
        data = cv2.imencode(".png", np.full((side, side, 3), 128, np.uint8))[1].tobytes()
        answer = self.compute(self.prepare({}, [data]))["scored"][0]
        if answer["error"] is not None:
            raise SelfieError(f"{self._run.folder} does not score a grey picture: {answer['error']}")
        return {"validation_selfies": len(self._reference), "variant": self._run.info["variant"]}

    def prepare(self, question: dict, parts: list[bytes]) -> list[tuple[str, Picture]]:
        """Decode pictures to the net's squares; a picture that cannot be decoded becomes a Scored that says why."""
        return list(self._decoders.map(self._decode, parts))

    def compute(self, prepared: list[tuple[str, Picture]]) -> dict:
        """Score a batch: a list of what a Scored holds beside its name."""
        scored = score.score_batch(self._net, prepared, self._reference, self._judge)
        return {"scored": [{name: value for name, value in one.fields().items() if name != "path"} for one in scored]}

    def _decode(self, data: bytes) -> tuple[str, Picture]:
        try:
            return "", self._net.preprocessing.decode(data)
        except BadImage as error:
            return "", Scored("", error=str(error))


if __name__ == "__main__":
    child.serve(Scoring)
