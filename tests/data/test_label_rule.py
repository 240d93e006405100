"""What labels mean goes with them: from the rule that made them to the run, its pages and its bot."""

from __future__ import annotations

import json

import pytest

import testlib
from selfie.common import html
from selfie.data import label_rule, lmdb_writer
from selfie.data.label_rule import MEANINGS
from selfie.runs.run_folder import Run
from selfie.serve import page
from selfie.serve.bot import words


@pytest.mark.parametrize(
    "rule, options", [("audience", ()), ("residual", ()), ("residual, deciles", ("--keep", "deciles"))]
)
def test_labels_say_by_which_rule_they_were_made(tmp_path, rule, options):
    """tools/label.py writes it beside them, whichever rule it follows."""
    rows = ["id,path,user,followers,likes,tags,posted_at"]
    for number in range(400):
        rows.append(f"s{number},s{number}.jpg,u{number},{100 + number},{number * 37 % 101},,2015-01-01T00:00:00Z")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    arguments = ["--manifest", tmp_path / "manifest.csv", "--out", tmp_path / "l.csv", "--as-of", "2015-10-25"]
    result = testlib.command("tools/label.py", *arguments, "--rule", rule.partition(",")[0], *options)
    assert result.returncode == 0, result.stderr
    assert label_rule.of(tmp_path / "l.csv") == rule


@pytest.mark.parametrize("text", [None, "{", "[]", '{"rule": "mine"}', '{"rule": ["audience"], "settings": 3}'])
def test_labels_without_a_report_that_can_be_read_are_halves(tmp_path, text):
    """As they were before there were others."""
    if text is not None:
        (tmp_path / "labels.report.json").write_text(text)
    assert label_rule.of(tmp_path / "labels.csv") == label_rule.AUDIENCE


def test_a_database_keeps_the_rule_and_a_run_knows_it(tiny_run, tmp_path):
    """Also where it is none that is known; runs of before have halves."""
    labels = testlib.pictures(tmp_path, {"train": 4, "val": 2})
    labels.with_suffix(".report.json").write_text(json.dumps({"rule": label_rule.PUBLISHED}))
    meta = lmdb_writer.build(labels, tmp_path / "images", tmp_path / "lmdb", jobs=1)["train"]
    assert meta["labels_file"]["rule"] == label_rule.PUBLISHED
    info = {**tiny_run.info, "lmdb": {**tiny_run.info["lmdb"], "train": meta}}
    assert Run(tiny_run.folder, info).meaning == MEANINGS[label_rule.PUBLISHED]
    for old in ({}, {"labels_file": {}}, {"labels_file": {"rule": "mine"}}):
        info["lmdb"]["train"] = {**{name: meta[name] for name in meta if name != "labels_file"}, **old}
        assert Run(tiny_run.folder, info).meaning == MEANINGS[label_rule.AUDIENCE]


@pytest.mark.parametrize("labels", MEANINGS.values())
def test_pages_and_bot_say_what_the_labels_are(labels):
    """Each in its own form; only extremes are told as such, and an answer of the bot fits X's 280 characters."""
    source = '{% from "parts.html" import meaning %}{{ meaning(56, labels) }}'
    shown, served = html.fill(source, labels=labels), page.make("run", 56, labels).text
    for text in (shown, served):
        assert labels.good in text and ("These are extremes" in text) == labels.extremes
    assert f'data-good="{labels.likelier(True)}"' in served and f'data-bad="{labels.likelier(False)}"' in served
    told = words.meaning("alice", labels=labels)
    assert (labels.good in told) == labels.extremes and len(told) <= 280
    assert told.endswith("never answer you again.") and ("more likes than others" in told) != labels.extremes
