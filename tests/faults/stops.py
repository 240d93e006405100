"""Commands that are stopped at random moments, that run twice at once, whose disk is full, or whose clock goes back."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from faults.jobs import JOBS, PATIENCE, Job, Setting, contents, finish, run
from faults.outcome import HANG, LOST, SAME, TRACEBACK, UNNAMED, Outcome, of_stderr
from selfie.common import paths

ENDS = 60  # seconds that a command may take to end after a signal, Caffe's snapshot included
STOPS = ("SIGKILL to all", "SIGKILL to the parent", "SIGKILL to a child", "SIGTERM", "SIGINT", "SIGSTOP, SIGCONT")


class Undisturbed:
    """The results of all jobs when nothing happens to them, and the seconds that they take: made when first asked."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting, self.folder = setting, folder
        self.made: dict[str, tuple[dict[str, bytes], float]] = {}

    def of(self, job: Job) -> tuple[dict[str, bytes], float]:
        """Return (result, seconds) of a job."""
        if job.name not in self.made:
            out = fresh(self.folder / job.name)
            began = time.monotonic()
            code, text = run(job.start(self.setting, out))
            assert code == 0, f"{job.name} fails undisturbed: {text}"
            self.made[job.name] = contents(out, job.result), time.monotonic() - began
            assert self.made[job.name][0], f"{job.name} has no result"
        return self.made[job.name]


def fresh(folder: Path) -> Path:
    """Make an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def compared(job: Job, setting: Setting, out: Path, undisturbed: Undisturbed) -> tuple[str, str]:
    """Bring a disturbed job to its end and compare its result: (verdict, details)."""
    try:
        failure = finish(job, setting, out)
    except subprocess.TimeoutExpired as error:
        return HANG, str(error)
    if failure is not None:
        return (LOST, f"it cannot go on: {failure[1]}") if failure[0] == "one line" else failure
    expected, result = undisturbed.of(job)[0], contents(out, job.result)
    if result != expected:
        names = sorted(name for name in {*result, *expected} if result.get(name) != expected.get(name))
        return LOST, f"other bytes than undisturbed: {', '.join(names[:5])}"
    litter = [str(path) for path in out.rglob("*") if ".tmp-" in path.name or path.name.endswith(".lock")]
    return (LOST, f"left behind: {', '.join(litter[:5])}") if litter else (SAME, "")


# --- signals ---------------------------------------------------------------------------------------------------------


def stops(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Stop each command at random moments of its life, in each way, then let it go on."""
    for number in numbers:
        for job in JOBS:
            chance = random.Random(f"{seed}/{job.name}/{number}")
            how = STOPS[number % len(STOPS)] if number < len(STOPS) else chance.choice(STOPS)
            out = fresh(folder / "stopped")
            moment = chance.uniform(0, 1.1 * undisturbed.of(job)[1])
            problem = _stop(job.start(setting, out), how, moment, chance)
            verdict, details = problem or compared(job, setting, out, undisturbed)
            yield Outcome(how, job.name, number, verdict, f"after {moment:.2f} s: {details}" if details else "")


def _stop(arguments: list, how: str, moment: float, chance: random.Random) -> tuple[str, str] | None:
    """Start a command and stop it after `moment` seconds; (verdict, details) if that itself goes wrong."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    family = descendants(process.pid)
    if how == "SIGSTOP, SIGCONT":
        _send([process.pid, *family], signal.SIGSTOP)
        time.sleep(2)
        _send([process.pid, *family], signal.SIGCONT)
    elif how == "SIGKILL to all":
        _send([process.pid, *family], signal.SIGKILL)
    elif how == "SIGKILL to a child":
        _send([chance.choice(family)] if family else [], signal.SIGKILL)
    else:
        _send([process.pid], signal.SIGKILL if how == "SIGKILL to the parent" else getattr(signal, how))
    try:
        text = process.communicate(timeout=PATIENCE)[1].decode(errors="replace")
    except subprocess.TimeoutExpired:
        _send([process.pid, *family], signal.SIGKILL)
        process.communicate()
        return HANG, f"it did not end within {PATIENCE} s"
    if "Traceback (most recent call last)" in text:
        return TRACEBACK, text[-1500:]
    if process.returncode > 0 and (failure := of_stderr(text, process.returncode)) and failure[0] == UNNAMED:
        return failure
    deadline = time.monotonic() + ENDS
    while left := [pid for pid in family if _lives(pid)]:
        if time.monotonic() > deadline:
            _send(left, signal.SIGKILL)
            return HANG, f"processes outlived it by {ENDS} s"
        time.sleep(0.1)
    return None


def descendants(pid: int) -> list[int]:
    """List the processes below a process."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


# --- two at once -----------------------------------------------------------------------------------------------------


def twice(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Start each command twice, a random moment apart: each ends well or in one line, and so does the result."""
    for number in numbers:
        for job in JOBS:
            chance = random.Random(f"{seed}/twice/{job.name}/{number}")
            out = fresh(folder / "twice")
            gap = chance.uniform(0, 0.8 * undisturbed.of(job)[1]) if number % 2 else chance.uniform(0, 0.3)
            processes = []
            for _ in range(2):
                command = [sys.executable, *map(str, job.start(setting, out))]
                processes.append(
                    subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                )
                time.sleep(gap)
            ends = [(process.communicate()[1].decode(errors="replace"), process.returncode) for process in processes]
            failures = [failure for text, code in ends if (failure := of_stderr(text, code))]
            bad = [failure for failure in failures if failure[0] != "one line"]
            if len(failures) == 2 and not bad:
                bad = [(LOST, f"both failed: {failures}")]
            verdict, details = bad[0] if bad else compared(job, setting, out, undisturbed)
            yield Outcome("two at once", job.name, number, verdict, f"{gap:.2f} s apart: {details}" if details else "")


# --- a full disk -----------------------------------------------------------------------------------------------------


def full_disk(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Run each command in a file system that is too small, then make room and let it go on. Needs leave to mount."""
    for number in numbers:
        for job in JOBS:
            chance = random.Random(f"{seed}/disk/{job.name}/{number}")
            out = fresh(folder / "disk")
            kib = int(chance.uniform(0, 1.1) * sum(map(len, undisturbed.of(job)[0].values())) / 1024) + 4
            if subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", out], capture_output=True
            ).returncode:
                return
            try:
                code, text = run(job.start(setting, out))
                failure = of_stderr(text, code)
                subprocess.run(["mount", "-o", "remount,size=500m", out], check=True)
                if failure and failure[0] != "one line":
                    verdict, details = failure
                else:
                    verdict, details = compared(job, setting, out, undisturbed)
            except subprocess.TimeoutExpired as error:
                verdict, details = HANG, str(error)
            finally:
                subprocess.run(["umount", "-l", out], check=False)
            yield Outcome("full disk", job.name, number, verdict, f"{kib} KiB: {details}" if details else "")
