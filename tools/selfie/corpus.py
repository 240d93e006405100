"""The demo corpus: selfie-like pictures around one real face, with popularity rules that are planted and so known.

Everything comes out of scikit-image's wheel: the public-domain portrait (astronaut.png) is cut out and set before its
other pictures. Nothing is downloaded. Each selfie has attributes that move its likes, drawn independently of each
other and of the audience, and nuisances (place, tilt, mirror, background, colours) that do not:

    quality = LIGHT * stops                        light: 0 stops is full light, -3 is deep dusk with noise
            - HEAD * log2(face / BEST_FACE)^2      face: side of the face as a fraction of the side of a square picture
                                                   of the same area, so face^2 is its share of the picture
            - GROUP  if more than one head is in the picture
            + BORDER if it has a white border
            + FILTER if a filter was used (faded, low contrast, washed out, black and white)
    reach   = followers * (1 + TAG_BONUS * (tags - 1))
    likes   = round(RATE * reach * exp(quality - mean quality + NOISE * standard normal))

That is the post's list, with the rest of it (gender, hair) left out. On top comes planted trouble for the filters of
the pipeline: pictures without a face, broken files, duplicates, missing or impossible fields, spam.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from tqdm import tqdm

from selfie import image, manifest, parallel, paths
from selfie.errors import SelfieError

AS_OF = datetime(2015, 10, 25)  # the day of the post; posts are dated against it, never against today

LIGHT, HEAD, GROUP, BORDER, FILTER = 0.55, 3.4, 0.9, 0.8, 0.7  # effects on log likes, each of about the same variance
BEST_FACE = 1 / 3
NOISE = 0.68  # in log likes: the best classifier then reaches about 80 %
RATE, TAG_BONUS = 0.2, 0.02

DARKEST, LIGHTEST = -3.0, 0.25  # stops
SMALLEST, LARGEST = 0.21, 0.52  # face
FILTERS = ("faded", "low_contrast", "washed_out", "black_and_white")
BACKGROUNDS = ("brick.png", "coffee.png", "grass.png", "gravel.png", "moon.png", "motorcycle_left.png", "rocket.jpg",
               "hubble_deep_field.jpg", "gradient", "clouds")
FACELESS = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "moon.png", "brick.png", "grass.png")
CLASSES = ("brick.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "color.png",
           "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png",
           "microaneurysms.png", "moon.png", "motorcycle_left.png", "page.png", "phantom.png", "retina.jpg",
           "rocket.jpg", "text.png")  # all but people: pretraining must not have seen the face

# Planted trouble: share of the rows, except for the two kinds that strike whole users (share of the users).
TROUBLE = {"no_face": 0.04, "broken": 0.004, "same_image": 0.004, "same_id": 0.003, "no_likes": 0.005,
           "bad_date": 0.004, "too_young": 0.02, "many_tags": 0.006, "few_followers": 0.02, "many_followers": 0.01}
DAMAGE = ("truncated", "empty", "text")  # to broken files, in turn
FOLLOWERS = (150, 30_000)  # of ordinary users; troubled ones lie far outside
WORDS = ("me", "happy", "love", "smile", "summer", "beach", "friends", "family", "gym", "weekend", "mood", "style",
         "travel", "sun", "sunday", "work", "school", "city", "night", "party", "coffee", "music", "cute", "fun",
         "life", "nofilter", "instagood", "photooftheday", "fashion", "red", "blue", "makeup", "hair")

MARKER = "planted.json"  # what was planted; its presence says that a folder is an earlier output of this module

# ---------------------------------------------------------------- public


def make(out: Path | str, users: int = 1000, seed: int = 0, jobs: int | None = None, force: bool = False) -> dict:
    """Write a corpus of about 4 pictures per user and return what was planted (also in out/planted.json).

    out/images/*.jpg   256 to 400 px on a side
    out/manifest.csv   id, path (below images/), user, followers, likes, tags, posted_at; written last
    out/truth.csv      per picture what was planted (units as above; x, y of the face's centre in widths and heights,
                       border in shorter sides, tilt in degrees), `quality`, `reach` and `p_good`; never for training
    The same users and seed give the same pictures for any number of jobs. SelfieError if `out` holds something else.
    """
    if users < 1:
        raise SelfieError(f"a corpus needs at least one user, not {users}")
    out = _claim(out, force)
    posts, truth = _plan(users, np.random.default_rng([seed, 0]))
    trouble = {name: truth.filter(kind=name).height for name in TROUBLE} | {"same_id": posts.height - truth.height}
    planted = {"kind": "corpus", "seed": seed, "users": users, "rows": posts.height, "pictures": truth.height,
               "as_of": AS_OF.date().isoformat(), "trouble": trouble, "noise": NOISE,
               "effects": {"light": LIGHT, "head": HEAD, "group": GROUP, "border": BORDER, "filter": FILTER}}
    _render_all(partial(_render_batch, folder=out / "images", seed=seed), truth.to_dicts(), "pictures", jobs)
    paths.write_csv(out / "truth.csv", truth.drop("others"))
    paths.write_json(out / MARKER, planted)
    paths.write_csv(out / "manifest.csv", posts)
    return planted


def make_pretraining(out: Path | str, seed: int = 0, jobs: int | None = None, force: bool = False,
                     per_class: int = 150) -> dict:
    """Write the demo net's pretraining task, which stands for ImageNet: which picture is this crop from?

    out/images/*.jpg   256 x 256 random crops of the pictures in CLASSES (turned, mirrored, recoloured)
    out/labels.csv     the columns of a labels file; label is the index of the class; split train or val (a tenth)
    out/classes.txt    one class per line
    """
    out = _claim(out, force)
    rng = np.random.default_rng([seed, 1])
    label = np.repeat(np.arange(len(CLASSES)), per_class)
    names = [f"p{number:06d}" for number in range(len(label))]
    val = rng.permuted(np.tile(np.arange(per_class) < per_class // 10, (len(CLASSES), 1)), axis=1).ravel()
    table = pl.DataFrame({"id": names, "path": [name + ".jpg" for name in names], "label": label,
                          "split": np.where(val, "val", "train"), "user": names}).with_columns(
        audience=pl.lit(0.0), group=pl.lit(0), likes=pl.lit(0))
    made = {"kind": "pretraining", "seed": seed, "rows": table.height, "classes": len(CLASSES)}
    _render_all(partial(_crop_batch, folder=out / "images", seed=seed), table.to_dicts(), "crops", jobs)
    with paths.atomic_write(out / "classes.txt") as file:
        file.writelines(Path(name).stem + "\n" for name in CLASSES)
    paths.write_json(out / MARKER, made)
    paths.write_csv(out / "labels.csv", table)
    return made


def best_accuracy(truth: pl.DataFrame, labels: pl.DataFrame) -> dict[str, float]:
    """How well the best possible classifier does on these labelled rows, knowing a picture's true attributes.

    It answers "good" where p = P(good | quality) > 1/2, with p from `chance_of_good`: it knows the noise's size but
    not its value. No classifier that sees only pictures can expect more than mean(max(p, 1 - p)).

    truth: rows of truth.csv; labels: rows with id and label (1 good, 0 bad), any selection of them, say the test split.
    Returns rows; expected = mean(max(p, 1 - p)); realised = its accuracy on exactly these labels; and
    standard_error = sqrt(sum(p (1 - p))) / rows, how far realised strays from expected by the luck of the draw.
    Rows that have no planted quality (pictures without a face) count as p = 1/2.
    """
    if not labels.height:
        raise SelfieError("no labelled rows: the best accuracy of none is not defined")
    rows = labels.select(pl.col("id").cast(pl.String), "label").join(truth.select("id", "p_good"), on="id", how="left",
                                                                     validate="m:1")
    p = rows["p_good"].fill_null(0.5).to_numpy()
    good = rows["label"].to_numpy() == 1
    return {"rows": len(p), "expected": float(np.maximum(p, 1 - p).mean()),
            "realised": float(((p > 0.5) == good).mean()),
            "standard_error": float(np.sqrt((p * (1 - p)).sum()) / len(p))}


def best_on_test(folder: str | os.PathLike, labels: str | os.PathLike) -> dict[str, float]:
    """`best_accuracy` on the test split of a labels.csv that was made from the corpus in `folder`."""
    truth = pl.read_csv(paths.existing(Path(folder) / "truth.csv", "corpus"), infer_schema_length=None)
    rows = pl.read_csv(paths.existing(labels, "labels file"))
    manifest.require(rows, ("id", "label", "split"), labels)
    return best_accuracy(truth.with_columns(pl.col("id").cast(pl.String)), rows.filter(pl.col("split") == "test"))


def chance_of_good(quality: np.ndarray, reach: np.ndarray, group: int = 100, rounds: int = 1000,
                   noise: float = NOISE) -> np.ndarray:
    """P(good | quality) for each row, under the rule of the post, by Monte Carlo: float64 in [0, 1].

    One round deals the qualities out at random over the audiences (they are independent), draws
    log likes = log reach + quality + noise * N(0, 1), marches down the rows sorted by reach in groups of `group`, and
    calls the half of each group with the most likes good. p is the share of rounds in which a row's quality was good;
    its standard error is at most 0.5 / sqrt(rounds). The spread of audiences inside a group is thus accounted for.
    """
    group = min(group, len(quality) // 2 * 2)
    if group < 2:
        return np.full(len(quality), 0.5)
    rng = np.random.default_rng(0)
    used = len(quality) // group * group
    audience = np.sort(np.log(reach))[:used]
    good, seen = np.zeros(len(quality)), np.zeros(len(quality))
    for _ in range(rounds):
        dealt = rng.permutation(len(quality))[:used]
        likes = (audience + quality[dealt] + noise * rng.standard_normal(used)).reshape(-1, group)
        winners = likes > np.partition(likes, group // 2 - 1, axis=1)[:, group // 2 - 1:group // 2]
        good[dealt] += winners.ravel()
        seen[dealt] += 1
    return good / np.maximum(seen, 1)

# ---------------------------------------------------------------- what is posted by whom


def _plan(users: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(posts, truth): the rows of the manifest in random order, and one row per picture with all that was drawn."""
    count = np.minimum(40, 1 + np.floor(rng.pareto(1.35, users) * 1.7)).astype(int)  # heavy tail, 3 or 4 on average
    followers = _log_normal(rng, users, 600, 0.9, *FOLLOWERS)
    struck = rng.random(users)
    few = struck < TROUBLE["few_followers"]
    many = struck > 1 - TROUBLE["many_followers"]
    followers[few] = rng.integers(0, 15, few.sum())
    followers[many] = rng.integers(3_000_000, 60_000_000, many.sum())

    user = np.repeat(np.arange(users), count)
    rows = len(user)
    kind = np.where(few[user], "few_followers", np.where(many[user], "many_followers", "selfie")).astype(object)
    kind = _plant_trouble(kind, rng)
    looks = _draw_looks(rows, rng)
    copies = np.flatnonzero(kind == "same_image")
    originals = rng.choice(np.flatnonzero(kind == "selfie"), len(copies), replace=False) if len(copies) else copies
    for column in looks.values():
        column[copies] = column[originals]

    quality = _quality(looks)
    ordinary = np.isin(kind, ("selfie", "same_image"))
    tags = np.where(kind == "many_tags", 40, np.minimum(rng.geometric(0.25, rows), 12))
    reach = np.maximum(followers[user], 1) * (1 + TAG_BONUS * (tags - 1))
    centre = quality[ordinary].mean() if ordinary.any() else 0.0
    likes = np.rint(RATE * reach * np.exp(quality - centre + NOISE * rng.standard_normal(rows))).astype(np.int64)
    p_good = _interpolate(quality, quality[ordinary], chance_of_good(quality[ordinary], reach[ordinary]))

    names = np.array([f"s{number:06d}" for number in range(rows)])
    damage = np.full(rows, None, object)
    damage[kind == "broken"] = np.resize(DAMAGE, (kind == "broken").sum())
    same_as = pl.Series(_same_as(rows, copies, names[originals]), dtype=pl.String)
    truth = pl.DataFrame({"id": names, "kind": kind.astype(str), "same_as": same_as,
                          "damage": pl.Series(damage.tolist(), dtype=pl.String),
                          **{name: list(column) if name == "others" else column for name, column in looks.items()},
                          "quality": quality, "reach": reach, "p_good": p_good}, strict=False)
    truth = truth.with_columns(  # a picture without a person has no planted attributes
        pl.when(pl.col("kind") != "no_face").then(pl.col(name)).alias(name)
        for name in ("face", "heads", "x", "y", "tilt", "mirror", "suit", "background", "quality", "p_good"))
    posts = pl.DataFrame({
        "id": names, "path": [name + ".jpg" for name in names], "user": [f"u{number:05d}" for number in user],
        "followers": followers[user], "likes": likes, "tags": _tags(tags, rng), "posted_at": _dates(kind, rng)})
    posts = posts.with_columns(likes=pl.when(pl.Series(kind.astype(str)) != "no_likes").then(pl.col("likes")))
    again = rng.choice(np.flatnonzero(kind == "selfie"), _how_many("same_id", (kind == "selfie").sum()), replace=False)
    posts = pl.concat([posts, posts[np.sort(again)]])
    return posts[rng.permutation(posts.height)], truth


def _how_many(kind: str, rows: int) -> int:
    return min(int(rows) // 4, max(3, round(TROUBLE[kind] * rows)))  # 3: each sort of broken file comes up


def _plant_trouble(kind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each kind of trouble that strikes single rows its share; no row has two."""
    free = rng.permutation(np.flatnonzero(kind == "selfie"))
    rows = len(free)
    for name in ("no_face", "broken", "same_image", "no_likes", "bad_date", "too_young", "many_tags"):
        amount = min(_how_many(name, rows), max(0, len(free) - rows // 2))
        kind[free[:amount]] = name
        free = free[amount:]
    return kind


def _draw_looks(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the pictures look like. The first five columns are the planted attributes, mutually independent."""
    group = rng.random(rows) < 0.25
    side, aspect = rng.uniform(285, 370, rows), np.exp(rng.uniform(-0.1, 0.1, rows))
    looks = {
        "stops": rng.uniform(DARKEST, LIGHTEST, rows),
        "face": np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), rows)),
        "heads": np.where(group, rng.integers(2, 5, rows), 1),
        "border": np.where(rng.random(rows) < 0.25, rng.uniform(0.095, 0.125, rows), 0.0),
        "filter": np.where(rng.random(rows) < 0.4, rng.choice(FILTERS, rows), "none"),
        "width": np.rint(side * aspect).astype(int), "height": np.rint(side / aspect).astype(int),
        "x": rng.uniform(-1, 1, rows), "y": rng.uniform(-1, 1, rows),
        "tilt": np.clip(rng.normal(0, 5, rows), -10, 10), "mirror": rng.random(rows) < 0.5,
        "suit": rng.integers(0, SUITS, rows), "warmth": rng.normal(0, 0.06, rows),
        "background": rng.choice(BACKGROUNDS, rows), "others": np.empty(rows, object)}
    for row in range(rows):
        _place(looks, row, rng)
    return looks


def _quality(looks: dict[str, np.ndarray]) -> np.ndarray:
    return (LIGHT * looks["stops"] - HEAD * np.log2(looks["face"] / BEST_FACE) ** 2 - GROUP * (looks["heads"] > 1)
            + BORDER * (looks["border"] > 0) + FILTER * (looks["filter"] != "none"))


def _place(looks: dict[str, np.ndarray], row: int, rng: np.random.Generator) -> None:
    """Turn x, y in [-1, 1] into the face's place in the picture, and set friends beside it where there is room.

    Places are fractions of the width and height. The face stays inside the widest border, and far enough to one side
    to leave room for a friend even if there is none: else the place would tell group shots, and be a rule of its own.
    A friend's face is at most as large as the main one. The number of heads becomes what found room, at least 2.
    """
    side = np.sqrt(looks["width"][row] * looks["height"][row])
    wide, high = looks["face"][row] * side / looks["width"][row], looks["face"][row] * side / looks["height"][row]
    slack = min(0.24, 0.5 - 0.105 - wide / 2)  # without the limit small faces would stand farther aside than others
    least = np.clip((0.12 + HAIR * wide - 0.4) / slack, 0, 1)
    x = 0.5 + np.sign(looks["x"][row]) * slack * (least + (1 - least) * abs(looks["x"][row]))
    y = 0.46 + looks["y"][row] * min(0.07, 0.46 - 0.105 - high / 2)
    edge = {-1: x - HAIR * wide, 1: x + HAIR * wide}  # up to where each side is taken
    toward, others = -1 if x > 0.5 else 1, []
    for number in range(1, looks["heads"][row]):
        room = 0.9 - edge[1] if toward > 0 else edge[-1] - 0.1
        share = min(rng.uniform(0.75, 1), room / wide)  # of the main face
        if number == 1:
            share = max(share, 0.11 / wide)
        if share * wide > 0.1:
            centre = min(0.9 - share * wide / 2, max(0.1 + share * wide / 2, edge[toward] + toward * share * wide / 2))
            others.append([centre, y + rng.uniform(-0.3, 0.15) * high, share * looks["face"][row],
                           np.clip(rng.normal(0, 5), -10, 10), rng.integers(0, 2), rng.integers(0, SUITS),
                           rng.uniform(0.85, 1.05)])
            edge[toward] = centre + toward * HAIR * share * wide
        toward = -toward
    looks["x"][row], looks["y"][row], looks["heads"][row] = x, y, 1 + len(others)
    looks["others"][row] = [[float(value) for value in other] for other in others]


def _same_as(rows: int, copies: np.ndarray, originals: np.ndarray) -> list[str | None]:
    names: list[str | None] = [None] * rows
    for copy, original in zip(copies, originals):
        names[copy] = str(original)
    return names


def _log_normal(rng: np.random.Generator, rows: int, median: float, sigma: float, low: int, high: int) -> np.ndarray:
    return np.clip(np.rint(median * np.exp(sigma * rng.standard_normal(rows))), low, high).astype(np.int64)


def _interpolate(x: np.ndarray, known_x: np.ndarray, known_y: np.ndarray) -> np.ndarray:
    if not len(known_x):
        return np.full(len(x), 0.5)
    order = np.argsort(known_x, kind="stable")
    return np.interp(x, known_x[order], known_y[order])


def _tags(count: np.ndarray, rng: np.random.Generator) -> list[str]:
    words = np.array(WORDS)
    return [" ".join(["selfie", *(rng.choice(words, number - 1, replace=number > len(words)) if number > 1 else ())])
            for number in count.tolist()]


def _dates(kind: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Moments from two years to 40 days before AS_OF; where it is planted, younger than 30 days or no date at all."""
    wrong = ("yesterday", "2015-13-41T27:00:00Z", "")
    days = np.where(kind == "too_young", rng.uniform(1, 29, len(kind)), rng.uniform(40, 730, len(kind)))
    dates = [(AS_OF - timedelta(seconds=round(float(day) * 86400))).strftime("%Y-%m-%dT%H:%M:%SZ") for day in days]
    for number, row in enumerate(np.flatnonzero(kind == "bad_date")):
        dates[row] = wrong[number % len(wrong)]
    return dates

# ---------------------------------------------------------------- pictures

SUITS = 12  # colours that the portrait's orange suit is dyed in
HAIR = 0.73  # half the width of the portrait's hair, in sides of its face
FACE_CENTRE, FACE_SIDE = (225.0, 115.0), 100.0  # where the LBP cascade of scikit-image sees the portrait's face
# Outline (x, y) of the portrait's head and shoulders, without the helmet under her arm: traced once with GrabCut.
OUTLINE = (
    (196, 26), (156, 58), (153, 68), (154, 92), (157, 104), (169, 117), (174, 128), (181, 133), (182, 147),
    (153, 151), (140, 158), (131, 167), (121, 183), (122, 201), (113, 204), (90, 227), (76, 235), (65, 246),
    (46, 278), (40, 294), (39, 306), (34, 315), (26, 342), (25, 374), (19, 390), (20, 419), (24, 432), (23, 460),
    (25, 478), (29, 493), (37, 502), (39, 511), (392, 511), (386, 440), (374, 385), (362, 346), (360, 328),
    (357, 323), (356, 302), (352, 286), (347, 282), (340, 262), (319, 243), (303, 233), (291, 199), (273, 178),
    (257, 166), (257, 160), (264, 149), (266, 139), (275, 134), (290, 117), (299, 96), (299, 72), (296, 66),
    (296, 58), (288, 43), (276, 31), (248, 18), (227, 16), (213, 21), (205, 21))


def _picture(name: str) -> np.ndarray:
    """A picture of scikit-image's wheel as H x W x 3 uint8 BGR, straight from its folder: no pooch, no network."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise SelfieError(f"this scikit-image has no {name} in its package: install the version in requirements.txt")
    return image.read(path)


@lru_cache(maxsize=64)
def _scene(name: str) -> np.ndarray:
    """A picture of the wheel, at most 640 px on its longer side, kept for reuse."""
    picture = _picture(name)
    scale = min(1.0, 640 / max(picture.shape[:2]))
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=64)
def _sprites() -> list[tuple[np.ndarray, np.ndarray]]:
    """SUITS x (full, half size): the cut-out portrait as H x W x 4 float32, alpha last in [0, 1], BGR times alpha."""
    portrait, alpha = _cut_out()
    hsv = cv2.cvtColor(portrait, cv2.COLOR_BGR2HSV)
    orange = ((hsv[..., 0] < 16) & (hsv[..., 1] > 110) & (np.arange(len(hsv))[:, None] > 190)).astype(np.float32)
    orange = cv2.GaussianBlur(orange, (0, 0), 1.5)[..., None]
    sprites = []
    for suit in range(SUITS):
        dyed = hsv.copy()
        dyed[..., 0] = (dyed[..., 0].astype(int) + 180 * suit // SUITS) % 180
        dyed[..., 1] = np.rint(dyed[..., 1] * (0.85, 0.35)[suit % 3 == 2])  # every third suit is a pale one
        person = portrait + orange * (cv2.cvtColor(dyed, cv2.COLOR_HSV2BGR).astype(np.float32) - portrait)
        full = np.dstack([person * alpha[..., None], alpha]).astype(np.float32)
        sprites.append((full, cv2.resize(full, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)))
    return sprites


def _cut_out() -> tuple[np.ndarray, np.ndarray]:
    """(portrait 672 x 512 x 3 uint8 BGR, alpha 672 x 512 float32): helmet replaced by sleeve, suit made longer."""
    portrait = _picture("astronaut.png")
    sleeve = np.zeros_like(portrait)
    sleeve[:, :420] = portrait[:, 419::-1]  # her other arm, mirrored
    helmet = np.zeros(portrait.shape[:2], np.float32)
    cv2.circle(helmet, (390, 455), 116, 1.0, -1)
    helmet = cv2.GaussianBlur(helmet, (0, 0), 2)[..., None]
    portrait = np.rint(portrait + helmet * (sleeve.astype(np.float32) - portrait)).astype(np.uint8)
    alpha = np.zeros(portrait.shape[:2], np.float32)
    cv2.fillPoly(alpha, [np.array(OUTLINE, np.int32)], 1.0)
    # Small heads leave more of the picture below them than the portrait is long. Extend before feathering, so that no
    # soft edge runs across the suit.
    portrait, alpha = (cv2.copyMakeBorder(array, 0, 160, 0, 0, cv2.BORDER_REFLECT) for array in (portrait, alpha))
    return portrait, cv2.GaussianBlur(cv2.erode(alpha, np.ones((3, 3), np.uint8)), (0, 0), 1.4)


@lru_cache(maxsize=64)
def _noise() -> np.ndarray:
    """512 x 512 x 3 float32 N(0, 1): drawing it anew for every picture would take longer than everything else."""
    return np.random.default_rng(0).standard_normal((512, 512, 3), dtype=np.float32)


def _backdrop(name: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """H x W x 3 float32 BGR: part of a bundled picture, or soft colours, blurred and evened out in brightness."""
    if name in ("gradient", "clouds"):
        cells = 2 if name == "gradient" else 6
        scene = cv2.resize(rng.uniform(40, 215, (cells, cells, 3)).astype(np.float32), (width, height),
                           interpolation=cv2.INTER_CUBIC)
    else:
        scene = _part(_scene(name), width, height, rng.uniform(0.55, 1.0), rng).astype(np.float32)
        scene *= rng.uniform(0.75, 1.25, 3).astype(np.float32)
        scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.6, 3.5))
    if rng.random() < 0.5:
        scene = scene[:, ::-1]
    return rng.uniform(95, 135) + (scene - scene.mean()) * np.float32(min(1.0, 45 / max(1e-3, scene.std())))


def _part(scene: np.ndarray, width: int, height: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """A random window of a picture, of the wanted shape and `share` of the largest possible size, as height x width."""
    rows, columns = scene.shape[:2]
    scale = share * min(columns / width, rows / height)
    wide, high = max(2, round(width * scale)), max(2, round(height * scale))
    left, top = rng.integers(0, columns - wide + 1), rng.integers(0, rows - high + 1)
    return cv2.resize(scene[top:top + high, left:left + wide], (width, height),
                      interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)


def _paste(canvas: np.ndarray, x: float, y: float, face: float, tilt: float, mirror: float, suit: float,
           gain: float) -> np.ndarray:
    """Set a person into the canvas (H x W x 3 float32): face centre x, y and side in pixels, tilt in degrees."""
    scale = face / FACE_SIDE
    half = int(scale < 0.6)  # which sprite: a large reduction by interpolation would alias
    sprite = _sprites()[int(suit)][half]
    turn = np.deg2rad(tilt)
    a, b = scale * (1 + half) * np.cos(turn), scale * (1 + half) * np.sin(turn)
    flip = -1 if mirror else 1
    matrix = np.array([[a * flip, b, 0], [-b * flip, a, 0]])
    matrix[:, 2] = (x, y) - matrix[:, :2] @ (np.array(FACE_CENTRE) / (1 + half))
    person = cv2.warpAffine(sprite, matrix, canvas.shape[1::-1], flags=cv2.INTER_LINEAR)
    return canvas * (1 - person[..., 3:]) + person[..., :3] * np.float32(gain)


def render(row: dict, seed: int) -> np.ndarray:
    """The picture of one row of the plan as H x W x 3 uint8 BGR; jitter that is in no column comes from seed and id."""
    rng = np.random.default_rng([seed, 2, int(row["id"][1:])])
    width, height = row["width"], row["height"]
    side = np.sqrt(width * height)
    if row["kind"] == "no_face":
        scene = FACELESS[rng.integers(len(FACELESS))]
        picture = _part(_scene(scene), width, height, rng.uniform(0.6, 1.0), rng).astype(np.float32)
    else:
        picture = _backdrop(row["background"], width, height, rng)
        main = [row["x"], row["y"], row["face"], row["tilt"], row["mirror"], row["suit"], rng.uniform(0.92, 1.08)]
        for x, y, face, *how in [*row["others"], main]:  # friends stand behind
            picture = _paste(picture, x * width, y * height, face * side, *how)
    picture *= np.float32([1 - row["warmth"], 1, 1 + row["warmth"]])
    picture = _filter(_light(picture, row["stops"], rng), row["filter"], rng)
    if row["border"]:
        edge = round(row["border"] * min(width, height))
        picture[:edge], picture[-edge:], picture[:, :edge], picture[:, -edge:] = (rng.uniform(247, 255),) * 4
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _light(picture: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """Expose by `stops` (of light: values go with its 1/2.2 power); what a camera lacks in light it adds in noise."""
    height, width = picture.shape[:2]
    top, left = rng.integers(0, 512 - height + 1), rng.integers(0, 512 - width + 1)
    grain = _noise()[top:top + height, left:left + width]
    return np.clip(picture * np.float32(2 ** (stops / 2.2)) + grain * np.float32(1.5 + 3.0 * max(0.0, -stops)), 0, 255)


def _filter(picture: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """The four kinds of filter that the post's best selfies show; 'none' leaves the picture as it is."""
    if name == "none":
        return picture
    mean = picture.mean()
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[..., None]
    if name == "faded":
        return 62 + picture * np.float32(rng.uniform(0.55, 0.65)) + np.float32([6, 0, 4])
    if name == "low_contrast":
        return mean + (picture - mean) * np.float32(rng.uniform(0.4, 0.5))
    if name == "washed_out":
        return 35 + 0.8 * (gray + (picture - gray) * np.float32(rng.uniform(0.2, 0.3)))
    return np.repeat(12 + gray * np.float32(0.95), 3, axis=2)  # black_and_white

# ---------------------------------------------------------------- files


def _claim(out: Path | str, force: bool) -> Path:
    """Make `out` ready to be written: an earlier output is unmade first, its manifest before all else."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise SelfieError(f"{out} is a file: name a folder for the corpus")
    ours = (out / MARKER).is_file()
    if out.is_dir() and any(out.iterdir()) and not ours and not force:
        raise SelfieError(f"{out} holds something else than an earlier corpus: name another folder, or use --force")
    for name in ("manifest.csv", "truth.csv", "labels.csv", "classes.txt"):
        (out / name).unlink(missing_ok=True)
    paths.write_json(out / MARKER, {"kind": "unfinished"})  # first of all: an interrupted run may be started again
    (out / "images").mkdir(exist_ok=True)
    for name in (out / "images").glob("[sp]" + "[0-9]" * 6 + ".jpg"):  # of another seed, or of more users
        name.unlink()
    return out


def _render_all(batch, rows: list[dict], what: str, jobs: int | None) -> None:
    batches = [rows[start:start + 64] for start in range(0, len(rows), 64)]
    with tqdm(total=len(rows), unit=what[:-1], desc=f"making {what}", disable=None) as bar:
        for done in parallel.imap(batch, batches, jobs):
            bar.update(done)


def _render_batch(rows: Sequence[dict], folder: Path, seed: int) -> int:
    for row in rows:
        original = row if row["same_as"] is None else row | {"id": row["same_as"]}
        data = _encode(render(original, seed), int(original["id"][1:]))
        if row["kind"] == "broken":
            data = {"truncated": data[:len(data) // 3], "empty": b"", "text": b"No picture.\n"}[row["damage"]]
        (folder / (row["id"] + ".jpg")).write_bytes(data)
    return len(rows)


def _crop_batch(rows: Sequence[dict], folder: Path, seed: int) -> int:
    for row in rows:
        number = int(row["id"][1:])
        picture = _random_crop(_scene(CLASSES[row["label"]]), np.random.default_rng([seed, 3, number]))
        (folder / row["path"]).write_bytes(_encode(picture, number))
    return len(rows)


def _random_crop(scene: np.ndarray, rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """size x size x 3 uint8: a turned, mirrored and recoloured window of a picture, edges reflected."""
    side = min(scene.shape[:2]) * rng.uniform(0.4, 0.95)
    angle = np.deg2rad(rng.normal(0, 15))
    centre = [rng.uniform(0.35 * side, max(0.36 * side, length - 0.35 * side)) for length in scene.shape[1::-1]]
    a, b = side / size * np.cos(angle), side / size * np.sin(angle)
    flip = rng.choice((-1, 1))
    matrix = np.array([[a * flip, -b, 0], [b * flip, a, 0]])  # from the crop to the scene
    matrix[:, 2] = centre - matrix[:, :2] @ (size / 2, size / 2)
    window = cv2.warpAffine(scene, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                            borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    if rng.random() < 0.3:
        window = np.repeat(cv2.cvtColor(window, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    window = window * rng.uniform(0.5, 1.15) * rng.uniform(0.8, 1.2, 3).astype(np.float32) + rng.uniform(-15, 25)
    return np.clip(np.rint(window), 0, 255).astype(np.uint8)


def _encode(picture: np.ndarray, number: int) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 86 + number % 10])[1].tobytes()
