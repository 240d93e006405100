"""The tables of docs/scale.md are those that docs/cluster/costs.py computes."""

from __future__ import annotations

import runpy

from selfie.common import paths


def test_the_note_has_the_tables_that_are_computed():
    """All lines, in order; and hours times cores' rates are pictures."""
    costs = runpy.run_path(str(paths.ROOT / "docs/cluster/costs.py"))
    note = (paths.ROOT / "docs/scale.md").read_text()
    for table in (costs["stages"](), costs["sizes"]()):
        assert len(table) > 5 and "\n" + "\n".join(table) + "\n\n" in note
    assert costs["digits"](1234.5) == "1,200" and costs["digits"](8.68) == "8.7" and costs["digits"](2.0) == "2"
