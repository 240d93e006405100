"""Libraries of a bundle: which ones its binaries need, and how they find them wherever the bundle stands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from selfie.bench.unpack import CUDA_LIBRARY
from selfie.common.errors import SelfieError

PLATFORM = re.compile(r"ld-linux-x86-64|lib(c|m|pthread|dl|rt|util|resolv|stdc\+\+|gcc_s)\.so")
CUDA_FOLDER = "lib/cuda"  # unpack.py puts links there


def binaries(root: Path) -> list[Path]:
    """List programs and libraries below a folder: what begins as ELF files do."""
    files = []
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    files.append(path)
    return files


def needed(programs: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """List what binaries load, directly or not: (Debian's libraries, name -> file; names of CUDA's).

    Left out are those that a wheel brings itself, and PLATFORM's. SelfieError if one is not found here.
    """
    debians: dict[str, Path] = {}
    wanted: set[str] = set()
    for binary in programs:
        listing = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
        for name, path in re.findall(r"^\s*(\S+) => (.*?)(?: \(0x[0-9a-f]+\))?$", listing, re.MULTILINE):
            if CUDA_LIBRARY.search(name):
                wanted.add(name)
            elif path == "not found":
                raise SelfieError(f"{binary.name} needs {name}, which is not here")
            elif not PLATFORM.match(name) and Path(path).is_absolute() and not _is_ours(Path(path)):
                debians[name] = Path(path).resolve()
    return debians, sorted(wanted)


def _is_ours(path: Path) -> bool:
    """Tell whether a library is of a wheel or of the build, not of the system."""
    return "dist-packages" in path.parts or path.name.startswith("libcaffe.so")


def make_movable(binary: Path, root: Path, patchelf: str) -> None:
    """Let a binary look for libraries in lib and lib/cuda, wherever the bundle stands; a wheel's own places first."""
    up = os.path.relpath(root, binary.parent)
    own = ["$ORIGIN"] if binary.parent == root / "lib" else []
    own_rpath = subprocess.run([patchelf, "--print-rpath", binary], capture_output=True, text=True).stdout.strip()
    if "dist-packages" in binary.parts and own_rpath:
        return  # it knows its wheel's libraries, and these are self-contained
    if binary.is_relative_to(root / "build"):
        own = [f"$ORIGIN/{os.path.relpath(next(root.glob('build/*/install/lib')), binary.parent)}"]
    places = [*own, f"$ORIGIN/{up}/lib", f"$ORIGIN/{up}/{CUDA_FOLDER}"]
    subprocess.run([patchelf, "--set-rpath", ":".join(places), binary], check=True, capture_output=True)
