"""A run held against the published figures: the only data of the original that exist.

All tiles are brought to one size and one JPEG history first (paper.reduce). The same selfie can stand in two figures:
such pairs are found by content and told. A tile is tested on only if the run was not trained on that selfie, be it
under another name. Beside our score stand two baselines on the same tiles: mean brightness, and a linear probe on
untouched ImageNet features (SqueezeNet's fire9), trained on best against worst without any selfie it is tested on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from selfie.common import parallel, paths, plots, stats
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.lmdb_reader import Database, id_of
from selfie.experiments import crops, grids
from selfie.net import caffe_net, variants, weights
from selfie.net.caffe_net import ScoringNet
from selfie.original import crop_pairs, figures
from selfie.runs import evaluate
from selfie.runs.run_folder import Run

GRIDS = ("best", "worst", "continuum", "posneg_good", "posneg_bad", "celebs")
MEASURES = ("score", "brightness", "probe")
PAPER_ACCURACY = 0.60
TSNE = (
    "The post shows its t-SNE map as a picture without coordinates, and of selfies that are not published one by "
    "one. What can be compared is what each map groups, by eye (tools/tsne_map.py makes ours); neighbours, "
    "distances and orientation cannot."
)


class Tiles:
    """The tiles of all figures that are here, and what is measured on them.

    figures   name -> tiles as cut;   missing   name -> why there are none, and how to get them
    SelfieError if no figure is here, or one is another file.
    """

    def __init__(self) -> None:
        self.figures: dict[str, list[figures.Tile]] = {}
        self.missing: dict[str, str] = {}
        for name in GRIDS:
            try:
                self.figures[name] = figures.tiles(name)
            except figures.Missing as error:
                self.missing[name] = str(error)
        if not self.figures:
            raise SelfieError(self.missing["continuum"])

    @cached_property
    def all(self) -> list[figures.Tile]:
        """Every tile as cut, figure after figure."""
        return [tile for tiles in self.figures.values() for tile in tiles]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Id of a tile -> its place in `all` and in every measurement."""
        return {tile.id: row for row, tile in enumerate(self.all)}

    @cached_property
    def reduced(self) -> list[np.ndarray]:
        """Pictures of `all`, size x size x 3, all of one size and history."""
        return [tile.bgr for tile in figures.reduce(self.all)]

    @cached_property
    def duplicates(self) -> list[tuple[str, str]]:
        """Pairs of ids that show the same selfie."""
        found = figures.near_duplicates([tile.bgr for tile in self.all])
        return [(self.all[first].id, self.all[second].id) for first, second in found]

    def of(self, *names: str) -> np.ndarray:
        """Places of the tiles of some figures."""
        return np.array([self.rows[tile.id] for name in names for tile in self.figures[name]])

    def fresh(self, seen: set[str], *names: str) -> np.ndarray:
        """Places of the tiles of some figures that show none of the selfies in `seen`."""
        known = self.showing(seen)
        return np.array([place for place in self.of(*names) if self.all[place].id not in known], int)

    def showing(self, ids: set[str]) -> set[str]:
        """`ids` and all tiles that show the same selfies."""
        return ids | {other for pair in self.duplicates for one, other in (pair, pair[::-1]) if one in ids}


def trained_on(run: Run, tiles: Tiles) -> set[str]:
    """Ids of the tiles that a run was trained or validated on (tools/cut_figures.py names them in databases)."""
    keys = []
    for split in ("train", "val"):
        with Database(run.database(split)) as records:
            keys += records.keys()
    return {id_of(key) for key in keys} & set(tiles.rows)


def scores(run: Run, pictures: Sequence[np.ndarray], gpu: int | None = None) -> np.ndarray:
    """The run's probability of *good* of each picture: N floats."""
    net = run.net(gpu)
    batches = parallel.batches(pictures, evaluate.BATCH)
    return np.concatenate([net.squared_scores(batch) for batch in batches]).astype(np.float64)


def brightness(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Mean gray value of each picture, in [0, 1]."""
    return np.array([bgr.mean() / 255 for bgr in pictures])


def features(pictures: Sequence[np.ndarray], gpu: int | None = None) -> np.ndarray:
    """N x 1024: mean and maximum of each channel of fire9 of SqueezeNet as it comes from ImageNet."""
    variant = variants.get("squeezenet")
    prototxt = paths.PROTOTXT / "squeezenet" / "imagenet.prototxt"
    net = ScoringNet(caffe_net.load(prototxt, weights.caffemodel("squeezenet"), gpu), variant.preprocessing, gpu)
    found = []
    for batch in parallel.batches(pictures, evaluate.BATCH):
        [maps] = net.forward(np.stack([image.square(bgr) for bgr in batch]), (variant.features,))
        maps = maps.reshape(*maps.shape[:2], -1)
        found.append(np.concatenate([maps.mean(2), maps.max(2)], 1))
    return np.concatenate(found)


def probe():
    """A logistic regression whose strength is chosen by 5-fold cross-validation of the log-loss."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return GridSearchCV(model, {"logisticregression__C": list(np.geomspace(1e-4, 1, 5))}, scoring="neg_log_loss", cv=5)


class Probe:
    """The linear probe over the tiles; None in place of values where best or worst is not here."""

    def __init__(self, tiles: Tiles, gpu: int | None = None) -> None:
        self.tiles = tiles
        self.possible = {"best", "worst"} <= set(tiles.figures)
        self.features = features(tiles.reduced, gpu) if self.possible else None

    def _labelled(self) -> tuple[np.ndarray, np.ndarray]:
        places = self.tiles.of("best", "worst")
        return places, np.array([int(self.tiles.all[place].figure == "best") for place in places])

    def on(self, wanted: np.ndarray) -> np.ndarray | None:
        """Log-odds of tiles of other figures, by a probe that was trained on none of these selfies."""
        if not self.possible:
            return None
        places, labels = self._labelled()
        shown = self.tiles.showing({self.tiles.all[place].id for place in wanted})
        free = np.array([self.tiles.all[place].id not in shown for place in places])
        return probe().fit(self.features[places[free]], labels[free]).decision_function(self.features[wanted])

    def across(self, wanted: np.ndarray) -> np.ndarray | None:
        """Log-odds of best and worst tiles, each by a probe of another four fifths of them."""
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        places, labels = self._labelled()
        folds = StratifiedKFold(5, shuffle=True, random_state=2015)
        values = cross_val_predict(probe(), self.features[places], labels, cv=folds, method="decision_function")
        return values[np.searchsorted(places, wanted)]  # both are in order


def baselines(some: Sequence[figures.Tile]) -> dict[str, np.ndarray]:
    """Brightness and probe of tiles of figures that the probe is not trained on."""
    tiles = Tiles()
    places = np.array([tiles.rows[tile.id] for tile in some])
    return {"brightness": brightness(tiles.reduced)[places], "probe": Probe(tiles).on(places)}


# --- the tests -------------------------------------------------------------------------------------------------------


def ordered(values: dict[str, np.ndarray], published: np.ndarray) -> dict:
    """Spearman of each measure with the published order (larger is better), and how much our score is above the
    others, with 95 % bootstrap intervals."""
    found = {name: stats.spearman_report(one, published) for name, one in values.items()}
    for name in list(found)[1:]:
        low, high = stats.bootstrap(
            lambda ours, other, order: stats.spearman(ours, order) - stats.spearman(other, order),
            values["score"],
            values[name],
            published,
        )
        found[f"score_minus_{name}"] = {
            "value": found["score"]["value"] - found[name]["value"],
            "low": low,
            "high": high,
        }
    return found


def separated(values: dict[str, np.ndarray], labels: np.ndarray) -> dict:
    """AUC of each measure, with 95 % bootstrap intervals."""
    return {name: stats.auc_report(one, labels) for name, one in values.items()}


def halved(values: dict[str, np.ndarray], labels: np.ndarray) -> dict:
    """Accuracy of calling what lies above the median good, with Wilson's 95 % interval."""
    found = {}
    for name, one in values.items():
        right = int(((one > np.median(one)) == labels).sum())
        low, high = stats.wilson(right, len(labels))
        found[name] = {"value": right / len(labels), "low": low, "high": high}
    return found


class Comparison:
    """All tests of one run on the tiles that are here."""

    def __init__(self, run: Run, gpu: int | None = None) -> None:
        self.run, self.gpu = run, gpu
        self.tiles = Tiles()
        self.seen = trained_on(run, self.tiles)
        self.score = scores(run, self.tiles.reduced, gpu)
        self.brightness = brightness(self.tiles.reduced)
        self.probe = Probe(self.tiles, gpu)

    def fresh(self, *names: str) -> np.ndarray:
        """Places of the tiles of some figures whose selfies the run was not trained on."""
        return self.tiles.fresh(self.seen, *names)

    def values(self, places: np.ndarray, probed: np.ndarray | None) -> dict[str, np.ndarray]:
        """Measure -> its values on some tiles."""
        found = {"score": self.score[places], "brightness": self.brightness[places], "probe": probed}
        return {name: one for name, one in found.items() if one is not None}

    def _counted(self, places: np.ndarray, *names: str) -> dict:
        return {"tiles": len(places), "left_out": len(self.tiles.of(*names)) - len(places)}

    def continuum(self) -> dict:
        """Spearman with the published row."""
        places = self.fresh("continuum")
        published = -np.array([self.tiles.all[place].row for place in places])
        return {
            **self._counted(places, "continuum"),
            "spearman": ordered(self.values(places, self.probe.on(places)), published),
        }

    def best_worst(self) -> dict:
        """AUC of best against worst."""
        places = self.fresh("best", "worst")
        labels = np.array([int(self.tiles.all[place].figure == "best") for place in places])
        if len(set(labels)) < 2:
            return {**self._counted(places, "best", "worst"), "why_not": "this run was trained on these tiles"}
        return {
            **self._counted(places, "best", "worst"),
            "auc": separated(self.values(places, self.probe.across(places)), labels),
        }

    def posneg(self) -> dict:
        """The post's examples of its own labels: accuracy at the median, and AUC."""
        places = self.fresh("posneg_good", "posneg_bad")
        labels = np.array([int(self.tiles.all[place].figure == "posneg_good") for place in places])
        values = self.values(places, self.probe.on(places))
        return {
            **self._counted(places, "posneg_good", "posneg_bad"),
            "paper": PAPER_ACCURACY,
            "accuracy": halved(values, labels),
            "auc": separated(values, labels),
        }

    def celebs(self) -> dict:
        """Spearman with the published order of celebrities."""
        places = self.fresh("celebs")
        columns = figures.FIGURES["celebs"].columns
        published = -np.array([self.tiles.all[place].row * columns + self.tiles.all[place].column for place in places])
        return {
            **self._counted(places, "celebs"),
            "spearman": ordered(self.values(places, self.probe.on(places)), published),
        }

    def crops(self, method: str = "dense") -> list[dict]:
        """Each published pair, see pairs.compare; one whose figure is not here says so."""
        searcher, found = crops.Searcher(self.run, self.gpu), []
        for pair in crop_pairs.PAIRS:
            try:
                found.append(crop_pairs.compare(searcher, pair, method))
            except figures.Missing as error:
                found.append({"figure": pair.figure, "why_not": str(error)})
        return found

    def result(self, method: str = "dense") -> dict:
        """Everything as one JSON object; a test whose figure is not here says how to get it."""
        tests = {
            "continuum": ("continuum",),
            "best_worst": ("best", "worst"),
            "posneg": ("posneg_good", "posneg_bad"),
            "celebs": ("celebs",),
        }
        found = {
            "run": str(self.run.folder),
            "trained_on_tiles": len(self.seen),
            "tile_size": figures.SIZE,
            "duplicates": self.tiles.duplicates,
        }
        for test, names in tests.items():
            lacking = [self.tiles.missing[name] for name in names if name in self.tiles.missing]
            found[test] = {"why_not": lacking[0]} if lacking else getattr(self, test)()
        found["crops"] = self.crops(method)
        if done := [one for one in found["crops"] if "iou" in one]:
            found["crops_mean"] = {
                key: float(np.mean([one[key] for one in done]))
                for key in ("iou", "iou_of_random_crops", "their_gain", "our_gain")
            } | {"pairs": len(done)}
        return {**found, "tsne": TSNE}

    # --- pictures ----------------------------------------------------------------------------------------------------

    def picture(self, columns: int = 12) -> np.ndarray:
        """The continuum's tiles in the published order on the left, in our net's on the right, best on top."""
        places = self.fresh("continuum")

        def drawn(order: np.ndarray) -> np.ndarray:
            return grids.grid([self.tiles.reduced[place] for place in order], columns, cell=48)

        left, right = drawn(places), drawn(places[np.argsort(-self.score[places], kind="stable")])
        return np.concatenate([left, np.full((len(left), 24, 3), 255, np.uint8), right], 1)

    def draw_rows(self, path: Path) -> None:
        """Mean rank of each measure over the tiles of each published row, with its standard error."""
        places = self.fresh("continuum")
        rows = np.array([self.tiles.all[place].row for place in places])
        values = self.values(places, self.probe.on(places))
        colours = dict(zip(MEASURES, (plots.GOOD, "gray", plots.BAD)))
        with plots.figure(path) as axis:
            for name, one in values.items():
                ranks = stats.percentiles(one, one)
                shown = [row for row in sorted(set(rows)) if (rows == row).sum() > 1]  # one tile has no error
                means = [ranks[rows == row].mean() for row in shown]
                errors = [ranks[rows == row].std(ddof=1) / np.sqrt((rows == row).sum()) for row in shown]
                axis.errorbar(
                    shown, means, errors, color=colours[name], label=name, capsize=2, marker="o", markersize=3
                )
            axis.set_xticks(range(0, figures.FIGURES["continuum"].rows, 2))
            axis.set_xlabel("published row, 0 is the best")
            axis.set_ylabel("mean rank, 100 is the best")
            axis.legend()
