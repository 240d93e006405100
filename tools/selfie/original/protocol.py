"""The post's protocol beside ours, statement by statement: the same, reconstructed, or different, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfie.common import clusters, paths, shapes
from selfie.data.label_rule import AUDIENCE, MEANINGS
from selfie.net import architectures, variants, weights
from selfie.runs import evaluate, train
from selfie.runs.run_folder import Run

K40_CORES, K40_HERTZ = 2880, 745e6  # NVIDIA's data sheet, without boost: 4.29 TFLOP/s
NIGHT_HOURS = 12
SELFIES = 2_000_000
TENS = 20  # epochs: the least that "several tens of times" can mean
SAME, RECONSTRUCTED, DIFFERENT = "same", "reconstructed", "different"


@dataclass(frozen=True)
class Row:
    """A statement of the post, what a run did, one of the three marks, and the reason."""

    what: str
    post: str
    ours: str
    mark: str
    why: str


# --- arithmetic ------------------------------------------------------------------------------------------------------


def vgg16_macs() -> int:
    """Count the multiply-accumulates of VGG16 with a two-way head, forward, for one 224 x 224 picture.

    Convolutions and fully connected layers are counted, as in the definition. Needs no Caffe.
    """
    variant = variants.get("vgg16")
    side, inputs, total = variant.crop, 3, 0
    for layer in architectures.chain(variant):
        if layer["type"] == "Convolution":  # all keep the side
            total += inputs * layer["outputs"] * layer["kernel"] ** 2 * side**2
            inputs = layer["outputs"]
        elif layer["type"] == "MAX":
            side //= layer["stride"]
        elif layer["type"] == "InnerProduct":
            total += inputs * side**2 * layer["outputs"]
            inputs, side = layer["outputs"], 1
    return total


def arithmetic() -> dict[str, float]:
    """Compute what one K40 can do at the very most: every core multiplies and adds in every cycle, nothing waits.

    A training step costs three forward passes: one forward, and two as large to differentiate by data and by weights.
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


def sentence(sums: dict[str, float]) -> str:
    """Put the arithmetic into words (they are part of compare.json)."""
    return (
        f"VGG16 takes {sums['forward_gmac']:.1f} GMAC forward, {sums['training_gmac']:.1f} per training image. A "
        f"K40's {sums['k40_tflops']:.2f} TFLOP/s, fully used, are {sums['images_per_second']:.0f} images/s, or "
        f"{sums['images_per_night'] / 1e6:.1f} million in {NIGHT_HOURS} hours: "
        f"{sums['passes_per_night']:.1f} passes over {SELFIES / 1e6:.0f} million selfies. {TENS} passes take "
        f"{sums['days_for_tens_of_passes']:.0f} days. So 'several tens of times' and 'overnight on one K40' cannot "
        f"both hold for VGG16."
    )


# --- the table -------------------------------------------------------------------------------------------------------


def table(run: Run, tiles: int = 0) -> list[Row]:
    """List all statements, with what the run folder says of this run; `tiles`: published tiles it was trained on."""
    return [*_data(run, tiles), *_net(run), *_training(run), *_result(run)]


def _data(run: Run, tiles: int) -> list[Row]:
    """List what the net learns from."""
    train, val = (run.info["lmdb"][split] for split in ("train", "val"))
    gathered, volume = (
        "5 million gathered, 2 million with a face",
        f"{train['count']:,} to train on, {val['count']:,} to validate",
    )
    if train.get("users"):
        volume += f", of {train['users']:,} and {val['users']:,} users"
    halves = "the better half by likes in groups of 100 of similar audience"
    if tiles:
        ours, mark = "published best 100 and worst 300", DIFFERENT
        why = "extremes, not halves: all that was published"
    elif run.meaning != MEANINGS[AUDIENCE]:
        ours, mark = f"{run.meaning.good}, {run.meaning.scope}", DIFFERENT
        why = "another rule (docs/labels.md)"
    else:
        ours, mark = "likes within groups of 100 of similar audience, split by user (tools/label.py)", RECONSTRUCTED
        why = "the post gives the rule; limits of followers and tags and the bonus per tag are our numbers"
    return [
        Row("data volume", gathered, volume, DIFFERENT, "the selfies were never published"),
        Row("label rule", halves, ours, mark, why),
    ]


def _net(run: Run) -> list[Row]:
    """List what learns, and what it starts from."""
    info, variant = run.info, run.variant
    if variant.readout:
        mark, net, size = (
            DIFFERENT,
            "linear heads learn, the net that they read stays",
            "those of the frozen net, as far as it is read",
        )
    elif variant.architecture == "vgg16":
        mark, net, size = (
            SAME,
            "VGG16 taken for 'VGGNet'",
            "140 million are the 1000-way net's 138; a two-way head leaves 134",
        )
    else:
        mark, net, size = DIFFERENT, "what a CPU can train", "a smaller net"
    if variant.dropout:
        dropout = ("with", DIFFERENT, "the ablation")
    else:
        dropout = ("none", SAME, "diff the prototxts of vgg16 and vgg16_dropout")
    start = (info["weights"] or {}).get("path", "random weights").rsplit("/", 1)[-1]
    return [
        Row("net", "VGGNet", variant.name, mark, net),
        Row("parameters", "about 140 million", f"{info['parameters']:,}", mark, size),
        Row("dropout", "disabled", *dropout),
        Row("initialisation", "ImageNet; faces no better", start, *_initial(info["weights"] or {})),
    ]


def _initial(recorded: dict) -> tuple[str, str]:
    """Judge what a run started from: by where the file stands, and by what it was compared with; not by the variant."""
    above, name = ("", "", *Path(recorded.get("path", "")).parent.parts)[-2:]
    if above != paths.WEIGHTS.name or name not in weights.PRODUCTS:
        return DIFFERENT, "not from weights that are known to be ImageNet's"
    if name == "vgg_face":
        return DIFFERENT, "from faces, not from ImageNet"
    if recorded.get("verified_by") in (weights.GIVEN, weights.UNVERIFIED):  # older runs do not say it
        return RECONSTRUCTED, "called ImageNet weights by who gave them: they are not the file that was published"
    if name == "vgg16_torchvision":
        return RECONSTRUCTED, "ImageNet weights, but torchvision's: another training of the same net"
    return SAME, "ImageNet weights"


def _training(run: Run) -> list[Row]:
    """List how it was trained, on what, and for how long."""
    info = run.info
    caffe = f"Caffe {info['versions'].get('caffe', '')}"
    hardware = "CPU" if info["gpu"] is None else f"GPU {info['gpu']}"
    epochs = info["iterations"] * train.selfies_per_step(run) / info["lmdb"]["train"]["count"]
    time = f"{info['started']} to {info['ended']}; {epochs:.1f} passes"
    solver = f"solver.prototxt of the run, seed {info['seed']}"
    return [
        Row("framework", "Caffe", caffe, SAME, "BVLC's last state, with patches for today's system"),
        Row("hardware", "one NVIDIA K40", hardware, DIFFERENT, "what is here"),
        Row("time", "overnight; each selfie several tens of times", time, DIFFERENT, sentence(arithmetic())),
        Row("hyperparameters", "not told", solver, RECONSTRUCTED, "each number is argued in solver/"),
    ]


def _result(run: Run) -> list[Row]:
    """List what it was tested on, and with which result."""
    ours = "the test split; the published tiles"
    apart = "other selfies and other labels: the two numbers cannot be set side by side"
    return [
        Row("test set", "50,000 held-out selfies", ours, DIFFERENT, "of the original only the figures exist"),
        Row("accuracy", "60 % on validation", _accuracy(run), DIFFERENT, apart),
    ]


def _accuracy(run: Run) -> str:
    """Say the run's accuracy on its test selfies, if it was evaluated."""
    file = run.folder / "test_evaluation.json"
    if not file.exists():
        return "not evaluated yet: make eval"
    evaluation = shapes.read(file, evaluate.SUMMARY, "evaluate it again")
    low, high = evaluation["accuracy_95"]
    selfies = f"{evaluation['selfies']:,} test selfies{clusters.of_users(evaluation)}"
    return f"{evaluation['accuracy']:.1%} ({low:.1%} to {high:.1%}) on {selfies}"
