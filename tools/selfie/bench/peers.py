"""The same net in Caffe and in its peers, each in a process of its own that makes a pass when it is told to.

A pass is "forward" (to the net's answer) or "training" (forward to a softmax loss, and backward to every weight's
gradient). What is compared is written once by `prepare`: the net as prototxt and as ONNX, its weights, its input.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import caffe_net, pycaffe

OURS, STOCK = "Caffe", "Caffe without oneDNN"
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}  # as on a CPU that has no more than that
OURS_AVX2, STOCK_AVX2 = "Caffe, AVX2 only", "Caffe without oneDNN, AVX2 only"
CAFFES = {OURS: {}, STOCK: {"CAFFE_ONEDNN": "0"}, OURS_AVX2: AVX2, STOCK_AVX2: {"CAFFE_ONEDNN": "0", **AVX2}}
MODULES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "PyTorch": "torch", "PyTorch channels_last": "torch"}
TRAIN = ["PyTorch", "PyTorch channels_last"]  # those that can


def missing() -> list[str]:
    """The peers that are not installed."""
    return [
        name
        for name, module in MODULES.items()
        if not (importlib.util.find_spec(module) and importlib.util.find_spec("onnx"))
    ]


class Contender:
    """A process with the net of `folder` in it. SelfieError if it fails."""

    def __init__(self, name: str, folder: Path, work: str):
        self.name, self.process = (
            name,
            subprocess.Popen(
                [sys.executable, "-m", "selfie.bench.peers", name, folder, work],
                cwd=paths.ROOT / "tools",
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **CAFFES.get(name, {})},
            ),
        )
        self.answer, self.processor = np.load(self.ask("answer")), []

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def seconds(self) -> float:
        """Make one pass. The processor time that it took, of all cores, is kept in self.processor: on a busy machine
        that says more, but for those who spin while they wait for another thread."""
        seconds, processor = map(float, self.ask("pass").split())
        self.processor.append(processor)
        return seconds

    def megabytes(self) -> float:
        """The largest resident set so far."""
        return float(self.ask("memory"))

    def ask(self, question: str) -> str:
        with contextlib.suppress(BrokenPipeError):  # it says nothing then
            print(question, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise SelfieError(f"{self.name} failed in the benchmark of nets (see above)")
        return answer


# --- what is compared -------------------------------------------------------------------------------------------------


def prepare(deploy: Path, caffemodel: Path, data: np.ndarray, folder: Path) -> None:
    """Write forward.prototxt, training.prototxt, net.caffemodel, input.npy and, for the peers, net.onnx into `folder`.

    The net is a deploy prototxt's up to its softmax, without dropout; `data` is its input, N x C x H x W.
    """
    from google.protobuf import text_format

    message = text_format.Parse(deploy.read_text(), pycaffe.caffe_pb2().NetParameter())
    if message.layer[-1].type != "Softmax":
        raise SelfieError(f"{deploy} does not end in a softmax")
    answer = message.layer.pop().bottom[0]
    kept = [layer for layer in message.layer if layer.type != "Dropout"]  # in place; random, so never the same
    del message.layer[:]
    message.layer.extend(kept)
    message.layer[0].input_param.shape[0].dim[:] = data.shape
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "forward.prototxt").write_text(text_format.MessageToString(message))
    if not missing():
        _write_onnx(message, caffe_net.load(folder / "forward.prototxt", caffemodel), folder / "net.onnx")
    message.layer.add(name="label", type="Input", top=["label"]).input_param.shape.add(dim=data.shape[:1])
    message.layer.add(name="loss", type="SoftmaxWithLoss", bottom=[answer, "label"], top=["loss"])
    (folder / "training.prototxt").write_text(text_format.MessageToString(message))
    np.save(folder / "input.npy", data)
    (folder / "net.caffemodel").unlink(missing_ok=True)
    (folder / "net.caffemodel").symlink_to(caffemodel.resolve())


def _write_onnx(message, caffe_net, path: Path) -> None:
    """A net of convolutions, ReLUs, poolings, Concats and inner products with its weights, as ONNX."""
    import onnx
    from onnx import helper, numpy_helper

    nodes, now = [], {"data": "data"}  # now: what a blob's name means at this layer; ONNX knows no work in place
    for layer in message.layer[1:]:
        inputs = [now[name] for name in layer.bottom]
        inputs += [f"{layer.name}/{i}" for i in range(len(caffe_net.params.get(layer.name, ())))]
        if layer.type == "InnerProduct":
            nodes.append(helper.make_node("Flatten", inputs[:1], [f"{layer.name}/flat"]))
            inputs[0] = nodes[-1].output[0]
        kind, attributes = _onnx_operator(layer)
        nodes.append(helper.make_node(kind, inputs, [f"{layer.name}/{kind}"], **attributes))
        now[layer.top[0]] = nodes[-1].output[0]
    tensor = onnx.TensorProto.FLOAT
    weights = [
        numpy_helper.from_array(blob.data.copy(), f"{name}/{i}")
        for name, blobs in caffe_net.params.items()
        for i, blob in enumerate(blobs)
    ]
    shape = [*caffe_net.blobs["data"].shape]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("data", tensor, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], tensor, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _onnx_operator(layer) -> tuple[str, dict]:
    """(ONNX's name of a Caffe layer's operation, its attributes)."""
    if layer.type == "Convolution":
        one = layer.convolution_param
        return "Conv", {"strides": [*one.stride, 1][:1] * 2, "pads": [*one.pad, 0][:1] * 4}
    if layer.type == "Pooling" and layer.pooling_param.global_pooling:
        return "GlobalAveragePool", {}
    if layer.type == "Pooling":
        one = layer.pooling_param
        return "MaxPool", {
            "kernel_shape": [one.kernel_size] * 2,
            "strides": [one.stride] * 2,
            "pads": [one.pad] * 4,
            "ceil_mode": 1,
        }
    known = {"ReLU": ("Relu", {}), "InnerProduct": ("Gemm", {"transB": 1}), "Concat": ("Concat", {"axis": 1})}
    if layer.type not in known:
        raise SelfieError(f"layer {layer.name}: no {layer.type} in the benchmark of nets")
    return known[layer.type]


# --- the contenders, each in its process ------------------------------------------------------------------------------


def cores() -> int:
    return len(os.sched_getaffinity(0))


class Caffe:
    """Ours, or Caffe's own code: the environment says it, see CAFFES."""

    def __init__(self, folder: Path, data: np.ndarray, work: str):
        caffe = pycaffe.caffe()
        phase = caffe.TRAIN if work == "training" else caffe.TEST
        self.net = caffe.Net(str(folder / f"{work}.prototxt"), str(folder / "net.caffemodel"), phase)
        self.net.blobs["data"].data[...] = data

    def forward(self) -> np.ndarray:
        return next(iter(self.net.forward().values()))

    def training(self) -> None:
        self.net.clear_param_diffs()
        self.net.forward()
        self.net.backward()


class OnnxRuntime:
    def __init__(self, folder: Path, data: np.ndarray):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        self.session = onnxruntime.InferenceSession(folder / "net.onnx", options, ["CPUExecutionProvider"])
        self.data = {"data": data}

    def forward(self) -> np.ndarray:
        return self.session.run(None, self.data)[0]


class OpenVino:
    """In float32: by itself it takes bfloat16 where the CPU has that."""

    def __init__(self, folder: Path, data: np.ndarray):
        import openvino

        model = openvino.Core().compile_model(
            folder / "net.onnx",
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": cores(), "NUM_STREAMS": 1},
        )
        self.request, self.data = model.create_infer_request(), data

    def forward(self) -> np.ndarray:
        self.request.infer([self.data], share_inputs=True)
        return self.request.get_output_tensor(0).data


class PyTorch:
    """The nodes of the ONNX file, one by one."""

    def __init__(self, folder: Path, data: np.ndarray, memory_format: str):
        import onnx
        import torch

        torch.set_num_threads(cores())
        self.torch, graph = torch, onnx.load(folder / "net.onnx").graph
        self.nodes = [
            (
                node.op_type,
                node.input,
                node.output[0],
                {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute},
            )
            for node in graph.node
        ]
        order = getattr(torch, memory_format)
        self.weights = {}
        for one in graph.initializer:
            weights = torch.from_numpy(onnx.numpy_helper.to_array(one).copy())
            weights = weights.contiguous(memory_format=order) if weights.dim() == 4 else weights
            self.weights[one.name] = weights.requires_grad_()
        self.data = torch.from_numpy(data).contiguous(memory_format=order)

    def answer(self):
        values = {"data": self.data, **self.weights}
        for kind, inputs, output, attributes in self.nodes:
            values[output] = self.operation(kind, [values[name] for name in inputs], attributes)
        return values[output]

    def operation(self, kind: str, inputs: list, attributes: dict):
        functional = self.torch.nn.functional
        if kind == "Conv":
            return functional.conv2d(*inputs, attributes["strides"], attributes["pads"][:2])
        if kind == "MaxPool":
            return functional.max_pool2d(
                *inputs, attributes["kernel_shape"], attributes["strides"], attributes["pads"][:2], ceil_mode=True
            )
        return {
            "Relu": lambda: functional.relu_(*inputs),
            "Gemm": lambda: functional.linear(*inputs),
            "Flatten": lambda: self.torch.flatten(*inputs, 1),
            "Concat": lambda: self.torch.cat(inputs, 1),
            "GlobalAveragePool": lambda: functional.adaptive_avg_pool2d(*inputs, 1),
        }[kind]()

    def forward(self) -> np.ndarray:
        with self.torch.inference_mode():
            return self.answer().numpy()

    def training(self) -> None:
        for weights in self.weights.values():
            weights.grad = None
        answer = self.answer().flatten(1)
        label = self.torch.zeros(len(answer), dtype=self.torch.long)
        self.torch.nn.functional.cross_entropy(answer, label).backward()


def _make(name: str, folder: Path, data: np.ndarray, work: str):
    if name in CAFFES:
        return Caffe(folder, data, work)
    if name.startswith("PyTorch"):
        return PyTorch(folder, data, "channels_last" if name.endswith("channels_last") else "contiguous_format")
    return {"ONNX Runtime": OnnxRuntime, "OpenVINO": OpenVino}[name](folder, data)


def _serve(name: str, folder: Path, work: str) -> None:
    """Answer the questions of a Contender, line by line."""
    one = _make(name, folder, np.load(folder / "input.npy"), work)
    make_pass, answer = getattr(one, work), folder / f"answer-{name}.npy"
    for question in map(str.strip, sys.stdin):
        if question == "answer":  # of the first pass, which nobody measures
            found = make_pass()
            np.save(answer, np.zeros(0) if found is None else found)
            print(answer, flush=True)
        elif question == "memory":
            print(_peak_megabytes(), flush=True)
        else:
            begin, used = time.perf_counter(), time.process_time()
            make_pass()
            print(time.perf_counter() - begin, time.process_time() - used, flush=True)


def _peak_megabytes() -> float:
    """The largest resident set of this process. (getrusage begins with that of the parent.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
