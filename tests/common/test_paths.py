"""Files that are read: what is none, or no text, ends in one line and not in waiting."""

from __future__ import annotations

import os

import pytest

from selfie.common import paths
from selfie.common.errors import SelfieError


def test_what_is_no_file_is_not_waited_for(tmp_path):
    """A named pipe gives nothing until somebody writes into it."""
    os.mkfifo(tmp_path / "pipe")
    for read in (paths.read_text, paths.read_json, paths.sha256):
        for name in ("pipe", "."):
            with pytest.raises(SelfieError, match="is not a file"):
                read(tmp_path / name)
    with pytest.raises(SelfieError, match="no such solver"):
        paths.read_text(tmp_path / "missing", "solver")


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "text").write_bytes("größer".encode())
    assert paths.read_text(tmp_path / "text") == "größer"
    (tmp_path / "text").write_bytes("größer".encode("latin-1"))
    with pytest.raises(SelfieError, match="damaged, or no text file"):
        paths.read_text(tmp_path / "text")
