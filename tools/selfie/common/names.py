r"""Names of files for humans and for tables: no name breaks a line, commands a terminal, or cannot be printed.

A name that needs nothing stays as it is. Any other stands in double quotes, with escapes as in many languages:

    \xNN              a byte 80 to ff that is not UTF-8
    \n \t \r \uNNNN \UNNNNNNNN
                      what a terminal obeys or a reader cannot see: control characters, line separators, marks that turn
                      the direction of writing
    \" \\             a quote, a backslash

A name that begins with a quote is quoted as well, so `unquoted` finds every name again, byte for byte.
"""

from __future__ import annotations

import os
import re
import unicodedata

# Control characters, format characters (directions, the byte order mark), separators of lines and paragraphs; and
# surrogates, Python's stand-in for bytes that are not UTF-8.
_ODD = {"Cc", "Cf", "Zl", "Zp", "Cs"}
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_LONG = {escape[1]: character for character, escape in _SHORT.items()}
_ESCAPE = re.compile(r'\\(?:x([89a-f][0-9a-f])|u([0-9a-f]{4})|U([0-9a-f]{8})|(["\\ntr]))')
_PLAIN = re.compile(r"[\x20-\x7e]*\Z")
_JOINERS = {"\u200c", "\u200d"}  # parts of ordinary words and emoji


def shown(name: str | os.PathLike) -> str:
    """Spell a file's name so that it can be printed, in one line, whatever it holds; most names stay as they are."""
    text = os.fspath(name)
    if not text.startswith('"') and not _odd(text):
        return text
    return '"' + "".join(_SHORT.get(each) or _escaped(each) for each in text) + '"'


def unquoted(text: str) -> str:
    """Return the name that `shown` was given, for os.fsencode or open. ValueError if `shown` cannot have written it."""
    if not text.startswith('"'):
        return text
    if len(text) < 2 or not text.endswith('"'):
        raise ValueError(f"no closing quote in {text}")
    body, name, place = text[1:-1], [], 0
    while place < len(body):
        escape = _ESCAPE.match(body, place)
        if escape is None and body[place] in '\\"':
            raise ValueError(f"no escape at character {place + 1} of {text}")
        name.append(_character(escape) if escape else body[place])
        place = escape.end() if escape else place + 1
    return "".join(name)


def printable(text: str) -> str:
    """Escape what a terminal obeys or cannot show in a message or a line of JSON; quotes and backslashes stay."""
    return text if _PLAIN.match(text) else "".join(_escaped(each) for each in text)


def json_printable(line: str) -> str:
    r"""Escape the same in a line of JSON: \uNNNN, so that it is still JSON; a byte that is no UTF-8 becomes \udcNN."""
    if _PLAIN.match(line):
        return line
    units = (each.encode("utf-16-be", "surrogatepass").hex() for each in line)
    pairs = zip(line, units)
    return "".join(
        "".join(f"\\u{unit[start : start + 4]}" for start in range(0, len(unit), 4)) if _odd(each) else each
        for each, unit in pairs
    )


def _odd(text: str) -> bool:
    return not _PLAIN.match(text) and any(unicodedata.category(each) in _ODD and each not in _JOINERS for each in text)


def _escaped(character: str) -> str:
    if not _odd(character):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return _SHORT.get(character) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _character(escape: re.Match) -> str:
    byte, short, long, single = escape.groups()
    if single:
        return _LONG[single]
    return chr(0xDC00 + int(byte, 16)) if byte else chr(int(short or long, 16))
