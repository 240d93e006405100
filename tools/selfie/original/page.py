"""The comparison with the original as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import cv2
import numpy as np

from selfie.common import paths
from selfie.common.html import STYLE
from selfie.runs.run_folder import Run

TITLES = {
    "continuum": "continuum: Spearman with the published row",
    "best_worst": "best 100 against worst 300: AUC",
    "posneg": "the post's training examples",
    "celebs": "celebrities: Spearman with the published order",
}
NOTHING = "-"  # value of a test that cannot be done; the last cell says why
MARKS = "td.same { color: #2a7f4e; } td.different { color: #b03a2e; } td.reconstructed { color: #8a6d1a; } \
td + td { overflow-wrap: normal; }"


def lines(result: dict) -> list[tuple[str, str, str, str, str]]:
    """The one table: (test, what, tiles, value, interval), a line per measure; what cannot be tested says why."""
    found = []
    for test, title in TITLES.items():
        part = result[test]
        if "why_not" in part:
            found.append((title, "", str(part.get("tiles", "")), NOTHING, part["why_not"]))
            continue
        for kind in ("spearman", "accuracy", "auc"):
            for name, value in part.get(kind, {}).items():
                what = f"{kind}, {name}" if test == "posneg" else name.replace("_", " ")
                tiles = f"{part['tiles']}" + (f" ({part['left_out']} left out)" if part["left_out"] else "")
                interval = f"{value['low']:.2f} to {value['high']:.2f}"
                found.append((title, what, tiles, f"{value['value']:.2f}", interval))
        if "paper" in part:
            found.append((title, "the post, on its own validation selfies", "", f"{part['paper']:.2f}", ""))
    return found


def crop_lines(result: dict) -> list[tuple[str, ...]]:
    """A line per published pair: figure, IoU, that of random crops, their scores, gain, our scores, gain, our score of
    their crop."""
    found = []
    for one in result["crops"]:
        if "why_not" in one:
            found.append((one["figure"], *[""] * 5, NOTHING, one["why_not"]))
            continue
        found.append(
            (
                one["figure"],
                f"{one['iou']:.2f}",
                f"{one['iou_of_random_crops']:.2f} ({one['random_crops_that_overlap_more']:.0%} overlap more)",
                "{:.1f} to {:.1f}".format(*one["their_scores"]),
                f"{one['their_gain']:+.1f}",
                "{:.1f} to {:.1f}".format(*one["our_scores"]),
                f"{one['our_gain']:+.1f}",
                f"{one['our_score_of_their_crop']:.1f}",
            )
        )
    if mean := result.get("crops_mean"):
        found.append(
            (
                f"mean of {mean['pairs']}",
                f"{mean['iou']:.2f}",
                f"{mean['iou_of_random_crops']:.2f}",
                "",
                f"{mean['their_gain']:+.1f}",
                "",
                f"{mean['our_gain']:+.1f}",
                "",
            )
        )
    return found


def write(run: Run, result: dict, pictures: dict[str, np.ndarray | Path]) -> Path:
    """Write <run>/compare.html; `pictures`: caption -> BGR picture or PNG file."""
    title = escape(f"{run.folder.name} beside the original")
    body = [
        f"<h1>{title}</h1>",
        "<h2>The published figures as a test</h2>",
        _trained(result),
        _table(("test", "measure", "tiles", "value", "95 % interval"), lines(result)),
        *(_figure(caption, picture) for caption, picture in pictures.items()),
        "<h2>Best crops</h2>",
        _table(
            (
                "figure",
                "IoU, ours and theirs",
                "IoU of random crops",
                "their scores",
                "gain",
                "our scores",
                "gain",
                "our score of their crop",
            ),
            crop_lines(result),
        ),
        "<h2>The map</h2>",
        f"<p>{escape(result['tsne'])}</p>",
        "<h2>The protocol</h2>",
        _protocol(result["protocol"]),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}{MARKS}</style>\n" + "\n".join(body) + "\n</html>\n"
    )
    with paths.atomic_write(run.folder / "compare.html") as file:
        file.write(page)
    return run.folder / "compare.html"


def _trained(result: dict) -> str:
    same = len(result["duplicates"])
    seen = result["trained_on_tiles"]
    told = (
        f"It was trained or validated on {seen} of these tiles, which are left out."
        if seen
        else "It was not trained on any of these tiles."
    )
    return (
        f"<p>All tiles are reduced to {result['tile_size']} pixels. {same} selfies stand in two figures. {told} "
        f"Brightness is the mean gray value; the probe a linear classifier on untouched ImageNet features.</p>"
    )


def _protocol(table: list[dict]) -> str:
    rows = "".join(
        "<tr>"
        + "".join(f'<td class="{value if name == "mark" else ""}">{escape(value)}</td>' for name, value in row.items())
        + "</tr>"
        for row in table
    )
    head = "".join(f"<th>{name}</th>" for name in ("", "the post", "this run", "", "why"))
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    def reason(row: tuple[str, ...]) -> str:
        return f'<tr><td>{escape(row[0])}</td><td colspan="{len(head) - 1}">{escape(row[-1])}</td></tr>'

    body = [reason(row) if row[-2] == NOTHING else line(row, "td") for row in rows]
    return '<div class="scroll"><table>' + line(head, "th") + "\n".join(body) + "</table></div>"


def _figure(caption: str, picture: np.ndarray | Path) -> str:
    if isinstance(picture, Path):
        kind, data = "png", picture.read_bytes()
    else:
        kind, data = "jpeg", cv2.imencode(".jpg", picture)[1].tobytes()
    return (
        f'<figure><img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )
