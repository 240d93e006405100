"""The face filter: how many faces a selfie shows, and where the largest is.

Two detectors. MTCNN runs on our own Caffe (selfie.mtcnn); it finds small, turned and dark faces. The LBP cascade that
comes with scikit-image needs nothing else and takes 10 ms a picture, but finds only faces that look straight at the
camera and are at least a fifth of the picture's longer side.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import polars as pl
from tqdm import tqdm

from selfie import image, parallel, paths
from selfie.errors import SelfieError

log = logging.getLogger(__name__)

DETECTORS = ("auto", "mtcnn", "lbp")
BOX = ("face_x", "face_y", "face_w", "face_h")
COLUMNS = ("face_count", *BOX, "face_error")
BATCH = 32  # pictures per message to a worker, and per line of the file that a resumed run reads


@dataclass(frozen=True)
class Face:
    """One face: upper left corner, width and height in pixels; score, higher is surer (mtcnn: a probability, lbp: the
    number of hits); landmarks (x, y) of eyes, nose and corners of the mouth, from mtcnn only."""

    x: float
    y: float
    w: float
    h: float
    score: float
    landmarks: tuple[tuple[float, float], ...] = ()


Detector = Callable[[np.ndarray], list[Face]]


def choose(name: str) -> str:
    """'mtcnn' or 'lbp' for a name in DETECTORS. 'auto' is mtcnn if it can run here, else lbp, and says so.

    SelfieError if mtcnn is asked for and cannot run here.
    """
    if name not in DETECTORS:
        raise SelfieError(f"unknown face detector '{name}': choose one of {', '.join(DETECTORS)}")
    if name == "lbp":
        return name
    from selfie import mtcnn
    missing = mtcnn.available()
    if name == "mtcnn":
        if missing:
            raise SelfieError(f"MTCNN cannot run: {missing}")
        return name
    log.info("faces are detected by %s", f"the LBP cascade, since MTCNN cannot run: {missing}" if missing else "MTCNN")
    return "lbp" if missing else "mtcnn"


def detector(name: str) -> Detector:
    """A function from H x W x 3 uint8 BGR to a list of Face, surest first. SelfieError if mtcnn is asked for and cannot
    run here."""
    if choose(name) == "lbp":
        return lbp
    from selfie import mtcnn
    return mtcnn.Detector()


# --- LBP -------------------------------------------------------------------------------------------------------------

LBP_SIDE = 128  # the longer side is brought to this: a face of a fifth of the picture is then as small as the cascade's
LBP_WINDOW = 24  # side of the cascade's window
LBP_HITS = 4  # overlapping windows that make a face


def lbp(bgr: np.ndarray) -> list[Face]:
    """Faces found by scikit-image's LBP cascade (Liao et al. 2007), surest first.

    Every window position of a picture of 128 pixels is tried in sizes 1.2 apart; hits that overlap (IoU above 0.4) are
    one face, but only if there are 4 of them. Measured: with 3, 2 of 139 crops of scikit-image's pictures without
    people have a face, with 4 none; of the demo's selfies 99 % have one, of the post's best 100 tiles 48 (MTCNN: 93).
    """
    height, width = bgr.shape[:2]
    scale = LBP_SIDE / max(height, width)
    side = int(min(height, width) * scale)
    if side < LBP_WINDOW:
        return []
    gray = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (round(width * scale), round(height * scale)),
                      interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    hits = _cascade().detect_multi_scale(
        gray, scale_factor=1.2, step_ratio=1, min_size=(LBP_WINDOW, LBP_WINDOW), max_size=(side, side),
        min_neighbor_number=0, intersection_score_threshold=2)  # 2 is never reached: all hits, none merged
    boxes = np.array(sorted((hit["c"], hit["r"], hit["width"], hit["height"]) for hit in hits), float).reshape(-1, 4)
    return [Face(*(float(value) / scale for value in box), count) for box, count in _clusters(boxes)
            if count >= LBP_HITS]


def _clusters(boxes: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """(median box, number of boxes) of groups that overlap one of their own by IoU above 0.4, largest group first."""
    while len(boxes):
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        common = np.prod(np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None), axis=2)
        area = np.prod(boxes[:, 2:], axis=1)
        near = common > 0.4 * (area[:, None] + area - common)
        group = near[near.sum(1).argmax()]
        yield np.median(boxes[group], axis=0), int(group.sum())
        boxes = boxes[~group]


@cache
def _cascade():
    import skimage
    from skimage.feature import Cascade
    return Cascade(str(Path(skimage.__file__).parent / "data" / "lbpcascade_frontalface_opencv.xml"))


# --- a whole manifest ------------------------------------------------------------------------------------------------


def annotate(manifest: pl.DataFrame, images: str | os.PathLike, detector_name: str = "auto", jobs: int | None = None,
             partial: str | os.PathLike | None = None) -> pl.DataFrame:
    """The manifest (columns id, path) with the columns face_count, face_x, face_y, face_w, face_h, face_error.

    The box is the largest face's, relative: 0 to 1 of the upright picture's width and height; null where there is none.
    A picture that cannot be read has a null face_count and the reason in face_error. All rows stay, in their order, and
    a picture named twice is looked at once. Paths are relative to `images`.

    `partial` names a file that keeps finished pictures, so that a run after SIGKILL goes on where it stopped; it is
    used only if it was made by the same detector on the same folder, and is the caller's to remove at the end.
    The result does not depend on `jobs`.
    """
    images = paths.existing(images, "folder of images")
    name = choose(detector_name)
    wanted = list(dict.fromkeys(path for path in manifest["path"] if path is not None))
    found: dict[str, list] = {}
    journal = _Journal(partial, {"detector": name, "images": str(images.resolve())}) if partial else None
    if journal:
        found = {path: journal.rows[path] for path in wanted if path in journal.rows}
        if found:
            log.info("%d pictures are known from an interrupted run", len(found))
    todo = [path for path in wanted if path not in found]
    batches = [(name, str(images), todo[start:start + BATCH]) for start in range(0, len(todo), BATCH)]
    with tqdm(total=len(wanted), initial=len(found), desc="faces", unit="picture", disable=None) as bar:
        for rows in parallel.imap(_look_at, batches, min(jobs or parallel.cores(), max(1, len(batches)))):
            found.update(rows)
            if journal:
                journal.add(rows)
            bar.update(len(rows))
    rows = [found[path] if path is not None else [None] * 5 + ["no path"] for path in manifest["path"]]
    table = pl.DataFrame(rows, orient="row", schema={
        "face_count": pl.Int64, **dict.fromkeys(BOX, pl.Float64), "face_error": pl.String})
    return manifest.drop(COLUMNS, strict=False).hstack(table)


def _look_at(batch: tuple[str, str, list[str]]) -> dict[str, list]:
    """path -> values of COLUMNS, for one batch: (detector, folder, paths)."""
    name, folder, names = batch
    detect = _worker_detector(name)
    return {path: _row(Path(folder) / path, detect) for path in names}


@cache
def _worker_detector(name: str) -> Detector:
    """Loaded once per process. Each process has a core of its own: more threads would only be in each other's way."""
    cv2.setNumThreads(1)
    return detector(name)


def _row(path: Path, detect: Detector) -> list:
    try:
        bgr = image.read(path)
    except image.BadImage as error:
        return [None, None, None, None, None, str(error)]
    faces = detect(bgr)
    if not faces:
        return [0, None, None, None, None, None]
    height, width = bgr.shape[:2]
    largest = max(faces, key=lambda face: face.w * face.h)  # of equals the surer one, which comes first
    box = (largest.x / width, largest.y / height, largest.w / width, largest.h / height)
    return [len(faces), *(round(min(max(value, 0.0), 1.0), 5) for value in box), None]


class _Journal:
    """Finished batches, one JSON line each, fsynced; the first line says what they belong to."""

    def __init__(self, path: str | os.PathLike, header: dict) -> None:
        self.path, self.rows, whole = Path(path), {}, 0
        if self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            for number, line in enumerate(lines):
                value = _json(line)
                if value is None or (number == 0 and value != header):
                    break
                whole += len(line)
                self.rows.update(value if number else {})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            file.truncate(whole)  # a line that was cut by a kill, and all of another job's
        if not whole:
            self.add(header)

    def add(self, value: dict) -> None:
        with open(self.path, "ab") as file:
            file.write(json.dumps(value, ensure_ascii=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _json(line: bytes) -> dict | None:
    """The object on a whole line, None for a torn one."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
