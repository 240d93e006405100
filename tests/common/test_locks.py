"""Locks: one process at a time, told who it is, free when it ends; temporary files of killed processes go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import testlib
from selfie.common import locks, paths, temporaries
from selfie.common.errors import SelfieError

HOLD = """
import sys
from pathlib import Path
from selfie.common import locks
with locks.folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path):
    """A process that holds the lock of `folder` until its stdin is closed."""
    return testlib.started("-c", HOLD, folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_second_process_is_told_who_holds_the_lock_and_gets_it_afterwards(tmp_path):
    with holder(tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SelfieError, match=f"process {process.pid} .*since .* UTC"), locks.folder(tmp_path):
            pass
        with pytest.raises(SelfieError, match="at work"):
            locks.check_free(tmp_path)
        process.communicate("")
    with locks.folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir()), "nothing is left of it"


def test_a_killed_holder_leaves_the_lock_free(tmp_path):
    with holder(tmp_path) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / locks.LOCK).exists()
    with locks.folder(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == os.getpid()


PARENT = """
import subprocess, sys
from pathlib import Path
from selfie.common import locks
with locks.folder(Path(sys.argv[1])) as handle:
    child = subprocess.Popen(["sleep", "60"], pass_fds=[handle])
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def test_a_child_that_inherits_the_lock_keeps_it(tmp_path):
    """As Caffe does, which still writes its snapshot when train.py was killed."""
    with testlib.started("-c", PARENT, tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
    try:
        with pytest.raises(SelfieError, match="was killed, but what it had started is still ending"):
            locks.check_free(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
    with locks.folder(tmp_path, patience=10):
        pass


def test_who_is_patient_gets_the_lock(tmp_path):
    with holder(tmp_path) as process:
        process.stdout.readline()
        process.stdin.close()
        with locks.folder(tmp_path, patience=30):
            pass


def test_of_many_at_once_one_works_at_a_time(tmp_path):
    """Each appends to a number, read before: with two at a time one is lost."""
    code = (
        "import sys; from pathlib import Path; from selfie.common import locks\n"
        "place = Path(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with locks.folder(place, patience=60):\n"
        "        text = (place / 'count').read_text() if (place / 'count').exists() else '0'\n"
        "        (place / 'count').write_text(str(int(text) + 1))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "80"


def test_where_a_file_is_in_the_way_it_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SelfieError, match="a file is in its place"), locks.folder(tmp_path / "file" / "folder"):
        pass
    with pytest.raises(SelfieError, match="is not a folder"), locks.file(tmp_path / "file" / "name"):
        pass


KILLED = """
import os, sys
from selfie.common import paths
with paths.atomic_path(sys.argv[1]):
    if len(sys.argv) > 2:
        os.kill(os.getpid(), 9)
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_temporary_files_of_killed_processes_are_swept_and_no_others(tmp_path):
    """The next write into the folder does it; what a living process writes, and what is not ours, stays."""
    out = tmp_path / "run.json"
    assert testlib.command("-c", KILLED, out, "kill").returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    mine = [tmp_path / ".run.settings.json", tmp_path / ".run.tmp-short.json", tmp_path / "run.tmp-abcdefgh.json"]
    for path in mine:
        path.touch()
    with testlib.started("-c", KILLED, out, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as living:
        living.stdout.readline()
        temporaries._swept.clear()
        paths.write_json(tmp_path / "other.json", {})
        [temporary] = set(tmp_path.iterdir()) - {*mine, tmp_path / "other.json"}
        assert temporaries.OURS.fullmatch(temporary.name)
        living.communicate("")
        assert living.returncode == 0
    assert set(tmp_path.iterdir()) == {*mine, out, tmp_path / "other.json"}
