"""PyTorch as a contender beside Caffe: the same layers, in a process of its own (`python -m selfie.bench.torch_peer`).

Needs PyTorch and the standard library only, so any Python that has PyTorch can run it. Layers are described as
net/architectures.plain_layers does. Both memory layouts are kept, because which one is faster depends on the device.
"""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from selfie.common.worker import serve

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Scale(nn.Module):
    """Caffe's Power layer with power 1 and no shift."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Concat(nn.Module):
    """Caffe's Concat layer, of channels."""

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        return torch.cat(maps, 1)


class Net(nn.Module):
    """The net of architectures.plain_layers: N x 3 x H x W pixels to N x classes, before the softmax.

    A blob goes when the last layer that reads it has run.
    """

    def __init__(self, layers: list[dict]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(module, layers))
        later = [
            {name for other in layers[number:] for name in other["bottoms"]} for number in range(1, len(layers) + 1)
        ]
        self.blobs = [
            (layer["bottoms"], layer["top"], set(layer["bottoms"]) - names - {layer["top"]})
            for layer, names in zip(layers, later)
        ]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        values = {"data": pixels}
        for layer, (bottoms, top, last) in zip(self.layers, self.blobs):
            result = layer(*[values[name] for name in bottoms])
            for name in last:
                del values[name]
            values[top] = result
        return values[top].flatten(1)


def module(layer: dict) -> nn.Module:
    """Make a layer of architectures.plain_layers; ValueError for one of another type."""
    kind = layer["type"]
    if kind == "Convolution":
        return nn.LazyConv2d(layer["outputs"], layer["kernel"], layer["stride"], layer["pad"])
    if kind == "InnerProduct":
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(layer["outputs"]))
    if kind == "ReLU":
        return nn.ReLU(inplace=True)
    if kind == "MAX":
        return nn.MaxPool2d(layer["kernel"], layer["stride"], ceil_mode=True)
    if kind == "AVE" and layer["kernel"] is None:
        return nn.AdaptiveAvgPool2d(1)
    if kind == "AVE":
        return nn.AvgPool2d(layer["kernel"], layer["stride"], ceil_mode=True)
    if kind == "Power":
        return Scale(layer["scale"])
    if kind == "Concat":
        return Concat()
    raise ValueError(f"no such layer here: {kind}")


class Peer:
    """The net in both layouts, on a device, for one batch size at a time."""

    def __init__(self) -> None:
        self.models: dict[str, tuple[nn.Module, torch.optim.Optimizer, torch.Tensor]] = {}
        self.labels = torch.zeros(0)
        self.device = torch.device("cpu")

    def hello(self, device: str, tf32: bool) -> dict:
        """Choose device ("cpu" or "cuda:0") and precision. Answers with versions and the GPU's name."""
        self.device = torch.device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True  # tries cuDNN's algorithms and keeps the fastest
        cuda = self.device.type == "cuda"
        return {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "gpu": torch.cuda.get_device_name(self.device) if cuda else None,
        }

    def prepare(self, layers: list[dict], batch: int, side: int, classes: int) -> dict:
        """Make nets of `layers` with random weights, and random pictures. Answers with the number of parameters."""
        self.release()
        torch.manual_seed(2015)
        for name, layout in LAYOUTS.items():
            model = Net(layers).to(self.device)
            pixels = torch.randn(batch, 3, side, side, device=self.device)
            model(pixels[:1])  # gives lazy layers their shapes
            for parameter in model.parameters():  # as He et al. 2015: numbers of about 1 everywhere
                if parameter.dim() > 1:
                    nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            model = model.to(memory_format=layout)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=0.0005)
            self.models[name] = model, optimizer, pixels.to(memory_format=layout)
        self.labels = torch.arange(batch, device=self.device) % classes
        return {"parameters": sum(parameter.numel() for parameter in model.parameters())}

    def release(self) -> dict:
        """Give the memory back."""
        self.models = {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return {}

    def forward(self, layout: str, count: int) -> dict:
        """Time `count` forward passes; the probabilities come to the host."""
        model, _, pixels = self.models[layout]
        model.eval()
        begin = time.perf_counter()
        with torch.inference_mode():
            for _ in range(count):
                model(pixels).softmax(1).cpu()
        return {"seconds": time.perf_counter() - begin}

    def training(self, layout: str, count: int) -> dict:
        """Time `count` iterations: forward, backward, update; the loss comes to the host."""
        model, optimizer, pixels = self.models[layout]
        model.train()
        loss = math.nan
        self.wait()
        begin = time.perf_counter()
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            output = nn.functional.cross_entropy(model(pixels), self.labels)
            output.backward()
            optimizer.step()
            loss = output.item()
        self.wait()
        return {"seconds": time.perf_counter() - begin, "loss": loss}

    def matrix(self, size: int, count: int) -> dict:
        """Time `count` float32 products of random `size` x `size` matrices."""
        a, b = (torch.randn(size, size, device=self.device) for _ in range(2))
        for _ in range(3):
            a @ b
        self.wait()
        begin = time.perf_counter()
        for _ in range(count):
            a @ b
        self.wait()
        return {"seconds": time.perf_counter() - begin}

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


if __name__ == "__main__":
    peer = Peer()
    serve({name: getattr(peer, name) for name in ("hello", "prepare", "release", "forward", "training", "matrix")})
