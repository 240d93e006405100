"""The tiles of all published grids that are here, as one test set: which show the same selfie, which a run has seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from selfie.common.errors import SelfieError
from selfie.original import figures
from selfie.original.duplicates import near_duplicates
from selfie.original.figures import Tile
from selfie.original.reduction import reduce

GRIDS = ("best", "worst", "continuum", "posneg_good", "posneg_bad", "celebs")


class Tiles:
    """The tiles of the grids that are here, in one order: a tile's place in `all` is its row in every measurement.

    figures   name -> tiles as cut
    missing   name -> why there are none, and how to get them
    SelfieError if no figure is here, or one is another file.
    """

    def __init__(self) -> None:
        self.figures: dict[str, list[Tile]] = {}
        self.missing: dict[str, str] = {}
        for name in GRIDS:
            try:
                self.figures[name] = figures.tiles(name)
            except figures.Missing as error:
                self.missing[name] = str(error)
        if not self.figures:
            raise SelfieError(self.missing["continuum"])

    @cached_property
    def all(self) -> list[Tile]:
        """Every tile as cut, figure after figure."""
        return [tile for tiles in self.figures.values() for tile in tiles]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Id of a tile -> its place in `all`."""
        return {tile.id: place for place, tile in enumerate(self.all)}

    @cached_property
    def reduced(self) -> list[np.ndarray]:
        """The pictures of `all`, size x size x 3 uint8 BGR, resized and re-encoded identically."""
        return [tile.bgr for tile in reduce(self.all)]

    @cached_property
    def duplicates(self) -> list[tuple[str, str]]:
        """Pairs of ids that show the same selfie."""
        pairs = near_duplicates([tile.bgr for tile in self.all])
        return [(self.all[first].id, self.all[second].id) for first, second in pairs]

    def at(self, places: np.ndarray) -> Sequence[Tile]:
        """Return the tiles at some places."""
        return [self.all[place] for place in places]

    def of(self, *names: str) -> np.ndarray:
        """Return the places of all tiles of some figures."""
        return np.array([self.rows[tile.id] for name in names for tile in self.figures[name]])

    def fresh(self, seen: set[str], *names: str) -> np.ndarray:
        """Return the places of the tiles of some figures that show none of the selfies in `seen` (ids)."""
        known = self.showing(seen)
        return np.array([place for place in self.of(*names) if self.all[place].id not in known], int)

    def showing(self, ids: set[str]) -> set[str]:
        """Return `ids` and the ids of all tiles that show the same selfies."""
        return ids | {other for pair in self.duplicates for one, other in (pair, pair[::-1]) if one in ids}
