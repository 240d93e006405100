"""What all commands have in common."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import testlib
from selfie.common import cli, paths

AS_IS = {cli.GUARD: "1"}  # environment in which a command does not look for the project's .venv
COMMANDS = sorted([*paths.ROOT.glob("tools/*.py"), *paths.ROOT.glob("pycaffe_scripts/*.py")])


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_help_works_without_any_package(path):
    """--help needs nothing but Python itself, so it is instant and works before `make setup`."""
    result = subprocess.run([sys.executable, "-S", "-E", path, "--help"], capture_output=True, text=True, env=AS_IS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage:") and len(result.stdout.splitlines()) > 6


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_an_unknown_flag_is_a_usage_error(path):
    """Exit code 2 and no traceback."""
    result = testlib.command(path, "--no-such-flag")
    assert result.returncode == 2 and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command, what",
    [
        (("score", ""), "an argument is empty"),
        (("score", "a.jpg", "--run", ""), "--run is empty"),
        (("score", "--run=", "a.jpg"), "--run is empty"),
        (("label", "--manifest", "m.csv", "--out", ""), "--out is empty"),
        (("make_lmdb", "--labels", "l.csv", "--images", "", "--out", "o"), "--images is empty"),
    ],
)
def test_an_empty_argument_is_a_usage_error(command, what):
    """A shell's variable that is not set. pathlib would take it for the current folder, and all pictures below."""
    result = testlib.command(f"tools/{command[0]}.py", *command[1:])
    assert result.returncode == 2 and result.stderr.splitlines()[-1].endswith(f"error: {what}")


def test_a_column_is_mapped_once():
    """Two columns for one name: which one would be meant?"""
    result = testlib.command(
        "tools/label.py", "--manifest", "m", "--out", "l.csv", "--map", "likes=a", "--map", "likes=b"
    )
    assert result.returncode == 2 and "--map likes is given twice: as a and as b" in result.stderr


@pytest.mark.parametrize(
    ("command", "option", "what"),
    [
        ("serve", ("--proxy", "*"), "'*' is not an IP address"),  # it would be everybody's word on who they are
        ("bot", ("--allow-network", "here"), "'here' is not an IP network"),
        ("gather", ("--allow-network", "10.0.0.1/8"), "'10.0.0.1/8' is not an IP network"),
        ("tsne_map", ("--seed", str(2**32)), "'4294967296' is not a seed"),
        ("train", ("--seed", "-1"), "'-1' is not a whole number of at least 0"),  # Caffe would take the clock's
    ],
)
def test_addresses_and_seeds_are_checked_at_once(command, option, what):
    """A usage error, before anything is started or asked."""
    result = testlib.command(f"tools/{command}.py", *option)
    assert result.returncode == 2 and what in result.stderr


def test_without_the_packages_a_command_says_make_setup(tmp_path):
    """A checkout without .venv tells what to do."""
    shutil.copytree(paths.ROOT / "tools", tmp_path / "tools")
    result = subprocess.run(
        [sys.executable, "-S", "-E", tmp_path / "tools" / "score.py", "README.md"],
        capture_output=True,
        text=True,
        env={},
    )
    testlib.assert_one_line_error(result, "run 'make setup'")


def test_any_python_finds_the_projects_environment(tiny_run, tiny_lmdb):
    """`python3 tools/score.py` works without activating anything: the command goes on in .venv."""
    python = Path(
        sys.executable
    ).resolve()  # the one that .venv was made with: from 3.14 on .venv's own knows it without site
    result = subprocess.run(
        [
            python,
            "-S",
            "-E",
            "tools/score.py",
            "--run",
            tiny_run.folder,
            tiny_lmdb.parent / "images" / "test0001.png",
        ],
        capture_output=True,
        text=True,
        env={},
        cwd=paths.ROOT,
    )
    assert result.returncode == 0 and "test0001.png" in result.stdout, result.stderr


def test_without_caffe_a_command_says_make_setup(tiny_run):
    """All packages are there, but Caffe is not built."""
    import numpy

    site_packages = str(Path(numpy.__file__).parents[1])  # as PYTHONPATH its link to Caffe does not count
    result = subprocess.run(
        [sys.executable, "-S", "tools/score.py", "--run", tiny_run.folder, "README.md"],
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        env={**AS_IS, "PYTHONPATH": site_packages},
    )
    testlib.assert_one_line_error(result, "run 'make setup'")


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path):
    """The old content stays, and no temporary file."""
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), paths.atomic_write(file) as out:
        out.write("new")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise MemoryError", "out of memory: free some, or raise its limit (ulimit -v), or ask for less"),
        ("raise OSError(errno.ENOMEM, 'x')", "out of memory"),
        ("raise OSError(errno.EMFILE, 'x', 'file')", "too many open files"),
        ("raise OSError(errno.ENFILE, 'x')", "too many open files"),
        ("raise OSError(errno.EAGAIN, 'x')", "most likely processes"),
        ('raise RuntimeError("can\'t start new thread")', "ulimit"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8)); [open('/dev/null') for _ in range(9)]", "too many open"),
        ("resource.setrlimit(resource.RLIMIT_AS, (1 << 29,) * 2); bytearray(1 << 30)", "out of memory"),
    ],
)
def test_what_the_system_has_too_little_of_is_one_line(code, words):
    script = f"import errno, resource\nfrom selfie.common import cli\ndef main():\n    {code}\ncli.run(main)"
    testlib.assert_one_line_error(testlib.command("-c", script), words)


@pytest.mark.parametrize("offered", [False, True])
def test_a_message_names_jobs_only_where_the_command_has_them(offered):
    script = "from selfie.common import cli\ndef main():\n    parser = cli.parser('x')\n"
    script += f"    {offered} and cli.add_jobs(parser)\n    raise MemoryError\ncli.run(main)"
    result = testlib.command("-c", script)
    testlib.assert_one_line_error(result, "out of memory")
    assert ("--jobs" in result.stderr) is offered


def test_numbers_that_nothing_can_hold_are_refused_with_their_option(capsys):
    for read, most in ((cli.positive, 2147483647), (cli.natural, 2147483647), (cli.up_to(200), 200)):
        parser = cli.parser("x")
        parser.add_argument("--count", type=read)
        assert parser.parse_args(["--count", str(most)]).count == most
        with pytest.raises(SystemExit):
            parser.parse_args(["--count", str(most + 1)])
        assert f"argument --count: '{most + 1}' is too large: give at most {most:,}" in capsys.readouterr().err


def test_other_errors_keep_their_traceback():
    script = "from selfie.common import cli\ndef main():\n    raise RuntimeError('a bug')\ncli.run(main)"
    result = testlib.command("-c", script)
    assert result.returncode == 1 and "Traceback" in result.stderr
