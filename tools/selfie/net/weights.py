"""Pretrained weights: found in a local mirror, downloaded, or given as a file; checked, and turned into caffemodels.

Everything ends up in weights/<name>/. A folder named by SELFIE_MIRROR is looked at first; downloads resume where they
stopped. A file with another checksum than the published one is not used; for VGG-Face none was ever published, so its
user gives one, or says that it is to be used unverified. What we make of a download has its SHA-256 in checked.json,
with what the download was checked by; all files are checked again when they are used.

VGG16's weights are public in other forms as well (vgg16_forms). Those of Keras are the same weights as Caffe's, so a
file that the user has takes the place of `vgg16`; torchvision's are other weights, of another name.
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
from selfie.net import architectures, pycaffe, vgg16_forms
from selfie.net.caffemodel import net_name
from selfie.net.vgg16_forms import Form

GITHUB = "https://raw.githubusercontent.com"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16"
MTCNN = f"{GITHUB}/kpzhang93/MTCNN_face_detection_alignment/master/code/codes/MTCNNv1/model"


PRETRAINED: dict[str, list[Source]] = {
    "vgg16": [
        Source(
            "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
            "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24",
        )
    ],
    "vgg16_notop": [
        Source(f"{KERAS}/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "md5:6d6bbae143d832006294945121d1f1fc")
    ],
    "vgg16_torchvision": [
        Source(
            "https://download.pytorch.org/models/vgg16-397923af.pth",
            "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
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
    "vgg16_notop": "vgg16_notop.caffemodel",
    "vgg16_torchvision": "vgg16_torchvision.caffemodel",
    "vgg_face": "VGG_FACE.caffemodel",
    "squeezenet": "squeezenet_v1.0.caffemodel",
}


DERIVED = ("squeezenet", "vgg16_notop", "vgg16_torchvision", "vgg_face")  # made here from what was downloaded
CHECKED = "checked.json"  # in weights/<name> of those, and of what was made from a user's file
CONVERTED = {form.value: form for form in Form}  # those that a file of another framework can become
FILES = {**{name: PRETRAINED[name][0].checksum for name in CONVERTED}, "vgg16": "md5:64373286793e3c8b2b4e3219cbf3544b"}
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


def known_as(path: Path) -> str | None:
    """Return the name of the pretrained weights that a caffemodel holds, by where it stands or what its net is called.

    So a copy that stands elsewhere is known as well, where it was made here or has its release's name. None for others.
    """
    if _product(path):
        return path.parent.name
    name = net_name(path)
    return next((known for known, file in PRODUCTS.items() if name in (known, Path(file).stem)), None)


def verified_by(path: Path) -> str | None:
    """Say what checksum pretrained weights were compared with: PUBLISHED, GIVEN or UNVERIFIED; None for other files."""
    if not _product(path):
        return None
    name = path.parent.name
    return _record(name)["checksum"] if _is_made(name) else PUBLISHED


def _product(path: Path) -> bool:
    """Tell whether a path is that of pretrained weights, weights/<name>/ and its file."""
    name = path.parent.name
    return paths.resolved(path).parent == paths.resolved(paths.WEIGHTS / name) and PRODUCTS.get(name) == path.name


def made_from(path: Path) -> dict | None:
    """Say which file pretrained weights were converted from: its name, SHA-256 and form; None for others."""
    return _record(path.parent.name).get("from") if verified_by(path) and _is_made(path.parent.name) else None


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
            _derive(name, target / sources[0].file, GIVEN if checksum else UNVERIFIED if unverified else PUBLISHED)
        else:
            (target / CHECKED).unlink(missing_ok=True)  # of a user's file, whose place the download has taken
    return target


def convert(name: str, file: Path, checksum: str = "", unverified: bool = False) -> Path:
    """Make weights/<name> of a file that the user has, in another framework's form. Returns the folder.

    SelfieError, and what was there stays, unless the file is what was published, has the checksum given, or may be used
    `unverified`; or where it is damaged, of another net, or of another name than `name`.
    """
    if name not in CONVERTED:
        raise SelfieError(
            f"{name} is not made of a file of another framework (that are {', '.join(CONVERTED)}): what was downloaded "
            f"is found in the folder SELFIE_MIRROR"
        )
    paths.existing(file, "file")
    if checksum and not is_right(file, checksum):
        raise SelfieError(f"{file} does not have that checksum: it is another file, or damaged")
    published = not checksum and is_right(file, FILES[name])
    if not (checksum or published or unverified):
        raise SelfieError(
            f"{file} is not the file that was published as {name} (by its checksum): if you trust it, give its "
            f"checksum (--checksum sha256:...), or use it as it is (--unverified)"
        )
    with locks.folder(paths.WEIGHTS / name, PATIENCE):
        _derive(name, file, GIVEN if checksum else PUBLISHED if published else UNVERIFIED)
    return paths.WEIGHTS / name


def _derive(name: str, source: Path, checked_by: str) -> None:
    """Make the caffemodel of a download, or of a user's file, and its record."""
    target = paths.WEIGHTS / name
    product, record = target / PRODUCTS[name], {}
    if name in CONVERTED:
        vgg16_forms.convert(source, product, CONVERTED[name])
        record = {"from": {"file": source.name, "sha256": paths.sha256(source), "form": CONVERTED[name].framework}}
    elif name == "squeezenet":
        decode_squeezenet(source, product)
    else:
        extract(source, product.name, target)
    paths.write_json(target / CHECKED, {"sha256": paths.sha256(product), "checksum": checked_by, **record})


def _is_made(name: str) -> bool:
    """Tell whether a caffemodel was made here, so that its record has its checksum."""
    return name in DERIVED or (name in CONVERTED and (paths.WEIGHTS / name / CHECKED).exists())


def _problem(name: str) -> str:
    """Say what keeps weights/<name> from being used; "" if nothing does."""
    target = paths.WEIGHTS / name
    checksums = {source.file: source.checksum for source in PRETRAINED[name]}
    if _is_made(name):
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
    return shapes.read(paths.WEIGHTS / name / CHECKED, {"sha256": str, "checksum": str, "from?": {"file": str}})


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
