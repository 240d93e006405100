"""Baselines beside a net's score: mean brightness, and a linear probe on untouched ImageNet features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from selfie.common import parallel, paths
from selfie.data import image
from selfie.net import caffe_net, variants, weights
from selfie.net.caffe_net import ScoringNet
from selfie.original.figures import Tile
from selfie.original.tiles import Tiles
from selfie.runs import evaluate

if TYPE_CHECKING:
    from sklearn.model_selection import GridSearchCV


def brightness(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Average each picture's pixels: N floats in [0, 1]."""
    return np.array([bgr.mean() / 255 for bgr in pictures])


def features(pictures: Sequence[np.ndarray], gpu: int | None = None) -> np.ndarray:
    """Compute N x 1024 features: mean and maximum of each channel of fire9 of SqueezeNet as it comes from ImageNet."""
    variant = variants.get("squeezenet")
    prototxt = paths.PROTOTXT / "squeezenet" / "imagenet.prototxt"
    net = ScoringNet(caffe_net.load(prototxt, weights.caffemodel("squeezenet"), gpu), variant.preprocessing, gpu)
    pooled = []
    for batch in parallel.batches(pictures, evaluate.BATCH):
        [maps] = net.forward(np.stack([image.square(bgr) for bgr in batch]), (variant.features,))
        maps = maps.reshape(*maps.shape[:2], -1)
        pooled.append(np.concatenate([maps.mean(2), maps.max(2)], 1))
    return np.concatenate(pooled)


def classifier() -> GridSearchCV:
    """Make a logistic regression whose strength is chosen by 5-fold cross-validation of the log-loss."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return GridSearchCV(model, {"logisticregression__C": list(np.geomspace(1e-4, 1, 5))}, scoring="neg_log_loss", cv=5)


class Probe:
    """A linear probe: a classifier of best against worst tiles, trained without any selfie that it is tested on.

    Where best or worst is not here, there is no probe: its values are None.
    """

    def __init__(self, tiles: Tiles, gpu: int | None = None) -> None:
        self.tiles = tiles
        possible = {"best", "worst"} <= set(tiles.figures)
        self.features = features(tiles.reduced, gpu) if possible else None

    def on(self, places: np.ndarray) -> np.ndarray | None:
        """Return the log-odds of tiles of other figures, by a probe that was trained on none of these selfies."""
        if self.features is None:
            return None
        known, labels = self._labelled()
        shown = self.tiles.showing({tile.id for tile in self.tiles.at(places)})
        free = np.array([tile.id not in shown for tile in self.tiles.at(known)])
        fitted = classifier().fit(self.features[known[free]], labels[free])
        return fitted.decision_function(self.features[places])

    def across(self, places: np.ndarray) -> np.ndarray | None:
        """Return the log-odds of best and worst tiles, each by a probe of another four fifths of them."""
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        if self.features is None:
            return None
        known, labels = self._labelled()
        folds = StratifiedKFold(5, shuffle=True, random_state=2015)
        values = cross_val_predict(classifier(), self.features[known], labels, cv=folds, method="decision_function")
        return values[np.searchsorted(known, places)]  # both are in order

    def _labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of all best and worst tiles, and their labels: 1 for best."""
        places = self.tiles.of("best", "worst")
        return places, np.array([int(tile.figure == "best") for tile in self.tiles.at(places)])


def of_tiles(chosen: Sequence[Tile]) -> dict[str, np.ndarray]:
    """Compute both baselines of tiles of figures that the probe is not trained on: brightness, probe -> N floats.

    The probe is missing where best or worst is not here.
    """
    tiles = Tiles()
    places = np.array([tiles.rows[tile.id] for tile in chosen])
    probed = Probe(tiles).on(places)
    return {"brightness": brightness(tiles.reduced)[places], **({} if probed is None else {"probe": probed})}
