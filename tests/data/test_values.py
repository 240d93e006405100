"""Numbers and tags as people write them are what they mean, or missing, never something else."""

from __future__ import annotations

import polars as pl
import pytest

from selfie.common.errors import SelfieError
from selfie.data import manifest, values


@pytest.mark.parametrize(
    "text, plain, comma",
    [
        ("1,234", 1234, None),
        ("1,234,567", 1234567, 1234567),
        ("1.234.567", 1234567, 1234567),
        ("1 234", 1234, 1234),
        ("1\u202f234\u202f567", 1234567, 1234567),
        ("1'234", 1234, 1234),
        ("12.3k", 12300, 12300),
        ("12,3k", 12300, 12300),
        ("12 K", 12000, 12000),
        ("1.2M", 1200000, 1200000),
        ("2.05m", 2050000, 2050000),
        ("1.234k", None, None),
        ("1,234.0", 1234, None),
        ("1.234,0", None, 1234),
        ("12.0", 12, 12),
        ("12,5", None, None),
        ("0,123", None, None),
        ("1,23", None, None),
        ("12,34,567", 1234567, 1234567),
        ("1,23,456", 123456, 123456),
        ("1,23,45", None, None),
        ("1.2 mio", 1200000, 1200000),
        ("1,2 Mio.", 1200000, 1200000),
        ("3 Tsd.", 3000, 3000),
        ("12,3 тыс.", 12300, 12300),
        ("1.2万", 12000, 12000),
        ("2 lakh", 200000, 200000),
        ("2 mil", None, None),
        ("1`234", 1234, 1234),
        ("\u200e1,234", 1234, None),
        ("١٢٣", 123, 123),
        ("١٬٢٣٤", 1234, 1234),
        ("١٢٫٣k", 12300, 12300),
        ("１，２３４", 1234, None),
        ("１２.０００", None, 12000),
        ("−3", -3, -3),
        ("5²", None, None),
        ("-3", -3, -3),
        ("k", None, None),
        ("12 likes", None, None),
        ("", None, None),
    ],
)
def test_whole_numbers(text, plain, comma):
    """With a point before decimals (the default), and with a comma (--decimal ,)."""
    for decimal, meant in ((None, plain), (".", plain), (",", comma)):
        assert values.numbers(pl.Series("likes", [text, "7"]), True, decimal).values.to_list() == [meant, 7]


@pytest.mark.parametrize("whole", [True, False])
def test_a_number_of_400_digits_is_none(whole):
    """It is beyond what any column of numbers holds."""
    read = values.numbers(pl.Series("likes", ["9" * 400, "9" * 400 + "k", "7"]), whole)
    assert read.values.to_list() == [None, None, 7] and read.unreadable == 2


@pytest.mark.parametrize(
    "others, meant",
    [
        (["1.234.567"], 12000),
        (["3,5"], 12000),
        (["1.5"], 12),
        (["1234.000"], 12),
        (["0.000"], 12),
        (["812", "7.000"], None),
        ([], None),
    ],
)
def test_a_point_before_three_digits_is_told_by_the_other_values(others, meant):
    """12.000 is twelve or twelve thousand, never by a guess: without another value that tells it is refused."""
    column = pl.Series("likes", ["12.000", *others])
    if meant is None:
        with pytest.raises(SelfieError, match=r"m.csv: '12\.000' may be 12 or 12,000: say --decimal"):
            values.numbers(column, True, None, "m.csv")
        assert values.numbers(column, True, ",").values[0] == 12000
        assert values.numbers(column, True, ".").values[0] == 12
    else:
        read = values.numbers(column, True)
        assert read.values[0] == meant
        assert read.guessed.startswith(f"'12.000' is read as {'12,000' if meant > 12 else '12'}, as '")
        assert values.numbers(column, True, ".").guessed is None  # who says so need not be told


def test_real_numbers():
    """A decimal comma needs --decimal; a comma that may be either is missing, and counted with an example."""
    column = pl.Series("popularity", ["4.656", "0,75", "1,234", "1,234,567.5", "nan", "x"])
    read = values.numbers(column, False)
    assert read.values.to_list() == [4.656, None, None, 1234567.5, None, None]
    assert (read.unreadable, read.example) == (3, "0,75")
    assert values.numbers(column, False, ",").values.to_list() == [None, 0.75, 1.234, 1234567.5, None, None]


@pytest.mark.parametrize(
    "text, meant",
    [
        ("selfie me", "selfie me"),
        ("#selfie #me", "selfie me"),
        ("#selfie#me", "selfie me"),
        ("selfie,me", "selfie me"),
        ("#selfie, #me", "selfie me"),
        ("selfie|me", "selfie me"),
        ("selfie; me;", "selfie me"),
        ('["selfie", "me"]', "selfie me"),
        ("['selfie', 'me']", "selfie me"),
        ("new york, selfie", "newyork selfie"),
        ("selfie，me、you", "selfie me you"),
        ("＃selfie＃me", "selfie me"),
        ('{selfie,"my cat"}', "selfie mycat"),
        ('[{"name": "selfie", "url": "x"}, {"name": "me", "url": "y"}]', "selfie me"),
        ("[]", None),
        ("#", None),
    ],
)
def test_tags(tmp_path, text, meant):
    """However they are separated, tags are words with spaces between; so 30 with commas are 30."""
    pl.DataFrame({"id": ["1"], "tags": [text]}).write_csv(tmp_path / "m.csv")
    assert manifest.read(tmp_path / "m.csv")["tags"].to_list() == [meant]
    pl.DataFrame({"id": ["1"], "tags": [["#a", "b c", None]]}).write_parquet(tmp_path / "m.parquet")
    assert manifest.read(tmp_path / "m.parquet")["tags"].to_list() == ["a bc"]


@pytest.mark.parametrize(
    "texts",
    [
        ["selfie", "selfie me you", "", None],
        ["selfie  me", " selfie", "me ", "a\tb\nc", "  ", "\x0b", "a"],
        ["selfie\u00a0me", "été", "\u3000", "a b"],
    ],
)
def test_tags_are_counted_as_words(texts):
    """By the quick way and by the other: white space of any kind separates."""
    counts = values.tag_counts(pl.Series("tags", texts, dtype=pl.String))
    assert counts.to_list() == [len((text or "").split()) for text in texts]
