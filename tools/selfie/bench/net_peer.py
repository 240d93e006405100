"""One contender of the race of nets, in a process of its own (`python -m selfie.bench.net_peer`), see `contenders`.

The net is the one that net_files.prepare wrote: as prototxt for Caffe, as ONNX for the others. Each contender is made
from the folder and the input, N x C x H x W float32. It has forward(), up to the scores, and those that can train have
training(): forward to a softmax loss, and backward to every weight's gradient.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

from selfie.bench.contenders import CAFFES, HELD
from selfie.common import parallel
from selfie.common.worker import serve
from selfie.net import pycaffe


class Caffe:
    """Ours, or Caffe's own code: the environment decides, see Contender."""

    def __init__(self, folder: Path, data: np.ndarray, work: str) -> None:
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
    """Microsoft's ONNX Runtime, one thread per core."""

    def __init__(self, folder: Path, data: np.ndarray) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = parallel.cores()
        self.session = onnxruntime.InferenceSession(folder / "net.onnx", options, ["CPUExecutionProvider"])
        self.data = {"data": data}

    def forward(self) -> np.ndarray:
        return self.session.run(None, self.data)[0]


class OpenVino:
    """Intel's OpenVINO in float32: by itself it takes bfloat16 where the CPU has that."""

    def __init__(self, folder: Path, data: np.ndarray) -> None:
        import openvino

        model = openvino.Core().compile_model(
            folder / "net.onnx",
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": parallel.cores(), "NUM_STREAMS": 1},
        )
        self.request, self.data = model.create_infer_request(), data

    def forward(self) -> np.ndarray:
        self.request.infer([self.data], share_inputs=True)
        return self.request.get_output_tensor(0).data


class PyTorch:
    """PyTorch, node by node of the ONNX file; `memory_format` is contiguous_format or channels_last."""

    def __init__(self, folder: Path, data: np.ndarray, memory_format: str) -> None:
        import onnx
        import torch

        torch.set_num_threads(parallel.cores())
        self.torch: Any = torch
        graph = onnx.load(folder / "net.onnx").graph
        self.nodes = [
            (
                node.op_type,
                node.input,
                node.output[0],
                {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute},
            )
            for node in graph.node
        ]
        layout = getattr(torch, memory_format)
        self.weights = {}
        for tensor in graph.initializer:
            weights = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            weights = weights.contiguous(memory_format=layout) if weights.dim() == 4 else weights
            self.weights[tensor.name] = weights.requires_grad_()
        self.data = torch.from_numpy(data).contiguous(memory_format=layout)

    def scores(self) -> Any:
        """Compute the net's scores as a tensor, with what is needed for the gradient."""
        values = {"data": self.data, **self.weights}
        for kind, inputs, output, attributes in self.nodes:
            values[output] = self.operation(kind, [values[name] for name in inputs], attributes)
        return values[output]

    def operation(self, kind: str, inputs: list, attributes: dict) -> Any:
        """Compute an ONNX operator of these inputs."""
        functional = self.torch.nn.functional
        if kind == "Conv":
            inputs = [*inputs, None][:3]  # no bias
            return functional.conv2d(
                *inputs, attributes["strides"], attributes["pads"][:2], groups=attributes.get("group", 1)
            )
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
            "AveragePool": lambda: functional.avg_pool2d(*inputs, attributes["kernel_shape"], attributes["strides"]),
            "Add": lambda: self.torch.add(*inputs),
            "Mul": lambda: self.torch.mul(*inputs),
            "PRelu": lambda: functional.prelu(inputs[0], inputs[1].flatten()),
            "LRN": lambda: functional.local_response_norm(
                inputs[0], attributes["size"], attributes["alpha"], attributes["beta"], attributes["bias"]
            ),
            "BatchNormalization": lambda: functional.batch_norm(
                inputs[0], *inputs[3:], *inputs[1:3], training=False, eps=attributes["epsilon"]
            ),
        }[kind]()

    def forward(self) -> np.ndarray:
        with self.torch.inference_mode():
            return self.scores().numpy()

    def training(self) -> None:
        for weights in self.weights.values():
            weights.grad = None
        scores = self.scores().flatten(1)
        label = self.torch.zeros(len(scores), dtype=self.torch.long)
        self.torch.nn.functional.cross_entropy(scores, label).backward()


def make(name: str, folder: Path, data: np.ndarray, work: str) -> Any:
    """Make the contender called `name`, for "forward" or "training"."""
    if name in CAFFES:
        return Caffe(folder, data, work)
    name = name.removesuffix(HELD)  # which the environment sees to
    if name.startswith("PyTorch"):
        return PyTorch(folder, data, "channels_last" if name.endswith("channels_last") else "contiguous_format")
    return {"ONNX Runtime": OnnxRuntime, "OpenVINO": OpenVino}[name](folder, data)


class Process:
    """The answers of this process."""

    def __init__(self) -> None:
        self.iteration: Callable[[], np.ndarray | None] | None = None

    def prepare(self, name: str, folder: str, work: str) -> dict:
        """Make a contender, and run the first iteration, which nobody measures: its scores, if `work` is "forward"."""
        contender = make(name, Path(folder), np.load(Path(folder, "input.npy")), work)
        self.iteration = getattr(contender, work)
        scores = self.iteration()
        return {"scores": [] if scores is None else scores.ravel().tolist()}

    def iterate(self) -> dict:
        """Run one iteration; its seconds, and its processor time over all cores."""
        assert self.iteration is not None, "prepare comes first"
        begin, used = time.perf_counter(), time.process_time()
        self.iteration()
        return {"seconds": time.perf_counter() - begin, "processor": time.process_time() - used}

    def memory(self) -> dict:
        """Read the largest resident set of this process. (getrusage begins with that of the parent.)"""
        status = Path("/proc/self/status").read_text()
        return {"megabytes": int(status.split("VmHWM:")[1].split()[0]) / 1024}


if __name__ == "__main__":
    process = Process()
    serve({name: getattr(process, name) for name in ("prepare", "iterate", "memory")})
