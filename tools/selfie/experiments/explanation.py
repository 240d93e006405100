"""An explanation of one picture's score: its best crop, and the measured properties that moved it."""

from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np

from selfie.common import stats
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.experiments import crop_space, influences, properties
from selfie.experiments.crops import SAME, Searcher
from selfie.faces import detectors
from selfie.runs import evaluate, trust
from selfie.runs.run_folder import Run

SIDE = 1024  # pixels of a picture's longer side that crops are searched in
STEPS = 4  # of the grid of crops, per parameter, before the best of them are refined


class Explaining:
    """A run's net, face detector, and the weights of properties where the run has some."""

    def __init__(self, run: Run, gpu: int | None) -> None:
        self._searcher = Searcher(run, gpu)
        self._reference = evaluate.validation_scores(run, gpu)["score"].to_numpy()
        self._model = influences.load(run)
        self._detect = detectors.load("auto")

    @property
    def weighs(self) -> bool:
        """Tell whether properties can be weighed."""
        return self._model is not None

    @property
    def size(self) -> int:
        """Return the side of the square that the net sees of a picture, pixels."""
        return self._searcher.preprocessing.size

    def explain(self, bgr: np.ndarray) -> dict:
        """Explain a picture of at most SIDE pixels: a dict with crop, and what `properties` returns.

        crop   the best square crop: left, top, width, height as shares of the picture, score, percentile, keeps_face,
               and unlike (percent; see selfie.runs.trust) with unknown, whether the net does not know such pictures;
               None where the picture is too small to be cropped
        """
        return {"crop": self._crop(bgr), **self.properties(bgr)}

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
        unlike = self._searcher.unlike(bgr, [tried[best]])
        window, (height, width) = tried[best], bgr.shape[:2]
        return {
            "left": window.left / width,
            "top": window.top / height,
            "width": window.width / width,
            "height": window.height / height,
            "score": float(scores[best]),
            "percentile": float(stats.percentiles(scores[best : best + 1], self._reference)[0]),
            "keeps_face": keep is not None,
            "unlike": unlike[0] if unlike else None,
            "unknown": bool(unlike and trust.is_unknown(np.array(unlike))[0]),
        }

    def properties(self, bgr: np.ndarray) -> dict:
        """Measure a picture as the net sees it, and weigh what was measured. Returns a dict with

        faces       number of faces
        measured    property -> value, see selfie.experiments.properties
        influences  list of property, value, more, what, points, strongest first; see selfie.experiments.influences
        explained, selfies    share of the scores' variance that the influences explain, and of how many selfies; None
                    and 0 where the run has no measured properties
        """
        preprocessing = self._searcher.preprocessing
        faces = self._detect(image.square(bgr, self.size))  # a detector needs what the net may not see
        largest = max(faces, key=lambda face: face.w * face.h, default=None)
        measured = properties.measure(preprocessing.square(bgr), largest, len(faces))
        if preprocessing.detail:  # what the run's selfies are like was measured in pictures too small for a detector
            measured |= dict.fromkeys(properties.FACE)
        model = self._model
        return {
            "faces": len(faces),
            "measured": measured,
            "influences": [asdict(one) for one in model.influences(measured)] if model else [],
            "explained": model.explained if model else None,
            "selfies": model.selfies if model else 0,
        }


def at_most(bgr: np.ndarray, side: int) -> np.ndarray:
    """Reduce a picture so that its longer side has at most `side` pixels."""
    height, width = bgr.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return bgr
    return cv2.resize(bgr, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
