"""Paths that lead out of the folder of pictures are refused unless they are allowed; outputs are tried first."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

import testlib
from selfie.common import locks, paths
from selfie.common.errors import SelfieError
from selfie.data import lmdb_writer


@pytest.mark.parametrize("name", ["/etc/hostname", "../x.png", "a/../../x.png", "..", "a/.."])
def test_what_leads_out_is_refused(name):
    with pytest.raises(SelfieError, match=r"table\.csv: 1 paths lead out of --images, such as .* --outside"):
        paths.check_inside(["a.png", None, name], "table.csv")
    paths.check_inside(["a.png", name], "table.csv", outside=True)


def test_dots_that_lead_nowhere_are_names():
    paths.check_inside(["..x.png", "a..b/c.png", "./a.png", "...", None, ""], "table.csv")


@pytest.fixture
def table(tmp_path) -> Path:
    """Labels of which one picture lies outside of their folder; a manifest of the same."""
    labels = testlib.pictures(tmp_path, {"train": 4, "val": 2})
    os.rename(tmp_path / "images" / "train0000.png", tmp_path / "secret.png")
    rows = pl.read_csv(labels).with_columns(path=pl.col("path").replace("train0000.png", "../secret.png"))
    rows.write_csv(labels)
    return labels


def test_a_database_takes_no_picture_from_elsewhere_unless_told(table, tmp_path):
    arguments = ["tools/make_lmdb.py", "--labels", table, "--images", tmp_path / "images", "--out", tmp_path / "lmdb"]
    testlib.assert_one_line_error(testlib.command(*arguments), "labels.csv", "'../secret.png'", "--outside")
    assert not (tmp_path / "lmdb").exists()
    assert testlib.command(*arguments, "--outside").returncode == 0
    assert "../secret.png" in (tmp_path / "lmdb" / "train" / "list.txt").read_text()


@pytest.mark.parametrize("command", ["label", "filter_faces"])
def test_a_manifest_may_not_lead_out_either(table, tmp_path, command):
    out = tmp_path / "out.csv"
    arguments = ["--manifest", table, "--images", tmp_path / "images", "--out", out]
    result = testlib.command(f"tools/{command}.py", *arguments, *(["--rule", "median"] if command == "label" else []))
    testlib.assert_one_line_error(result, "labels.csv", "'../secret.png'", "--outside")
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_two_at_once_on_one_file_are_told_of_each_other(table, tmp_path):
    out = tmp_path / "out.csv"
    with locks.file(out):
        for command in ("label", "filter_faces"):
            arguments = ["--manifest", table, "--images", tmp_path / "images", "--out", out]
            result = testlib.command(f"tools/{command}.py", *arguments)
            testlib.assert_one_line_error(result, f"at work in {out}: process {os.getpid()} ")


@pytest.mark.parametrize("command", ["label", "filter_faces", "make_lmdb"])
def test_where_nothing_can_be_written_the_work_is_not_begun(table, tmp_path, command):
    """/proc is a folder in which nobody can make a file, root neither. No progress bar, no face is looked for."""
    source = "--labels" if command == "make_lmdb" else "--manifest"
    out = "/proc/out.csv" if command != "make_lmdb" else "/proc/lmdb"
    arguments = [source, table, "--images", tmp_path / "images", "--out", out, "--outside"]
    code, shown = testlib.in_terminal(f"tools/{command}.py", *arguments)
    assert code == 1 and len(shown) == 1 and shown[0].startswith("error: ") and "/proc" in shown[0], shown


def test_labels_of_a_library_call_are_checked_too(table, tmp_path):
    with pytest.raises(SelfieError, match="--outside"):
        lmdb_writer.build(table, tmp_path / "images", tmp_path / "lmdb")
