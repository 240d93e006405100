"""Image files to pixels, and pixels to network input: the ONE preprocessing that training, scoring and crops share.

    file --load--> bytes --decode--> H x W x 3 --square--> 256 x 256 x 3 --prepare--> 3 x 224 x 224 float32
                                     uint8 BGR             uint8 BGR                   minus mean, BGR

Up to `square` everything happens once, when a database is built; there the pixels are those of Caffe's own
`convert_imageset --resize_height=256 --resize_width=256`. `prepare` does what Caffe's Data layer does in the TEST
phase. So a picture has the same score whether it comes from a file or from a (raw) database.

JPEG, PNG, WebP, GIF, BMP and TIFF are read. Gray, palette, CMYK and 16-bit pictures become 8-bit BGR, an animation is
its first frame, the EXIF orientation is applied and alpha is dropped, all as in cv::imread.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from selfie import paths
from selfie.errors import SelfieError

MAX_PIXELS = 50_000_000
MAX_BYTES = 200_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
FIRST_BYTES = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")

# Our own limit is lower than the one that Pillow warns about.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImage(SelfieError):
    """A picture that cannot be used. Its text is one of a few fixed phrases: rejects are counted by reason."""


def load(path: str | os.PathLike) -> bytes:
    """Content of an image file. BadImage: no such file, not a file, cannot be read, empty file, file over 200 MB."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise BadImage("not a file")
        if status.st_size > MAX_BYTES:
            raise BadImage("file over 200 MB")
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage("no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadImage("cannot be read") from error
    if not data:
        raise BadImage("empty file")
    return data


def decode(data: bytes) -> np.ndarray:
    """H x W x 3 uint8 BGR picture, upright, from the bytes of an image file.

    BadImage: empty file, unknown format, over 50 megapixels (nothing is decoded before that is known), broken or
    truncated (also what has no width or height).
    """
    _check_header(data)
    try:
        with _quiet:
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadImage("broken or truncated") from error
    if bgr is None:
        raise BadImage("broken or truncated")
    return bgr


def read(path: str | os.PathLike) -> np.ndarray:
    """H x W x 3 uint8 BGR picture, upright, from a file. BadImage as in `load` and `decode`."""
    return decode(load(path))


def read_named(path: str | os.PathLike) -> np.ndarray:
    """`read`, with the file's name in front of the error: for a command that cannot go on without this picture."""
    try:
        return read(path)
    except BadImage as error:
        raise SelfieError(f"{path}: {error}") from error


def write(path: str | os.PathLike, bgr: np.ndarray) -> None:
    """Write a picture as PNG or JPEG, by the name's suffix, atomically. SelfieError for another suffix."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise SelfieError(f"cannot write {path}: a picture's name ends in .png or .jpg")
    fine, data = cv2.imencode(path.suffix, bgr)
    if not fine:
        raise ValueError(f"OpenCV cannot encode a picture of shape {bgr.shape}")
    with paths.atomic_write(path, "wb") as file:
        file.write(data.tobytes())


def square(bgr: np.ndarray, size: int = 256) -> np.ndarray:
    """`size` x `size` x 3 uint8: a picture that is not square is squashed, as the post's bot does.

    Plain bilinear interpolation, also when shrinking, because convert_imageset does so.
    """
    if bgr.shape[:2] == (size, size):
        return bgr
    return cv2.resize(bgr, (size, size), interpolation=cv2.INTER_LINEAR)


def prepare(batch: np.ndarray, crop: int, mean_bgr: tuple[float, float, float]) -> np.ndarray:
    """N x 3 x crop x crop float32 network input from N x S x S x 3 uint8 BGR: centre crop, channels first, minus mean.

    Bit for bit what Caffe's DataTransformer makes in the TEST phase of crop_size and mean_value (its centre crop
    starts at floor((S - crop) / 2); float32 arithmetic).
    """
    count, height, width, _ = batch.shape
    if not 0 < crop <= min(height, width):
        raise ValueError(f"crop {crop} does not fit into {height} x {width}")
    top, left = (height - crop) // 2, (width - crop) // 2
    blob = np.empty((count, 3, crop, crop), np.float32)
    for channel, mean in enumerate(np.asarray(mean_bgr, np.float32)):
        np.subtract(batch[:, top:top + crop, left:left + crop, channel], mean, out=blob[:, channel], dtype=np.float32)
    return blob


def _check_header(data: bytes) -> None:
    """BadImage unless the header names a known format and a size that is safe to decode."""
    if not data:
        raise BadImage("empty file")
    if not data.startswith(FIRST_BYTES):
        raise BadImage("unknown format")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError as error:
        raise BadImage("over 50 megapixels") from error
    except Exception as error:  # hostile headers make Pillow's parsers fail in every way there is
        raise BadImage("broken or truncated") from error
    if width * height > MAX_PIXELS:
        raise BadImage("over 50 megapixels")


class _Quiet:
    """While any thread is inside, the process's stderr goes nowhere: libjpeg and libpng write there past OpenCV."""

    def __init__(self) -> None:
        self._lock, self._inside, self._saved = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                os.dup2(self._saved, 2)
                os.close(self._saved)


_quiet = _Quiet()
