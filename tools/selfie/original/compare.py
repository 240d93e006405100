"""A run compared with the published figures: the only data of the original that exist.

All tiles are resized and re-encoded identically first (see `reduction`). The same selfie can stand in two figures: such
pairs are recognised by content and listed. A tile is tested on only if the run was not trained on that selfie, be it
under another name. Beside our score stand two baselines on the same tiles: mean brightness, and a linear probe on
untouched ImageNet features (SqueezeNet's fire9), trained on best against worst without any selfie it is tested on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from selfie.common import parallel, paths, plots, stats
from selfie.data import image
from selfie.data.lmdb_reader import Database, id_of
from selfie.experiments import crops, grids
from selfie.original import crop_pairs, figures, page, protocol, reduction
from selfie.original.agreement import halved, ordered, separated
from selfie.original.baselines import Probe, brightness
from selfie.original.tiles import Tiles
from selfie.runs import evaluate
from selfie.runs.run_folder import Run

MEASURES = ("score", "brightness", "probe")
POST_ACCURACY = 0.60
TSNE = (
    "The post shows its t-SNE map as a picture without coordinates, and of selfies that are not published one by "
    "one. What can be compared is what each map groups, by eye (tools/tsne_map.py makes ours); neighbours, "
    "distances and orientation cannot."
)
TESTS = {  # test -> the figures it needs
    "continuum": ("continuum",),
    "best_worst": ("best", "worst"),
    "posneg": ("posneg_good", "posneg_bad"),
    "celebs": ("celebs",),
}
TILE_ID = re.compile(r"[a-z_]+_\d\d_\d\d")  # at the start of a record's id: reach of version 0.2 varied copies


def trained_on(run: Run, tiles: Tiles) -> set[str]:
    """List the ids of the tiles that a run was trained or validated on, as tools/cut_figures.py names them.

    SelfieError if its databases are gone, or were rebuilt since from other labels: they could not tell any more.
    """
    keys: list[str] = []
    for split in ("train", "val"):
        with Database(run.database(split)) as records:
            keys += records.keys()
    named = (TILE_ID.match(id_of(key)) for key in keys)
    return {match[0] for match in named if match} & set(tiles.rows)


def scores(run: Run, pictures: Sequence[np.ndarray], gpu: int | None = None) -> np.ndarray:
    """Compute the run's probability of *good* of each picture: N floats in [0, 1]."""
    net, found = run.net(gpu), []
    with tqdm(total=len(pictures), unit="tile", desc="scoring", disable=None) as bar:
        for batch in parallel.batches(pictures, evaluate.BATCH):
            found.append(net.squared_scores(batch))
            bar.update(len(batch))
    return np.concatenate(found).astype(np.float64)


class Comparison:
    """All tests of one run on the tiles that are here. SelfieError without any, or where the run cannot be scored."""

    def __init__(self, run: Run, gpu: int | None = None) -> None:
        self.run, self.gpu = run, gpu
        self.tiles = Tiles()
        self.seen = trained_on(run, self.tiles)
        self.score = scores(run, self.tiles.reduced, gpu)
        self.brightness = brightness(self.tiles.reduced)
        self.probe = Probe(self.tiles, gpu)

    def fresh(self, *names: str) -> np.ndarray:
        """Return the places of the tiles of some figures whose selfies the run was not trained on."""
        return self.tiles.fresh(self.seen, *names)

    def values(self, places: np.ndarray, probed: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return each measure's values at some places; `probed`: the probe's, None without one."""
        measured = {"score": self.score[places], "brightness": self.brightness[places]}
        return measured if probed is None else {**measured, "probe": probed}

    # --- the tests ---------------------------------------------------------------------------------------------------

    def continuum(self) -> dict:
        """Correlate with the published row."""
        places = self.fresh("continuum")
        return {
            **self._counts(places, "continuum"),
            "spearman": ordered(self.values(places, self.probe.on(places)), -self._published_rows(places)),
        }

    def best_worst(self) -> dict:
        """Separate the best from the worst."""
        places = self.fresh("best", "worst")
        labels = self._labels(places, "best")
        if len(set(labels)) < 2:
            return {**self._counts(places, "best", "worst"), "why_not": "this run was trained on these tiles"}
        return {
            **self._counts(places, "best", "worst"),
            "auc": separated(self.values(places, self.probe.across(places)), labels),
        }

    def posneg(self) -> dict:
        """Tell the post's examples of its own labels apart: accuracy at the median, and AUC."""
        places = self.fresh("posneg_good", "posneg_bad")
        labels = self._labels(places, "posneg_good")
        values = self.values(places, self.probe.on(places))
        return {
            **self._counts(places, "posneg_good", "posneg_bad"),
            "paper": POST_ACCURACY,
            "majority_class": float(max(labels.mean(), 1 - labels.mean())),
            "accuracy": halved(values, labels),
            "auc": separated(values, labels),
        }

    def celebs(self) -> dict:
        """Correlate with the published order of celebrities."""
        places = self.fresh("celebs")
        columns = figures.FIGURES["celebs"].columns
        published = -np.array([tile.row * columns + tile.column for tile in self.tiles.at(places)])
        return {
            **self._counts(places, "celebs"),
            "spearman": ordered(self.values(places, self.probe.on(places)), published),
        }

    def crops(self, method: str = "dense") -> list[dict]:
        """Compare each published pair, see crop_pairs.compare; one whose figure is not here says how to get it."""
        searcher, compared = crops.Searcher(self.run, self.gpu), []
        for pair in tqdm(crop_pairs.PAIRS, unit="pair", desc="crops", disable=None):
            try:
                compared.append(crop_pairs.compare(searcher, pair, method))
            except figures.Missing as error:
                compared.append({"figure": pair.figure, "why_not": str(error)})
        return compared

    def result(self, method: str = "dense") -> dict:
        """Run all tests: one JSON object; a test whose figure is not here says how to get it.

        method   how our best crops are searched, one of crops.METHODS
        """
        report: dict = {
            "run": str(self.run.folder),
            "trained_on_tiles": len(self.seen),
            "users_known": False,  # each tile counts as its own user
            "tile_size": reduction.SIZE,
            "duplicates": self.tiles.duplicates,
        }
        for test, names in TESTS.items():
            lacking = [self.tiles.missing[name] for name in names if name in self.tiles.missing]
            report[test] = {"why_not": lacking[0]} if lacking else getattr(self, test)()
        report["crops"] = self.crops(method)
        if done := [pair for pair in report["crops"] if "iou" in pair]:
            report["crops_mean"] = crop_pairs.means(done)
        report["tsne"] = TSNE
        report["protocol"] = [asdict(row) for row in protocol.table(self.run, len(self.seen))]
        report["arithmetic"] = protocol.arithmetic()
        return report

    def _counts(self, places: np.ndarray, *names: str) -> dict[str, int]:
        """Count the tiles at these places, and those of the figures that are left out."""
        return {"tiles": len(places), "left_out": len(self.tiles.of(*names)) - len(places)}

    def _labels(self, places: np.ndarray, good: str) -> np.ndarray:
        """Label the tiles at these places: 1 where they are of the figure `good`."""
        return np.array([int(tile.figure == good) for tile in self.tiles.at(places)])

    def _published_rows(self, places: np.ndarray) -> np.ndarray:
        """Return the published rows of the tiles at these places; 0 is the best."""
        return np.array([tile.row for tile in self.tiles.at(places)])

    # --- pictures ----------------------------------------------------------------------------------------------------

    def picture(self, columns: int = 12) -> np.ndarray:
        """Draw the continuum's tiles in the published order on the left, in our net's on the right, best on top."""
        places = self.fresh("continuum")

        def drawn(order: np.ndarray) -> np.ndarray:
            return grids.grid([self.tiles.reduced[place] for place in order], columns, cell=48)

        left, right = drawn(places), drawn(places[np.argsort(-self.score[places], kind="stable")])
        return np.concatenate([left, np.full((len(left), 24, 3), 255, np.uint8), right], 1)

    def draw_rows(self, path: Path) -> None:
        """Plot the mean rank of each measure over the tiles of each published row, with its standard error."""
        places = self.fresh("continuum")
        rows = self._published_rows(places)
        shown = [row for row in sorted(set(rows)) if (rows == row).sum() > 1]  # one tile has no error
        colours = dict(zip(MEASURES, (plots.GOOD, "gray", plots.BAD)))
        with plots.figure(path) as axis:
            for name, measure in self.values(places, self.probe.on(places)).items():
                ranks = stats.percentiles(measure, measure)
                means = [ranks[rows == row].mean() for row in shown]
                errors = [ranks[rows == row].std(ddof=1) / np.sqrt((rows == row).sum()) for row in shown]
                axis.errorbar(
                    shown, means, errors, color=colours[name], label=name, capsize=2, marker="o", markersize=3
                )
            axis.set_xticks(range(0, figures.FIGURES["continuum"].rows, 2))
            axis.set_xlabel("published row, 0 is the best")
            axis.set_ylabel("mean rank, 100 is the best")
            axis.legend()

    # --- what stays --------------------------------------------------------------------------------------------------

    def write(self, result: dict) -> Path:
        """Write `result` into the run folder as compare.json and compare.html, with pictures; returns the page."""
        folder, pictures = self.run.folder, {}
        if "why_not" not in result["continuum"]:
            image.write(folder / "compare.jpg", self.picture())
            self.draw_rows(folder / "compare_rows.png")
            pictures = {
                "The published continuum: their order on the left, ours on the right, best on top.": "compare.jpg",
                "Mean rank of the tiles of each published row.": "compare_rows.png",
            }
        paths.write_json(folder / "compare.json", result)
        return page.write(self.run, result, pictures)
