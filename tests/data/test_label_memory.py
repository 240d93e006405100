"""Memory that labels take: of tens of millions of rows it holds one copy, and of each only what is needed still."""

from __future__ import annotations

import polars as pl
import pytest
from test_labels import AS_OF, simulated

from selfie.bench.workload import command, make_manifest
from selfie.data import labels, lean, manifest
from selfie.data.label_settings import Settings


@pytest.mark.parametrize("rule", ["audience", "residual"])
def test_what_was_read_is_used_up(tmp_path, rule):
    """Nobody holds the manifest's columns once they are judged, nor its rows in their old order once they are sorted;
    and the labels are those of a table that is kept."""
    kept = simulated(3000)
    kept.write_parquet(tmp_path / "manifest.parquet")
    settings = Settings(rule=rule, as_of=AS_OF, group_size=10)
    selfies = labels.read(tmp_path / "manifest.parquet", settings)
    assert selfies.table.height and not {"followers", "tags"} - set(selfies.table.columns)
    labelled, report = labels.label_selfies(selfies, settings)
    assert not selfies.table.columns
    columns = kept.columns
    frame = manifest.load(tmp_path / "manifest.parquet", labels.READS).frame
    again, again_report = labels.label(frame, settings)
    assert again.equals(labelled) and again_report == report
    assert frame.equals(kept.select(frame.columns)) and kept.columns == columns


def test_rows_are_taken_column_by_column():
    """By mark or number, in that order, of the columns that are named; what they were taken from is empty."""
    for rows, numbers in (([2, 0], [30, 10]), ([True, False, True], [10, 30])):
        table = pl.DataFrame({"a": [1, 2, 3], "b": [10, 20, 30], "c": list("xyz")})
        shared = table.clone()
        taken = lean.take(table, pl.Series(rows), ["c", "b"])
        assert taken.columns == ["c", "b"] and taken["b"].to_list() == numbers
        assert not table.columns and shared.height == 3
    lean.put(shared, pl.Series("b", [1, 1, 1]))
    assert sorted(shared.columns) == ["a", "b", "c"] and shared["b"].to_list() == [1, 1, 1]


def test_a_row_takes_less_than_300_bytes(tmp_path):
    """At its peak, with everything: 225 between these sizes; with two copies, as it was once, 360."""
    sizes = (100_000, 500_000)
    small, large = (
        command(
            *("tools/label.py", "--manifest", make_manifest(tmp_path, rows, ".parquet"), "--out", tmp_path / "l.csv"),
            POLARS_MAX_THREADS="2",
            _RJEM_MALLOC_CONF="dirty_decay_ms:0,muzzy_decay_ms:0",  # what is freed counts no longer
        ).megabytes
        for rows in sizes
    )
    assert (large - small) * 2**20 / (sizes[1] - sizes[0]) < 300
