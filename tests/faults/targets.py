"""How each kind of file is read by the library: what a mutant of it is given to."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import polars as pl
import zstandard

from faults.changes import changed, mutate
from faults.jobs import Setting

Read = Callable[[Setting, Path, random.Random], object]  # setting, a folder to write into, what is drawn


def _picture(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.data import image

    height, width = chance.randrange(1, 90), chance.randrange(1, 90)
    noise = np.random.default_rng(chance.randrange(1 << 30)).integers(0, 255, (height, width, 3), np.uint8)
    suffix = chance.choice((".jpg", ".png", ".webp", ".bmp", ".tiff", "gif", "heif"))
    image.decode_square(changed(_encoded(noise, suffix, chance), chance))


def _encoded(noise: np.ndarray, suffix: str, chance: random.Random) -> bytes:
    """A picture file: of formats with a dot by OpenCV, of others by Pillow."""
    if suffix.startswith("."):
        options = [cv2.IMWRITE_JPEG_PROGRESSIVE, chance.randrange(2)] if suffix == ".jpg" else []
        return cv2.imencode(suffix, noise, options)[1].tobytes()
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    file = io.BytesIO()
    Image.fromarray(noise).save(file, suffix)
    return file.getvalue()


TABLES = (".csv", ".jsonl", ".json", ".parquet", ".xlsx", ".csv.gz", ".csv.zst")


def _table(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.data import label_settings, labels, manifest

    file = scratch / f"t{chance.choice(TABLES)}"
    if not file.exists():
        _write_table(setting, file)
    mutate(file, chance)
    frame = manifest.read(file, labels.READS)
    labels.label(frame, label_settings.Settings(group_size=10, min_age_days=0), path=file)


def _write_table(setting: Setting, file: Path) -> None:
    """The setting's manifest, in the format that the name says."""
    frame = pl.read_csv(setting.manifest)
    if file.suffix == ".jsonl":
        frame.write_ndjson(file)
    elif file.suffix == ".json":
        frame.write_json(file)
    elif file.suffix == ".parquet":
        frame.write_parquet(file)
    elif file.suffix == ".xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for row in (frame.columns, *frame.iter_rows()):
            book.active.append(row)
        book.save(file)
    elif file.suffix == ".gz":
        file.write_bytes(gzip.compress(setting.manifest.read_bytes()))
    elif file.suffix == ".zst":
        file.write_bytes(zstandard.compress(setting.manifest.read_bytes()))
    else:
        shutil.copy(setting.manifest, file)


def _labels(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.data import lmdb_inputs

    shutil.copy(setting.labels, scratch / "labels.csv") if not (scratch / "labels.csv").exists() else None
    mutate(scratch / "labels.csv", chance)
    lmdb_inputs.ordered_splits(scratch / "labels.csv", 0)


def _run(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.runs import run_folder

    folder = _copied(setting.run, scratch)
    mutate(folder / "run.json", chance)
    run = run_folder.load(folder)
    run.database("val")
    if run.finished:
        run.net().scores(np.zeros((1, run.preprocessing.size, run.preprocessing.size, 3), np.uint8))


def _weights(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.net import caffe_net

    folder = _copied(setting.run, scratch)
    name = "snapshots/run_iter_24.caffemodel"
    mutate(folder / name, chance)
    caffe_net.load(folder / "deploy.prototxt", folder / name)


def _state(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.net import pycaffe
    from selfie.runs import run_folder, snapshots

    folder = _copied(setting.run, scratch)
    for file in (folder / "snapshots").glob("*.solverstate"):  # a snapshot knows where its weights are
        state = pycaffe.parse_binary(pycaffe.caffe_pb2().SolverState(), file)
        state.learned_net = str(file.with_suffix(".caffemodel"))
        file.write_bytes(state.SerializeToString())
    mutate(folder / f"snapshots/run_iter_24.{chance.choice(('solverstate', 'caffemodel'))}", chance)
    snapshots.newest_intact(run_folder.load(folder))


def _net(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.runs import run_folder

    folder = _copied(setting.run, scratch)
    mutate(folder / "deploy.prototxt", chance)
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**info, "nets": {}}))  # so that Caffe sees it
    run_folder.load(folder).net()


def _database(name: str) -> Read:
    def read(setting: Setting, scratch: Path, chance: random.Random) -> None:
        from selfie.data.lmdb_reader import Database

        folder = _copied(setting.lmdb, scratch) / "val"
        mutate(folder / name, chance)
        with Database(folder) as records:
            for _ in records:
                pass

    return read


def _scores(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.runs import evaluate, run_folder

    folder = _copied(setting.run, scratch)
    mutate(folder / "val_scores.csv", chance)
    evaluate.validation_scores(run_folder.load(folder))


def _report(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.experiments import report
    from selfie.runs import run_folder

    folder = _copied(setting.run, scratch)
    mutate(folder / chance.choice(("test_evaluation.json", "metrics.csv", "test_scores.csv", "run.json")), chance)
    run = run_folder.load(folder)
    run.caffemodel  # noqa: B018 - as the command does
    report.write(run)


def _solver(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.net import solver

    folder = _copied(setting.run, scratch)
    mutate(folder / "solver.prototxt", chance)
    solver.read(folder / "solver.prototxt")


def _features(setting: Setting, scratch: Path, chance: random.Random) -> None:
    """The features of the validation selfies and their map, and a picture that is placed into it."""
    from selfie.experiments import features, tsne
    from selfie.runs import run_folder

    made, place = scratch / "features", scratch / "map"
    if not (place / "map.json").exists():
        exported = features.export(run_folder.load(setting.run), features.Records(setting.lmdb / "val"), made)
        tsne.make(exported, place, 5, 0, 5)
    name = chance.choice(("meta.json", "features.csv", "features.npy", "map.json", "map.csv", "model.npz"))
    mutate((place if name.startswith(("map", "model")) else made) / name, chance)
    loaded, finished = features.load(made), tsne.load(place)
    loaded.rows, loaded.matrix, finished.places, finished.model()
    for _ in loaded.pictures():
        pass


def _journal(setting: Setting, scratch: Path, chance: random.Random) -> None:
    """What a killed face filter, build of databases or export of features goes on from."""
    from selfie.data import lmdb_state, lmdb_writer
    from selfie.experiments import features
    from selfie.faces import annotate
    from selfie.runs import run_folder

    few, names = pl.read_csv(setting.labels).head(4), sorted(setting.images.iterdir())[:4]
    labels, works = (
        scratch / "few.csv",
        {
            "faces": lambda out: annotate.annotate(few, setting.images, "lbp", 1, out / "journal.jsonl"),
            "lmdb": lambda out: lmdb_writer.build(labels, setting.images, out, jobs=1),
            "features": lambda out: features.export(
                run_folder.load(setting.run), features.Files([name.name for name in names], setting.images), out
            ),
        },
    )
    kind = chance.choice(sorted(works))
    killed, out = scratch / f"killed-{kind}", scratch / f"resumed-{kind}"
    if not killed.exists():
        few.write_csv(labels)
        with patch.object(lmdb_state, "forget"), patch.object(features, "_finish"):  # which end the journal
            works[kind](killed)
        for finished in killed.glob("*/meta.json"):
            finished.unlink()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(killed, out)
    mutate(next(out.rglob("journal.jsonl")), chance)
    works[kind](out)


def _weights_record(setting: Setting, scratch: Path, chance: random.Random) -> None:
    from selfie.common import paths
    from selfie.net import weights

    folder = scratch / "weights" / "squeezenet"
    paths.WEIGHTS = folder.parent
    product = folder / weights.PRODUCTS["squeezenet"]
    if not product.exists():
        folder.mkdir(parents=True)
        product.write_bytes(b"weights")
        paths.write_json(folder / "checked.json", {"sha256": paths.sha256(product), "checksum": "published"})
    mutate(folder / "checked.json", chance)
    weights.verified_by(weights.caffemodel("squeezenet"))


def _ledger(setting: Setting, scratch: Path, chance: random.Random) -> None:
    """Those of the bot and of what is gathered."""
    from selfie.gather.ledger import Ledger as Gathered
    from selfie.serve.bot.ledger import Ledger as Answered

    mine = chance.random() < 0.5
    folder = scratch / ("bot" if mine else "gathered")
    name = folder / ("bot.sqlite" if mine else "ledger.sqlite")
    opened = Answered(folder, "1") if mine else Gathered(folder)
    if not name.exists():
        with opened as ledger, ledger.step():
            if mine:
                ledger.set("after", "7")
                ledger.stop("somebody", True)
            else:
                ledger.count("note", ["noted", "gone", "noted"])
                ledger.terms_read("127.0.0.1", 0)
    mutate(name, chance)
    for rest in ("-wal", "-shm"):
        name.with_name(name.name + rest).unlink(missing_ok=True)
    with opened as ledger:
        if mine:
            ledger.setting("after"), ledger.has_stopped("somebody"), ledger.open(), ledger.counts()
            with ledger.step():
                ledger.set("after", "8")
        else:
            ledger.counts("note"), ledger.number_wanted(), list(ledger.kept())
            with ledger.step():
                ledger.count("note", ["noted"])


def _copied(folder: Path, scratch: Path) -> Path:
    """A copy of a folder, made once in each process."""
    if not (scratch / folder.name).exists():
        shutil.copytree(folder, scratch / folder.name)
    return scratch / folder.name


TARGETS: dict[str, Read] = {
    "picture": _picture,
    "table": _table,
    "run.json": _run,
    "meta.json": _database("meta.json"),
    "data.mdb": _database("data.mdb"),
    "caffemodel": _weights,
    "snapshot": _state,
    "deploy.prototxt": _net,
    "solver.prototxt": _solver,
    "labels.csv": _labels,
    "val_scores.csv": _scores,
    "files of a report": _report,
    "files of features and map": _features,
    "journal": _journal,
    "checked.json": _weights_record,
    "ledger": _ledger,
}
