"""The look of every HTML page."""

from __future__ import annotations

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fafaf8; margin: 0 auto; max-width: 1100px;
       padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
img { max-width: 100%; height: auto; display: block; margin: .75rem 0; }
figure { margin: 0; } figcaption, .missing { color: #666; font-size: .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } td, th { padding: .2rem .8rem .2rem 0;
       text-align: left; vertical-align: top; } td + td { overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
code { background: #eee; padding: 0 .25em; }
.big { font-size: 2rem; font-weight: 600; } .cards { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; }
.confirmed { color: #2a7f4e; } .contradicted { color: #b03a2e; } a { color: #2a7f9e; }
"""
