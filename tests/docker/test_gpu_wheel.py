"""Caffe for GPUs as a wheel: CUDA's libraries stay out of it, and are found, or named, where it is installed.

What has to find them is tried with a module and libraries of its own, compiled here, since CUDA's take gigabytes.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import make_wheel
import pytest

import testlib
from selfie.common import paths

SMALL = 60e6  # bytes: what can be carried to a machine
MODULE = """
#include <Python.h>
extern int number();
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_caffe", 0, -1};
PyMODINIT_FUNC PyInit__caffe() { PyObject* self = PyModule_Create(&module);
  PyModule_AddIntConstant(self, "number", number()); return self; }
"""
PROGRAM = """
#include <stdio.h>
extern int number();
int main() { printf("%d\\n", number()); return 0; }
"""
METADATA = """Metadata-Version: 2.1
Name: caffe
Version: 1.0.0
Requires-Dist: numpy>=1.24
Requires-Dist: nvidia-nonesuch-cu13<2,>=1
"""
LIBRARY = "libcutest.so.13"
SAY = "import caffe._caffe; print(caffe._caffe.number)"


def compiler() -> list[str]:
    """The C compiler with what it takes for a module of this Python."""
    program, headers = shutil.which("cc"), sysconfig.get_path("include")
    if program is None or not Path(headers, "Python.h").exists():
        testlib.skip("built-here", "no C compiler, or no headers of this Python")
    return [program, f"-I{headers}"]


def compiled(code: str, target: Path, *options: object) -> Path:
    """Compile C."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".c").write_text(code)
    command = [*compiler(), target.with_suffix(".c"), "-o", target, *options]
    subprocess.run([*map(str, command)], check=True)
    return target


def library(target: Path, *options: object, code: str = "int number() { return 7; }") -> Path:
    """Compile a library that knows its name."""
    return compiled(code, target, "-shared", "-fPIC", f"-Wl,-soname,{target.name}", *options)


def package(folder: Path, *libraries: object) -> Path:
    """Make a package caffe of a module that is linked with libraries."""
    compiled(MODULE, folder / "_caffe.so", "-shared", "-fPIC", *libraries)
    shutil.copy(paths.ROOT / "docker" / "caffe-cuda" / "python" / "caffe" / "_cuda_libraries.py", folder)
    (folder / "__init__.py").write_text("from . import _cuda_libraries\n_cuda_libraries.load()\n")
    return folder


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder with a package caffe whose library is in elsewhere/nvidia/cu13/lib."""
    return package(
        tmp_path / "site" / "caffe", library(tmp_path / "elsewhere" / "nvidia" / "cu13" / "lib" / LIBRARY)
    ).parent


def imported(*places: Path, code: str = SAY) -> subprocess.CompletedProcess:
    """Import caffe with these folders in the path, and print what its library says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def install(site: Path) -> None:
    """Leave the notes of a wheel, which asks for one of NVIDIA's."""
    (site / "caffe-1.0.0.dist-info").mkdir()
    (site / "caffe-1.0.0.dist-info" / "METADATA").write_text(METADATA)


def test_cudas_libraries_are_found_anywhere_in_the_path(site):
    """Of a wheel or of a build."""
    result = imported(site, site.parent / "elsewhere")
    assert result.returncode == 0 and result.stdout == "7\n", result.stderr
    install(site)
    assert imported(site, site.parent / "elsewhere").stdout == "7\n"


def test_cudnns_compiler_is_loaded_where_it_is(site):
    """cuDNN asks the linker for it by its name alone."""
    place = site.parent / "elsewhere"
    library(place / "nvidia" / "cu13" / "lib" / "libnvrtc.so.13", code="int compile() { return 0; }")
    code = "import caffe, ctypes; print(ctypes.CDLL('libnvrtc.so.13').compile())"
    assert imported(site, place, code=code).stdout == "0\n"


def test_the_compilers_other_half_is_loaded_too(site):
    """The compiler, which does not look beside itself, asks for it by a name that has the whole version."""
    place = site.parent / "elsewhere" / "nvidia" / "cu13" / "lib"
    library(place / "libnvrtc.so.13", code="int compile() { return 0; }")
    library(place / "libnvrtc-builtins.so.13.4", code="int half() { return 4; }")
    library(place / "libnvrtc-builtins.alt.so.13.4", code="int half() { return 5; }")
    code = "import caffe, ctypes; print(ctypes.CDLL('libnvrtc-builtins.so.13.4').half())"
    assert imported(site, site.parent / "elsewhere", code=code).stdout == "4\n"


@pytest.mark.parametrize("name", ["libnccl.so.2", "libcutest.so.13"])
def test_all_of_nvidias_names_are_known(name, tmp_path):
    """NCCL's has nothing between its name and its suffix."""
    made = library(tmp_path / "elsewhere" / "nvidia" / "nccl" / "lib" / name)
    result = imported(package(tmp_path / "site" / "caffe", made).parent, tmp_path / "elsewhere")
    assert result.stdout == "7\n", result.stderr


@pytest.mark.parametrize("place", ["lib64", "targets/x86_64-linux/lib"])
def test_a_toolkit_will_do(tmp_path, monkeypatch, place):
    """In $CUDA_HOME, with a library behind the one that is linked, which the linker does not find either."""
    folder = tmp_path / "cuda" / place
    behind = library(folder / "libcublasLt.so.13", code="int more() { return 2; }")
    linked = ("-Wl,--no-as-needed", behind)
    first = library(folder / "libcublas.so.13", *linked, code="extern int more(); int number() { return 5 + more(); }")
    site = package(tmp_path / "site" / "caffe", f"-Wl,-rpath-link,{folder}", first).parent
    assert "libcublas.so.13: cannot open" in imported(site).stderr
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    result = imported(site)
    assert result.stdout == "7\n", result.stderr
    script = [sys.executable, site / "caffe" / "_cuda_libraries.py"]
    told = subprocess.run(script, capture_output=True, text=True).stdout.strip()
    assert str(folder) in told.split(os.pathsep)


def test_where_one_is_missing_a_line_says_what_to_install(site):
    """Those of NVIDIA's wheels that are not there, in pip's words; what is no wheel says what the loader says."""
    assert f"ImportError: {LIBRARY}: cannot open" in imported(site).stderr.splitlines()[-1]
    install(site)
    result = imported(site)
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("ImportError"))
    assert LIBRARY in line and line.endswith("pip install 'nvidia-nonesuch-cu13<2,>=1'")


def test_a_module_that_is_broken_otherwise_says_so(site):
    """Nothing is searched or advised then."""
    install(site)
    (site / "caffe" / "_caffe.so").write_bytes(b"no library" * 100)
    assert "invalid ELF header" in imported(site).stderr.splitlines()[-1]
    (site / "caffe" / "_caffe.so").unlink()
    assert "cannot import name '_caffe'" in imported(site).stderr.splitlines()[-1]


def test_cudas_libraries_are_known_by_name():
    """And nobody else's; those of another toolkit cannot be asked for."""
    names = ["libcudart.so.13", "libcublasLt.so.13", "libcudnn.so.9", "libcurl.so.4", "libcurand.so.10", "libc.so.6"]
    found = make_wheel.cuda_libraries(Path("/lib", name) for name in names)
    assert found == ["libcublasLt.so.13", "libcudart.so.13", "libcudnn.so.9", "libcurand.so.10"]
    assert make_wheel.cuda_libraries([Path("/lib/libc.so.6")]) == []
    with pytest.raises(make_wheel.WheelError, match="CUDA=13"):
        make_wheel.cuda_libraries([Path("/lib/libcudart.so.11.0")])


def test_a_wheel_is_made_without_cudas_libraries_and_finds_them_beside_itself(tmp_path, monkeypatch):
    """The module and upstream's tests in it, by their places; all other libraries are inside."""
    cuda = library(tmp_path / "cuda" / "libcudart.so.13")
    third = library(tmp_path / "lib" / "libthird.so.1", code="int third() { return 0; }")
    other = library(
        tmp_path / "lib" / "libother.so.1",
        *("-Wl,--no-as-needed", cuda, third),
        code="extern int number(), third(); int more() { return number() + third(); }",
    )
    with_both = ("-Wl,--no-as-needed", f"-Wl,-rpath-link,{other.parent}", other, cuda)
    program = compiled(PROGRAM, tmp_path / "test", *with_both)
    source, licenses = tmp_path / "source", tmp_path / "licenses"
    for name in ("src/caffe/test/test_data", "examples/images"):
        (source / name).mkdir(parents=True)
        (source / name / "data").touch()
    (source / "LICENSE").touch()
    licenses.mkdir()
    for name in ("other", "third"):
        (licenses / f"{name}.txt").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{cuda.parent}:{other.parent}")
    made = ("--source", source, "--licenses", licenses, "--tests", program, "--out", tmp_path / "dist")
    whole = package(tmp_path / "python" / "caffe", *with_both)
    assert make_wheel.main([str(whole), *map(str, made)]) == 0
    monkeypatch.delenv("LD_LIBRARY_PATH")
    (wheel,) = (tmp_path / "dist").iterdir()
    assert ".cu13.tests-" in wheel.name
    new = tmp_path / "new"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", new, wheel]
    subprocess.run([*map(str, pip), "--disable-pip-version-check"], check=True)
    inside = sorted(path.name.partition("-")[0] for path in (new / "caffe.libs").iterdir())
    assert inside == ["libother", "libthird"]
    shutil.copytree(cuda.parent, new / "nvidia" / "cu13" / "lib")
    tests = new / "caffe" / "tests"
    assert subprocess.run([tests / "test.testbin"], capture_output=True, text=True).stdout == "7\n"
    assert (tests / "src" / "caffe" / "test" / "test_data" / "data").exists()
    assert imported(new).stdout == "7\n"
    (metadata,) = new.glob("*.dist-info/METADATA")
    assert make_wheel.CUDA_REQUIRES["libcudart.so.13"][0] in metadata.read_text()
    assert "nccl" not in metadata.read_text()


# --- the wheel in dist/ ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The newest wheel for GPUs in dist/."""
    found = [*(paths.ROOT / "dist").glob("caffe-*.cu13-*.whl")]
    if not found:
        testlib.skip("wheel", "none for GPUs in dist/")
    return max(found, key=lambda path: path.stat().st_mtime)


def test_the_wheel_leaves_cuda_to_nvidias_wheels(wheel, tmp_path):
    """It has none of its libraries, asks for the wheels that do, and its module looks beside the package."""
    assert wheel.stat().st_size <= SMALL
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    inside = [path.name for path in (tmp_path / "caffe.libs").iterdir()]
    assert inside and not any(re.match("lib(cu|nccl|nv)", name) for name in inside)
    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    asked = email.message_from_bytes(metadata.read_bytes()).get_all("Requires-Dist")
    assert {wheel for wheels in make_wheel.CUDA_REQUIRES.values() for wheel in wheels} <= set(asked)
    dump = subprocess.run(
        ["objdump", "-p", tmp_path / "caffe" / "_caffe.so"], capture_output=True, text=True, check=True
    ).stdout
    assert set(make_wheel.CUDA_REQUIRES) <= set(re.findall(r"NEEDED +(\S+)", dump))
    (runpath,) = re.findall(r"(?:RUNPATH|RPATH) +(\S+)", dump)
    wanted = {f"$ORIGIN/../{place}" for place in make_wheel.CUDA_PLACES} | {"$ORIGIN/../caffe.libs"}
    assert set(runpath.split(":")) == wanted
