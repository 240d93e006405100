"""A run as one self-contained folder of HTML: what was trained, how good it is, what it likes.

The page shows what the other commands left in the run folder and names the command for what is missing. It computes
nothing itself. Everything works from file://, on a laptop and a phone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2

from selfie.common import html, paths
from selfie.data import image
from selfie.runs.run_folder import Run

TINY = 48  # pixels: no face among the worst selfies is shown larger


@dataclass(frozen=True)
class Picture:
    """A file of the run folder as the report shows it. `cell`: side of its selfies; where it is larger than TINY and
    `shrink` is set, the picture is reduced until they are TINY."""

    name: str
    caption: str
    cell: int = 0
    shrink: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, what makes its files, and the pictures."""

    title: str
    command: str
    pictures: tuple[Picture, ...]


SECTIONS = (
    Section("Training", "make train", (Picture("curves.png", "Loss and validation accuracy while training."),)),
    Section(
        "Evaluation",
        "make eval",
        (Picture("test_evaluation.png", "Scores of good and bad test selfies, and the ROC curve."),),
    ),
    Section(
        "From best to worst",
        "tools/grids.py",
        (
            Picture("continuum.jpg", "Test selfies, best on the top row, worst on the bottom row.", 128, True),
            Picture("best.jpg", "The best.", 128),
            Picture("worst.jpg", "The worst, small on purpose: what matters is the pattern, not the person.", 48, True),
        ),
    ),
    Section(
        "What it was trained on",
        "tools/grids.py posneg",
        (Picture("posneg.jpg", "Bad (left) and good (right) training selfies, drawn at random.", 64, True),),
    ),
    Section(
        "What the net likes",
        "tools/findings.py",
        (Picture("findings.png", "What each property says beyond all others, with 95 % intervals."),),
    ),
    Section(
        "Best crops",
        "pycaffe_scripts/crops.py",
        (Picture("crops/crops.png", "Pictures before and after, with their scores."),),
    ),
    Section(
        "The map",
        "tools/tsne_map.py",
        (Picture("map/grid.jpg", "t-SNE of the net's features: similar selfies lie close together.", 48),),
    ),
    Section(
        "How the net sees",
        "pycaffe_scripts/filters.py",
        (
            Picture(
                "filters/*/patches.png",
                "Patches that excite twelve filters of the third stage most (small: of selfies below 50 %).",
            ),
            Picture("filters/*/deconvolution.png", "What in these patches does it: deconvolution (Zeiler and Fergus)."),
        ),
    ),
    Section(
        "Held against the original",
        "tools/compare_paper.py",
        (Picture("compare.jpg", "The published continuum: their order on the left, ours on the right.", 48),),
    ),
)


def write(run: Run) -> Path:
    """Write <run>/report/index.html and its pictures; returns the page."""
    folder = run.folder / "report"
    if folder.exists():
        shutil.rmtree(folder)
    body = "\n".join([_head(run), *(_section(run, section, folder) for section in SECTIONS)])
    title = escape(f"{run.folder.name}: a net's view of selfies")
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{html.STYLE}</style>\n<h1>{title}</h1>\n{body}\n"
        f"<p class=missing>A score says what was liked by a similar audience in the training data, not how "
        f"somebody looks. Made by tools/report.py.</p>\n</html>\n"
    )
    with paths.atomic_write(folder / "index.html") as file:
        file.write(page)
    return folder / "index.html"


def _head(run: Run) -> str:
    """The run card: the numbers to remember, then the facts of run.json."""
    info = run.info
    cards = []
    if result := _json(run, "test_evaluation.json"):
        low, high = result["accuracy_95"]
        cards += [
            (
                "accuracy",
                f"{result['accuracy']:.1%}",
                f"95 % interval {low:.1%} to {high:.1%}, always the commoner answer: {result['commoner']:.1%}",
            ),
            ("AUC", f"{result['auc']:.3f}", f"on {result['selfies']:,} test selfies"),
        ]
    if value := _json(run, "compare.json").get("continuum", {}).get("spearman", {}).get("score"):
        cards.append(
            (
                "Spearman with the published continuum",
                f"{value['value']:.2f}",
                f"95 % interval {value['low']:.2f} to {value['high']:.2f}",
            )
        )
    facts = {
        "net": f"{info['variant']}, {info['parameters']:,} parameters",
        "iterations": f"{info['iterations']:,}",
        "trained on": f"{info['lmdb']['train']['count']:,} selfies, validated on {info['lmdb']['val']['count']:,}",
        "started from": (info["weights"] or {}).get("path", "random weights"),
        "seed": info["seed"],
        "time": f"{info['started']} to {info['ended']}",
        "device": "CPU" if info["gpu"] is None else f"GPU {info['gpu']}",
        "versions": ", ".join(f"{name} {version}" for name, version in info["versions"].items()),
    }
    return (
        '<div class="cards">'
        + "".join(
            f'<div><div class="big">{escape(value)}</div>{escape(name)}<br>'
            f'<span class="missing">{escape(note)}</span></div>'
            for name, value, note in cards
        )
        + "</div>\n"
        + _table([(f"<b>{escape(name)}</b>", escape(str(value))) for name, value in facts.items()])
    )


def _section(run: Run, section: Section, folder: Path) -> str:
    """One section; its pictures are copied, or shrunk, into the report's folder."""
    shown = [part for picture in section.pictures for part in _figures(run, picture, folder)]
    if section.title == "What the net likes" and (findings := _json(run, "findings.json")):
        shown.append(_claims(findings))
    if section.title == "The map" and (run.folder / "map" / "viewer" / "index.html").exists():
        shutil.copytree(run.folder / "map" / "viewer", folder / "map")
        shown.append('<p><a href="map/index.html">Walk about in the map</a></p>')
    if not shown:
        shown = [f'<p class="missing">Not made yet: <code>{escape(section.command)}</code></p>']
    return f"<h2>{escape(section.title)}</h2>\n" + "\n".join(shown)


def _figures(run: Run, picture: Picture, folder: Path) -> Iterator[str]:
    for source in sorted(run.folder.glob(picture.name)):
        name = "-".join(source.relative_to(run.folder).parts)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if picture.shrink and picture.cell > TINY:
            pixels = image.read_named(source)
            scale = TINY / picture.cell
            image.write(target, cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        else:
            shutil.copyfile(source, target)
        height, width = image.read_named(target).shape[:2]
        caption = escape(picture.caption)
        yield (
            f'<figure><img src="{escape(name)}" width="{width}" height="{height}" '
            f'alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        )


def _claims(findings: dict) -> str:
    """The post's claims and what was measured, against the score and against the labels."""
    rows = [("<b>claim of the post</b>", "<b>in the score</b>", "<b>in the labels</b>")]
    labels = {row["claim"]: row for row in findings["labels"]["rules"]}
    for row in findings["score"]["rules"]:
        if row["claim"]:
            rows.append((escape(row["claim"]), _verdict(row), _verdict(labels[row["claim"]])))
    return _table(rows)


def _verdict(row: dict) -> str:
    name = escape(row["verdict"])
    why = f' <span class="missing">({escape(row["why"])})</span>' if row["why"] else ""
    return f'<span class="{name.split()[0]}">{name}</span>{why}'


def _table(rows: list[tuple[str, ...]]) -> str:
    """Cells are HTML already."""
    return (
        '<div class="scroll"><table>'
        + "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        + "</table></div>"
    )


def _json(run: Run, name: str) -> dict:
    file = run.folder / name
    return json.loads(file.read_text()) if file.exists() else {}
