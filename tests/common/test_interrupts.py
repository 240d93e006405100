"""Ctrl-C: one line or no word, from a command's first line to its last, and from none of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import testlib
from selfie.common import paths

COMMANDS = sorted([*paths.ROOT.glob("tools/*.py"), *paths.ROOT.glob("pycaffe_scripts/*.py")])
PIPES = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
KINDS = {  # name -> what runs with a process of its own
    "imap": "for _ in parallel.imap(time.sleep, [0.5] * 99, 2): pass",
    "alone": "parallel.alone(time.sleep, 60)",
}


def interrupted_at(module: str, *arguments: object) -> tuple[int, str]:
    """Send a command Ctrl-C once it has imported a module: exit code, and what it says of itself on stderr."""
    with testlib.started("-X", "importtime", *arguments, **PIPES) as process:
        said = []
        for line in process.stderr:
            if not line.startswith("import time:"):
                said.append(line)
            elif line.split()[-1] == module:
                process.send_signal(signal.SIGINT)
        return process.wait(), "".join(said)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_before_it_works_a_command_ends_without_a_word(path):
    """While it still imports what its first lines need: no traceback. (It may have come to its --help meanwhile.)"""
    code, said = interrupted_at("argparse", path, "--help")
    assert (code, said) in [(-signal.SIGINT, ""), (0, ""), (130, "error: interrupted\n")]


@pytest.mark.parametrize("module", ["selfie.common.quiet_start", "pathlib", "logging", "selfie.common.cli", "numpy"])
def test_at_no_moment_of_its_start_there_is_a_traceback(module, tmp_path):
    code, said = interrupted_at(
        module, "tools/filter_faces.py", "--manifest", "none", "--images", "none", "--out", tmp_path / "faces.csv"
    )
    assert (code, said) in [(-signal.SIGINT, ""), (130, "error: interrupted\n")]


def test_after_its_work_it_ends_without_a_word():
    """While Python waits for threads that are left, and clears up."""
    script = """if True:
        import sys, threading, time
        from selfie.common import cli

        def main():
            threading.Thread(target=lambda: (time.sleep(0.3), print("left", flush=True), time.sleep(60))).start()

        cli.run(main)
    """
    with testlib.started("-c", script, **{**PIPES, "stdout": subprocess.PIPE}) as process:
        assert process.stdout.readline() == "left\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (-signal.SIGINT, "")


def test_who_is_started_to_ignore_it_does():
    """As by nohup, or in the background of a script."""
    script = "import signal, selfie.common.quiet_start; from selfie.common import cli; cli.run(lambda: print(%s))"
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    result = testlib.command("-c", script % "signal.getsignal(2) is signal.SIG_IGN", **ignoring)
    assert result.stdout == "True\n", result.stderr
    usual = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    result = testlib.command("-c", script % "signal.getsignal(2) is signal.default_int_handler", **usual)
    assert result.stdout == "True\n", result.stderr


def test_importing_a_command_changes_no_signal():
    """A program that imports one, as tests do, keeps its Ctrl-C."""
    script = "import threading, signal, label; print(signal.getsignal(2) is signal.default_int_handler)"
    result = testlib.command(
        "-c",
        script,
        env={**os.environ, "PYTHONPATH": str(paths.ROOT / "tools")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert result.stdout == "True\n", result.stderr


def test_what_another_thread_takes_is_held_back_too():
    """The kernel gives a signal to any thread that does not block it; Python always answers it in the first one."""
    script = """if True:
        import os, signal, threading, time
        from selfie.common import interrupts

        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
        done = []
        try:
            with interrupts.held_back():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
                done.append("the block")
            done.append("what follows")
        except KeyboardInterrupt:
            done.append("interrupted")
        print(*done, signal.getsignal(2) is signal.default_int_handler)
    """
    default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    result = testlib.command("-c", script, **default)
    assert result.stdout == "the block interrupted True\n", result.stderr


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("seconds", [0, 0.02, 0.05])
def test_its_processes_say_nothing(kind, seconds):
    """A terminal sends Ctrl-C to all of them, those too that Python has not started yet; all end at once."""
    script = f"""if True:
        import time
        from selfie.common import cli, parallel

        def main():
            {KINDS[kind]}

        if __name__ == "__main__":
            cli.run(main)
    """
    with testlib.started("-c", script, **PIPES) as process:
        testlib.wait_until(lambda: workers(process.pid))
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "error: interrupted\n"
    assert process.returncode == 130


def workers(pid: int) -> list[int]:
    """The processes that multiprocessing has started below one."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    found = [child for task in tasks for child in (task / "children").read_text().split()]
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
