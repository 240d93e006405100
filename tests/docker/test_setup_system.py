"""docker/setup_system.sh, with a dpkg and an apt that only tell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from selfie.common import paths

DOCKER = paths.ROOT / "docker"
WANTED = re.sub("#.*", "", (DOCKER / "packages-run.txt").read_text()).split()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def system(tmp_path):
    """set_up(installed): run it for packages-run.txt where dpkg tells these lines, and apt-get changes nothing."""
    program(tmp_path / "dpkg-query", f"cat {tmp_path}/installed")
    program(tmp_path / "apt-get", f'echo "$*" >>{tmp_path}/apt; echo "${{APT_SAYS:-much}}"; exit "${{APT_STATUS:-0}}"')
    program(tmp_path / "sudo", 'exec "$@"')
    # A certificate bundle of this machine's own would be copied aside: that is tested nowhere but in a bare Debian.
    program(tmp_path / "install", "exit 0")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def set_up(installed: list[str], **more: str) -> tuple[subprocess.CompletedProcess, str]:
        (tmp_path / "installed").write_text("\n".join([*installed, "deinstall ok, "]) + "\n")
        (tmp_path / "apt").write_text("")
        command = ["bash", DOCKER / "setup_system.sh", "run"]
        result = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True)
        return result, (tmp_path / "apt").read_text()

    return set_up


def test_nothing_is_done_where_all_is_installed(system):
    """Without a word; a package that provides one counts, as in Debian 13."""
    lines = [f"installed {name}, " for name in WANTED if name != "libglib2.0-0"]
    result, calls = system([*lines, "installed libglib2.0-0t64, libglib2.0-0 (= 2.84.4), other"])
    assert (result.returncode, result.stdout, result.stderr, calls) == (0, "", "", "")


def test_only_what_is_missing_is_installed(system):
    """One line says which; apt's own many are not shown. What is still missing afterwards is an error."""
    lines = [f"installed {name}, " for name in WANTED if name != "make"]
    result, calls = system([*lines, "config-files make, "])
    assert result.stdout == "Installing Debian packages: make\n"
    assert re.search(r"install -y --no-install-recommends make$", calls, re.M)
    assert result.returncode == 1 and result.stderr == "setup_system.sh: still missing after apt-get install: make\n"


def test_apt_is_quoted_when_it_fails(system):
    """Its own words, and then what was tried."""
    result, _ = system([], APT_SAYS="E: no route", APT_STATUS="100")
    first, last = result.stderr.splitlines()
    assert result.returncode == 1 and first == "E: no route" and "apt-get update failed" in last
