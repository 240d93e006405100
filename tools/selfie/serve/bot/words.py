"""What the bot says. Kind to everybody: a score is about a picture, not about who is in it."""

from __future__ import annotations

PRAISE = (  # least percentile -> what the post's bot would say
    (95, "Wow!"),
    (80, "Great one."),
    (50, "Good one."),
    (25, "Not bad."),
    (0, "Try more light, and a bit more distance."),
)
SQUASHED = "It is not square, so I squashed it: a square one does better."
HINT = 'Ask "?" and I tell what that means.'
MEANING = (
    "My score is how likely a picture is to get more likes than others with the same audience. I know light, framing "
    "and filters; I know nothing about people. No picture is kept. Say stop, and I never answer you again."
)
NO_PICTURE = "I see no picture: attach a selfie, or a link to one, and mention me again."
ETHICS = "docs/ethics.md"  # below the address of the project, where the bot's user names one


def score(name: str, score: float, percentile: float, square: bool) -> str:
    """Tell a score in [0, 1] and its percentile in [0, 100]."""
    praise = next(word for least, word in PRAISE if percentile >= least)
    parts = [
        f"@{name} looking at your selfie ... you get a score of {score:.1%}. {praise}",
        f"That beats {percentile:.0f} % of the selfies that I compare with.",
        *([] if square else [SQUASHED]),
        HINT,
    ]
    return " ".join(parts)


def meaning(name: str, about: str = "") -> str:
    """Tell what a score means, with an address where more is said."""
    return f"@{name} {MEANING}" + (f" {about}" if about else "")


def no_picture(name: str) -> str:
    """Tell that there is nothing to look at."""
    return f"@{name} {NO_PICTURE}"


def problem(name: str, why: str) -> str:
    """Tell why the picture has no score."""
    return f"@{name} I could not look at that: {why}."
