"""The one exception for a picture that cannot be used."""

from __future__ import annotations

from selfie.common.errors import SelfieError


class BadImage(SelfieError):
    """A picture that cannot be used. Its message is one of a few fixed phrases, as rejects are counted by reason."""


BROKEN = "broken or truncated"
