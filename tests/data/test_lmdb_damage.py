"""Damaged databases: each damage ends in one line where the database is used; --verify finds what reading does not."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

import testlib
from selfie.common.errors import SelfieError
from selfie.data import lmdb_size, lmdb_verify, lmdb_writer
from selfie.data.lmdb_reader import Database


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Databases of a few small pictures, JPEG and in several transactions' worth of pages."""
    folder = tmp_path_factory.mktemp("built")
    labels = testlib.pictures(folder, {"train": 40, "val": 6})
    lmdb_writer.build(labels, folder / "images", folder / "lmdb", size=64, jobs=1)
    return folder / "lmdb"


@pytest.fixture
def own(built, tmp_path) -> Path:
    return shutil.copytree(built, tmp_path / "lmdb") / "train"


def test_what_lmdb_wrote_is_never_called_cut_off(tmp_path):
    """Of any number of records and sizes, in any number of transactions, the file has all pages that its meta names."""
    generator = random.Random(0)
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        with lmdb.open(str(folder), map_size=1 << 26, lock=False) as env:
            count = 0
            for _ in range(generator.randint(1, 12)):
                with env.begin(write=True) as transaction:
                    for _ in range(generator.choice([1, 3, 60])):
                        transaction.put(b"%08d_x" % count, os.urandom(generator.choice([9, 900, 30_000])), append=True)
                        count += 1
                lmdb_size.check_size(folder)


def test_a_database_that_is_cut_off_anywhere_is_refused_before_it_is_mapped(own):
    """Reading one would end the process by SIGBUS."""
    whole = (own / "data.mdb").read_bytes()
    for size in (0, 1, 4096, 4200, 8192, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        (own / "data.mdb").write_bytes(whole[:size])
        with pytest.raises(SelfieError, match=r"data\.mdb is damaged: .*; build it again"):
            Database(own)
    (own / "data.mdb").write_bytes(whole)
    assert lmdb_verify.verify_one(own) == 40


READ = """
import sys
from selfie.common.errors import SelfieError
from selfie.data.lmdb_reader import Database
try:
    with Database(sys.argv[1]) as records:
        list(records), records.keys()
except SelfieError as error:
    sys.exit(3 if len(str(error).splitlines()) == 1 else 4)
"""


def test_damaged_pages_are_one_line(own):
    """Zeros, noise and swapped pages: read to the end, or refused; no other exception."""
    whole = (own / "data.mdb").read_bytes()
    generator, ends = random.Random(1), []
    for number in range(8):
        data = bytearray(whole)
        at = 4096 * generator.randrange(2, len(data) // 4096)
        data[at : at + 4096] = bytes(4096) if number % 2 else generator.randbytes(4096)
        (own / "data.mdb").write_bytes(data)
        ends.append(subprocess.run([sys.executable, "-c", READ, own], capture_output=True).returncode)
    assert set(ends) <= {0, 3} and 3 in ends, ends


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_verify_finds_a_single_changed_bit_of_a_picture(own, part):
    """Reading takes it in silence, or fails; --verify names the database."""
    data = bytearray((own / "data.mdb").read_bytes())
    marks = [at for at in range(len(data) - 2) if data[at : at + 3] == b"\xff\xd8\xff"]
    data[marks[int(part * len(marks))] + 700] ^= 1  # in a JPEG's entropy-coded data
    (own / "data.mdb").write_bytes(data)
    result = testlib.command("tools/make_lmdb.py", "--verify", own.parent)
    testlib.assert_one_line_error(result, "train", "damaged")


def test_verify_says_what_is_whole_and_finds_swapped_side_files(own):
    result = testlib.command("tools/make_lmdb.py", "--verify", own.parent)
    assert result.returncode == 0 and result.stdout.count("all as they were built") == 2, result.stderr
    listing = (own / "list.txt").read_text()
    (own / "list.txt").write_text(listing.replace("\t1\t", "\t0\t", 1))
    testlib.assert_one_line_error(
        testlib.command("tools/make_lmdb.py", "--verify", own), "not the one that list.txt has"
    )
    (own / "list.txt").write_text(listing)
    meta = json.loads((own / "meta.json").read_text())
    (own / "meta.json").write_text(json.dumps({**meta, "content": "0" * 64}))
    testlib.assert_one_line_error(testlib.command("tools/make_lmdb.py", "--verify", own), "not those that it was built")
    testlib.assert_one_line_error(testlib.command("tools/make_lmdb.py", "--verify", own / "no"), "holds no database")


def test_verify_survives_what_ends_a_process(own, monkeypatch):
    """It reads in a process of its own: cut off behind the check, as a disk that fails would."""
    monkeypatch.setattr(lmdb_verify, "verify_one", _killed)
    with pytest.raises(SelfieError, match="reading it ends a process"):
        lmdb_verify.verify(own)


def _killed(folder: Path) -> int:
    os.kill(os.getpid(), 7)
    return 0


@pytest.mark.parametrize(
    "text", ["null", "[]", "{}", '{"count": null}', '{"count": 40, "labels": [], "content": 1}', "{", "", "[" * 9999]
)
def test_a_broken_meta_json_is_one_line(own, text):
    (own / "meta.json").write_text(text)
    with pytest.raises(SelfieError, match=r"meta\.json.*build it again"):
        Database(own)


def test_options_of_building_and_verifying_do_not_mix(own):
    for arguments in ((), ("--labels", "x"), ("--verify", own, "--out", own)):
        result = testlib.command("tools/make_lmdb.py", *arguments)
        assert result.returncode == 2 and "--verify" in result.stderr


@pytest.mark.parametrize("labels", [{}, {"x": 1}, {"-1": 3}, {"1": 3, "": 4}])
def test_labels_that_are_no_numbers_are_one_line(own, labels):
    meta = json.loads((own / "meta.json").read_text())
    (own / "meta.json").write_text(json.dumps({**meta, "labels": labels}))
    with pytest.raises(SelfieError, match="labels are no numbers; build it again"):
        Database(own)


@pytest.mark.parametrize("change", [{"labels": 3}, {"labels": {"1": "x"}}, {"rejects": 3}, {"rejects": None}])
def test_a_broken_meta_json_is_one_line_for_whoever_builds_again(tmp_path, change):
    """Nothing is to do, but what was done cannot be told."""
    labels, out = testlib.pictures(tmp_path, {"train": 3}), tmp_path / "lmdb"
    lmdb_writer.build(labels, tmp_path / "images", out, jobs=1)
    meta = json.loads((out / "train" / "meta.json").read_text())
    (out / "train" / "meta.json").write_text(json.dumps({**meta, **change}))
    arguments = ["tools/make_lmdb.py", "--labels", labels, "--images", tmp_path / "images", "--out", out]
    testlib.assert_one_line_error(testlib.command(*arguments), "meta.json", "build it again")
