"""The campaign of faults (`make faults`) notices what it is there to notice."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import pytest

import testlib
from faults import jobs, mutants, outcome, stops
from faults.outcome import HANG, LOST, ONE_LINE, SAME, TRACEBACK, UNNAMED, USED, Outcome
from selfie.common.errors import SelfieError

SETTING = jobs.Setting(Path("nowhere"))


@pytest.mark.timing
def test_a_short_campaign_prints_its_table(tmp_path):
    """Servers that misbehave, for no longer than one outcome each; every one is in the log."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    arguments = ["-m", "faults", "--only", "servers", "--minutes", "0.02", "--log", tmp_path / "log"]
    result = testlib.command(*arguments, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    logged = [Outcome(**json.loads(line)) for line in (tmp_path / "log").read_text().splitlines()]
    assert result.stdout == outcome.table(logged) + "\n"
    assert {"right", "half", "garbage"} <= {one.case for one in logged}
    unknown = testlib.command("-m", "faults", "--only", "nonsense", "--log", tmp_path / "log", env=environment)
    testlib.assert_one_line_error(unknown, "no such group: nonsense")


@pytest.mark.parametrize(
    ("text", "code", "verdict"),
    [
        ("", 0, None),
        ("warning\nerror: no\n", 1, ONE_LINE),
        ("error: interrupted\n", 130, ONE_LINE),
        ("Traceback (most recent call last):\nKeyError\n", 1, TRACEBACK),
        ("", 1, UNNAMED),
        ("", -7, UNNAMED),
        ("error: x", 2, UNNAMED),
    ],
)
def test_ends_of_commands_are_judged(text, code, verdict):
    judged = outcome.of_stderr(text, code)
    assert (judged and judged[0]) == verdict


WRITES = "import sys, pathlib; pathlib.Path(sys.argv[1], 'out').write_text(sys.argv[2])"


def job(content: str, **more: object) -> jobs.Job:
    """A command that writes `content`."""
    return jobs.Job("writes", lambda setting, out: ["-c", WRITES, out, content], ("out",), **more)


def test_other_bytes_than_undisturbed_are_lost(tmp_path):
    undisturbed = stops.Undisturbed(SETTING, tmp_path / "undisturbed")
    assert stops.compared(job("a"), SETTING, stops.fresh(tmp_path / "x"), undisturbed) == (SAME, "")
    assert stops.compared(job("b"), SETTING, stops.fresh(tmp_path / "x"), undisturbed)[0] == LOST
    refuses = job("a", on=lambda setting, out: [["-c", "import sys; sys.exit('error: never again')"]])
    assert stops.compared(refuses, SETTING, stops.fresh(tmp_path / "x"), undisturbed)[0] == LOST
    (stops.fresh(tmp_path / "x") / ".out.tmp-abcdefgh").touch()
    assert "left behind" in stops.compared(job("a"), SETTING, tmp_path / "x", undisturbed)[1]


def test_a_command_that_ignores_signals_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(stops, "PATIENCE", 1)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    assert stops._stop(["-c", script], "SIGTERM", 0.7, random.Random(0))[0] == HANG
    assert stops._stop(["-c", "import time; time.sleep(60)"], "SIGTERM", 0.7, random.Random(0)) is None


def _bad(setting: jobs.Setting, scratch: Path, chance: random.Random) -> None:
    kinds = {0: "", 1: "one line", 2: "a bug", 3: "end", 4: "hang"}
    kind = kinds[_bad.number]
    _bad.number += 1
    if kind == "one line":
        raise SelfieError(kind)
    if kind == "a bug":
        raise KeyError(kind)
    if kind == "end":
        os.kill(os.getpid(), 6)
    if kind == "hang":
        time.sleep(60)


def test_verdicts_of_mutants(monkeypatch):
    _bad.number = 0
    monkeypatch.setitem(mutants.TARGETS, "bad", _bad)
    verdicts = [verdict for _, verdict, _ in mutants.read(SETTING, "bad", 0, range(3))]
    assert verdicts == [USED, ONE_LINE, TRACEBACK]


def test_a_reader_that_ends_is_an_unnamed_end(monkeypatch, tmp_path):
    """And the next one goes on behind the mutant that ended it."""
    reader = tmp_path / "python"
    reader.write_text(f'#!/bin/sh\n[ $6 = 0 ] && echo \'[0, "{USED}", ""]\' && kill -7 $$\nexec sleep 0\n')
    reader.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(reader))
    monkeypatch.setattr(mutants, "TARGETS", {"bad": _bad})
    told = [(one.number, one.verdict) for one in mutants.mutants(SETTING, 0, range(3))]
    assert told == [(0, USED), (1, UNNAMED), (2, UNNAMED)]


def test_mutants_are_made_again_by_their_number():
    data = bytes(range(256)) * 20
    changed = [mutants.changed(data, random.Random(f"7/x/{number}")) for number in range(50)]
    assert changed == [mutants.changed(data, random.Random(f"7/x/{number}")) for number in range(50)]
    assert sum(one != data for one in changed) > 40
