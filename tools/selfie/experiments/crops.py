"""The best crop of a picture: the part of it that a run's net scores highest.

A crop is scored exactly as a file with its pixels would be: cut, squashed to a square, centre crop, mean. The net
scores pixels, not people, so a best crop may well cut the person out; the post calls those rude. Three ways to search:

    random   as in the post: uniform scale, then uniform position
    grid     all combinations of equally spaced x, y and scale
    dense    an image pyramid, then scores of the best few and of their neighbours, each the mean of several views

One window can be lucky: moved by a few pixels, or mirrored, it scores as its neighbours do. So dense takes the crop
whose mean over VIEWS is highest, and returns with it the score of its own pixels, as do the others.

Dense, in detail. For crops of w pixels the picture is resized by 256 / w; each 256-pixel window of that level is a crop
as it comes out of `image.square`. The net sees only the centre of those 256 pixels (224 or 227 of them), so the level
loses the same margin all around and goes through the convolutional net (selfie.net.surgery) once. Value j of the map
is of the window that starts at j strides of the level, that is j * stride * w / 256 pixels into the picture. w is a
multiple of 256 / stride, so these are whole pixels, and the level's pixels are bit for bit those of the crops cut one
by one. (Crops of 1024 pixels and more are halved by `image.square`; there w is a multiple of 512 / stride, and so on.)

What still differs is the border: a convolution with padding sees zeros beyond the edge of a single crop, but the
neighbouring pixels in a level. Map and exact score are equal for nets without padding and for levels of one window
(tests/experiments/test_crops.py); otherwise the map only proposes, and what is reported was scored exactly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from selfie.common import parallel
from selfie.common.errors import SelfieError
from selfie.experiments.crop_space import Pass, Space, Window, distinct, grid, level, level_size, passes, random
from selfie.net import surgery
from selfie.net.pycaffe import Net
from selfie.runs import evaluate, readings, trust
from selfie.runs.run_folder import Run

METHODS = ("dense", "grid", "random")
LEVELS_PER_OCTAVE = 3  # sizes of the pyramid between a crop and one of half its side
SAME = 0.7  # crops that overlap by more (intersection over union) count as one among the best
VIEWS = ("centre", "mirror", "top_left", "bottom_right_mirror")  # of a crop, see runs.readings; the first is itself
SEEDS, PARENTS, CHILDREN = 8, 4, 4  # of the refinement: see refine
SPREADS = (0.08, 0.06, 0.04, 0.02)  # standard deviation of its moves, round by round


@dataclass(frozen=True)
class Result:
    """The result of a search.

    original          score of the whole picture, squashed to a square where it is none
    best              (crop, exact score), best first; dense: by the mean over VIEWS
    unlike            how unlike its training selfies the net finds each of these, in percent (see selfie.runs.trust);
                      None for runs that cannot tell
    windows, scores   all crops that were looked at, evenly spread over the space; dense: scores read off the map
    forwards          pictures that went through the net, one by one
    seconds           of the search, without loading nets
    """

    space: Space
    original: float
    best: list[tuple[Window, float]]
    unlike: list[float] | None
    windows: list[Window] = field(repr=False)
    scores: np.ndarray = field(repr=False)
    forwards: int
    seconds: float


class Searcher:
    """A run's nets, loaded once, and the searches over them. SelfieError where the run cannot score."""

    def __init__(self, run: Run, gpu: int | None = None) -> None:
        self.run, self.gpu = run, gpu
        self.preprocessing = run.preprocessing
        self.net = run.net(gpu)
        self.trust = trust.of(run)
        self._convolutional: tuple[Net, int] | None = None

    def search(
        self,
        bgr: np.ndarray,
        allowed: Space,
        method: str = "dense",
        top: int = 1,
        count: int = 1000,
        steps: int = 10,
        seed: int = 0,
    ) -> Result:
        """Search an H x W x 3 uint8 BGR picture for its best crops.

        method   'random' tries `count` crops, 'grid' `steps` per parameter, 'dense' is described above
        top      how many crops to return; they overlap by at most SAME
        """
        if method not in METHODS:
            raise SelfieError(f"unknown method '{method}': choose one of {', '.join(METHODS)}")
        original = float(self.net.squared_scores([bgr])[0])
        if method == "dense":
            self.convolutional()  # loading is not searching
        start = time.perf_counter()
        if method == "dense":
            windows, scores = self.survey(bgr, allowed)
            tried, exact, mean = self.refine(bgr, allowed, windows, scores, seed)
        else:
            windows = random(allowed, count, seed) if method == "random" else grid(allowed, steps)
            scores = self.exact(bgr, windows)
            tried, exact, mean = windows, scores, scores
        best = distinct(tried, mean, top, SAME)
        return Result(
            allowed,
            original,
            [(tried[index], float(exact[index])) for index in best],
            self.unlike(bgr, [tried[index] for index in best]),
            windows,
            scores,
            len(tried) * (len(VIEWS) if method == "dense" else 1),
            time.perf_counter() - start,
        )

    def exact(self, bgr: np.ndarray, windows: list[Window]) -> np.ndarray:
        """Score each window as a file with its pixels would be: N floats in [0, 1]."""
        scores = []
        with tqdm(total=len(windows), unit="crop", leave=False, disable=None) as bar:
            for batch in parallel.batches(windows, evaluate.BATCH):
                scores.append(self.net.squared_scores([window.cut(bgr) for window in batch]))
                bar.update(len(batch))
        return np.concatenate(scores)

    def steady(self, bgr: np.ndarray, windows: list[Window]) -> tuple[np.ndarray, np.ndarray]:
        """Score each window, and the views of it: (exact scores, their means over VIEWS), N floats in [0, 1] each."""
        scores = []
        for batch in parallel.batches(windows, evaluate.BATCH):
            squares = np.stack([self.preprocessing.square(window.cut(bgr)) for window in batch])
            views = [readings.VIEWS[name].of(squares, self.preprocessing.crop) for name in VIEWS]
            scores.append([self.net.scores(view) for view in views])
        joined = np.concatenate(scores, axis=1)
        return joined[0], joined.mean(0)

    def unlike(self, bgr: np.ndarray, windows: list[Window]) -> list[float] | None:
        """Measure how unlike its training selfies the net finds each window, percent; None if the run cannot tell."""
        if self.trust is None:
            return None
        squares = np.stack([self.preprocessing.square(window.cut(bgr)) for window in windows])
        unlike = self.trust.judge(self.net, squares).unlike
        return None if unlike is None else unlike.tolist()

    def convolutional(self) -> tuple[Net, int]:
        """Return the convolutional net and how many of its strides make a picture's side; loaded when first needed."""
        if self._convolutional is None:
            conv_net = surgery.convolutional(self.run.deploy_conv, self.net.net, self.gpu)
            strides = surgery.strides_per_side(conv_net, self.preprocessing.crop, self.preprocessing.size)
            self._convolutional = conv_net, strides
        return self._convolutional

    def survey(self, bgr: np.ndarray, allowed: Space) -> tuple[list[Window], np.ndarray]:
        """List the windows of an image pyramid and their scores on the net's maps, level by level, row by row."""
        _, steps = self.convolutional()
        count = 1 + int(np.ceil(LEVELS_PER_OCTAVE * np.log2(1 / allowed.smallest)))
        largest = allowed.largest
        sizes = {
            level_size(scale * largest[0], scale * largest[1], steps, self.preprocessing.size)
            for scale in np.geomspace(1, allowed.smallest, count)
        }
        windows: list[Window] = []
        scores = []
        for width, height in tqdm(sorted(sizes, reverse=True), unit="level", leave=False, disable=None):
            for part in passes(allowed, width, height, steps, self.preprocessing):
                windows += part.windows
                scores.append(self.map(bgr, part).reshape(-1))
        if not windows:
            raise SelfieError("the face leaves no room for crops: leave --keep-face out, or take --method random")
        return windows, np.concatenate(scores)

    def map(self, bgr: np.ndarray, part: Pass) -> np.ndarray:
        """Score the windows of one forward pass of the convolutional net: rows x columns floats."""
        conv_net, steps = self.convolutional()
        size, crop, margin = self.preprocessing.size, self.preprocessing.crop, self.preprocessing.margin
        pixels = level(bgr, part, steps, self.preprocessing)[margin:, margin:]
        height, width = (side - size + crop + margin for side in pixels.shape[:2])
        mean = np.asarray(self.preprocessing.mean, np.float32)[:, None, None]
        data = pixels[:height, :width].transpose(2, 0, 1) - mean
        conv_net.blobs["data"].reshape(1, *data.shape)
        conv_net.reshape()
        conv_net.blobs["data"].data[...] = data
        conv_net.forward()
        return conv_net.blobs["prob"].data[0, 1].copy()

    def refine(
        self, bgr: np.ndarray, allowed: Space, windows: list[Window], scores: np.ndarray, seed: int
    ) -> tuple[list[Window], np.ndarray, np.ndarray]:
        """Score the best windows in several views, then random neighbours of the best so far, closer in each round.

        Returns all windows scored on the way, their exact scores, and the means over VIEWS.
        """
        generator = np.random.default_rng(seed)
        # The map's windows are multiples of a step; a move by nothing gives them the exact aspect.
        tried = [allowed.near(windows[index], 0, 0, 1) for index in distinct(windows, scores, SEEDS, SAME)]
        exact, mean = self.steady(bgr, tried)
        for spread in SPREADS:
            parents = [tried[index] for index in np.argsort(-mean, kind="stable")[:PARENTS]]
            moves = generator.normal(0, spread, (CHILDREN, 3))
            children = [
                allowed.near(parents[number % len(parents)], x, y, np.exp(growth))
                for number, (x, y, growth) in enumerate(moves)
            ]
            tried += children
            more, means = self.steady(bgr, children)
            exact, mean = np.concatenate([exact, more]), np.concatenate([mean, means])
        return tried, exact, mean
