"""Commands that are stopped at random moments, or run twice at once, and then come to what they come to in peace."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from faults.jobs import JOBS, PATIENCE, Job, Result, Setting, contents, finish, run
from faults.outcome import HANG, LOST, ONE_LINE, SAME, Outcome, of_stderr
from faults.processes import descendants, lives, send, started
from selfie.common import paths

ENDS = 180  # seconds that a command may take to end after a signal, Caffe's snapshot included
ALL, PARENT, CHILD, TERM, TERM_ALL, INT, INT_ALL, PAUSE = STOPS = (
    "SIGKILL to all",
    "SIGKILL to the parent",
    "SIGKILL to a child",
    "SIGTERM",
    "SIGTERM to all",  # as a service manager sends it
    "SIGINT",
    "SIGINT to all",  # as a terminal sends it
    "SIGSTOP, SIGCONT",
)
OF_PYTHON = (  # what Python itself says of Ctrl-C before it has come to a command's first import
    *("init_import_site", "__main__.__loader__", "argv[0] is an import path entry"),
    "import selfie.common.quiet_start",
)
TOO_LATE = "none: it had ended"
Problem = tuple[str, str]  # verdict, details


class Undisturbed:
    """The results of all jobs when nothing happens to them, and the seconds that they take: made when first asked."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting, self.folder = setting, folder
        self.made: dict[str, tuple[Result, float]] = {}

    def of(self, job: Job) -> tuple[Result, float]:
        """Return (result, seconds) of a job."""
        if job.name not in self.made:
            out = job.laid(self.setting, self.folder / job.name)
            began = time.monotonic()
            with job.output(out) as output:
                code, text = run(job.start(self.setting, out), output=output)
            assert code == 0, f"{job.name} fails undisturbed: {text}"
            self.made[job.name] = contents(job, out), time.monotonic() - began
            assert self.made[job.name][0], f"{job.name} has no result"
        return self.made[job.name]


def fresh(folder: Path) -> Path:
    """Make an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def compared(job: Job, setting: Setting, out: Path, undisturbed: Undisturbed) -> Problem:
    """Bring a disturbed job to its end and compare its result: (verdict, details)."""
    try:
        failure = finish(job, setting, out)
    except subprocess.TimeoutExpired as error:
        return HANG, str(error)
    if failure is not None:
        return (LOST, f"it cannot go on: {failure[1]}") if failure[0] == ONE_LINE else failure
    return judged(job, out, undisturbed)


def judged(job: Job, out: Path, undisturbed: Undisturbed) -> Problem:
    """Compare the result of a job that has come to its end: (verdict, details)."""
    expected, result = undisturbed.of(job)[0], contents(job, out)
    if result != expected:
        names = sorted(name for name in {*result, *expected} if result.get(name) != expected.get(name))
        return LOST, f"other bytes than undisturbed: {', '.join(names[:5])}"
    litter = [str(path) for path in out.rglob("*") if ".tmp-" in path.name or path.name.endswith(".lock")]
    return (LOST, f"left behind: {', '.join(litter[:5])}") if litter else (SAME, "")


# --- signals ---------------------------------------------------------------------------------------------------------


def stops(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Stop each command at random moments of its life, in each way, then let it go on."""
    for number in numbers:
        for place, job in enumerate(JOBS):
            chance = random.Random(f"{seed}/{job.name}/{number}")
            how = STOPS[(number + place) % len(STOPS)]
            moment = chance.uniform(0, undisturbed.of(job)[1])
            out = job.laid(setting, folder / "stopped")
            how, problem = stop(job, setting, out, how, moment, chance)
            verdict, details = problem or compared(job, setting, out, undisturbed)
            yield Outcome(how, job.name, number, verdict, f"after {moment:.2f} s: {details}" if details else "")


def stop(
    job: Job, setting: Setting, out: Path, how: str, moment: float, chance: random.Random
) -> tuple[str, Problem | None]:
    """Start a job and stop it after `moment` seconds: how that was done, and (verdict, details) if it went wrong."""
    with job.output(out) as output:
        return stop_command(job.start(setting, out), how, moment, chance, output)


def stop_command(
    arguments: list, how: str, moment: float, chance: random.Random, output: int = subprocess.DEVNULL
) -> tuple[str, Problem | None]:
    """Start a command and stop it after `moment` seconds: how that was done, and (verdict, details) if it went wrong.

    One without children at that moment is killed itself.
    """
    with started(arguments, output) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        family = descendants(process.pid)
        if process.poll() is not None:
            how = TOO_LATE
        elif how == CHILD and not family:
            how = ALL
        disturb(process.pid, family, how, chance)
        try:
            text = process.communicate(timeout=PATIENCE)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            send(family, signal.SIGKILL)
            return how, (HANG, f"it did not end within {PATIENCE} s")
    return how, bad_end(text, process.returncode, how) or outlived(family)


def disturb(process: int, family: list[int], how: str, chance: random.Random) -> None:
    """Do to a process and its descendants what `how` says."""
    if how == PAUSE:
        send([process, *family], signal.SIGSTOP)
        time.sleep(2)
        send([process, *family], signal.SIGCONT)
    elif how == ALL:
        send([process, *family], signal.SIGKILL)
    elif how == CHILD:
        send([chance.choice(family)] if family else [], signal.SIGKILL)
    elif how == PARENT:
        send([process], signal.SIGKILL)
    elif how in (TERM_ALL, INT_ALL):
        send([process, *family], _number(how))
    elif how != TOO_LATE:
        send([process], _number(how))


def _number(how: str) -> signal.Signals:
    """The signal that a way of stopping begins with."""
    return signal.Signals[how.split()[0]]


def bad_end(text: str, code: int, how: str) -> Problem | None:
    """Judge the end of a command that was stopped by its exit code and stderr; None if nothing is wrong with it.

    Where Python has not come to the command yet, it ends of a signal as Python does.
    """
    if how in (INT, INT_ALL) and _of_python(text):
        return None
    ends = how not in (CHILD, PAUSE, TOO_LATE)
    expected = ends and code == -_number(how)
    if expected and "Traceback (most recent call last)" not in text:
        return None
    failure = of_stderr(text, code)
    return None if failure is None or failure[0] == ONE_LINE else failure


def _of_python(text: str) -> bool:
    """Whether this is what Python says of Ctrl-C before it has come to a command; with -m, it first loads runpy."""
    loading_runpy = "<frozen runpy>" in text and all(
        name.startswith(("<frozen", sysconfig.get_path("stdlib"))) for name in re.findall(r'File "([^"]*)"', text)
    )
    return text == "KeyboardInterrupt\n" or loading_runpy or any(words in text for words in OF_PYTHON)


def outlived(family: list[int]) -> Problem | None:
    """Wait for the end of processes whose parent has ended; (verdict, details) if they do not."""
    deadline = time.monotonic() + ENDS
    while left := [pid for pid in family if lives(pid)]:
        if time.monotonic() > deadline:
            send(left, signal.SIGKILL)
            return HANG, f"processes outlived it by {ENDS} s"
        time.sleep(0.1)
    return None


# --- two at once -----------------------------------------------------------------------------------------------------


def twice(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Start each command twice, a random moment apart: each ends well or in one line, and so does the result."""
    for number in numbers:
        for job in JOBS:
            chance = random.Random(f"{seed}/twice/{job.name}/{number}")
            gap = chance.uniform(0, 0.8 * undisturbed.of(job)[1]) if number % 2 else chance.uniform(0, 0.3)
            out = job.laid(setting, folder / "twice")
            processes = []
            for _ in range(2):
                command = [sys.executable, *map(str, job.start(setting, out))]
                processes.append(
                    subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                )
                time.sleep(gap)
            verdict, details = _both(processes) or compared(job, setting, out, undisturbed)
            yield Outcome("two at once", job.name, number, verdict, f"{gap:.2f} s apart: {details}" if details else "")


def _both(processes: list[subprocess.Popen]) -> Problem | None:
    """Wait for two processes; (verdict, details) unless each ends well or in one line, and one of them well."""
    failures = []
    for process in processes:
        try:
            text = process.communicate(timeout=PATIENCE)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            for each in processes:
                send([each.pid, *descendants(each.pid)], signal.SIGKILL)
            return HANG, f"it did not end within {PATIENCE} s"
        failures.append(of_stderr(text, process.returncode))
    bad = [failure for failure in failures if failure and failure[0] != ONE_LINE]
    if not bad and None not in failures:
        bad = [(LOST, f"both failed: {failures}")]
    return bad[0] if bad else None
