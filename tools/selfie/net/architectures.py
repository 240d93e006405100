"""The architectures: each variant's nets as NetParameter messages made of dicts.

Layer names of the pretrained layers are a contract: Caffe copies weights by name. Only the head is renamed.
"""

from __future__ import annotations

from selfie.common.errors import SelfieError
from selfie.net import heads
from selfie.net.builder import NetBuilder
from selfie.net.prototxt import Token
from selfie.net.variants import Variant

VGG16_STAGES = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]  # (convolutions, channels), a max pool after each
IMAGENET = "squeezenet_imagenet"
DEMO_STAGES = [(1, 16), (2, 32), (2, 64)]
MAP_SIDES = {"vgg16": 7, "squeezenet": 13, "demo": 28}  # of the last map of a crop, were `shrink` 1
SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)  # channels that fire2 to fire9 squeeze to; each expands to eight times that


def build(variant: Variant, kind: str, data: str | None = None) -> dict:
    """Build a net of a variant.

    kind   train_val, deploy, deploy_conv, or imagenet (SqueezeNet with its 1000 classes)
    data   the folder of the databases train and val, instead of the variant's
    """
    net = NetBuilder(
        IMAGENET if kind == "imagenet" else variant.name, trained=kind == "train_val", learns_from=variant.learns_from
    )
    if variant.readout and kind == "train_val":
        return heads.training(net, variant, data or variant.data)
    if kind == "train_val":
        _data(net, variant, "TRAIN", f"{data or variant.data}/train", variant.batch)
        _data(net, variant, "TEST", f"{data or variant.data}/val", variant.test_batch)
    else:
        net.message["layer"].append(
            {
                "name": "data",
                "type": "Input",
                "top": "data",
                "input_param": {"shape": {"dim": [1, 3, variant.crop, variant.crop]}},
            }
        )
    {"vgg16": _vgg16, "squeezenet": _squeezenet, "demo": _demo}[variant.architecture](
        net, variant, kind == "deploy_conv"
    )
    if kind == "train_val":
        scores = [net.top, "label"]
        net.layer("accuracy", "Accuracy", bottom=scores, include={"phase": Token("TEST")})
        net.layer("loss", "SoftmaxWithLoss", bottom=scores)
    elif variant.readout:
        heads.scoring(net, variant.readout, MAP_SIDES[variant.architecture] // variant.shrink, kind == "deploy_conv")
    else:
        net.layer("prob", "Softmax")
    return net.message


def with_input(variant: Variant, batch: int, training: bool) -> dict:
    """Build a variant's net without databases, for benchmarks: `batch` pictures and labels stay where they are put.

    It ends in the loss if it is for `training`, else in prob.
    """
    message = build(variant, "train_val" if training else "deploy")
    shapes = [{"dim": [batch, 3, variant.crop, variant.crop]}, {"dim": [batch]}][: 2 if training else 1]
    source = {
        "name": "data",
        "type": "Input",
        "top": ["data", "label"][: len(shapes)],
        "input_param": {"shape": shapes},
    }
    message["layer"] = [
        source,
        *(layer for layer in message["layer"] if layer["type"] not in ("Data", "Input", "Accuracy")),
    ]
    return message


def chain(variant: Variant) -> list[dict]:
    """List a variant's plain_layers; SelfieError if they branch."""
    layers = plain_layers(variant)
    for before, layer in zip([{"top": "data"}, *layers], layers):
        if layer["bottoms"] != [before["top"]]:
            raise SelfieError(f"{variant.name} is no chain of layers: its {layer['top']} is of {layer['bottoms']}")
    return layers


def plain_layers(variant: Variant) -> list[dict]:
    """List a variant's layers from pixels ("data") to scores, for another framework to build.

    Each has a type (Convolution, InnerProduct, ReLU, MAX or AVE pooling, Power, Concat), the blobs that it reads
    (bottoms) and the one that it writes (top), and what it needs: outputs, kernel (None: all of the map), stride, pad,
    scale. SelfieError for a net with dropout.
    """
    if variant.dropout:
        raise SelfieError(f"{variant.name} has other layers than plain ones: it has dropout")
    layers: list[dict] = []
    for layer in build(variant, "deploy")["layer"][1:-1]:
        bottoms = layer["bottom"] if isinstance(layer["bottom"], list) else [layer["bottom"]]
        given = {
            **layer.get("convolution_param", {}),
            **layer.get("inner_product_param", {}),
            **layer.get("pooling_param", {}),
            **layer.get("power_param", {}),
        }
        layers.append(
            {
                "type": str(given.get("pool", layer["type"])),
                "bottoms": bottoms,
                "top": layer["top"],
                "outputs": given.get("num_output"),
                "kernel": given.get("kernel_size"),
                "stride": given.get("stride", 1),
                "pad": given.get("pad", 0),
                "scale": given.get("scale"),
            }
        )
    return layers


def _data(net: NetBuilder, variant: Variant, phase: str, source: str, batch: int) -> None:
    """Append a Data layer. Our databases hold BGR pictures only, so no colour conversion is asked for."""
    transform = {"mirror": phase == "TRAIN", "crop_size": variant.crop, "mean_value": list(variant.mean)}
    net.message["layer"].append(
        {
            "name": "data",
            "type": "Data",
            "top": ["data", "label"],
            "include": {"phase": Token(phase)},
            "transform_param": transform,
            "data_param": {"source": source, "batch_size": batch, "backend": Token("LMDB")},
        }
    )


def _vgg_stages(net: NetBuilder, stages: list[tuple[int, int]]) -> None:
    for stage, (convolutions, channels) in enumerate(stages, 1):
        for number in range(1, convolutions + 1):
            net.conv_relu(f"conv{stage}_{number}", channels, 3, f"relu{stage}_{number}", pad=1)
        net.pool(f"pool{stage}", 2, 2)


def _classifier(net: NetBuilder, variant: Variant, width: int, as_convolution: bool) -> None:
    """Append fc6, fc7 (each with ReLU and, in the ablation, dropout) and the head, on top of a 7 x 7 map."""
    for name, side in (("fc6", 7), ("fc7", 1)):
        net.fully_connected(name, width, side, as_convolution)
        net.relu(name.replace("fc", "relu"))
        if variant.dropout:
            _dropout(net, name.replace("fc", "drop"))
    if variant.readout:
        return
    net.fully_connected(variant.head, variant.classes, 1, as_convolution, head=True)


def _dropout(net: NetBuilder, name: str) -> None:
    """Append dropout of half the values, in place."""
    net.layer(name, "Dropout", top=net.top, dropout_param={"dropout_ratio": 0.5})


def _vgg16(net: NetBuilder, variant: Variant, as_convolution: bool) -> None:
    """Append configuration D of Simonyan and Zisserman 2014 (arXiv:1409.1556)."""
    if variant.smooth:
        net.pool("pool0", variant.smooth, 1, "AVE")
    _vgg_stages(net, VGG16_STAGES)
    _classifier(net, variant, 4096, as_convolution)


def _demo(net: NetBuilder, variant: Variant, as_convolution: bool) -> None:
    """Append a VGG in miniature.

    The picture is first averaged over 4 x 4 pixels, so the rest runs on 56 x 56, and scaled to about unit variance, so
    that it trains from scratch at ordinary rates.
    """
    net.pool("pool0", variant.shrink, variant.shrink, "AVE")
    net.layer("scale0", "Power", top=net.top, power_param={"scale": 0.015625})
    _vgg_stages(net, DEMO_STAGES)
    _classifier(net, variant, 128, as_convolution)


def _squeezenet(net: NetBuilder, variant: Variant, as_convolution: bool) -> None:
    """Append SqueezeNet v1.0 of Iandola et al. 2016 (arXiv:1602.07360), layer names of the deep-compressed release.

    Its dropout is removed, as in the post's net, but for the ablation. The head keeps the original's form, a 1 x 1
    convolution whose map is averaged, but not its ReLU, which would cut off half of a two-way head's gradient, nor its
    padding.
    """
    if variant.shrink > 1 or variant.smooth:
        net.pool("pool0", variant.smooth or variant.shrink, variant.shrink, "AVE")
    net.conv_relu("conv1", 96, 7, "relu_conv1", stride=2)
    net.pool("pool1", 3, 2)
    for number, squeeze in enumerate(SQUEEZES, 2):
        _fire(net, f"fire{number}", squeeze)
        if number in (4, 8):
            net.pool(f"pool{number}", 3, 2)
    if variant.readout:
        return
    if variant.dropout:
        _dropout(net, "drop9")
    if net.message["name"] == IMAGENET:
        net.conv_relu("conv10", 1000, 1, "relu_conv10", pad=1)
    else:
        net.conv(variant.head, variant.classes, 1, head=True)
    if as_convolution:
        net.pool("pool10", MAP_SIDES["squeezenet"] // variant.shrink, 1, "AVE")
    else:
        net.layer("pool10", "Pooling", pooling_param={"pool": Token("AVE"), "global_pooling": True})


def _fire(net: NetBuilder, name: str, squeeze: int) -> None:
    """Append a fire module: squeeze to few channels, expand with 1 x 1 and 3 x 3 filters side by side."""
    squeezed = net.conv_relu(f"{name}/conv1x1_1", squeeze, 1, f"{name}/relu_conv1x1_1")
    one = net.conv_relu(f"{name}/conv1x1_2", 4 * squeeze, 1, f"{name}/relu_conv1x1_2")
    net.top = squeezed
    three = net.conv_relu(f"{name}/conv3x3_2", 4 * squeeze, 3, f"{name}/relu_conv3x3_2", pad=1)
    net.layer(f"{name}/concat", "Concat", bottom=[one, three])
