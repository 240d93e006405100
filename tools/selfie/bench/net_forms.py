"""Well-known nets that are raced beside ours, made here as prototxt messages: their weights are random, so only their
form counts."""

from __future__ import annotations

from selfie.net import mtcnn_nets
from selfie.net.builder import NetBuilder
from selfie.net.prototxt import Token

LRN = {"local_size": 5, "alpha": 0.0001, "beta": 0.75}
THIN_STAGES = ((3, 32, 1), (4, 64, 2), (6, 128, 2), (3, 256, 2))  # blocks, channels of the bottleneck, stride
INCEPTIONS = {  # outputs: 1x1, 3x3's reduction, 3x3, 5x5's reduction, 5x5, behind the pooling
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def build(name: str) -> dict:
    """Build open_nsfw, caffenet, googlenet, or det2 or det3 of MTCNN, to the softmax of one answer."""
    if name in mtcnn_nets.FILES:
        return _first_answer(mtcnn_nets.build(name))
    side = {"open_nsfw": 224, "caffenet": 227, "googlenet": 224}[name]
    net = NetBuilder(name, trained=False)
    shape = {"shape": {"dim": [1, 3, side, side]}}
    net.message["layer"].append({"name": "data", "type": "Input", "top": "data", "input_param": shape})
    {"open_nsfw": _open_nsfw, "caffenet": _caffenet, "googlenet": _googlenet}[name](net)
    net.layer("prob", "Softmax")
    return net.message


def _first_answer(message: dict) -> dict:
    """Leave out what the first softmax does not depend on."""
    layers = message["layer"]
    softmax = next(layer for layer in layers if layer["type"] == "Softmax")
    needed, kept = {softmax["bottom"]}, [softmax]
    for layer in reversed(layers):
        if layer is not softmax and layer["top"] in needed:
            needed.add(layer.get("bottom", ""))
            kept.append(layer)
    return {**message, "layer": kept[::-1]}


def _normalised(net: NetBuilder, name: str, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> str:
    """Append a convolution, BatchNorm by stored statistics, Scale, and a ReLU, all in place."""
    net.conv(f"conv_{name}", outputs, kernel, pad=kernel // 2, stride=stride)
    net.layer(f"bn_{name}", "BatchNorm", top=net.top, batch_norm_param={"use_global_stats": True})
    net.layer(f"scale_{name}", "Scale", top=net.top, scale_param={"bias_term": True})
    return net.relu(f"relu_{name}") if relu else net.top


def _open_nsfw(net: NetBuilder) -> None:
    """Build Yahoo's open_nsfw: ResNet-50 (He et al. 2015) with half the channels."""
    _normalised(net, "1", 64, 7, stride=2)
    net.pool("pool1", 3, 2)
    for stage, (blocks, channels, first_stride) in enumerate(THIN_STAGES):
        for block in range(blocks):
            name, stride = f"stage{stage}_block{block}", first_stride if block == 0 else 1
            shortcut = start = net.top
            if block == 0:
                shortcut = _normalised(net, f"{name}_proj_shortcut", 4 * channels, 1, stride, relu=False)
                net.top = start
            _normalised(net, f"{name}_branch2a", channels, 1, stride)
            _normalised(net, f"{name}_branch2b", channels, 3)
            branch = _normalised(net, f"{name}_branch2c", 4 * channels, 1, relu=False)
            net.layer(f"eltwise_{name}", "Eltwise", bottom=[shortcut, branch])
            net.relu(f"relu_{name}")
    net.pool("pool", 7, 1, "AVE")
    net.learned("fc", "InnerProduct", {"num_output": 2})


def _caffenet(net: NetBuilder) -> None:
    """Build BVLC's CaffeNet, a variant of AlexNet (Krizhevsky et al. 2012) with two groups."""
    for number, (outputs, kernel, pad, stride, group) in enumerate(
        ((96, 11, 0, 4, 1), (256, 5, 2, 1, 2), (384, 3, 1, 1, 1), (384, 3, 1, 1, 2), (256, 3, 1, 1, 2)), 1
    ):
        settings = {"num_output": outputs, "pad": pad, "kernel_size": kernel, "stride": stride, "group": group}
        net.learned(f"conv{number}", "Convolution", settings)
        net.relu(f"relu{number}")
        if number in (1, 2, 5):
            net.pool(f"pool{number}", 3, 2)
        if number in (1, 2):
            net.layer(f"norm{number}", "LRN", lrn_param=LRN)
    for number in (6, 7):
        net.learned(f"fc{number}", "InnerProduct", {"num_output": 4096})
        net.relu(f"relu{number}")
    net.learned("fc8", "InnerProduct", {"num_output": 1000})


def _googlenet(net: NetBuilder) -> None:
    """Build GoogLeNet (Szegedy et al. 2014) without its auxiliary answers."""
    net.conv_relu("conv1", 64, 7, "relu1", pad=3, stride=2)
    net.pool("pool1", 3, 2)
    net.layer("norm1", "LRN", lrn_param=LRN)
    net.conv_relu("conv2_reduce", 64, 1, "relu2_reduce")
    net.conv_relu("conv2", 192, 3, "relu2", pad=1)
    net.layer("norm2", "LRN", lrn_param=LRN)
    net.pool("pool2", 3, 2)
    for name, sizes in INCEPTIONS.items():
        _inception(net, name, *sizes)
        if name in ("3b", "4e"):
            net.pool(f"pool{name}", 3, 2)
    net.pool("pool5", 7, 1, "AVE")
    net.learned("classifier", "InnerProduct", {"num_output": 1000})


def _inception(
    net: NetBuilder, name: str, ones: int, reduce3: int, threes: int, reduce5: int, fives: int, last: int
) -> None:
    """Append an inception module: four branches and their concatenation."""
    start, ends = net.top, []
    for branch, layers in enumerate(
        (((ones, 1),), ((reduce3, 1), (threes, 3)), ((reduce5, 1), (fives, 5)), ((last, 1),))
    ):
        net.top = start
        if branch == 3:
            pooling = {"pool": Token("MAX"), "kernel_size": 3, "stride": 1, "pad": 1}
            net.layer(f"{name}/pool", "Pooling", pooling_param=pooling)
        for number, (outputs, kernel) in enumerate(layers):
            layer = f"{name}/{branch}_{number}"
            net.conv_relu(layer, outputs, kernel, f"{layer}_relu", pad=kernel // 2)
        ends.append(net.top)
    net.layer(f"{name}/output", "Concat", bottom=ends)
