"""CUDA's libraries, which are wheels of their own, for the module that is linked with them.

Those beside this package, and those of a build, it finds by itself. They may also be elsewhere on sys.path: where this
package has a folder of its own, or a virtual environment takes its system's packages.
"""

import ctypes
import glob
import importlib.metadata
import os
import re
import shlex
import sys

MISSING = re.compile(r"(lib(?:cu|nccl|nv)\S+\.so\.\d+): cannot open shared object file")


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
            opened.add(name)
            ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
    # cuDNN 9 compiles some of its kernels when they are asked for, with a library that it does not find among wheels.
    compiler = find("libnvrtc.so.13")
    if compiler:
        ctypes.CDLL(compiler)


def find(name):
    """Look for a library among NVIDIA's wheels on sys.path; its file, or None."""
    for folder in sys.path:
        for file in sorted(glob.glob(os.path.join(glob.escape(folder or "."), "nvidia", "*", "lib", name))):
            return file
    return None


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
