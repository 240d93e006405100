"""Fixtures that every test module may ask for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import rules
import testlib
import workers
from selfie.common import paths
from selfie.net import pycaffe
from selfie.runs import evaluate, train
from selfie.runs.run_folder import Run

pytest_plugins = ["pytester"]


def pytest_configure(config) -> None:
    for plugin in (rules, workers):
        config.pluginmanager.register(plugin)


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
            kind = "weights" if name.endswith((".net", ".caffemodel")) else "figures"
            testlib.skip(kind, f"{name} is not here: set SELFIE_MIRROR to a folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_lmdb(tmp_path_factory) -> Path:
    """Finished databases train, val and test of bright (good) and dark (bad) pictures; their files in ../images.

    All tests share them: a test that changes anything there fails.
    """
    folder = tmp_path_factory.mktemp("tiny")
    lmdb = testlib.databases(folder)
    rules.share(folder)
    return lmdb


@pytest.fixture(scope="session")
def tiny_run(tiny_lmdb, tmp_path_factory) -> Run:
    """A finished run of the demo net on tiny_lmdb, trained by real Caffe in seconds. Shared, as tiny_lmdb is."""
    run = train.train(testlib.job(tiny_lmdb, tmp_path_factory.mktemp("run") / "tiny", max_iter=30))
    rules.share(run.folder)
    return run


@pytest.fixture(scope="session")
def heads_run(tiny_run, tiny_lmdb, tmp_path_factory) -> Run:
    """A finished run of heads on the net of tiny_run. Of its blobs only pool3 can be pooled in windows. Shared, too."""
    readout = replace(testlib.READOUT, blobs=("pool3",))
    run = train.train(testlib.heads_job(tiny_run, tiny_lmdb, tmp_path_factory.mktemp("heads") / "run", readout))
    evaluate.validation_scores(run)
    rules.share(run.folder)
    return run


@pytest.fixture
def own_run(tiny_run, tmp_path) -> Run:
    """A copy of tiny_run in tmp_path, for tests that write into a run folder."""
    folder = shutil.copytree(tiny_run.folder, tmp_path / "own")
    return Run(folder, json.loads(json.dumps(tiny_run.info)))


@pytest.fixture(scope="session")
def skimage_data() -> Path:
    """The folder of pictures inside scikit-image's wheel: real photographs that need no download."""
    import skimage

    return Path(skimage.__file__).parent / "data"
