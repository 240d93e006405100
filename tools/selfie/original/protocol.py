"""The post's protocol beside ours, statement by statement: the same, reconstructed, or different, and why."""

from __future__ import annotations

from dataclasses import dataclass

from selfie.common import paths
from selfie.net import architectures
from selfie.runs.run_folder import Run

K40_CORES, K40_HERTZ = 2880, 745e6  # NVIDIA's data sheet, without boost: 4.29 TFLOP/s
NIGHT_HOURS = 12
SELFIES = 2_000_000
TENS = 20  # the least that "several tens of times" can mean
SAME, RECONSTRUCTED, DIFFERENT = "same", "reconstructed", "different"


@dataclass(frozen=True)
class Row:
    """One statement of the post, what a run did, one of the three marks, and the reason."""

    what: str
    post: str
    ours: str
    mark: str
    why: str


def vgg16_macs() -> int:
    """Multiplications of VGG16 with a two-way head, forward, for one 224 x 224 picture: convolutions and fully
    connected layers."""
    side, inputs, total = 224, 3, 0
    for convolutions, channels in architectures.VGG16_STAGES:
        for _ in range(convolutions):
            total += inputs * channels * 9 * side * side
            inputs = channels
        side //= 2
    for outputs, size in ((4096, inputs * side * side), (4096, 4096), (2, 4096)):
        total += outputs * size
    return total


def arithmetic() -> dict:
    """What one K40 can do at the very most: every core adds and multiplies in every cycle, nothing waits.

    A training step costs three forwards: one forward, and two as large to differentiate by data and by weights.
    """
    macs = vgg16_macs()
    flops = K40_CORES * 2 * K40_HERTZ
    rate = flops / (2 * 3 * macs)
    night = rate * NIGHT_HOURS * 3600
    return {
        "forward_gmac": macs / 1e9,
        "training_gmac": 3 * macs / 1e9,
        "k40_tflops": flops / 1e12,
        "images_per_second": rate,
        "images_per_night": night,
        "passes_per_night": night / SELFIES,
        "days_for_tens_of_passes": TENS * SELFIES / rate / 86400,
    }


def sentence(sums: dict) -> str:
    """The arithmetic in words."""
    return (
        f"VGG16 takes {sums['forward_gmac']:.1f} GMAC forward, {sums['training_gmac']:.1f} per training image. A "
        f"K40's {sums['k40_tflops']:.2f} TFLOP/s, fully used, are {sums['images_per_second']:.0f} images/s, or "
        f"{sums['images_per_night'] / 1e6:.1f} million in {NIGHT_HOURS} hours: "
        f"{sums['passes_per_night']:.1f} passes over {SELFIES / 1e6:.0f} million selfies. {TENS} passes take "
        f"{sums['days_for_tens_of_passes']:.0f} days. So 'several tens of times' and 'overnight on one K40' cannot "
        f"both hold for VGG16."
    )


def table(run: Run, tiles: int = 0) -> list[Row]:
    """All statements, with what the run folder says of this run; `tiles`: published tiles that it was trained on."""
    info, variant = run.info, run.variant
    train, val = (info["lmdb"][split]["count"] for split in ("train", "val"))
    passes = info["iterations"] * variant.batch / train
    vgg, imagenet = variant.architecture == "vgg16", variant.weights in ("vgg16", "squeezenet") and info["weights"]
    rule = (
        "published best 100 and worst 300"
        if tiles
        else "likes within groups of 100 of similar audience, split by user (tools/label.py)"
    )
    hardware = "CPU" if info["gpu"] is None else f"GPU {info['gpu']}"
    start = (info["weights"] or {}).get("path", "random weights")
    initial = start.rsplit("/", 1)[-1]
    return [
        Row(
            "data volume",
            "5 million gathered, 2 million with a face",
            f"{train:,} to train on, {val:,} to validate",
            DIFFERENT,
            "the selfies were never published",
        ),
        Row(
            "label rule",
            "the better half by likes in groups of 100 of similar audience",
            rule,
            DIFFERENT if tiles else RECONSTRUCTED,
            "extremes, not halves: all that was published"
            if tiles
            else "the post gives the rule; limits of followers and tags and the bonus per tag are our numbers",
        ),
        Row(
            "net",
            "VGGNet",
            variant.name,
            SAME if vgg else DIFFERENT,
            "VGG16 taken for 'VGGNet'" if vgg else "what a CPU can train",
        ),
        Row(
            "parameters",
            "about 140 million",
            f"{info['parameters']:,}",
            SAME if vgg else DIFFERENT,
            "140 million are the 1000-way net's 138; a two-way head leaves 134" if vgg else "a smaller net",
        ),
        Row(
            "dropout",
            "disabled",
            "with" if variant.dropout else "none",
            DIFFERENT if variant.dropout else SAME,
            "the ablation" if variant.dropout else "diff the prototxts of vgg16 and vgg16_dropout",
        ),
        Row(
            "initialisation",
            "ImageNet; faces no better",
            initial,
            SAME if imagenet else DIFFERENT,
            "ImageNet weights" if imagenet else "not from ImageNet",
        ),
        Row(
            "framework",
            "Caffe",
            f"Caffe {info['versions'].get('caffe', '')}",
            SAME,
            "BVLC's last state, with patches for today's system",
        ),
        Row("hardware", "one NVIDIA K40", hardware, DIFFERENT, "what is here"),
        Row(
            "time",
            "overnight; each selfie several tens of times",
            f"{info['started']} to {info['ended']}; {passes:.1f} passes",
            DIFFERENT,
            sentence(arithmetic()),
        ),
        Row(
            "hyperparameters",
            "not told",
            f"solver.prototxt of the run, seed {info['seed']}",
            RECONSTRUCTED,
            "each number is argued in solver/",
        ),
        Row(
            "test set",
            "50,000 held-out selfies",
            "the test split; the published tiles",
            DIFFERENT,
            "of the original only the figures exist",
        ),
        Row(
            "accuracy",
            "60 % on validation",
            _accuracy(run),
            DIFFERENT,
            "other selfies and other labels: the two numbers cannot be set side by side",
        ),
    ]


def _accuracy(run: Run) -> str:
    file = run.folder / "test_evaluation.json"
    if not file.exists():
        return "not evaluated yet: make eval"
    found = paths.read_json(file)
    low, high = found["accuracy_95"]
    return f"{found['accuracy']:.1%} ({low:.1%} to {high:.1%}) on {found['selfies']:,} test selfies"
