"""The child process that explains a score: the best crop of a picture, and the measured properties that moved it.

An explanation takes a hundred forward passes and more, so it has a process and a net of its own, which gives way to the
scorer (nice).
"""

from __future__ import annotations

import base64
import os
from dataclasses import asdict

import cv2
import numpy as np

from selfie.common import stats
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.image import BadImage
from selfie.experiments import crop_space, influences, properties
from selfie.experiments.crops import SAME, Searcher
from selfie.faces import detectors
from selfie.runs import evaluate, run_folder
from selfie.serve import child

NICE = 10
SIDE = 1024  # pixels of a picture's longer side that crops are searched in
STEPS = 4  # of the grid of crops, per parameter, before the best of them are refined
PREVIEW = 800  # pixels of the longer side of the copy that a page shows of a picture that it has not got itself


class Explaining:
    """A run's net, face detector, and the weights of properties where the run has some."""

    def __init__(self, run: str, gpu: int | None) -> None:
        os.nice(NICE)
        loaded = run_folder.load(run)
        self._searcher = Searcher(loaded, gpu)
        self._reference = evaluate.validation_scores(loaded, gpu)["score"].to_numpy()
        self._model = influences.load(loaded)
        self._detect = detectors.load("auto")

    def hello(self) -> dict:
        """Explain a grey picture; say whether properties can be weighed."""
        grey = np.full((self._searcher.preprocessing.size, self._searcher.preprocessing.size, 3), 128, np.uint8)
        self._influences(grey)
        return {"weighs": self._model is not None}

    def prepare(self, question: dict, parts: list[bytes]) -> tuple[bytes, bool]:
        """Leave a picture as it is: only one is decoded at a time."""
        return parts[0], question["preview"]

    def compute(self, prepared: tuple[bytes, bool]) -> dict:
        """Explain one picture, or say in `error` why it cannot be read; see selfie.serve.explainer."""
        data, preview = prepared
        try:
            bgr = _at_most(image.decode(data, SIDE // 4), SIDE)
        except BadImage as error:
            return {"error": str(error)}
        answer = {"error": None, "crop": self._crop(bgr), **self._influences(bgr)}
        return {**answer, "preview": _data_url(_at_most(bgr, PREVIEW)) if preview else None}

    def _crop(self, bgr: np.ndarray) -> dict | None:
        """Find the best square crop that keeps the largest face; None if the picture is too small to have one."""
        size = self._searcher.preprocessing.crop
        try:
            keep = crop_space.face(bgr, self._detect)
            allowed = crop_space.space(bgr, size, keep=keep)
        except SelfieError:  # no face, or one that no square crop holds
            keep = None
            try:
                allowed = crop_space.space(bgr, size)
            except SelfieError:  # too small
                return None
        windows = crop_space.grid(allowed, STEPS)
        tried, scores, mean = self._searcher.refine(bgr, allowed, windows, self._searcher.exact(bgr, windows), seed=0)
        best = int(crop_space.distinct(tried, mean, 1, SAME)[0])
        window, (height, width) = tried[best], bgr.shape[:2]
        return {
            "left": window.left / width,
            "top": window.top / height,
            "width": window.width / width,
            "height": window.height / height,
            "score": float(scores[best]),
            "percentile": float(stats.percentiles(scores[best : best + 1], self._reference)[0]),
            "keeps_face": keep is not None,
        }

    def _influences(self, bgr: np.ndarray) -> dict:
        """Measure the picture as the net sees it, and weigh what was measured."""
        square = image.square(bgr, self._searcher.preprocessing.size)
        faces = self._detect(square)
        measured = properties.measure(square, max(faces, key=lambda face: face.w * face.h, default=None), len(faces))
        model = self._model
        return {
            "faces": len(faces),
            "measured": measured,
            "influences": [asdict(one) for one in model.influences(measured)] if model else [],
            "explained": model.explained if model else None,
            "selfies": model.selfies if model else 0,
        }


def _at_most(bgr: np.ndarray, side: int) -> np.ndarray:
    """Reduce a picture so that its longer side has at most `side` pixels."""
    height, width = bgr.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return bgr
    return cv2.resize(bgr, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)


def _data_url(bgr: np.ndarray) -> str:
    """Return a picture as a data: address of a JPEG, without any metadata of the original."""
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


if __name__ == "__main__":
    child.serve(Explaining)
