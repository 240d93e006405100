"""The one table of net variants, read by the prototxt generator, by training and by the download of weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from selfie.common.errors import SelfieError
from selfie.data.image import Preprocessing

IMAGENET_MEAN = (103.939, 116.779, 123.68)  # of the VGG16 release
FACE_MEAN = (93.5940, 104.7624, 129.1863)  # of the VGG-Face release
TORCHVISION_MEAN = (103.53, 116.28, 123.675)  # 255 times the mean of torchvision's normalisation
SQUEEZENET_MEAN = (104.0, 117.0, 123.0)
MEANS = {  # that pretrained weights (keys of selfie.net.weights.PRETRAINED) were trained with
    "vgg16": IMAGENET_MEAN,
    "vgg16_notop": IMAGENET_MEAN,
    "vgg16_torchvision": TORCHVISION_MEAN,
    "vgg_face": FACE_MEAN,
    "squeezenet": SQUEEZENET_MEAN,
}
IMAGENET = Preprocessing(IMAGENET_MEAN, 224)
FULLY_CONNECTED = ("fc6", "fc7")  # blobs without an extent in space
READOUT_LAYERS = ("standardised", "members", "ensemble", "bounded")  # those with weights, see architectures._readout


@dataclass(frozen=True)
class Readout:
    """What linear heads read of a frozen net, and how many of them there are (see selfie.runs.heads).

    blobs    of the net, whose numbers are read
    pools    how each that has an extent in space is pooled over its map: AVE or MAX or both
    folds    into how many parts the selfies are cut, by user: each head learns without one of them
    seeds    how many times they are cut: there is a head for each fold of each
    views    the ways in which each training selfie is shown, of selfie.runs.readings.VIEWS
    """

    blobs: tuple[str, ...]
    pools: tuple[str, ...] = ("AVE", "MAX")
    folds: int = 5
    seeds: int = 3
    views: tuple[str, ...] = ("centre", "mirror")

    @property
    def parts(self) -> list[tuple[str, str]]:
        """List (blob, pool) in the order in which its features are joined; pool is "" for a fully connected layer."""
        return [(blob, pool) for blob in self.blobs for pool in (("",) if blob in FULLY_CONNECTED else self.pools)]

    @property
    def members(self) -> int:
        """Return the number of heads."""
        return self.folds * self.seeds


@dataclass(frozen=True)
class Variant:
    """One net and how it is fed.

    architecture  builder in selfie.net.architectures
    preprocessing how pictures become its input
    batch         training images per iteration (the solver's iter_size multiplies it)
    test_batch    validation images per forward pass
    head          the only layer that is not pretrained; renamed, so that Caffe does not try to copy the old one
    features      blob that describes an image: what the post calls fc7
    weights       key into selfie.net.weights.PRETRAINED, "" where training starts from another run or from scratch
    deploy        variant whose deploy prototxt scores this one's caffemodel
    shrink        the net first averages shrink x shrink pixels: what follows runs on a picture of crop / shrink
    smooth        it averages as many pixels, more than `shrink`: what is finer is dimmed (0: as `shrink` says)
    readout       only linear heads on features of a frozen net learn (None: the net itself does)
    learns_from   first layer that learns; those before it keep their pretrained weights ("": all learn)
    files         what stands in prototxt/<name>/
    """

    name: str
    architecture: str
    preprocessing: Preprocessing = IMAGENET
    batch: int = 32
    test_batch: int = 16
    head: str = "fc8_selfie"
    features: str = "fc7"
    classes: int = 2
    dropout: bool = False
    shrink: int = 1
    smooth: int = 0
    readout: Readout | None = None
    learns_from: str = ""
    weights: str = ""
    deploy: str = ""
    data: str = "data/lmdb"
    about: str = ""
    files: tuple[str, ...] = ("train_val", "deploy", "deploy_conv")

    @property
    def mean(self) -> tuple[float, float, float]:
        """Return the mean of its preprocessing."""
        return self.preprocessing.mean

    @property
    def crop(self) -> int:
        """Return the crop of its preprocessing."""
        return self.preprocessing.crop

    @property
    def fresh(self) -> tuple[str, ...]:
        """Return the layers that are not pretrained."""
        return READOUT_LAYERS if self.readout else (self.head,)


SQUEEZENET = Variant(
    "squeezenet",
    "squeezenet",
    preprocessing=Preprocessing(SQUEEZENET_MEAN, 227),
    batch=32,
    head="conv10_selfie",
    features="fire9/concat",
    weights="squeezenet",
    deploy="squeezenet",
    files=("train_val", "deploy", "deploy_conv", "imagenet"),
    about="Small: SqueezeNet v1.0, to be initialised from ImageNet; a CPU can train it.",
)
HALF = replace(
    SQUEEZENET,
    name="squeezenet_half",
    shrink=2,
    deploy="squeezenet_half",
    files=("train_val", "deploy", "deploy_conv"),
    about="squeezenet at half the resolution and a quarter of the cost: for the post's small tiles.",
)
VGG16_FROZEN = Variant(
    "vgg16_frozen",
    "vgg16",
    smooth=8,
    features="standardised",
    readout=Readout(("pool5",)),
    weights="vgg16",
    data="runs/vgg16_frozen/heads",
    batch=1024,
    test_batch=1024,
    deploy="vgg16_frozen",
    about="VGG16 as ImageNet left it, read by an ensemble of linear heads.",
)

DEMO = Variant(
    "demo",
    "demo",
    batch=32,
    test_batch=50,
    shrink=4,
    weights="demo",
    deploy="demo",
    about="A VGG in miniature for `make demo` and the tests: seconds on a CPU.",
)

VARIANTS = {
    variant.name: variant
    for variant in [
        Variant(
            "vgg16",
            "vgg16",
            weights="vgg16",
            deploy="vgg16",
            about="The post's net: VGG16, to be initialised from ImageNet, dropout removed.",
        ),
        Variant(
            "vgg16_dropout",
            "vgg16",
            weights="vgg16",
            deploy="vgg16",
            dropout=True,
            files=("train_val",),
            about="Ablation: vgg16 with its two dropout layers, and no other difference.",
        ),
        Variant(
            "vgg_face",
            "vgg16",
            preprocessing=Preprocessing(FACE_MEAN, 224),
            weights="vgg_face",
            deploy="vgg16",
            files=("train_val",),
            about="Ablation: vgg16 to be initialised from VGG-Face, with the mean of that release.",
        ),
        Variant(
            "vgg16_torchvision",
            "vgg16",
            preprocessing=Preprocessing(TORCHVISION_MEAN, 224),
            weights="vgg16_torchvision",
            deploy="vgg16",
            files=("train_val",),
            about="vgg16 to be initialised from torchvision's ImageNet weights, with the mean of these.",
        ),
        SQUEEZENET,
        replace(
            SQUEEZENET,
            name="squeezenet_dropout",
            dropout=True,
            files=("train_val",),
            about="Ablation: squeezenet with the dropout of its release before the head, and no other difference.",
        ),
        HALF,
        replace(
            HALF,
            name="squeezenet_half_top",
            learns_from="fire6",
            files=("train_val",),
            about="squeezenet_half of which only fire6 to fire9 and the head learn.",
        ),
        replace(
            HALF,
            name="squeezenet_half_head",
            learns_from="conv10",
            files=("train_val",),
            about="squeezenet_half of which only the head learns: a linear classifier on ImageNet features.",
        ),
        replace(
            HALF,
            name="squeezenet_frozen",
            smooth=8,
            features="standardised",
            readout=Readout(("pool8",)),
            data="runs/squeezenet_frozen/heads",
            batch=1024,
            test_batch=1024,
            deploy="squeezenet_frozen",
            about="SqueezeNet as ImageNet left it, read by an ensemble of linear heads: for a few hundred selfies.",
        ),
        VGG16_FROZEN,
        replace(
            VGG16_FROZEN,
            name="vgg16_torchvision_frozen",
            preprocessing=Preprocessing(TORCHVISION_MEAN, 224),
            weights="vgg16_torchvision",
            data="runs/vgg16_torchvision_frozen/heads",
            files=("train_val",),
            about="vgg16_frozen with torchvision's ImageNet weights, and the mean of these.",
        ),
        DEMO,
        replace(
            DEMO,
            name="demo_dropout",
            dropout=True,
            files=("train_val",),
            about="Ablation: demo with dropout after fc6 and fc7, and no other difference.",
        ),
        replace(
            DEMO,
            name="demo_pretrain",
            head="fc8",
            classes=21,
            weights="",
            deploy="",
            data="data/demo/pretraining-lmdb",
            files=("train_val",),
            about="The demo net's pretraining: which of 21 pictures is this a crop of?",
        ),
    ]
}


def get(name: str) -> Variant:
    """Return the variant called `name`; SelfieError lists the known ones."""
    if name not in VARIANTS:
        raise SelfieError(f"unknown variant '{name}': choose one of {', '.join(VARIANTS)}")
    return VARIANTS[name]
