"""Values in the answers of servers, read strictly: what is not as it should be raises ValueError."""

from __future__ import annotations

import re
from typing import Any

TAG = re.compile(r"\w{1,100}")
URL = re.compile(r"https?://[^\s\x00-\x1f\x7f<>\"\ud800-\udfff]{1,2000}")  # JSON can hold halves of characters


def checked(value: Any) -> Any:
    """Return a value that is neither empty nor None."""
    if not value:
        raise ValueError(value)
    return value


def count(value: Any) -> int:
    """Read a number of likes or followers; some servers say -1 for a hidden one, which is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(value)
    return value
