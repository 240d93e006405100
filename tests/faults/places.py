"""Commands that write where there is no room, or where they may not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.jobs import JOBS, NOBODY, Job, Setting, run
from faults.outcome import HANG, LOST, ONE_LINE, Outcome, of_stderr
from faults.stops import ALL, Problem, Undisturbed, compared, judged, stop
from selfie.common import paths

READ_ONLY, FOREIGN_FOLDER, FOREIGN_FILES = WALLS = (
    "read-only disk",
    "not root, in root's folder",
    "not root, root's files",
)


@contextmanager
def disk(place: Path, options: str) -> Iterator[bool]:
    """Mount a small file system at `place`; yields whether that could be done."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", place], check=False)


def full_disk(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Run each command in a file system that is too small, then make room and let it go on. Needs leave to mount."""
    for number in numbers:
        for job in JOBS:
            chance = random.Random(f"{seed}/disk/{job.name}/{number}")
            kib = int(chance.uniform(0, 1.1) * sum(map(len, undisturbed.of(job)[0].values())) / 1024) + 4
            out = folder / "disk" / "out"
            with disk(out.parent, "size=500m") as mounted:
                if not mounted:
                    return
                job.laid(setting, out)
                taken = sum(path.stat().st_blocks for path in out.rglob("*") if path.is_file()) // 2
                subprocess.run(["mount", "-o", f"remount,size={kib + taken}k", out.parent], check=True)
                verdict, details = _tried(job, setting, out) or ("", "")
                subprocess.run(["mount", "-o", "remount,size=500m", out.parent], check=True)
                if not verdict:
                    verdict, details = compared(job, setting, out, undisturbed)
            yield Outcome("full disk", job.name, number, verdict, f"{kib} KiB: {details}" if details else "")


def _tried(job: Job, setting: Setting, out: Path, **process: object) -> Problem | None:
    """Run a command that may have to give up: (verdict, details) unless it ends well or in one line."""
    try:
        with job.output(out) as output:
            code, text = run(job.start(setting, out), output=output, **process)
    except subprocess.TimeoutExpired as error:
        return HANG, str(error)
    failure = of_stderr(text, code)
    return None if failure is None or failure[0] == ONE_LINE else failure


# --- no leave to write -----------------------------------------------------------------------------------------------


def walls(setting: Setting, folder: Path, undisturbed: Undisturbed, seed: int, numbers: range) -> Iterator[Outcome]:
    """Run each command where it may not write, then let it; what it says is one line. Needs leave to be somebody else.

    Of a command that cannot write at all, nothing may be there afterwards that was not before.
    """
    if os.geteuid() or not _others_may_run():
        return
    for number in numbers:
        for place, job in enumerate(JOBS):
            wall = WALLS[(number + place) % len(WALLS)]
            chance = random.Random(f"{seed}/walls/{job.name}/{number}")
            verdict, details = _walled(job, setting, folder / "walled", undisturbed, wall, chance)
            yield Outcome(wall, job.name, number, verdict, details)


def _others_may_run() -> bool:
    """Whether a process that is not root's can run the commands: the checkout may be in a home."""
    command = [sys.executable, "-c", "import selfie.common.cli, cv2"]
    try:
        return not subprocess.run(command, cwd=paths.ROOT, capture_output=True, **NOBODY).returncode
    except PermissionError:  # a Python that is in a home itself
        return False


def _walled(
    job: Job, setting: Setting, place: Path, undisturbed: Undisturbed, wall: str, chance: random.Random
) -> Problem:
    """Try a job against one of WALLS, then bring it to its end as root: (verdict, details)."""
    with disk(place, "size=500m") as mounted:
        if not mounted:
            return LOST, "cannot mount a disk"
        place.chmod(0o755)
        out = job.laid(setting, place / "out")
        problem = None
        if wall == FOREIGN_FILES:  # as when somebody said sudo once
            problem = stop(job, setting, out, ALL, chance.uniform(0, undisturbed.of(job)[1]), chance)[1]
            os.chown(out, NOBODY["user"], NOBODY["group"])
        before = _listed(out)
        if wall == READ_ONLY:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            problem = _judged(job, setting, out, undisturbed, before)
            subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        elif not problem:
            private = {**os.environ, "HOME": "/nonexistent", "TMPDIR": str(place)}
            place.chmod(0o1777)
            options = {**NOBODY, "env": private}
            seen = None if wall == FOREIGN_FILES else before
            problem = _judged(job, setting, out, undisturbed, seen, **options)
        return problem or compared(job, setting, out, undisturbed)


def _judged(
    job: Job, setting: Setting, out: Path, undisturbed: Undisturbed, before: set[str] | None, **process: object
) -> Problem | None:
    """Run a job against a wall: it ends well with the right result, or in one line with nothing new but in `before`."""
    try:
        code, text = run(job.start(setting, out), **process)
    except subprocess.TimeoutExpired as error:
        return HANG, str(error)
    failure = of_stderr(text, code)
    if failure and failure[0] != ONE_LINE:
        return failure
    if failure is None and not job.prints:
        verdict, details = judged(job, out, undisturbed)
        return (verdict, details) if verdict == LOST else None
    if before is not None and (new := _listed(out) - before):
        return LOST, f"half-written: {', '.join(sorted(new)[:5])}"
    return None


def _listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
