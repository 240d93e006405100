"""A cluster whose workers are killed or stopped, whose scheduler is started again, and whose disk is full.

The oracle is what the same command gives on one machine, undisturbed.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from faults.jobs import JOBS, PATIENCE, Job, Setting, contents, run
from faults.outcome import HANG, LOST, ONE_LINE, SAME, TRACEBACK, Outcome, of_stderr
from faults.processes import descendants, send
from faults.stops import Undisturbed, fresh
from selfie.common import paths

ON_CLUSTER = ("make_lmdb", "filter_faces", "export_fc7")
SHARD_ROWS = 16
WAYS = (
    "SIGKILL to a worker",
    "SIGSTOP to a worker",
    "SIGKILL to the scheduler",
    "SIGKILL to the driver",
    *("two drivers", "full disk"),
)


def clusters(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Disturb each command that can work on a cluster, in each way."""
    for number in numbers:
        for job in (job for job in JOBS if job.name in ON_CLUSTER):
            chance = random.Random(f"{seed}/cluster/{job.name}/{number}")
            way = WAYS[number % len(WAYS)]
            out = fresh(folder / "cluster")
            expected = undisturbed.of(job)[0]
            disturbed = _on_full_disk if way == "full disk" else _disturbed
            problem = disturbed(job, setting, out, way, chance)
            verdict, details = problem or _compared(out, job, expected)
            if way == "full disk":
                subprocess.run(["umount", "-l", out], check=False, capture_output=True)
            yield Outcome(f"cluster: {way}", job.name, number, verdict, details)


class Machines:
    """A scheduler and two workers, as a user starts them; who dies is started again, as by a system that minds them."""

    def __init__(self, folder: Path) -> None:
        """folder: of the workers' files."""
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.address, self.folder = f"tcp://127.0.0.1:{self.port}", folder
        self.scheduler = self.start_scheduler()
        self.workers = [self.start_worker() for _ in range(2)]

    def start_scheduler(self) -> subprocess.Popen:
        return _started("distributed.cli.dask_scheduler", "--port", self.port, "--no-dashboard")

    def start_worker(self) -> subprocess.Popen:
        options = ("--nthreads", 1, "--no-dashboard", "--local-directory", self.folder, "--death-timeout", 60)
        return _started("distributed.cli.dask_worker", self.address, *options)

    def mind(self) -> None:
        """Start again what has ended."""
        if self.scheduler.poll() is not None:
            self.scheduler = self.start_scheduler()
        self.workers = [self.start_worker() if one.poll() is not None else one for one in self.workers]

    def computing(self) -> list[int]:
        """The processes that compute: children of the workers' nannies."""
        return [pid for nanny in self.workers for pid in descendants(nanny.pid) if _spawned(pid)]

    def end(self) -> None:
        """Kill all."""
        for process in (*self.workers, self.scheduler):
            send([process.pid, *descendants(process.pid)], signal.SIGKILL)
            process.wait()


def _started(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", *map(str, arguments)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=paths.ROOT, **quiet)


def _spawned(pid: int) -> bool:
    """Tell a worker from multiprocessing's own processes."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _disturbed(job: Job, setting: Setting, out: Path, way: str, chance: random.Random) -> tuple[str, str] | None:
    """Run a job on a cluster and disturb that until it ends; (verdict, details) if that itself goes wrong."""
    scratch = fresh(out.with_name("cluster-scratch"))
    machines = Machines(scratch)
    try:
        start = [*job.start(setting, out), "--scheduler", machines.address, "--shard-rows", SHARD_ROWS]
        drivers = [_driver(start) for _ in range(2 if way == "two drivers" else 1)]

        def works() -> bool:
            return any(driver.poll() is None for driver in drivers)

        while works() and not list(out.glob("*.shards")):  # before that it has not met its scheduler
            time.sleep(0.1)
        _disturb(machines, drivers, way, chance, works)
        try:
            ends = [(driver.communicate(timeout=PATIENCE)[1].decode(), driver.returncode) for driver in drivers]
            if way == "SIGKILL to the driver":
                machines.mind()
                code, text = run(start)
                ends.append((text, code))
        except subprocess.TimeoutExpired:
            for driver in drivers:
                driver.kill()
            return HANG, f"it did not end within {PATIENCE} s"
        return _judged(ends, way)
    finally:
        machines.end()
        shutil.rmtree(scratch, ignore_errors=True)


def _on_full_disk(job: Job, setting: Setting, out: Path, way: str, chance: random.Random) -> tuple[str, str] | None:
    """Let workers of this machine write into a file system that is too small, then make room. Needs leave to mount."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={chance.randint(8, 600)}k", "none", out]
    if subprocess.run(mount, capture_output=True).returncode:
        return ONE_LINE, "no leave to mount"
    start = [*job.start(setting, out), "--workers", 2, "--shard-rows", SHARD_ROWS]
    code, text = run(start)
    if (failure := of_stderr(text, code)) and failure[0] != ONE_LINE:
        return failure
    subprocess.run(["mount", "-o", "remount,size=500m", out], check=True)
    code, text = run(start)
    return (LOST, f"it cannot go on: {text[-500:]}") if code else None


def _driver(start: list) -> subprocess.Popen:
    command = [sys.executable, *map(str, start)]
    return subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _disturb(machines: Machines, drivers: list, way: str, chance: random.Random, works: Callable[[], bool]) -> None:
    """Do what `way` says at random moments while the drivers work."""
    deadline, blows = time.monotonic() + PATIENCE, 0
    while works() and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            drivers[0].wait(chance.uniform(0.5, 6))
        if not works():
            return
        machines.mind()
        computing = machines.computing()
        if way == "SIGKILL to a worker" and computing and blows < 5:
            send([chance.choice(computing)], signal.SIGKILL)
            blows += 1
        elif way == "SIGSTOP to a worker" and computing and not blows:
            stopped = chance.choice(computing)
            send([stopped], signal.SIGSTOP)
            with contextlib.suppress(subprocess.TimeoutExpired):
                drivers[0].wait(chance.uniform(1, 10))
            send([stopped], signal.SIGCONT)
            blows += 1
        elif way == "SIGKILL to the scheduler" and blows < 2:
            machines.scheduler.kill()
            machines.scheduler.wait()
            blows += 1
        elif way == "SIGKILL to the driver" and not blows:
            drivers[0].kill()
            blows += 1


def _compared(out: Path, job: Job, expected: dict[str, bytes]) -> tuple[str, str]:
    """Compare the result with the undisturbed one of one machine: (verdict, details)."""
    result = contents(job, out)
    if result != expected:
        names = sorted(name for name in {*result, *expected} if result.get(name) != expected.get(name))
        return LOST, f"other bytes than on one machine: {', '.join(names[:5])}"
    litter = [str(path) for path in out.rglob("*") if ".tmp-" in path.name or path.suffix in (".lock", ".zip")]
    return (LOST, f"left behind: {', '.join(litter[:5])}") if litter else (SAME, "")


def _judged(ends: list[tuple[str, int]], way: str) -> tuple[str, str] | None:
    """Judge how the drivers ended; None where that is as it should be, and the result is to be looked at."""
    if bad := [text for text, _ in ends if "Traceback (most recent call last)" in text]:
        return TRACEBACK, bad[0][-1500:]
    failures = [failure for text, code in ends if code >= 0 and (failure := of_stderr(text, code))]
    if way == "two drivers":
        return (LOST, f"both failed: {failures}") if len(failures) > 1 else None
    return (LOST, f"it gave up: {failures}") if failures else None
