"""Pictures of every kind become the same plain pixels; what cannot be used is refused with a fixed phrase."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from selfie.data import image
from selfie.data.image import BadImage


def smooth(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """H x W x 3 BGR without sharp edges, so that lossy formats stay close to it."""
    coarse = np.random.default_rng(seed).integers(30, 225, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def pil(bgr: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1]))


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def sixteen_bit(kind: str, bgr: np.ndarray) -> bytes:
    return cv2.imencode(kind, bgr.astype(np.uint16) * 257)[1].tobytes()


def with_alpha(bgr: np.ndarray) -> Image.Image:
    picture = pil(bgr).convert("RGBA")
    picture.putalpha(90)
    return picture


def over_white(bgr: np.ndarray, alpha: int = 90) -> np.ndarray:
    return np.round((bgr * float(alpha) + 255 * (255 - alpha)) / 255)


BGR = smooth()
GRAY = np.repeat(np.asarray(pil(BGR).convert("L"))[:, :, None], 3, axis=2)


def others() -> list[Image.Image]:
    """More frames; fresh ones, for Pillow leaves traces of one encoder in them that trouble the next."""
    return [pil(smooth(seed=seed)) for seed in (1, 2)]


@pytest.mark.parametrize(
    ("data", "expected", "tolerance"),
    [
        pytest.param(saved(pil(BGR), "JPEG", quality=95), BGR, 2, id="jpeg"),
        pytest.param(saved(pil(BGR), "JPEG", quality=95, progressive=True), BGR, 2, id="progressive jpeg"),
        pytest.param(saved(pil(BGR).convert("CMYK"), "JPEG", quality=95), BGR, 2, id="cmyk jpeg"),
        pytest.param(saved(pil(BGR).convert("L"), "JPEG", quality=95), GRAY, 2, id="gray jpeg"),
        pytest.param(
            saved(pil(BGR), "MPO", save_all=True, append_images=others(), quality=95), BGR, 2, id="jpeg and more"
        ),
        pytest.param(saved(pil(BGR), "PNG"), BGR, 0, id="png"),
        pytest.param(saved(pil(BGR).convert("LA"), "PNG"), GRAY, 0, id="gray and alpha png"),
        pytest.param(saved(with_alpha(BGR), "PNG"), over_white(BGR), 0, id="alpha png"),
        pytest.param(saved(pil(BGR).quantize(256), "PNG"), BGR, 6, id="palette png"),
        pytest.param(sixteen_bit(".png", BGR), BGR, 0, id="16-bit png"),
        pytest.param(sixteen_bit(".png", GRAY[:, :, 0]), GRAY, 0, id="16-bit gray png"),
        pytest.param(saved(pil(BGR), "PNG", save_all=True, append_images=others()), BGR, 0, id="animated png"),
        pytest.param(saved(pil(BGR), "WEBP", quality=95), BGR, 3, id="webp"),
        pytest.param(saved(with_alpha(BGR), "WEBP", lossless=True, exact=True), over_white(BGR), 0, id="alpha webp"),
        pytest.param(
            saved(pil(BGR), "WEBP", save_all=True, append_images=others(), lossless=True), BGR, 0, id="animated webp"
        ),
        pytest.param(saved(pil(BGR).quantize(256), "GIF"), BGR, 6, id="gif"),
        pytest.param(
            saved(pil(BGR).quantize(256), "GIF", save_all=True, append_images=others()), BGR, 6, id="animated gif"
        ),
        pytest.param(saved(pil(BGR), "BMP"), BGR, 0, id="bmp"),
        pytest.param(saved(pil(BGR), "TIFF"), BGR, 0, id="tiff"),
        pytest.param(saved(pil(BGR), "TIFF", compression="tiff_lzw"), BGR, 0, id="lzw tiff"),
        pytest.param(saved(pil(BGR).convert("CMYK"), "TIFF"), BGR, 1, id="cmyk tiff"),
        pytest.param(sixteen_bit(".tiff", BGR), BGR, 0, id="16-bit tiff"),
        pytest.param(
            saved(pil(BGR), "TIFF", save_all=True, append_images=others()), BGR, 0, id="tiff of several pages"
        ),
    ],
)
def test_every_kind_of_picture_becomes_plain_bgr(data, expected, tolerance):
    """Gray, alpha, palette, CMYK, 16 bits and animations end as H x W x 3 uint8 BGR of the (first) picture."""
    bgr = image.decode(data)
    assert bgr.dtype == np.uint8
    assert bgr.shape == expected.shape
    assert np.abs(bgr.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    """A picture stored turned or mirrored, with the EXIF tag that says so, decodes upright."""
    stored = {
        1: BGR,
        2: BGR[:, ::-1],
        3: BGR[::-1, ::-1],
        4: BGR[::-1],
        5: BGR.transpose(1, 0, 2),
        6: np.rot90(BGR),
        7: np.rot90(BGR, 2).transpose(1, 0, 2),
        8: np.rot90(BGR, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    bgr = image.decode(saved(pil(stored), kind, exif=exif, quality=98))
    assert bgr.shape == BGR.shape
    assert np.abs(bgr.astype(int) - BGR).mean() < 3


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size; deflate packs it into a few kilobytes however large it is."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


JPEG = saved(pil(smooth(300, 400)), "JPEG", quality=90)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty file", id="empty"),
        pytest.param(b"this is no picture", "unknown format", id="text"),
        pytest.param(
            b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is not read: save the drawing as PNG", id="svg"
        ),
        pytest.param(JPEG[:3], "broken or truncated", id="3 bytes of a jpeg"),
        pytest.param(
            saved(pil(BGR), "GIF").replace(struct.pack("<HH", 80, 60), struct.pack("<HH", 0, 60)),
            "broken or truncated",
            id="no width in a gif",
        ),
        pytest.param(png_header(0, 10), "broken or truncated", id="no width in a png"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt ", "unknown format", id="sound"),
        pytest.param(png_header(7072, 7072), "over 50 megapixels", id="50.01 megapixels"),
        pytest.param(png_header(60000, 60000), "over 50 megapixels", id="3600 megapixels"),
        pytest.param(png_header(7000, 7000), "broken or truncated", id="49 megapixels, but no pixels"),
        *[
            pytest.param(
                saved(pil(smooth(300, 400)), kind)[:-cut], "broken or truncated", id=f"{kind} without {cut} bytes"
            )
            for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")
            for cut in (1, 20, 600)
        ],
        pytest.param(saved(pil(BGR), "TIFF")[:-400], "broken or truncated", id="TIFF"),
        pytest.param(
            saved(pil(smooth(300, 400)), "JPEG", progressive=True)[:-20], "broken or truncated", id="progressive JPEG"
        ),
        pytest.param(saved(pil(smooth(1100, 1100)), "JPEG")[:-20], "broken or truncated", id="large JPEG"),
    ],
)
def test_hostile_input_is_refused_with_a_fixed_phrase(data, reason, capfd):
    """Bombs, broken and foreign files are a BadImage with a phrase that rejects.csv counts; nothing is printed."""
    for decode in (image.decode, image.decode_square):
        with pytest.raises(BadImage) as error:
            decode(data)
        assert str(error.value) == reason
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [7072, 8000, 60000])
def test_a_bomb_is_refused_before_it_is_decoded(side, monkeypatch):
    """The size is known from the header, and the decoder is not even called."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the bomb was decoded"))
    with pytest.raises(BadImage, match="over 50 megapixels"):
        image.decode(png_header(side, side))


def test_warnings_of_the_codecs_stay_off_stderr(capfd):
    """libjpeg's own complaints do not reach the terminal; later output of the process does."""
    start = JPEG.index(b"\xff\xd9")
    image.decode(JPEG[:start] + bytes(20) + JPEG[start:])  # extraneous bytes before marker 0xd9
    with pytest.raises(BadImage):
        image.decode(JPEG[: start // 2] + b"\xff\xd8" * 20 + JPEG[start // 2 :])
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_reading_files(tmp_path):
    """A file is read like its bytes; folders, missing and unreadable files, pipes and huge files have their phrases."""
    (tmp_path / "a.jpg").write_bytes(JPEG)
    assert np.array_equal(image.read(tmp_path / "a.jpg"), image.decode(JPEG))
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(image.MAX_BYTES + 1)
    for name, reason in [
        ("nothing.jpg", "no such file"),
        ("a.jpg/b.jpg", "no such file"),
        ("", "not a file"),
        ("pipe.jpg", "not a file"),
        ("empty.jpg", "empty file"),
        ("huge.jpg", "file over 200 MB"),
        ("a\0.jpg", "cannot be read"),
        ("x" * 300, "cannot be read"),
    ]:
        with pytest.raises(BadImage, match=f"^{reason}$"):
            image.read(os.path.join(tmp_path, name))


def test_files_whose_length_the_system_does_not_tell_are_read_whole():
    """Some file systems say 0, as the kernel does of its own files."""
    path = Path("/proc/filesystems")
    assert path.stat().st_size == 0
    assert image.load(path) == path.read_bytes() != b""


@pytest.mark.parametrize(("height", "width"), [(100, 700), (700, 100), (256, 256), (1, 1), (3, 40000)])
def test_square_squashes(height, width):
    """Any shape becomes size x size; the ends of the picture stay the ends."""
    ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
    result = image.square(ramp)
    assert result.shape == (256, 256, 3)
    if width > 256:
        assert result[:, 0].max() < 3
        assert result[:, -1].min() > 252


def photo(height: int, width: int) -> np.ndarray:
    """Smooth, with fine grain: what plain interpolation of a large picture would turn into coarse noise."""
    grain = np.random.default_rng(1).normal(0, 6, (height, width, 1))
    return np.clip(smooth(height, width) + grain, 0, 255).astype(np.uint8)


def test_large_pictures_are_halved_before_they_are_interpolated():
    """A fine chequered picture becomes even gray from 1024 pixels on; below, pixels are those of plain bilinear."""
    chequered = np.indices((1300, 1024)).sum(0).astype(np.uint8)[:, :, None].repeat(3, 2) % 2 * 255
    assert np.ptp(image.square(chequered)) <= 1
    below = photo(1023, 3000)
    assert np.array_equal(image.square(below), cv2.resize(below, (256, 256), interpolation=cv2.INTER_LINEAR))
    assert np.ptp(image.square(chequered[:512, :256], size=64)) <= 1


@pytest.mark.parametrize(
    ("side", "size", "decoded"),
    [
        (1023, 256, 1023),
        (1024, 256, 512),
        (2046, 256, 1023),
        (2047, 256, 512),
        (2048, 256, 512),
        (4100, 256, 513),
        (600, 32, 75),
    ],
)
def test_large_jpegs_are_decoded_at_reduced_scale(side, size, decoded):
    """By the decoder itself, down to what `square` halves other formats to; never below twice the wanted size."""
    data = saved(pil(smooth(side, side + 10)), "JPEG", quality=90)
    assert image.decode(data, size).shape[0] == decoded
    assert image.decode(data).shape == (side, side + 10, 3)
    assert image.decode(saved(pil(smooth(side, side)), "PNG"), size).shape == (side, side, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 85},
        {"quality": 85, "progressive": True},
        {"quality": 85, "subsampling": 0},
        {"mode": "L"},
        {"mode": "CMYK"},
        *[{"orientation": number} for number in range(1, 9)],
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(1080, 1350), (1025, 2051)])
def test_reduced_decoding_stays_close_to_full_decoding(options, shape):
    """Of whatever kind, size and orientation the JPEG is: half a level on average. (More only where a picture of odd
    size is stored turned, so that other pixels make a pair; its grain differs then.)"""
    options = dict(options)
    odd = options.get("orientation", 1) > 1 and (shape[0] % 2 or shape[1] % 2)
    picture = pil(photo(*shape)).convert(options.pop("mode", "RGB"))
    exif = Image.Exif()
    exif[0x112] = options.pop("orientation", 1)
    data = saved(picture, "JPEG", exif=exif, **options)
    reduced, full = image.decode_square(data).astype(int), image.square(image.decode(data))
    assert max(image.decode(data, 256).shape) < max(shape) / 1.9
    assert np.abs(reduced - full).mean() <= (2 if odd else 0.5)
    assert np.abs(reduced - full).max() <= (24 if odd else 12)


@pytest.mark.parametrize("crop", [224, 227, 256, 1])
def test_prepare_is_the_centre_crop_minus_the_mean(crop):
    """N x 3 x crop x crop float32, channels first, from the centre (rounded down), minus the mean of each channel."""
    batch = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8)
    mean = (103.939, 116.779, 123.68)
    blob = image.prepare(batch, crop, mean)
    start = (256 - crop) // 2
    assert blob.shape == (3, 3, crop, crop)
    assert blob.dtype == np.float32
    for number, channel, row, column in [(0, 0, 0, 0), (2, 1, crop - 1, 0), (1, 2, crop // 2, crop - 1)]:
        expected = np.float32(batch[number, start + row, start + column, channel]) - np.float32(mean[channel])
        assert blob[number, channel, row, column] == expected


def test_prepare_refuses_a_crop_that_does_not_fit():
    """A crop larger than the picture is an error, not a smaller blob."""
    with pytest.raises(ValueError, match="does not fit"):
        image.prepare(np.zeros((1, 100, 256, 3), np.uint8), 224, (0, 0, 0))
