"""Face detection by MTCNN, run by our own Caffe.

K. Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016
(arXiv:1604.02878). Three small nets, each stricter than the one before: det1 scores every 12 x 12 window of
an image pyramid in one forward pass per level, det2 (24 x 24) and det3 (48 x 48) score what is left; each also
regresses its boxes, and det3 finds five landmarks.

The released weights were trained in MATLAB: channels are RGB, and height and width are swapped. So the picture
is transposed once, on entry, and its first axis is x from then on; the nets' outputs are in plain x and y again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from selfie.common import parallel, paths
from selfie.common.boxes import suppress
from selfie.common.errors import SelfieError
from selfie.faces import geometry, pyramid
from selfie.faces.face import Face
from selfie.net import caffe_net, mtcnn_nets, pycaffe, weights

MAX_SIDE = 360  # pixels; a picture with a longer side is reduced to this first
MIN_FACE = 20  # pixels of the reduced picture: no head of a selfie is smaller than an eighteenth of it
FACTOR = 0.709  # from one level of the pyramid to the next: half the area
# Least score after det1, det2, det3. The release's last one is 0.7; with 0.85 as many of the best 100 tiles have a face
# (93), and of 470 crops of scikit-image's pictures without people 2 have one instead of 13. Both numbers were looked
# at while choosing 0.85 and MAX_SIDE, so on other pictures expect a little less.
THRESHOLDS = (0.6, 0.7, 0.85)
LEVEL_PIXELS = 50_000  # of levels of the pyramid in a forward pass of det1: what stays in a core's cache
BATCH = {"det2": 32, "det3": 8}  # windows per forward pass: always as many, since for another number Caffe plans anew
PICTURES = 32  # that are looked at together


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


class View(NamedTuple):
    """A picture as the nets see it: `picture` reduced, RGB, its first axis x; and the size that it had."""

    picture: np.ndarray
    width: int
    height: int


class Judged(NamedTuple):
    """Boxes (N x 4) that a net let pass, each with its score, regression (4), landmarks (5 x 2) and picture's number.

    Landmarks, of det3 only, are (x, y) in pixels: eyes, nose, corners of the mouth.
    """

    boxes: np.ndarray
    scores: np.ndarray
    moves: np.ndarray
    points: np.ndarray
    owners: np.ndarray

    def of(self, number: int) -> Judged:
        """Choose those of one picture."""
        return Judged(*(part[self.owners == number] for part in self))


class Detector:
    """MTCNN with its nets loaded; call it with H x W x 3 uint8 BGR for a list of Face, best score first.

    `many` takes several pictures together, and finds the same in less time. min_share: of the picture's longer side,
    the smallest face to look for; MIN_FACE is the least anyway, and levels of the pyramid are a factor of 1.4 apart.
    SelfieError when Caffe or the weights are missing. Not for several threads at once.
    """

    def __init__(self, min_share: float = 0) -> None:
        folder = _checked_weights()
        self.min_share = min_share
        self.nets = {
            name: caffe_net.load(paths.PROTOTXT / "mtcnn" / f"{name}.prototxt", folder / f"{name}.caffemodel")
            for name in mtcnn_nets.FILES
        }

    def __call__(self, bgr: np.ndarray) -> list[Face]:
        return self._detect([_view(bgr)])[0]

    def many(self, pictures: Iterable[np.ndarray]) -> list[list[Face]]:
        """Find the faces of each picture; what is held of a picture is what it was reduced to."""
        views = map(_view, pictures)
        return [faces for batch in parallel.batches(views, PICTURES) for faces in self._detect(batch)]

    def _detect(self, views: list[View]) -> list[list[Face]]:
        pictures = [view.picture for view in views]
        passed = self._judge("det2", pictures, self._propose(pictures), 24, THRESHOLDS[1])
        boxes = []
        for number in range(len(views)):
            own = passed.of(number)
            keep = suppress(own.boxes, own.scores, 0.7)
            boxes.append(geometry.square(geometry.moved(own.boxes[keep], own.moves[keep])))
        passed = self._judge("det3", pictures, boxes, 48, THRESHOLDS[2])
        return [_faces(passed.of(number), view) for number, view in enumerate(views)]

    def _propose(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        """Run det1 on all levels of the pyramids: for each picture N x 4 boxes, suppressed, moved by its regression,
        made square."""
        found: list[list[tuple]] = [[(np.empty((0, 4)), np.empty(0), np.empty((0, 4)))] for _ in pictures]
        alike: dict[tuple[int, ...], list[int]] = {}
        for number, picture in enumerate(pictures):
            alike.setdefault(picture.shape[:2], []).append(number)
        for shape, numbers in alike.items():
            scales = [*self._scales(shape)]
            sizes = [(int(np.ceil(shape[0] * scale)), int(np.ceil(shape[1] * scale))) for scale in scales]
            pyramids = [pyramid.levels(pictures[number], sizes) for number in numbers] if sizes else []
            for size, scale, levels in zip(sizes, scales, zip(*pyramids)):
                for batch in parallel.batches(zip(numbers, levels), max(1, LEVEL_PIXELS // (size[0] * size[1]))):
                    for place, proposed in self._level([level for _, level in batch], scale):
                        found[batch[place][0]].append(proposed)
        return [_merged(proposals) for proposals in found]

    def _scales(self, shape: tuple[int, ...]) -> Iterator[float]:
        """Yield the scale of each level of a picture's pyramid, from the smallest face to the largest."""
        scale = mtcnn_nets.WINDOW / MIN_FACE
        while min(shape) * scale >= mtcnn_nets.WINDOW:
            if mtcnn_nets.WINDOW / scale >= self.min_share * max(shape):
                yield scale
            scale *= FACTOR

    def _level(self, levels: list[np.ndarray], scale: float) -> Iterator[tuple[int, tuple]]:
        """Run det1 on pictures of equal size, reduced by one scale. Yield of each in which something reaches the first
        threshold its place and (boxes N x 4 in the picture, scores N, regressions N x 4), suppressed."""
        score, move = self._forward("det1", np.stack(levels), "prob1", "conv4-2")
        good = score[:, 1] >= THRESHOLDS[0]
        for place in np.flatnonzero(good.any((1, 2))).tolist():
            x, y = np.nonzero(good[place])
            scores = score[place, 1, x, y]
            corner = np.stack([x, y], 1) * mtcnn_nets.STRIDE
            boxes = np.concatenate([corner, corner + mtcnn_nets.WINDOW], 1) / scale
            keep = suppress(boxes, scores, 0.5)
            yield place, (boxes[keep], scores[keep], move[place][:, x[keep], y[keep]].T)

    def _judge(
        self, name: str, pictures: list[np.ndarray], boxes: list[np.ndarray], size: int, threshold: float
    ) -> Judged:
        """Score square boxes of pictures by det2 or det3, and choose those that reach the threshold."""
        last = name == "det3"
        blobs = ("prob1", "conv6-2", "conv6-3") if last else ("prob1", "conv5-2")
        owners, every, count = np.repeat(np.arange(len(boxes)), [*map(len, boxes)]), np.concatenate(boxes), BATCH[name]
        kept = [Judged(np.empty((0, 4)), np.empty(0), np.empty((0, 4)), np.empty((0, 5, 2)), owners[:0])]
        windows = np.zeros((count, size, size, 3), np.uint8)
        for start in range(0, len(every), count):
            part = every[start : start + count]
            for place, (box, owner) in enumerate(zip(np.round(part).astype(int).tolist(), owners[start:])):
                windows[place] = geometry.window(pictures[owner], box, size)
            score, move, *shares = (values[: len(part)] for values in self._forward(name, windows, *blobs))
            good = score[:, 1] >= threshold
            points = geometry.landmarks(part[good], shares[0][good]) if last else np.empty((good.sum(), 5, 2))
            own = owners[start : start + count][good]
            kept.append(Judged(part[good], score[good, 1], move[good], points, own))
        return Judged(*(np.concatenate(parts) for parts in zip(*kept)))

    def _forward(self, name: str, windows: np.ndarray, *blobs: str) -> list[np.ndarray]:
        """Run N x width x height x 3 uint8 RGB windows through a net.

        Returns views of the named blobs, which hold until the net runs again.
        """
        net = self.nets[name]
        count, width, height, _ = windows.shape
        data = net.blobs["data"]
        if tuple(data.shape) != (count, 3, width, height):
            data.reshape(count, 3, width, height)
        values = data.data
        for channel, plane in enumerate(cv2.split(windows.reshape(count * width, height, 3))):
            values[:, channel] = plane.reshape(count, width, height)
        np.subtract(values, 127.5, out=values)
        np.multiply(values, 0.0078125, out=values)
        net.forward()
        return [net.blobs[blob].data for blob in blobs]


def _view(bgr: np.ndarray) -> View:
    """Reduce a picture to MAX_SIDE, and transpose it: from here on the first axis is x, the second y, as the nets want
    it, and boxes are x1, y1, x2, y2 all along."""
    height, width = bgr.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale < 1:
        bgr = cv2.resize(
            bgr, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
        )
    return View(cv2.transpose(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)), width, height)


def _merged(levels: list[tuple]) -> np.ndarray:
    """Suppress the boxes of all levels of a picture, move them and make them square: N x 4."""
    boxes, scores, moves = (np.concatenate(part) for part in zip(*levels))
    keep = suppress(boxes, scores, 0.7)
    return geometry.square(geometry.moved(boxes[keep], moves[keep]))


def _faces(passed: Judged, view: View) -> list[Face]:
    """Make faces, in the picture's own pixels, of what passed det3."""
    boxes = geometry.moved(passed.boxes, passed.moves)
    ratio = np.array([view.width / view.picture.shape[0], view.height / view.picture.shape[1]])
    return [
        geometry.face(
            boxes[index] * np.tile(ratio, 2),
            passed.scores[index],
            passed.points[index] * ratio,
            view.width,
            view.height,
        )
        for index in suppress(boxes, passed.scores, 0.7, of_smaller=True)
    ]
