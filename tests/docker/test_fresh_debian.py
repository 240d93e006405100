""".ci/fresh_debian: what can be tested without making a Debian."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import testlib
from selfie.common import paths

SCRIPT = paths.ROOT / ".ci" / "fresh_debian"


def run(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("arguments", [("14", "make"), ("13",), ()])
def test_an_unknown_release_or_no_command_is_refused(arguments):
    """Before anything is made."""
    result = run(*arguments)
    assert result.returncode == 2 and result.stderr.startswith("usage: ")


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    """One line; so is a folder to keep that is not there. Without root, or without debootstrap, that is the line."""
    (tmp_path / "mine").touch()
    for more in ([], ["--keep"]):
        result = run("--work", tmp_path, *more, "13", "true")
        testlib.assert_one_line_error(result)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.fixture
def made(tmp_path):
    """A folder in which a run has left a root, in place of chroot a program that tells what it would run."""
    (tmp_path / "work" / "debian-13" / "etc").mkdir(parents=True)
    (tmp_path / "work" / "debian-13" / "etc" / "debian_version").touch()
    root = tmp_path / "work" / "root-13"
    for folder in ("etc", "proc", "dev", "root/selfie"):
        (root / folder).mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    for name, text in {"unshare": 'printf "%s\\n" "$@"; exit 3', "debootstrap": "exit 9"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_the_commands_own_status_comes_back(made):
    """It runs in the clone, with what tests ask the environment for, and words stay words."""
    if os.geteuid() != 0:
        testlib.skip("root", "only root makes a Debian")
    environment = {"PATH": f"{made}:{os.environ['PATH']}", "SELFIE_MIRROR": str(made), "SELFIE_REQUIRE": "git"}
    result = run("--work", made / "work", "--keep", "13", "make", "report", "CROPS=a b", env=environment)
    assert result.returncode == 3, result.stderr
    lines = result.stdout.splitlines()
    assert "make report 'CROPS=a b'" in lines
    assert {"SELFIE_MIRROR=/mirror", "SELFIE_REQUIRE=git", "HOME=/root"} <= set(lines)
    assert any("/root/selfie" in line for line in lines) and lines[-1].startswith("exit status 3 after ")
