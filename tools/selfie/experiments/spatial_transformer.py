"""A spatial transformer in front of a run's net, and gradient ascent of the score on where it looks.

The transformer (Jaderberg et al. 2015, arXiv:1506.02025; a Caffe layer of ours, docker/caffe) shows the net a glimpse
of the picture through an affine transformation theta, six numbers (a, b, c, d, e, f). In coordinates from -1 to 1
across picture and glimpse the glimpse's pixel (u, v) shows the picture at (a u + b v + c, d u + e v + f). "The glimpse"
is the 256 x 256 picture that a file becomes when it is scored, so (1, 0, 0, 0, 1, 0) is the whole picture, squashed to
a square, and (s, 0, x, 0, s, y) a crop of the picture's own aspect; the net sees the glimpse's centre, as always.
Scores are those of the same crop cut out and scored as a file, up to the rounding to whole grey levels on the way.
Where a run reduces pictures to less detail, the glimpse is averaged in the net and a second transformer enlarges it.

The post tried this, and it got stuck or drifted; to constrain it to scale and translation did not help.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import trange

from selfie.common import plots
from selfie.common.errors import SelfieError
from selfie.data.image import Preprocessing
from selfie.experiments import crop_space, crops
from selfie.net import gradient, pycaffe
from selfie.net.pycaffe import Message
from selfie.runs.run_folder import Run

FREE = np.eye(6)
SCALE_AND_SHIFT = np.array([[1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]], float)  # (s, x, y) -> theta


class Glimpses:
    """A run's net that looks at one H x W x 3 uint8 BGR picture through transformations."""

    def __init__(self, run: Run, bgr: np.ndarray, gpu: int | None = None) -> None:
        message = pycaffe.read_net(run.deploy)
        self.odds = next(layer for layer in message.layer if layer.type == "Softmax").bottom[0]
        part = _with_transformer(gradient.up_to(message, self.odds), bgr.shape, run.preprocessing)
        self.net = gradient.load(part, run.caffemodel, gpu)
        mean = np.asarray(run.preprocessing.mean, np.float32)
        self.net.blobs["image"].data[...] = (bgr - mean).transpose(2, 0, 1)
        self._centre = centre(run.preprocessing)
        self._reduced = run.preprocessing.detail > 0

    def look(self, theta: np.ndarray) -> np.ndarray:
        """Compute the log-odds of *good* for N x 6 transformations: N floats, whose logistic function is the score."""
        values = {"theta": theta if self._reduced else (theta.reshape(-1, 2, 3) @ self._centre).reshape(-1, 6)}
        if self._reduced:
            values["centre"] = np.tile(self._centre[:2].reshape(1, 6), (len(theta), 1))
        for name in values:
            self.net.blobs[name].reshape(len(theta), 6)
        self.net.reshape()
        for name, numbers in values.items():
            self.net.blobs[name].data[...] = numbers
        self.net.forward()
        bad, good = self.net.blobs[self.odds].data.reshape(len(theta), 2).T
        return (good - bad).astype(float)

    def slope(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the log-odds (N) of N x 6 transformations, and their gradient with respect to theta, N x 6."""
        odds = self.look(theta)
        diff = self.net.blobs[self.odds].diff
        diff[...] = np.reshape([-1, 1], (1, 2) + (1,) * (diff.ndim - 2))
        self.net.backward()
        down = self.net.blobs["theta"].diff.reshape(-1, 2, 3).astype(float)
        return odds, (down if self._reduced else down @ self._centre.T).reshape(-1, 6)


def _with_transformer(message: Message, shape: tuple[int, ...], preprocessing: Preprocessing) -> Message:
    """Return the net with its "data" made of the blobs "image" (of a picture's shape, H x W x 3) and "theta".

    With a detail: of "centre" as well, the transformation that cuts the net's input out of the reduced glimpse.
    SelfieError for a detail that does not divide the size.
    """
    part = type(message)()
    part.layer.add(name="image", type="Input", top=["image"]).input_param.shape.add(dim=[1, 3, *shape[:2]])
    size, detail, crop = preprocessing.size, preprocessing.detail, preprocessing.crop
    if not detail:
        _transform(part, "data", "image", "theta", crop)
    elif size % detail:
        raise SelfieError(f"a detail of {detail} pixels does not divide {size}: the transformer cannot reduce to it")
    else:
        _transform(part, "glimpse", "image", "theta", size)
        mean = part.layer.add(name="reduced", type="Pooling", bottom=["glimpse"], top=["reduced"]).pooling_param
        mean.pool, mean.kernel_size, mean.stride = mean.AVE, size // detail, size // detail
        _transform(part, "data", "reduced", "centre", crop)
    part.layer.extend(layer for layer in message.layer if layer.type != "Input")
    return part


def _transform(part: Message, name: str, picture: str, theta: str, side: int) -> None:
    """Append a transformer that makes side x side pixels of the blob `picture` by the input `theta`, N x 6."""
    part.layer.add(name=theta, type="Input", top=[theta]).input_param.shape.add(dim=[1, 6])
    layer = part.layer.add(name=name, type="SpatialTransformer", bottom=[picture, theta], top=[name])
    layer.spatial_transformer_param.output_h = layer.spatial_transformer_param.output_w = side


def centre(preprocessing: Preprocessing) -> np.ndarray:
    """Return the 3 x 3 map from coordinates of the net's input to those of the square picture that it is cut out of."""
    crop, size = preprocessing.crop, preprocessing.size
    share, shift = crop / size, (2 * preprocessing.margin + crop) / size - 1
    return np.array([[share, 0, shift], [0, share, shift], [0, 0, 1]])


def score(odds: np.ndarray) -> np.ndarray:
    """Turn log-odds into probabilities: the logistic function."""
    return 1 / (1 + np.exp(-odds))


@dataclass(frozen=True)
class Ascent:
    """Paths of a gradient ascent: thetas is (steps + 1) x starts x 6, scores (steps + 1) x starts."""

    thetas: np.ndarray
    scores: np.ndarray
    seconds: float

    def report(self) -> dict:
        """Return what is worth keeping as JSON.

        starts, ends   scores of each path's first and last glimpse
        beyond         share, in [0, 1], of each last glimpse that lies beyond the edges of the picture
        seconds, thetas   of the whole ascent; the paths themselves
        """
        return {
            "starts": self.scores[0].tolist(),
            "ends": self.scores[-1].tolist(),
            "beyond": [outside(theta) for theta in self.thetas[-1]],
            "seconds": self.seconds,
            "thetas": self.thetas.round(5).tolist(),
        }


def starts(count: int, min_scale: float, seed: int) -> np.ndarray:
    """Draw count x 3 crops (s, x, y): the whole picture, then at random, uniform in scale and in position."""
    shares = np.random.default_rng(seed).random((count, 3))
    scale = min_scale + shares[:, 0] * (1 - min_scale)
    places = np.column_stack([scale, *((2 * shares[:, axis] - 1) * (1 - scale) for axis in (1, 2))])
    places[0] = 1, 0, 0
    return places


def ascend(glimpses: Glimpses, begin: np.ndarray, steps: int, step: float, min_scale: float | None = None) -> Ascent:
    """Follow the gradient of the log-odds upwards from each of the crops `begin`, N x 3.

    All steps have the same length in the parameters, but for a decay to zero along a cosine: `step` is the first one's,
    in half pictures. Without min_scale it is free in all six; with it, in scale (from min_scale to 1) and translation
    (within the picture) alone.
    """
    begun = time.perf_counter()
    directions = FREE if min_scale is None else SCALE_AND_SHIFT
    place = begin @ SCALE_AND_SHIFT if min_scale is None else begin.copy()
    thetas, scores = [], []
    for number in trange(steps + 1, unit="step", desc=f"{len(directions)} parameters", leave=False, disable=None):
        theta = place @ directions
        odds, slope = glimpses.slope(theta)
        thetas.append(theta)
        scores.append(score(odds))
        slope = slope @ directions.T
        length = np.linalg.norm(slope, axis=1, keepdims=True)
        rate = step * (1 + np.cos(np.pi * number / steps)) / 2
        place = place + rate * slope / np.maximum(length, np.finfo(float).tiny)
        if min_scale is not None:
            place = bounded(place, min_scale)
    return Ascent(np.array(thetas), np.array(scores), time.perf_counter() - begun)


def bounded(place: np.ndarray, min_scale: float) -> np.ndarray:
    """Move N x 3 crops (s, x, y) to the nearest allowed scale, and then to the nearest position in the picture."""
    scale = place[:, :1].clip(min_scale, 1)
    return np.hstack([scale, place[:, 1:].clip(scale - 1, 1 - scale)])


def compare(
    run: Run,
    bgr: np.ndarray,
    *,
    paths: int = 8,
    steps: int = 60,
    step: float = 0.05,
    min_scale: float = 0.4,
    count: int = 1000,
    grid: int = 10,
    seed: int = 2015,
    gpu: int | None = None,
) -> tuple[dict[str, Ascent], dict[str, crops.Result]]:
    """Ascend twice, free and bounded, from the same `paths` starts; search the same crops at random and on a grid.

    SelfieError if the picture is smaller than the net's input.
    """
    height, width = bgr.shape[:2]
    allowed = crop_space.space(bgr, run.preprocessing.crop, width / height, min_scale)
    glimpses, begin = Glimpses(run, bgr, gpu), starts(paths, min_scale, seed)
    ascents = {
        "gradient, 6 parameters": ascend(glimpses, begin, steps, step),
        "gradient, scale and translation": ascend(glimpses, begin, steps, step, min_scale),
    }
    searcher = crops.Searcher(run, gpu)
    return ascents, {
        method: searcher.search(bgr, allowed, method, count=count, steps=grid, seed=seed)
        for method in ("random", "grid")
    }


def outside(theta: np.ndarray, samples: int = 64) -> float:
    """Estimate the share of a glimpse, in [0, 1], that shows nothing, being beyond the edges of the picture."""
    line = (np.arange(samples) + 0.5) * 2 / samples - 1
    u, v = np.meshgrid(line, line)
    places = theta.reshape(2, 3) @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    return float((np.abs(places) > 1).any(axis=0).mean())


def corners(theta: np.ndarray, width: int, height: int) -> np.ndarray:
    """Locate a glimpse's corners in the picture, in pixels: 5 x 2, around it and back to the first."""
    square = np.array([[-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], [1, 1, 1, 1, 1]])
    return ((theta.reshape(2, 3) @ square + 1) / 2 * [[width], [height]]).T


def draw(path: Path, bgr: np.ndarray, ascents: dict[str, Ascent], searches: dict[str, crops.Result]) -> None:
    """Draw the paths.

    Above: each path's centre over the picture, its first glimpse dotted, its last one drawn. Below: the score along
    the paths, beside what the other searches reached.
    """
    height, width = bgr.shape[:2]
    with plots.figure(path, 2, len(ascents), width=5.5 * len(ascents), height=9) as axes:
        for (name, ascent), above, below in zip(ascents.items(), *np.reshape(axes, (2, -1))):
            above.imshow(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), alpha=0.6)
            above.set_title(name, fontsize=10)
            for number in range(ascent.scores.shape[1]):
                colour, thetas = f"C{number}", ascent.thetas[:, number]
                middle = (thetas[:, [2, 5]] + 1) / 2 * [width, height]
                above.plot(*corners(thetas[0], width, height).T, color=colour, linestyle=":", linewidth=1)
                above.plot(*corners(thetas[-1], width, height).T, color=colour, linewidth=1.5)
                above.plot(*middle.T, color=colour, marker=".", markersize=2)
                above.plot(*middle[-1], color=colour, marker="o")
                below.plot(100 * ascent.scores[:, number], color=colour)
            above.set_xlim(-0.3 * width, 1.3 * width)
            above.set_ylim(1.3 * height, -0.3 * height)
            above.axis("off")
            for line, (label, result) in zip(("--", ":"), searches.items()):
                level = 100 * result.best[0][1]
                below.axhline(level, color="black", linestyle=line, label=f"{label} search: {level:.1f}")
            below.set_xlabel("step")
            below.set_ylabel("score, %")
            below.legend(fontsize=8)
