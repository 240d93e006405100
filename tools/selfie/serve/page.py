"""The page: one file, with its style and script inside, and the policy that lets a browser run nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from selfie.common import html, paths
from selfie.data.label_rule import Meaning
from selfie.runs import trust

FILE = Path(__file__).with_name("page.html")
ETHICS = paths.ROOT / "docs" / "ethics.md"


@dataclass(frozen=True)
class Page:
    """The page's text, and the headers of it and of every other answer."""

    text: str
    headers: dict[str, str]


def make(run: str, selfies: int, labels: Meaning) -> Page:
    """Fill in the page: the run's name, how many validation selfies percentiles refer to, and what its labels mean."""
    values = {"run": run, "selfies": selfies, "labels": labels, "unknown_from": trust.UNKNOWN}
    text = html.fill(FILE.read_text(), ethics=ETHICS.exists(), **values)
    return Page(text, _headers(text))


def ethics() -> str | None:
    """Read docs/ethics.md, the checklist for whoever shows such a page; None where it is not there."""
    return ETHICS.read_text() if ETHICS.exists() else None


def _headers(text: str) -> dict[str, str]:
    """Say what the page may do, and that nothing is kept.

    Only the page's own style and script run, by their hashes; it talks to this server alone, and shows pictures that it
    has itself. Nobody may frame it.
    """
    policy = {
        "default-src": "'none'",
        "script-src": _hashes(text, "script"),
        "style-src": _hashes(text, "style"),
        "img-src": "blob: data:",
        "media-src": "blob:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-Robots-Tag": "noindex",
    }


def _hashes(text: str, tag: str) -> str:
    """Name the content of each <tag> by its hash."""
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)
