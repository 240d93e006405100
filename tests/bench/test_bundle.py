"""Bundles for GPU machines: parts are whole and checked, and what is packed is what is needed.

The whole way, packing a build and running it in a bare Debian, takes too long for a test; docs/gpu.md says when that
was done.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile

import pytest

from selfie.bench import bundle, libraries, unpack
from selfie.bench import parts as bundle_parts
from selfie.common import paths
from selfie.net import pycaffe

CUDA = (
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcudnn_ops.so.9",
    "libcurand.so.10",
    "libnccl.so.2",
    "libnvrtc.so.13",
)


def test_cuda_libraries_are_recognised():
    """curl's begin alike; the driver's own is not ours to look for."""
    assert all(map(unpack.CUDA_LIBRARY.search, CUDA))
    assert not any(map(unpack.CUDA_LIBRARY.search, ("libcurl.so.4", "libcuda.so.1", "libcups.so.2", "libcudart.txt")))


def parts(folder, size):
    """A small bundle in folder/parts, of a tree that holds a link and 100,000 incompressible bytes."""
    tree = folder / "tree"
    (tree / "lib").mkdir(parents=True)
    blocks = (hashlib.sha256(str(number).encode()).digest() for number in range(3125))
    (tree / "lib" / "noise").write_bytes(b"".join(blocks))
    (tree / "lib" / "link").symlink_to("noise")
    target = folder / "parts"
    target.mkdir()
    files = bundle_parts.split(tree, target, size, 0)
    (target / "bundle.json").write_text(
        json.dumps(
            {"parts": [{"name": part.name, "sha256": paths.sha256(part)} for part in files], "cuda": [], "glibc": "2.1"}
        )
    )
    shutil.copy(unpack.__file__, target)
    return files


@pytest.mark.parametrize("size", [1000, 30_000, 10**6])
def test_parts_become_the_tree_again(tmp_path, size):
    """No part is larger than asked for; together they are the archive."""
    files = parts(tmp_path, size)
    assert all(part.stat().st_size <= size for part in files) and len(files) == -(
        -sum(part.stat().st_size for part in files) // size
    )
    unpack.extract(files, tmp_path / "out")
    assert (tmp_path / "out/lib/noise").read_bytes() == (tmp_path / "tree/lib/noise").read_bytes()
    assert (tmp_path / "out/lib/link").readlink().name == "noise"


def unpacked(folder, *arguments):
    """Run unpack.py there with a Python that has no packages."""
    return subprocess.run(
        [sys.executable, "-S", "-E", folder / "parts/unpack.py", folder / "out", *arguments],
        capture_output=True,
        text=True,
    )


def test_parts_that_are_missing_or_damaged_are_named(tmp_path):
    """In one line, before anything is written."""
    first, second, *_ = parts(tmp_path, 30_000)
    second.write_bytes(second.read_bytes()[:-1])
    result = unpacked(tmp_path)
    assert result.stderr == "error: selfie-gpu.01 is damaged (its sha256 differs): bring it again\n"
    assert result.returncode == 1
    first.unlink()
    assert unpacked(tmp_path).stderr.startswith("error: selfie-gpu.00 is missing")
    assert not (tmp_path / "out").exists()


def test_a_system_that_is_too_old_or_without_cuda_is_refused(tmp_path):
    """The glibc before unpacking; CUDA's libraries by name, and how to get them. Found ones are linked."""
    parts(tmp_path, 30_000)
    description = json.loads((tmp_path / "parts/bundle.json").read_text())
    for change, words in (
        ({"glibc": "99.1"}, "needs glibc 99.1 or newer"),
        ({"cuda": ["libcudart.so.99"]}, "libcudart.so.99 is not found"),
    ):
        (tmp_path / "parts/bundle.json").write_text(json.dumps({**description, **change}))
        result = unpacked(tmp_path)
        assert result.returncode == 1 and words in result.stderr and result.stderr.count("\n") == 1
    for name in ("libcudart.so.99", "libcudnn_ops.so.9", "libfoo.so"):
        (tmp_path / name).touch()
    result = unpacked(tmp_path, "--cuda", tmp_path)
    assert "does not run here" in result.stderr  # this tree has no Python
    assert {path.name for path in (tmp_path / "out/lib/cuda").iterdir()} == {"libcudart.so.99", "libcudnn_ops.so.9"}


def test_what_is_packed_is_what_caffe_loads():
    """Debian's libraries, directly or not; not the C library, nor Caffe's own."""
    debians, wanted = libraries.needed([pycaffe.binary()])
    names = {name.partition(".so")[0] for name in debians}  # their versions differ from system to system
    assert {"libprotobuf", "libopenblas", "libglog", "libhdf5_serial"} <= names
    assert not {"libc", "libstdc++", "libcaffe"} & names
    assert all(path.is_file() and not path.is_symlink() for path in debians.values())
    assert all(map(unpack.CUDA_LIBRARY.search, wanted))


def test_packages_come_with_what_they_require():
    """Here, not on another system: colorama is for Windows."""
    required = bundle.requirements(("matplotlib", "tqdm", "polars"))
    assert {"contourpy", "kiwisolver", "python-dateutil", "polars-runtime-32"} <= required
    assert "colorama" not in required


def test_a_missing_tool_is_one_line(tmp_path, monkeypatch):
    """And no folder is left."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(bundle.SelfieError, match="patchelf is missing"):
        bundle.pack(pycaffe.CAFFE, tmp_path / "out", 1 << 20, 0)
    assert not any(tmp_path.iterdir())


def test_the_archive_holds_nothing_absolute(tmp_path):
    """So it unpacks where it stands."""
    files = parts(tmp_path, 10**6)
    with tarfile.open(files[0]) as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == {"lib"}


@pytest.mark.parametrize("has_filter", [True, False])
@pytest.mark.parametrize("kind", ["up", "absolute", "link", "hard link", "through a link", "device", "fine"])
def test_nothing_is_unpacked_outside(tmp_path, monkeypatch, kind, has_filter):
    """Also by a Python that is too old to have a filter for it."""
    if not has_filter:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    names = {"up": "../evil", "absolute": str(tmp_path / "evil"), "fine": "a/b"}
    member = tarfile.TarInfo(names.get(kind, "link"))
    if kind in ("link", "through a link"):
        member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
    elif kind == "hard link":
        member.type, member.linkname = tarfile.LNKTYPE, "../victim"
    elif kind == "device":
        member.type = tarfile.CHRTYPE
    (tmp_path / "victim").write_text("victim")
    with tarfile.open(tmp_path / "part", "w:xz") as archive:
        archive.addfile(member, io.BytesIO())
        if kind == "through a link":
            archive.addfile(tarfile.TarInfo("link/evil"), io.BytesIO())
    out = tmp_path / "out"
    if kind == "fine":
        unpack.extract([tmp_path / "part"], out)
        assert (out / "a" / "b").exists()
        return
    with contextlib.suppress(SystemExit):
        unpack.extract([tmp_path / "part"], out)
    assert not (tmp_path / "evil").exists()
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in out.iterdir() if path.is_file())
