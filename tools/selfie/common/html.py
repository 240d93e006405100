"""HTML pages from the templates beside this file: the one way in which a page is made.

    html.render("report.html", title="...", table=html.Table(...)) -> the page, ready to be written

A template extends base.html, which has the style, the title and the blocks `style`, `content` and `footer`; parts.html
holds the macros `table`, `facts` and `figure` for the classes below. Values are text and are escaped; nobody marks
anything as safe but the filter `breakable`, which lets long paths and versions break where people would break them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = "content-security-policy"  # in base.html, until the page is there and its policy known
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than plain text.

    kind   its class in CSS, such as "confirmed"
    note   more text in grey, behind the first
    span   columns that it fills
    """

    text: str
    kind: str = ""
    note: str = ""
    span: int = 1


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells; a cell is text or a Cell. `caption` stands above it."""

    head: Sequence[str]
    rows: Sequence[Sequence[Union[str, Cell]]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with a caption.

    source          file beside the page, or a data: address
    width, height   in pixels, so that the page does not jump while it loads; 0: not known
    least           pixels: below this width it cannot be read, so it scrolls in a box of its own (600, 960 or 0)
    """

    source: str
    caption: str
    width: int = 0
    height: int = 0
    least: int = 0


def render(template: str, **values: Any) -> str:
    """Fill in a template of common/templates; a value that it asks for and does not get is an error."""
    page = _environment().get_template(template).render(policy=POLICY, **values)
    return page.replace(POLICY, _policy(page), 1)


def _policy(page: str) -> str:
    """Make a page's content security policy: pictures beside it or in it, its own style by its hash, nothing else.

    No script runs, whatever a name that slipped through would say. (file: is for browsers in which a page opened from a
    disk has no 'self'.)
    """
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" for style in styles)
    return f"default-src 'none'; img-src 'self' file: data:; style-src {hashes}; base-uri 'none'; form-action 'none'"


def fill(source: str, **values: Any) -> str:
    """Fill in a template given as text, under the same rules as `render`: a page that belongs to another package."""
    return _environment().from_string(source).render(**values)


def breakable(text: object) -> str:
    """Escape text and say where its lines may break.

    They may behind each slash, underscore and equals sign inside of a word (<wbr>), and not inside of an --option.
    """
    from markupsafe import Markup, escape

    broken = re.sub(r"(?<=[^\s/_=])([/_=])(?=[^\s/_=])", r"\1<wbr>", str(escape(text)))
    return Markup(re.sub(r"(?<![\w-])--[a-z][a-z-]*", r'<span class="whole">\g<0></span>', broken))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = breakable
    return environment
