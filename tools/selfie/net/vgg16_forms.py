"""VGG16 in the forms in which ImageNet weights are public besides Caffe's own, turned into caffemodels.

    Keras (HDF5)                       the Oxford group's weights, the same numbers as in Caffe's release: for pixels in
                                       BGR, 0 to 255, less the mean. Kernels are height x width x inputs x outputs; fc6
                                       reads its map row by row, the channels of a pixel side by side. "No top": the 13
                                       convolutions alone.
    torchvision (.pth, .safetensors)   other weights, of a training of its own: for pixels in RGB, 0 to 1, less a mean,
                                       over a deviation. Kernels as in Caffe; fc6 reads its map channel by channel, as
                                       Caffe does.

torchvision's order of colours, its deviation and its 1/255 go into conv1_1, its mean into the variant's: the zeros that
pad a picture are pixels of the mean, so a mean folded into the bias would be wrong at the borders. So `vgg16` and
`vgg16_torchvision`, fed as variants are, give what the other frameworks give.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Callable

import numpy as np

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import caffemodel, keras_file, torch_state
from selfie.net.architectures import VGG16_STAGES
from selfie.net.torch_state import State

# torchvision's normalisation, RGB, of pixels in [0, 1]: torchvision.models.VGG16_Weights.IMAGENET1K_V1
TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_STD = (0.229, 0.224, 0.225)
HDF5 = b"\x89HDF\r\n\x1a\n"
CLASSES = "fc8"  # the classifier of ImageNet's classes: nobody needs it here, so it may be missing

Arrays = tuple[np.ndarray, np.ndarray]  # a layer's weights and bias, as Caffe has them


class Form(Enum):
    """What a file is; the value is the name of its weights (a key of weights.PRETRAINED)."""

    KERAS = "vgg16"
    KERAS_NOTOP = "vgg16_notop"
    TORCHVISION = "vgg16_torchvision"

    @property
    def framework(self) -> str:
        """Return whose form it is."""
        return "torchvision" if self is Form.TORCHVISION else "Keras"


@dataclass(frozen=True)
class Layer:
    """A learned layer of VGG16.

    shape    of its weights in Caffe: outputs x inputs (x height x width)
    side     of the map that a fully connected layer reads: 7 for fc6, which flattens it, else 1
    keras    its name in Keras, and the one that a layer without a name gets
    torch    its names in a state of PyTorch's: torchvision's own, and timm's
    """

    name: str
    shape: tuple[int, ...]
    side: int
    keras: tuple[str, ...]
    torch: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Return its type in Caffe."""
        return "Convolution" if len(self.shape) == 4 else "InnerProduct"


def layers(
    stages: list[tuple[int, int]] = VGG16_STAGES, width: int = 4096, classes: int = 1000, side: int = 7
) -> list[Layer]:
    """List the learned layers of VGG16 in its order.

    stages    (convolutions, channels) of each; width: outputs of fc6 and fc7; classes: outputs of fc8; side: of the map
              that fc6 reads
    """
    listed: list[Layer] = []
    inputs, number = 3, 0
    for stage, (convolutions, channels) in enumerate(stages, 1):
        for one in range(1, convolutions + 1):
            count = len(listed)  # of Keras' own numbers, where a file has no names
            names = f"block{stage}_conv{one}", f"conv2d_{count}" if count else "conv2d"
            listed.append(Layer(f"conv{stage}_{one}", (channels, inputs, 3, 3), 1, names, (f"features.{number}",)))
            inputs, number = channels, number + 2  # a convolution and its ReLU
        number += 1  # the pooling
    return [
        *listed,
        Layer("fc6", (width, inputs * side * side), side, ("fc1", "dense"), ("classifier.0", "pre_logits.fc1")),
        Layer("fc7", (width, width), 1, ("fc2", "dense_1"), ("classifier.3", "pre_logits.fc2")),
        Layer(CLASSES, (classes, width), 1, ("predictions", "dense_2"), ("classifier.6", "head.fc")),
    ]


def convert(source: Path, target: Path, wanted: Form | None = None, described: list[Layer] | None = None) -> Form:
    """Turn a file of Keras' or torchvision's VGG16 into a caffemodel; says what it was.

    wanted      what it must be; None: any form
    described   the net's layers, instead of VGG16's

    SelfieError, and nothing is written, where the file is damaged, of another net, or of another form than `wanted`.
    """
    with _opened(paths.existing(source, "file"), described or layers()) as (form, there, read):
        if wanted not in (None, form):
            raise SelfieError(f"{source} {_MEANING[form]}: convert it as {form.value}")
        caffemodel.write(target, form.value, ((one.name, one.kind, list(_finite(source, one, read))) for one in there))
    return form


_MEANING = {
    Form.KERAS: "is Keras' VGG16, with the fully connected layers",
    Form.KERAS_NOTOP: "has the convolutions alone (Keras' 'no top')",
    Form.TORCHVISION: "is torchvision's, whose weights are others than the original's",
}
Opened = tuple[Form, list[Layer], Callable[[Layer], Arrays]]


@contextmanager
def _opened(source: Path, described: list[Layer]) -> Iterator[Opened]:
    """Find out what a file is and check its shapes; yields the form, the layers that it has, and how they are read."""
    container = _container(source)
    _refuse_caffes(source, container)
    if container == "HDF5":
        with keras_file.opened(source) as model:
            yield _keras(source, model, described)
    elif container == "pickle":
        state = State(source)
        shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
        yield _torch(source, shapes, state.read, described)
    elif container == "safetensors":
        with _safetensors(source) as (shapes, read):
            yield _torch(source, shapes, read, described)
    else:
        raise SelfieError(
            f"{source} is neither Keras' HDF5 nor a state of PyTorch's (.pth, .safetensors): give "
            f"vgg16_weights_tf_dim_ordering_tf_kernels.h5, or vgg16-397923af.pth"
        )


def _container(source: Path) -> str:
    """Say by its first bytes what a file is: HDF5, pickle (in a zip or not) or safetensors; "" for anything else."""
    with open(paths.regular(source), "rb") as file:
        start = file.read(64)
    if start.startswith(HDF5):
        return "HDF5"
    if start.startswith((b"PK\x03\x04", torch_state.LEGACY)):
        return "pickle"
    return "safetensors" if start[4:9] == bytes(4) + b"{" else ""  # a header's length, below 4 GB, and its JSON


def refuse(source: Path) -> None:
    """Raise SelfieError, which says what to do, if what should be a caffemodel is a file of another framework."""
    if container := _container(source):
        _refuse_caffes(source, container)
        whose, name = ("Keras", Form.KERAS) if container == "HDF5" else ("PyTorch", Form.TORCHVISION)
        raise SelfieError(
            f"{source} is no caffemodel but a file of {whose}: if it is VGG16, convert it first, as "
            f"'tools/fetch_weights.py --help' says, and start from {name.value}"
        )


def _refuse_caffes(source: Path, container: str) -> None:
    """Raise SelfieError if an HDF5 file is Caffe's own, a snapshot of `snapshot_format: HDF5`."""
    if container == "HDF5" and keras_file.is_caffes(source):
        named = source.name if source.name.endswith(".h5") else f"{source.name}.h5"
        binary = named.removesuffix(".h5").removesuffix(".caffemodel") + ".caffemodel"
        rename = "" if named == source.name else f"rename it to {named}, by which Caffe knows it, and "
        raise SelfieError(
            f"{source} is a caffemodel of Caffe's in HDF5, and only binary ones are read: {rename}write it as one, in "
            f"Python with caffe.Net('its net.prototxt', {named!r}, caffe.TEST).save({binary!r})"
        )


def _finite(source: Path, layer: Layer, read: Callable[[Layer], Arrays]) -> Arrays:
    """Read a layer; SelfieError unless all its numbers are finite."""
    arrays = read(layer)
    if not all(np.isfinite(array).all() for array in arrays):
        raise SelfieError(f"{source} cannot be used: some of the numbers of {layer.name} are not finite")
    return arrays


def _check(source: Path, layer: Layer, found: tuple[tuple[int, ...], ...], wanted: tuple[tuple[int, ...], ...]) -> None:
    """Raise SelfieError unless a layer's weights and bias have the shapes that they should have."""
    if found != wanted:
        shapes = [", ".join(" x ".join(map(str, shape)) for shape in pair) for pair in (found, wanted)]
        raise SelfieError(f"{source} is of another net: {layer.name} has {shapes[0]}, VGG16 in this form {shapes[1]}")


# --- Keras -----------------------------------------------------------------------------------------------------------


def _keras(source: Path, model: keras_file.KerasFile, described: list[Layer]) -> Opened:
    """See _opened, for a file of Keras'."""
    named = any(layer.keras[0] in model for layer in described)
    names = {layer: layer.keras[0 if named else 1] for layer in described}
    without_top = not any(names[layer] in model for layer in described if layer.kind == "InnerProduct")
    there = [layer for layer in described if names[layer] in model or layer.name != CLASSES]
    if without_top:
        there = [layer for layer in there if layer.kind == "Convolution"]
    if missing := [layer.keras[0] for layer in there if names[layer] not in model]:
        raise SelfieError(f"{source} is of another net: it has no layer {missing[0]}")
    for layer in there:
        outputs, inputs, *kernel = layer.shape
        _check(source, layer, model.shapes(names[layer]), ((*kernel, inputs, outputs), (outputs,)))
    form = Form.KERAS_NOTOP if without_top else Form.KERAS
    return form, there, lambda layer: _from_keras(layer, *model.read(names[layer]))


def _from_keras(layer: Layer, kernel: np.ndarray, bias: np.ndarray) -> Arrays:
    """Bring Keras' kernel, and the order in which fc6 reads its map, into Caffe's form."""
    if layer.kind == "Convolution":
        return kernel.transpose(3, 2, 0, 1), bias
    outputs, inputs = layer.shape
    maps = kernel.reshape(layer.side, layer.side, inputs // layer.side**2, outputs)
    return maps.transpose(3, 2, 0, 1).reshape(layer.shape), bias


# --- torchvision -----------------------------------------------------------------------------------------------------


def _torch(
    source: Path, shapes: dict[str, tuple[int, ...]], read: Callable[[str], np.ndarray], described: list[Layer]
) -> Opened:
    """See _opened, for a state of PyTorch's."""
    names = {layer: next((name for name in layer.torch if f"{name}.weight" in shapes), "") for layer in described}
    there = [layer for layer in described if names[layer] or layer.name != CLASSES]
    for layer in there:
        if missing := [part for part in _PARTS if _key(names, layer, part) not in shapes]:
            raise SelfieError(f"{source} is of another net: it has no {layer.torch[0]}.{missing[0]}")
        weights, bias = (shapes[_key(names, layer, part)] for part in _PARTS)
        outputs, inputs = layer.shape[:2]
        as_convolution = (outputs, inputs // layer.side**2, layer.side, layer.side)  # timm's fc6 and fc7
        if layer.kind == "InnerProduct" and weights == as_convolution:
            weights = layer.shape
        _check(source, layer, (weights, bias), (layer.shape, layer.shape[:1]))

    def read_layer(layer: Layer) -> Arrays:
        weights, bias = (read(_key(names, layer, part)) for part in _PARTS)
        return _from_rgb(weights) if layer is described[0] else weights.reshape(layer.shape), bias

    return Form.TORCHVISION, there, read_layer


_PARTS = ("weight", "bias")


def _key(names: dict[Layer, str], layer: Layer, part: str) -> str:
    return f"{names[layer]}.{part}"


def _from_rgb(kernel: np.ndarray) -> np.ndarray:
    """Fold the order of colours, the scale and the deviation into the first kernel: for BGR of 0 to 255 less a mean."""
    scale = 255 * np.array(TORCH_STD, np.float64)
    return (kernel / scale[:, None, None])[:, ::-1].astype(np.float32)


@contextmanager
def _safetensors(
    source: Path,
) -> Iterator[tuple[dict[str, tuple[int, ...]], Callable[[str], np.ndarray]]]:
    """Open a .safetensors file: the shapes of its tensors, and how one is read. SelfieError if it is damaged."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise SelfieError(keras_file.NEEDED.format("safetensors", error)) from error

    def read(name: str) -> np.ndarray:
        try:
            return np.asarray(file.get_tensor(name), np.float32)
        except (SafetensorError, TypeError, ValueError) as error:
            raise SelfieError(f"{source}: {name} cannot be read ({error})") from error

    try:
        file = safe_open(source, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise SelfieError(f"{source} is damaged, or no file of safetensors' ({error})") from error
    with file:
        yield {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, read  # noqa: SIM118
