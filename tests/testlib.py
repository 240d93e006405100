"""Small real things for tests to work on: pictures that are easy to tell apart, their databases, a trained demo run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from selfie.common import paths
from selfie.data import lmdb_writer
from selfie.net import variants
from selfie.runs.prepare import Job

SPLITS = {"train": 64, "val": 24, "test": 24}


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run `python <arguments>` from the project's root as a user would; text output is captured."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=paths.ROOT, capture_output=True, text=True, timeout=300, **options
    )


def assert_one_line_error(result: subprocess.CompletedProcess, *words: str) -> None:
    """The command failed as a user's mistake should: exit code 1, one line on stderr with all `words`."""
    assert result.returncode == 1, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[0]


def pictures(folder: Path, splits: dict[str, int] | None = None, seed: int = 0) -> Path:
    """Write noisy pictures, label 1 bright and label 0 dark, below folder/images; returns folder/labels.csv."""
    generator = np.random.default_rng(seed)
    rows = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, count in (splits or SPLITS).items():
        for number in range(count):
            label, name = number % 2, f"{split}{number:04d}.png"
            noise = generator.normal(160 if label else 90, 40, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / "images" / name), cv2.resize(noise, (300, 260)))
            rows.append({"id": name[:-4], "path": name, "label": label, "split": split})
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    return folder / "labels.csv"


def databases(folder: Path, splits: dict[str, int] | None = None) -> Path:
    """Databases of `pictures`, raw, so that scores from file and database can be equal; returns folder/lmdb."""
    labels = pictures(folder, splits)
    lmdb_writer.build(labels, folder / "images", folder / "lmdb", raw=True, jobs=1)
    return folder / "lmdb"


def job(lmdb: Path, run: Path, **settings: object) -> Job:
    """A short training of the demo net from scratch."""
    fields = {"max_iter": 12, "test_interval": 6, "display": 2, "snapshot": 6, "average_loss": 1, **settings}
    return Job(variants.get("demo"), lmdb, run, settings={name: str(value) for name, value in fields.items()})
