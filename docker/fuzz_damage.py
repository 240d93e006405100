"""Small nets that hold every layer of Caffe, and damage to files: by faults of bytes, of typing, of single values."""

from __future__ import annotations

import random
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# --- what is damaged: small nets that hold every layer there is -----------------------------------------------------

NET = """
name: "net"
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 12 dim: 12 } shape { dim: 2 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } } }
%s
layer { name: "inner" type: "InnerProduct" bottom: "%s" top: "inner" param { lr_mult: 1 decay_mult: 1 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "inner" bottom: "label" top: "loss" loss_weight: 1 }
"""
CONVOLUTION = (
    'convolution_param { num_output: 4 kernel_size: 3 stride: 1 pad: 1 group: 1 weight_filler { type: "msra" } }'
)
INPUTS = 'layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ {1} }} }} }}'

IN_THE_MIDDLE = {  # type: parameters; bottom "data" of 2 x 3 x 12 x 12, one top
    "AbsVal": "", "BNLL": "", "Sigmoid": "", "TanH": "", "Softmax": "softmax_param { axis: 1 }",
    "Dropout": "dropout_param { dropout_ratio: 0.5 }", "ELU": "elu_param { alpha: 1 }",
    "Exp": "exp_param { base: 2 scale: 0.1 shift: 0 }", "Power": "power_param { power: 2 scale: 1 shift: 3 }",
    "Log": "log_param { base: 2 scale: 1 shift: 9 }", "Swish": "swish_param { beta: 1 }",
    "Clip": "clip_param { min: -1 max: 1 }", "Threshold": "threshold_param { threshold: 0.1 }",
    "ReLU": "relu_param { negative_slope: 0.1 }", "PReLU": "prelu_param { channel_shared: false }",
    "LRN": "lrn_param { local_size: 3 alpha: 1 beta: 0.75 norm_region: WITHIN_CHANNEL }",
    "MVN": "mvn_param { normalize_variance: true across_channels: false }",
    "BatchNorm": "batch_norm_param { moving_average_fraction: 0.9 }",
    "Scale": "scale_param { axis: 1 num_axes: 1 bias_term: true }", "Bias": "bias_param { axis: 1 num_axes: 1 }",
    "Convolution": CONVOLUTION, "Deconvolution": CONVOLUTION.replace("group: 1", "group: 1 dilation: 1"),
    "Pooling": "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }",
    "SPP": "spp_param { pyramid_height: 2 pool: MAX }", "Flatten": "flatten_param { axis: 1 end_axis: -1 }",
    "Reshape": "reshape_param { shape { dim: 0 dim: -1 } axis: 0 num_axes: -1 }",
    "Reduction": "reduction_param { operation: SUM axis: 2 coeff: 0.5 }",
    "ArgMax": "argmax_param { out_max_val: false top_k: 1 axis: 1 }",
    "Tile": "tile_param { axis: 1 tiles: 2 }", "Im2col": "convolution_param { kernel_size: 3 stride: 2 pad: 1 }",
    "Embed": "embed_param { num_output: 3 input_dim: 9 }",
    "InnerProduct": "inner_product_param { num_output: 5 axis: 1 }",
    "Eltwise": "eltwise_param { operation: SUM coeff: 1 }", "Concat": "concat_param { axis: 1 }",
    "Slice": "slice_param { axis: 1 }", "Split": "",
}  # fmt: skip
ON_TWO = {  # bottoms, their shapes, parameters
    "Crop": ("data", "2 3 12 12", "small", "2 3 5 6", "crop_param { axis: 2 offset: 1 offset: 2 }"),
    "Filter": ("data", "4 3", "selector", "4", ""),
    "BatchReindex": ("data", "4 3", "index", "5", ""),
    "EuclideanLoss": ("data", "4 3", "label", "4 3", ""),
    "SigmoidCrossEntropyLoss": ("data", "4 3", "label", "4 3", "loss_param { normalization: VALID ignore_label: 1 }"),
    "HingeLoss": ("data", "4 3", "label", "4", "hinge_loss_param { norm: L2 }"),
    "InfogainLoss": ("data", "4 3", "label", "4", 'infogain_loss_param { source: "H" axis: 1 }'),
    "MultinomialLogisticLoss": ("data", "4 3", "label", "4", ""),
    "SoftmaxWithLoss": ("data", "4 3 2", "label", "4 2", "loss_param { ignore_label: 2 normalize: true }"),
    "Accuracy": ("data", "4 3", "label", "4", "accuracy_param { top_k: 2 axis: 1 ignore_label: 9 }"),
    "LSTM": ("data", "3 2 4", "cont", "3 2", "recurrent_param { num_output: 3 expose_hidden: false }"),
    "RNN": ("data", "3 2 4", "cont", "3 2", 'recurrent_param { num_output: 3 weight_filler { type: "uniform" } }'),
    "Eltwise": ("data", "2 3", "other", "2 3", "eltwise_param { operation: PROD stable_prod_grad: true }"),
    "Concat": ("data", "2 3", "other", "2 4", "concat_param { axis: 1 }"),
    "Scale": ("data", "2 3 4", "scale", "3", "scale_param { axis: 1 }"),
    "SpatialTransformer": ("data", "2 3 6 6", "theta", "2 6", "spatial_transformer_param { output_h: 3 output_w: 4 }"),
    "LSTMUnit": ("c", "1 2 3", "gates", "1 2 12", ""),
}  # fmt: skip
ON_ITS_OWN = """
layer { name: "cont" type: "DummyData" top: "cont" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "lstm" type: "LSTM" bottom: "data" bottom: "cont" top: "lstm" recurrent_param { num_output: 3
  weight_filler { type: "uniform" min: -0.1 max: 0.1 } bias_filler { type: "constant" } } }
"""
SOLVER = """net: "{0}.prototxt" base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 100 max_iter: 1000 display: 0
random_seed: 1 snapshot_prefix: "s{0}" type: "{1}" momentum: 0.9
"""
MORE = """
layer { name: "a" type: "Parameter" top: "a" parameter_param { shape { dim: 3 dim: 2 } } }
---
layer { name: "a" type: "MemoryData" top: "a" top: "b"
  memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }
---
layer { name: "a" type: "ImageData" top: "a" top: "b"
  image_data_param { source: "list.txt" batch_size: 2 new_height: 8 new_width: 9 }
  transform_param { mirror: true crop_size: 6 scale: 0.5 mean_value: 100 } }
---
layer { name: "a" type: "Data" top: "a" top: "b"
  data_param { source: "lmdb" backend: LMDB batch_size: 2 prefetch: 3 }
  transform_param { crop_size: 6 mean_value: 1 mean_value: 2 mean_value: 3 } }
---
layer { name: "a" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "hdf5.txt" batch_size: 2 } }
---
layer { name: "a" type: "WindowData" top: "a" top: "b" transform_param { crop_size: 6 } window_data_param {
  source: "windows.txt" batch_size: 4 fg_threshold: 0.5 bg_threshold: 0.4 fg_fraction: 0.25 context_pad: 2 } }
---
layer { name: "a" type: "Input" top: "a" top: "b" top: "c"
  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "l" type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "c" top: "l"
  contrastive_loss_param { margin: 1 } }
---
input: "a" input_dim: 2 input_dim: 3 input_dim: 12 input_dim: 12
layers { name: "l" type: CONVOLUTION bottom: "a" top: "l" blobs_lr: 1 weight_decay: 1
  convolution_param { num_output: 2 kernel_size: 3 } }
---
input: "a" input_dim: 2 input_dim: 3 input_dim: 12 input_dim: 12
layers { layer { name: "l" type: "conv" num_output: 2 kernelsize: 3 pad: 1 stride: 2 } bottom: "a" top: "l" }
---
layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "o" type: "HDF5Output" bottom: "a" bottom: "a" hdf5_output_param { file_name: "out.h5" } }
layer { name: "s" type: "Silence" bottom: "a" include { phase: TEST min_level: 0 } }
"""


def nets() -> list[str]:
    """Texts of nets: every layer type once at least, and nets of several."""
    texts = []
    for kind, parameters in IN_THE_MIDDLE.items():
        layer = f'layer {{ name: "middle" type: "{kind}" bottom: "data" top: "middle" {parameters} }}'
        texts.append(NET % (layer, "middle"))
    for kind, (first, shape, second, other, parameters) in ON_TWO.items():
        inputs = ""
        for name, dims in ((first, shape), (second, other)):
            inputs += INPUTS.format(name, " ".join(f"dim: {dim}" for dim in dims.split()))
        layer = f'layer {{ name: "l" type: "{kind}" bottom: "{first}" bottom: "{second}" top: "l" {parameters} }}'
        if kind == "LSTMUnit":
            inputs, layer = (
                inputs + INPUTS.format("cont", "dim: 1 dim: 2"),
                layer.replace('bottom: "gates" top: "l"', 'bottom: "gates" bottom: "cont" top: "c2" top: "h"'),
            )
        texts.append(inputs + layer)
    return [*texts, *MORE.split("---"), deep(), (ROOT / "prototxt" / "demo" / "deploy.prototxt").read_text()]


def deep() -> str:
    """A net of a few learned layers, as is trained."""
    layers, bottom = "", "data"
    for kind in ("Convolution", "BatchNorm", "Scale", "PReLU", "Pooling", "Deconvolution"):
        layers += f'layer {{ name: "{kind}" type: "{kind}" bottom: "{bottom}" top: "{kind}" {IN_THE_MIDDLE[kind]} }}\n'
        bottom = kind
    return NET % (layers, bottom)


# --- damage ----------------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, -1, 2, 3, 5, 7, 31, 33, 255, 65536, 2**20, 2**31 - 1, -(2**31), 2**32 - 1, 2**32 + 3, 2**62, -5)
FLOATS = ("nan", "inf", "-inf", "1e38", "1e-45", "0", "-1", "0.5")


def damaged_bytes(dice: random.Random, whole: bytes) -> bytes:
    """Return a file with one to three faults of a disk, a download or an attacker."""
    data = bytearray(whole)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        start = dice.randrange(len(data) + 1) if dice.random() < 0.5 else dice.randrange(min(len(data), 400) + 1)
        length = min(len(data) - start, dice.choice((1, 2, 4, 16, 100, 1000)))
        fault = dice.randrange(8)
        if fault == 0:
            del data[start:]
        elif fault == 1 and length:
            data[start] ^= 1 << dice.randrange(8)
        elif fault == 2:
            data[start : start + length] = dice.randbytes(length)
        elif fault == 3:
            del data[start : start + length]
        elif fault == 4:
            data[start:start] = data[start : start + length]
        elif fault == 5:
            data[start:start] = dice.randbytes(length)
        elif fault == 6:
            data[start : start + length] = bytes(length)
        elif length:
            data[start : start + length] = b"\xff" * length
    return bytes(data)


def damaged_message(dice: random.Random, message) -> None:
    """Change, drop or repeat one to three values anywhere inside a protobuf message."""
    for _ in range(dice.choice((1, 1, 2, 3))):
        places = list(fields(message))
        if places:
            parent, field = dice.choice(places)
            change(dice, parent, field)


def fields(message):
    """Yield (message, field) of everything that is set, and as many times the unset numbers beside it."""
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for child in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
                yield from fields(child)
    if message.DESCRIPTOR.name.endswith("Parameter") and message.DESCRIPTOR.name not in (
        "NetParameter",
        "LayerParameter",
    ):
        for field in message.DESCRIPTOR.fields:
            if field.message_type is None:
                yield message, field


def change(dice: random.Random, message, field) -> None:
    """Give one field of a message another value, or none, or one more or less."""
    name, value = field.name, getattr(message, field.name)
    many = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
    if field.message_type is not None or dice.random() < 0.1:
        if many and len(value):
            if dice.random() < 0.5:
                del value[dice.randrange(len(value))]
            elif field.message_type is not None:
                value.add().CopyFrom(dice.choice(list(value)))
            else:
                value.append(dice.choice(list(value)))
        else:
            message.ClearField(name)
        return
    new = other_value(dice, field)
    try:
        if many and len(value) and dice.random() < 0.7:
            value[dice.randrange(len(value))] = new
        elif many:
            value.append(new)
        else:
            setattr(message, name, new)
    except (ValueError, TypeError):  # a number out of that field's range
        change(dice, message, field)


def other_value(dice: random.Random, field):
    """Draw a value for a field, the odd ones first."""
    if field.enum_type is not None:
        return dice.choice([value.number for value in field.enum_type.values])
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return float(dice.choice(FLOATS))
    if field.cpp_type == field.CPPTYPE_BOOL:
        return dice.random() < 0.5
    if field.cpp_type == field.CPPTYPE_STRING:
        word = dice.choice(
            ("", "data", "middle", "label", "a", "Convolution", "LSTM", "Data", "gaussian", "a/b", "%s%n" * 9)
        )
        return word.encode() if field.type == field.TYPE_BYTES else word
    return dice.choice(NUMBERS)


def damaged_text(dice: random.Random, text: str) -> str:
    """Return a prototxt with one to three faults of somebody's typing."""
    for _ in range(dice.choice((1, 1, 2, 3))):
        tokens = re.findall(r'"[^"]*"|[\w.+-]+|\S|\s+', text)
        words = [place for place, token in enumerate(tokens) if not token.isspace()] or [0]
        numbers = [place for place in words if re.fullmatch(r"[-+]?[\d.]+", tokens[place])]
        names = [place for place in words if tokens[place].startswith('"')]
        place, other, fault = dice.choice(words), dice.choice(words), dice.randrange(9)
        if fault <= 2 and numbers:
            tokens[dice.choice(numbers)] = str(dice.choice(NUMBERS + FLOATS))
        elif fault == 3 and names:
            tokens[dice.choice(names)] = tokens[dice.choice(names)]
        elif fault == 4:
            tokens[place] = ""
        elif fault == 5:
            tokens[place], tokens[other] = tokens[other], tokens[place]
        elif fault == 6:
            tokens.insert(place, tokens[other])
        elif fault == 7:
            del tokens[place:]
        else:
            tokens[place] = "".join(chr(ord(letter) ^ (dice.random() < 0.3)) for letter in tokens[place])
        text = "".join(tokens) or " "
    return text
