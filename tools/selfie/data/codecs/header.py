"""What the header of an image file says."""

from __future__ import annotations

from typing import NamedTuple


class Header(NamedTuple):
    """What is known of a picture before it is decoded.

    kind           format, as in kinds.READ
    width, height  in pixels, as stored: before it is turned
    orientation    EXIF's, 1 to 8, where the decoder does not turn the picture itself
    alpha          whether it may be transparent
    frame          the part that has pixels, (left, top, right, bottom), where that is not all
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    alpha: bool = False
    frame: tuple[int, int, int, int] | None = None

    @property
    def pixels(self) -> int:
        return self.width * self.height
