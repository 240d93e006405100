"""What holds for every test: skips have a kind, what tests share stays as it is, the checkout too; timing is retried.

A plugin of pytest that conftest.py registers, with workers.py. Their own tests are in test_rules.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import workers

ROOT = Path(__file__).resolve().parents[1]

# What a machine may lack -> what it is. Each skip names one; those in SELFIE_REQUIRE must not be lacking.
KINDS = {
    "avx": "a CPU of which it is known which of OpenBLAS's kernels are its best",
    "built-here": "a Caffe that was built here, not a wheel of it",
    "chromium": "the browser that pages are looked at in",
    "cluster": "Dask and what its tests need (requirements-cluster.txt, requirements-dev.txt)",
    "convert": "h5py and safetensors (requirements-convert.txt)",
    "cpu-build": "a Caffe for CPUs",
    "cuda": "a CUDA toolkit, fetched by make caffe CUDA=13 or 11.8",
    "debian": "dpkg and objdump",
    "figures": "the figures that the post published, in SELFIE_MIRROR",
    "gather": "what gathers posts: Mastodon.py and others (requirements-gather.txt)",
    "git": "git, and a checkout",
    "gpu-build": "a Caffe for GPUs",
    "history": "git, and when the patches of Caffe were changed: a checkout that is no shallow clone",
    "no-driver": "a machine without NVIDIA's driver",
    "no-nccl": "a Caffe without NCCL",
    "opentsne": "openTSNE (requirements-map.txt)",
    "root": "leave to mount a small file system",
    "serve": "what the page is served with (requirements-serve.txt; its tests: requirements-dev.txt)",
    "shellcheck": "the linter of shell scripts",
    "torch": "PyTorch (requirements-bench.txt)",
    "weights": "small pretrained weights, in SELFIE_MIRROR",
    "wheel": "a wheel of Caffe for this Python in dist/, of docker/build_wheels.sh or make wheel",
    "xdist": "pytest-xdist, which runs tests in several processes (requirements-dev.txt)",
}
REQUIRE = "SELFIE_REQUIRE"  # kinds, separated by spaces: a skip for want of one is a failure
TRIES = 3  # of a test marked timing: a busy machine delays one, not three
CACHES = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache"}
LOCKS = {".lock", "lock.mdb"}  # build_caffe.sh's and LMDB's: whoever reads takes them
FETCHED = ROOT / "weights"  # what SELFIE_MIRROR has is copied there, verified, at its first use by anybody
LIBRARY_WITHOUT_CAFFE = {"common", "data", "gather"}  # folders of tests: these packages cannot import selfie.net

MARKERS = (
    "caffe: needs a built Caffe. All tests have it but those of packages that cannot import it, tests/common, "
    "tests/data and tests/gather; there a test is marked if it asks Caffe all the same",
    f"timing: compares times, so it may fail on a busy machine; no other test runs beside it, and it is tried {TRIES} "
    "times",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if unknown := sorted(required() - set(KINDS)):
        raise pytest.UsageError(f"{REQUIRE}: no such kind: {' '.join(unknown)}; there are {' '.join(KINDS)}")


# --- skips -----------------------------------------------------------------------------------------------------------


def required() -> set[str]:
    """Return the kinds that must not be lacking here."""
    return set(os.environ.get(REQUIRE, "").split())


def fault_of(reason: str) -> str:
    """Say what is wrong with a skip, by its reason; "" if nothing is."""
    kind = re.match(r"(?:Skipped: )?([\w-]+): ", reason)
    if not kind or kind[1] not in KINDS:
        return f"a skip that names no kind: use testlib.skip ({reason})"
    if kind[1] in required():
        return f"{REQUIRE} has {kind[1]}, which is lacking here: {reason}"
    return ""


def _held_to_rules(report):
    """Turn a report of a faulty skip into one of a failure."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if fault := fault_of(reason):
            report.outcome, report.longrepr = "failed", fault
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _held_to_rules((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _held_to_rules((yield))


# --- Caffe -----------------------------------------------------------------------------------------------------------


def _needs_caffe(path: Path) -> bool:
    """Tell by its folder whether a test needs Caffe."""
    folder = path.relative_to(ROOT / "tests").parts[:-1] if path.is_relative_to(ROOT / "tests") else ()
    return bool(folder) and folder[0] not in LIBRARY_WITHOUT_CAFFE


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With -m "not caffe", do not even import what needs it."""
    path = collection_path / "any" if collection_path.is_dir() else collection_path
    return True if config.option.markexpr == "not caffe" and _needs_caffe(path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _needs_caffe(item.path) or "tiny_run" in getattr(item, "fixturenames", ()):
            item.add_marker("caffe")


# --- timing ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Try a test that is marked timing again where an assertion fails."""
    if pyfuncitem.get_closest_marker("timing") is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for left in reversed(range(TRIES)):
        try:
            pyfuncitem.obj(**arguments)
            break
        except AssertionError:
            if not left:
                raise
    return True


# --- what is there stays as it is ------------------------------------------------------------------------------------

Fingerprint = Mapping[str, tuple[int, int]]  # path -> size, time of the last change

_shared: dict[Path, Fingerprint] = {}


def fingerprint(folder: Path) -> Fingerprint:
    """Return sizes and times of all files below `folder`, caches and locks left out."""
    files = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if name not in CACHES and not name.endswith(".egg-info") and Path(place, name) != FETCHED
        ]
        for name in set(names) - LOCKS:
            path = os.path.join(place, name)
            with contextlib.suppress(FileNotFoundError):  # it is gone since
                status = os.lstat(path)
                files[os.path.relpath(path, folder)] = (status.st_size, status.st_mtime_ns)
    return files


def changes(before: Fingerprint, after: Fingerprint) -> str:
    """Name the files that are new, gone or changed; the first ten of many. "" for none."""
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return ", ".join([*names[:10], *([f"and {len(names) - 10} more"] if len(names) > 10 else [])])


def share(folder: Path) -> None:
    """From now on a test that changes anything in `folder` fails. (Permissions would not stop root.)"""
    _shared[folder] = fingerprint(folder)


@pytest.fixture(autouse=True)
def shared_folders_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test after which a folder that tests share is not what it was."""
    yield
    for folder, before in _shared.items():
        _shared[folder] = after = fingerprint(folder)
        if changed := changes(before, after):
            pytest.fail(f"{request.node.nodeid} changed what all tests share, in {folder}: {changed}")


@pytest.fixture(autouse=True, scope="module")
def checkout_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the tests of a module that write into the checkout. Only where CI is set: elsewhere somebody may edit.

    Where other workers run tests meanwhile, their modules fail, too, and each names those that ran beside it.
    """
    if not os.environ.get("CI"):
        yield
        return
    workers.note(request.config, request.node.nodeid)
    start, before = time.monotonic_ns(), fingerprint(ROOT)
    yield
    if changed := changes(before, fingerprint(ROOT)):
        who = ", or beside it ".join([request.node.nodeid, *workers.beside(request.config, start)])
        pytest.fail(f"{who} wrote into the checkout: {changed}")
