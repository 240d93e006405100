"""Fixtures that every test module may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

import testlib
from selfie.common import paths
from selfie.net import pycaffe
from selfie.runs import train
from selfie.runs.run_folder import Run


def pytest_terminal_summary(terminalreporter) -> None:
    """What this machine's Caffe runs on, below the results."""
    if (paths.BUILD / "caffe").exists():
        terminalreporter.write_line(f"OpenBLAS kernel that Caffe runs: {pycaffe.caffe().blas_kernel()}")


@pytest.fixture(scope="session")
def mirror():
    """find(name): the path of a file of the local mirror (published figures, small weights); skips when absent."""

    def find(name: str) -> Path:
        path = paths.mirror(name)
        if path is None:
            pytest.skip(f"{name} is not here: set SELFIE_MIRROR to a folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_lmdb(tmp_path_factory) -> Path:
    """Finished databases train, val and test of bright (good) and dark (bad) pictures; their files in ../images."""
    return testlib.databases(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_run(tiny_lmdb, tmp_path_factory) -> Run:
    """A finished run of the demo net on tiny_lmdb, trained by real Caffe in seconds."""
    return train.train(testlib.job(tiny_lmdb, tmp_path_factory.mktemp("run") / "tiny", max_iter=30))


@pytest.fixture(scope="session")
def skimage_data() -> Path:
    """The folder of pictures inside scikit-image's wheel: real photographs that need no download."""
    import skimage

    return Path(skimage.__file__).parent / "data"
