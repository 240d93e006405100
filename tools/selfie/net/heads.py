"""Linear heads on a frozen net, as Caffe layers: what trains them, and what scores with all of them.

    features       the blobs that are read, pooled over the window: their averages and maxima
    standardised   the same, less their means, over their deviations (of the training selfies)
    members        a calibrated log-odds of *good* from each head
    ensemble       minus and plus half their mean, whose softmax is the sigmoid of the mean
    prob           (bad, good): the softmax, drawn by `bounded` as far towards one half as few selfies cannot tell

All are stock layers, so plain Caffe gives the calibrated probability; the weights of `standardised`, `ensemble` and
`bounded` are computed, not learned (selfie.runs.heads).
"""

from __future__ import annotations

from selfie.net.builder import NetBuilder
from selfie.net.prototxt import Token
from selfie.net.variants import Readout, Variant

IGNORED = -1  # as a target: this head does not learn from this selfie


def training(net: NetBuilder, variant: Variant, data: str) -> dict:
    """Build what trains the heads of a variant: records of targets and features in, the mean loss of all heads out.

    A record is one head's target after the other, then the features. Each head is given what it alone would be: the
    loss is a mean over heads, so their rates are multiplied, and their decay divided, by their number.
    """
    readout = variant.readout
    assert readout is not None
    for phase, split, batch in (("TRAIN", "train", variant.batch), ("TEST", "val", variant.test_batch)):
        net.layer(
            "records",
            "Data",
            bottom=[],
            include={"phase": Token(phase)},
            data_param={"source": f"{data}/{split}", "batch_size": batch, "backend": Token("LMDB")},
        )
    net.layer("slice", "Slice", top=["targets", "features"], slice_param={"slice_point": readout.members})
    _standardise(net)
    rate, decay = readout.members, 1 / readout.members
    net.layer(
        "members",
        "InnerProduct",
        param=[{"lr_mult": rate, "decay_mult": decay}, {"lr_mult": rate, "decay_mult": 0}],
        inner_product_param={"num_output": readout.members},
    )
    loss = {"ignore_label": IGNORED, "normalization": Token("VALID")}
    net.layer("loss", "SigmoidCrossEntropyLoss", bottom=["members", "targets"], loss_param=loss)
    return net.message


def scoring(net: NetBuilder, readout: Readout, side: int, as_convolution: bool) -> None:
    """Append what reads a frozen net, up to `prob`.

    side             of the window's map, in which blobs are pooled
    as_convolution   for all windows of a larger input: the pooling moves, layers are 1 x 1 convolutions
    """
    blobs = _cut_off(net, readout.blobs)
    window = side if as_convolution else 0
    parts = [_pool(net, blobs[blob], kind, window) if kind else blobs[blob] for blob, kind in readout.parts]
    if not as_convolution and len({kind == "" for _, kind in readout.parts}) > 1:  # pooled maps have axes of length 1
        parts = [net.layer(f"{part}_flat", "Flatten", bottom=part) for part in parts]
    net.layer("features", "Concat", bottom=parts)
    _standardise(net)
    net.fully_connected("members", readout.members, 1, as_convolution)
    net.fully_connected("ensemble", 2, 1, as_convolution)
    net.layer("softmax", "Softmax")
    net.fully_connected("bounded", 2, 1, as_convolution)
    net.message["layer"][-1]["top"] = "prob"


def _standardise(net: NetBuilder) -> None:
    """Append `standardised`: a BatchNorm layer with statistics that stay."""
    net.layer("standardised", "BatchNorm", bottom="features", batch_norm_param={"use_global_stats": True})


def _pool(net: NetBuilder, blob: str, kind: str, side: int) -> str:
    """Append the pooling of a blob in windows of side x side, one step apart; 0: of all of it."""
    window = {"kernel_size": side, "stride": 1} if side else {"global_pooling": True}
    name = f"{blob.partition('/')[0]}_{kind.lower()}"
    return net.layer(name, "Pooling", bottom=blob, pooling_param={"pool": Token(kind), **window})


def _cut_off(net: NetBuilder, blobs: tuple[str, ...]) -> dict[str, str]:
    """Remove the layers above the last one that makes one of the blobs. Returns their names: fc7 may be fc7-conv."""
    layers = net.message["layer"]
    made = {layer["top"].removesuffix("-conv"): layer["top"] for layer in layers}
    names = {blob: made[blob] for blob in blobs}
    last = max(number for number, layer in enumerate(layers) if layer["top"] in names.values())
    del layers[last + 1 :]
    return names
