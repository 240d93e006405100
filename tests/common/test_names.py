"""Names of files in messages and tables: nothing reaches a terminal raw, and every name is found again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from selfie.common import names, paths

ODD = {
    "caf\udce9.jpg": r'"caf\xe9.jpg"',  # Latin-1
    "a\u2028b.jpg": r'"a\u2028b.jpg"',
    "a\nb\tc\rd.jpg": r'"a\nb\tc\rd.jpg"',
    "\x1b[2J\x07.jpg": r'"\u001b[2J\u0007.jpg"',
    "\u202egpj.exe": r'"\u202egpj.exe"',
    "\x85\x9b\x7f": r'"\u0085\u009b\u007f"',
    '"quoted".jpg': r'"\"quoted\".jpg"',
    "back\\slash\n": r'"back\\slash\n"',
    "\U000e0041": r'"\U000e0041"',
}
PLAIN = [
    "a.jpg",
    "with space.jpg",
    "Grüße 東京.jpg",
    "\U0001f469\u200d\U0001f467.jpg",
    "back\\xe9.jpg",
    'a "b".jpg',
    "",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_quoted_and_found_again(name):
    assert names.shown(name) == ODD[name]
    assert names.unquoted(ODD[name]) == name


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_stay_as_they_are(name):
    assert names.shown(name) == name == names.unquoted(name) == names.printable(name) == names.json_printable(name)


def test_any_bytes_come_back():
    """Of 20,000 names made of what is special somewhere."""
    chance = random.Random(0)
    for _ in range(20_000):
        raw = bytes(chance.choice(b'a"\\x0nuU8e\xe9\xc3\xa9\n\x80\xe2\xa8\x1b') for _ in range(chance.randrange(9)))
        name = os.fsdecode(raw)
        shown = names.shown(name)
        assert os.fsencode(names.unquoted(shown)) == raw
        assert "\n" not in shown and "\x1b" not in shown and shown.encode() is not None
        line = names.json_printable(json.dumps(name, ensure_ascii=False))
        assert json.loads(line) == name and b"\n" not in line.encode() and "\x1b" not in line


@pytest.mark.parametrize("text", ['"', '"a', r'"a\"', r'"\q"', r'"\x41"', r'"\u12"', '"a"b"'])
def test_what_was_not_quoted_here_is_refused(text):
    with pytest.raises(ValueError, match=r" in | of "):
        names.unquoted(text)


def test_a_command_tells_odd_names_in_one_line_that_a_terminal_only_shows():
    """Whoever forgets to quote a name, in an error, in a log message or on standard output."""
    code = """if True:
        import logging
        from selfie.common import cli
        from selfie.common.errors import SelfieError
        def main():
            logging.getLogger("any").warning("looking at %s", "a\\u2028b\\x1b[2J\\udce9")
            print("caf\\udce9")
            raise SelfieError("no such file: a\\u2028b\\x1b[2J\\udce9\\nof\\n  any kind")
        cli.run(main)
    """
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "tools")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert result.returncode == 1
    assert result.stderr.decode().split("\n") == [
        r"looking at a\u2028b\u001b[2J\xe9",
        r"error: no such file: a\u2028b\u001b[2J\xe9 of any kind",
        "",
    ]
    assert result.stdout == b"caf\\udce9\n"
