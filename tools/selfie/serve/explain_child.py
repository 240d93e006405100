"""The child process that explains a score: the best crop of a picture, and the measured properties that moved it.

An explanation takes a hundred forward passes and more, so it has a process and a net of its own, which gives way to the
scorer (nice).
"""

from __future__ import annotations

import base64
import os

import cv2
import numpy as np

from selfie.data import image
from selfie.data.image import BadImage
from selfie.experiments import explanation
from selfie.experiments.explanation import SIDE, at_most
from selfie.runs import run_folder
from selfie.serve import child

NICE = 10
PREVIEW = 800  # pixels of the longer side of the copy that a page shows of a picture that it has not got itself


class Explaining:
    """What explains pictures by a run."""

    def __init__(self, run: str, gpu: int | None) -> None:
        os.nice(NICE)
        self._explaining = explanation.Explaining(run_folder.load(run), gpu)

    def hello(self) -> dict:
        """Explain a grey picture; say whether properties can be weighed."""
        self._explaining.properties(np.full((self._explaining.size, self._explaining.size, 3), 128, np.uint8))
        return {"weighs": self._explaining.weighs}

    def prepare(self, question: dict, parts: list[bytes]) -> tuple[bytes, bool]:
        """Leave a picture as it is: only one is decoded at a time."""
        return parts[0], question["preview"]

    def compute(self, prepared: tuple[bytes, bool]) -> dict:
        """Explain one picture, or say in `error` why it cannot be read; see selfie.serve.explainer."""
        data, preview = prepared
        try:
            bgr = at_most(image.decode(data, SIDE // 4), SIDE)
        except BadImage as error:
            return {"error": str(error)}
        answer = {"error": None, **self._explaining.explain(bgr)}
        return {**answer, "preview": _data_url(at_most(bgr, PREVIEW)) if preview else None}


def _data_url(bgr: np.ndarray) -> str:
    """Return a picture as a data: address of a JPEG, without any metadata of the original."""
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


if __name__ == "__main__":
    child.serve(Explaining)
