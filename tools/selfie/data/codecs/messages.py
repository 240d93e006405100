"""What decoders say: C libraries write complaints to the process's stderr, where no user shall find them.

They are kept in a file that only we read. For JPEG that is also how damage is told: libjpeg makes up what is missing,
returns a picture, and says so on stderr alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import threading
from typing import Callable, TypeVar

T = TypeVar("T")

# libjpeg's warnings of pixels that are not the picture's. Bytes too many before a marker are none of them: some cameras
# write such, and the picture is whole.
_DAMAGE = re.compile(
    rb"Corrupt JPEG data: (premature end|bad Huffman|found marker|bad arithmetic)|Premature end of JPEG|"
    rb"Inconsistent progression"
)
_COMPLAINT = re.compile(_DAMAGE.pattern + rb"|extraneous bytes before marker")
_MOST = 1 << 16  # bytes of messages that are looked at


class Damaged(Exception):
    """A decoder returned a picture, but part of it is made up."""


class Messages:
    """The process's stderr while any thread decodes. All threads write to the same, so who said it must be found out.

    `of(work)` runs work() and returns its result; Damaged if libjpeg complained of it, with `strict` also of bytes too
    many. Where others decoded at the same time, work() is run again, alone: complaints are rare.
    """

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._inside = self._entered = 0
        self._waiting = 0  # threads that want to be alone; others let them in first
        self._alone = False
        self._saved: int | None = None
        self._file = -1

    def of(self, work: Callable[[], T], strict: bool = False) -> T:
        damage = _COMPLAINT if strict else _DAMAGE
        before = self._enter(alone=False)
        try:
            result = work()
        finally:
            complained, others = self._leave(before, damage)
        if not complained:
            return result
        if others:
            before = self._enter(alone=True)
            try:
                result = work()
            finally:
                complained, _ = self._leave(before, damage)
        if complained:
            raise Damaged
        return result

    def _enter(self, alone: bool) -> tuple[int, int, bool]:
        """Wait for a turn; return how much was said before it, its number, and whether others are inside."""
        with self._state:
            self._waiting += alone
            self._state.wait_for(lambda: not self._alone and not (self._inside if alone else self._waiting))
            self._waiting -= alone
            self._inside, self._entered, self._alone = self._inside + 1, self._entered + 1, alone
            if self._inside == 1:
                self._redirect()
            return os.fstat(self._file).st_size, self._entered, self._inside > 1

    def _leave(self, before: tuple[int, int, bool], damage: re.Pattern[bytes]) -> tuple[bool, bool]:
        """Return whether damage was told since, and whether others were inside meanwhile."""
        length, entered, others = before
        with self._state:
            new = os.fstat(self._file).st_size - length
            complained = new > 0 and bool(damage.search(os.pread(self._file, min(new, _MOST), length)))
            others = others or self._entered != entered
            self._inside, self._alone = self._inside - 1, False
            if self._inside == 0:
                self._restore()
            self._state.notify_all()
        return complained, others

    def _redirect(self) -> None:
        try:
            self._saved = os.dup(2)
        except OSError:  # the process has no stderr
            self._saved = None
        if self._file < 0:
            self._file = _unnamed_file()
        os.ftruncate(self._file, 0)
        os.dup2(self._file, 2)

    def _restore(self) -> None:
        if self._saved is None:
            os.close(2)
        else:
            os.dup2(self._saved, 2)
            os.close(self._saved)


def _unnamed_file() -> int:
    """Open a file without a name, in memory where the system can, to which every writer appends."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("selfie-decoders")
    else:
        handle, name = tempfile.mkstemp()
        os.unlink(name)
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_APPEND)
    return handle


decoders = Messages()
