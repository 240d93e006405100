"""Pictures that were sent as text are refused with the cause; intact ones never are."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
import pytest
from PIL import Image

import picture_files as files
from selfie.data import image
from selfie.data.codecs import kinds, lines
from selfie.data.image import BadImage


def noisy(side: int, seed: int = 0) -> Image.Image:
    """A photograph's like: smooth, with a sensor's noise."""
    noise = np.random.default_rng(seed).normal(0, 12, (side, side, 3))
    return files.pil((files.smooth(side, side, seed) + noise).clip(0, 255).astype(np.uint8))


CONVERSIONS = {
    "to Windows": lambda data: data.replace(b"\n", b"\r\n"),
    "to Windows, where they were not": lambda data: re.sub(rb"(?<!\r)\n", b"\r\n", data),
    "to old Macs": lambda data: data.replace(b"\n", b"\r"),
    "from old Macs": lambda data: data.replace(b"\r", b"\n"),
}
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "HEIC", "AVIF")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", CONVERSIONS)
def test_a_picture_whose_line_ends_were_converted_is_refused_and_says_so(kind, way):
    data = files.saved(noisy(300), kind)
    image.decode(data)
    with pytest.raises(BadImage, match=r"line ends were converted.* copy it again, in binary mode"):
        image.decode(CONVERSIONS[way](data))


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_so_is_one_that_is_not_compressed(kind):
    with pytest.raises(BadImage, match="line ends were converted"):
        image.decode(CONVERSIONS["to Windows"](files.saved(noisy(100), kind)))


@pytest.mark.parametrize("side", [32, 300])
def test_pngs_signature_tells_of_every_conversion(side):
    data = files.saved(noisy(side), "PNG")
    for changed in (*(way(data) for way in CONVERSIONS.values()), data.replace(b"\r\n", b"\n")):
        with pytest.raises(BadImage, match="line ends were converted"):
            image.decode(changed)


def test_pairs_that_became_line_feeds_in_a_large_jpeg():
    data = files.saved(noisy(1400), "JPEG", quality=95)
    assert len(data) > 1_000_000 and image.decode(data).shape == (1400, 1400, 3)
    with pytest.raises(BadImage, match="line ends were converted"):
        image.decode(data.replace(b"\r\n", b"\n"))


def test_such_a_jpeg_is_refused_for_what_its_decoder_says_of_the_rest():
    """Where a smaller one has bytes left over at its end. A camera's, which are all alike, are none of them."""
    data = files.saved(noisy(700), "JPEG", quality=90)
    left_over = data[:-2].replace(b"\r\n", b"\n") + data[-900:-880] + b"\xff\xd9"
    assert lines.suspect(left_over)
    with pytest.raises(BadImage, match="broken"):
        image.decode(left_over)
    assert image.decode(data[:-2] + bytes(20) + b"\xff\xd9").shape == (700, 700, 3)


def test_a_truncated_picture_is_only_that():
    for kind in KINDS:
        data = files.saved(noisy(300), kind)
        with pytest.raises(BadImage, match=r"broken or truncated$"):
            image.decode(data[: len(data) * 3 // 4])


def test_intact_pictures_are_never_suspected():
    """Flat ones repeat a few bytes, small ones have few."""
    rng = np.random.default_rng(0)
    for number in range(300):
        side = int(rng.integers(4, 60))
        flat = np.full((side * 4, side * 4, 3), rng.integers(0, 256, 3), np.uint8)
        flat[:, :, rng.integers(3)] = np.arange(side * 4) % 256
        noise = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
        for kind in ("JPEG", "GIF", "BMP", "WEBP"):
            data = files.saved(files.pil((flat, noise, np.full_like(flat, (13, 10, 99)))[number % 3]), kind)
            assert not lines.converted(kind, data), (number, kind)


def test_a_picture_that_was_read_as_text_or_written_as_text_is_named():
    for kind in ("JPEG", "PNG"):
        data = files.saved(noisy(60), kind)
        for text in (data.decode("latin-1"), data.decode(errors="replace")):
            with pytest.raises(BadImage, match="read and written as text"):
                image.decode(text.encode())
        for start in (b"", b"data:image/jpeg;base64,"):
            with pytest.raises(BadImage, match="base64"):
                image.decode(start + base64.b64encode(data))
    with pytest.raises(BadImage, match="read and written as text"):
        image.decode(files.saved(noisy(60), "GIF").decode("latin-1").encode())


def test_what_is_looked_for_costs_next_to_nothing():
    """An intact picture is not read to its end."""
    data = files.saved(noisy(1400), "JPEG", quality=95)
    before = cv2.getTickCount()
    for _ in range(20):
        lines.converted(kinds.kind(data[:64]), data)
    asked = (cv2.getTickCount() - before) / 20
    before = cv2.getTickCount()
    image.decode(data)
    assert asked < 0.1 * (cv2.getTickCount() - before)
