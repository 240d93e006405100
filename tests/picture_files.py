"""Image files made byte by byte, as cameras, phones and old programs write them and as libraries here do not."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pillow_heif
from PIL import Image


def smooth(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """H x W x 3 BGR without sharp edges, so that lossy formats stay close to it."""
    coarse = np.random.default_rng(seed).integers(30, 225, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def pil(bgr: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1]))


def with_alpha(bgr: np.ndarray, alpha: np.ndarray) -> Image.Image:
    picture = pil(bgr).convert("RGBA")
    picture.putalpha(Image.fromarray(alpha))
    return picture


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    """The bytes of a file of any kind that Pillow writes, and HEIC."""
    file = io.BytesIO()
    if kind == "HEIC":
        pillow_heif.from_pillow(picture).save(file, **options)
    else:
        picture.save(file, kind, **options)
    return file.getvalue()


def turned(bgr: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that a file holds which says this EXIF orientation, for a picture that is upright as given."""
    return {
        1: bgr,
        2: bgr[:, ::-1],
        3: bgr[::-1, ::-1],
        4: bgr[::-1],
        5: bgr.transpose(1, 0, 2),
        6: np.rot90(bgr),
        7: np.rot90(bgr, 2).transpose(1, 0, 2),
        8: np.rot90(bgr, -1),
    }[orientation]


def exif(orientation: int, order: str = "<", before: bytes = b"") -> bytes:
    """EXIF data, without a prefix, with the orientation and, before it, whole tags of 12 bytes."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    tags = before + struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    return head + struct.pack(order + "H", len(tags) // 12) + tags + bytes(4)


def jpeg_with(data: bytes, exif_data: bytes) -> bytes:
    """A JPEG with EXIF data in its segment APP1."""
    body = b"Exif\0\0" + exif_data
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def webp_with(data: bytes, exif_data: bytes, size: tuple[int, int]) -> bytes:
    """A plain WebP with a chunk of EXIF data, as it is given."""
    chunk = b"EXIF" + struct.pack("<I", len(exif_data)) + exif_data + bytes(len(exif_data) % 2)
    extended = struct.pack("<4sII", b"VP8X", 10, 0x08)
    extended += (size[0] - 1).to_bytes(3, "little") + (size[1] - 1).to_bytes(3, "little")
    body = b"WEBP" + extended + data[12:] + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks after its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def raw_profile(exif_data: bytes, name: bytes = b"exif", packed: bool = True) -> bytes:
    """A PNG's chunk of EXIF data as ImageMagick has written it for decades: hex in a text."""
    body = b"Exif\0\0" + exif_data
    text = b"\n" + name + b"\n" + f"{len(body):8}".encode() + b"\n" + body.hex().encode() + b"\n"
    keyword = b"Raw profile type " + name + b"\0"
    if packed:
        return png_chunk(b"zTXt", keyword + b"\0" + zlib.compress(text))
    return png_chunk(b"tEXt", keyword + text)


def packed_bits(samples: np.ndarray, bits: int) -> bytes:
    """Samples of so many bits, the highest first, each row filled up to whole bytes."""
    rows = samples.reshape(len(samples), -1)
    shifts = np.arange(bits - 1, -1, -1)
    return b"".join(np.packbits(row[:, None].astype(np.int64) >> shifts & 1).tobytes() for row in rows)


def tiff(samples: np.ndarray, bits: int, photometric: int, order: str = "<", big: bool = False, **more) -> bytes:
    """A TIFF of H x W x N samples of so many bits: uncompressed, one strip. `more`: tag_<number>=value, short."""
    height, width, count = samples.shape
    data = samples.astype(order + "u2").tobytes() if bits == 16 else packed_bits(samples, bits)
    if more.pop("deflate", False):
        data, more["tag_259"] = zlib.compress(data), 8
    tags = {256: [width], 257: [height], 258: [bits] * count, 259: [1], 262: [photometric], 273: [0], 277: [count]}
    tags.update({278: [height], 279: [len(data)]})
    tags.update({int(name[4:]): list(np.atleast_1d(value)) for name, value in more.items()})
    wide, entry = ("Q", 20) if big else ("I", 12)
    room, start = struct.calcsize("=" + wide), 16 if big else 8
    beyond, entries = start + struct.calcsize("=" + ("Q" if big else "H")) + entry * len(tags) + room, []
    extra = b""
    offset = beyond + sum(2 * len(v) for v in tags.values() if 2 * len(v) > room)
    for tag, values in sorted(tags.items()):
        kind, form = (4, "I") if tag in (273, 279) else (3, "H")
        values = [offset] if tag == 273 else values
        body = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(body) > room:
            body, extra = struct.pack(order + wide, beyond + len(extra)), extra + body
        entries.append(struct.pack(f"{order}HH{wide}", tag, kind, len(values)) + body.ljust(room, b"\0"))
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 8)))
    count_of_tags = struct.pack(order + ("Q" if big else "H"), len(tags))
    return head + count_of_tags + b"".join(entries) + bytes(room) + extra + data


def bmp(bgra: np.ndarray, masks: tuple[int, int, int, int], bits: int, header: int = 40) -> bytes:
    """A BMP whose pixels are given by masks of red, green, blue and alpha; the last only from 56 bytes of header on."""
    pixels = np.zeros(bgra.shape[:2], np.uint64)
    for mask, channel in zip(masks, (2, 1, 0, 3)):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            scaled = np.round(bgra[::-1, :, channel] * ((mask >> shift) / 255)).astype(np.uint64)
            pixels |= scaled << np.uint64(shift)
    rows = [row.tobytes() + bytes(-len(row.tobytes()) % 4) for row in pixels.astype(f"<u{bits // 8}")]
    height, width = bgra.shape[:2]
    body = struct.pack("<4I", *masks)[: 12 if header < 56 else 16]
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, 3, sum(map(len, rows)), 2835, 2835, 0, 0)
    info = (info + body).ljust(max(header, 52), b"\0")
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + sum(map(len, rows)), 0, 0, start) + info + b"".join(rows)


def with_scans(picture: Image.Image, count: int) -> bytes:
    """A progressive JPEG with so many scans: its last one over and over."""
    data = saved(picture, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]
