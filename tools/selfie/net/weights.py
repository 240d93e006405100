"""Pretrained weights: found in a local mirror or downloaded, checked, and turned into caffemodels.

Everything ends up in weights/<name>/. A folder named by SELFIE_MIRROR is looked at first; downloads resume where they
stopped. A file with another checksum than the published one is not used; for VGG-Face none was ever published, so its
user gives one, or says that it is to be used unverified. What we make of a download has its SHA-256 in checked.json,
with what the download was checked by; all files are checked again when they are used.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import numpy as np

from selfie.common import locks, paths, shapes
from selfie.common.download import Source, download, is_right
from selfie.common.errors import SelfieError
from selfie.net import architectures, pycaffe

GITHUB = "https://raw.githubusercontent.com"
MTCNN = f"{GITHUB}/kpzhang93/MTCNN_face_detection_alignment/master/code/codes/MTCNNv1/model"


PRETRAINED: dict[str, list[Source]] = {
    "vgg16": [
        Source(
            "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
            "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24",
        )
    ],
    "vgg_face": [Source("https://www.robots.ox.ac.uk/~vgg/software/vgg_face/src/vgg_face_caffe.tar.gz")],
    "squeezenet": [
        Source(
            f"{GITHUB}/songhan/SqueezeNet-Deep-Compression/master/compressed_SqueezeNet.net",
            "sha256:e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261",
        )
    ],
    "mtcnn": [
        Source(f"{MTCNN}/det1.caffemodel", "sha256:d6085e7f48ba7e6b6f1b58964595f6bce5b97bcc4866751f7b4bdc98f920c096"),
        Source(f"{MTCNN}/det2.caffemodel", "sha256:39b20f7a57bb8176cc9466cea4dfd52da6a6f876de60c7ab222a309f2d0ca08c"),
        Source(f"{MTCNN}/det3.caffemodel", "sha256:9d6098829a4d6d318f37cec42142465637fafe4c673f2e93b69495bf7ca23d2d"),
    ],
}
PRODUCTS = {
    "vgg16": "VGG_ILSVRC_16_layers.caffemodel",
    "vgg_face": "VGG_FACE.caffemodel",
    "squeezenet": "squeezenet_v1.0.caffemodel",
}


DERIVED = ("squeezenet", "vgg_face")  # whose caffemodel is made here from what was downloaded
CHECKED = "checked.json"  # in weights/<name> of those
PUBLISHED, GIVEN, UNVERIFIED = "published", "given", "unverified"  # checksums that a download was compared with
PATIENCE = 20  # seconds that another process may take which fetches the same


def folder(name: str) -> Path:
    """Return weights/<name>, which is complete and undamaged; SelfieError names the command that fetches it."""
    if problem := _problem(name):
        raise SelfieError(f"weights/{name} {problem}: run 'make weights VARIANT={name}'")
    return paths.WEIGHTS / name


def caffemodel(name: str) -> Path:
    """Return the pretrained caffemodel called `name` (a key of PRODUCTS); SelfieError if it was not fetched yet."""
    return folder(name) / PRODUCTS[name]


def verified_by(path: Path) -> str | None:
    """Say what checksum pretrained weights were compared with: PUBLISHED, GIVEN or UNVERIFIED; None for other files."""
    name = path.parent.name
    if path.resolve().parent != (paths.WEIGHTS / name).resolve() or PRODUCTS.get(name) != path.name:
        return None
    return _record(name)["checksum"] if name in DERIVED else PUBLISHED


def obtain(name: str, checksum: str = "", unverified: bool = False) -> Path:
    """Make weights/<name> complete, doing only what is missing. Returns the folder.

    Where no checksum was published, SelfieError unless the caller gives one, or says `unverified`.
    """
    if name not in PRETRAINED:
        raise SelfieError(f"no weights are known as '{name}': choose one of {', '.join(PRETRAINED)}")
    target, sources = paths.WEIGHTS / name, PRETRAINED[name]
    if (checksum or unverified) and all(source.checksum for source in sources):
        raise SelfieError(f"the checksums of {name} are published and known: give none, and leave --unverified out")
    if not checksum and not _problem(name):
        return target
    if not (checksum or unverified or all(source.checksum for source in sources)):
        raise SelfieError(
            f"no checksum of {name} was ever published: give one that you trust (--checksum sha256:...), or use what "
            f"comes as it is (--unverified)"
        )
    with locks.folder(target, PATIENCE):
        for source in sources:
            download(replace(source, checksum=source.checksum or checksum), target / source.file, unverified)
        if name in DERIVED:
            _derive(name, GIVEN if checksum else UNVERIFIED if unverified else PUBLISHED)
    return target


def _derive(name: str, checked_by: str) -> None:
    """Make the caffemodel of a download that is there, and its record."""
    target = paths.WEIGHTS / name
    (target / CHECKED).unlink(missing_ok=True)
    archive, product = target / PRETRAINED[name][0].file, target / PRODUCTS[name]
    if name == "squeezenet":
        decode_squeezenet(archive, product)
    else:
        extract(archive, product.name, target)
    paths.write_json(target / CHECKED, {"sha256": paths.sha256(product), "checksum": checked_by})


def _problem(name: str) -> str:
    """Say what keeps weights/<name> from being used; "" if nothing does."""
    target = paths.WEIGHTS / name
    checksums = {source.file: source.checksum for source in PRETRAINED[name]}
    if name in DERIVED:
        if not (target / CHECKED).exists():
            return "is not complete"
        try:
            checksums = {PRODUCTS[name]: f"sha256:{_record(name)['sha256']}"}
        except SelfieError:
            return f"is damaged ({CHECKED})"
    for file, checksum in checksums.items():
        if not (target / file).exists():
            return "is not complete"
        if not is_right(target / file, checksum):
            return f"is damaged ({file})"
    return ""


def _record(name: str) -> dict:
    """Read the record of what was made from a download."""
    return shapes.read(paths.WEIGHTS / name / CHECKED, {"sha256": str, "checksum": str})


def extract(archive: Path, name: str, target: Path) -> None:
    """Take the one member called `name`, wherever it stands in the tar `archive`, into `target`."""
    try:
        with tarfile.open(archive) as tar:
            member = next((item for item in tar if item.isfile() and item.name.rsplit("/", 1)[-1] == name), None)
            if member is None:
                raise SelfieError(f"{archive} holds no {name}")
            content = tar.extractfile(member)
            with paths.atomic_write(target / name, "wb") as file:
                shutil.copyfileobj(cast("IO[bytes]", content), file)  # a regular file has one
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise SelfieError(f"{archive} is not a readable tar archive ({error}): remove it and try again") from error


def squeezenet_convolutions() -> list[tuple[str, tuple[int, int, int, int]]]:
    """List (layer, weight shape: outputs x inputs x height x width) of SqueezeNet v1.0 in network order."""
    shapes = [("conv1", (96, 3, 7, 7))]
    channels = 96
    for number, squeeze in enumerate(architectures.SQUEEZES, 2):
        shapes += [
            (f"fire{number}/conv1x1_1", (squeeze, channels, 1, 1)),
            (f"fire{number}/conv1x1_2", (4 * squeeze, squeeze, 1, 1)),
            (f"fire{number}/conv3x3_2", (4 * squeeze, squeeze, 3, 3)),
        ]
        channels = 8 * squeeze
    return [*shapes, ("conv10", (1000, channels, 1, 1))]


def decode_squeezenet(compressed: Path, caffemodel: Path) -> None:
    """Turn the deep-compressed SqueezeNet (Han et al. 2016, arXiv:1510.00149) into a caffemodel.

    Little-endian: 26 uint32 counts of stored weights; then for each layer 256 float32 codebook, float32 biases, a uint8
    code per stored weight, and 4-bit gaps, two per byte, low nibble first. A stored weight's position in the flattened
    tensor is the running sum of (gap + 1), less 1; every other weight is codebook entry 0.
    SelfieError when a byte is missing or left over.
    """
    pb = pycaffe.caffe_pb2()
    data = np.fromfile(compressed, np.uint8)
    layers = squeezenet_convolutions()
    offset = 0

    def take(count: int, kind: str) -> np.ndarray:
        nonlocal offset
        size = count * np.dtype(kind).itemsize
        if offset + size > data.size:
            raise SelfieError(f"{compressed} is not the compressed SqueezeNet: it ends too early")
        offset += size
        return data[offset - size : offset].view(kind)

    message = pb.NetParameter(name="SqueezeNet")
    for (name, shape), stored in zip(layers, take(len(layers), "<u4")):
        codebook, bias, codes = take(256, "<f4"), take(shape[0], "<f4"), take(stored, "u1")
        packed = take((int(stored) + 1) // 2, "u1")
        gaps = np.stack([packed & 15, packed >> 4], 1).ravel()[:stored]
        positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
        weights = np.full(int(np.prod(shape)), codebook[0], np.float32)
        if positions.size and positions[-1] >= weights.size:
            raise SelfieError(f"{compressed} is not the compressed SqueezeNet: layer {name} overflows")
        weights[positions] = codebook[codes]
        layer = message.layer.add(name=name, type="Convolution")
        for array in (weights.reshape(shape), bias):
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(array.ravel().tolist())
    if offset != data.size:
        raise SelfieError(f"{compressed} is not the compressed SqueezeNet: {data.size - offset} bytes are left over")
    with paths.atomic_write(caffemodel, "wb") as file:
        file.write(message.SerializeToString())
