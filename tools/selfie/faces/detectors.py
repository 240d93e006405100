"""Choose and load a face detector.

MTCNN runs on our own Caffe; it finds small, turned and dark faces. The LBP cascade that comes with scikit-image needs
nothing else and takes 10 ms a picture, but finds only faces that look straight at the camera and are at least a fifth
of the picture's longer side.
"""

from __future__ import annotations

import logging

from selfie.common.errors import SelfieError
from selfie.faces import lbp, mtcnn
from selfie.faces.face import Detector, ManyDetector

log = logging.getLogger(__name__)

DETECTORS = ("auto", "mtcnn", "lbp")


def choose(name: str) -> str:
    """Return 'mtcnn' or 'lbp' for a name in DETECTORS; 'auto' is mtcnn if it can run here, else lbp, and is logged.

    SelfieError if mtcnn is asked for and cannot run here.
    """
    if name not in DETECTORS:
        raise SelfieError(f"unknown face detector '{name}': choose one of {', '.join(DETECTORS)}")
    if name == "lbp":
        return name
    problem = mtcnn.problem()
    if name == "mtcnn":
        if problem:
            raise SelfieError(f"MTCNN cannot run: {problem}")
        return name
    log.info("faces are detected by %s", f"the LBP cascade, since MTCNN cannot run: {problem}" if problem else "MTCNN")
    return "lbp" if problem else "mtcnn"


def load(name: str) -> Detector:
    """Load a detector by its name in DETECTORS: a function from an H x W x 3 uint8 BGR picture to faces, surest first.

    SelfieError if mtcnn is asked for and cannot run here.
    """
    if choose(name) == "lbp":
        return lbp.detect
    return mtcnn.Detector()


def load_many(name: str, min_share: float = 0) -> ManyDetector:
    """Load a detector, as `load` does, of the faces of many pictures, which it may look at together.

    min_share: of a picture's longer side, the smallest face that mtcnn looks for (lbp has its own limit).
    """
    if choose(name) == "lbp":
        return lambda pictures: [lbp.detect(bgr) for bgr in pictures]
    return mtcnn.Detector(min_share).many
