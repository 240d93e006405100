"""The comparison with the original as one HTML file that needs nothing beside it, and its tables as text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from selfie.common import html, paths, times
from selfie.data import image
from selfie.runs.run_folder import Run

TITLES = {
    "continuum": "continuum: Spearman with the published row",
    "best_worst": "best 100 against worst 300: AUC",
    "posneg": "the post's training examples",
    "celebs": "celebrities: Spearman with the published order",
}
TEST_HEAD = ("test", "measure", "tiles", "value", "95 % interval")
USERS = "Whose the published selfies are is not known: in the intervals each tile counts as its own user."
CROP_HEAD = (
    "figure",
    "IoU, ours and theirs",
    "of random crops; of our size",
    "their scores",
    "gain",
    "our scores",
    "gain",
    "our score of their crop (percentile among random crops)",
)
NOTHING = "-"  # value of a test that cannot be done; the last cell says why


def test_lines(result: dict) -> list[tuple[str, ...]]:
    """List the tests under TEST_HEAD, a line per measure; a test that cannot be done says why in its last cell."""
    lines: list[tuple[str, ...]] = []
    for test, title in TITLES.items():
        part = result[test]
        if "why_not" in part:
            lines.append((title, "", str(part.get("tiles", "")), NOTHING, part["why_not"]))
            continue
        tiles = f"{part['tiles']}" + (f" ({part['left_out']} left out)" if part["left_out"] else "")
        for kind in ("spearman", "accuracy", "auc"):
            for name, value in part.get(kind, {}).items():
                measure = f"{kind}, {name}" if test == "posneg" else name.replace("_", " ")
                interval = f"{value['low']:.2f} to {value['high']:.2f}"
                lines.append((title, measure, tiles, f"{value['value']:.2f}", interval))
        if "majority_class" in part:
            lines.append((title, "accuracy, majority-class baseline", tiles, f"{part['majority_class']:.2f}", ""))
        if "paper" in part:
            lines.append((title, "accuracy, the post on its own validation selfies", "", f"{part['paper']:.2f}", ""))
    return lines


def crop_lines(result: dict) -> list[tuple[str, ...]]:
    """List the published pairs under CROP_HEAD, a line per pair and their mean; scores and gains in percent."""
    lines: list[tuple[str, ...]] = []
    for pair in result["crops"]:
        if "why_not" in pair:
            lines.append((pair["figure"], *[""] * 5, NOTHING, pair["why_not"]))
            continue
        lines.append(
            (
                pair["figure"],
                f"{pair['iou']:.2f}",
                f"{pair['iou_of_random_crops']:.2f}; {pair['iou_of_our_size']:.2f}",
                "{:.1f} to {:.1f}".format(*pair["their_scores"]),
                f"{pair['their_gain']:+.1f}",
                "{:.1f} to {:.1f}".format(*pair["our_scores"]),
                f"{pair['our_gain']:+.1f}",
                f"{pair['our_score_of_their_crop']:.1f} ({pair['their_percentile']:.0f})",
            )
        )
    if mean := result.get("crops_mean"):
        chance = f"{mean['iou_of_random_crops']:.2f}; {mean['iou_of_our_size']:.2f}"
        gains = f"{mean['their_gain']:+.1f}", f"{mean['our_gain']:+.1f}"
        rank = f"above the original in {mean['theirs_above_original']} ({mean['their_percentile']:.0f})"
        lines.append((f"mean of {mean['pairs']}", f"{mean['iou']:.2f}", chance, "", gains[0], "", gains[1], rank))
    return lines


def crop_sentences(result: dict) -> list[str]:
    """Say the lines of `crop_lines` as text, one pair each."""
    sentences = []
    for figure, overlap, chance, theirs, their_gain, ours, our_gain, last in crop_lines(result):
        scores = (f"{theirs} ({their_gain})", f"{ours} ({our_gain})") if theirs else (their_gain, our_gain)
        compared = f"IoU {overlap}, random {chance}; theirs {scores[0]}, ours {scores[1]}; our score of theirs {last}"
        sentences.append(f"best crop, {figure}: {last if our_gain == NOTHING else compared}")
    return sentences


def write(run: Run, result: dict, pictures: dict[str, str]) -> Path:
    """Write <run>/compare.html; `pictures`: caption -> picture file in the run folder, which the page embeds."""
    page = html.render(
        "compare.html",
        title=f"{run.folder.name} beside the original",
        facts=_facts(run),
        result=result,
        tests=html.Table(TEST_HEAD, _rows(test_lines(result)), USERS),
        figures=[_figure(caption, run.folder / name) for caption, name in pictures.items()],
        crops=html.Table(CROP_HEAD, _rows(crop_lines(result))),
        protocol=html.Table(
            ("", "the post", "this run", "", "why"),
            [
                (row["what"], row["post"], row["ours"], html.Cell(row["mark"], row["mark"]), row["why"])
                for row in result["protocol"]
            ],
        ),
    )
    with paths.atomic_write(run.folder / "compare.html") as file:
        file.write(page)
    return run.folder / "compare.html"


def _facts(run: Run) -> list[tuple[str, str]]:
    """Name the run that is compared: folder, net, weights, when it was trained and by what."""
    info = run.info
    return [
        ("run", paths.shown(run.folder)),
        ("net", info["variant"]),
        ("weights", info["caffemodel"]),
        ("trained", f"{times.date(info['started'])}, took {times.between(info['started'], info['ended'])}"),
        ("Caffe", info["versions"].get("caffe", "")),
        ("project", info["versions"].get("project", "")),
    ]


def _rows(lines: Sequence[tuple[str, ...]]) -> list[Sequence[str | html.Cell]]:
    """Make rows of lines: a title stands in the first of its rows, a reason fills its row."""
    rows: list[Sequence[str | html.Cell]] = []
    for before, line in zip([("",), *lines], lines):
        if line[-2] == NOTHING:
            rows.append((line[0], html.Cell(line[-1], span=len(line) - 1)))
        else:
            rows.append(("" if line[0] == before[0] and line[0] in TITLES.values() else line[0], *line[1:]))
    return rows


def _figure(caption: str, file: Path) -> html.Figure:
    """Embed a picture file in the page."""
    kind = {".jpg": "jpeg", ".png": "png"}[file.suffix]
    data = file.read_bytes()
    height, width = image.read(file).shape[:2]
    return html.Figure(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", caption, width, height, 600)
