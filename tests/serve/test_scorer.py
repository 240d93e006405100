"""The scorer in a child process: the scores of score.py, whatever happens to the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.runs import score
from selfie.runs.run_folder import Run
from selfie.serve.scorer import TO_BLAME, Scorer, Turns


def expected(run: Run, files: list[Path]) -> list[float]:
    return [one.score for one in score.score(run, [str(path) for path in files])]


def test_the_scores_are_those_of_the_command(tiny_run, scorer, files):
    """Percentiles too; what cannot be read is told in the same words, between the others."""
    data = [path.read_bytes() for path in files[:4]]
    found = scorer.score([data[0], b"", data[1], b"\xff\xd8\xff nonsense", *data[2:]])
    assert [one.error for one in found] == [None, "empty file", None, "broken or truncated", None, None]
    wanted = list(score.score(tiny_run, [str(path) for path in files[:4]]))
    readable = [one for one in found if one.error is None]
    assert [one.score for one in readable] == pytest.approx([one.score for one in wanted], abs=1e-6)
    assert [one.percentile for one in readable] == pytest.approx([one.percentile for one in wanted])
    assert scorer.score([]) == []


def test_a_killed_child_costs_nothing_but_time(tiny_run, scorer, files):
    """Killed twice under four threads that ask: every answer comes, and is right."""
    data, wanted, before = [path.read_bytes() for path in files], expected(tiny_run, files), scorer.restarts
    stop, rounds = threading.Event(), [0] * 4

    def ask(start: int) -> None:
        while not stop.is_set():
            found = [one.score for one in scorer.score(data[start::3])]
            assert found == pytest.approx(wanted[start::3], abs=1e-6)
            rounds[start] += 1

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, start) for start in range(4)]
        for count in (1, 2):
            done = list(rounds)
            testlib.wait_until(lambda done=done: all(now > then for now, then in zip(rounds, done)))
            os.kill(scorer.pid, signal.SIGKILL)
            testlib.wait_until(lambda count=count: scorer.restarts >= before + count)
        stop.set()
        for one in asking:
            one.result(60)


def test_a_child_that_hangs_is_killed(tiny_run, scorer, files):
    """Stopped, it answers nothing: after `patience` seconds another one does."""
    before = scorer.restarts
    os.kill(scorer.pid, signal.SIGSTOP)
    (found,) = scorer.score([files[0].read_bytes()])
    assert found.score == pytest.approx(expected(tiny_run, files[:1])[0], abs=1e-6)
    assert scorer.restarts == before + 1


def test_what_a_terminal_sends_to_all_processes_does_not_end_the_child(scorer, files):
    """Its owner ends it when it has done its work."""
    before = scorer.restarts
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(scorer.pid, number)
    assert scorer.score([files[0].read_bytes()])[0].error is None and scorer.restarts == before


def test_nor_does_it_while_the_child_starts(tiny_run, files):
    """Not even before its Python has come to ignore it."""
    others, over = testlib.children(os.getpid()), threading.Event()

    def send() -> None:
        while not over.wait(0.02):
            for child in {*testlib.children(os.getpid())} - {*others}:
                os.kill(child, signal.SIGINT)
                os.kill(child, signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            with Scorer(tiny_run) as scorer:
                assert scorer.score([files[0].read_bytes()])[0].error is None and scorer.restarts == 0
                over.set()
                sending.result()
        finally:
            over.set()


def test_a_picture_that_kills_is_found_and_the_others_are_scored(tiny_run, files, tmp_path, monkeypatch):
    """A decoder that really crashes, by two pictures among others, in batches of two callers."""
    (tmp_path / "sitecustomize.py").write_text("""if True:
        import os, sys
        if sys.argv[0] == "-m":  # the child, before its module is looked for
            from selfie.data import image
            decode = image.decode_square
            image.decode_square = lambda data, *how: os.abort() if data == b"poison" else decode(data, *how)
    """)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    data, wanted = [path.read_bytes() for path in files[:6]], expected(tiny_run, files[:6])
    with Scorer(tiny_run) as scorer, ThreadPoolExecutor(2) as pool:
        batches = ([*data[:2], b"poison", data[2]], [*data[3:5], b"poison", data[5]])
        first, second = pool.map(scorer.score, batches)
        errors = [one.error for one in (*first, *second)]
        assert errors == [None, None, TO_BLAME, None] * 2
        scores = [one.score for one in (*first, *second) if one.error is None]
        assert scores == pytest.approx(wanted, abs=1e-6)
        assert scorer.restarts >= 2 and scorer.score(data[:1])[0].error is None


def test_a_run_that_cannot_score_says_why(own_run):
    """At once, in the words of whatever is wrong; no process is left."""
    (own_run.folder / "deploy.prototxt").write_text("nonsense {")
    with pytest.raises(SelfieError, match=r"deploy\.prototxt was changed since the training"):
        Scorer(own_run)


def test_the_child_ends_with_an_owner_that_is_killed(tiny_run):
    """However its owner ends."""
    code = """if True:
        import sys, time
        from selfie.runs import run_folder
        from selfie.serve.scorer import Scorer
        if __name__ == "__main__":
            scorer = Scorer(run_folder.load(sys.argv[1]))
            print(scorer.pid, flush=True)
            time.sleep(100)
    """
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "tools")}
    with testlib.started("-c", code, tiny_run.folder, stdout=subprocess.PIPE, env=environment) as owner:
        child = int(owner.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        owner.kill()
        testlib.wait_until(lambda: not Path(f"/proc/{child}").exists(), 10)


def test_it_needs_no_web_server(tiny_run, files):
    """As its docstring shows it, with no package of requirements-serve.txt: a bot uses it too."""
    code = """if True:
        import sys
        from pathlib import Path
        sys.modules.update(dict.fromkeys(["fastapi", "starlette", "uvicorn", "prometheus_client"]))
        from selfie.runs import run_folder
        from selfie.serve.scorer import Scorer
        with Scorer(run_folder.load(sys.argv[1])) as scorer:
            print(scorer.score([Path(sys.argv[2]).read_bytes()])[0].score)
    """
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "tools")}
    result = subprocess.run(
        [sys.executable, "-c", code, tiny_run.folder, files[0]], capture_output=True, text=True, env=environment
    )
    assert float(result.stdout) == pytest.approx(expected(tiny_run, files[:1])[0], abs=1e-6), result.stderr


def test_who_is_alone_is_alone():
    """Nobody is inside together with one who is alone, and those who wait to be alone are not starved."""
    turns, inside, seen = Turns(), [], []

    def together() -> None:
        for _ in range(300):
            with turns.shared():
                inside.append("together")
                seen.append(inside.count("alone"))
                inside.remove("together")

    def alone() -> None:
        for _ in range(50):
            with turns.alone():
                inside.append("alone")
                seen.append(len(inside) - 1)
                inside.remove("alone")

    threads = [threading.Thread(target=work) for work in (together, together, together, alone, alone)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(seen) == 1000 and not any(seen)
