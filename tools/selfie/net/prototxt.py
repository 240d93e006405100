"""A small emitter of protobuf text format: dicts in, prototxt out.

A message is a dict; a list is a repeated field; a str is quoted, a Token (an enum value) is not. Short messages stand
on one line, longer ones are indented, so that the files read like the ones people write by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TO_ESCAPE = re.compile(r'[\\"\x00-\x1f\x7f]')


class Token(str):
    """An enum value: written without quotes."""


def dump(message: dict, comment: str = "") -> str:
    """Write `message` as protobuf text, under an optional `comment` (each of its lines gets a '#')."""
    head = [f"# {line}".rstrip() for line in comment.splitlines()]
    return "\n".join([*head, *_fields(message, "")]) + "\n"


def _fields(message: dict, indent: str) -> Iterator[str]:
    for name, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, dict):
                yield f"{indent}{name}: {scalar(item)}"
            elif (line := f"{indent}{name} {{ {_inline(item)} }}") and _is_short(item, line):
                yield line
            else:
                yield f"{indent}{name} {{"
                yield from _fields(item, indent + "  ")
                yield f"{indent}}}"


def _is_short(message: dict, line: str) -> bool:
    scalars = not any(isinstance(value, (dict, list)) for value in message.values())
    return scalars and len(message) <= 3 and len(line) <= 80


def _inline(message: dict) -> str:
    return " ".join(
        f"{name}: {scalar(value)}" for name, value in message.items() if not isinstance(value, (dict, list))
    )


def scalar(value: object) -> str:
    """Write a value that is no message: strings quoted and escaped, enum values (Token) bare."""
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + _TO_ESCAPE.sub(_escaped, value) + '"'
    return repr(value)


def _escaped(character: re.Match) -> str:
    """Escape as protobuf's text format has it: a backslash before quote and backslash, octal control characters."""
    text = character[0]
    return f"\\{text}" if text in '"\\' else f"\\{ord(text):03o}"
