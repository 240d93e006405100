#!/usr/bin/env python3
"""Put a GPU bundle together again and make it find this machine's CUDA libraries: python3 unpack.py [FOLDER].

Needs nothing but Python 3.9. Stands beside the parts, which are checked by their sha256. Can be run again: what is
unpacked stays, the CUDA libraries are looked for again. They may be wheels of this Python or of the first on the PATH,
a toolkit in /usr/local, known to the system's loader, or in a folder named by --cuda.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn, cast

HERE = Path(__file__).resolve().parent
CUDA_LIBRARY = re.compile(r"lib(cu(dart|blas|rand|dnn|fft|solver|sparse)|nccl|nv)[^/]*\.so[.0-9]*$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("selfie-gpu"), help="(default: %(default)s)")
    parser.add_argument("--cuda", type=Path, metavar="DIR", help="a folder that holds CUDA's and cuDNN's libraries")
    args = parser.parse_args()
    bundle = json.loads((HERE / "bundle.json").read_text())
    check_system(bundle["glibc"])
    stamp = args.folder / "bundle.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != bundle:
        parts = [check(HERE / part["name"], part["sha256"]) for part in bundle["parts"]]
        extract(parts, args.folder)
        stamp.write_text(json.dumps(bundle))
    link_cuda(args.folder, bundle["cuda"], args.cuda)
    prove(args.folder)
    python = args.folder / ".venv" / "bin" / "python"
    print(f"{args.folder} is ready. On a GPU:  {python} {args.folder / 'tools' / 'bench_gpu.py'}")


def die(message: str) -> NoReturn:
    """End with one line on stderr."""
    sys.exit(f"error: {message}")


def check_system(glibc: str) -> None:
    """End unless this is x86-64 with glibc `glibc`, with which the programs were linked, or a newer one."""
    machine = os.uname().machine
    if machine != "x86_64":
        die(f"this bundle is for x86-64, and this machine is {machine}")
    words = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    if not words or [*map(int, words[-1].split("."))] < [*map(int, glibc.split("."))]:
        die(
            f"this bundle needs glibc {glibc} or newer (Debian 12, Ubuntu 23.04), and this system has "
            f"{' '.join(words) or 'none'}"
        )


def check(part: Path, sha256: str) -> Path:
    """Return a part that is there and whole; end if it is not."""
    if not part.exists():
        die(f"{part.name} is missing: bring all parts into {HERE}")
    state = hashlib.sha256()
    with open(part, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    if state.hexdigest() != sha256:
        die(f"{part.name} is damaged (its sha256 differs): bring it again")
    return part


class Joined:
    """Files read as one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [open(file, "rb") for file in files]  # noqa: SIM115  read to their end, then the program ends

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; none at the end of the last file."""
        while self.files:
            if block := self.files[0].read(size):
                return block
            self.files.pop(0).close()
        return b""


def extract(parts: Sequence[Path], folder: Path) -> None:
    """Unpack the archive that the parts make up into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=cast("IO[bytes]", Joined(parts)), mode="r|xz") as archive:
        archive.extraction_filter = lambda member, _: member  # what comes has gone through `safe`
        for member in archive:
            try:
                archive.extract(safe(member, folder), folder)
            except tarfile.TarError as error:
                die(f"the bundle is not what gpu_bundle.py packs: {error}")


def safe(member: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo:
    """Return a member of an archive as it may be unpacked into `folder`; tarfile.TarError if it leads out of it.

    That is Python's own data filter where this Python has it (from 3.9.17, 3.10.12, 3.11.4 and 3.12 on).
    """
    if hasattr(tarfile, "data_filter"):
        return tarfile.data_filter(member, str(folder))
    top = os.path.realpath(folder)
    names = [member.name]
    if member.issym():
        names.append(os.path.join(os.path.dirname(member.name), member.linkname))
    elif member.islnk():
        names.append(member.linkname)
    elif not (member.isfile() or member.isdir()):
        raise tarfile.TarError(f"{member.name} is neither a file nor a folder nor a link")
    for name in names:
        place = os.path.realpath(os.path.join(top, name))
        if os.path.isabs(name) or os.path.commonpath([top, place]) != top:
            raise tarfile.TarError(f"{member.name} leads out of {folder}")
    return member


def link_cuda(folder: Path, wanted: Sequence[str], given: Path | None) -> None:
    """Link all CUDA libraries of this machine, or of the folder `given`, to where the bundle's programs look.

    Ends if one of `wanted` is in none of the places.
    """
    links = folder / "lib" / "cuda"
    links.mkdir(parents=True, exist_ok=True)
    for link in links.iterdir():
        link.unlink()
    for place in [given] if given else places():
        libraries = [path for path in Path(place).glob("lib*.so*") if CUDA_LIBRARY.search(path.name)]
        for path in libraries:
            link = links / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
    missing = [name for name in wanted if not (links / name).exists()]
    if missing:
        die(
            f"{folder} is unpacked, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not found on this "
            f"machine: pip install nvidia-cuda-runtime nvidia-cublas nvidia-curand nvidia-cudnn-cu13 (or --cuda DIR), "
            f"then run this again"
        )


def places() -> Iterator[str]:
    """Yield folders in which CUDA libraries may be, the likeliest first."""
    question = "import site, sys; print(*sys.path, site.getusersitepackages(), sep='\\n')"
    for python in (sys.executable, "python3"):
        try:
            answer = subprocess.run([python, "-c", question], capture_output=True, text=True).stdout
        except OSError:
            continue
        for entry in filter(None, answer.splitlines()):
            yield from sorted(glob.glob(f"{glob.escape(entry)}/nvidia/*/lib"))
    yield from filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    yield from sorted(glob.glob("/usr/local/cuda*/lib64"), reverse=True)
    try:
        cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    except OSError:
        cache = ""
    yield from dict.fromkeys(
        os.path.dirname(path) for path in re.findall(r"=> (\S+)", cache) if CUDA_LIBRARY.search(path)
    )


PROOF = """
import sys
sys.path.insert(0, "tools")
import numpy as np
from selfie.common import paths
from selfie.net import caffe_net
net = caffe_net.load(paths.PROTOTXT / "demo" / "deploy.prototxt")
net.blobs["data"].data[...] = 0
assert abs(net.forward()["prob"].sum() - 1) < 1e-5
print("a forward pass on the CPU works")
"""


def prove(folder: Path) -> None:
    """End unless the bundle's Python and Caffe start here, and compute."""
    try:
        done = subprocess.run([".venv/bin/python", "-c", PROOF], cwd=folder, capture_output=True, text=True)
    except OSError as error:
        die(f"{folder} is unpacked, but does not run here: {error}")
    if done.returncode:
        die(f"{folder} is unpacked, but does not run here: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    print(done.stdout.strip())


if __name__ == "__main__":
    main()
