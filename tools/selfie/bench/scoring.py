"""Groups `scoring` and `crops`: a run's net in this process, on whole pictures and on many windows of one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

import numpy as np

from selfie.bench.record import Row, in_turns, median_ratio
from selfie.bench.workload import Setting, make_run, photograph
from selfie.common import parallel
from selfie.experiments import crop_space
from selfie.experiments.crops import Result, Searcher
from selfie.runs import score
from selfie.runs.run_folder import Run

ROUNDS = 2
QUICK = {"squeezenet": 200, "vgg16": 32}  # pictures per round of the short benchmark


def scoring(setting: Setting) -> Iterable[Row]:
    """Score JPEGs of 1080 px beside the bare net on pictures in memory, and beside the best that can be expected.

    The best is the time that all cores take to read the pictures, and then that for the net.
    """
    images = setting.pictures(2000, 1080).parent / "images"
    names: list[score.Entry] = [*sorted(map(str, images.iterdir()))]
    for variant, quick in QUICK.items():
        pipeline = _Pipeline(make_run(setting.folder, variant), names, quick if setting.quick else 1000)
        rates = in_turns(ROUNDS, {"ours": pipeline.ours, "bare": pipeline.bare, "reading": pipeline.reading})
        rates["best"] = [1 / (1 / bare + 1 / reading) for bare, reading in zip(rates["bare"], rates["reading"])]
        busy = statistics.median(pipeline.busy)
        for peer, peer_name in (("bare", "the bare net"), ("best", "reading, then the bare net")):
            yield Row(
                "scoring",
                f"{variant}, JPEGs of 1080 px",
                "images/s",
                statistics.median(rates["ours"]),
                statistics.median(rates[peer]),
                peer_name,
                median_ratio(rates["ours"], rates[peer]),
                0.95 if (variant, peer, setting.quick) == ("vgg16", "bare", False) else None,
                {"rounds": rates, "cores": parallel.cores(), "cores busy": busy},
            )


class _Pipeline:
    """A run's scoring and its parts, `share` pictures per round; each method returns pictures per second.

    busy   cores that `ours` kept busy, round by round
    """

    def __init__(self, run: Run, names: list[score.Entry], share: int) -> None:
        self.run, self.names, self.share = run, names, share
        self.net, self.batch = run.net(), min(16, share // 4)
        self.busy: list[float] = []

    def ours(self, number: int) -> float:
        """Score a share, from the call on: with the first batch, for which Caffe packs the weights."""
        scored = score.score(self.run, self._share(number), batch=self.batch)
        used, begin = time.process_time(), time.perf_counter()
        assert all(picture.error is None for picture in scored)
        seconds = time.perf_counter() - begin
        self.busy.append((time.process_time() - used) / seconds)
        return self.share / seconds

    def bare(self, _: int) -> float:
        """Run forward passes on pictures in memory."""
        pictures = np.random.default_rng(0).integers(0, 256, (self.batch, 256, 256, 3), dtype=np.uint8)
        batches = self.share // self.batch
        begin = time.perf_counter()
        for _ in range(batches):
            self.net.scores(pictures)
        return batches * self.batch / (time.perf_counter() - begin)

    def reading(self, number: int) -> float:
        """Read a share's pictures with all cores, and do nothing with them."""
        begin = time.perf_counter()
        for _ in score.read_ahead(self._share(number), self.batch, self.net.preprocessing):
            pass
        return self.share / (time.perf_counter() - begin)

    def _share(self, number: int) -> list[score.Entry]:
        """Return the names of a round's pictures."""
        return self.names[number * self.share : (number + 1) * self.share]


def crops(setting: Setting) -> Iterable[Row]:
    """Search the best crop densely, beside 1000 random crops as in the post."""
    run = make_run(setting.folder, "squeezenet")
    searcher = Searcher(run)
    results: dict[str, list[Result]] = {"dense": [], "random": []}
    for name in ("astronaut.png", "coffee.png")[: 1 if setting.quick else 2]:
        photo = photograph(name)
        for method, of_method in results.items():
            of_method.append(searcher.search(photo, crop_space.space(photo, run.preprocessing.crop), method))
    seconds = {method: [result.seconds for result in of_method] for method, of_method in results.items()}
    scores = {method: [result.best[0][1] for result in of_method] for method, of_method in results.items()}
    yield Row(
        "crops",
        "best crop, dense search, squeezenet",
        "s",
        statistics.mean(seconds["dense"]),
        statistics.mean(seconds["random"]),
        "1000 random crops",
        median_ratio(seconds["random"], seconds["dense"]),
        detail={"seconds": seconds, "best scores": scores},
    )
