"""Files as phones, cameras and old programs write them: read upright, in their colours, or refused before they cost."""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

import picture_files as files
from selfie.common import parallel, paths
from selfie.data import image
from selfie.data.codecs import heif, jpeg, kinds, messages, png
from selfie.data.image import BadImage

BGR = files.smooth()
ALPHA = np.tile(np.linspace(0, 255, 80).astype(np.uint8), (60, 1))
WHITENED = np.round((BGR * (ALPHA[:, :, None] / 255.0)) + 255 - ALPHA[:, :, None])


def distance(bgr: np.ndarray, expected: np.ndarray) -> float:
    """Mean difference in levels of two pictures of one shape."""
    assert bgr.dtype == np.uint8 and bgr.flags.c_contiguous
    assert bgr.shape == expected.shape
    return float(np.abs(bgr.astype(float) - expected).mean())


# --- phones' formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_and_avif_are_upright(kind, orientation):
    data = files.saved(files.pil(files.turned(BGR, orientation)), kind, quality=95, exif=_exif(orientation))
    assert kinds.kind(data) == kind
    assert distance(image.decode(data), BGR) < 5
    assert np.array_equal(image.decode_square(data), image.square(image.decode(data)))


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_heic_and_avif_of_other_kinds(kind):
    """Gray, or with alpha."""
    gray = np.repeat(BGR[:, :, :1], 3, axis=2)
    assert distance(image.decode(files.saved(files.pil(gray).convert("L"), kind, quality=95)), gray) < 5
    assert distance(image.decode(files.saved(files.with_alpha(BGR, ALPHA), kind, quality=95)), WHITENED) < 5


def test_the_first_of_several_pictures_is_taken():
    """A burst in a HEIC, an animated AVIF; by whatever brand they call themselves."""
    burst = pillow_heif.from_pillow(files.pil(BGR))
    burst.add_from_pillow(files.pil(files.smooth(30, 40, seed=1)))
    file = io.BytesIO()
    burst.save(file, quality=95)
    moving = files.saved(files.pil(BGR), "AVIF", quality=95, save_all=True, append_images=[files.pil(BGR[::-1])])
    single = files.saved(files.pil(BGR), "AVIF", quality=95)
    for data in (file.getvalue(), moving, single):
        assert distance(image.decode(data), BGR) < 5
    for data in (file.getvalue(), single):
        assert distance(image.decode(data[:8] + b"mif1" + data[12:]), BGR) < 5


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
@pytest.mark.parametrize("cut", [1, 20, 200])
def test_broken_heic_and_avif_are_refused(kind, cut):
    with pytest.raises(BadImage, match=r"^broken or truncated$"):
        image.decode(files.saved(files.pil(files.smooth(300, 400)), kind)[:-cut])


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_heic_and_avif_are_measured_before_they_are_decoded(kind, monkeypatch):
    data = files.saved(files.pil(BGR), kind)
    place = data.index(b"ispe") + 8
    monkeypatch.setattr(heif, "decode", lambda *_: pytest.fail("the bomb was decoded"))
    for width, height, reason in [(8001, 8000, "over 64 megapixels"), (2**32 - 1,) * 2 + ("over 64 megapixels",)]:
        with pytest.raises(BadImage, match=f"^{reason}$"):
            image.decode(data[:place] + struct.pack(">II", width, height) + data[place + 8 :])


def test_a_heic_of_more_tiles_than_it_holds_is_refused(monkeypatch):
    """Each would be decoded, and thrown away."""

    def box(name: bytes, *content: bytes) -> bytes:
        body = b"".join(content)
        return struct.pack(">I", 8 + len(body)) + name + body

    def file(count: int) -> bytes:
        """Item 1 has 1000 x 800 pixels, and `count` times item 2, of 500 x 400, as its tiles."""
        sizes = [box(b"ispe", bytes(4), struct.pack(">II", *size)) for size in ((1000, 800), (500, 400))]
        owners = struct.pack(">IHBBHBB", 2, 1, 1, 1, 2, 1, 2)
        tiles = box(b"dimg", struct.pack(f">HH{count}H", 1, count, *[2] * count))
        meta = (box(b"iprp", box(b"ipco", *sizes), box(b"ipma", bytes(4), owners)), box(b"iref", bytes(4), tiles))
        return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + box(b"meta", bytes(4), *meta)

    monkeypatch.setattr(heif, "decode", lambda *_: np.zeros((8, 10, 3), np.uint8))
    assert image.decode(file(4)).shape == (8, 10, 3)
    with pytest.raises(BadImage, match=heif.TOO_MANY_TILES):
        image.decode(file(400))


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(heif.features, "get_supported_modules", lambda: ["webp"])
    for kind, package in [("HEIC", "pillow-heif"), ("AVIF", "Pillow")]:
        with pytest.raises(BadImage, match=package):
            image.decode(SEEDS[kind.lower()])


@pytest.mark.parametrize("data", [b"\xff\x0a" + bytes(90), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(90)])
def test_jpeg_xl_is_named_with_what_to_do(data):
    with pytest.raises(BadImage, match=r"JPEG XL .*convert it"):
        image.decode(data)


RAW = "raw pictures of cameras are not read: convert them"
OTHERS = {
    "web page": (b"\n<!DOCTYPE html><html>", r"web page \(HTML\), not a picture: download the picture itself"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG is not read: save the drawing as PNG"),
    "XML": (b'<?xml version="1.0"?><svg/>', "if it is an SVG, save the drawing as PNG"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "run 'git lfs pull'"),
    "film": (b"\0\0\0\x18ftypmp42", r"film \(MP4 video\), not a picture: take one out of it"),
    "old film": (b"\0\0\0\x08wide\0\0\1\0mdat", r"film \(QuickTime video\)"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST", r"film \(AVI video\)"),
    "PDF": (b"%PDF-1.4", "PDF is not read: save it as JPEG or PNG"),
    "PSD": (b"8BPS\0\1", "Photoshop is not read: save it"),
    "ICO": (b"\0\0\1\0\1\0", r"icon \(ICO\) is not read: save it"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 is not read: save it"),
    "PPM": (b"P6 80 60 255\n", "Netpbm is not read: save it"),
    "RAF": (b"FUJIFILMCCD-RAW 0201", RAW),
    "CR3": (b"\0\0\0\x18ftypcrx ", RAW),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0", RAW),
    "sound": (b"RIFF\0\0\0\0WAVEfmt ", "^unknown format$"),
    "TGA": (b"\0\0\2\0\0\0\0\0", "^unknown format$"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_picture_is_named_with_what_to_do(name):
    data, reason = OTHERS[name]
    with pytest.raises(BadImage, match=reason):
        image.decode(data + bytes(300))


@pytest.mark.parametrize("tags", [{"tag_50706": 1}, {"tag_254": 1, "tag_330": 8}])
def test_the_small_picture_in_a_raw_one_is_not_taken_for_it(tags):
    """DNG, NEF, ARW are TIFF to look at, whose first page is a thumbnail."""
    assert image.decode(files.tiff(BGR[:, :, ::-1].astype(int), 8, 2, tag_254=0)).shape == BGR.shape
    with pytest.raises(BadImage, match=RAW):
        image.decode(files.tiff(BGR[:, :, ::-1].astype(int), 8, 2, **tags))


@pytest.mark.parametrize(
    "marker, bits, reason",
    [
        (0xC1, 12, jpeg.DEEP),
        (0xC3, 16, jpeg.DEEP),
        (0xC3, 8, jpeg.RARE),
        (0xC5, 8, jpeg.RARE),
        (0xF7, 8, jpeg.RARE),
    ],
)
def test_rare_jpegs_are_named(marker, bits, reason):
    """Deep, lossless and hierarchical ones, and JPEG-LS, are whole files: not 'broken'."""
    data = bytearray(files.saved(files.pil(BGR).convert("L"), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 1], data[place + 4] = marker, bits
    with pytest.raises(BadImage) as error:
        image.decode(bytes(data))
    assert str(error.value) == reason


# --- transparency ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("hidden", [(0, 0, 0), (0, 255, 0), (255, 255, 255)])
def test_what_is_transparent_is_white_whatever_its_colour(kind, hidden):
    cut_out = BGR.copy()
    cut_out[:, :40] = hidden
    alpha = np.full((60, 80), 255, np.uint8)
    alpha[:, :40] = 0
    expected = BGR.copy()
    expected[:, :40] = 255
    data = files.saved(files.with_alpha(cut_out, alpha), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert distance(image.decode(data), expected) == 0
    assert np.array_equal(image.decode_square(data), image.square(expected))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_half_transparent_pixels_are_mixed_with_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = files.saved(files.with_alpha(BGR, ALPHA), kind, **options)
    assert np.abs(image.decode(data) - WHITENED).max() <= 1


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_an_opaque_picture_with_alpha_is_that_without(kind, orientation):
    stored = files.turned(BGR, orientation)
    opaque = files.with_alpha(stored, np.full(stored.shape[:2], 255, np.uint8))
    data = files.saved(opaque, kind, exif=_exif(orientation), **({"lossless": True} if kind == "WEBP" else {}))
    assert distance(image.decode(data), BGR) == 0


def test_one_transparent_colour():
    """Of a palette, gray or colour PNG, and of a GIF; where a GIF's frame ends is white, too."""
    palette = files.pil(BGR).quantize(8)
    for kind in ("PNG", "GIF"):
        expected = np.asarray(palette.convert("RGB"))[:, :, ::-1].copy()
        expected[np.asarray(palette) == 3] = 255
        assert distance(image.decode(files.saved(palette, kind, transparency=3)), expected) == 0
    gray = np.tile(np.arange(80, dtype=np.uint8), (60, 1))
    expected = np.repeat(gray[:, :, None], 3, axis=2)
    expected[gray == 7] = 255
    assert distance(image.decode(files.saved(Image.fromarray(gray), "PNG", transparency=7)), expected) == 0
    deep = cv2.imencode(".png", gray.astype(np.uint16) * 257)[1].tobytes()
    deep = files.png_with(deep, files.png_chunk(b"tRNS", struct.pack(">H", 9)))
    assert distance(image.decode(deep), np.repeat(gray[:, :, None], 3, axis=2)) == 0
    colours = np.where(gray[:, :, None] == 7, np.uint8([10, 20, 30]), BGR)
    expected = np.where(gray[:, :, None] == 7, 255, BGR)
    data = files.saved(files.pil(colours), "PNG", transparency=(30, 20, 10))
    assert distance(image.decode(data), expected) == 0
    small = bytearray(files.saved(files.pil(BGR).quantize(8), "GIF"))
    small[6:10] = struct.pack("<HH", 90, 60)
    bgr = image.decode(bytes(small))
    assert bgr.shape == (60, 90, 3) and (bgr[:, 80:] == 255).all() and (bgr[:, :80] < 255).any()


def test_16_bits_with_alpha():
    deep = np.dstack([BGR, ALPHA]).astype(np.uint16) * 257
    assert np.abs(image.decode(cv2.imencode(".png", deep)[1].tobytes()) - WHITENED).max() <= 1


# --- orientation -----------------------------------------------------------------------------------------------------

TAG_BEYOND_THE_FILE = struct.pack("<HHII", 271, 2, 400, 9_000_000)
MAKER_NOTE_OF_4_GB = struct.pack("<HHII", 270, 7, 2**32 - 1, 26)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_orientation_is_found_wherever_writers_put_it(orientation, order):
    stored = files.pil(files.turned(BGR, orientation))
    exif = files.exif(orientation, order)
    plain_png, plain_webp = files.saved(stored, "PNG"), files.saved(stored, "WEBP", lossless=True)
    for data in [
        files.webp_with(plain_webp, exif, stored.size),
        files.webp_with(plain_webp, b"Exif\0\0" + exif, stored.size),
        files.png_with(plain_png, files.png_chunk(b"eXIf", exif)),
        files.png_with(plain_png, files.raw_profile(exif)),
        files.png_with(plain_png, files.raw_profile(exif, b"APP1", packed=False)),
        plain_png[:-12] + files.raw_profile(exif) + plain_png[-12:],
    ]:
        assert distance(image.decode(data), BGR) == 0
    large = files.pil(files.turned(files.smooth(300, 400), orientation))
    data = files.jpeg_with(files.saved(large, "JPEG", quality=95), exif)
    assert image.decode(data).shape == (300, 400, 3)
    assert distance(image.decode(data, 32), image.reduced(files.smooth(300, 400), 4)) < 3


@pytest.mark.parametrize("bad", [TAG_BEYOND_THE_FILE, MAKER_NOTE_OF_4_GB, TAG_BEYOND_THE_FILE + bytes(12)])
def test_a_bad_tag_before_the_orientation_hides_nothing(bad, recwarn):
    data = files.jpeg_with(files.saved(files.pil(np.rot90(BGR)), "JPEG", quality=95), files.exif(6, before=bad))
    assert distance(image.decode(data), BGR) < 3
    assert not recwarn.list


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"Exif\0\0", files.exif(0), files.exif(9), files.exif(6)[:20], b"x" * 90]
)
def test_an_orientation_that_is_none_turns_nothing(exif):
    data = files.jpeg_with(files.saved(files.pil(BGR), "JPEG", quality=95), exif)
    assert distance(image.decode(data), BGR) < 3


# --- whole files that libraries refuse -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([(b"tEXt", b"Comment\0" + b"x" * 20_000_000)], id="20 MB of text"),
        pytest.param([(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 20_000_000))], id="20 MB of packed text"),
        pytest.param([(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000))], id="packed UTF-8"),
        pytest.param([(b"iCCP", b"icc\0\0" + zlib.compress(b"x" * 20_000_000))], id="20 MB of profile"),
        pytest.param([(b"tEXt", b"Comment\0" + b"x" * 1_000_000)] * 80, id="80 texts of 1 MB"),
        pytest.param([(b"tEXt", b"Comment\0short")] * 3000, id="3000 texts"),
        pytest.param([(b"iCCP", b"icc\0\0broken")], id="a profile that is none"),
    ],
)
def test_a_png_with_large_text_or_profile_is_whole(chunks, capfd):
    data = files.png_with(files.saved(files.pil(BGR), "PNG"), *(files.png_chunk(*chunk) for chunk in chunks))
    assert distance(image.decode(data), BGR) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14, 16])
@pytest.mark.parametrize("more", [{}, {"big": True}, {"deflate": True}, {"tag_274": 6}], ids=str)
def test_tiffs_of_any_bits(order, bits, more):
    stored = files.turned(BGR, more.get("tag_274", 1))
    levels = 2**bits - 1
    for samples, photometric in [
        (stored[:, :, ::-1], 2),
        (stored[:, :, :1], 1),
        (255 - stored[:, :, :1].astype(int), 0),
    ]:
        if photometric == 2 and bits == 1 and more.get("big"):
            continue
        data = files.tiff(np.round(samples * (levels / 255)).astype(int), bits, photometric, order, **more)
        expected = BGR if photometric == 2 else np.repeat(BGR[:, :, :1], 3, axis=2)
        expected = np.round(expected * (levels / 255)) * (255 / levels)
        assert np.abs(image.decode(data) - expected).max() <= 1.01


def test_tiffs_in_small_tiles():
    """OpenCV expects other lengths of some."""
    file = io.BytesIO()
    tifffile.imwrite(file, BGR[:, :, ::-1], photometric="rgb", tile=(16, 16))
    assert distance(image.decode(file.getvalue()), BGR) == 0


GRAY = np.repeat(BGR[:, :, 1:2], 3, axis=2)
KINDS_OF_TIFF = {  # photometric interpretation, kinds of further samples, samples, what they are
    "rgb": ("rgb", [], BGR[:, :, ::-1], BGR),
    "gray": ("minisblack", [], BGR[:, :, 1], GRAY),
    "white is zero": ("miniswhite", [], 255 - BGR[:, :, 1], GRAY),
    "alpha": ("rgb", ["unassalpha"], np.dstack([BGR[:, :, ::-1], ALPHA]), WHITENED),
    "alpha multiplied": (
        *("rgb", ["assocalpha"]),
        np.dstack([np.round(BGR[:, :, ::-1] * (ALPHA[:, :, None] / 255.0)), ALPHA]).astype(np.uint8),
        WHITENED,
    ),
    "gray and alpha": (
        *("minisblack", ["unassalpha"], np.dstack([BGR[:, :, 1], ALPHA])),
        np.round(GRAY * (ALPHA[:, :, None] / 255.0)) + 255 - ALPHA[:, :, None],
    ),
    "a fourth that is no alpha": ("rgb", ["unspecified"], np.dstack([BGR[:, :, ::-1], ALPHA]), BGR),
}


@pytest.mark.parametrize(
    "scale, dtype", [(1, "u1"), (257, "u2"), (16843009, "u4"), (1 / 255, "f2"), (1 / 255, "f4"), (1 / 255, "f8")]
)
@pytest.mark.parametrize("kind", KINDS_OF_TIFF)
def test_tiffs_of_any_type_and_order(kind, scale, dtype):
    """Integers and floating-point numbers, planes apart or not, in strips and in tiles, as differences or plain."""
    photometric, extra, samples, expected = KINDS_OF_TIFF[kind]
    wide = (samples.astype(np.float64 if dtype[0] == "f" else np.uint64) * scale).astype(dtype)
    for apart in (False, True) if samples.ndim == 3 else (False,):
        stored = np.ascontiguousarray(wide.transpose(2, 0, 1)) if apart else wide
        for more in (
            {},
            {"tile": (16, 16)},
            {"tile": (32, 48), "compression": "zlib"},
            {"compression": "zlib", "predictor": True},
        ):
            if dtype[0] == "f" and "predictor" in more:
                continue  # tifffile writes none without a further package; see below
            for order in "<>" if not more else "<":
                file = io.BytesIO()
                options = {"planarconfig": "separate" if apart else "contig"} if samples.ndim == 3 else {}
                options |= {"photometric": photometric, "extrasamples": extra, "byteorder": order}
                tifffile.imwrite(file, stored, **options, **more)
                assert np.abs(image.decode(file.getvalue()) - expected).max() <= 2, (apart, more, order)


@pytest.mark.parametrize("order", "<>")
def test_tiffs_of_floating_point_differences(order):
    """All first bytes of a row, then all second ones, each less the one before it (Adobe's technical note 3)."""
    values = (GRAY[:, :, 0] / 255).astype(">f4").view(np.uint8).reshape(60, 80, 4).transpose(0, 2, 1).reshape(60, 320)
    stored = np.diff(values.astype(int), axis=1, prepend=0) % 256
    more = {"tag_256": 80, "tag_258": 32, "tag_317": 3, "tag_339": 3}
    data = files.tiff(stored[:, :, None], 8, 1, order, deflate=True, **more)
    assert np.array_equal(image.decode(data), GRAY)


@pytest.mark.parametrize(
    "samples, reason",
    [
        (BGR.astype(np.float32), "floating-point numbers beyond 0 to 1"),
        (np.full((60, 80), np.nan, np.float32), "floating-point numbers beyond 0 to 1"),
        (BGR.astype(np.int16), "signed numbers is not read"),
    ],
)
def test_tiffs_whose_range_nobody_says_are_named(samples, reason):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, photometric="rgb" if samples.ndim == 3 else "minisblack")
    with pytest.raises(BadImage, match=reason):
        image.decode(file.getvalue())


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_one_transparent_shade_of_a_gray_png(bits):
    """As many bits as a shade has: Pillow compares those of 2 and 4 with 8, OpenCV none."""
    shades = (np.arange(80) * 2**bits // 80).astype(np.uint16)
    row = np.unpackbits(shades.astype(">u2").view(np.uint8)).reshape(80, 16)[:, 16 - bits :]
    pixels = zlib.compress((b"\0" + np.packbits(row).tobytes()) * 60)
    header = files.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, bits, 0, 0, 0, 0))
    chunks = [files.png_chunk(b"tRNS", struct.pack(">H", int(shades[40]))), files.png_chunk(b"IDAT", pixels)]
    data = png.SIGNATURE + header + b"".join(chunks) + files.png_chunk(b"IEND", b"")
    expected = np.where(shades == shades[40], 255, shades >> 8 if bits == 16 else shades * 255 // (2**bits - 1))
    assert np.array_equal(image.decode(data), np.broadcast_to(expected[None, :, None], (60, 80, 3)))


@pytest.mark.parametrize("bits", [2, 4])
def test_tiffs_with_a_palette(bits):
    colours = np.random.default_rng(0).integers(0, 256, (2**bits, 3))
    numbers = (BGR[:, :, :1] >> (8 - bits)).astype(int)
    data = files.tiff(numbers, bits, 3, tag_320=(colours.T * 257).ravel())
    assert distance(image.decode(data), colours[numbers[:, :, 0]][:, :, ::-1]) == 0


MASKS = {
    "565": ((0xF800, 0x7E0, 0x1F, 0), 16),
    "555": ((0x7C00, 0x3E0, 0x1F, 0), 16),
    "444": ((0xF00, 0xF0, 0xF, 0), 16),
    "565 the other way": ((0x1F, 0x7E0, 0xF800, 0), 16),
    "888": ((0xFF0000, 0xFF00, 0xFF, 0), 32),
    "888 the other way": ((0xFF, 0xFF00, 0xFF0000, 0), 32),
    "10 bits": ((0x3FF00000, 0xFFC00, 0x3FF, 0), 32),
    "1 bit": ((0x4, 0x2, 0x1, 0), 16),
}


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("name", MASKS)
def test_bmps_with_any_masks(name, header):
    masks, bits = MASKS[name]
    levels = np.array([mask // (mask & -mask) for mask in masks[2::-1]])
    data = files.bmp(np.dstack([BGR, ALPHA]), masks, bits, header)
    exact = np.round(BGR * (levels / 255)) * (255 / levels)
    assert np.abs(image.decode(data) - exact).max() <= (8 if header == 40 else 1)  # OpenCV fills bits up with zeros


@pytest.mark.parametrize(
    ("masks", "bits"), [((0xF00, 0xF0, 0xF, 0xF000), 16), ((0xFF0000, 0xFF00, 0xFF, 0xFF << 24), 32)]
)
def test_bmps_with_alpha(masks, bits):
    data = files.bmp(np.dstack([BGR, ALPHA]), masks, bits, 108)
    assert np.abs(image.decode(data) - WHITENED).max() <= (1 if bits == 32 else 18)
    never_set = files.bmp(np.dstack([BGR, ALPHA * 0]), masks, bits, 108)
    assert np.abs(image.decode(never_set) - BGR.astype(int)).max() <= (1 if bits == 32 else 9)


# --- large pictures, bombs, damage -----------------------------------------------------------------------------------


def test_a_jpeg_of_200_megapixels_is_decoded_at_the_scale_that_fits():
    """Phones make them; with 50 megapixels decoded it takes as much memory as one of 50."""
    picture = Image.fromarray(files.smooth(96, 128)[:, :, 0]).resize((16384, 12288), Image.Resampling.NEAREST)
    data = files.saved(picture, "JPEG", quality=50, exif=_exif(6))
    bgr = image.decode(data)
    assert bgr.shape == (4096, 3072, 3)
    assert np.abs(bgr[:, :, 0] - np.rot90(np.asarray(picture)[::4, ::4], -1).astype(int)).mean() < 3
    assert image.decode(data, 256).shape == (2048, 1536, 3)
    assert image.decode(data, max_pixels=4_000_000).shape == (2048, 1536, 3)


def test_a_progressive_jpeg_is_kept_whole_while_it_is_decoded(monkeypatch):
    """So its size is limited by that, too."""
    data = files.saved(files.pil(files.smooth(600, 900)), "JPEG", progressive=True, subsampling=2)
    monkeypatch.setattr(image, "MAX_PIXELS", 200_000)
    assert image.decode(data).shape == (300, 450, 3)
    monkeypatch.setattr(jpeg, "MAX_COEFFICIENTS", 3 * 600 * 900 - 1)
    with pytest.raises(BadImage, match=jpeg.TOO_LARGE_PROGRESSIVE):
        image.decode(data)


def test_limits_can_be_lowered():
    """For a service: a JPEG is reduced to what is allowed, everything else refused."""
    with pytest.raises(BadImage, match=r"^over 0.01 megapixels$"):
        image.decode(files.saved(files.pil(files.smooth(101, 100)), "PNG"), max_pixels=10_000)
    data = files.saved(files.pil(files.smooth(801, 800)), "JPEG")
    assert image.decode(data, max_pixels=50_000).shape == (201, 200, 3)
    with pytest.raises(BadImage, match=r"^over "):
        image.decode(data, max_pixels=10_000)


def test_the_largest_jpegs_are_refused_by_their_header():
    data = bytearray(files.saved(files.pil(BGR), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 30_000, 30_000)
    with pytest.raises(BadImage, match=r"^over 800 megapixels$"):
        image.decode(bytes(data))


def memory_and_seconds(data: bytes) -> tuple[str, int, float]:
    """What `image.decode` says of hostile bytes, in a process of its own: the reason, MB more than before, seconds."""
    code = """if True:
        import resource, sys, time
        from selfie.data import image
        data = sys.stdin.buffer.read()
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            reason = str(image.decode(data).shape)
        except image.BadImage as error:
            reason = str(error)
        spent = time.process_time() - start
        print(reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, spent, sep="|")
    """
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "tools")}
    result = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, env=environment, timeout=120)
    assert not result.stderr, result.stderr
    reason, memory, seconds = result.stdout.decode().split("|")
    return reason, int(memory), float(seconds)


def test_a_png_that_claims_2_gigabytes_is_refused_without_them():
    data = files.saved(files.pil(BGR), "PNG")
    start = data.index(b"IDAT") - 4
    reason, memory, seconds = memory_and_seconds(data[:start] + struct.pack(">I", 0x7FFFFFF0) + data[start + 4 :])
    assert reason == "broken or truncated"
    assert memory < 50 and seconds < 1


@pytest.mark.parametrize(("size", "scans"), [((1000, 1000), 5000), ((3000, 3000), 120)])
def test_a_jpeg_of_thousands_of_scans_is_refused_before_they_are_decoded(size, scans):
    reason, memory, seconds = memory_and_seconds(files.with_scans(Image.new("RGB", size, (90, 60, 30)), scans))
    assert reason == jpeg.TOO_MANY_SCANS
    assert memory < 50 and seconds < 1


def test_scans_are_not_counted_where_there_are_none():
    """In other segments, and in what follows a picture: phones append films."""
    data = files.saved(files.pil(BGR), "JPEG", progressive=True, quality=95)
    start = data.index(b"\xff\xda")
    comment = b"\xff\xfe" + struct.pack(">H", 40_002) + b"\xff\xda" * 20_000
    for odd in (data + b"\xff\xda" * 5000, data[:start] + comment + data[start:]):
        assert np.array_equal(image.decode(odd), image.decode(data))
    hidden = files.with_scans(files.pil(BGR), 5000)
    start = hidden.index(b"\xff\xda", hidden.index(b"\xff\xda") + 2)
    with pytest.raises(BadImage, match=jpeg.TOO_MANY_SCANS):  # an end of picture in a comment is none
        image.decode(hidden[:start] + b"\xff\xfe\x00\x04\xff\xd9" + hidden[start:])


def test_a_png_of_too_many_chunks_is_refused(monkeypatch):
    monkeypatch.setattr(png, "MAX_CHUNKS", 50)
    data = files.png_with(files.saved(files.pil(BGR), "PNG"), *[files.png_chunk(b"teSt", b"")] * 60)
    with pytest.raises(BadImage, match=png.TOO_MANY_CHUNKS):
        image.decode(data)


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "webp", "gif", "tiff of 2 bits", "bmp", "heic", "avif"])
def test_a_file_may_end_anywhere(name):
    """Every beginning of a small file is refused, or what is missing is no part of the picture."""
    data = SEEDS[name]
    full = image.decode(data)
    for length in range(1, min(len(data), 1500)):
        try:
            bgr = image.decode(data[:length])
        except BadImage:
            continue
        assert bgr.shape == full.shape, length
    last = files.saved(files.pil(BGR), "JPEG")
    with pytest.raises(BadImage):
        image.decode(last[: last.index(b"\xff\xda")] + b"\xff\xda\0\2")


NOISE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_damaged_scan_is_refused_like_one_that_ends_early(progressive):
    """libjpeg makes up the rest of it and returns a picture; nobody shall train on that."""
    data = files.saved(files.pil(NOISE), "JPEG", quality=90, progressive=progressive)
    middle = data.index(b"\xff\xda") + (len(data) - data.index(b"\xff\xda")) // 2
    for damaged in (data[:middle] + b"\xff\xd9", data[:middle] + b"\xff\xd8" * 20 + data[middle:]):
        for size in (None, 32):
            with pytest.raises(BadImage, match=r"^broken or truncated$"):
                image.decode(damaged, size)


def test_only_the_damaged_one_of_many_decoded_at_a_time_is_refused(capfd):
    """All threads share one stderr, by which libjpeg tells damage."""
    good = files.saved(files.pil(NOISE), "JPEG", quality=90)
    middle = len(good) // 2
    bad = good[:middle] + b"\xff\xd9"
    pattern = [number % 7 == 3 for number in range(140)]

    def refused(is_bad: bool) -> bool:
        try:
            image.decode(bad if is_bad else good)
        except BadImage:
            return True
        return False

    assert list(parallel.threads(refused, pattern, 6)) == pattern
    assert capfd.readouterr() == ("", "")


def test_decoding_works_without_a_stderr():
    """As a daemon has none; and it has none afterwards."""
    code = """if True:
        import os
        from selfie.data import image
        os.close(2)  # only now: else the first file that an import keeps open gets its number
        assert image.decode(open(os.environ["PICTURE"], "rb").read()).shape
        try:
            os.fstat(2)
        except OSError:
            print("fine")
    """
    picture = paths.ROOT / "docs" / "report.jpg"
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "tools"), "PICTURE": str(picture)}
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert result.stdout == "fine\n"


def test_one_who_decodes_alone_waits_for_others_and_they_for_him():
    told = messages.Messages()
    together, refusals = threading.Event(), []

    def complaining() -> str:
        with open(2, "wb", closefd=False) as stderr:
            stderr.write(b"Corrupt JPEG data: premature end of data segment\n")
        together.wait(10)
        return "picture"

    def refused() -> None:
        with pytest.raises(messages.Damaged):
            told.of(complaining)
        refusals.append(1)

    threads = [threading.Thread(target=refused) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    together.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert len(refusals) == 3
    assert told.of(lambda: "quiet") == "quiet"


# --- mutants ---------------------------------------------------------------------------------------------------------

WORDS = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\0\0\xff\xff", b"\0\1\0\0", b"\0\0\x40\0")


def mutant(data: bytes, chance: random.Random) -> bytes:
    """Change a file as disks, networks and enemies do: bits, bytes, lengths, parts that are cut, doubled or gone."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = min(int(chance.random() ** chance.choice((1, 3)) * len(changed)), len(changed) - 1)
        change = chance.randrange(6)
        if change == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif change == 1:
            changed[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif change == 2:
            changed[place : place + 4] = chance.choice(WORDS)
        elif change == 3 and len(changed) > 30:
            del changed[place : place + chance.randrange(1, 20)]
        elif change == 4:
            other = chance.randrange(len(changed))
            changed[place:place] = changed[other : other + chance.randrange(1, 64)]
        elif chance.random() < 0.1:
            del changed[max(place, 20) :]
    return bytes(changed)


SEEDS = {
    "heic": files.saved(files.pil(BGR), "HEIC", exif=_exif(6)),
    "heic with alpha": files.saved(files.with_alpha(BGR, ALPHA), "HEIC"),
    "avif": files.saved(files.pil(BGR), "AVIF", exif=_exif(6)),
    "avif with alpha": files.saved(files.with_alpha(BGR, ALPHA), "AVIF"),
    "jpeg": files.jpeg_with(files.saved(files.pil(BGR), "JPEG"), files.exif(6)),
    "progressive": files.saved(files.pil(BGR), "JPEG", progressive=True),
    "png": files.png_with(files.saved(files.with_alpha(BGR, ALPHA), "PNG"), files.raw_profile(files.exif(6))),
    "webp": files.webp_with(files.saved(files.pil(BGR), "WEBP"), b"Exif\0\0" + files.exif(6), (80, 60)),
    "gif": files.saved(files.pil(BGR).quantize(8), "GIF", transparency=2),
    "tiff of 2 bits": files.tiff(BGR >> 6, 2, 2),
    "big tiff of 12 bits": files.tiff(BGR[:, :, :1].astype(int) << 4, 12, 1, big=True, deflate=True),
    "bmp": files.bmp(np.dstack([BGR, ALPHA]), (0xF00, 0xF0, 0xF, 0xF000), 16, 108),
}


@pytest.mark.parametrize("name", SEEDS)
def test_mutants_are_pictures_or_refused_within_bounds(name, capfd):
    """500 of each: a picture or a BadImage, in seconds and megabytes, without a word on stderr. (Seeded.)"""
    chance = random.Random(name)
    assert image.decode(SEEDS[name]).shape in ((60, 80, 3), (80, 60, 3))
    before, outcomes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(500):
            data, start = mutant(SEEDS[name], chance), time.process_time()
            try:
                bgr = image.decode(data)
                assert bgr.dtype == np.uint8 and bgr.ndim == 3 and bgr.shape[2] == 3
                outcomes.add("picture")
            except BadImage as error:
                outcomes.add(str(error))
            assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700 << 10
    assert {"picture", "broken or truncated"} <= outcomes
    assert all(len(outcome) < 120 for outcome in outcomes)
    assert capfd.readouterr() == ("", "")


LONG = 20_000_000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xd8" + b"\xff\xfe\0\2" * (LONG // 4), id="a JPEG of comments"),
        pytest.param(b"\xff\xd8" + b"\xff\xd0" * (LONG // 2), id="a JPEG of markers"),
        pytest.param(b"\xff\xd8" + b"\xff\0" * (LONG // 2), id="a JPEG of stuffed bytes"),
        pytest.param(b"\xff\xd8" + b"\xff\xd8" * (LONG // 2), id="a JPEG of beginnings"),
        pytest.param(
            files.saved(files.pil(BGR), "JPEG", progressive=True)[:-2]
            + (b"\xff\xda\0\2" + b"\xff\xfe\0\2" * 9) * (LONG // 40),
            id="a JPEG of comments between scans",
        ),
        pytest.param(b"\x89PNG\r\n\x1a\n" + files.png_chunk(b"IHDR", bytes(13)) + bytes(LONG), id="a PNG of chunks"),
        pytest.param(b"GIF89a" + bytes(7) + b"!\xfe" + b"\1x" * (LONG // 2), id="a GIF of comments"),
        pytest.param(b"RIFF" + bytes(4) + b"WEBP" + (b"JUNK" + bytes(4)) * (LONG // 8), id="a WebP of junk"),
        pytest.param(b"\0\0\0\x10ftypheic" + bytes(4) + b"\0\0\0\x08free" * (LONG // 8), id="a HEIC of boxes"),
        pytest.param(
            b"\0\0\0\x10ftypheic"
            + bytes(4)
            + (struct.pack(">I4sII", 16 + 200_000, b"ipma", 0, 2**32 - 1) + bytes(200_000)) * (LONG // 200_016),
            id="a HEIC of lists",
        ),
        pytest.param(
            b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 258, 4, 2**32 - 1, 8) * (LONG // 12), id="a TIFF of tags"
        ),
        pytest.param(
            b"II+\0\x08\0\0\0"
            + struct.pack("<QQ", 16, 2**62)
            + b"".join(struct.pack("<HHQQ", 1 + number, 16, 2**62, 24) for number in range(60_000)),
            id="a BigTIFF of tags",
        ),
    ],
)
def test_no_header_takes_long(data):
    """However many small parts a large file has: they are walked through in Python."""
    start = time.process_time()
    with pytest.raises(BadImage):
        image.decode(data)
    assert time.process_time() - start < 2
