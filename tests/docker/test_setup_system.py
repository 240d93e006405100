"""docker/setup_system.sh, with a dpkg and an apt that only tell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from selfie.common import paths

DOCKER = paths.ROOT / "docker"


def names(kind: str) -> list[str]:
    return re.sub("#.*", "", (DOCKER / f"packages{kind}.txt").read_text()).split()


WANTED = names("-run")


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def system(tmp_path):
    """set_up(installed): run it for packages-run.txt where dpkg tells these lines, and apt-get changes nothing.

    Of what it would do (-s) apt-get knows nothing.
    """
    program(tmp_path / "dpkg-query", f"cat {tmp_path}/installed")
    told = f'echo "$*" >>{tmp_path}/apt; echo "${{APT_SAYS:-much}}"'
    told += '; case "$*" in *Status-Fd=3*) echo "$APT_PROGRESS" >&3;; esac'
    program(tmp_path / "apt-get", f'[ "$1" != -s ] || exit 100; {told}; exit "${{APT_STATUS:-0}}"')
    program(tmp_path / "sudo", 'exec "$@"')
    # A certificate bundle of this machine's own would be copied aside: that is tested nowhere but in a bare Debian.
    program(tmp_path / "install", "exit 0")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def set_up(installed: list[str], kind: str = "run", **more: str) -> tuple[subprocess.CompletedProcess, str]:
        (tmp_path / "installed").write_text("\n".join([*installed, "deinstall ok, "]) + "\n")
        (tmp_path / "apt").write_text("")
        command = ["bash", DOCKER / "setup_system.sh", kind]
        result = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True)
        return result, (tmp_path / "apt").read_text()

    return set_up


def test_nothing_is_done_where_all_is_installed(system):
    """Without a word; a package that provides one counts, as in Debian 13."""
    lines = [f"installed {name}, " for name in WANTED if name != "libprotobuf32"]
    result, calls = system([*lines, "installed libprotobuf32t64, libprotobuf32 (= 3.21.12), other"])
    assert (result.returncode, result.stdout, result.stderr, calls) == (0, "", "", "")


def test_only_what_is_missing_is_installed(system):
    """One line says which; apt's own many are not shown. What is still missing afterwards is an error."""
    lines = [f"installed {name}, " for name in WANTED if name != "make"]
    result, calls = system([*lines, "config-files make, "])
    assert result.stdout == "Installing Debian packages: make\n"
    assert re.search(r"Pattern-Only=true .*install -y --no-install-recommends make$", calls, re.M)
    assert result.returncode == 1 and result.stderr == "setup_system.sh: still missing after apt-get install: make\n"


def test_how_far_apt_is(system):
    """A line per quarter where no terminal is: the download is the first half."""
    status = [f"dlstatus:{number}:{percent}:Retrieving" for number, percent in enumerate((0, 20.5, 49.9, 60, 100))]
    status += [f"pmstatus:libx:amd64:{percent}:Unpacking" for percent in ("0", "33.3333", "75.0", "100")]
    result, _ = system([f"installed {name}, " for name in WANTED if name != "make"], APT_PROGRESS="\n".join(status))
    shown = [line for line in result.stdout.splitlines() if "percent" in line]
    assert shown == [f"  percent: {number} of 100" for number in (30, 50, 87, 100)]


def test_apt_is_quoted_when_it_fails(system):
    """Its own words, and then what was tried."""
    result, _ = system([], APT_SAYS="E: no route", APT_STATUS="100")
    first, last = result.stderr.splitlines()
    assert result.returncode == 1 and first == "E: no route" and "apt-get update failed" in last


def test_a_system_without_a_compiler_for_cuda_11_is_one_line(system):
    """Debian 13 has no g++-11; nothing is installed there."""
    result, calls = system([f"installed {name}, " for name in names("")], "build", CUDA="11.8")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "CUDA 11.8" in result.stderr and "use Debian 12" in result.stderr
    assert calls.splitlines() == [line for line in calls.splitlines() if line.endswith(" update")]
