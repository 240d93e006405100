"""A folder of anything and a list from anywhere: pictures by name and content, and everything else counted."""

from __future__ import annotations

import io
import os

import pytest

import picture_files as files
from selfie.common import names
from selfie.common.errors import SelfieError
from selfie.data import listing

BGR = files.smooth()
KINDS = {
    kind: files.saved(files.pil(BGR), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")
}
FILM = b"\0\0\0\x14ftypqt  \0\0\0\0qt  "
JPEG_XL = b"\xff\x0a" + bytes(50)


def write(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def test_pictures_are_found_by_suffix_or_else_by_content(tmp_path):
    named = ["a.jpg", "b.JPG", "c.jpe", "d.jfif", "e.heic", "f.HEIF", "g.avif", "h.jxl", "i.tif", "j.png.jpg", "k.bmp"]
    for name in named:
        (tmp_path / name).write_bytes(b"anything: it will be named when it is read")
    for kind in KINDS:  # without a suffix
        (tmp_path / f"z{kind}").write_bytes(KINDS[kind])
    for kind in ("JPEG", "PNG", "WEBP", "HEIC", "AVIF"):  # as browsers and programs leave them
        (tmp_path / f"z.{kind.lower()}_large~").write_bytes(KINDS[kind])
    (tmp_path / "zjxl").write_bytes(JPEG_XL)
    found = listing.below(tmp_path)
    assert found.pictures == sorted(os.listdir(tmp_path))
    assert found.left_out() == "" and not found.unreadable


def test_everything_else_is_counted_by_kind(tmp_path):
    write(
        tmp_path / "more",
        **{"1.mov": FILM, "2.MOV": FILM, "film": FILM, "a.txt": b"x", "b.txt": b"y", ".x.jpg": KINDS["JPEG"]},
    )
    write(
        tmp_path, **{"raw.dng": KINDS["TIFF"], "raw.nef": KINDS["TIFF"], "empty": b"", "README": b"text", "p.jpg": b""}
    )
    write(tmp_path / ".thumbnails", **{"a.jpg": b"", "b.jpg": b""})
    write(tmp_path, **{"odd.\x1b[2J": b"text"})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "gone").symlink_to("nowhere")
    found = listing.below(tmp_path)
    assert found.pictures == ["p.jpg"]
    assert found.left_out() == (
        '15 files not looked at: 3 QuickTime video, 2 TXT, 1 "\\u001b[2J", 1 DNG, 1 NEF, 1 cannot be read, 1 empty, '
        "1 hidden, 1 hidden folder, 1 link to a folder, 1 not a file, 1 without suffix"
    )
    assert sum(found.others.values()) == 15


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    """(Root can open any: so the system call is made to fail.)"""
    write(tmp_path / "closed", **{"a.jpg": b""})
    write(tmp_path, **{"b.jpg": b""})
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = listing.below(tmp_path)
    assert (found.pictures, found.unreadable) == (["b.jpg"], ["closed"])
    with pytest.raises(SelfieError, match="no such folder"):
        listing.below(tmp_path / "none")


NAMES = ["a.jpg", "Grüße.jpg", "with space.jpg"]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(NAMES).encode(),
        "\r\n".join([*NAMES, "", ""]).encode(),
        b"\xef\xbb\xbf" + "\n".join(NAMES).encode(),
        "\r\n".join(NAMES).encode("utf-16"),
        b"\xfe\xff" + "\n".join(NAMES).encode("utf-16-be"),
        "\n".join(NAMES).encode("cp1252"),
        "\0".join(NAMES).encode(),
    ],
    ids=["plain", "Windows", "byte order mark", "UTF-16", "UTF-16, big-endian", "Latin-1", "NUL"],
)
def test_lists_from_anywhere(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / name).touch()
    assert list(listing.names_in(io.BytesIO(content))) == NAMES


def test_odd_names_in_a_list(tmp_path, monkeypatch):
    """A name in Latin-1 on the disk, one that ends in a carriage return or holds a line feed, and what no file has."""
    monkeypatch.chdir(tmp_path)
    odd = [b"caf\xe9.jpg", b"return\r", "line\u2028separator".encode()]
    for name in odd:
        (tmp_path / os.fsdecode(name)).touch()
    assert list(listing.names_in(io.BytesIO(b"\n".join(odd)))) == [os.fsdecode(name) for name in odd]
    quoted = "\n".join(names.shown(os.fsdecode(name)) for name in odd).encode()
    assert list(listing.names_in(io.BytesIO(quoted))) == [os.fsdecode(name) for name in odd]
    assert list(listing.names_in(io.BytesIO(b"none\xe9\r\n\r\n'x'\n"))) == ["none\udce9", "'x'"]
    (tmp_path / "line\nfeed").touch()
    assert list(listing.names_in(io.BytesIO(b"line\nfeed\0a"))) == ["line\nfeed", "a"]
