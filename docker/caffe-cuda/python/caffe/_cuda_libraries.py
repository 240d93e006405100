"""CUDA's libraries, which are wheels of their own, for the module that is linked with them.

Those beside this package, and those of a build, it finds by itself. They may also be elsewhere on sys.path: where this
package has a folder of its own, or a virtual environment takes its system's packages. Or they are no wheels at all, but
a toolkit in a place that the dynamic linker does not look in. Run as a program, this prints the folders, for the
LD_LIBRARY_PATH of programs that are linked with CUDA.
"""

import ctypes
import glob
import importlib.metadata
import os
import re
import shlex
import sys

MISSING = re.compile(r"(lib(?:cu|nccl|nv)\S*\.so\.\d+): cannot open shared object file")
OF_WHEELS = os.path.join("nvidia", "*", "lib")
OF_TOOLKITS = ("lib64", "lib", os.path.join("targets", "x86_64-linux", "lib"))
COMPILER = "libnvrtc.so.13"
NAMES = ("libcudart.so.13", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9", "libnccl.so.2", COMPILER)


def load():
    """Import caffe._caffe; ImportError says in one line what to install if one of CUDA's libraries is missing."""
    opened = set()
    while True:
        try:
            from . import _caffe  # noqa: F401

            break
        except ImportError as error:
            missing = MISSING.match(str(error))
            name = missing and missing[1]
            file = find(name) if name else None
            if file is None or name in opened:
                advice = to_install() if name else []
                if not advice:
                    raise
                raise ImportError(
                    f"this Caffe is for GPUs, and CUDA's {name} is not here: pip install {shlex.join(advice)}"
                ) from None
            open_library(name, file, opened)
    load_compiler()


def load_compiler():
    """Load what cuDNN 9 compiles some of its kernels with, when they are asked for.

    It does not find the compiler among wheels, nor the compiler its other half, which is beside it.
    """
    compiler = find(COMPILER) or beside_runtime(COMPILER)
    if compiler:
        for half in glob.glob(os.path.join(glob.escape(os.path.dirname(compiler)), "libnvrtc-builtins.so.13.[0-9]*")):
            ctypes.CDLL(half)
        ctypes.CDLL(compiler)


def beside_runtime(name):
    """Look for a library beside the CUDA runtime that was loaded, as in a build; its file, or None."""
    with open("/proc/self/maps") as maps:
        runtimes = re.findall(r"(/.*)/libcudart\.so", maps.read())
    return next((file for file in (os.path.join(folder, name) for folder in runtimes) if os.path.exists(file)), None)


def open_library(name, file, opened):
    """Load a library, and before it those that it is linked with and the linker does not find. OSError if it cannot."""
    opened.add(name)
    while True:
        try:
            ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
            return
        except OSError as error:
            missing = MISSING.match(str(error))
            needed = missing and missing[1]
            place = find(needed) if needed and needed not in opened else None
            if place is None:
                raise
            open_library(needed, place, opened)


def find(name):
    """Look for a library among NVIDIA's wheels on sys.path, then among toolkits; its file, or None."""
    wheels = [os.path.join(glob.escape(folder or "."), OF_WHEELS) for folder in sys.path]
    for folder in (*wheels, *toolkits()):
        for file in sorted(glob.glob(os.path.join(folder, name))):
            return file
    return None


def toolkits():
    """List folders in which a CUDA toolkit's libraries may be."""
    roots = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda", sys.prefix]
    roots += sorted(glob.glob("/usr/local/cuda-*"), reverse=True)
    return [os.path.join(glob.escape(root), place) for root in roots if root for place in OF_TOOLKITS]


def folders():
    """List the folders of CUDA's libraries that are found, in wheels or toolkits."""
    return list(dict.fromkeys(os.path.dirname(file) for file in map(find, NAMES) if file))


def to_install():
    """List which of NVIDIA's wheels this package asks for and cannot find; none for one that was built here."""
    try:
        wanted = importlib.metadata.requires("caffe") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [text for text in wanted if text.startswith("nvidia-") and not is_installed(re.split("[^a-z0-9-]", text)[0])]


def is_installed(name):
    """Tell whether a package is installed, whatever its version."""
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    print(os.pathsep.join(folders()))
