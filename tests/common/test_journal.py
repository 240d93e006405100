"""A journal keeps whole records only, whatever happened to the process that wrote them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from selfie.common import paths
from selfie.common.journal import Journal

RECORDS = [["+", "a"], {"path\n": [1, None, "\u00fc\ud800"]}, 7]


def test_records_come_back_in_order(tmp_path):
    """By the next process, and by the one that wrote them; more can be appended."""
    with Journal(tmp_path / "sub" / "journal") as journal:
        journal.append(*RECORDS[:2])
        journal.append(RECORDS[2])
        assert list(journal) == RECORDS and len(journal) == 3
    with Journal(journal.path) as again:
        assert list(again) == RECORDS
        again.append("more")
        assert list(again)[-1] == "more" and len(again) == 4


@pytest.mark.parametrize("header", [None, {"made": "of this"}])
def test_a_torn_end_is_cut_off_at_every_byte(tmp_path, header):
    """Whatever the length at which a kill left the file, its whole records are there and the next one fits behind."""
    with Journal(tmp_path / "whole", header) as journal:
        journal.append(*RECORDS)
    content = journal.path.read_bytes()
    for length in range(len(content) + 1):
        (tmp_path / "torn").write_bytes(content[:length])
        whole = content[:length].count(b"\n") - (header is not None)
        with Journal(tmp_path / "torn", header) as journal:
            assert list(journal) == RECORDS[: max(0, whole)]
            journal.append("next")
        assert list(Journal(tmp_path / "torn", header)) == [*RECORDS[: max(0, whole)], "next"]


def test_zeros_of_a_power_cut_are_cut_off(tmp_path):
    """A file system may keep the length of a write but not its content."""
    (tmp_path / "journal").write_bytes(b"[1]\n" + b"\0" * 9 + b"\n[3]\n")
    assert list(Journal(tmp_path / "journal")) == [[1]]
    assert (tmp_path / "journal").read_bytes() == b"[1]\n"


def test_another_header_starts_anew(tmp_path):
    """The records of other work are not taken for ours."""
    with Journal(tmp_path / "journal", {"seed": 1}) as journal:
        journal.append("one")
    with Journal(tmp_path / "journal", {"seed": 1}) as journal:
        assert list(journal) == ["one"]
    with Journal(tmp_path / "journal", {"seed": 2}) as journal:
        assert list(journal) == []
        journal.append("two")
    assert list(Journal(tmp_path / "journal", {"seed": 2})) == ["two"]


@pytest.mark.parametrize("header", [None, {"made": "of this"}])
def test_records_can_be_taken_back(tmp_path, header):
    """From the end, down to none; the header stays."""
    with Journal(tmp_path / "journal", header) as journal:
        journal.append(*RECORDS)
        for count in (3, 2, 0):
            journal.cut(count)
            assert list(journal) == RECORDS[:count] and len(journal) == count
        journal.append("new")
    assert list(Journal(tmp_path / "journal", header)) == ["new"]


def test_what_is_appended_survives_the_process(tmp_path):
    """SIGKILL directly after append."""
    script = "import os, sys; from selfie.common.journal import Journal; j = Journal(sys.argv[1]); j.append(1, 2)\n"
    script += f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "tools")}
    killed = subprocess.run([sys.executable, "-c", script, tmp_path / "journal"], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert list(Journal(tmp_path / "journal")) == [1, 2]


def test_a_record_that_cannot_be_one_ends_the_journal(tmp_path):
    """Also one that is JSON: damage can leave such a line."""
    with Journal(tmp_path / "journal", {"of": "numbers"}) as journal:
        journal.append(1, 2, "three", 4)
    with Journal(journal.path, {"of": "numbers"}, valid=lambda record: isinstance(record, int)) as again:
        assert list(again) == [1, 2]
        again.append(5)
    deep = b"[" * 100_000 + b"]" * 100_000 + b"\n"
    journal.path.write_bytes(b"1\n" + deep)
    assert list(Journal(journal.path)) in ([1], [1, json_of(deep)])


def json_of(line: bytes) -> object:
    """What a line is where Python's parser can read one so deep."""
    try:
        return json.loads(line)
    except RecursionError:
        return None


def test_a_text_that_no_table_holds_is_told():
    """Half a surrogate pair, wherever it is; whole ones, and names of any language, are texts as others."""
    assert paths.is_text(["ä 日本 😀", 1, None])
    for wrong in (["\ud800"], {"a\udcff": 1}, [["x", "\udfff"]]):
        assert not paths.is_text(wrong)
