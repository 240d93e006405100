"""Make a demo corpus, or the demo net's pretraining task, in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import polars as pl
from tqdm import tqdm

from selfie.common import parallel, paths
from selfie.common.errors import SelfieError
from selfie.data.demo_corpus.plan import TROUBLE, draw_plan
from selfie.data.demo_corpus.render import bundled, random_crop, render
from selfie.data.demo_corpus.rules import AS_OF, BORDER, FILTER, GROUP, HEAD, LIGHT, NOISE

# All pictures of the wheel but people: pretraining must not see the face.
_CLASSES = """
    brick.png cell.png chelsea.png clock_motion.png coffee.png coins.png color.png grass.png gravel.png horse.png
    hubble_deep_field.jpg ihc.png logo.png microaneurysms.png moon.png motorcycle_left.png page.png phantom.png
    retina.jpg rocket.jpg text.png
"""
CLASSES = tuple(_CLASSES.split())

MARKER = "planted.json"  # what was planted; a folder that holds it is an earlier output of this module


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
    posts, truth = draw_plan(users, np.random.default_rng([seed, 0]))
    trouble = {name: truth.filter(kind=name).height for name in TROUBLE} | {"same_id": posts.height - truth.height}
    planted = {
        "kind": "corpus",
        "seed": seed,
        "users": users,
        "rows": posts.height,
        "pictures": truth.height,
        "as_of": AS_OF.date().isoformat(),
        "trouble": trouble,
        "noise": NOISE,
        "effects": {"light": LIGHT, "head": HEAD, "group": GROUP, "border": BORDER, "filter": FILTER},
    }
    _render_all(partial(_render_batch, folder=out / "images", seed=seed), truth.to_dicts(), "pictures", jobs)
    paths.write_csv(out / "truth.csv", truth.drop("others"))
    paths.write_json(out / MARKER, planted)
    paths.write_csv(out / "manifest.csv", posts)
    return planted


def make_pretraining(
    out: Path | str, seed: int = 0, jobs: int | None = None, force: bool = False, per_class: int = 150
) -> dict:
    """Write the demo net's pretraining task, a stand-in for ImageNet: classify which picture a crop was cut from.

    out/images/*.jpg   256 x 256 random crops of the pictures in CLASSES (turned, mirrored, recoloured)
    out/labels.csv     the columns of a labels file; label is the index of the class; split train or val (a tenth)
    out/classes.txt    one class per line
    """
    out = _claim(out, force)
    rng = np.random.default_rng([seed, 1])
    label = np.repeat(np.arange(len(CLASSES)), per_class)
    names = [f"p{number:06d}" for number in range(len(label))]
    val = rng.permuted(np.tile(np.arange(per_class) < per_class // 10, (len(CLASSES), 1)), axis=1).ravel()
    table = pl.DataFrame(
        {
            "id": names,
            "path": [name + ".jpg" for name in names],
            "label": label,
            "split": np.where(val, "val", "train"),
            "user": names,
        }
    ).with_columns(audience=pl.lit(0.0), group=pl.lit(0), likes=pl.lit(0))
    made = {"kind": "pretraining", "seed": seed, "rows": table.height, "classes": len(CLASSES)}
    _render_all(partial(_crop_batch, folder=out / "images", seed=seed), table.to_dicts(), "crops", jobs)
    with paths.atomic_write(out / "classes.txt") as file:
        file.writelines(Path(name).stem + "\n" for name in CLASSES)
    paths.write_json(out / MARKER, made)
    paths.write_csv(out / "labels.csv", table)
    return made


def _claim(out: Path | str, force: bool) -> Path:
    """Empty `out` of an earlier output, its manifest first. SelfieError if it holds anything else, unless `force`."""
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
    for picture in (out / "images").glob("[sp]" + "[0-9]" * 6 + ".jpg"):  # of another seed, or of more users
        picture.unlink()
    return out


def _render_all(batch: Callable[[list[dict]], int], rows: list[dict], what: str, jobs: int | None) -> None:
    """Draw all rows in worker processes; `batch` writes the files of up to 64 rows and returns their number."""
    batches = [rows[start : start + 64] for start in range(0, len(rows), 64)]
    with tqdm(total=len(rows), unit=what[:-1], desc=f"making {what}", disable=None) as bar:
        for done in parallel.imap(batch, batches, jobs):
            bar.update(done)


def _render_batch(rows: Sequence[dict], folder: Path, seed: int) -> int:
    """Write the selfies of some rows of the plan, damaged where planned; return their number."""
    for row in rows:
        original = row if row["same_as"] is None else row | {"id": row["same_as"]}
        data = _encode(render(original, seed), int(original["id"][1:]))
        if row["kind"] == "broken":
            data = {"truncated": data[: len(data) // 3], "empty": b"", "text": b"No picture.\n"}[row["damage"]]
        (folder / (row["id"] + ".jpg")).write_bytes(data)
    return len(rows)


def _crop_batch(rows: Sequence[dict], folder: Path, seed: int) -> int:
    """Write the crops of some rows of the pretraining task; return their number."""
    for row in rows:
        number = int(row["id"][1:])
        picture = random_crop(bundled(CLASSES[row["label"]]), np.random.default_rng([seed, 3, number]))
        (folder / row["path"]).write_bytes(_encode(picture, number))
    return len(rows)


def _encode(picture: np.ndarray, number: int) -> bytes:
    """Encode a picture as JPEG of a quality from 86 to 95 that depends on its number."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 86 + number % 10])[1].tobytes()
