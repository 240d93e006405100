"""The recipes of the reach experiment: what heads read of a frozen net, and how strongly they are regularised."""

from __future__ import annotations

from dataclasses import dataclass, replace

from selfie.common.errors import SelfieError
from selfie.net import variants
from selfie.net.variants import Readout, Variant
from selfie.runs.readings import CORNERS, VIEWS

TILE = 8  # pixels of the net's input that are one pixel of a tile, reduced to 32 and enlarged to 256
MIRROR = ("centre", "mirror")
CROPS = tuple(name for name in VIEWS if name in MIRROR or name.removesuffix("_mirror") in CORNERS)
LIGHT = (*MIRROR, *(name for name in VIEWS if name.startswith("light")))
BOTH = ("AVE", "MAX")


@dataclass(frozen=True)
class Recipe:
    """A way to train heads on the features that a net has from ImageNet.

    variant        the net, one of those whose heads alone learn
    weight_decay   of the solver: the regularisation
    blobs, pools, views   see variants.Readout; the same views of every training tile are learned from
    shrink, smooth   of the net, see variants.Variant: TILE is what one pixel of a tile covers
    """

    name: str
    variant: str
    weight_decay: float
    blobs: tuple[str, ...]
    pools: tuple[str, ...] = BOTH
    views: tuple[str, ...] = MIRROR
    shrink: int = 1
    smooth: int = 0

    def net(self) -> Variant:
        """Return the recipe's variant."""
        base = variants.get(self.variant)
        assert base.readout is not None
        readout = replace(base.readout, blobs=self.blobs, pools=self.pools, views=self.views)
        return replace(base, shrink=self.shrink, smooth=self.smooth, readout=readout)

    @property
    def readings(self) -> str:
        """Return the name of what the frozen net makes of the tiles, which recipes share."""
        return f"{self.variant}-{self.shrink}-{self.smooth}"

    @property
    def about(self) -> str:
        """Describe the recipe in a line."""
        how = " and ".join({"AVE": "mean", "MAX": "maximum"}[pool] for pool in self.pools)
        blobs = " and ".join(blob.partition("/")[0] for blob in self.blobs)
        input_ = f"1/{self.shrink} of the resolution" if self.shrink > 1 else "the whole resolution"
        seen = f"{input_}, smoothed over {self.smooth} pixels" if self.smooth else input_
        named = {MIRROR: "", CROPS: ", ten crops", LIGHT: ", four lights"}
        views = named.get(self.views, f", {len(self.views)} views")
        return f"{how + ' of ' if how else ''}{blobs}{views}; {seen}; weight decay {self.weight_decay:g}"


def _squeezenet(name: str, decay: float, blobs: tuple[str, ...], **more: object) -> Recipe:
    fields: dict = {"shrink": 2, "smooth": TILE, **more}
    return Recipe(f"{name}_{decay:g}", "squeezenet_frozen", decay, blobs, **fields)


def _vgg16(variant: str) -> tuple[Recipe, ...]:
    return tuple(
        Recipe(f"{name}_{decay:g}", variant, decay, blobs, pools, smooth=TILE if smooth else 0)
        for decay in DECAYS
        for name, blobs, pools, smooth in (
            ("pool5", ("pool5",), BOTH, True),
            ("pool5_sharp", ("pool5",), BOTH, False),
            ("fc7_sharp", ("fc7",), (), False),
        )
    )


LATE, EARLY = ("fire9/concat",), ("pool8",)
DECAYS = (10, 3, 1, 0.3)
RECIPES = {  # the most constrained first, see the rule in reach: decay, then what the net sees, then what is read of it
    "squeezenet": (
        *(
            _squeezenet(name, decay, blobs)
            for decay in DECAYS[:2]
            for name, blobs in (("late", LATE), ("early", EARLY), ("both", EARLY + LATE))
        ),
        _squeezenet("late", 1, LATE),
        _squeezenet("early", 1, EARLY),
        _squeezenet("both_mean", 1, EARLY + LATE, pools=("AVE",)),
        _squeezenet("both_max", 1, EARLY + LATE, pools=("MAX",)),
        _squeezenet("both", 1, EARLY + LATE),
        _squeezenet("both_crops", 1, EARLY + LATE, views=CROPS),
        _squeezenet("both_light", 1, EARLY + LATE, views=LIGHT),
        _squeezenet("sharp", 1, EARLY + LATE, smooth=0),
        _squeezenet("large", 1, EARLY + LATE, shrink=1),
        _squeezenet("large_sharp", 1, EARLY + LATE, shrink=1, smooth=0),
        *(_squeezenet(name, 0.3, blobs) for name, blobs in (("late", LATE), ("early", EARLY), ("both", EARLY + LATE))),
    ),
    "vgg16": _vgg16("vgg16_frozen"),
    "vgg16_torchvision": _vgg16("vgg16_torchvision_frozen"),
}


def of(net: str) -> tuple[Recipe, ...]:
    """Return the recipes of a net, the most constrained first; SelfieError lists the nets that have some."""
    if net not in RECIPES:
        raise SelfieError(f"there are no recipes for '{net}': choose one of {', '.join(RECIPES)}")
    return RECIPES[net]


def widest(recipes: tuple[Recipe, ...], name: str) -> Readout:
    """Return the readout that holds those of all recipes that share readings."""
    shared = [recipe for recipe in recipes if recipe.readings == name]

    def union(field: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item for recipe in shared for item in getattr(recipe, field)))

    return Readout(union("blobs"), union("pools"), views=union("views"))
