"""Caffe's Datum message: the value of one database record.

    message Datum {
      optional int32 channels = 1;  optional int32 height = 2;  optional int32 width = 3;
      optional bytes data = 4;      // C x H x W uint8, BGR; or an encoded image file
      optional int32 label = 5;     repeated float float_data = 6;
      optional bool encoded = 7;
    }

The message is written and read by hand. caffe_pb2 would do, but importing it imports the whole of Caffe, and databases
should be built on machines without it. A test compares every byte with caffe_pb2, and with convert_imageset's records.
Wire format: https://protobuf.dev/programming-guides/encoding - a field is a varint (number << 3 | type) and a value.
"""

from __future__ import annotations

import cv2
import numpy as np

MAX_LABEL = 2**31 - 1

_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _ENCODED = 0x08, 0x10, 0x18, 0x22, 0x28, 0x38  # number << 3 | wire type
_FLOAT = 0x35


def encode_raw(bgr: np.ndarray, label: int) -> bytes:
    """Encode the plain pixels of an H x W x 3 uint8 BGR picture; byte for byte what convert_imageset writes."""
    height, width, channels = bgr.shape
    pixels = np.ascontiguousarray(bgr.transpose(2, 0, 1)).tobytes()
    return b"".join(
        [
            _number(_CHANNELS, channels),
            _number(_HEIGHT, height),
            _number(_WIDTH, width),
            _number(_DATA, len(pixels)),
            pixels,
            _number(_LABEL, label),
            _number(_ENCODED, 0),
        ]
    )


def encode_jpeg(bgr: np.ndarray, label: int, quality: int = 95) -> bytes:
    """Encode an H x W x 3 uint8 BGR picture as JPEG: about a fifth of the raw size.

    The colours keep full resolution (4:4:4), so that a decoder has nothing to interpolate and all decoders agree.
    """
    fine, jpeg = cv2.imencode(
        ".jpg",
        bgr,
        [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    )
    if not fine:
        raise ValueError(f"OpenCV cannot encode a picture of shape {bgr.shape} as JPEG")
    data = jpeg.tobytes()
    return b"".join([_number(_DATA, len(data)), data, _number(_LABEL, label), _number(_ENCODED, 1)])


def encode_floats(values: np.ndarray) -> bytes:
    """Encode N numbers as a Datum of N channels of one float32 each, with label 0."""
    floats = np.empty(len(values), [("tag", "u1"), ("value", "<f4")])
    floats["tag"], floats["value"] = _FLOAT, values
    shape = _number(_CHANNELS, len(values)) + _number(_HEIGHT, 1) + _number(_WIDTH, 1)
    return shape + _number(_LABEL, 0) + floats.tobytes()


def decode(datum: bytes | memoryview) -> tuple[np.ndarray, int]:
    """Decode a Datum, raw or JPEG: (H x W x 3 uint8 BGR, label). ValueError if it is damaged or holds floats."""
    numbers, data = _fields(memoryview(datum))
    label = numbers.get(_LABEL, 0)
    if data is None:
        raise ValueError("a Datum without pixels")
    if numbers.get(_ENCODED, 0):
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError("a Datum whose picture cannot be decoded")
        return bgr, label
    shape = tuple(numbers.get(tag, 0) for tag in (_CHANNELS, _HEIGHT, _WIDTH))
    if shape[0] != 3 or len(data) != shape[0] * shape[1] * shape[2]:
        raise ValueError(f"a Datum of shape {shape} with {len(data)} bytes")
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(shape).transpose(1, 2, 0)), label


def label_of(datum: bytes | memoryview) -> int:
    """Read the label of a Datum; its picture is not decoded. ValueError if the Datum is damaged."""
    return _fields(memoryview(datum))[0].get(_LABEL, 0)


def _number(tag: int, value: int) -> bytes:
    """A tag and a varint: the value of an integer field, or the length of a bytes field."""
    if not 0 <= value <= MAX_LABEL:
        raise ValueError(f"{value} is not in 0 ... {MAX_LABEL}")
    return bytes([tag]) + _varint(value)


def _varint(value: int) -> bytes:
    """Little-endian groups of 7 bits; the top bit says that another byte follows."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(datum: memoryview) -> tuple[dict[int, int], memoryview | None]:
    """Read a message: {tag: value} of the integer fields, and `data` or None; the last of several values counts.

    ValueError for fields of other kinds and for a message that ends too early.
    """
    numbers: dict[int, int] = {}
    data = None
    at = 0
    while at < len(datum):
        tag, at = _read_varint(datum, at)
        value, at = _read_varint(datum, at)
        if tag & 7 == 0:
            numbers[tag] = value
        elif tag & 7 == 2 and at + value <= len(datum):
            if tag == _DATA:
                data = datum[at : at + value]
            at += value
        else:
            raise ValueError("not a Datum of bytes, or a damaged one")
    return numbers, data


def _read_varint(datum: memoryview, at: int) -> tuple[int, int]:
    """Read the varint at a position; returns its value and the position behind it."""
    value = shift = 0
    while at < len(datum) and shift < 64:
        byte = datum[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a Datum that ends too early")
