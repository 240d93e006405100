"""The post's ablations: dropout or none, started from ImageNet, from faces or from nothing.

Every arm is trained with several seeds on the same databases and the same solver, and scored on the same test selfies,
so the arms differ in one thing. The interval of a difference resamples both, seeds and users with their selfies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfie.common import paths
from selfie.common.clusters import Clusters
from selfie.common.errors import SelfieError
from selfie.data import lmdb_posts
from selfie.data.lmdb_posts import Posts
from selfie.data.lmdb_reader import Database
from selfie.net import variants
from selfie.runs import evaluate, run_folder, train
from selfie.runs.prepare import Job, starting_weights
from selfie.runs.run_folder import Run
from selfie.runs.snapshots import snapshots

BASE = "base"
HOLDS_0 = "the interval holds 0"
NO_DIFFERENCE = f"no difference at this size: {HOLDS_0}"
FINDINGS: dict[str, tuple[str | None, int]] = {  # arm -> what the post says of it, and the sign of its difference then
    "dropout": ("dropout makes it worse", -1),
    "face_init": ("starting from faces is no better than from ImageNet", 0),
    "no_init": (None, 0),  # the post says nothing of a start from random weights
}


@dataclass(frozen=True)
class Arm:
    """One way to train. `weights` is 'none' for random ones, None for the variant's own."""

    name: str
    variant: str
    weights: str | None = None


ARMS = {
    "demo": (Arm(BASE, "demo"), Arm("dropout", "demo_dropout"), Arm("no_init", "demo", "none")),
    "squeezenet": (
        Arm(BASE, "squeezenet"),
        Arm("dropout", "squeezenet_dropout"),
        Arm("no_init", "squeezenet", "none"),
    ),
    "vgg16": (
        Arm(BASE, "vgg16"),
        Arm("dropout", "vgg16_dropout"),
        Arm("face_init", "vgg_face"),
        Arm("no_init", "vgg16", "none"),
    ),
}


@dataclass(frozen=True)
class Plan:
    """The settings that all arms share.

    net      key of ARMS
    lmdb     folder of the databases
    seeds    one training of each arm for each
    folder   of their runs
    epochs   length of a training; None: as the solver says
    gpu      GPU to use, or several: "0,1"; None: the CPU
    """

    net: str
    lmdb: Path
    seeds: tuple[int, ...]
    folder: Path
    epochs: float | None = None
    gpu: str | None = None

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms of the net; SelfieError for a net without ablations."""
        if self.net not in ARMS:
            raise SelfieError(f"no ablations of '{self.net}': choose one of {', '.join(ARMS)}")
        return ARMS[self.net]


def trained(plan: Plan, arm: Arm, seed: int) -> Run:
    """Return the finished run of one arm and seed: as it is, resumed, or trained."""
    variant = variants.get(arm.variant)
    folder = plan.folder / f"{plan.net}-{arm.name}-seed{seed}"
    job = Job(
        variant,
        plan.lmdb,
        folder,
        starting_weights(variant, arm.weights),
        paths.SOLVER / f"{plan.net}.prototxt",
        plan.gpu,
        seed,
        plan.epochs,
        replace=True,
    )
    if not (folder / "run.json").exists():
        return train.train(job)
    run = run_folder.load(folder)
    if run.finished:
        return run
    return train.resume(folder, arm.variant, plan.gpu) if snapshots(folder) else train.train(job)


def agree(plan: Plan) -> None:
    """Raise SelfieError if the runs in the plan's folder were begun with other databases or for other epochs."""
    file, planned = plan.folder / f"{plan.net}.plan.json", {"lmdb": paths.shown(plan.lmdb), "epochs": plan.epochs}
    if file.exists() and paths.read_json(file) != planned:
        raise SelfieError(
            f"{plan.folder} holds runs on other databases or of another length ({file.name}): remove them, or give "
            f"another --out"
        )
    paths.write_json(file, planned)


def right(plan: Plan, arm: Arm) -> np.ndarray:
    """Tell which answers an arm's runs give right: seeds x test selfies booleans."""
    answers = []
    for seed in plan.seeds:
        run = trained(plan, arm, seed)
        gpu = None if plan.gpu is None else int(plan.gpu.split(",")[0])
        scored = evaluate.score_database(run, run.database("test"), gpu)
        answers.append((scored["score"].to_numpy() >= 0.5) == scored["label"].to_numpy())
    return np.array(answers)


def tested(plan: Plan) -> Posts:
    """Read what is known of the test selfies, in the order of the answers; SelfieError if they are all of one user."""
    with Database(plan.lmdb / "test") as records:
        posts = lmdb_posts.read(plan.lmdb / "test", records.keys())
    if len(np.unique(posts.users)) < 2:
        raise SelfieError(
            f"the selfies of {plan.lmdb / 'test'} are all of one user: no difference can be told from luck"
        )
    return posts


def difference(
    ours: np.ndarray, base: np.ndarray, users: np.ndarray | None = None, resamples: int = 2000, seed: int = 2015
) -> dict:
    """Estimate the accuracy of `ours` less that of `base` (both seeds x selfies): value, low, high of a 95 % interval.

    users: whose each selfie is; None: each its own user's. They are resampled together for both, the seeds of each by
    themselves.
    """
    generator = np.random.default_rng([seed, 1])
    clusters = Clusters(np.arange(ours.shape[1]) if users is None else users)
    values = []
    for times in clusters.samples(seed, resamples):
        shares = []
        for answers in (ours, base):
            by_seed = times @ answers.T.astype(float) / times.sum(1, keepdims=True)
            drawn = generator.integers(0, len(answers), by_seed.shape)
            shares.append(np.take_along_axis(by_seed, drawn, 1).mean(1))
        values.append(shares[0] - shares[1])
    low, high = clusters.interval(np.concatenate(values))
    return {"value": float(ours.mean() - base.mean()), "low": low, "high": high}


def verdict(arm: str, apart: dict) -> str:
    """Judge whether the post's finding shows in an arm's difference from the base (value, low, high).

    Where the post has none, say what was measured.
    """
    finding, sign = FINDINGS[arm]
    if finding is None:
        return "better" if apart["low"] > 0 else "worse" if apart["high"] < 0 else NO_DIFFERENCE
    if sign == 0:
        return "contradicted: better" if apart["low"] > 0 else "shows: not better"
    if apart["high"] < 0:
        return "shows"
    return "contradicted: better" if apart["low"] > 0 else f"does not show at this size: {HOLDS_0}"


def run(plan: Plan) -> dict:
    """Train and test all arms; returns the table as JSON."""
    arms = plan.arms
    agree(plan)
    posts = tested(plan)  # first: what cannot be tested need not be trained
    answers = {arm.name: right(plan, arm) for arm in arms}
    rows = []
    for arm in arms:
        right_answers = answers[arm.name]
        row = {
            "arm": arm.name,
            "variant": arm.variant,
            "weights": arm.weights or "the variant's",
            "accuracy": float(right_answers.mean()),
            "by_seed": right_answers.mean(1).round(4).tolist(),
        }
        if arm.name != BASE:
            apart = difference(right_answers, answers[BASE], posts.users)
            row |= {"difference": apart, "finding": FINDINGS[arm.name][0], "verdict": verdict(arm.name, apart)}
        rows.append(row)
    return {
        "net": plan.net,
        "lmdb": paths.shown(plan.lmdb),
        "epochs": plan.epochs,
        "seeds": list(plan.seeds),
        "test_selfies": answers[BASE].shape[1],
        "test_users": len(np.unique(posts.users)),
        "users_known": posts.known,
        "arms": rows,
    }
