"""The net that is raced, written once for all contenders: prototxts, weights, input, and the same net as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from selfie.bench import contenders
from selfie.common.errors import SelfieError
from selfie.net import caffe_net, pycaffe
from selfie.net.pycaffe import Message, Net

OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {  # Caffe's layer -> ONNX's operator and attributes
    "ReLU": ("Relu", {}),
    "InnerProduct": ("Gemm", {"transB": 1}),
    "Concat": ("Concat", {"axis": 1}),
    "PReLU": ("PRelu", {}),
    "Eltwise": ("Add", {}),
    "Power": ("Mul", {}),  # by its scale
}


def prepare(deploy: Path, caffemodel: Path, data: np.ndarray, folder: Path) -> None:
    """Write forward.prototxt, training.prototxt, net.caffemodel, input.npy and, for the others, net.onnx into `folder`.

    The net is a deploy prototxt's up to its softmax, without dropout; `data` is its input, N x C x H x W float32.
    SelfieError if it does not end in a softmax, or holds a layer that is not translated here.
    """
    from google.protobuf import text_format

    message = pycaffe.read_net(deploy)
    if message.layer[-1].type != "Softmax":
        raise SelfieError(f"{deploy} does not end in a softmax")
    scores = message.layer.pop().bottom[0]
    kept = [layer for layer in message.layer if layer.type != "Dropout"]  # in place; random, so never the same
    del message.layer[:]
    message.layer.extend(kept)
    message.layer[0].input_param.shape[0].dim[:] = data.shape
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "forward.prototxt").write_text(text_format.MessageToString(message))
    if set(contenders.MODULES) - set(contenders.missing()):
        _write_onnx(message, caffe_net.load(folder / "forward.prototxt", caffemodel), folder / "net.onnx")
    message.layer.add(name="label", type="Input", top=["label"]).input_param.shape.add(dim=data.shape[:1])
    message.layer.add(name="loss", type="SoftmaxWithLoss", bottom=[scores, "label"], top=["loss"])
    (folder / "training.prototxt").write_text(text_format.MessageToString(message))
    np.save(folder / "input.npy", data)
    (folder / "net.caffemodel").unlink(missing_ok=True)
    (folder / "net.caffemodel").symlink_to(caffemodel.resolve())


def _write_onnx(message: Message, net: Net, path: Path) -> None:
    """Write a net of the layers that are translated here with its weights as ONNX; a Scale is part of its BatchNorm."""
    import onnx
    from onnx import helper, numpy_helper

    nodes, weights, current = [], [], {"data": "data"}  # current: what a blob's name means at this layer
    layers = [layer for layer in message.layer[1:] if layer.type != "Scale"]
    scales = {layer.bottom[0]: layer.name for layer in message.layer if layer.type == "Scale"}
    for layer in layers:
        values = [blob.data.copy() for blob in net.params.get(layer.name, ())]
        if layer.type == "BatchNorm":
            values = _normalisation(values, [blob.data.copy() for blob in net.params[scales[layer.top[0]]]])
        if layer.type == "Power":
            values = [np.array(layer.power_param.scale, np.float32)]
        if layer.type == "PReLU" and len(net.blobs[layer.top[0]].shape) == 4:
            values[0] = values[0].reshape(-1, 1, 1)
        inputs = [current[name] for name in layer.bottom]
        for index, array in enumerate(values):
            weights.append(numpy_helper.from_array(array, f"{layer.name}/{index}"))
            inputs.append(weights[-1].name)
        if layer.type == "InnerProduct":
            nodes.append(helper.make_node("Flatten", inputs[:1], [f"{layer.name}/flat"]))
            inputs[0] = nodes[-1].output[0]
        operator, attributes = _onnx_operator(layer)
        nodes.append(helper.make_node(operator, inputs, [f"{layer.name}/{operator}"], **attributes))
        current[layer.top[0]] = nodes[-1].output[0]
    tensor = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("data", tensor, [*net.blobs["data"].shape])],
        [helper.make_tensor_value_info(nodes[-1].output[0], tensor, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _normalisation(statistics: list[np.ndarray], scale: list[np.ndarray]) -> list[np.ndarray]:
    """Return ONNX's parameters of BatchNormalization: scale, bias, mean, variance."""
    mean, variance, count = statistics
    return [*scale, mean / count, variance / count]


def _onnx_operator(layer: Message) -> tuple[str, dict[str, Any]]:
    """Translate a Caffe layer: (ONNX's operator, its attributes). SelfieError if it is not known here."""
    if layer.type == "Convolution":
        convolution = layer.convolution_param
        strides, pads = [*convolution.stride, 1][:1] * 2, [*convolution.pad, 0][:1] * 4
        return "Conv", {"strides": strides, "pads": pads, "group": convolution.group}
    if layer.type == "Pooling" and layer.pooling_param.global_pooling:
        return "GlobalAveragePool", {}
    if layer.type == "Pooling":
        pooling = layer.pooling_param
        return ("MaxPool", "AveragePool")[pooling.pool], {
            "kernel_shape": [pooling.kernel_size] * 2,
            "strides": [pooling.stride] * 2,
            "pads": [pooling.pad] * 4,
            "ceil_mode": 1,
        }
    if layer.type == "LRN":
        lrn = layer.lrn_param
        return "LRN", {"size": lrn.local_size, "alpha": lrn.alpha, "beta": lrn.beta, "bias": lrn.k}
    if layer.type == "BatchNorm":
        return "BatchNormalization", {"epsilon": layer.batch_norm_param.eps}
    if layer.type not in OPERATORS:
        raise SelfieError(f"layer {layer.name}: no {layer.type} in the benchmark of nets")
    return OPERATORS[layer.type]
