"""The rules of the tests, each broken once, and what continuous integration asks for."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import rules
import testlib
import workers
from selfie.common import paths

CONFTEST = """
import rules, workers
def pytest_configure(config):
    for plugin in (rules, workers): config.pluginmanager.register(plugin)
"""


@pytest.fixture
def broken(pytester, monkeypatch):
    """broken(text): run pytest with the rules on a module; returns its result."""
    monkeypatch.delenv(rules.REQUIRE, raising=False)
    pytester.makeconftest(CONFTEST)

    def run(text: str, *arguments: str, folder: str = ".") -> pytest.RunResult:
        (pytester.path / folder).mkdir(parents=True, exist_ok=True)
        (pytester.path / folder / "test_it.py").write_text("import pytest, rules, testlib\n" + text)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    return run


SKIPS = """
def test_one():
    testlib.skip("chromium", "not here")
def test_two():
    testlib.skip("figures", "neither")
"""


def test_a_skip_is_a_failure_where_its_kind_is_required(broken, monkeypatch):
    """And stays a skip for any other kind."""
    broken(SKIPS).assert_outcomes(skipped=2)
    monkeypatch.setenv(rules.REQUIRE, "weights chromium")
    result = broken(SKIPS)
    result.assert_outcomes(skipped=1, failed=1)
    result.stdout.fnmatch_lines(["SELFIE_REQUIRE has chromium, which is lacking here: *not here"])


@pytest.mark.parametrize(
    "text",
    [
        "def test(): pytest.skip('too late today')",
        "@pytest.mark.skipif(True, reason='no: reason')\ndef test(): pass",
        "def test(): pytest.importorskip('no_such_module')",
        "@pytest.fixture\ndef one(): pytest.skip('in a fixture')\ndef test(one): pass",
    ],
)
def test_a_skip_without_a_kind_is_a_failure(broken, text):
    """However it is made."""
    result = broken(text)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["a skip that names no kind: *"])


def test_a_module_that_skips_itself_without_a_kind_is_an_error(broken):
    """It would take all its tests with it."""
    result = broken("pytest.skip('all of it', allow_module_level=True)")
    result.assert_outcomes(errors=1)


def test_an_unknown_kind_is_refused_with_those_there_are(broken, monkeypatch):
    """Before any test is run."""
    monkeypatch.setenv(rules.REQUIRE, "chromium chrome")
    result = broken(SKIPS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: SELFIE_REQUIRE: no such kind: chrome; there are *chromium*weights*"])


def test_who_changes_what_is_shared_fails_alone(broken, tmp_path, monkeypatch):
    """A new file, a changed one and a lost one; LMDB's readers may touch its lock. Tests before and after pass."""
    monkeypatch.setattr(rules, "_shared", {})
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in ("a", "b", "lock.mdb"):
        (folder / name).write_text(name)
    result = broken(f"""
from pathlib import Path
folder = Path({str(folder)!r})
@pytest.fixture(scope="session", autouse=True)
def shared(): rules.share(folder)
def test_reads():
    assert (folder / "a").read_text() == "a"
    (folder / "lock.mdb").write_text("locked")
def test_writes():
    (folder / "a").write_text("other")
    (folder / "b").unlink()
    (folder / "c").touch()
def test_reads_again(): pass
""")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_writes*", "*test_writes changed what * share, *: a, b, c"])


@pytest.mark.parametrize("ci, errors", [("true", 1), ("", 0)])
def test_ci_notices_what_is_written_into_the_checkout(broken, pytester, monkeypatch, ci, errors):
    """Elsewhere somebody may be editing it."""
    monkeypatch.setattr(rules, "ROOT", pytester.path)
    monkeypatch.setenv("CI", ci)
    result = broken(f"from pathlib import Path\ndef test(): Path({str(pytester.path)!r}, 'runs').write_text('x')")
    result.assert_outcomes(passed=1, errors=errors)
    if errors:
        result.stdout.fnmatch_lines(["*test_it.py wrote into the checkout: runs"])


def test_only_timing_is_tried_again(broken):
    """Three times, with its fixtures; another error than a failed assertion is one at once."""
    text = """
calls = []
@pytest.mark.timing
def test_slow_twice(tmp_path):
    calls.append(tmp_path)
    assert len(calls) == 3
@pytest.mark.timing
def test_always_slow(): assert 0
@pytest.mark.timing
def test_broken():
    calls.append(1)
    raise KeyError
def test_usual():
    assert len(calls) == 4
    calls.append(1)
    assert 0
def test_after(): assert len(calls) == 5
"""
    broken(text).assert_outcomes(passed=2, failed=3)


# --- several worker processes ----------------------------------------------------------------------------------------


def test_who_wants_to_be_alone_is_let_in_and_is_alone(tmp_path):
    """Though others come all the time, and are together where nobody wants to be alone."""
    inside, most, alone, done = [], [], [], threading.Event()

    def others() -> None:
        while not done.is_set():
            with workers.turn(tmp_path, alone=False):
                inside.append(1)
                time.sleep(0.005)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=others) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            with workers.turn(tmp_path, alone=True):
                alone.append(len(inside))
                time.sleep(0.01)
                alone.append(len(inside))
    finally:
        done.set()
        for thread in threads:
            thread.join(20)
    assert alone == [0] * 20 and max(most) > 1


HERE = "import pathlib, time, pytest\nhere = pathlib.Path(__file__).parent\n"
WRITES_AND_TIMES = """
def test_writes():
    while not (here / "others").exists(): time.sleep(0.01)
    (here / "checkout" / "runs").touch()
@pytest.mark.timing
def test_times():
    start = time.monotonic()
    time.sleep(0.4)
    (here / "alone").write_text(f"{start} {time.monotonic()}")
"""
OTHERS = """
@pytest.mark.parametrize("number", range(60))
def test_other(number):
    if number > 20 and (here / "alone").exists(): return
    start = time.monotonic()
    time.sleep(0.02)
    with open(here / "others", "a") as file: print(start, time.monotonic(), file=file)
"""


def test_in_two_workers_timing_is_alone_and_who_may_have_written_is_told(pytester, monkeypatch):
    """Both modules whose tests ran when the checkout changed fail, and each names the other."""
    if find_spec("xdist") is None:
        testlib.skip("xdist", "pip install -r requirements-dev.txt")
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv(rules.REQUIRE, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    pytester.mkdir("checkout")
    pytester.makeconftest(f"{CONFTEST}rules.ROOT = rules.Path(__file__).parent / 'checkout'")
    pytester.makepyfile(test_a=HERE + WRITES_AND_TIMES, test_b=HERE + OTHERS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile")
    result.assert_outcomes(passed=62, errors=2)
    result.stdout.fnmatch_lines_random(
        f"*test_{one}.py, or beside it test_{other}.py wrote into the checkout: runs" for one, other in ("ab", "ba")
    )
    start, end = map(float, (pytester.path / "alone").read_text().split())
    others = [tuple(map(float, line.split())) for line in (pytester.path / "others").read_text().splitlines()]
    assert any(last < start for _, last in others), "they were there before"
    assert not [first for first, last in others if first < end and last > start]


# --- Caffe, continuous integration, what tests start -----------------------------------------------------------------


@pytest.mark.parametrize("folder, runs", [("tests", 1), ("tests/data", 1), ("tests/net", 0), ("tests/docker", 0)])
def test_without_caffe_what_needs_it_is_not_even_imported(broken, pytester, monkeypatch, folder, runs):
    """By the folder, by a fixture that trains, or by a marker."""
    monkeypatch.setattr(rules, "ROOT", pytester.path)
    text = "\n".join(
        [
            "@pytest.fixture\ndef tiny_run(): pass",
            "@pytest.fixture\ndef by_way_of(tiny_run): pass",
            "def test(): pass",
            "def test_trains(by_way_of): pass",
            "@pytest.mark.caffe\ndef test_asks(): pass",
            "" if runs else "import no_such_module",
        ]
    )
    result = broken(text, "-m", "not caffe", folder=folder)
    result.assert_outcomes(passed=runs, deselected=2 * runs)


def test_ci_requires_kinds_that_there_are():
    """In .ci/run and the hosted workflow."""
    files = [paths.ROOT / ".ci" / "run", *(paths.ROOT / ".github" / "workflows").glob("*.yml")]
    text = re.sub(r"\$\{\{.*?\}\}", "", "\n".join(file.read_text() for file in files))  # the workflow's expressions
    lists = re.findall(r"SELFIE_REQUIRE(?:=|: )(.*)", text)
    words = {word for line in lists for word in re.findall(r"(?<![\w{])[a-z][\w-]*", line)}
    assert len(lists) == 2 and "chromium" in words
    assert words <= set(rules.KINDS)


def test_ctrl_c_reaches_what_a_test_starts():
    """Also where the tests themselves were started with SIGINT ignored, as a script does with `pytest &`."""
    script = """if True:
        import testlib
        with testlib.started("-c", "import time; print(1, flush=True); time.sleep(60)", stdout=-1) as process:
            process.stdout.readline()
            process.send_signal(2)
            print(process.wait())
    """
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": str(paths.ROOT / "tools")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert result.stdout == f"{-signal.SIGINT}\n", result.stderr


def test_what_a_test_starts_ends_with_it():
    """However the test ends."""
    with pytest.raises(KeyError), testlib.started("-c", "import time; time.sleep(60)") as process:
        raise KeyError
    assert process.poll() == -signal.SIGKILL
