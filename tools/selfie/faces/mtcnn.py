"""Face detection by MTCNN, run by our own Caffe.

K. Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016
(arXiv:1604.02878). Three small nets, each stricter than the one before: det1 scores every 12 x 12 window of
an image pyramid in one forward pass per level, det2 (24 x 24) and det3 (48 x 48) score what is left; each also
regresses its boxes, and det3 finds five landmarks.

The released weights were trained in MATLAB: channels are RGB, and height and width are swapped. So the picture
is transposed once, on entry, and its first axis is x from then on; the nets' outputs are in plain x and y again.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from selfie.common import paths
from selfie.common.boxes import suppress
from selfie.common.errors import SelfieError
from selfie.faces.face import Face
from selfie.net import caffe_net, mtcnn_nets, pycaffe, weights

MAX_SIDE = 360  # pixels; a picture with a longer side is reduced to this first
MIN_FACE = 20  # pixels of the reduced picture: no head of a selfie is smaller than an eighteenth of it
FACTOR = 0.709  # from one level of the pyramid to the next: half the area
# Least score after det1, det2, det3. The release's last one is 0.7; with 0.85 as many of the best 100 tiles have a face
# (93), and of 470 crops of scikit-image's pictures without people 2 have one instead of 13. Both numbers were looked
# at while choosing 0.85 and MAX_SIDE, so on other pictures expect a little less.
THRESHOLDS = (0.6, 0.7, 0.85)
BATCH = 128  # windows per forward pass of det2 and det3


def problem() -> str:
    """Return what keeps the detector from running here and how to mend it, '' if nothing does."""
    try:
        pycaffe.caffe()
        _checked_weights()
    except SelfieError as error:
        return str(error)
    return ""


def _checked_weights() -> Path:
    """Folder of the three caffemodels; they are copied from SELFIE_MIRROR if they are there and not here yet.

    SelfieError if one is missing or is another file than the released one.
    """
    if all(paths.mirror(source.file) for source in weights.PRETRAINED["mtcnn"]):
        return weights.obtain("mtcnn")
    return weights.folder("mtcnn")


class Detector:
    """MTCNN with its nets loaded; call it with H x W x 3 uint8 BGR for a list of Face, best score first.

    SelfieError when Caffe or the weights are missing. Not for several threads at once.
    """

    def __init__(self) -> None:
        folder = _checked_weights()
        self.nets = {
            name: caffe_net.load(paths.PROTOTXT / "mtcnn" / f"{name}.prototxt", folder / f"{name}.caffemodel")
            for name in mtcnn_nets.FILES
        }

    def __call__(self, bgr: np.ndarray) -> list[Face]:
        height, width = bgr.shape[:2]
        scale = min(1.0, MAX_SIDE / max(height, width))
        if scale < 1:
            bgr = cv2.resize(
                bgr, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
            )
        # From here on the first axis is x, the second y, as the nets want it; boxes are x1, y1, x2, y2 all along.
        picture = np.ascontiguousarray(bgr[:, :, ::-1].transpose(1, 0, 2))
        boxes = self._propose(picture)
        boxes, scores, moves, _ = self._judge("det2", picture, boxes, 24, THRESHOLDS[1])
        keep = suppress(boxes, scores, 0.7)
        boxes = _square(_moved(boxes[keep], moves[keep]))
        boxes, scores, moves, points = self._judge("det3", picture, boxes, 48, THRESHOLDS[2])
        boxes = _moved(boxes, moves)
        keep = suppress(boxes, scores, 0.7, of_smaller=True)
        ratio = np.array([width / picture.shape[0], height / picture.shape[1]])
        return [
            _face(boxes[index] * np.tile(ratio, 2), scores[index], points[index] * ratio, width, height)
            for index in keep
        ]

    def _propose(self, picture: np.ndarray) -> np.ndarray:
        """Run det1 on all levels of the pyramid: N x 4 boxes, suppressed, moved by its regression, made square."""
        levels = [(np.empty((0, 4)), np.empty(0), np.empty((0, 4)))]
        scale = mtcnn_nets.WINDOW / MIN_FACE
        while min(picture.shape[:2]) * scale >= mtcnn_nets.WINDOW:
            boxes, scores, moves = self._level(picture, scale)
            keep = suppress(boxes, scores, 0.5)
            levels.append((boxes[keep], scores[keep], moves[keep]))
            scale *= FACTOR
        boxes, scores, moves = (np.concatenate(part) for part in zip(*levels))
        keep = suppress(boxes, scores, 0.7)
        return _square(_moved(boxes[keep], moves[keep]))

    def _level(self, picture: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run det1 on the picture at one scale: (boxes N x 4 in the picture, scores N, regressions N x 4) above the
        first threshold."""
        size = [int(np.ceil(side * scale)) for side in picture.shape[:2]]
        level = cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        score, move = self._forward("det1", level[None], "prob1", "conv4-2")
        x, y = np.nonzero(score[0, 1] >= THRESHOLDS[0])
        corner = np.stack([x, y], 1) * mtcnn_nets.STRIDE
        boxes = np.concatenate([corner, corner + mtcnn_nets.WINDOW], 1) / scale
        return boxes, score[0, 1, x, y], move[0, :, x, y]

    def _judge(
        self, name: str, picture: np.ndarray, boxes: np.ndarray, size: int, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Score square boxes by det2 or det3: (boxes N x 4 that reach the threshold, scores N, regressions N x 4,
        landmarks N x 5 x (x, y) in pixels: eyes, nose, corners of the mouth; empty from det2)."""
        last = name == "det3"
        blobs = ("prob1", "conv6-2", "conv6-3") if last else ("prob1", "conv5-2")
        kept = [(np.empty((0, 4)), np.empty(0), np.empty((0, 4)), np.empty((0, 5, 2)))]
        for start in range(0, len(boxes), BATCH):
            part = boxes[start : start + BATCH]
            score, move, *shares = self._forward(name, np.stack([_window(picture, box, size) for box in part]), *blobs)
            good = score[:, 1] >= threshold
            landmarks = _landmarks(part[good], shares[0][good]) if last else np.empty((good.sum(), 5, 2))
            kept.append((part[good], score[good, 1], move[good], landmarks))
        boxes, scores, moves, points = (np.concatenate(part) for part in zip(*kept))
        return boxes, scores, moves, points

    def _forward(self, name: str, windows: np.ndarray, *blobs: str) -> list[np.ndarray]:
        """Run N x width x height x 3 uint8 RGB windows through a net; return copies of the named blobs."""
        net = self.nets[name]
        data = (windows.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) * 0.0078125
        net.blobs["data"].reshape(*data.shape)
        net.blobs["data"].data[...] = data
        net.forward()
        return [net.blobs[blob].data.copy() for blob in blobs]


def _moved(boxes: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Move each side of N x 4 boxes by its regression, a share of the box's width or height."""
    return boxes + move * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _square(boxes: np.ndarray) -> np.ndarray:
    """The smallest squares around the boxes, about the same centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _window(picture: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Cut a box out of the picture (first axis x), black beyond its edges, and resize it to size x size x 3."""
    x1, y1, x2, y2 = np.round(box).astype(int)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    window = np.zeros((x2 - x1, y2 - y1, 3), np.uint8)
    left, top = max(x1, 0), max(y1, 0)
    inside = picture[left : max(x2, 0), top : max(y2, 0)]
    window[left - x1 : left - x1 + inside.shape[0], top - y1 : top - y1 + inside.shape[1]] = inside
    return cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA if x2 - x1 > size else cv2.INTER_LINEAR)


def _landmarks(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Landmarks N x 5 x (x, y) in pixels from det3's ten outputs: five x, then five y, as shares of the input box."""
    relative = np.stack([points[:, :5], points[:, 5:]], 2)
    return boxes[:, None, :2] + relative * (boxes[:, 2:] - boxes[:, :2])[:, None]


def _face(box: np.ndarray, score: float, points: np.ndarray, width: int, height: int) -> Face:
    """Make a Face of a box (x1, y1, x2, y2), clipped to the picture."""
    x1, y1 = np.clip(box[:2], 0, (width, height))
    x2, y2 = np.clip(box[2:], 0, (width, height))
    return Face(
        float(x1),
        float(y1),
        float(x2 - x1),
        float(y2 - y1),
        float(score),
        tuple((float(x), float(y)) for x, y in points),
    )
