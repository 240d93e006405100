"""Pages from templates."""

from __future__ import annotations

import jinja2
import pytest

from selfie.common import html


@pytest.fixture
def page(tmp_path, monkeypatch):
    """render(body, **values): a page whose content is the template text `body`."""
    for file in html.TEMPLATES.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    monkeypatch.setattr(html, "TEMPLATES", tmp_path)
    html._environment.cache_clear()

    def render(body: str, **values) -> str:
        (tmp_path / "try.html").write_text(
            '{% extends "base.html" %}{% from "parts.html" import figure, facts, table %}'
            f"{{% block content %}}{body}{{% endblock %}}"
        )
        return html.render("try.html", title="a title", **values)

    yield render
    html._environment.cache_clear()


def test_everything_is_escaped(page):
    evil = "<script>alert(1)</script>"
    rows = [(evil, html.Cell(evil, evil, evil))]
    text = page(
        "{{ plain }}{{ table(rows) }}{{ facts([(plain, plain)]) }}{{ figure(picture) }}",
        plain=evil,
        rows=html.Table((evil,), rows, evil),
        picture=html.Figure('" onerror="x', evil),
    )
    assert "<script" not in text and ' onerror="' not in text
    assert text.count("&lt;script&gt;") == 11


def test_a_forgotten_value_is_an_error(page):
    with pytest.raises(jinja2.UndefinedError, match="accuracy"):
        page("{{ accuracy }}")


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("runs/a_b/x.csv", "runs/<wbr>a_<wbr>b/<wbr>x.csv"),
        ("/tmp/a", "/tmp/<wbr>a"),
        ("a < b/c & d", "a &lt; b/<wbr>c &amp; d"),
        ("5 / 6 = x", "5 / 6 = x"),
        (12, "12"),
        ("with --keep-face=1 -- or", 'with <span class="whole">--keep-face</span>=<wbr>1 -- or'),
    ],
)
def test_paths_may_break_where_people_would_break_them(text, broken):
    assert html.breakable(text) == broken
