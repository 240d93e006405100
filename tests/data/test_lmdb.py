"""Databases hold every usable picture once, survive every kill, and are what Caffe would have written and reads."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import lmdb
import numpy as np
import polars as pl
import pytest

from selfie.common import locks, parallel, paths
from selfie.common.errors import SelfieError
from selfie.common.journal import Journal
from selfie.common.splits import SPLITS
from selfie.data import datum, image, lmdb_lists, lmdb_reader, lmdb_state, lmdb_writer
from selfie.data.lmdb_reader import Database, id_column, id_of, make_key
from selfie.net import pycaffe
from testlib import assert_one_line_error, command, need_build, skip

CONVERT_IMAGESET = paths.BUILD / "caffe" / "bin" / "convert_imageset"
SPLIT_OF_ROW = ("train", "train", "train", "val", "test")


def picture(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def corpus(folder: Path, count: int, extra: list[tuple] = ()) -> tuple[Path, Path]:
    """(labels.csv, images/) with `count` noise pictures and `extra` rows (id, path, label, split)."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        cv2.imwrite(str(images / f"{number}.png"), picture(number))
        rows.append((f"s{number:04d}", f"{number}.png", number % 2, SPLIT_OF_ROW[number % len(SPLIT_OF_ROW)]))
    write_labels(folder / "labels.csv", rows + list(extra))
    return folder / "labels.csv", images


def write_labels(path: Path, rows: list[tuple]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("id", "path", "label", "split"), *rows])


def records(folder: Path) -> list[tuple[str, bytes]]:
    with Database(folder) as database:
        return list(database.items())


def contents(out: Path) -> dict:
    """All that a build has made: records, lists, rejects, counts."""
    return {
        (split, name): value
        for split in SPLITS
        for name, value in [
            ("records", records(out / split)),
            ("list", (out / split / "list.txt").read_text()),
            ("rejects", (out / split / "rejects.csv").read_text()),
            ("posts", (out / split / "posts.csv").read_text()),
            ("meta", paths.read_json(out / split / "meta.json")),
        ]
    }


def rejects(folder: Path) -> dict[str, str]:
    with open(folder / "rejects.csv", newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def make_lmdb(labels: Path, images: Path, out: Path, *options: str) -> list[str]:
    return [
        str(paths.ROOT / "tools" / "make_lmdb.py"),
        "--labels",
        str(labels),
        "--images",
        str(images),
        "--out",
        str(out),
        *options,
    ]


# --- Datum -----------------------------------------------------------------------------------------------------------


@pytest.mark.caffe
@pytest.mark.parametrize("label", [0, 1, 19, 127, 128, 300, 2**31 - 1])
def test_datum_is_what_protobuf_writes(label):
    """Every byte of a raw and of a JPEG Datum equals the serialisation of caffe_pb2.Datum, and decodes again."""
    bgr = picture(0, 33, 47)
    raw = pycaffe.caffe_pb2().Datum(
        channels=3, height=33, width=47, data=bgr.transpose(2, 0, 1).tobytes(), label=label, encoded=False
    )
    assert datum.encode_raw(bgr, label) == raw.SerializeToString()
    pixels, decoded = datum.decode(raw.SerializeToString())
    assert np.array_equal(pixels, bgr)
    assert decoded == label

    encoded = pycaffe.caffe_pb2().Datum()
    encoded.ParseFromString(datum.encode_jpeg(bgr, label))
    assert (encoded.label, encoded.encoded) == (label, True)
    assert datum.encode_jpeg(bgr, label) == encoded.SerializeToString()
    assert np.array_equal(
        datum.decode(encoded.SerializeToString())[0],
        cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_COLOR),
    )


def test_jpeg_keeps_colours_at_full_resolution():
    """Fine coloured detail survives the JPEG: no chroma subsampling, and quality decides the size."""
    bgr = np.zeros((64, 64, 3), np.uint8)
    bgr[:, ::2, 2] = bgr[:, 1::2, 0] = 200
    pixels, _ = datum.decode(datum.encode_jpeg(bgr, 0))
    assert np.abs(pixels.astype(int) - bgr).mean() < 4
    noise = picture(1, 256, 256)
    assert len(datum.encode_jpeg(noise, 0, 50)) < len(datum.encode_jpeg(noise, 0, 95)) / 2


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[:-3], lambda d: b"", lambda d: d[:1000], lambda d: d + b"\x35\0\0\0\0", lambda d: b"\x08\x04" + d[2:]],
)
def test_a_damaged_datum_is_an_error(damage):
    """Cut off, empty, with floats or of a wrong shape: ValueError, never wrong pixels."""
    with pytest.raises(ValueError, match="Datum"):
        datum.decode(damage(datum.encode_raw(picture(0), 1)))


def test_labels_that_a_datum_cannot_hold_are_an_error():
    """A negative label is refused; protobuf would make ten bytes of it that read as 2^64 - 1."""
    with pytest.raises(ValueError, match="-1 is not in"):
        datum.encode_raw(picture(0), -1)


# --- the same as Caffe -----------------------------------------------------------------------------------------------


@pytest.mark.caffe
def test_raw_pixels_are_those_of_convert_imageset(tmp_path):
    """The same files (with a side below 1024) through Caffe's own tool: pixels differ by at most 1, labels agree."""
    need_build()
    images = tmp_path / "images"
    images.mkdir()
    rows = []
    for number, (height, width) in enumerate([(256, 256), (1023, 1350), (300, 200), (97, 640), (20, 30), (700, 701)]):
        bgr = cv2.resize(picture(number, 12, 12), (width, height), interpolation=cv2.INTER_CUBIC)
        name = f"{number}.{'jpg' if number % 2 else 'png'}"
        cv2.imwrite(str(images / name), bgr)
        rows.append((number, name, number, "train"))
    cv2.imwrite(str(images / "gray.jpg"), picture(9)[:, :, 0])
    rows.append((9, "gray.jpg", 9, "train"))
    write_labels(tmp_path / "labels.csv", rows)
    lmdb_writer.build(tmp_path / "labels.csv", images, tmp_path / "lmdb", raw=True, jobs=1)

    listing = [line.split("\t") for line in (tmp_path / "lmdb" / "train" / "list.txt").read_text().splitlines()]
    (tmp_path / "list").write_text("".join(f"{path} {label}\n" for _, label, path in listing))
    subprocess.run(
        [
            CONVERT_IMAGESET,
            "--resize_height=256",
            "--resize_width=256",
            f"{images}/",
            tmp_path / "list",
            tmp_path / "caffe",
        ],
        check=True,
        capture_output=True,
    )
    with (
        lmdb.open(str(tmp_path / "caffe"), readonly=True, lock=False) as env,
        env.begin() as transaction,
        Database(tmp_path / "lmdb" / "train") as ours,
    ):
        theirs = [datum.decode(value) for _, value in transaction.cursor()]
        assert len(theirs) == len(ours) == len(rows)
        for (expected, expected_label), (_, pixels, label) in zip(theirs, ours):
            assert label == expected_label
            assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.caffe
@pytest.mark.parametrize("raw", [True, False])
def test_caffe_reads_what_scoring_computes(tmp_path, raw):
    """Caffe's Data layer in the TEST phase gives bit for bit `image.prepare` of the records, in order, with labels."""
    labels, images = corpus(tmp_path, 15)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", raw=raw, jobs=1)
    mean = (103.939, 116.779, 123.68)
    (tmp_path / "net.prototxt").write_text(f"""
        layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
                 transform_param {{ crop_size: 227 {" ".join(f"mean_value: {value}" for value in mean)} }}
                 data_param {{ source: "{tmp_path}/lmdb/train" backend: LMDB batch_size: 9 }} }}""")
    caffe = pycaffe.caffe()
    reader = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    blobs = reader.forward()
    with Database(tmp_path / "lmdb" / "train") as database:
        _, pixels, expected = zip(*database)
    assert blobs["label"].tolist() == list(expected)
    assert np.array_equal(blobs["data"], image.prepare(np.stack(pixels), 227, mean))


# --- what is in a database -------------------------------------------------------------------------------------------


def test_a_finished_database_describes_itself(tmp_path):
    """One database per split; keys are numbered, list.txt has every record in order, meta.json counts them."""
    labels, images = corpus(tmp_path, 20)
    metas = lmdb_writer.build(labels, images, tmp_path / "lmdb", raw=True, jobs=1)
    assert {split: meta["count"] for split, meta in metas.items()} == {"train": 12, "val": 4, "test": 4}
    original = {row["id"]: row for row in pl.read_csv(labels).iter_rows(named=True)}
    for split in metas:
        with Database(tmp_path / "lmdb" / split) as database:
            assert database.meta == metas[split]
            assert len(database) == len(database.keys()) == database.meta["count"]
            lines = (tmp_path / "lmdb" / split / "list.txt").read_text().splitlines()
            for number, ((key, pixels, label), line) in enumerate(zip(database, lines)):
                row = original[id_of(key)]
                assert key == f"{number:08d}_{row['id']}"
                assert line == f"{key}\t{row['label']}\t{row['path']}"
                assert (label, split) == (row["label"], row["split"])
                assert np.array_equal(pixels, image.square(image.read(images / row["path"])))
            assert Counter(map(str, pl.read_csv(labels).filter(split=split)["label"])) == database.meta["labels"]
    files = ["data.mdb", "list.txt", "meta.json", "posts.csv", "rejects.csv"]
    assert sorted(os.listdir(tmp_path / "lmdb" / "train")) == files
    assert sorted(os.listdir(tmp_path / "lmdb")) == ["test", "train", "val"]


def test_the_order_is_shuffled_by_the_seed_alone(tmp_path):
    """Rows in another order, more columns and more processes change no record; another seed changes the order only."""
    labels, images = corpus(tmp_path, 60)
    lmdb_writer.build(labels, images, tmp_path / "a", size=32, jobs=1)
    shuffled = pl.read_csv(labels).sample(fraction=1, shuffle=True, seed=5).with_columns(user=pl.lit("u"))
    shuffled.write_csv(tmp_path / "shuffled.csv")
    lmdb_writer.build(tmp_path / "shuffled.csv", images, tmp_path / "b", size=32, jobs=2)
    lmdb_writer.build(labels, images, tmp_path / "c", size=32, jobs=1, seed=1)
    a, b, c = (records(tmp_path / name / "train") for name in "abc")
    assert a == b
    assert a != c
    assert sorted(value for _, value in a) == sorted(value for _, value in c)
    ids = [id_of(key) for key, _ in a]
    assert ids != sorted(ids)
    metas = [paths.read_json(tmp_path / name / "train" / "meta.json") for name in "abc"]
    assert metas[0]["content"] == metas[1]["content"] != metas[2]["content"]


def test_rejects_are_listed_with_reasons_and_the_rest_is_built(tmp_path):
    """Bad pictures, repeated ones and unusable paths stand in rejects.csv; every row is a record or a reject."""
    images = tmp_path / "images"
    extra = [
        ("gone", "gone.png", 1, "train"),
        ("empty", "empty.png", 1, "train"),
        ("text", "text.jpg", 0, "train"),
        ("cut", "cut.png", 0, "val"),
        ("folder", "sub", 0, "val"),
        ("newline", "a\nb.png", 0, "train"),
        ("twin", "twin.png", 0, "train"),
        ("leak", "0.png", 0, "test"),
    ]
    labels, images = corpus(tmp_path, 10, extra)
    (images / "empty.png").touch()
    (images / "text.jpg").write_text("no picture")
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:-100])
    (images / "sub").mkdir()
    shutil.copy(images / "1.png", images / "twin.png")
    metas = lmdb_writer.build(labels, images, tmp_path / "lmdb", size=32, jobs=1)

    reasons = rejects(tmp_path / "lmdb" / "train")
    twin = reasons.pop("twin", None) or reasons.pop("s0001")
    assert twin in ("same image as s0001", "same image as twin")
    assert reasons == {
        "gone": "no such file",
        "empty": "empty file",
        "text": "unknown format",
        "newline": "control character in the path",
    }
    assert rejects(tmp_path / "lmdb" / "val") == {"cut": "broken or truncated", "folder": "not a file"}
    assert rejects(tmp_path / "lmdb" / "test") == {"leak": "same image as s0000"}
    assert metas["train"]["rejects"]["same image"] == 1
    assert sum(meta["count"] + sum(meta["rejects"].values()) for meta in metas.values()) == 18


def test_odd_ids_become_usable_keys(tmp_path):
    """Unicode stays, control characters become '_', what exceeds LMDB's 511 bytes is cut between characters."""
    ids = ['snow \u2603, "quoted"', "tab\there", "line\nbreak", "x" * 2000, "\u00fc" * 400, "a/b/../c"]
    labels, images = corpus(tmp_path, len(ids))
    write_labels(labels, [(name, f"{number}.png", 5, "train") for number, name in enumerate(ids)])
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    with Database(tmp_path / "lmdb" / "train") as database:
        keys = database.keys()
    names = {id_of(key) for key in keys}
    assert pl.DataFrame({"key": keys}).select(id_column("key")).to_series().to_list() == [id_of(key) for key in keys]
    assert all(len(key.encode()) <= 511 for key in keys)
    assert names == {ids[0], "tab_here", "line_break", "x" * 502, "\u00fc" * 251, "a/b/../c"}
    assert len((tmp_path / "lmdb" / "train" / "list.txt").read_text().splitlines()) == len(ids)


def test_the_map_grows_by_itself(tmp_path):
    """A database far larger than LMDB's first map is built, and its file is no larger than its content."""
    labels, images = corpus(tmp_path, 50)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", raw=True, jobs=1)
    size = (tmp_path / "lmdb" / "train" / "data.mdb").stat().st_size
    assert 30 * 196_608 < size < 1.1 * 30 * 196_608
    assert size > 4 * lmdb_state.SMALLEST_MAP
    assert len(records(tmp_path / "lmdb" / "train")) == 30


def test_keys_are_made_and_read_in_one_place():
    """`%08d_<id>`: number first, so that LMDB's order is that of numbers; the id comes out again."""
    assert make_key(7, "a_b") == b"00000007_a_b"
    assert id_of("00000007_a_b") == "a_b"
    assert make_key(9, "x") < make_key(10, "a") < make_key(99_999_999, "a")


def test_opencv_keeps_its_threads(tmp_path):
    """Building sets OpenCV to one thread for its own time only, also where it fails."""
    labels, images = corpus(tmp_path, 5)
    with parallel.opencv_threads(3):
        lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
        assert cv2.getNumThreads() == 3
        with pytest.raises(SelfieError, match="can be used"):
            lmdb_writer.build(labels, tmp_path, tmp_path / "none", size=16, jobs=1)
        assert cv2.getNumThreads() == 3


# --- killed, repeated, at once ---------------------------------------------------------------------------------------


def killed(arguments: list[str], data: Path, generator: random.Random) -> bool:
    """Start a build and SIGKILL it and its workers at a random moment after it began to add to `data`.

    False if it ended before that.
    """
    before = data.stat().st_size if data.exists() else 1 << 20  # more than an empty database
    process = subprocess.Popen(
        [sys.executable, *arguments], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (data.exists() and data.stat().st_size > before):
        time.sleep(0.002)
    time.sleep(generator.uniform(0, 0.15))
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return not ended


def test_killed_at_any_moment_it_ends_with_the_same_records(tmp_path):
    """SIGKILL at random moments, then once more to the end: all that is written equals an uninterrupted build."""
    extra = [(f"bad{number}", f"bad{number}.png", 0, "train") for number in range(30)]
    extra += [(f"twin{number}", f"{number * 5}.png", 1, ("val", "train")[number % 2]) for number in range(40)]
    labels, images = corpus(tmp_path, 1500, extra)
    lmdb_writer.build(labels, images, tmp_path / "whole", raw=True, jobs=2)
    out, generator = tmp_path / "killed", random.Random(0)
    arguments = make_lmdb(labels, images, out, "--raw", "--jobs", "2")
    committed = []
    for _ in range(4):
        if not killed(arguments, out / "train" / "data.mdb", generator):
            break
        committed.append(lmdb_state.entries(out / "train"))
    assert max(committed) > 0
    assert committed == sorted(committed)  # no start has thrown away what an earlier one had done
    result = command(*arguments)
    assert result.returncode == 0, result.stderr
    assert contents(out) == contents(tmp_path / "whole")
    assert not (out / "unfinished.json").exists()


def unfinished(tmp_path: Path, whole: Path, records: int) -> Path:
    """The build `whole` as a kill leaves it after `records` records: the journal is ahead, its last line incomplete."""
    out = tmp_path / "unfinished"
    (out / "train").mkdir(parents=True)
    inputs = paths.read_json(whole / "train" / "meta.json")["inputs"]
    (out / "unfinished.json").write_text(json.dumps(inputs))
    with (
        Database(whole / "train") as database,
        lmdb_state.writable(out / "train") as env,
        Journal(out / "train" / lmdb_state.JOURNAL) as journal,
    ):
        for key, value in list(database.items())[:records]:
            lmdb_writer._commit(env, journal, [(key.encode(), value)], [["+", os.urandom(16).hex(), "0" * 64]])
        journal.append(["-", "an earlier reject"], ["+", "a" * 32, "b" * 64], ["-", "lost"])
    with open(journal.path, "a") as file:
        file.write('["+", "1234')
    return out


@pytest.mark.parametrize(
    "record", [["+", "zz", "00"], ["+", 7, "00"], ["=", 99], ["=", "1"], ["-"], ["-", "\ud800"], [], {}, None]
)
def test_a_record_of_a_journal_that_cannot_be_one_is_none(record):
    assert not lmdb_lists.is_record(record, 99)
    assert all(lmdb_lists.is_record(good, 99) for good in (["+", "0a" * 16, "0b" * 32], ["=", 98], ["-", "broken"]))


def test_a_build_goes_on_after_its_last_committed_record(tmp_path):
    """What is committed is not read again; what the journal has beyond it is forgotten, half a line too."""
    labels, images = corpus(tmp_path, 40)
    whole = tmp_path / "whole"
    lmdb_writer.build(labels, images, whole, size=32, jobs=1)
    out = unfinished(tmp_path, whole, 10)
    seen: dict[bytes, int] = {}
    with Journal(out / "train" / lmdb_state.JOURNAL) as journal:
        part = lmdb_writer._resume(out / "train", pl.DataFrame(), 100, journal, seen)
        assert (len(journal), part.records, sorted(seen.values())) == (11, 10, list(range(100, 110)))
        assert list(journal)[-1] == ["-", "an earlier reject"]
    first = id_of(records(whole / "train")[0][0])
    path = pl.read_csv(labels).filter(id=first)["path"][0]
    (images / path).unlink()  # would be a reject if it were read again
    lmdb_writer.build(labels, images, out, size=32, jobs=1)
    assert records(out / "train")[:10] == records(whole / "train")[:10]
    assert list(rejects(out / "train").values()) == ["an earlier reject"]


def test_finished_with_the_same_labels_there_is_nothing_to_do(tmp_path):
    """The second run, even with the labels' rows in another order, touches no file and says so."""
    labels, images = corpus(tmp_path, 20)
    out = tmp_path / "lmdb"
    first = command(*make_lmdb(labels, images, out, "--size", "32", "--jobs", "1"))
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    pl.read_csv(labels).reverse().write_csv(labels)
    second = command(*make_lmdb(labels, images, out, "--size", "32", "--jobs", "1"))
    assert (first.returncode, second.returncode) == (0, 0)
    assert "nothing to do" in second.stderr
    assert second.stdout == first.stdout
    assert re.search(r"train +12 records \(.*\), 0 rejects", first.stdout)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps


def test_other_inputs_need_force(tmp_path):
    """A finished or begun database made from something else is not overwritten, except with --force."""
    labels, images = corpus(tmp_path, 20)
    out = tmp_path / "lmdb"
    lmdb_writer.build(labels, images, out, size=32, jobs=1)
    before = contents(out)
    with pytest.raises(SelfieError, match=r"seed 0 \(not 1\).*--force"):
        lmdb_writer.build(labels, images, out, size=32, jobs=1, seed=1)
    old = {"rows": "a", "seed": 0}
    assert lmdb_state.difference(old, {**old, "preprocessing": 2}) == "preprocessing 1 (not 2)"
    with pytest.raises(SelfieError, match=r"size 32 \(not 256\), encoding jpeg \(not raw\)"):
        lmdb_writer.build(labels, images, out, raw=True, jobs=1)
    assert contents(out) == before

    begun = unfinished(tmp_path, out, 5)
    with pytest.raises(SelfieError, match="unfinished database made from size 32"):
        lmdb_writer.build(labels, images, begun, size=64, jobs=1)
    (begun / "train" / "notes.txt").write_text("mine")
    write_labels(labels, [("a", "1.png", 3, "train")])
    with pytest.raises(SelfieError, match="other labels"):
        lmdb_writer.build(labels, images, out, size=32, jobs=1)
    for folder in (out, begun):
        lmdb_writer.build(labels, images, folder, size=32, jobs=1, force=True)
        assert [key for key, _ in records(folder / "train")] == ["00000000_a"]
        assert not (folder / "val").exists()
    assert (begun / "train" / "notes.txt").read_text() == "mine"


def test_a_foreign_database_is_not_overwritten(tmp_path):
    """A folder with an LMDB that make_lmdb did not make is refused."""
    labels, images = corpus(tmp_path, 5)
    (tmp_path / "lmdb").mkdir()
    lmdb.open(str(tmp_path / "lmdb" / "train"), map_size=1 << 20).close()
    with pytest.raises(SelfieError, match="already holds a database"):
        lmdb_writer.build(labels, images, tmp_path / "lmdb", jobs=1)


def test_two_builds_at_once_are_refused(tmp_path):
    """While one process builds a folder, a second one ends with one line."""
    labels, images = corpus(tmp_path, 5)
    with locks.folder(tmp_path / "lmdb"):
        result = command(*make_lmdb(labels, images, tmp_path / "lmdb"))
    assert_one_line_error(result, "another process is at work")


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("id,path,label,split\n", "no rows"),
        ("id,path,label\na,0.png,1\n", "has no column split"),
        ("id,path,label,split\na,0.png,good,train\n", "label 'good' is not an integer"),
        ("id,path,label,split\na,0.png,-1,train\n", "label '-1' is not an integer"),
        ("id,path,label,split\na,0.png,1,dev\n", "split 'dev' is none of train, val, test"),
        ("id,path,label,split\na,0.png,1,train\na,1.png,1,val\n", "id 'a' occurs more than once"),
        ("id,path,label,split\na,,1,train\n", "1 of 1 rows have no path"),
        ("id,path,label,split\na,0.png,1,train\nb,none.png,1,val\n", "none of the 1 pictures of split val can be used"),
    ],
)
def test_labels_that_cannot_be_used_are_one_line(tmp_path, text, words):
    """Each mistake in the labels is named; no database is left that looks finished."""
    labels, images = corpus(tmp_path, 2)
    labels.write_text(text)
    with pytest.raises(SelfieError, match=re.escape(words)) as error:
        lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "lmdb" / "val" / "meta.json").exists()


def test_wrong_paths_are_one_line(tmp_path):
    """Missing labels, a missing folder of images, a file in the place of OUT."""
    labels, images = corpus(tmp_path, 2)
    assert_one_line_error(command(*make_lmdb(tmp_path / "no.csv", images, tmp_path / "lmdb")), "no such labels file")
    assert_one_line_error(command(*make_lmdb(labels, tmp_path / "no", tmp_path / "lmdb")), "no such folder of images")
    assert_one_line_error(command(*make_lmdb(labels, images, labels)), "a file is in its place")


def test_a_mistaken_image_folder_can_be_corrected(tmp_path):
    """When not one picture was found, the next run with the right --images needs no --force."""
    labels, images = corpus(tmp_path, 10)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(SelfieError, match=r"6 x no such file.*is --images right"):
        lmdb_writer.build(labels, tmp_path / "wrong", tmp_path / "lmdb", size=16, jobs=1)
    assert lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)["train"]["count"] == 6


@pytest.mark.parametrize(
    "wreck",
    [
        lambda f: (f / "meta.json").unlink(),
        lambda f: (f / "data.mdb").unlink(),
        lambda f: (f / "data.mdb").write_bytes(b"x" * 9000),
        shutil.rmtree,
        lambda f: (f / "meta.json").write_text('{"count": 3}'),
    ],
)
def test_only_finished_databases_open(tmp_path, wreck):
    """Without meta.json, without or with damaged data, or with another number of records: one line, not data."""
    labels, images = corpus(tmp_path, 10)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    wreck(tmp_path / "lmdb" / "train")
    with pytest.raises(SelfieError, match=r"make_lmdb|build it again"):
        Database(tmp_path / "lmdb" / "train")


def test_a_full_disk_is_one_line_and_the_build_goes_on_later(tmp_path):
    """On a disk of 4 MB the build ends with one line; when the disk has grown, the same command finishes."""
    labels, images = corpus(tmp_path, 60)
    out = tmp_path / "disk"
    out.mkdir()
    build = " ".join([sys.executable, *make_lmdb(labels, images, out, "--raw", "--jobs", "1")])
    script = f"""mount -t tmpfs -o size=4m none {out} || exit 77
                 {build}; echo "code $?"; mount -o remount,size=100m {out}; {build} && cp -r {out} {tmp_path}/copy"""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    result = subprocess.run([*namespace, "sh", "-c", script], capture_output=True, text=True)
    if "code" not in result.stdout:
        skip("root", f"no small file system can be mounted here: {result.stderr.strip()}")
    errors = [line for line in result.stderr.splitlines() if line]
    assert "code 1" in result.stdout
    assert len(errors) == 1 and "no space left" in errors[0], result.stderr
    lmdb_writer.build(labels, images, tmp_path / "whole", raw=True, jobs=1)
    assert contents(tmp_path / "copy") == contents(tmp_path / "whole")


def test_a_split_with_more_rows_than_keys_can_number_is_refused(tmp_path, monkeypatch):
    """Keys are numbered with eight digits; with nine, LMDB's order would be another one than the training order."""
    monkeypatch.setattr(lmdb_reader, "MOST_RECORDS", 3)
    labels = tmp_path / "labels.csv"
    rows = [f"i{number},{number}.png,{number % 2},train" for number in range(4)]
    labels.write_text("\n".join(["id,path,label,split", *rows]))
    with pytest.raises(SelfieError, match="split train has 4 rows, and a database holds at most 3"):
        lmdb_writer.build(labels, tmp_path, tmp_path / "out")
