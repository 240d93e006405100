"""The stages on a cluster of two workers: byte for byte what one machine makes of the same pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from faults import jobs
from selfie.data import duplicates, lmdb_writer
from selfie.experiments.features import Files, Records, export
from selfie.faces import annotate
from selfie.net import mtcnn_nets
from selfie.runs import evaluate, score


@pytest.fixture(scope="module")
def mixed(skimage_data, tmp_path_factory) -> Path:
    """A folder `images` with photographs, some twice, what cannot be read and odd names; labels.csv, and its rows."""
    folder = tmp_path_factory.mktemp("mixed")
    images = folder / "images"
    images.mkdir()
    names = []
    for number in range(54):
        source = skimage_data / ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")[number % 4]
        name = f"{number:03d}.jpg" if number else "tab\tin the name.jpg"
        picture = cv2.resize(cv2.imread(str(source)), (300 - number, 260))
        cv2.imwrite(str(images / name), picture)
        names.append(name)
    for original, copy in ((3, "copy3.jpg"), (40, "copy40.jpg")):
        shutil.copy(images / names[original], images / copy)
        names.append(copy)
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    names += ["broken.jpg", "missing.jpg"]
    split = ["train"] * 34 + ["val"] * 12 + ["test"] * (len(names) - 46)
    ids = [f"id{number}" for number in range(len(names))]
    table = {"id": ids, "path": names, "label": [number % 2 for number in range(len(names))], "split": split}
    pl.DataFrame(table).write_csv(folder / "labels.csv")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("detector", ["lbp", "mtcnn"])
def test_faces(workers, mixed, detector, mirror):
    if detector == "mtcnn":
        for name in mtcnn_nets.FILES:
            mirror(f"{name}.caffemodel")
    rows = pl.read_csv(mixed / "labels.csv")
    rows = pl.concat([rows[:33], rows[-2:]])
    manifest = pl.concat([rows, rows[:5], pl.DataFrame({**rows[0].to_dict(as_series=False), "path": [None]})])
    one = annotate.annotate(manifest, mixed / "images", detector, jobs=1)
    assert one["face_count"].max() == 1 and one["face_error"].n_unique() == 4
    assert annotate.annotate(manifest, mixed / "images", detector, workers=workers(32)).equals(one)


@pytest.mark.parametrize("raw", [True, False])
def test_databases(workers, mixed, tmp_path, raw):
    """Repeated pictures, in other shards and splits, are told as on one machine; the pages of the databases, too."""
    for name, given in (("one", {}), ("cluster", {"workers": workers(16)})):
        metas = lmdb_writer.build(mixed / "labels.csv", mixed / "images", tmp_path / name, raw=raw, seed=5, **given)
    assert sum(meta["rejects"].get("same image", 0) for meta in metas.values()) == 2
    assert files(tmp_path / "cluster") == files(tmp_path / "one")


def test_a_database_that_was_stopped_while_its_shards_are_merged_goes_on(workers, mixed, tmp_path, monkeypatch):
    """Its records and lists are the same; pages of a database depend on when it was written."""
    lmdb_writer.build(mixed / "labels.csv", mixed / "images", tmp_path / "one", raw=True)
    monkeypatch.setattr(lmdb_writer, "CHUNK_ROWS", 5)
    commits = []

    def stop(*arguments):
        commits.append(arguments)
        if len(commits) == 4:
            raise KeyboardInterrupt
        return commit(*arguments)

    commit = lmdb_writer._commit
    monkeypatch.setattr(lmdb_writer, "_commit", stop)
    mapper = workers(16)
    for _ in range(2):
        try:
            lmdb_writer.build(mixed / "labels.csv", mixed / "images", tmp_path / "cluster", raw=True, workers=mapper)
        except KeyboardInterrupt:
            assert len(commits) == 4
    assert len(commits) > 8
    everything = jobs.Job("all", lambda setting, out: [], ("*/*",))
    assert jobs.contents(everything, tmp_path / "cluster") == jobs.contents(everything, tmp_path / "one")
    mapper.clean()
    assert not (tmp_path / "shards").exists(), "shards that the first run had read are still there"


def test_scores(workers, mixed, tiny_run):
    """Of files that are there, are not, are twice; with their percentiles."""
    names = score.expand([str(mixed / "images"), os.path.relpath(mixed / "images" / "copy3.jpg"), "nowhere.jpg"])
    names.insert(3, score.Scored("a folder", error="this folder cannot be opened"))
    one = list(score.score(tiny_run, names))
    assert sum(scored.error is not None for scored in one) == 3
    assert list(score.score(tiny_run, names, workers=workers(32))) == one


def test_evaluation(workers, own_run):
    path = own_run.database("train")
    one = evaluate.score_database(own_run, path)
    assert evaluate.score_database(own_run, path, workers=workers(16)).equals(one)


@pytest.mark.parametrize("kind", ["files", "records"])
def test_features(workers, mixed, tiny_run, tmp_path, kind):
    names = [*sorted(path.name for path in (mixed / "images").iterdir() if "\t" not in path.name), "missing.jpg"]
    source = Files(names, mixed / "images") if kind == "files" else Records(tiny_run.database("train"))
    one = export(tiny_run, source, tmp_path / "one")
    assert one.meta["rows"] > 50
    export(tiny_run, source, tmp_path / "cluster", workers=workers(16))
    assert files(tmp_path / "cluster") == files(tmp_path / "one")


def test_pictures_are_compared(workers, mixed):
    """The same are found to be equal, though a cluster hashes all and one machine only those that may be."""
    names = pl.read_csv(mixed / "labels.csv")["path"]
    one = duplicates.contents(names, mixed / "images", jobs=1)
    assert one.null_count() == 1 and one.n_unique() == len(one) - 2
    other = duplicates.contents(names, mixed / "images", workers=workers(16))
    assert [(a is None, a == b) for a in one for b in one] == [(a is None, a == b) for a in other for b in other]


def test_a_net_that_does_not_fit_is_refused(workers, mixed, tiny_run, monkeypatch):
    """In one line, which says how much it takes; no worker is killed for it again and again."""
    from selfie.common.errors import SelfieError
    from selfie.runs import net_work

    monkeypatch.setattr(net_work, "PROCESS", 10**15)
    with pytest.raises(SelfieError, match=r"this work takes about 1000000\.\d GB in each process: give fewer workers"):
        list(score.score(tiny_run, [str(mixed / "images" / "001.jpg")], workers=workers()))


def test_arrays_survive_the_store(tmp_path):
    """Floats keep all digits; texts keep what tables escape, and bytes of names that are not UTF-8."""
    from selfie.cluster.store import Store
    from selfie.common.work import Work

    rows = [(0.1 + 0.2, "a\tb\n\udcff", b"\0\xff", 2**60), (None, None, None, None), (5e-324, "", b"", -1)] * 300
    work = Work("any", print, {}, {"real": float, "text": str, "raw": bytes, "whole": int}, "text")
    store = Store(str(tmp_path))
    assert sum(count for count, _ in store.write("name", work, iter(rows))) == 900
    assert [row for block in store.read("name") for row in block] == rows
    assert np.isfinite(rows[0][0])
