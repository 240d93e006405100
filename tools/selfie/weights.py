"""Pretrained weights: found in a local mirror or downloaded, verified, and turned into caffemodels.

Everything ends up in weights/<name>/. A folder named by SELFIE_MIRROR is looked at first; downloads resume where they
stopped; a file with a wrong checksum is never used.
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from selfie import paths, runs
from selfie.errors import SelfieError
from selfie.variants import Variant

GITHUB = "https://raw.githubusercontent.com"
MTCNN = f"{GITHUB}/kpzhang93/MTCNN_face_detection_alignment/master/code/codes/MTCNNv1/model"


@dataclass(frozen=True)
class Source:
    """A file to fetch. `checksum` is '<algorithm>:<hex>'; where none was ever published it is '', and the first
    download's is recorded beside the file and holds from then on."""

    url: str
    checksum: str = ""

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[1]


PRETRAINED: dict[str, list[Source]] = {
    "vgg16": [Source("http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
                     "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24")],
    "vgg_face": [Source("http://www.robots.ox.ac.uk/~vgg/software/vgg_face/src/vgg_face_caffe.tar.gz")],
    "squeezenet": [Source(f"{GITHUB}/songhan/SqueezeNet-Deep-Compression/master/compressed_SqueezeNet.net",
                          "sha256:e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261")],
    "mtcnn": [
        Source(f"{MTCNN}/det1.caffemodel", "sha256:d6085e7f48ba7e6b6f1b58964595f6bce5b97bcc4866751f7b4bdc98f920c096"),
        Source(f"{MTCNN}/det2.caffemodel", "sha256:39b20f7a57bb8176cc9466cea4dfd52da6a6f876de60c7ab222a309f2d0ca08c"),
        Source(f"{MTCNN}/det3.caffemodel", "sha256:9d6098829a4d6d318f37cec42142465637fafe4c673f2e93b69495bf7ca23d2d")],
}
PRODUCTS = {"vgg16": "VGG_ILSVRC_16_layers.caffemodel", "vgg_face": "VGG_FACE.caffemodel",
            "squeezenet": "squeezenet_v1.0.caffemodel"}


def folder(name: str) -> Path:
    """weights/<name>, complete; SelfieError names the command that fetches it."""
    target = paths.WEIGHTS / name
    wanted = [PRODUCTS[name]] if name in PRODUCTS else [source.file for source in PRETRAINED[name]]
    if not all((target / file).exists() for file in wanted):
        raise SelfieError(f"weights/{name} is not complete: run 'make weights VARIANT={name}'")
    return target


def caffemodel(name: str) -> Path:
    """The pretrained caffemodel called `name` (a key of PRODUCTS); SelfieError if it was not fetched yet."""
    return folder(name) / PRODUCTS[name]


def choose(variant: Variant, given: str | None) -> Path | None:
    """The caffemodel to start from: `given` as a path, 'none' for training from scratch, else the variant's own."""
    if given == "none" or not (given or variant.weights):
        return None
    if given:
        return paths.existing(given, "caffemodel")
    if variant.weights == "demo":  # made on the spot, by `make demo`, not downloaded
        if not (paths.RUNS / "demo_pretrain").exists():
            raise SelfieError("the demo net's pretraining, runs/demo_pretrain, is missing: run 'make demo' once, or "
                              "train from scratch with --weights none (make: WEIGHTS=none)")
        return runs.load(paths.RUNS / "demo_pretrain").caffemodel
    return caffemodel(variant.weights)


def obtain(name: str) -> Path:
    """Make weights/<name> complete, doing only what is missing. Returns the folder."""
    if name not in PRETRAINED:
        raise SelfieError(f"no weights are known as '{name}': choose one of {', '.join(PRETRAINED)}")
    target = paths.WEIGHTS / name
    for source in PRETRAINED[name]:
        download(source, target / source.file)
    if name == "squeezenet":
        decode_squeezenet(target / PRETRAINED[name][0].file, target / PRODUCTS[name])
    elif name == "vgg_face":
        extract(target / PRETRAINED[name][0].file, PRODUCTS[name], target)
    return target


def download(source: Source, path: Path) -> None:
    """Bring `source` to `path`: keep what is there and right, else copy from the mirror, else download with resume."""
    if path.exists() and _is_right(path, source):
        return
    if copy := paths.mirror(source.file):
        with paths.atomic_path(path) as temporary:
            shutil.copyfile(copy, temporary)
    else:
        part = path.with_name(path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch(source.url, part)
        os.replace(part, path)
    if not _is_right(path, source):
        path.unlink()
        raise SelfieError(f"{source.file} has a wrong checksum and was removed: try again, or check the copy in "
                          f"SELFIE_MIRROR")
    if not source.checksum:
        with paths.atomic_write(_record(path)) as file:
            file.write(f"{paths.sha256(path)}  {path.name}\n")


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _is_right(path: Path, source: Source) -> bool:
    if source.checksum:
        algorithm, expected = source.checksum.split(":")
        return paths.digest(path, algorithm) == expected
    record = _record(path)
    return not record.exists() or record.read_text().split()[0] == paths.sha256(path)


def _fetch(url: str, part: Path) -> None:
    """Append what is still missing of `url` to `part`."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            resumed = answer.status == 206
            left = int(answer.headers.get("Content-Length") or 0)
            start = have if resumed else 0
            with open(part, "ab" if resumed else "wb") as file, tqdm(
                    total=start + left or None, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar:
                while block := answer.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
            size = part.stat().st_size
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch: the part is whole
            return
        raise SelfieError(f"cannot download {url}: the server answers {error.code}; get the file by other means and "
                          f"set SELFIE_MIRROR to its folder") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SelfieError(f"cannot download {url} (offline?): try again (it resumes), or get the file by other means "
                          f"and set SELFIE_MIRROR to its folder") from error
    if left and size < start + left:
        raise SelfieError(f"the download of {url} broke off at {size:,} bytes: run the same command again, it resumes")


def extract(archive: Path, name: str, target: Path) -> None:
    """Take the one member called `name`, wherever it stands in the tar `archive`, into `target`."""
    if (target / name).exists():
        return
    try:
        with tarfile.open(archive) as tar:
            member = next((item for item in tar if item.isfile() and item.name.rsplit("/", 1)[-1] == name), None)
            if member is None:
                raise SelfieError(f"{archive} holds no {name}")
            with paths.atomic_write(target / name, "wb") as file:
                shutil.copyfileobj(tar.extractfile(member), file)
    except tarfile.TarError as error:
        raise SelfieError(f"{archive} is not a readable tar archive ({error}): remove it and try again") from error


def squeezenet_convolutions() -> list[tuple[str, tuple[int, int, int, int]]]:
    """(layer name, weight shape: outputs x inputs x height x width) of SqueezeNet v1.0 in network order."""
    shapes = [("conv1", (96, 3, 7, 7))]
    channels = 96
    for number, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        shapes += [(f"fire{number}/conv1x1_1", (squeeze, channels, 1, 1)),
                   (f"fire{number}/conv1x1_2", (4 * squeeze, squeeze, 1, 1)),
                   (f"fire{number}/conv3x3_2", (4 * squeeze, squeeze, 3, 3))]
        channels = 8 * squeeze
    return [*shapes, ("conv10", (1000, channels, 1, 1))]


def decode_squeezenet(compressed: Path, caffemodel: Path) -> None:
    """Turn the deep-compressed SqueezeNet (Han et al. 2016, arXiv:1510.00149) into a caffemodel.

    Little-endian: 26 uint32 counts of stored weights; then for each layer 256 float32 codebook, float32 biases, a uint8
    code per stored weight, and 4-bit gaps, two per byte, low nibble first. A stored weight's position in the flattened
    tensor is the running sum of (gap + 1), less 1; every other weight is codebook entry 0.
    SelfieError when a byte is missing or left over.
    """
    if caffemodel.exists():
        return
    from selfie import net
    pb = net.caffe_pb2()
    data = np.fromfile(compressed, np.uint8)
    layers = squeezenet_convolutions()
    offset = 0

    def take(count: int, kind: str) -> np.ndarray:
        nonlocal offset
        size = count * np.dtype(kind).itemsize
        if offset + size > data.size:
            raise SelfieError(f"{compressed} is not the compressed SqueezeNet: it ends too early")
        offset += size
        return data[offset - size:offset].view(kind)

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
