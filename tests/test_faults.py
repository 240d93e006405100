"""The campaign of faults (`make faults`) notices what it is there to notice."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import testlib
from faults import __main__ as campaign
from faults import changes, jobs, mutants, outcome, places, stops, waits
from faults.outcome import HANG, LOST, ONE_LINE, SAME, TRACEBACK, UNNAMED, USED, Outcome
from selfie.common.errors import SelfieError

SETTING = jobs.Setting(Path("nowhere"))
SLEEP = "import time; time.sleep(60)"


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
    assert stops.stop_command(["-c", script], "SIGTERM", 0.7, random.Random(0))[1][0] == HANG
    assert stops.stop_command(["-c", SLEEP], "SIGTERM", 0.7, random.Random(0)) == ("SIGTERM", None)


def test_what_is_done_to_a_command_is_what_is_counted():
    """One that has ended is not stopped; one without children is killed itself; its own death is no good end."""
    assert stops.stop_command(["-c", ""], "SIGTERM", 20, random.Random(0)) == (stops.TOO_LATE, None)
    assert stops.stop_command(["-c", SLEEP], stops.CHILD, 0.7, random.Random(0)) == (stops.ALL, None)
    parent = "import subprocess, sys; sys.exit(subprocess.run(['sleep', '60']).returncode and 'error: it died')"
    assert stops.stop_command(["-c", parent], stops.CHILD, 1, random.Random(0)) == (stops.CHILD, None)
    assert stops.bad_end("", -6, stops.CHILD)[0] == UNNAMED
    assert stops.bad_end("Traceback (most recent call last)", -2, "SIGINT")[0] == TRACEBACK


def test_a_terminal_sends_its_signal_to_all():
    """To what a command has started, too."""
    parent = """if True:
        import signal, subprocess, sys
        signal.signal(signal.SIGINT, lambda *_: None)
        sys.exit(subprocess.run(['sleep', '60']).returncode and 'error: it died')
    """
    assert stops.stop_command(["-c", parent], stops.INT_ALL, 1, random.Random(0)) == (stops.INT_ALL, None)


@pytest.mark.parametrize("how", [stops.INT, stops.INT_ALL])
def test_of_a_command_only_what_python_says_before_it_is_excused(how):
    """Its own part begins with its first import."""
    last = "KeyboardInterrupt\n"
    first = 'Traceback (most recent call last):\n File "tools/x.py", line 9\n    import {}\n' + last
    assert stops.bad_end(first.format("selfie.common.quiet_start"), -2, how) is None
    assert stops.bad_end("Fatal Python error: init_import_site: Failed\n" + last, 1, how) is None
    assert stops.bad_end(last, 1, how) is None
    assert stops.bad_end(first.format("argparse"), -2, how)[0] == TRACEBACK
    frames = [' File "<frozen runpy>", line 15, in <module>', f' File "{contextlib.__file__}", line 6, in <module>']
    assert stops.bad_end("\n".join(["Traceback (most recent call last):", *frames, last]), -2, how) is None
    frames.append(f' File "{testlib.__file__}", line 3, in <module>')
    assert stops.bad_end("\n".join(["Traceback (most recent call last):", *frames, last]), -2, how)[0] == TRACEBACK
    assert stops.bad_end("", 1, how)[0] == UNNAMED


def test_each_group_gets_its_share_of_the_time(monkeypatch, capsys):
    """By what its outcomes take; one that can do nothing is named."""
    now = [0.0]
    monkeypatch.setattr(campaign.time, "monotonic", lambda: now[0])

    def group(name: str, seconds: float):
        while True:
            now[0] += seconds
            yield name

    monkeypatch.setattr(campaign, "SHARES", {"quick": 1, "slow": 2, "none": 1})
    groups = {"quick": group("quick", 1), "slow": group("slow", 10), "none": iter(())}
    taken = list(itertools.islice(campaign.fairly(groups), 60))
    assert 4 <= taken.count("quick") / taken.count("slow") <= 6
    assert "none: left out" in capsys.readouterr().err


def test_the_clock_is_set_while_a_command_runs(tmp_path):
    """The time of day goes back, the monotonic clock does not."""
    clock = waits.Clock(tmp_path)
    tell = "print(time.time(), time.monotonic(), flush=True)"
    script = f"import time; {tell}; input(); {tell}"
    with testlib.started("-c", script, env=clock.environment, stdin=-1, stdout=-1) as process:
        before = [float(word) for word in process.stdout.readline().split()]
        clock.set(-3600)
        process.stdin.write("\n")
        process.stdin.flush()
        after = [float(word) for word in process.stdout.readline().split()]
    assert abs(before[0] - time.time()) < 60
    assert -3600 <= after[0] - before[0] < -3500 and after[1] > before[1]


def test_reads_of_a_slow_disk_wait(tmp_path):
    """But come."""
    (tmp_path / "file").write_text("content")
    slow = waits.SlowDisk(tmp_path, random.Random(0))
    try:
        slow.__enter__()
    except (OSError, subprocess.CalledProcessError):
        testlib.skip("root", "no leave to mount, or no fanotify")
    start = time.monotonic()
    done = subprocess.run(["cat", tmp_path / "file"], capture_output=True, text=True)
    slow.__exit__()
    assert done.stdout == "content" and slow.delays >= 1 and time.monotonic() - start >= 0.5


def test_who_may_not_write_leaves_nothing(tmp_path):
    """A command that half-writes where it may not go on is found out, one that says so in a line is not."""
    if os.geteuid() or not places._others_may_run():
        testlib.skip("root", "no leave to be somebody else")
    tmp_path.chmod(0o755)
    undisturbed = stops.Undisturbed(SETTING, tmp_path / "undisturbed")
    script = "import sys, pathlib\ntry: %s\nexcept OSError as error: sys.exit(f'error: {error}')"
    write = "pathlib.Path(sys.argv[1], 'out').write_text('a')"
    good = jobs.Job("writes", lambda setting, out: ["-c", script % write, out], ("out",))
    for wall in (places.READ_ONLY, places.FOREIGN_FOLDER):
        verdict = places._walled(good, SETTING, tmp_path / "walled", undisturbed, wall, random.Random(0))
        assert verdict == (SAME, ""), wall
    worse = jobs.Job("writes", lambda setting, out: ["-c", WRITES, out, "a"], ("out",))
    verdict = places._walled(worse, SETTING, tmp_path / "walled", undisturbed, places.READ_ONLY, random.Random(0))
    assert verdict[0] == TRACEBACK


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
    changed = [changes.changed(data, random.Random(f"7/x/{number}")) for number in range(50)]
    assert changed == [changes.changed(data, random.Random(f"7/x/{number}")) for number in range(50)]
    assert sum(one != data for one in changed) > 40


def test_mutants_are_undone(tmp_path):
    """Whatever was put in a file's place."""
    files = [tmp_path / "a.json", tmp_path / "b"]
    for file in files:
        file.write_text('{"a": [1, 2]}')
    for number in range(300):
        for file in files:
            changes.mutate(file, random.Random(f"{file.name}/{number}"))
        changes.restore()
        assert [file.read_text() for file in files] == ['{"a": [1, 2]}'] * 2
    assert sorted(tmp_path.iterdir()) == files
