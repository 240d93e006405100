"""The best crop of a picture: which part of it would the net score highest?

A crop is scored exactly as a file with its pixels would be: cut, squashed to 256 x 256, centre crop, mean.

Geometry. Crops have one aspect; `scale` is their side relative to the largest crop of that aspect in the picture. Three
ways to search:

    random   as in the post: uniform scale, then uniform position
    grid     all combinations of equally spaced x, y and scale
    dense    an image pyramid, then exact scores of the best few and of their neighbours

Dense, in detail. For crops of w pixels the picture is resized by 256 / w; each 256-pixel window of that level is a crop
as it comes out of `image.square`. The net sees only the centre of those 256 pixels (224 or 227 of them), so the level
loses the same margin all around and goes through the convolutional net (selfie.surgery) once. Value j of the map is of
the window that starts at j strides of the level, that is j * stride * w / 256 pixels into the picture. w is a multiple
of 256 / stride, so these are whole pixels, and the level's pixels are bit for bit those of the crops cut one by one.
(Crops of 1024 pixels and more are halved by `image.square`; there w is a multiple of 512 / stride, and so on.)

What still differs is the border: a convolution with padding sees zeros beyond the edge of a single crop, but the
neighbouring pixels in a level. Map and exact score are equal for nets without padding and for levels of one window
(tests/test_crops.py); otherwise the map only proposes, and what is reported was scored exactly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from selfie.common import parallel, plots
from selfie.common.boxes import suppress
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.image import Preprocessing
from selfie.faces.face import Detector
from selfie.net import surgery
from selfie.net.pycaffe import Net
from selfie.runs import evaluate
from selfie.runs.run_folder import Run

METHODS = ("dense", "grid", "random")
MIN_SCALE = 0.4
LEVELS_PER_OCTAVE = 3  # sizes of the pyramid between a crop and one of half its side
PASS_SIDE = 768  # pixels of the largest network input: VGG16 fills 4.2 GB with it, beside its weights
SAME = 0.7  # crops that overlap by more (intersection over union) count as one among the best
SEEDS, PARENTS, CHILDREN = 12, 4, 8  # of the refinement: see refine
SPREADS = (0.06, 0.04, 0.02, 0.01, 0.005)  # standard deviation of its moves, round by round


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, bgr: np.ndarray) -> np.ndarray:
        """Its pixels (a view)."""
        return bgr[self.top : self.top + self.height, self.left : self.left + self.width]

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2; the last two just outside."""
        return self.left, self.top, self.left + self.width, self.top + self.height


@dataclass(frozen=True)
class Space:
    """The crops of one picture that are allowed; make it with `space`, which checks it.

    width, height   of the picture, pixels
    aspect          width / height of the crops
    min_scale       of the smallest crops, (0, 1]
    keep            a part of the picture that each crop must hold, or None
    """

    width: int
    height: int
    aspect: float = 1.0
    min_scale: float = MIN_SCALE
    keep: Window | None = None

    @property
    def largest(self) -> tuple[float, float]:
        """Width and height of a crop of scale 1."""
        return min(self.width, self.height * self.aspect), min(self.height, self.width / self.aspect)

    @property
    def smallest(self) -> float:
        """The smallest scale: min_scale, unless what must be kept needs more."""
        kept = (self.keep.width, self.keep.height) if self.keep else (0, 0)
        return max(self.min_scale, *(part / whole for part, whole in zip(kept, self.largest)))

    def room(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last left, first and last top of crops of that size; first > last where there are none."""
        first, last = (0, 0), (self.width - width, self.height - height)
        if self.keep:
            x1, y1, x2, y2 = self.keep.corners
            first = max(0, x2 - width), max(0, y2 - height)
            last = min(last[0], x1), min(last[1], y1)
        return (first[0], last[0]), (first[1], last[1])

    def window(self, x: float, y: float, scale: float) -> Window:
        """The crop of a scale at x, y in [0, 1]: shares of the room that its left and top have."""
        width, height = (max(1, round(scale * side)) for side in self.largest)
        return self._placed(width, height, lambda first, last, share: first + share * (last - first), x, y)

    def near(self, window: Window, x: float, y: float, growth: float) -> Window:
        """A crop beside `window`: its centre moved by shares of its sides, its scale multiplied, within the space."""
        scale = np.clip(window.width / self.largest[0] * growth, self.smallest, 1)
        width, height = (max(1, round(scale * side)) for side in self.largest)
        left = window.left + x * window.width + (window.width - width) / 2
        top = window.top + y * window.height + (window.height - height) / 2
        return self._placed(width, height, lambda first, last, wanted: np.clip(wanted, first, last), left, top)

    def _placed(self, width: int, height: int, place, x: float, y: float) -> Window:
        (left, right), (top, bottom) = self.room(width, height)
        return Window(round(place(left, right, x)), round(place(top, bottom, y)), width, height)

    def relative(self, window: Window) -> dict[str, float]:
        """x, y of the window's corner as shares of the picture, and its scale."""
        return {"x": window.left / self.width, "y": window.top / self.height, "scale": window.width / self.largest[0]}


@dataclass(frozen=True)
class Result:
    """What a search found.

    original   score of the whole picture, squashed to a square where it is none
    best       (crop, exact score), best first
    windows, scores   all crops that were looked at, evenly spread over the space; dense: scores read off the map
    forwards   exact scores that were computed;   seconds   of the search, without loading nets
    """

    space: Space
    original: float
    best: list[tuple[Window, float]]
    windows: list[Window] = field(repr=False)
    scores: np.ndarray = field(repr=False)
    forwards: int
    seconds: float


def space(
    bgr: np.ndarray, crop: int, aspect: float = 1.0, min_scale: float = MIN_SCALE, keep: Window | None = None
) -> Space:
    """The allowed crops of a picture. SelfieError if it is smaller than the net's input or nothing can be cut off."""
    height, width = bgr.shape[:2]
    if min(width, height) < crop:
        raise SelfieError(
            f"the picture has {width} x {height} pixels, less than the net's input of {crop} x "
            f"{crop}: take a larger one"
        )
    allowed = Space(width, height, aspect, min_scale, keep)
    if allowed.smallest > 1:
        raise SelfieError("the face is too large for a crop of this aspect: leave --keep-face out, or change --aspect")
    return allowed


def face(bgr: np.ndarray, detect: Detector) -> Window:
    """The largest face, in whole pixels. SelfieError if none is found."""
    found = detect(bgr)
    if not found:
        raise SelfieError("no face was found: leave --keep-face out")
    largest = max(found, key=lambda one: one.w * one.h)
    left, top = max(0, int(largest.x)), max(0, int(largest.y))
    right = min(bgr.shape[1], int(np.ceil(largest.x + largest.w)))
    bottom = min(bgr.shape[0], int(np.ceil(largest.y + largest.h)))
    return Window(left, top, right - left, bottom - top)


def random(allowed: Space, count: int, seed: int = 0) -> list[Window]:
    """`count` crops: uniform scale, then uniform position."""
    shares = np.random.default_rng(seed).random((count, 3))
    return [allowed.window(x, y, allowed.smallest + share * (1 - allowed.smallest)) for x, y, share in shares]


def grid(allowed: Space, steps: int) -> list[Window]:
    """All combinations of `steps` scales, lefts and tops, equally spaced; those that coincide are there once."""
    shares = np.linspace(0, 1, steps) if steps > 1 else [0.5]
    return list(
        dict.fromkeys(
            allowed.window(x, y, scale)
            for scale in np.linspace(1, allowed.smallest, steps)
            for y in shares
            for x in shares
        )
    )


@dataclass(frozen=True)
class Pass:
    """Windows that one forward of the convolutional net scores: `rows` x `columns`, one step apart."""

    first: Window  # top left
    rows: int
    columns: int
    step: tuple[int, int]  # pixels to the right, pixels down

    @property
    def windows(self) -> list[Window]:
        return [
            Window(
                self.first.left + column * self.step[0],
                self.first.top + row * self.step[1],
                self.first.width,
                self.first.height,
            )
            for row in range(self.rows)
            for column in range(self.columns)
        ]

    @property
    def region(self) -> Window:
        """All the pixels they cover."""
        return Window(
            self.first.left,
            self.first.top,
            self.first.width + (self.columns - 1) * self.step[0],
            self.first.height + (self.rows - 1) * self.step[1],
        )


def passes(allowed: Space, width: int, height: int, steps: int, preprocessing: Preprocessing) -> list[Pass]:
    """The windows of one size (see level_size), `steps` to a side, spread over the room; none where it is empty.

    What the last step leaves over is left free on both sides: every allowed position is at most half a step away. Large
    levels are cut into several passes, so that memory does not depend on the picture.
    """
    step = width // steps, height // steps
    most = 1 + (PASS_SIDE - preprocessing.crop) * steps // preprocessing.size
    lefts, tops = (
        [first + (last - first) % stride // 2 + number * stride for number in range((last - first) // stride + 1)]
        for (first, last), stride in zip(allowed.room(width, height), step)
    )
    return [
        Pass(Window(left[0], top[0], width, height), len(top), len(left), step)
        for top in parallel.batches(tops, most)
        for left in parallel.batches(lefts, most)
    ]


class Searcher:
    """A run's nets, loaded once, and the searches over them. SelfieError where the run cannot score."""

    def __init__(self, run: Run, gpu: int | None = None) -> None:
        self.run, self.gpu = run, gpu
        self.preprocessing = run.preprocessing
        self.net = run.net(gpu)
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
        """The best crops of an H x W x 3 uint8 BGR picture.

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
            tried, exact = self.refine(bgr, allowed, windows, scores, seed)
        else:
            windows = random(allowed, count, seed) if method == "random" else grid(allowed, steps)
            scores = self.exact(bgr, windows)
            tried, exact = windows, scores
        best = distinct(tried, exact, top, SAME)
        return Result(
            allowed,
            original,
            [(tried[index], float(exact[index])) for index in best],
            windows,
            scores,
            len(tried),
            time.perf_counter() - start,
        )

    def exact(self, bgr: np.ndarray, windows: list[Window]) -> np.ndarray:
        """The score of each window, as of a file with its pixels: N floats in [0, 1]."""
        found = []
        with tqdm(total=len(windows), unit="crop", leave=False, disable=None) as bar:
            for batch in parallel.batches(windows, evaluate.BATCH):
                found.append(self.net.squared_scores([window.cut(bgr) for window in batch]))
                bar.update(len(batch))
        return np.concatenate(found)

    def convolutional(self) -> tuple[Net, int]:
        """Return the convolutional net and how many of its strides make a picture's side; loaded when first needed."""
        if self._convolutional is None:
            conv_net = surgery.convolutional(self.run.deploy_conv, self.net.net, self.gpu)
            strides = surgery.strides_per_side(conv_net, self.preprocessing.crop, self.preprocessing.size)
            self._convolutional = conv_net, strides
        return self._convolutional

    def survey(self, bgr: np.ndarray, allowed: Space) -> tuple[list[Window], np.ndarray]:
        """All windows of an image pyramid and their scores on the net's maps, level by level, row by row."""
        _, steps = self.convolutional()
        count = 1 + int(np.ceil(LEVELS_PER_OCTAVE * np.log2(1 / allowed.smallest)))
        sizes = {
            level_size(*(scale * side for side in allowed.largest), steps, self.preprocessing.size)
            for scale in np.geomspace(1, allowed.smallest, count)
        }
        windows, scores = [], []
        for width, height in tqdm(sorted(sizes, reverse=True), unit="level", leave=False, disable=None):
            for part in passes(allowed, width, height, steps, self.preprocessing):
                windows += part.windows
                scores.append(self.map(bgr, part).reshape(-1))
        if not windows:
            raise SelfieError("the face leaves no room for crops: leave --keep-face out, or take --method random")
        return windows, np.concatenate(scores)

    def map(self, bgr: np.ndarray, part: Pass) -> np.ndarray:
        """Scores of the windows of one pass, rows x columns, from one forward of the convolutional net."""
        conv_net, steps = self.convolutional()
        size, crop, margin = self.preprocessing.size, self.preprocessing.crop, self.preprocessing.margin
        pixels = level(bgr, part, steps, size)[margin:, margin:]
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
    ) -> tuple[list[Window], np.ndarray]:
        """Exact scores of the best windows, then of random neighbours of the best so far, closer in each round.

        Returns all windows scored on the way, and their scores.
        """
        generator = np.random.default_rng(seed)
        # The map's windows are multiples of a step; a move by nothing gives them the exact aspect.
        tried = [allowed.near(windows[index], 0, 0, 1) for index in distinct(windows, scores, SEEDS, SAME)]
        exact = self.exact(bgr, tried)
        for spread in SPREADS:
            parents = [tried[index] for index in np.argsort(-exact, kind="stable")[:PARENTS]]
            moves = generator.normal(0, spread, (CHILDREN, 3))
            children = [
                allowed.near(parents[number % len(parents)], x, y, np.exp(growth))
                for number, (x, y, growth) in enumerate(moves)
            ]
            tried += children
            exact = np.concatenate([exact, self.exact(bgr, children)])
        return tried, exact


def level_size(width: float, height: float, steps: int, size: int) -> tuple[int, int]:
    """The largest windows of at most that size whose steps are whole pixels, also after image.square's halving."""
    unit = steps * image.halving(int(min(width, height)), size)
    return max(1, int(width) // unit) * unit, max(1, int(height) // unit) * unit


def level(bgr: np.ndarray, part: Pass, steps: int, size: int) -> np.ndarray:
    """Resize the picture so that each window of a pass has size x size pixels; they are size / steps pixels apart."""
    sides = [size + size // steps * (count - 1) for count in (part.columns, part.rows)]
    halved = image.reduced(part.region.cut(bgr), image.halving(min(part.first.width, part.first.height), size))
    return cv2.resize(halved, sides, interpolation=cv2.INTER_LINEAR)


def distinct(windows: list[Window], scores: np.ndarray, count: int, overlap: float) -> np.ndarray:
    """Indices of the best `count` windows of which no two overlap by more than `overlap`, best first."""
    return suppress(np.array([window.corners for window in windows], float), scores, overlap)[:count]


# --- pictures --------------------------------------------------------------------------------------------------------


def heat(result: Result) -> np.ndarray:
    """height x width: correlation, over the crops that were looked at, of holding a pixel with the score: in [-1, 1].

    NaN where all crops hold the pixel, or none does.
    """
    sums = np.zeros((2, result.space.height + 1, result.space.width + 1))
    apart = np.asarray(result.scores, np.float64)
    apart = apart - apart.mean()
    for window, value in zip(result.windows, apart):
        x1, y1, x2, y2 = window.corners
        for x, y, sign in ((x1, y1, 1), (x2, y1, -1), (x1, y2, -1), (x2, y2, 1)):
            sums[:, y, x] += sign * value, sign
    total, number = sums.cumsum(1).cumsum(2)[:, :-1, :-1] / len(apart)
    share = np.round(number * len(apart)) / len(apart)
    scale = np.sqrt(share * (1 - share)) * apart.std()
    return np.divide(total, scale, out=np.full_like(total, np.nan), where=scale > 0)


def draw_heat(path: Path, bgr: np.ndarray, result: Result) -> None:
    """The picture in gray under its heat map, with the best crop outlined."""
    values, gray = heat(result), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    limit = np.abs(np.nan_to_num(values)).max() or 1
    x1, y1, x2, y2 = result.best[0][0].corners
    with plots.figure(path, width=6.4, height=5.2 * bgr.shape[0] / bgr.shape[1] + 0.4) as axis:
        axis.imshow(gray, cmap="gray", vmin=0, vmax=255)
        drawn = axis.imshow(values, cmap="RdYlBu_r", alpha=0.55, vmin=-limit, vmax=limit)
        axis.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="black", linewidth=1.5)
        axis.set_title("red: crops with this part score higher (correlation); outlined: the best crop", fontsize=9)
        axis.axis("off")
        axis.figure.colorbar(drawn, ax=axis, shrink=0.8).solids.set_alpha(1)


def draw_before_after(path: Path, pairs: list[tuple[np.ndarray, Result]]) -> None:
    """Each picture and its best crops side by side with their scores above, one row per picture, as in the post."""
    columns = 1 + max(len(result.best) for _, result in pairs)
    with plots.figure(path, len(pairs), columns, width=2.6 * columns, height=2.9 * len(pairs)) as axes:
        for row, (bgr, result) in zip(np.reshape(axes, (len(pairs), columns)), pairs):
            shown = [(bgr, result.original), *((window.cut(bgr), score) for window, score in result.best)]
            for axis in row:
                axis.axis("off")
            for axis, (picture, score) in zip(row, shown):
                axis.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
                axis.set_title(f"score {100 * score:.1f}", fontsize=10)
