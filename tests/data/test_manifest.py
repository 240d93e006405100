"""The table of selfies: what goes in comes out, typed the same from every format, and errors say where."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import import_ucf
from selfie.common.errors import SelfieError
from selfie.data import csv_table, importers, manifest

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")


def _table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": ["007", 'é,"quoted"', "3"],
            "path": ["a/007.jpg", "b c.jpg", "3.jpg"],
            "user": ["12", None, "x"],
            "followers": [10, None, 2**40],
            "likes": [0, -3, None],
            "tags": ["selfie me", None, "selfie"],
            "posted_at": ["2015-01-01T00:00:00Z", "yesterday", None],
            "face_count": [1, None, 2],
            "popularity": [1.5, None, 3.0],
            "camera": ["front", None, "007"],
        }
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read_back(tmp_path, suffix):
    """Every format keeps every value and type, columns of others included."""
    manifest.write(_table(), tmp_path / f"m{suffix}")
    assert manifest.read(tmp_path / f"m{suffix}").equals(_table(), null_equal=True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_columns_that_a_format_cannot_hold_are_written_as_text(tmp_path, suffix):
    """Lists, objects and bytes of foreign tables pass through: a command must not fail when all its work is done."""
    foreign = {
        "edge": [{"count": 3, "of": [b"x"]}, None],
        "images": [["a", "b"], []],
        "exif": [b"caf\xc3\xa9", b"\xff\x00"],
        "watched": pl.Series([5, None]).cast(pl.Duration("ms")),
    }
    frame = pl.DataFrame({"id": ["1", "2"], **foreign})
    manifest.write(frame, tmp_path / f"m{suffix}")
    read = manifest.read(tmp_path / f"m{suffix}")
    assert read["id"].to_list() == ["1", "2"] and set(frame.columns) <= set(read.columns)
    if suffix != ".parquet":
        assert read["exif"].to_list() == ["café", "ff00"]
        assert json.loads(read["edge"][0]) == {"count": 3, "of": ["x"]} and read["edge"][1] is None
    if suffix == ".csv":
        assert read["images"].to_list() == ['["a", "b"]', "[]"]


def test_foreign_columns_of_a_csv_stay_as_they_are_written(tmp_path):
    """What we do not know we do not touch: no 007 becomes 7, no 1.50 becomes 1.5."""
    text = "id,path,zip,price\n1,a.jpg,007,1.50\n2,b.jpg,,\n"
    (tmp_path / "m.csv").write_text(text)
    manifest.write(manifest.read(tmp_path / "m.csv"), tmp_path / "n.csv")
    assert (tmp_path / "n.csv").read_text() == text


def test_only_the_asked_columns_are_read(tmp_path):
    """Asking for a column that the file lacks is no error here: require() is for that."""
    manifest.write(_table(), tmp_path / "m.csv")
    assert manifest.read(tmp_path / "m.csv", ["likes", "id", "nothing"]).columns == ["id", "likes"]


@pytest.mark.parametrize(
    "written, meant",
    [
        ("12", 12),
        (" 12 ", 12),
        ("12.0", 12),
        ("-4", -4),
        ("1.5", None),
        ("n/a", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("99999999999999999999", None),
        ("12 likes", None),
    ],
)
def test_a_number_is_a_whole_number_or_missing(tmp_path, written, meant):
    """No text is guessed at: what is not a whole number is missing, so the labels can count it."""
    (tmp_path / "m.csv").write_text(f"id,likes\n1,{written}\n")
    assert manifest.read(tmp_path / "m.csv")["likes"].to_list() == [meant]


PLAIN = ("5", "007", "+5", "-5", "-0", " 5", "\t5", '"5"', '" 5"', "", '""', " ", str(2**63 - 1), "0" * 30 + "5")
OTHER = (
    "5 ",
    '"5 "',
    "5.0",
    "12.000",
    "1,234",
    "1e3",
    "1_000",
    "12k",
    str(2**63),
    "\u0665",
    "5\u00a0",
    "nan",
    "n/a",
    "x",
)


def test_whole_numbers_of_a_csv_are_read_as_if_they_had_been_text(tmp_path, monkeypatch):
    """Directly, where that can be, and otherwise as all else; with the same notes."""
    by_polars, types = csv_table._by_polars, []
    for value in (*PLAIN, *OTHER):
        lines = ["id;likes;followers;x", f"007;{value};3;{value}", "008;4;;z"]
        (tmp_path / "m.csv").write_bytes("".join(f"{line}\n" for line in lines).encode())
        found = []
        for never in (False, True):

            def polars(*given, never=never):
                frame = by_polars(*given[:-1], (lambda name: False) if never else given[-1])
                types.append(frame["likes"].dtype)
                return frame

            monkeypatch.setattr(csv_table, "_by_polars", polars)
            table = manifest.load(tmp_path / "m.csv", reading=manifest.Reading(decimal="."))
            found.append((table.frame.to_dicts(), table.notes))
        assert found[0] == found[1], value
    assert types[::2] == [pl.Int64] * len(PLAIN) + [pl.String] * len(OTHER) and {*types[1::2]} == {pl.String}


def test_ids_are_text_whatever_the_format_calls_them(tmp_path):
    """Numeric ids of JSON and Parquet become text; blank ones are missing, not lost."""
    (tmp_path / "m.jsonl").write_text('{"id": 1103284561234567890, "tags": ["a", "b"]}\n{"id": " "}\n')
    assert manifest.read(tmp_path / "m.jsonl").rows() == [("1103284561234567890", "a b"), (None, None)]
    pl.DataFrame({"id": [7]}).write_parquet(tmp_path / "m.parquet")
    assert manifest.read(tmp_path / "m.parquet")["id"].to_list() == ["7"]


def test_json_lines_may_mix_numbers_and_text(tmp_path):
    """One line's likes are 3, another's "n/a": the column is still a column of integers."""
    (tmp_path / "m.jsonl").write_text('{"id": "a", "likes": 3}\n{"id": "b", "likes": "n/a"}\n{"likes": 5.0}\n')
    assert manifest.read(tmp_path / "m.jsonl")["likes"].to_list() == [3, None, 5]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("second", ['{"name": "b"}', '{"name": 7, "n": "x"}', "null"])
def test_a_field_inside_of_a_column_that_has_our_name(tmp_path, suffix, second):
    """Without --map the message has the fields and how to choose one; mixed types need Python's reader."""
    file, rows = tmp_path / f"m{suffix}", [f'{{"id": "a", "user": {user}}}' for user in ('{"name": "a"}', second)]
    file.write_text(f"[{','.join(rows)}]" if suffix == ".json" else "\n".join(rows))
    with pytest.raises(SelfieError, match=r"'user' holds several fields \(user\.name.*--map user=user\.name"):
        manifest.read(file)
    users = manifest.read(file, reading=manifest.Reading({"user": "user.name"}))["user"]
    assert users[0] == "a" and users[1] == (None if second == "null" else str(json.loads(second)["name"]))


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("m.csv", b"id,path\n1,2\n3,4,5\n", "line 3 has 3 fields, the header 2"),
        ("m.csv", b'id,path\n1,"2\n', "line 2"),
        ("m.csv", b"", "empty"),
        ("m.jsonl", b'{"id": 1}\n{id: 2}\n', "line 2 is not JSON"),
        ("m.jsonl", b'{"id": 1}\n[2]\n', "line 2 is not a JSON object"),
        ("m.jsonl", b"", "empty"),
        ("m.parquet", b"not parquet at all", "cannot read"),
        ("m.xlsx", b"", "not a .xlsx file"),
    ],
)
def test_a_broken_file_is_one_line_that_says_where(tmp_path, name, content, complaint):
    """The message names the file and, where there are lines, the line."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SelfieError, match=complaint) as error:
        manifest.read(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_file_name_is_never_a_pattern(tmp_path):
    """A '*' or '[' in a name means itself."""
    for name in ("m[1].csv", "m*.csv"):
        manifest.write(_table(), tmp_path / name)
        assert manifest.read(tmp_path / name).height == 3


def test_missing_things_are_named(tmp_path):
    """A missing file, a folder in its place and a missing column are said in so many words."""
    with pytest.raises(SelfieError, match="no such manifest"):
        manifest.read(tmp_path / "m.csv")
    with pytest.raises(SelfieError, match="not a file"):
        manifest.read(tmp_path)
    with pytest.raises(SelfieError, match=r"m\.csv has no column 'wings' \(it has: id, path"):
        manifest.require(_table(), ["id", "wings"], "m.csv")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    """One line, and the older file is still there and whole."""
    manifest.write(_table(), tmp_path / "m.csv")
    before = (tmp_path / "m.csv").read_bytes()

    def half(self, file) -> None:
        file = Path(file)
        file.write_text("id\n1")
        raise pl.exceptions.ComputeError("No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", half)
    with pytest.raises(SelfieError, match=r"cannot write .*m\.csv: No space left"):
        manifest.write(pl.DataFrame({"id": [1]}), tmp_path / "m.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]
    assert (tmp_path / "m.csv").read_bytes() == before


def test_a_folder_of_images_is_a_manifest(tmp_path):
    """Every image below, sorted, in any case of the suffix; no other and no hidden file."""
    for name in ("b.JPG", "a/z.png", "a/notes.txt", ".hidden.jpg", ".git/x.jpg", "a.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert manifest.from_folder(tmp_path).rows() == [(name, name) for name in ("a.webp", "a/z.png", "b.JPG")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SelfieError, match="no image file"):
        manifest.from_folder(tmp_path / "empty")


def _ucf_line(name="00a", score="4.656", attributes="1 " * 35 + "-1") -> str:
    return f"{name} {score} {attributes}\n"


def test_ucf_is_imported(tmp_path):
    """38 fields a line become id, path, popularity and 36 named attributes, by the library and by the command."""
    (tmp_path / "ucf.txt").write_text(_ucf_line() + _ucf_line("b", "3", "0 " * 36))
    table = importers.from_ucf(tmp_path / "ucf.txt")
    assert table.select("id", "path", "popularity", "partial_faces", "dim_lighting").rows() == [
        ("00a", "00a.jpg", 4.656, 1, -1),
        ("b", "b.jpg", 3.0, 0, 0),
    ]
    assert table.width == 3 + 36
    import_ucf.main([str(tmp_path / "ucf.txt"), "--out", str(tmp_path / "ucf.csv")])
    assert (
        manifest.read(tmp_path / "ucf.csv")
        .select("id", "path", "popularity")
        .equals(table.select("id", "path", "popularity"))
    )


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("a 1 0 0\n", "line 2: 4 fields, expected 38"),
        (_ucf_line(score="good"), "line 2: the popularity score 'good'"),
        (_ucf_line(score="nan"), "line 2: the popularity score 'nan'"),
        (_ucf_line(attributes="0 2 " + "0 " * 34), "line 2: is_female is '2'"),
    ],
)
def test_a_bad_ucf_line_is_named(tmp_path, line, complaint):
    """The error gives the line and the field."""
    (tmp_path / "ucf.txt").write_text(_ucf_line() + line)
    with pytest.raises(SelfieError, match=complaint):
        importers.from_ucf(tmp_path / "ucf.txt")
