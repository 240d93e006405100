"""Scores as a page: the photos, best first, what moved each score, its best crop, and what a score means.

    DIR/index.html          written last
    DIR/pictures/           copies of the photos, at most SHOWN pixels, without metadata

Nothing is asked of another machine, and no script runs. Where there are several photos, those below one half stay at
thumbnail size, as the post's worst do, and only the first EXPLAINED are explained.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from selfie.common import html, locks, names, paths, temporaries
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.data.image import BadImage
from selfie.experiments.explanation import SIDE, Explaining, at_most
from selfie.experiments.grids import WORST_CELL
from selfie.runs import evaluate
from selfie.runs.run_folder import Run
from selfie.runs.score import Entry, Scored

EXPLAINED = 24  # photos, best first: each takes more than a hundred forward passes
LISTED = 1000  # photos that the page shows at all
SHOWN = 900  # pixels of the longer side of a photo
MOST_INFLUENCES, LEAST_POINTS = 6, 0.5  # percentage points below which an influence is not worth a line
PICTURES = "pictures"
MARK = '<main class="selfie-scores">'  # in the page: such a folder may be written again
OURS = re.compile(r"\d{4,}(-small|-crop)?\.jpg")  # names of its pictures
FRAME = ((3, (255, 255, 255)), (1, (40, 36, 33)))  # width and colour (BGR) of the lines around the best crop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Influence:
    """A property's line. side: good or bad; width: of its bar, 1 to 50 percent of the line."""

    what: str
    points: str
    side: str
    width: int


@dataclass
class Card:
    """A photo as the page shows it; without `picture` it is in the list of those that were not explained."""

    number: int
    name: str
    score: float
    percentile: float
    spread: tuple[float, float] | None
    thumbnail: str
    unlike: float | None = None
    unknown: bool = False
    picture: str = ""
    small: bool = False  # it stays at thumbnail size
    crop: dict | None = None
    crop_picture: str = ""
    framed: bool = False  # the picture has the best crop's frame: that crop scores higher than the photo
    influences: list[Influence] = field(default_factory=list)
    found: dict = field(default_factory=dict)

    @property
    def cropped_better(self) -> bool:
        """Tell whether the best crop scores higher than the photo, as far as the page shows scores."""
        return self.crop is not None and round(self.crop["score"], 3) > round(self.score, 3)

    @property
    def side(self) -> str:
        """Return good from one half on, else bad: the class in CSS."""
        return "good" if self.score >= 0.5 else "bad"


def without_page(entries: Sequence[Entry], folder: Path) -> list[Entry]:
    """Leave out what an earlier page left in `folder`. SelfieError if the folder is in use for something else."""
    _check(folder)
    inside = paths.resolved(folder / PICTURES)
    kept = [one for one in entries if isinstance(one, Scored) or inside not in _resolved(one).parents]
    if left_out := len(entries) - len(kept):
        log.info("%s: %d pictures of the page itself are left out", names.shown(folder), left_out)
    return kept


def _resolved(name: str) -> Path:
    return paths.resolved(name.replace("\0", ""))


def _check(folder: Path) -> None:
    """Raise SelfieError unless the folder is new, empty, or has an earlier page, or the beginning of one."""
    page = folder / "index.html"
    earlier = page.is_file() and MARK in page.read_text("utf-8", "replace")
    begun = folder.is_dir() and not page.exists() and all(map(_is_ours, folder.iterdir()))
    if folder.exists() and not (earlier or begun):
        raise SelfieError(f"{names.shown(folder)} is not empty and no page of scores: give another --html")


def _is_ours(path: Path) -> bool:
    """Tell whether a page that was killed can have left this behind."""
    if path.name == PICTURES and path.is_dir():
        return all(_is_ours(file) for file in path.iterdir())
    return bool(OURS.fullmatch(path.name) or temporaries.OURS.fullmatch(path.name))


def write(run: Run, scored: Sequence[Scored], folder: Path, gpu: int | None = None) -> Path:
    """Write the page into `folder`, in place of an earlier one; returns index.html.

    SelfieError if the folder holds something else, or if no photo was scored.
    """
    ranked = sorted((one for one in scored if one.score is not None), key=lambda one: -(one.score or 0))
    failed = [one for one in scored if one.score is None]
    if not ranked:
        raise SelfieError(f"no photo was scored, so there is no page: {names.shown(folder)} stays as it was")
    with locks.file(folder):
        _check(folder)
        (folder / "index.html").unlink(missing_ok=True)  # a page must not show another one's pictures
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        for left in list((folder / PICTURES).iterdir()):
            if _is_ours(left):
                left.unlink()
        cards, gone = _cards(run, ranked[:LISTED], folder, gpu)
        text = html.render(
            "scores.html",
            title="How good is this selfie?" if len(cards) == 1 else f"How good are these {len(cards)} selfies?",
            run=paths.shown(run.folder),
            selfies=f"{len(evaluate.validation_scores(run, gpu)):,}",
            labels=run.meaning,
            cards=[card for card in cards if card.picture],
            listed=[card for card in cards if not card.picture],
            left=len(ranked) - min(len(ranked), LISTED),
            failed=[(names.shown(one.path), one.error) for one in (*failed, *gone)],
            trail=[(card, f"#photo-{card.number}" if card.picture else "#others") for card in cards],
            one=len(cards) == 1,
        )
        with paths.atomic_write(folder / "index.html") as file:
            file.write(text)
    return folder / "index.html"


# --- photos ----------------------------------------------------------------------------------------------------------


def _cards(run: Run, ranked: Sequence[Scored], folder: Path, gpu: int | None) -> tuple[list[Card], list[Scored]]:
    """Make the cards of scored photos, best first, and their pictures; and those that cannot be read any more."""
    explaining = Explaining(run, gpu)
    cards: list[Card] = []
    gone: list[Scored] = []
    for one in tqdm(ranked, unit="photo", desc="page", disable=None):
        try:
            bgr = at_most(image.decode(image.load(one.path), SIDE // 4), SIDE)
        except BadImage as error:
            gone.append(Scored(one.path, error=str(error)))
            continue
        card = _card(one, len(cards) + 1, bgr, folder, small=len(ranked) > 1 and (one.score or 0) < 0.5)
        if len(cards) < EXPLAINED:
            _explain(card, bgr, explaining, folder)
        cards.append(card)
    if not cards:
        raise SelfieError("none of the photos can be read any more: score them again")
    return cards, gone


def _card(one: Scored, number: int, bgr: np.ndarray, folder: Path, small: bool) -> Card:
    """Make a photo's card, and its thumbnail."""
    thumbnail = f"{PICTURES}/{number:04d}-small.jpg"
    _save(folder / thumbnail, _thumbnail(bgr))
    spread = None if one.low is None or one.high is None else (one.low, one.high)
    card = Card(number, names.shown(one.path), one.score or 0, one.percentile or 0, spread, thumbnail, small=small)
    card.unlike, card.unknown = one.unlike, one.unknown
    return card


def _explain(card: Card, bgr: np.ndarray, explaining: Explaining, folder: Path) -> None:
    """Add to a card what explains its score; larger pictures only where the photo may be shown so."""
    found = explaining.explain(bgr)
    card.crop, card.found, card.influences = found["crop"], found, _influences(found["influences"])
    card.picture = card.thumbnail
    if card.small:
        return
    shown = at_most(bgr, SHOWN)
    card.picture = f"{PICTURES}/{card.number:04d}.jpg"
    if card.crop:
        height, width = bgr.shape[:2]
        left, top = round(card.crop["left"] * width), round(card.crop["top"] * height)
        side = round(card.crop["width"] * width)
        card.crop_picture = f"{PICTURES}/{card.number:04d}-crop.jpg"
        _save(folder / card.crop_picture, at_most(bgr[top : top + side, left : left + side], SHOWN // 2))
        card.framed = card.cropped_better
        shown = _framed(shown, card.crop) if card.framed else shown
    _save(folder / card.picture, shown)


def _influences(found: list[dict]) -> list[Influence]:
    """Choose the influences that are worth a line, and measure their bars by the strongest."""
    strongest = [one for one in found if abs(one["points"]) >= LEAST_POINTS][:MOST_INFLUENCES]
    most = max((abs(one["points"]) for one in strongest), default=1)
    return [
        Influence(
            one["what"],
            f"{'+' if one['points'] > 0 else '−'}{abs(one['points']):.1f}",
            "good" if one["points"] > 0 else "bad",
            max(1, round(50 * abs(one["points"]) / most)),
        )
        for one in strongest
    ]


def _framed(bgr: np.ndarray, crop: dict) -> np.ndarray:
    """Draw the best crop's frame into a copy of a photo."""
    height, width = bgr.shape[:2]
    first = round(crop["left"] * width), round(crop["top"] * height)
    last = first[0] + round(crop["width"] * width) - 1, first[1] + round(crop["height"] * height) - 1
    framed = bgr.copy()
    for line, colour in FRAME:
        cv2.rectangle(framed, first, last, colour, line, cv2.LINE_AA)
    return framed


def _thumbnail(bgr: np.ndarray) -> np.ndarray:
    """Cut the middle square out of a photo and reduce it to WORST_CELL pixels."""
    side = min(bgr.shape[:2])
    top, left = ((length - side) // 2 for length in bgr.shape[:2])
    middle = bgr[top : top + side, left : left + side]
    return cv2.resize(middle, (WORST_CELL, WORST_CELL), interpolation=cv2.INTER_AREA)


def _save(path: Path, bgr: np.ndarray) -> None:
    """Write a picture; image.write makes JPEGs without any metadata of the original."""
    image.write(path, bgr)
