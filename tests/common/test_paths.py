"""Files that are read: what is none, or no text, ends in one line and not in waiting."""

from __future__ import annotations

import os

import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.journal import Journal


def test_what_is_no_file_is_not_waited_for(tmp_path):
    """A named pipe gives nothing until somebody writes into it."""
    os.mkfifo(tmp_path / "pipe")
    for read in (paths.read_text, paths.read_json, paths.sha256, paths.existing_file, Journal):
        for name in ("pipe", "."):
            with pytest.raises(SelfieError, match="is not a file"):
                read(tmp_path / name)
    with pytest.raises(SelfieError, match="is not a file"):
        paths.existing(tmp_path / "pipe")
    assert paths.existing(tmp_path) == tmp_path
    with pytest.raises(SelfieError, match="no such solver"):
        paths.read_text(tmp_path / "missing", "solver")


def test_a_link_that_leads_to_itself_is_a_name_as_others(tmp_path):
    """To Python 3.12 Path.resolve raises RuntimeError for it, which no user can read."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("folder")
    assert paths.resolved(tmp_path / "loop") == tmp_path.resolve() / "loop"
    assert paths.resolved(tmp_path / "link" / "..") == tmp_path.resolve()
    with pytest.raises(SelfieError, match="no such file"):
        paths.existing(tmp_path / "loop")


@pytest.mark.parametrize("command", ["label", "filter_faces", "import_posts"])
def test_commands_survive_such_links(tmp_path, command):
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    source = [tmp_path / "loop.csv"] if command == "import_posts" else ["--manifest", tmp_path / "loop.csv"]
    images = ["--images", tmp_path] if command == "filter_faces" else []
    result = testlib.command(f"tools/{command}.py", *source, *images, "--out", tmp_path / "out.csv")
    last = result.stderr.splitlines()[-1]
    assert result.returncode == 1 and "Traceback" not in result.stderr and last.startswith("error: "), result.stderr
    assert "loop.csv" in last


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "text").write_bytes("größer".encode())
    assert paths.read_text(tmp_path / "text") == "größer"
    (tmp_path / "text").write_bytes("größer".encode("latin-1"))
    with pytest.raises(SelfieError, match="damaged, or no text file"):
        paths.read_text(tmp_path / "text")


def test_half_a_character_in_json_is_damage(tmp_path):
    """It could be shown on no page, and be written into no table."""
    paths.write_json(tmp_path / "whole.json", {"a": ["ä 😀", {"b": "\\ud800"}]})
    assert paths.read_json(tmp_path / "whole.json") == {"a": ["ä 😀", {"b": "\\ud800"}]}
    (tmp_path / "escaped.json").write_text(r'{"a": "\u00e4 \ud83d\ude00"}')
    assert paths.read_json(tmp_path / "escaped.json") == {"a": "ä 😀"}
    for half in (r'{"a": [{"b": "\ud800"}]}', r'{"\udfff": 1}'):
        (tmp_path / "half.json").write_text(half)
        with pytest.raises(SelfieError, match="half of a character"):
            paths.read_json(tmp_path / "half.json")
