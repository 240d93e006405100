"""HEIC, what phones make, by libheif, and AVIF by libavif in Pillow; both are turned as their files say."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from selfie.common.late import Image, ImageOps, features
from selfie.data.codecs import isobmff
from selfie.data.codecs.errors import BROKEN, BadImage
from selfie.data.codecs.header import Header

MAX_TILED = 4  # pixels of all tiles together, as a multiple of the largest picture's
NO_HEIC = "HEIC needs the Python package pillow-heif: run 'make setup' or 'pip install pillow-heif'"
NO_AVIF = "AVIF needs Pillow 11.3 or newer: run 'make setup' or 'pip install -U pillow'"
TOO_MANY_TILES = "HEIC of too many tiles"


def read(kind: str, data: bytes) -> Header:
    """Read the size of the largest picture in a HEIC or AVIF, without decoding any. BadImage for a broken file.

    BadImage, too, for a picture whose tiles are far more than fit into it; each would be decoded.
    """
    found = isobmff.items(data)
    for item, tiles in found.tiles.items():
        if sum(found.areas.get(tile, 0) for tile in tiles) > MAX_TILED * max(1, found.areas.get(item, 0)):
            raise BadImage(TOO_MANY_TILES)
    width, height = found.largest
    if not width * height:
        raise BadImage(BROKEN)
    return Header(kind, width, height)


def decode(kind: str, data: bytes) -> np.ndarray:
    """Decode to an upright H x W x 3 or 4 uint8 BGR(A) picture. BadImage for a broken file, or without the library."""
    try:
        return _heic(data) if kind == "HEIC" else _avif(data)
    except BadImage:
        raise
    except Exception as error:  # the libraries have no common exception
        raise BadImage(BROKEN) from error


def _heic(data: bytes) -> np.ndarray:
    try:
        import pillow_heif
    except ImportError as error:
        raise BadImage(NO_HEIC) from error
    picture: Any = pillow_heif.open_heif(data, convert_hdr_to_8bit=True, bgr_mode=True)
    pixels = np.array(picture)[:, : picture.size[0]]  # a copy: its memory is freed with it; rows may be longer
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _avif(data: bytes) -> np.ndarray:
    if "avif" not in features.get_supported_modules():
        raise BadImage(NO_AVIF)
    with Image.open(io.BytesIO(data), formats=["AVIF"]) as file:
        picture = ImageOps.exif_transpose(file)
    if picture.mode == "RGBA":
        return np.asarray(picture)[:, :, [2, 1, 0, 3]]
    return np.asarray(picture.convert("RGB"))[:, :, ::-1]
