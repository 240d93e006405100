"""A run as one self-contained folder of HTML: what was trained, how good it is, what it likes.

The page (common/templates/report.html) shows what the other commands left in the run folder and names the command for
what is missing. Nothing is computed but the best possible accuracy on the demo corpus. Everything works from file://,
on a laptop and a phone.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from selfie.common import clusters, html, locks, paths, shapes, times
from selfie.common.html import Cell, Figure, Table
from selfie.data import image, lmdb_reader, tables
from selfie.data.demo_corpus import corpus, optimum
from selfie.experiments import grids
from selfie.experiments.grids import WORST_CELL
from selfie.runs import evaluate
from selfie.runs.run_folder import Run


@dataclass(frozen=True)
class Picture:
    """A file of the run folder (a glob pattern) as the report shows it.

    cell    side of the selfies in it, pixels, where bad ones are among them: they are reduced to WORST_CELL
    least   narrower than that many pixels it cannot be read (see html.Figure)
    """

    name: str
    caption: str
    cell: int = 0
    least: int = 0


@dataclass(frozen=True)
class Section:
    """A heading, what makes its files, its pictures, and what a reader should know of them."""

    title: str
    command: str
    pictures: tuple[Picture, ...]
    about: str = ""


_RULES = {"rules": [{"claim": (str, None), "verdict": str, "why": (str, None)}]}
_SPEARMAN = ({"value": float, "low": float, "high": float}, None)
SHAPES: dict[str, dict] = {  # what the files that are shown must have
    "test_evaluation.json": {**evaluate.SUMMARY, "commoner?": float},
    "compare.json": {"continuum?": {"spearman?": {"score?": _SPEARMAN}}},
    "findings.json": {
        "score": {**_RULES, "selfies": int, "users?": (int, None)},
        "labels": _RULES,
        "split": str,
        "users_known?": bool,
    },
}
EVALUATION, LIKES, CROPS, MAP, ORIGINAL = (
    "Evaluation",
    "What the net likes",
    "Best crops",
    "The map",
    "Compared with the original",
)
SECTIONS = (
    Section(
        "Training",
        "make train",
        (Picture("curves.png", "Loss while training, and validation accuracy where it is measured.", least=600),),
    ),
    Section(
        EVALUATION,
        "make eval",
        (
            Picture("test_evaluation.png", "Scores of good and bad test selfies, and the ROC curve.", least=960),
            Picture(
                "test_reliability.png",
                "How far scores can be taken at their word, in bins of equally many test selfies: on the dotted line, "
                "as many are good as the score says.",
            ),
        ),
    ),
    Section(
        "From best to worst",
        "tools/grids.py",
        (
            Picture(
                "continuum.jpg",
                "Test selfies, best on the top row, worst on the bottom row.",
                grids.LAYOUTS["continuum"].cell,
            ),
            Picture("best.jpg", "The best test selfies, best first."),
            Picture(
                "worst.jpg",
                "The worst, small on purpose: what matters is the pattern, not the person.",
                grids.LAYOUTS["worst"].cell,
            ),
        ),
    ),
    Section(
        "What it was trained on",
        "tools/grids.py posneg",
        (
            Picture(
                "posneg.jpg",
                "Bad (left) and good (right) training selfies, drawn at random.",
                grids.LAYOUTS["posneg"].cell,
            ),
        ),
    ),
    Section(
        LIKES,
        "tools/findings.py",
        (Picture("findings.png", "What each property says beyond all others, with 95 % intervals.", least=960),),
    ),
    Section(
        CROPS,
        "pycaffe_scripts/crops.py",
        (Picture("crops/crops.png", "Pictures before and after, with their scores in percent."),),
        "A best crop can be a chin, or no person at all. The net scores pixels, not people: every rectangle of the "
        "picture has a score, and the highest one wins, whatever it shows. The post has such crops as well and calls "
        "them rude. Only crops that were searched with --keep-face must hold the whole face.",
    ),
    Section(
        MAP,
        "tools/tsne_map.py",
        (
            Picture(
                "map/grid.jpg", "t-SNE of the net's features: selfies that are alike to the net lie close together."
            ),
        ),
    ),
    Section(
        "How the net sees",
        "pycaffe_scripts/filters.py",
        (
            Picture(
                "filters/*/patches.png",
                "Patches that excite twelve filters of the third stage most (small: of selfies below 50 %).",
                least=960,
            ),
            Picture(
                "filters/*/deconvolution.png",
                "What in these patches does it: deconvolution (Zeiler and Fergus).",
                least=960,
            ),
        ),
    ),
    Section(
        ORIGINAL,
        "tools/compare_paper.py",
        (Picture("compare.jpg", "The published continuum: their order on the left, ours on the right.", least=960),),
    ),
)


@dataclass
class Shown:
    """A section as the template shows it."""

    title: str
    command: str
    about: str = ""
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)  # address, text


def write(run: Run) -> Path:
    """Write <run>/report/index.html and its pictures, in place of an earlier report; returns the page."""
    folder = run.folder / "report"
    with locks.file(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return _write(run, folder)


def _write(run: Run, folder: Path) -> Path:
    """Write a report into its folder, which is empty, and whose lock is held."""
    page = html.render(
        "report.html",
        title=f"{run.folder.name}: a net's view of selfies",
        run=paths.shown(run.folder),
        cards=list(_cards(run)),
        percent=percent,
        demo=_demo(run),
        facts=_facts(run),
        sections=[_section(run, section, folder) for section in SECTIONS],
    )
    with paths.atomic_write(folder / "index.html") as file:
        file.write(page)
    return folder / "index.html"


def percent(share: float) -> str:
    """Write a share in [0, 1] in percent, with a space that does not break."""
    return f"{100 * share:.1f}\u00a0%"


# --- the head --------------------------------------------------------------------------------------------------------


def _cards(run: Run) -> Iterator[tuple[str, str, str]]:
    """Yield the numbers to remember: (value, what it is, what to compare it with)."""
    if result := _json(run, "test_evaluation.json"):
        low, high = result["accuracy_95"]
        baseline = result.get("majority_class", result.get("commoner"))
        baseline = "" if baseline is None else f"; majority-class baseline {percent(baseline)}"
        yield (
            percent(result["accuracy"]),
            "accuracy",
            f"95 % interval {percent(low)} to {percent(high)}{baseline}",
        )
        between = "95 % interval {:.3f} to {:.3f}; ".format(*result["auc_95"]) if result.get("auc_95") else ""
        selfies = f"{result['selfies']:,} test selfies{clusters.of_users(result)}"
        yield f"{result['auc']:.3f}", "AUC", f"{between}on {selfies}; guessing has 0.5"
    if measured := result.get("calibration"):
        between = measured["ece_95"]
        interval = f"95 % interval {percent(between[0])} to {percent(between[1])}; " if between else ""
        chance = percent(measured["ece_calibrated"][0])
        yield percent(measured["ece"]), "calibration error", f"{interval}a calibrated net has {chance} by chance"
    if spearman := _json(run, "compare.json").get("continuum", {}).get("spearman", {}).get("score"):
        yield (
            f"{spearman['value']:.2f}",
            "Spearman with the published continuum",
            f"95 % interval {spearman['low']:.2f} to {spearman['high']:.2f}",
        )


def _demo(run: Run) -> dict[str, float] | None:
    """Compute the best possible accuracy on the run's test selfies, for a run on the demo corpus; None for others.

    The demo corpus is known by the marker beside the folder of images that the databases were built from; accuracies
    are missing where the test selfies were not scored, or the corpus is incomplete.
    """
    images = Path(run.info["lmdb"]["train"]["inputs"]["images"])
    folder = next((each for each in (images.parent, images) if (each / corpus.MARKER).exists()), None)
    if folder is None or paths.read_json(folder / corpus.MARKER).get("kind") != "corpus":
        return None
    result = _json(run, "test_evaluation.json")
    if not result or not (folder / "truth.csv").exists():
        return {}
    truth = tables.inferred(folder / "truth.csv", ("id",))
    labels = grids.scored(run).select(lmdb_reader.id_column("key").alias("id"), "label")
    return {"ours": result["accuracy"], **optimum.best_accuracy(truth, labels)}


def _facts(run: Run) -> list[tuple[str, str]]:
    """List the facts of run.json: (name, value)."""
    info = run.info
    batch = f" of {info['batch']} selfies each" if info.get("batch") else ""
    return [
        ("run", paths.shown(run.folder)),
        ("net", f"{info['variant']}, {info['parameters']:,} parameters"),
        ("good, bad", f"{run.meaning.good}; {run.meaning.bad}, {run.meaning.scope}"),
        ("pictures", _preparation(run)),
        ("trained on", _counted(info["lmdb"]["train"])),
        ("validated on", _counted(info["lmdb"]["val"])),
        ("iterations", f"{info['iterations']:,}{batch}"),
        ("started from", (info["weights"] or {}).get("path", "random weights")),
        ("seed", str(info["seed"])),
        ("time", f"{times.date(info['started'])}, took {times.between(info['started'], info['ended'])}"),
        ("device", "CPU" if info["gpu"] is None else f"GPU {info['gpu']}"),
        ("command", shlex.join(info["command"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in info["versions"].items())),
    ]


def _preparation(run: Run) -> str:
    """Say how pictures become what the net sees."""
    size, crop, detail = run.preprocessing.size, run.preprocessing.crop, run.preprocessing.detail
    reduced = f"reduced to {detail} x {detail} pixels, then " if detail else ""
    return f"{reduced}squashed to {size} x {size}, of which the net sees {crop} x {crop}"


def _counted(meta: dict) -> str:
    """Count the selfies of a database, and their users where it knows them."""
    return f"{meta['count']:,} selfies{clusters.of_users({'users': meta.get('users'), 'users_known': True})}"


# --- sections --------------------------------------------------------------------------------------------------------


def _section(run: Run, section: Section, folder: Path) -> Shown:
    """Collect what a section shows; its pictures are copied, or reduced, into the report's folder."""
    figures = [figure for picture in section.pictures for figure in _figures(run, picture, folder)]
    shown = Shown(section.title, section.command, section.about, figures)
    if section.title == EVALUATION and (margins := _json(run, "test_evaluation.json").get("margins")):
        shown.tables.append(_margins(margins))
    if section.title == LIKES and (findings := _json(run, "findings.json")):
        shown.tables.append(_claims(findings))
    if section.title == MAP and (run.folder / "map" / "viewer" / "index.html").exists():
        shutil.copytree(run.folder / "map" / "viewer", folder / "map")
        shown.links.append(("map/index.html", "Walk about in the map"))
    if section.title == ORIGINAL and (run.folder / "compare.html").exists():
        shutil.copyfile(run.folder / "compare.html", folder / "compare.html")
        shown.links.append(("compare.html", "The whole comparison: tests, crops, protocol"))
    return shown


def _figures(run: Run, picture: Picture, folder: Path) -> Iterator[Figure]:
    """Copy a picture's files, or reduce them until bad selfies are small; yield them as figures."""
    for source in sorted(run.folder.glob(picture.name)):
        target = folder / "-".join(source.relative_to(run.folder).parts)
        if picture.cell > WORST_CELL:
            scale = WORST_CELL / picture.cell
            pixels = image.read_named(source)
            image.write(target, cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        else:
            shutil.copyfile(source, target)
        height, width = image.read_named(target).shape[:2]
        yield Figure(target.name, picture.caption, width, height, picture.least)


def _margins(margins: list[dict]) -> Table:
    """List the accuracy by margin of the label."""
    rows = []
    for row in margins:
        low, high = row["accuracy_95"]
        accuracy = Cell(percent(row["accuracy"]), note=f"{100 * low:.1f} to {percent(high)}")
        rows.append((row["margin"], f"{row['selfies']:,}", f"{row['users']:,}", accuracy))
    caption = (
        "Accuracy by margin of the label: of all, and where the label is clear, with 95 % intervals over users. Outer "
        "are the best and the worst by what the labels were cut from: by default, likes among selfies of the same "
        "audience."
    )
    return Table(("margin", "selfies", "users", "accuracy"), rows, caption)


def _claims(findings: dict) -> Table:
    """Set the post's claims beside what was measured, in the score and in the labels."""
    labels = {row["claim"]: row for row in findings["labels"]["rules"]}
    rows = [
        (row["claim"], _verdict(row), _verdict(labels[row["claim"]]))
        for row in findings["score"]["rules"]
        if row["claim"] in labels and row["claim"]
    ]
    users = clusters.of_users({"users_known": findings.get("users_known"), **findings["score"]})
    caption = f"{findings['score']['selfies']:,} selfies of the {findings['split']} split{users}"
    return Table(("claim of the post", "in the score", "in the labels"), rows, caption)


def _verdict(row: dict) -> Cell:
    """Show a rule's verdict in its colour, with the reason behind it."""
    return Cell(row["verdict"], row["verdict"].partition(" ")[0], row["why"])


def _json(run: Run, name: str) -> dict:
    """Read a JSON file of the run folder; {} where it was not made."""
    file = run.folder / name
    return shapes.read(file, SHAPES[name], "make it again") if file.exists() else {}
