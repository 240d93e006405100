"""Commands whose reads take seconds, and whose clock is set back while they work: right results, and no hang."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from faults.jobs import JOBS, PATIENCE, Setting, run
from faults.outcome import HANG, LOST, ONE_LINE, Outcome, of_stderr
from faults.processes import started
from faults.stops import Undisturbed, judged

# --- a slow disk -----------------------------------------------------------------------------------------------------

FAN_CLASS_CONTENT, FAN_CLOEXEC, FAN_NONBLOCK = 0x4, 0x1, 0x2  # of linux/fanotify.h
FAN_MARK_ADD, FAN_MARK_MOUNT = 0x1, 0x10
FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_ALLOW = 0x10000, 0x20000, 0x1
EVENT, ANSWER = struct.Struct("IBBHQii"), struct.Struct("iI")
AT_FDCWD = -100
DELAYS, LONGEST = 6, 3.0  # in a command's life, seconds


class SlowDisk:
    """`with SlowDisk(folder, chance) as disk:` some opens and reads in `folder` wait for seconds.

    The kernel asks this process before each (fanotify), so nothing in the reader differs but the time. `disk.delays`
    counts them; OSError where that is not allowed.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance, self.delays = folder, chance, 0
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.ends = threading.Event()

    def __enter__(self) -> SlowDisk:
        subprocess.run(["mount", "--bind", self.folder, self.folder], check=True, capture_output=True)
        self.handle = self.libc.fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, os.O_RDONLY)
        mask, place = ctypes.c_uint64(FAN_OPEN_PERM | FAN_ACCESS_PERM), os.fsencode(self.folder)
        if self.handle < 0 or self.libc.fanotify_mark(
            *(self.handle, FAN_MARK_ADD | FAN_MARK_MOUNT, mask, AT_FDCWD, place)
        ):
            subprocess.run(["umount", "-l", self.folder], check=False)
            raise OSError(ctypes.get_errno(), "fanotify")
        self.thread = threading.Thread(target=self._answer)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        self.thread.join()
        os.close(self.handle)  # whoever still waits goes on
        subprocess.run(["umount", "-l", self.folder], check=False)

    def _answer(self) -> None:
        while not self.ends.is_set():
            try:
                events = os.read(self.handle, 1 << 16)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            for start in range(0, len(events), EVENT.size):
                file = EVENT.unpack_from(events, start)[5]
                if self.delays < DELAYS and self.chance.random() < (0.02 if self.delays else 1):
                    self.delays += 1
                    self.ends.wait(self.chance.uniform(0.5, LONGEST))
                os.write(self.handle, ANSWER.pack(file, FAN_ALLOW))
                os.close(file)


def slow_reads(
    setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range
) -> Iterator[Outcome]:
    """Run each command that reads the setting while its files are slow to come. Needs leave to mount."""
    for number in numbers:
        for job in JOBS:
            if not job.reads:
                continue
            undisturbed.of(job)
            out = job.laid(setting, folder / "slow")
            with contextlib.ExitStack() as stack:
                try:
                    disk = stack.enter_context(
                        SlowDisk(setting.folder, random.Random(f"{seed}/slow/{job.name}/{number}"))
                    )
                except (OSError, subprocess.CalledProcessError):
                    return
                output = stack.enter_context(job.output(out))
                try:
                    code, text = run(job.start(setting, out), PATIENCE + DELAYS * LONGEST, output)
                    failure = of_stderr(text, code)
                except subprocess.TimeoutExpired as error:
                    failure = HANG, str(error)
            verdict, details = failure or judged(job, out, undisturbed)
            if verdict == ONE_LINE:  # slow is no reason to give up
                verdict = HANG
            yield Outcome(
                "slow reads", job.name, number, verdict, f"{disk.delays} delays: {details}" if details else ""
            )


# --- a clock that is set back ----------------------------------------------------------------------------------------

BACK = (2, 60, 3600, 86_400)  # seconds


class Clock:
    """The clock that commands see which are started with `environment`; set it while they work."""

    def __init__(self, folder: Path) -> None:
        """Compile what is preloaded: OSError, or CalledProcessError, where there is no compiler."""
        self.file, library = folder / "clock", folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        if not library.exists():
            command = ["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"]
            subprocess.run(command, check=True, capture_output=True)
        self.set(0)
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "FAULTS_CLOCK": str(self.file)}

    def set(self, seconds: int) -> None:
        """Let the clock be that many seconds ahead of the real one."""
        if not self.file.exists():
            self.file.write_bytes(bytes(8))
        with open(self.file, "r+b", buffering=0) as file:
            file.write(struct.pack("q", seconds))


def clock(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Set the clock back, once or twice, while each command works. Needs a C compiler."""
    try:
        watch = Clock(folder)
    except (OSError, subprocess.CalledProcessError):
        return
    for number in numbers:
        for job in JOBS:
            chance = random.Random(f"{seed}/clock/{job.name}/{number}")
            seconds = undisturbed.of(job)[1]
            out = job.laid(setting, folder / "clocked")
            watch.set(0)
            steps = chance.choice((1, 1, 2))
            text, back = "", [chance.choice(BACK) for _ in range(steps)]
            with job.output(out) as output, started(job.start(setting, out), output, env=watch.environment) as process:
                for step in range(steps):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(chance.uniform(0, seconds / steps))
                    watch.set(-sum(back[: step + 1]))
                try:
                    text = process.communicate(timeout=PATIENCE)[1].decode(errors="replace")
                    failure = of_stderr(text, process.returncode)
                except subprocess.TimeoutExpired as error:
                    failure = HANG, str(error)
            verdict, details = failure or judged(job, out, undisturbed)
            if verdict == ONE_LINE:
                verdict = LOST
            yield Outcome("clock set back", job.name, number, verdict, f"by {back} s: {details}" if details else "")
