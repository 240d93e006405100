"""The patterns that a net's filters respond to: the patches that excite them most, and what in them does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from selfie.common import parallel
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.lmdb_reader import Database
from selfie.experiments import grids
from selfie.experiments.grids import WORST_CELL
from selfie.net import gradient, pycaffe, receptive_field
from selfie.net.caffe_net import ScoringNet
from selfie.net.pycaffe import Message, Net
from selfie.net.receptive_field import Box
from selfie.runs import evaluate
from selfie.runs.run_folder import Run

GRAY = 128
CELL = 96  # pixels of a patch in the sheets
LABEL = 20  # pixels of height for a line of text
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Patch(NamedTuple):
    """The place in a selfie where a filter answers most strongly.

    unit   (row, column) in the filter's map
    box    what the unit sees of the net's input, at full size: at the picture's border it reaches into the padding
    """

    filter: int
    key: str
    activation: float
    unit: tuple[int, int]
    box: Box


def third_stage(message: Message) -> str:
    """Name the blob at the end of a net's third stage: the one that its third max pooling reads.

    SelfieError for a net with fewer stages.
    """
    pools = [
        layer
        for layer in message.layer
        if layer.type == "Pooling" and layer.pooling_param.pool == 0 and not layer.pooling_param.global_pooling
    ]
    if len(pools) < 3:
        raise SelfieError("the net has no third max pooling: name a blob with --blob")
    return pools[2].bottom[0]


class Peaks(NamedTuple):
    """The strongest answers of each filter, one per selfie, strongest first: arrays of filters x count (or fewer)."""

    activations: np.ndarray
    selfies: np.ndarray  # numbers, in the order in which they were seen
    rows: np.ndarray
    columns: np.ndarray


def strongest(net: ScoringNet, blob: str, pictures: Iterable[np.ndarray], count: int) -> Peaks:
    """Find each filter's `count` strongest answers to size x size x 3 pictures, in constant memory.

    SelfieError if there are no pictures.
    """
    best: Peaks | None = None
    seen = 0
    for batch in parallel.batches(pictures, evaluate.BATCH):
        maps = _maps(net.forward(np.stack(batch), (blob,))[0])
        flat = maps.reshape(*maps.shape[:2], -1)
        places = flat.argmax(axis=2).T
        numbers = np.broadcast_to(np.arange(seen, seen + len(batch)), places.shape)
        new = Peaks(flat.max(axis=2).T, numbers, *np.divmod(places, maps.shape[3]))
        best = new if best is None else Peaks(*(np.concatenate(pair, axis=1) for pair in zip(best, new)))
        order = np.argsort(-best.activations, axis=1, kind="stable")[:, :count]
        best = Peaks(*(np.take_along_axis(values, order, axis=1) for values in best))
        seen += len(batch)
    if best is None:
        raise SelfieError("there are no selfies to show to the net")
    return best


def _maps(blob: np.ndarray) -> np.ndarray:
    """Shape a blob as N x filters x H x W; a fully connected layer's numbers are maps of one place."""
    return blob.reshape(*blob.shape[:2], *(blob.shape[2:] or (1, 1)))


def choose(peaks: Peaks, count: int, seed: int) -> list[int]:
    """Choose `count` filters at random (all if there are fewer) among those that each of their selfies excites."""
    alive = np.flatnonzero(peaks.activations[:, -1] > 0)
    if not len(alive):
        raise SelfieError("no filter of this blob is excited: choose another --blob")
    return sorted(np.random.default_rng(seed).choice(alive, min(count, len(alive)), replace=False).tolist())


def find(
    run: Run,
    blob: str | None = None,
    chosen: list[int] | None = None,
    *,
    count: int = 12,
    top: int = 9,
    split: str = "test",
    limit: int = 2000,
    seed: int = 2015,
    gpu: int | None = None,
) -> tuple[str, list[list[Patch]]]:
    """Find, for each filter of a blob, its `top` patches among the first `limit` selfies of a split.

    The blob is by default the last of the third stage, the filters `count` of it at random. Returns the blob's name and
    a list of patches, strongest first, for each filter. SelfieError if there is no such blob or filter.
    """
    message = pycaffe.read_net(run.deploy)
    blob = blob or third_stage(message)
    net = _net_up_to(run, blob, gpu)
    filters = net.blobs[blob].shape[1]
    if chosen and not 0 <= min(chosen) <= max(chosen) < filters:
        raise SelfieError(f"{blob} has {filters} filters: choose from 0 to {filters - 1}")
    with Database(run.database(split)) as records:
        keys = records.keys()[:limit]
        pictures = (picture for _, (_, picture, _) in zip(keys, records))
        peaks = strongest(net, blob, tqdm(pictures, total=len(keys), unit="selfie", desc=blob, disable=None), top)
    sizes = blob_sizes(net.net)
    return blob, [
        [
            Patch(
                number,
                keys[selfie],
                float(activation),
                (int(row), int(column)),
                receptive_field.field(message, sizes, blob, int(row), int(column), clip=False),
            )
            for activation, selfie, row, column in zip(*(values[number] for values in peaks))
        ]
        for number in chosen or choose(peaks, count, seed)
    ]


def _net_up_to(run: Run, blob: str, gpu: int | None) -> ScoringNet:
    """Load the part of the run's net that makes `blob`; its backward pass goes down to the picture."""
    part = gradient.up_to(pycaffe.read_net(run.deploy), blob)
    return ScoringNet(gradient.load(part, run.caffemodel, gpu), run.preprocessing, gpu)


def blob_sizes(net: Net) -> dict[str, tuple[int, int]]:
    """Return (height, width) of each blob of a net; (1, 1) without these axes."""
    shapes = {name: tuple(blob.shape) for name, blob in net.blobs.items()}
    return {name: (shape[2], shape[3]) if len(shape) == 4 else (1, 1) for name, shape in shapes.items()}


def gradients(net: ScoringNet, blob: str, patches: list[Patch], pictures: np.ndarray, rule: str) -> np.ndarray:
    """Trace each patch's activation in its picture (N x size x size x 3) back to the input, under a gradient's rule.

    Returns N x crop x crop x 3 floats, BGR.
    """
    answer = net.forward(pictures, (blob,))[0]
    diff = np.zeros_like(answer)
    for number, patch in enumerate(patches):
        row, column = patch.unit
        _maps(diff)[number, patch.filter, row, column] = 1
    return gradient.backward(net.net, blob, diff, rule).transpose(0, 2, 3, 1)


def inputs(pictures: np.ndarray, crop: int) -> np.ndarray:
    """Cut the part of N x size x size x 3 pictures that the net sees: N x crop x crop x 3 uint8."""
    return image.prepare(pictures, crop, (0, 0, 0)).transpose(0, 2, 3, 1).astype(np.uint8)


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """Cut a box out of an H x W x 3 uint8 picture; what lies outside of the picture is grey."""
    part = np.full((box.bottom - box.top, box.right - box.left, 3), GRAY, np.uint8)
    top, left, bottom, right = box.within(*picture.shape[:2])
    part[top - box.top : bottom - box.top, left - box.left : right - box.left] = picture[top:bottom, left:right]
    return part


def visible(values: np.ndarray) -> np.ndarray:
    """Show signed numbers as uint8: 0 is grey, the strongest half percent is as bright or dark as can be."""
    peak = np.percentile(np.abs(values), 99.5) or np.abs(values).max() or 1
    return np.clip(GRAY + values * (127 / peak), 0, 255).astype(np.uint8)


def draw(
    run: Run, blob: str, of_filters: list[list[Patch]], folder: Path, split: str = "test", gpu: int | None = None
) -> list[Path]:
    """Write patches.png, guided.png and deconvolution.png, block for block the same, into `folder`; returns the files.

    A patch of a selfie that the run scores below 50 % has at most WORST_CELL pixels.
    """
    keys = list(dict.fromkeys(patch.key for patches in of_filters for patch in patches))
    selfies = dict(zip(keys, grids.pictures_of(run.database(split), keys)))
    sides = _cell_sides(run, selfies, gpu)
    net = _net_up_to(run, blob, gpu)
    names = ["patches", "guided", "deconvolution"]
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for patches in tqdm(of_filters, unit="filter", desc="gradients", disable=None):
        pictures = np.stack([selfies[patch.key] for patch in patches])
        shown: dict[str, Sequence[np.ndarray]] = {"patches": list(inputs(pictures, run.preprocessing.crop))}
        for rule in names[1:]:
            values = gradients(net, blob, patches, pictures, rule)
            shown[rule] = [visible_part(value, patch.box) for value, patch in zip(values, patches)]
        for name in names:
            cells = [cell(cut(picture, patch.box), sides[patch.key]) for picture, patch in zip(shown[name], patches)]
            blocks[name].append(grids.grid(cells, round(len(cells) ** 0.5), CELL))
    labels = [f"filter {patches[0].filter}" for patches in of_filters]
    files = [folder / f"{name}.png" for name in names]
    for file, name in zip(files, names):
        image.write(file, sheet(blocks[name], labels, columns=4))
    return files


def _cell_sides(run: Run, selfies: dict[str, np.ndarray], gpu: int | None) -> dict[str, int]:
    """Map each selfie's key to the pixels that its patches may have, by the run's own score of it."""
    net = run.net(gpu)
    scores = np.concatenate(
        [net.scores(np.stack(batch)) for batch in parallel.batches(selfies.values(), evaluate.BATCH)]
    )
    return {key: CELL if score >= 0.5 else WORST_CELL for key, score in zip(selfies, scores)}


def cell(patch: np.ndarray, side: int) -> np.ndarray:
    """Squash an H x W x 3 patch to `side` pixels, in the middle of a grey square of CELL pixels."""
    square = np.full((CELL, CELL, 3), GRAY, np.uint8)
    start = (CELL - side) // 2
    square[start : start + side, start : start + side] = cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA)
    return square


def visible_part(values: np.ndarray, box: Box) -> np.ndarray:
    """Show H x W x 3 gradients as a picture, its contrast stretched by what is inside the box; grey outside of it."""
    top, left, bottom, right = box.within(*values.shape[:2])
    picture = np.full(values.shape, GRAY, np.uint8)
    picture[top:bottom, left:right] = visible(values[top:bottom, left:right])
    return picture


def sheet(blocks: list[np.ndarray], labels: list[str], columns: int, gap: int = 12) -> np.ndarray:
    """Lay pictures of one size out on white, row by row, each under its label."""
    height, width = blocks[0].shape[:2]
    rows, columns = -(-len(blocks) // columns), min(columns, len(blocks))
    canvas = np.full((gap + rows * (height + LABEL + gap), gap + columns * (width + gap), 3), 255, np.uint8)
    for number, (block, label) in enumerate(zip(blocks, labels)):
        top = gap + number // columns * (height + LABEL + gap)
        left = gap + number % columns * (width + gap)
        cv2.putText(canvas, label, (left, top + LABEL - 6), FONT, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        canvas[top + LABEL : top + LABEL + height, left : left + width] = block
    return canvas
