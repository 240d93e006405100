"""What the bot says. Kind to everybody: a score is about a picture, not about who is in it."""

from __future__ import annotations

from selfie.data.label_rule import AUDIENCE, MEANINGS, Meaning

PRAISE = (  # least percentile -> what the post's bot would say
    (95, "Wow!"),
    (80, "Great one."),
    (50, "Good one."),
    (25, "Not bad."),
    (0, "Try more light, and a bit more distance."),
)
SQUASHED = "It is not square, so I squashed it: a square one does better."
HINT = 'Ask "?" and I tell what that means.'
OF_HALVES = "My score is how likely a picture is to get more likes than others with the same audience."
MEANING = (
    f"{OF_HALVES} I know light, framing and filters; I know nothing about people. No picture is kept. Say stop, and I "
    "never answer you again."
)
OF_EXTREMES = "My score is how likely a picture is {good} rather than {worse}; most are neither."
UNKNOWN = "But it is unlike all that I learned from, so do not take my word for it."
NO_PICTURE = "I see no picture: attach a selfie, or a link to one, and mention me again."
ETHICS = "docs/ethics.md"  # below the address of the project, where the bot's user names one


def score(name: str, score: float, percentile: float, square: bool, unknown: bool = False) -> str:
    """Tell a score in [0, 1] and its percentile in [0, 100]; `unknown`: of a picture that the net does not know."""
    praise = UNKNOWN if unknown else next(word for least, word in PRAISE if percentile >= least)
    parts = [
        f"@{name} looking at your selfie ... you get a score of {score:.1%}. {praise}",
        f"That beats {percentile:.0f} % of the selfies that I compare with.",
        *([] if square or unknown else [SQUASHED]),
        HINT,
    ]
    return " ".join(parts)


def meaning(name: str, about: str = "", labels: Meaning = MEANINGS[AUDIENCE]) -> str:
    """Tell what a score means, by the labels that were learned from, with an address where more is said."""
    text = MEANING
    if labels.extremes:
        text = OF_EXTREMES.format(good=labels.good, worse=labels.worse) + text.removeprefix(OF_HALVES)
    return f"@{name} {text}" + (f" {about}" if about else "")


def no_picture(name: str) -> str:
    """Tell that there is nothing to look at."""
    return f"@{name} {NO_PICTURE}"


def problem(name: str, why: str) -> str:
    """Tell why the picture has no score."""
    return f"@{name} I could not look at that: {why}."
