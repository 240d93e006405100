"""Image files to pixels, and pixels to network input: the one preprocessing that training, scoring and crops share.

    file --load--> bytes --decode--> H x W x 3 --square--> 256 x 256 x 3 --prepare--> 3 x 224 x 224 float32
                                     uint8 BGR             uint8 BGR                   minus mean, BGR

Up to `square` everything happens once, when a database is built; there the pixels are those of Caffe's own
`convert_imageset --resize_height=256 --resize_width=256`, unless both sides have 1024 pixels or more: those pictures
are halved first, see `square`. `prepare` does what Caffe's Data layer does in the TEST phase. So a picture has the same
score whether it comes from a file or from a (raw) database.

JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF are read. Grey, palette, CMYK and 16-bit pictures become 8-bit BGR, an
animation is its first frame, orientation is applied, and white is put behind what is transparent, as viewers do.
Colours are taken as sRGB whatever the file's profile; docs/data.md says why.

OpenCV and Pillow are imported when a picture is first decoded or resized (common/late).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfie.common import names, paths, places
from selfie.common.errors import SelfieError
from selfie.common.late import cv2
from selfie.data import detail as details
from selfie.data.codecs import headers
from selfie.data.codecs.decode import decode as decode_known
from selfie.data.codecs.errors import BadImage
from selfie.data.codecs.header import Header

IMAGE_SIZE = 256  # databases and scoring squash every selfie to this square before the net's crop is taken
PREPROCESSING = 3  # recorded with every database and run; PREPROCESSINGS says what is different from those before
PREPROCESSINGS = {  # what was made with a number -> what is different since
    1: "large pictures were resized differently, and what is transparent had its hidden colour",
    2: "what is transparent had its hidden colour; it is white now",
}
MAX_PIXELS = 50_000_000  # of a decoded picture; PNG, WebP, GIF, BMP and TIFF have as many in the file
MAX_JPEG_PIXELS = 800_000_000  # in the file: one second of decoding at reduced scale for every 500 million or so
MAX_HEIF_PIXELS = 64_000_000  # HEIC and AVIF: "50 megapixels" of a phone are 8192 x 6144
MAX_BYTES = 200_000_000


def load(path: str | os.PathLike) -> bytes:
    """Read the bytes of an image file, by its path or address (places). BadImage: no such file, not a file, cannot be
    read, empty file, over 200 MB.
    """
    if places.is_address(path):
        return _load_from_address(os.fspath(path))
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise BadImage("not a file")
        if status.st_size > MAX_BYTES:
            raise BadImage("file over 200 MB")
        size = status.st_size or MAX_BYTES  # 0: unknown to some file systems. For MAX_BYTES Python would get them all
        with open(path, "rb") as file:
            data = file.read(size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage("no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadImage("cannot be read") from error
    if not data:
        raise BadImage("empty file")
    return data


def _load_from_address(address: str) -> bytes:
    try:
        data = places.read(address, MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage("no such file") from error
    except (OSError, ValueError) as error:
        raise BadImage("cannot be read") from error
    if len(data) > MAX_BYTES:
        raise BadImage("file over 200 MB")
    if not data:
        raise BadImage("empty file")
    return data


def header(data: bytes, max_pixels: int | None = None) -> Header:
    """Read the header of an image file; nothing is decoded. BadImage as `decode`, for what the header tells."""
    return _checked(data, max_pixels)[0]


def decode(data: bytes, size: int | None = None, max_pixels: int | None = None) -> np.ndarray:
    """Decode the bytes of an image file, from wherever they come, to an upright H x W x 3 uint8 BGR picture.

    A JPEG of more than 50 megapixels is decoded at the 1/2, 1/4 or 1/8 that has no more. With `size`, a JPEG is decoded
    at the scale to which `square` would reduce it for a square of that size anyway; libjpeg then skips half of its
    work. `max_pixels` lowers what is allowed, for a service that has less memory than a user.

    BadImage: empty file, file over 200 MB, unknown format, JPEG XL, too many megapixels, tiles, scans or chunks
    (nothing is decoded before that is known), broken or truncated (also what has no width or height, and a JPEG of
    which libjpeg had to make up a part).
    """
    header, data, scale = _checked(data, max_pixels)
    if size and header.kind == "JPEG":
        scale = max(scale, min(8, halving(min(header.width, header.height), size)))
    return decode_known(header, data, scale)


def read(path: str | os.PathLike) -> np.ndarray:
    """Read a file as an upright H x W x 3 uint8 BGR picture. BadImage as in `load` and `decode`."""
    return decode(load(path))


def read_named(path: str | os.PathLike) -> np.ndarray:
    """`read`, with the file's name in the error, for a command that cannot do without this picture."""
    try:
        return read(path)
    except BadImage as error:
        raise SelfieError(f"{names.shown(path)}: {error}") from error


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


def square(bgr: np.ndarray, size: int = IMAGE_SIZE, detail: int = 0) -> np.ndarray:
    """Squash a picture to size x size x 3 uint8, whatever its aspect, as the post's bot does.

    detail   reduce it to so many pixels a side first (data/detail), and enlarge that: as a net that learned from small
             pictures knows them, whatever the size of this one. 0: do not.

    Plain bilinear interpolation, also when shrinking, because convert_imageset does so. It reads two pixels in a row
    and skips the others, so a large picture would alias to noise and moire: while both sides have 4 x size pixels or
    more, the picture is halved first, each pixel the mean of four.
    """
    if detail:
        bgr = details.reduce(bgr, detail, detail)
    height, width = bgr.shape[:2]
    if (height, width) == (size, size):
        return bgr
    return cv2.resize(reduced(bgr, halving(min(height, width), size)), (size, size), interpolation=cv2.INTER_LINEAR)


def decode_square(data: bytes, size: int = IMAGE_SIZE, detail: int = 0) -> np.ndarray:
    """Decode and squash as `square` does; large JPEGs are halved by their decoder, which takes half the time.

    Measured on 200 photographs of 1080 pixels with film grain: the pixels differ from those of square(decode(data)) by
    0.24 levels (of 255) on average, by 0.41 in the worst picture; single pixels by up to 20, where colours change. (By
    up to two levels on average where a picture of odd size is stored turned: other pixels make a pair then.) The scores
    of the figures run's squeezenet differ by 0.0035 on average and 0.028 at most (Spearman 0.9997), those of the demo
    net by 0.0014 and 0.005 (1.0000). (Without any halving, as convert_imageset does it: 1.05 levels, and scores by
    0.046 and 0.51: mostly grain that it turns into coarse noise.)
    """
    return square(decode(data, size), size, detail)


def halving(side: int, size: int = IMAGE_SIZE) -> int:
    """Factor (1, 2, 4, ...) by which `square` reduces a picture, whose shorter side is `side`, before interpolating."""
    scale = 1
    while side >= 4 * size:
        side, scale = -(-side // 2), 2 * scale
    return scale


def reduced(bgr: np.ndarray, scale: int) -> np.ndarray:
    """Reduce a picture to means of `scale` x `scale` pixels; its last row and column are repeated to fill up."""
    if scale == 1:
        return bgr
    height, width = bgr.shape[:2]
    bgr = cv2.copyMakeBorder(bgr, 0, -height % scale, 0, -width % scale, cv2.BORDER_REPLICATE)
    return cv2.resize(bgr, (bgr.shape[1] // scale, bgr.shape[0] // scale), interpolation=cv2.INTER_AREA)


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
        np.subtract(
            batch[:, top : top + crop, left : left + crop, channel], mean, out=blob[:, channel], dtype=np.float32
        )
    return blob


@dataclass(frozen=True)
class Preprocessing:
    """The way from a picture to a net's input. A run carries its own and is scored by it, whatever its variant says
    today.

    mean   BGR, subtracted from values in [0, 255]
    crop   side in pixels of the net's square input, cut out of the middle
    size   side in pixels of the square that every picture is squashed to first
    detail side in pixels to which it is reduced before, so that it shows no more than the pictures that the net learned
           from; 0: it is not
    """

    mean: tuple[float, float, float]
    crop: int
    size: int = IMAGE_SIZE
    detail: int = 0

    def square(self, bgr: np.ndarray) -> np.ndarray:
        """Squash an H x W x 3 uint8 BGR picture to size x size x 3, with no more than its detail."""
        return square(bgr, self.size, self.detail)

    def decode(self, data: bytes) -> np.ndarray:
        """Decode an image file's bytes to size x size x 3, with no more than its detail; errors as of `decode`."""
        return decode_square(data, self.size, self.detail)

    def prepare(self, pictures: np.ndarray) -> np.ndarray:
        """Return the N x 3 x crop x crop float32 input of N x S x S x 3 uint8 BGR pictures."""
        return prepare(pictures, self.crop, self.mean)

    @property
    def margin(self) -> int:
        """Pixels of the square that the crop leaves out at the top and on the left."""
        return (self.size - self.crop) // 2


def _checked(data: bytes, max_pixels: int | None) -> tuple[Header, bytes, int]:
    """Read a header: it, the bytes to decode, and the scale, 1, 2, 4 or 8, by which a JPEG is to be reduced."""
    if not data:
        raise BadImage("empty file")
    if len(data) > MAX_BYTES:
        raise BadImage("file over 200 MB")
    header, data = headers.read(data)
    if header.kind == "JPEG":
        return header, data, _fitting(header, max_pixels or MAX_PIXELS)
    most = MAX_HEIF_PIXELS if header.kind in ("HEIC", "AVIF") else MAX_PIXELS
    _check_pixels(header, min(most, max_pixels or most))
    return header, data, 1


def _fitting(header: Header, max_pixels: int) -> int:
    """Return the scale, 1, 2, 4 or 8, by which a JPEG is reduced to at most `max_pixels`; BadImage if by none."""
    _check_pixels(header, min(MAX_JPEG_PIXELS, 64 * max_pixels))
    return next((scale for scale in (1, 2, 4) if header.pixels <= scale * scale * max_pixels), 8)


def _check_pixels(header: Header, most: int) -> None:
    if header.pixels > most:
        raise BadImage(f"over {most / 1e6:.3g} megapixels")
