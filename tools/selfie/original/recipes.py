"""The recipes of the reach experiment: which layers learn, at which rate, how long, and how the tiles are varied."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from selfie.original import reduction

COPIES = 4  # of each training tile in the database, where a recipe varies them


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    variant      the layers that learn (prototxt/<variant>)
    base_lr, iterations   of the solver; 32 tiles per iteration
    size         to which all tiles are reduced, in pixels, see reduction.reduce
    crops        the database holds COPIES random crops of each tile, of 70 to 100 % of its side
    light        the database holds COPIES of each tile with random brightness, 60 to 140 %, so that it says less
    Mirroring and small shifts (227 of 256 pixels) are Caffe's own and part of every recipe.
    """

    name: str
    variant: str
    base_lr: float = 1e-4
    iterations: int = 60
    size: int = reduction.SIZE
    crops: bool = False
    light: bool = False

    @property
    def varied(self) -> bool:
        """Tell whether the database holds varied copies of each tile."""
        return self.crops or self.light

    @property
    def tiles(self) -> str:
        """Return the name of the databases, which recipes with the same tiles share."""
        return f"{self.size}{'-crops' if self.crops else ''}{'-light' if self.light else ''}"

    @property
    def about(self) -> str:
        """Describe the recipe in a line."""
        learning = {"head": "head", "top": "fire6 on"}.get(self.variant.rsplit("_", 1)[1], "all layers")
        varied = [name for name, used in (("crops", self.crops), ("light", self.light)) if used]
        return f"{learning}, lr {self.base_lr:g}, {self.iterations} iterations, {self.size} px" + (
            f", varied: {' and '.join(varied)}" if varied else ""
        )


HEAD, TOP, ALL = "squeezenet_half_head", "squeezenet_half_top", "squeezenet_half"
RECIPES = (  # most constrained first, see the rule in reach
    Recipe("head_slower", HEAD, base_lr=3e-6, iterations=180),
    Recipe("head_slow", HEAD, base_lr=1e-5, iterations=180),
    Recipe("head_slow_light", HEAD, base_lr=1e-5, iterations=180, light=True),
    Recipe("head", HEAD),
    Recipe("head_long", HEAD, iterations=180),
    Recipe("head_light", HEAD, iterations=180, light=True),
    Recipe("head_crops", HEAD, iterations=180, crops=True),
    Recipe("top_slow", TOP, base_lr=1e-5),
    Recipe("top_short", TOP, iterations=30),
    Recipe("top", TOP),
    Recipe("all_slow", ALL, base_lr=1e-5),
)


def vary(bgr: np.ndarray, recipe: Recipe, seed: str) -> np.ndarray:
    """Crop and light a square tile (uint8 BGR) at random, as the recipe says; the same for the same seed."""
    generator = np.random.default_rng(list(seed.encode()))
    side, (scale, x, y, light) = len(bgr), generator.random(4)
    if recipe.crops:
        scale = 0.7 + 0.3 * scale
        window = np.array([[scale, 0, x * (1 - scale) * side], [0, scale, y * (1 - scale) * side]], np.float32)
        bgr = cv2.warpAffine(
            bgr, window, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
    if recipe.light:
        bgr = np.clip(bgr * (0.6 + 0.8 * light), 0, 255).astype(np.uint8)
    return bgr
