"""Times as people write them."""

from __future__ import annotations

import re
from datetime import datetime, timezone


def now() -> str:
    """Return the time as files have it: ISO 8601, UTC, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def stamp(seconds: float) -> str:
    """Write seconds since 1970 as files have times: ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).isoformat()


def moment(iso: str) -> datetime:
    """Read an ISO 8601 time as servers write it (Z, fractions of any length) to the microsecond; UTC without a zone.

    ValueError for anything else.
    """
    text = re.sub(r"\.(\d{1,6})\d*", lambda match: f".{match[1]:0<6}", iso.strip())
    return _parsed(text.replace("Z", "+00:00"))


def seconds(iso: str) -> float:
    """Read such a time as seconds since 1970."""
    return moment(iso).timestamp()


def date(iso: str) -> str:
    """Write an ISO 8601 time as '28 November 2026, 00:21 UTC'; a time without a zone is in UTC."""
    moment = _parsed(iso)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def between(start: str, end: str) -> str:
    """Write how long it is from one ISO 8601 time to another: '2 min 18 s', '3 h 5 min', '2 days 4 h'.

    An end before the start is told as what it is: the clock was set back.
    """
    seconds = (_parsed(end) - _parsed(start)).total_seconds()
    return duration(seconds) if seconds >= 0 else "an unknown time (the clock was set back)"


def duration(seconds: float) -> str:
    """Write a number of seconds, at least 0, in the two largest units that it has; whole seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "day" if days == 1 else "days"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def _parsed(iso: str) -> datetime:
    moment = datetime.fromisoformat(iso)
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
