"""Tables of every dialect and format are read with all their rows, or refused in one line that says where."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import re
import shlex
import time
import zipfile
from datetime import time as time_of_day
from pathlib import Path

import openpyxl
import polars as pl
import pytest
import zstandard

import testlib
from selfie.common.errors import SelfieError
from selfie.data import csv_shape, csv_table, excel_table, joined, json_keys, manifest, tables, unpack

ROWS = [
    {"id": f"p{n}", "path": f"{n}.jpg", "user": f"u{n}", "likes": str(n * 7), "caption": f"é {n}"} for n in range(9)
]


def as_csv(rows: list[dict] | None = None, separator: str = ",", end: str = "\n", header: bool = True) -> str:
    text = io.StringIO()
    rows = ROWS if rows is None else rows
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator=end)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def by_csv(text: str) -> list[dict]:
    """What Python's csv module reads; an empty field is missing."""
    return [
        {name: value or None for name, value in row.items()} for row in csv.DictReader(io.StringIO(text, newline=""))
    ]


def two_inches(rows: int, where: tuple[int, ...]) -> str:
    """A table whose captions are not quoted, and hold a quote each in the rows of `where`."""
    captions = ["5'10\" tall" if n in where else "nice" for n in range(rows)]
    lines = [f"p{n},{n}.jpg,u{n},{n},selfie,2015-01-01,{caption}" for n, caption in enumerate(captions)]
    return "id,path,user,likes,tags,posted_at,caption\n" + "\n".join(lines) + "\n"


# --- no row is lost, none is shifted ---------------------------------------------------------------------------------


def test_quotes_inside_of_a_field_lose_no_row(tmp_path):
    """Two captions hold one quote each, unquoted: 400 rows, as csv reads them, whichever columns are asked for."""
    (tmp_path / "m.csv").write_text(text := two_inches(400, (50, 150)))
    expected = by_csv(text)
    for columns in (None, ["id", "likes"], ["caption"]):
        read = manifest.read(tmp_path / "m.csv", columns)
        assert read.height == len(expected) == 400
        for name in columns or read.columns:
            assert [None if value is None else str(value) for value in read[name]] == [row[name] for row in expected]


def test_every_command_reads_all_rows_of_such_a_table(tmp_path):
    """label.py and make_lmdb.py count what is there: 60 rows, no row fewer."""
    testlib.pictures(tmp_path, {"train": 60})
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    lines = [f"{line},{'caption' if not n else '6 2' + chr(34) * (n in (9, 35))}" for n, line in enumerate(lines)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    inputs = ("--labels", tmp_path / "labels.csv", "--images", tmp_path / "images", "--out", tmp_path / "lmdb")
    done = testlib.command("tools/make_lmdb.py", *inputs)
    assert "60 records" in done.stdout, done.stderr
    header, *rows = two_inches(400, (50, 150)).splitlines()
    table = "\n".join([header + ",followers", *(f"{row},100" for row in rows)])
    (tmp_path / "m.csv").write_text(table)
    done = testlib.command(
        "tools/label.py", "--manifest", tmp_path / "m.csv", "--out", tmp_path / "l.csv", "--min-age", 0
    )
    assert f"{'rows of the manifest':42} {'':>10} {400:>10}" in done.stdout, done.stderr


def test_an_unquoted_separator_is_a_line_of_error(tmp_path):
    """A caption `hi, you` without quotes would move every column behind it: refused, with its line."""
    (tmp_path / "m.csv").write_text("id,path,caption,comments,likes,followers\n1,a,hi,1,5,9\n2,b,hi, you,2,6,9\n")
    with pytest.raises(SelfieError, match="line 3 has 7 fields, the header 6"):
        manifest.read(tmp_path / "m.csv", ["id", "likes"])


@pytest.mark.parametrize("lost", [1, 7])
def test_a_reader_that_loses_rows_is_found_out(tmp_path, monkeypatch, lost):
    """Whatever fault polars may have: the count is another's, and the csv module reads the file then."""
    (tmp_path / "m.csv").write_text(as_csv())
    scan = pl.scan_csv
    monkeypatch.setattr(pl, "scan_csv", lambda *given, **options: scan(*given, **options).slice(lost))
    assert manifest.read(tmp_path / "m.csv")["id"].to_list() == [row["id"] for row in ROWS]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    scan_lines = pl.scan_ndjson
    monkeypatch.setattr(pl, "scan_ndjson", lambda *given, **options: scan_lines(*given, **options).slice(lost))
    assert manifest.read(tmp_path / "m.jsonl")["id"].to_list() == [row["id"] for row in ROWS]


def test_parquet_is_held_against_its_metadata(tmp_path, monkeypatch):
    """Columns of fewer rows than the file says it has are refused."""
    pl.DataFrame(ROWS).write_parquet(tmp_path / "m.parquet")
    assert manifest.read(tmp_path / "m.parquet").height == len(ROWS)
    collect = pl.LazyFrame.collect
    monkeypatch.setattr(pl.LazyFrame, "collect", lambda self: collect(self)[: 1 + len(ROWS) // 2])
    with pytest.raises(SelfieError, match="it has 9 rows, but 5 were read"):
        tables.load(tmp_path / "m.parquet")


def _random_csv(rng: random.Random) -> str:
    """A table of awkward texts, well-formed or damaged in a few places."""
    width, text = rng.randrange(1, 6), io.StringIO()
    end, quoting = rng.choice(["\n", "\r\n"]), rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(text, lineterminator=end, quoting=quoting)
    writer.writerow([f"c{n}" for n in range(width)])
    for _ in range(rng.randrange(9)):
        cells = ["".join(rng.choice('ab,"\né #') for _ in range(rng.randrange(4))) for _ in range(width)]
        writer.writerow(cells[: width - (rng.random() < 0.05)])
    text = text.getvalue()
    for _ in range(rng.choice([0, 0, 1, 3])):
        place = rng.randrange(text.index("\n") + 1, len(text) + 1)
        text = text[:place] + rng.choice(['"', ",", "\n", "\r", "x"]) + text[place:]
    return text


def _closed(text: str) -> bool:
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        return "unexpected end" not in str(error)
    return True


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_the_count_is_that_of_pythons_csv_module(tmp_path, monkeypatch, block):
    """Records, fields, blank lines, the first long and short record: on random tables, in blocks of any size."""
    monkeypatch.setattr(csv_shape, "BLOCK", block)
    rng, regular = random.Random(block), 0
    for _ in range(600):
        text = _random_csv(rng)
        (tmp_path / "t.csv").write_bytes(text.encode())
        shape = csv_shape.measure(tmp_path / "t.csv", ",")
        if shape.irregular is not None:
            continue
        assert _closed(text) == (shape.open_quote is None)
        if shape.open_quote is None:
            reader = csv.reader(io.StringIO(text, newline=""))
            records = [(reader.line_num, len(row)) for row in reader]
            (_, width), *rows = [record for record in records if record[1]]
            assert (shape.records, shape.fields) == (len(rows), width), text
            assert shape.blank == sum(not fields for _, fields in records)
            assert shape.long == next((row for row in rows if row[1] > width), None)
            assert shape.short == next((row for row in rows if row[1] < width), None)
            regular += 1
    assert regular > 200


def test_what_is_read_is_what_pythons_csv_module_reads(tmp_path, monkeypatch):
    """Every value, by either way, of random tables and columns; or one of three errors, each for its reason."""
    rng, fast, read = random.Random(2015), [], 0
    by_polars = csv_table._by_polars
    monkeypatch.setattr(csv_table, "_by_polars", lambda *given: fast.append(1) or by_polars(*given))
    for _ in range(800):
        text = _random_csv(rng)
        (tmp_path / "t.csv").write_bytes(text.encode())
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        try:
            table = tables.load(tmp_path / "t.csv", lambda names: rng.sample(names, rng.randint(1, len(names))))
        except SelfieError as error:
            wrong = any(len(row) > len(header) for row in rows)
            assert wrong or "never closed" in str(error) or "look like rows" in str(error), (text, error)
            continue
        assert table.names == header
        expected = [dict(zip(header, row + [""] * len(header))) for row in rows]
        frame = table.frame.fill_null("")
        assert frame.to_dicts() == [{name: row[name] for name in frame.columns} for row in expected], text
        read += 1
    assert read > 400 and 200 < len(fast) < 800


def test_a_quote_that_swallows_rows_is_refused(tmp_path):
    """A caption begins with a quote that another row closes, so it holds the rows between: an error here."""
    rows = [f"p{n},{n}.jpg,u{n},{n},text" for n in range(40)]
    rows[10], rows[30] = 'p10,10.jpg,u10,10,"hello', 'p30,30.jpg,u30,30,bye"'
    (tmp_path / "m.csv").write_text("\n".join(["id,path,user,likes,caption", *rows]) + "\n")
    with pytest.raises(SelfieError, match="lines from line 13 on look like rows"):
        manifest.read(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text('id,path,user,likes,caption\n1,a,b,3,"a\nb,c\n\nd"\n')  # captions may have lines
    assert manifest.read(tmp_path / "m.csv")["caption"].to_list() == ["a\nb,c\n\nd"]


def test_an_open_quote_is_named_with_its_line(tmp_path):
    """The line where it opens, not the end of the file; the same when another quote is irregular."""
    for caption in ("ok", "5' 10\" tall"):
        (tmp_path / "m.csv").write_text(f'id,path,caption\n1,a,{caption}\n2,b,"open\n3,c,ok\n')
        with pytest.raises(SelfieError, match="line 3 opens a quote that is never closed"):
            manifest.read(tmp_path / "m.csv")


def test_short_rows_and_repeated_columns_are_told(tmp_path, caplog):
    """What is missing is empty; of columns with one name the first counts; both are said."""
    caplog.set_level("INFO")
    (tmp_path / "m.csv").write_text("id,path,likes,likes\n1,a.jpg,3,4\n2,b.jpg\n")
    assert manifest.read(tmp_path / "m.csv")["likes"].to_list() == [3, None]
    assert "1 row with fewer fields than the header's 4 (the first, line 3, has 2)" in caplog.text
    assert "more than one column is called 'likes': the first is taken" in caplog.text


@pytest.mark.parametrize("name", ["m.xlsx", "m.json"])
def test_repeated_columns_are_told_of_every_format(tmp_path, name):
    """Of workbooks, and of JSON as pandas splits it; the first counts there, too."""
    names, rows = ["id", "likes", "likes"], [["a", 3, 4], ["b", 5, 6]]
    book = openpyxl.Workbook()
    _sheet(book.active, [names, *rows])
    book.save(tmp_path / "m.xlsx")
    (tmp_path / "m.json").write_text(json.dumps({"columns": names, "index": [0, 1], "data": rows}))
    table = manifest.load(tmp_path / name)
    assert table.frame["likes"].to_list() == [3, 5]
    assert "more than one column is called 'likes': the first is taken" in table.notes


# --- dialects and formats --------------------------------------------------------------------------------------------


def _workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(list(ROWS[0]))
    for row in ROWS:
        book.active.append([int(value) if name == "likes" else value for name, value in row.items()])
    book.save(path)


def test_a_workbook_that_is_damaged_is_one_line(tmp_path):
    """Wherever that is: zipfile, zlib, the XML parser and openpyxl each have errors of their own."""
    _workbook(tmp_path / "whole.xlsx")
    whole, refused = (tmp_path / "whole.xlsx").read_bytes(), 0
    for place in range(0, len(whole), 17):
        (tmp_path / "m.xlsx").write_bytes(whole[:place] + b"\xff\x00\x7f\x80" + whole[place + 4 :])
        try:
            manifest.read(tmp_path / "m.xlsx")
        except SelfieError:
            refused += 1
    assert refused > 10


DIALECTS = {
    "semicolon.csv": (as_csv(separator=";").encode(), "semicolons"),
    "tab.tsv": (as_csv(separator="\t").encode(), "tabs"),
    "pipe.txt": (as_csv(separator="|").encode(), "pipes"),
    "mark.csv": (as_csv().encode("utf-8-sig"), ""),
    "crlf.csv": (as_csv(end="\r\n").encode(), ""),
    "cr.csv": (as_csv(end="\r").encode(), ""),
    "utf16.csv": (as_csv().encode("utf-16"), "UTF-16"),
    "utf16le.csv": (as_csv(separator=";").encode("utf-16-le"), "semicolons; UTF-16"),
    "utf16be.csv": (as_csv(end="\r\n").encode("utf-16-be"), "UTF-16"),
    "latin.csv": (as_csv(separator=";").encode("latin-1"), "semicolons; Latin-1"),
    "sep.csv": (b"sep=,\r\n" + as_csv(end="\r\n").encode(), ""),
    "sep2.csv": (b'"sep=;"\n' + as_csv(separator=";").encode(), "semicolons"),
    "sep latin.csv": (b"sep=;\r\n" + as_csv(separator=";", end="\r\n").encode("latin-1"), "semicolons; Latin-1"),
    "comments latin.csv": (b"# from here\n" + as_csv().encode("latin-1"), "Latin-1; 1 comment line"),
    "blank latin.csv": (b"\n" + as_csv().encode("latin-1"), "Latin-1"),
    "sep3.csv": ("sep=§\n".encode() + as_csv().encode(), ""),
    "padded.csv": (as_csv(separator=",").replace(",", ", ").encode(), "spaces around the fields left out"),
    "padded quotes.csv": (
        as_csv().replace("é ", '"é ').replace(",", ", ").replace("\n", '"\n').replace('caption"', "caption").encode(),
        "spaces around the fields left out",
    ),
    "carets.csv": (as_csv(separator="^").encode(), "carets"),
    "hive.csv": (as_csv(separator="\x01").encode(), "control characters (01)"),
    "single quotes.csv": (
        "".join("'" + "','".join(line.split(",")) + "'\n" for line in as_csv().splitlines()).encode(),
        "fields quoted by '",
    ),
    "utf32.csv": (as_csv().encode("utf-32"), "UTF-32"),
    "utf32be.csv": (as_csv().encode("utf-32-be"), "UTF-32"),
    "titles.csv": (b"My export\nof 2015, by a tool\n\n" + as_csv().encode(), "2 lines of other text before the header"),
    "title.csv": (b"My export,,,,\r\n" + as_csv(end="\r\n").encode(), "1 line of other text"),
    "separators.csv": ("# exported\u2028by a tool\n".encode() + as_csv().encode(), "1 comment line"),
    "comments.csv": (b"# exported, by a tool\n#\n\n" + as_csv().encode(), "2 comment lines"),
    "blank.csv": (b"\n\n" + as_csv().encode() + b"\n\n", ""),
    "lines.jsonl": ("".join(json.dumps(row) + "\n" for row in ROWS).encode("utf-8-sig"), ""),
    "called.csv": ("".join(json.dumps(row) + "\n" for row in ROWS).encode(), ""),
    "array.csv": (json.dumps(ROWS, indent=1).encode(), ""),
    "array.jsonl": (json.dumps(ROWS).encode(), ""),
    "jq.jsonl": ("".join(json.dumps(row, indent=2) + "\n" for row in ROWS).encode(), ""),
    "jq.json": ("".join(json.dumps(row, indent=2) + "\n" for row in ROWS).encode(), ""),
    "one line.jsonl": ("".join(json.dumps(row) for row in ROWS).encode(), ""),
    "sequence.jsonl": ("".join(f"\x1e{json.dumps(row)}\n" for row in ROWS).encode(), ""),
    "returns.jsonl": ("".join(json.dumps(row) + "\r" for row in ROWS).encode(), ""),
    "commas.jsonl": ("".join(json.dumps(row) + ",\n" for row in ROWS).encode(), ""),
    "pandas.json": (
        json.dumps({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}).encode(),
        "",
    ),
    "pandas index.json": (json.dumps({str(n): row for n, row in enumerate(ROWS)}).encode(), ""),
    "pandas split.json": (
        json.dumps({"columns": list(ROWS[0]), "index": [0], "data": [list(row.values()) for row in ROWS]}).encode(),
        "",
    ),
    "columns.json": (json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode(), ""),
    "array.json": (json.dumps(ROWS).encode("utf-8-sig"), ""),
    "object.json": (json.dumps({"count": 9, "items": ROWS}).encode(), ""),
    "packed.csv.gz": (gzip.compress(as_csv().encode()), "gzip"),
    "packed.csv.xz": (lzma.compress(as_csv().encode()), "xz"),
    "packed.csv.bz2": (bz2.compress(as_csv().encode()), "bzip2"),
    "packed.csv.zst": (zstandard.compress(as_csv().encode()), "Zstandard"),
    "packed.csv": (gzip.compress(as_csv(separator="\t").encode("latin-1")), "gzip; fields separated by tabs; Latin-1"),
    "packed.jsonl.gz": (gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()), "gzip"),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_are_recognised_and_told(tmp_path, caplog, name):
    """The same nine rows from each, and what was recognised in one line, or nothing for the plain kind."""
    caplog.set_level("INFO")
    content, told = DIALECTS[name]
    (tmp_path / name).write_bytes(content)
    read = manifest.read(tmp_path / name)
    assert read.rows(named=True) == [{**row, "likes": int(row["likes"])} for row in ROWS]
    assert manifest.read(tmp_path / name, ["likes"])["likes"].to_list() == [n * 7 for n in range(9)]
    assert told in caplog.text and (told or not caplog.text)


@pytest.mark.parametrize("name", ["m.xlsx", "m.csv", "packed.zip", "m.parquet"])
def test_workbooks_archives_and_parquet_by_any_name(tmp_path, name):
    """What a file is, its first bytes say: an .xlsx called .csv, a table in a zip archive."""
    if name == "packed.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("folder/m.csv", as_csv(separator=";"))
    elif name == "m.parquet":
        pl.DataFrame(ROWS).write_parquet(tmp_path / name)
    else:
        _workbook(tmp_path / name)
    assert manifest.read(tmp_path / name).rows(named=True) == [{**row, "likes": int(row["likes"])} for row in ROWS]


@pytest.mark.parametrize("inside", ["../../m.csv", "/etc/m.csv", "x" * 300 + ".csv"])
def test_a_zip_archive_may_call_its_table_as_it_likes(tmp_path, monkeypatch, inside):
    """Its name there leads nowhere, and is no name of a file here."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr(inside, as_csv())
    assert manifest.read(tmp_path / "m.zip").height == len(ROWS)
    assert sorted(os.listdir(tmp_path)) == ["m.zip", "temporary"] and not os.listdir(tmp_path / "temporary")


def test_large_files_are_recognised_as_small_ones(tmp_path):
    """A character that is not UTF-8 in the last of many blocks, and a sample that ends inside of a line."""
    text = "id;path;caption\n" + "".join(f"{n};{n}.jpg;text\n" for n in range(200_000))
    (tmp_path / "m.csv").write_bytes((text + "é;é.jpg;é\n").encode("latin-1"))
    read = manifest.read(tmp_path / "m.csv")
    assert read.height == 200_001 and read["path"][-1] == "é.jpg"
    (tmp_path / "m.csv").write_bytes((text + "é;é.jpg;").encode() + b"cut \xf0\x9f\n")
    table = manifest.load(tmp_path / "m.csv")
    assert table.frame["path"][-1] == "é.jpg" and "line 200002 holds bytes that are not UTF-8" in table.notes[-1]


def test_json_lines_may_hold_what_python_writes(tmp_path):
    """NaN is null, a nested field has a name, and text that looks like a number stays text."""
    lines = ['{"id": "007", "likes": NaN, "edge": {"count": 3}}', "", '{"id": 8, "likes": 5, "edge": null}']
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    read = manifest.read(
        tmp_path / "m.jsonl", ["id", "likes", "followers"], manifest.Reading({"followers": "edge.count"})
    )
    assert read.sort("id").rows(named=True) == [
        {"id": "007", "likes": None, "followers": 3},
        {"id": "8", "likes": 5, "followers": None},
    ]


def test_what_becomes_too_large_is_refused(tmp_path, monkeypatch):
    """A small file that unpacks to a thousand times its size ends in one line, and leaves nothing behind."""
    monkeypatch.setattr(unpack, "ALWAYS", 1 << 20)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    bomb = gzip.compress(b"id,path\n" + b"0" * (64 << 20))
    (tmp_path / "m.csv.gz").write_bytes(bomb)
    with pytest.raises(SelfieError, match="over 100 times its own size"):
        manifest.read(tmp_path / "m.csv.gz")
    with zipfile.ZipFile(tmp_path / "m.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * (64 << 20))
    with pytest.raises(SelfieError, match="becomes 64 MB"):
        manifest.read(tmp_path / "m.xlsx")
    assert sorted(os.listdir(tmp_path)) == ["m.csv.gz", "m.xlsx"]


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("m.csv.gz", gzip.compress(as_csv().encode())[:-9], "gzip data are damaged or cut off"),
        ("m.csv.xz", lzma.compress(as_csv().encode())[:-9], "xz data are damaged or cut off"),
        ("m.csv.zst", zstandard.compress(as_csv().encode())[:9], "damaged|empty"),
        ("m.csv", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "old Excel workbook"),
        ("m.json", b'{"a": 1}', "not an array of JSON objects"),
        ("m.json", b"[1, 2", "not JSON"),
        ("m.csv", "id,path\n1,é".encode("utf-16")[:-1], "not UTF-16"),
        ("m.ods", b"id,path", "is named .csv"),
        ("m.zip", b"PK\x05\x06" + b"\0" * 18, "is an empty zip archive"),
    ],
)
def test_damage_is_one_line(tmp_path, name, content, complaint):
    """The message names the file and what is wrong with it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SelfieError, match=complaint) as error:
        manifest.read(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        'when,hearts,words\n1,2,"id,path,user"\n3,4,5\n',
        "when;hearts;words\n1;2;likes,tags,user\n3;4;5\n",
        'when,hearts,words\n1,2,"#likes,#tags,#photo"\n3,4,5\n',
        "when,hearts,words\nid,path,user\n3,4,5\n",
        "# likes, tags, user and more\nwhen,hearts,words\n1,2,3\n4,5,6\n",
    ],
)
def test_a_row_is_never_taken_for_the_header(tmp_path, text):
    """Where the header has no known name, but a field of a row, or the row, has several."""
    (tmp_path / "m.csv").write_text(text)
    table = manifest.load(tmp_path / "m.csv")
    assert table.names == ["when", "hearts", "words"] and table.frame.height == 2


@pytest.mark.parametrize("line", ["# id,path,user,likes,caption", "#id,path,user,likes,caption"])
def test_a_header_may_begin_as_a_comment(tmp_path, line):
    """As NumPy and tools of genomes write it; a comment that lists the columns of a header below stays one."""
    body = as_csv(header=False)
    for start in (line, "# columns: id,path,user,likes,caption\nid,path,user,likes,caption"):
        (tmp_path / "m.csv").write_text(f"{start}\n{body}")
        read = manifest.read(tmp_path / "m.csv", ["id", "path", "likes"])
        assert read["id"].to_list() == [row["id"] for row in ROWS] and read["likes"].to_list() == [
            n * 7 for n in range(9)
        ]


def test_quotes_escaped_by_backslashes(tmp_path, caplog):
    r"""As Spark and MySQL write them; where the csv module reads a file without them, that is what counts."""
    caplog.set_level("INFO")
    (tmp_path / "m.csv").write_text('id,path,caption,likes\n1,a.jpg,"say \\"hi\\", you",5\n2,b.jpg,c,6\n')
    assert manifest.read(tmp_path / "m.csv").rows() == [("1", "a.jpg", 'say "hi", you', 5), ("2", "b.jpg", "c", 6)]
    assert "escaped by backslashes" in caplog.text
    rows = "".join(f'{n},{n}.jpg,"tall: 5\\"",{n}\n' for n in range(9))  # quotes that RFC 4180 might have, one too many
    (tmp_path / "m.csv").write_text(f"id,path,caption,likes\n{rows}")
    assert manifest.read(tmp_path / "m.csv").row(8) == ("8", "8.jpg", 'tall: 5"', 8)
    (tmp_path / "m.csv").write_text(text := 'id,path,caption,likes\n1,a.jpg,C:\\"x,5\n2,b.jpg,"C:\\",6\n')
    assert manifest.read(tmp_path / "m.csv")["caption"].to_list() == [row["caption"] for row in by_csv(text)]


@pytest.mark.parametrize(
    "start, what",
    [
        (b"<!DOCTYPE html>\n<html><body>Log in, please</body>", r"a web page \(HTML\)"),
        (b"\n<table><tr><td>id</td></tr></table>", r"a web page \(HTML\)"),
        (b'<?xml version="1.0"?><Workbook/>', "XML: save the table as CSV"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "'git lfs pull'"),
        (b"%PDF-1.4\n", "PDF, not a table"),
        (b"\x89PNG\r\n\x1a\n", "PNG, not a table"),
        (b"SQLite format 3\0", "SQLite, not a table"),
        (b"ARROW1\0\0", "an Arrow .* save the table as CSV"),
        (b"\x80\x04\x95\x10\0", "a pickle of Python"),
        (b"a.csv" + bytes(252) + b"ustar", "a TAR archive: unpack it"),
    ],
)
def test_what_is_no_table_is_named_with_what_to_do(tmp_path, start, what):
    """Whatever its name says; a header that begins as a BMP or a TIFF does is one all the same."""
    for name in ("m.csv", "m.parquet", "m.xls"):
        (tmp_path / name).write_bytes(start + bytes(90))
        with pytest.raises(SelfieError, match=f"{name} is {what}|{name} is .*{what}"):
            manifest.read(tmp_path / name)
    (tmp_path / "m.csv").write_text("BMI,id\n1,2\n")
    assert manifest.read(tmp_path / "m.csv")["id"].to_list() == ["2"]


@pytest.mark.parametrize(
    "inside, what",
    [
        ("xl/workbook.bin", "binary Excel workbook"),
        ("content.xml", "OpenDocument sheet"),
        ("Index/Document.iwa", "Numbers document"),
        ("b.csv", "zip archive of 2 files: unpack it"),
    ],
)
def test_other_programs_workbooks_are_named(tmp_path, inside, what):
    with zipfile.ZipFile(tmp_path / "m.xlsx", "w") as archive:
        archive.writestr("a.csv", as_csv())
        archive.writestr(inside, "x")
    with pytest.raises(SelfieError, match=what):
        manifest.read(tmp_path / "m.xlsx")


def test_ids_that_a_spreadsheet_has_rounded_are_told(tmp_path):
    """1.78414E+16 is what is left of 17841405793187218, and of its neighbours."""
    (tmp_path / "m.csv").write_text("id,likes\n1.78414E+16,1\n1.78414E+16,2\n")
    assert "'1.78414E+16' was rounded" in "; ".join(manifest.load(tmp_path / "m.csv").notes)


@pytest.mark.parametrize("name", ["m.json", "m.jsonl", "several.jsonl"])
def test_an_integer_of_thousands_of_digits_is_one_line(tmp_path, name):
    """Python reads no longer ones as a number, and says so by another error than for what is not JSON."""
    one = '{"id": 1, "likes": ' + "9" * 5000 + "}"
    (tmp_path / name).write_text({"m.json": f"[{one}]", "m.jsonl": f"{one}\n"}.get(name, f"{one} {one}"))
    with pytest.raises(SelfieError, match="is not JSON"):
        manifest.read(tmp_path / name)


def test_a_header_of_thousands_of_empty_names_takes_no_time(tmp_path):
    """Spreadsheets write separators up to their last column, 16,384."""
    (tmp_path / "m.csv").write_text("id,likes" + "," * 16382 + "\n1,2" + "," * 16382 + "\n")
    started = time.process_time()
    table = manifest.load(tmp_path / "m.csv", ["id", "likes"])
    assert table.frame.rows() == [("1", 2)] and time.process_time() - started < 5
    with pytest.raises(SelfieError, match="and 16184 more") as error:
        manifest.require(table.frame, ["path"], "m.csv", table.names)
    assert len(str(error.value)) < 10_000


@pytest.mark.parametrize("value", ["x", "5'10\" tall"])
def test_thousands_of_columns_that_pass_through_take_no_time(tmp_path, value):
    """Each is typed once, by whichever reader: neither looks through all others for it."""
    names = [f"c{number}" for number in range(16_000)]
    (tmp_path / "m.csv").write_text(",".join(["id", *names]) + "\n1" + f",{value}" * len(names) + "\n")
    started = time.process_time()
    frame = manifest.load(tmp_path / "m.csv").frame
    assert frame.row(0) == ("1", *[value] * len(names)) and time.process_time() - started < 5


# --- workbooks -------------------------------------------------------------------------------------------------------


def _sheet(sheet, rows: list[list]) -> None:
    for row in rows:
        sheet.append(row)


POSTS = [["id", "path", "user", "likes"], ["a", "a.jpg", "u", 5], ["b", "b.jpg", None, 6], ["c", "c.jpg", "v", 7]]


def _titles(book) -> None:
    _sheet(book.active, [["My export"], [], ["Posts", None, "Counts"], *POSTS])


def _cover(book) -> None:
    book.active.append(["This workbook holds posts"])
    book.active.sheet_state = "hidden"
    _sheet(book.create_sheet("data"), POSTS)


def _merged(book) -> None:
    _sheet(book.active, POSTS)
    book.active.merge_cells("C2:C3")


def _far_cell(book) -> None:
    _sheet(book.active, POSTS)
    book.active.cell(1048576, 16384, "")


@pytest.mark.parametrize(
    "fill, user, told",
    [
        (_titles, None, "2 rows before the header left out"),
        (_cover, None, "sheet 'data', 1 more not read"),
        (_merged, "u", r"merged cells hold \(1 ranges\)"),
        (_far_cell, None, "sheet 'Sheet'"),
    ],
)
def test_workbooks_as_people_make_them(tmp_path, fill, user, told):
    """Titles, a cover sheet, users in merged cells; a format on the last cell of all costs no time."""
    book = openpyxl.Workbook()
    fill(book)
    book.save(tmp_path / "m.xlsx")
    started = time.process_time()
    table = manifest.load(tmp_path / "m.xlsx", ["id", "path", "user", "likes"])
    assert table.frame.rows() == [("a", "a.jpg", "u", 5), ("b", "b.jpg", user, 6), ("c", "c.jpg", "v", 7)]
    assert re.search(told, "; ".join(table.notes)) and time.process_time() - started < 10


def test_formulas_without_a_value_are_told(tmp_path):
    """Programs write formulas without computing them: their cells are empty, and it is said why."""
    book = openpyxl.Workbook()
    _sheet(book.active, [POSTS[0], ["a", "a.jpg", "u", "=2+3"], ["b", "b.jpg", "u", 6]])
    book.save(tmp_path / "m.xlsx")
    table = manifest.load(tmp_path / "m.xlsx")
    assert table.frame["likes"].to_list() == [None, 6] and "1 formula without a saved value" in "; ".join(table.notes)


# --- types of Parquet ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column, meant",
    [
        (pl.Series("tags", ["a,b"], dtype=pl.Categorical), "a b"),
        (pl.Series("tags", [["a", "b"]], dtype=pl.Array(pl.String, 2)), "a b"),
        (pl.Series("tags", [[{"name": "a", "url": "x"}, {"name": "b", "url": "y"}]]), "a b"),
        (pl.Series("tags", [b"a,b"]), "a b"),
        (pl.Series("likes", ["1,234"], dtype=pl.Categorical), 1234),
        (pl.Series("likes", [b"12"]), 12),
        (pl.Series("id", [b"x"]), "x"),
        (pl.Series("posted_at", [b"2015-01-01"]), "2015-01-01"),
        (pl.Series("posted_at", ["2015-01-01"], dtype=pl.Categorical), "2015-01-01"),
    ],
)
def test_text_is_text_however_it_is_stored(tmp_path, column, meant):
    """As categories, as bytes (Impala, old Spark), in lists of objects."""
    column.to_frame().write_parquet(tmp_path / "m.parquet")
    assert manifest.read(tmp_path / "m.parquet")[column.name].to_list() == [meant]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("tags", [[["a"]]]),
        pl.Series("tags", [[b"\xff"]]),
        pl.Series("tags", [[{"name": b"\xff"}]]),
        pl.Series("id", [b"\xff"]),
        pl.Series("posted_at", [time_of_day(5)]),
    ],
)
def test_types_that_are_none_name_the_file_and_the_column(tmp_path, column):
    column.to_frame().write_parquet(tmp_path / "m.parquet")
    with pytest.raises(SelfieError, match=f"m.parquet: column '{column.name}' holds"):
        manifest.read(tmp_path / "m.parquet")


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_are_found_without_regard_to_case_and_spaces(tmp_path):
    """ID, ' Path ', 'Posted At': ours; an exact name goes before a similar one; foreign columns keep theirs."""
    (tmp_path / "m.csv").write_text("ID, Path ,Posted At,LIKES,likes,Zip Code\n007,a.jpg,2015-01-01,1,2,00501\n")
    table = manifest.load(tmp_path / "m.csv")
    assert table.frame.rows(named=True) == [
        {"id": "007", "path": "a.jpg", "posted_at": "2015-01-01", "LIKES": "1", "likes": 2, "Zip Code": "00501"}
    ]
    assert "column 'Posted At' is posted_at" in table.notes


@pytest.mark.parametrize("theirs", ["likesCount", "edge_liked_by.count", "like_count", "num_likes", "Likes (total)"])
def test_a_missing_column_is_guessed(tmp_path, theirs):
    """The message has all columns of the file, and the one that may be meant; --map with it then works."""
    (tmp_path / "m.csv").write_text(f"id,path,weather,{theirs}\n1,a.jpg,fine,12\n")
    table = manifest.load(tmp_path / "m.csv", ["id", "path", "likes"])
    with pytest.raises(SelfieError) as error:
        manifest.require(table.frame, ["id", "likes"], "m.csv", table.names)
    assert f"(it has: id, path, weather, {theirs})" in str(error.value)
    assert str(error.value).endswith(f"say --map {shlex.quote(f'likes={theirs}')}"), "as a shell takes it"
    assert manifest.read(tmp_path / "m.csv", None, manifest.Reading({"likes": theirs}))["likes"].to_list() == [12]


def test_a_mapped_column_goes_before_one_of_the_name(tmp_path):
    """The other keeps its values under another name; a column that is not there is named."""
    (tmp_path / "m.csv").write_text("id,likes,Hearts\n1,x,12\n")
    read = manifest.read(tmp_path / "m.csv", None, manifest.Reading({"likes": "hearts"}))
    assert read.rows(named=True) == [{"id": "1", "likes_unmapped": "x", "likes": 12}]
    with pytest.raises(SelfieError, match="--map likes=stars: there is no column 'stars'"):
        manifest.read(tmp_path / "m.csv", None, manifest.Reading({"likes": "stars"}))


def test_commands_take_map_and_decimal(tmp_path):
    """label.py with every column called otherwise; without --map it says which."""
    rows = [f"p{n};{n}.jpg;u{n};{n % 90 + 1}.{n % 900 + 100};{n * 3 + 1};2015-01-0{n % 9 + 1}" for n in range(300)]
    (tmp_path / "m.csv").write_text("shortcode;file;owner;fans;hearts;when\n" + "\n".join(rows) + "\n")
    out = ("--manifest", tmp_path / "m.csv", "--out", tmp_path / "l.csv", "--min-age-days", 0, "--min-followers", 0)
    testlib.assert_one_line_error(
        testlib.command("tools/label.py", *out),
        "has no column 'id' (it has: shortcode, file, owner, fans, hearts, when): if 'shortcode' is it",
    )
    names = {
        "id": "shortcode",
        "path": "file",
        "user": "owner",
        "likes": "hearts",
        "followers": "fans",
        "posted_at": "when",
    }
    mapped = [word for ours, theirs in names.items() for word in ("--map", f"{ours}={theirs}")]
    testlib.assert_one_line_error(
        testlib.command("tools/label.py", *out, *mapped), "--decimal", "m.csv: column 'followers'"
    )
    done = testlib.command("tools/label.py", *out, *mapped, "--decimal", ",", "--max-followers", 10**6)
    assert done.returncode == 0, done.stderr
    assert "fields separated by semicolons" in done.stderr
    assert pl.read_csv(tmp_path / "l.csv").filter(id="p91")["audience"].to_list() == [2191]
    notes = json.loads((tmp_path / "l.report.json").read_text())["manifest"]["notes"]
    assert "fields separated by semicolons" in notes


@pytest.mark.parametrize(
    "value", ["\ud800", ["\ud800"], {"a": "\ud800"}, {"a": [{"b": "\ud800"}]}, {"a": 10**400}, {"\ud800": 1}]
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_that_no_column_can_hold_is_text_or_replaced(tmp_path, value, suffix):
    """Halves of characters and huge numbers, as deep as they may stand, cost no other value of the table."""
    rows = [{"id": "a", "x": value}, {"id": "b", "x": None}]
    path = tmp_path / f"t{suffix}"
    path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    frame = tables.load(path).frame
    assert frame["id"].to_list() == ["a", "b"] and frame["x"][1] is None and frame["x"][0] is not None
    frame.write_parquet(tmp_path / "again.parquet")


# --- one key twice ---------------------------------------------------------------------------------------------------

TWICE = {"a.jsonl": '{"id": "a", "likes": 5, "likes": 9}\n{"id": "b", "likes": 7}\n',
         "spaces.jsonl": '{"id" : "a", "likes" : 5, "likes"\t: 9}\n{"id" : "b", "likes" : 7}\n',
         "escaped.jsonl": '{"id":"a","likes":5,"lik\\u0065s":9}\n{"id":"b","likes":7}\n',
         "array.json": '[{"id": "a", "likes": 5, "likes": 9}, {"id": "b", "likes": 7}]',
         "jq.json": '{"id": "a",\n"likes": 5,\n"likes": 9}\n{"id": "b",\n"likes": 7}\n'}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_a_key_that_an_object_has_twice_is_told_and_the_first_is_taken(tmp_path, name):
    (tmp_path / name).write_text(TWICE[name])
    table = tables.load(tmp_path / name)
    assert table.frame["likes"].to_list() == [5, 7]
    assert table.notes == ["1 object has a key twice, such as 'likes' (5, then 9): the first is taken"]


def test_keys_that_only_look_as_if_they_stood_twice_are_not_told(tmp_path):
    """The same key in an object and in one inside of it, in two objects of a list, and inside of a text."""
    rows = [{"id": "a", "owner": {"id": "x"}, "tags": [{"name": "m"}, {"name": "n"}], "text": 'say "id": 1, "id": 2'}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = tables.load(tmp_path / "m.jsonl")
    assert table.notes == [] and table.frame["owner"].to_list() == [{"id": "x"}]


def test_no_object_with_a_key_twice_is_overlooked(tmp_path):
    rng = random.Random(1)
    path = tmp_path / "m.jsonl"
    values = ["1", '"v"', '"\\": y"', '{"a":1}', '{"id":1,"id":2}', '[{"a":1},{"a":2}]', '"\\\\"']
    for _ in range(600):
        names = rng.choices(["a", "b", "id", 'l"x', "é", "a:b", "a\\"], k=rng.randint(0, 4))
        spaced = rng.choice([":", ": ", " : ", "\t:"])
        pairs = [json.dumps(name, ensure_ascii=rng.random() < 0.5) + spaced + rng.choice(values) for name in names]
        path.write_text("{" + ",".join(pairs) + "}\n")
        right = len(set(names)) < len(names) or any('"id":1,"id":2' in pair for pair in pairs)
        assert json_keys.is_odd(path) is right, path.read_text()


# --- files that were joined ------------------------------------------------------------------------------------------

MARK = "\ufeff"
HEADER, PART = "id,path,user,likes\n", "a,a.jpg,u,5\nb,b.jpg,v,6\n"
JOINED = {
    "plain": ((HEADER + PART) * 2).encode(),
    "marks": ((MARK + HEADER + PART) * 2).encode(),
    "quoted": ((MARK + HEADER.replace("id", '"id"') + PART) * 2).encode(),
    "returns": ((MARK + HEADER + PART) * 2).replace("\n", "\r\n").encode(),
    "utf16": ((MARK + HEADER + PART) * 2).encode("utf-16-le"),
    "title": ("My export\n\n" + (HEADER + PART) * 2).encode(),
    "another case": (HEADER + PART + HEADER.upper() + PART).encode(),
    "irregular": ((HEADER + PART) * 2).replace("b.jpg", 'b".jpg').encode(),
    "the last line": (HEADER + PART + HEADER.strip()).encode(),
}


@pytest.mark.parametrize("columns", [None, ["id"], ["likes", "id"]])
@pytest.mark.parametrize("name", JOINED)
def test_marks_and_headers_in_the_middle_are_left_out_and_told(tmp_path, name, columns):
    (tmp_path / "m.csv").write_bytes(JOINED[name])
    table = manifest.load(tmp_path / "m.csv", columns)
    assert table.frame["id"].to_list() == (["a", "b"] if name == "the last line" else ["a", "b", "a", "b"])
    if "likes" in table.frame.columns:
        assert table.frame["likes"].to_list() == [5, 6] * (len(table.frame) // 2)
    assert "1 row repeats the header (it is row 3): left out" in table.notes
    assert ("1 byte order mark inside of the file left out" in table.notes) is (
        b"\xff" in JOINED[name] or b"\xef" in JOINED[name]
    )


@pytest.mark.parametrize("other", ["path,id,user,likes", "id,user,likes", "id,path,likes,followers"])
@pytest.mark.parametrize("columns", [None, ["id"], ["likes"]])
def test_another_header_in_the_middle_is_refused_with_its_line(tmp_path, other, columns):
    (tmp_path / "m.csv").write_text(HEADER + PART + other + "\n" + PART)
    with pytest.raises(SelfieError, match=f"line 4 is another header .{other.replace(',', ', ')}"):
        manifest.load(tmp_path / "m.csv", columns)


def test_a_row_that_has_a_name_of_a_column_in_it_is_a_row(tmp_path):
    rows = "likes,path,user,1\nid,a.jpg,path,2\nuser,b.jpg,likes,3\n"
    (tmp_path / "m.csv").write_text(HEADER + rows)
    table = manifest.load(tmp_path / "m.csv")
    assert table.frame["id"].to_list() == ["likes", "id", "user"] and not table.notes


def test_a_row_that_begins_as_the_header_may_be_long_and_hold_anything(tmp_path):
    (tmp_path / "m.csv").write_text(HEADER + PART + "id,path," + "x\0" * 200_000 + ",7\n")
    assert manifest.load(tmp_path / "m.csv").frame["likes"].to_list() == [5, 6, 7]


def test_headers_in_a_large_file_are_found_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(joined, "BLOCK", 61)
    (tmp_path / "m.csv").write_text((HEADER + PART * 7) * 9)
    table = manifest.load(tmp_path / "m.csv")
    assert len(table.frame) == 9 * 14 and table.frame["likes"].null_count() == 0
    assert table.notes == ["8 rows repeat the header (the first is row 15): left out"]


def test_marks_in_json_lines_and_headers_in_sheets(tmp_path):
    (tmp_path / "m.jsonl").write_text((MARK + '{"id": "a", "likes": 5}\n') * 2)
    table = manifest.load(tmp_path / "m.jsonl")
    assert table.frame.rows() == [("a", 5), ("a", 5)] and len(table.notes) == 1
    book = openpyxl.Workbook()
    for row in (["id", "path", "likes"], ["a", "a.jpg", 5], ["id", "path", "likes"], ["b", "b.jpg", 6]):
        book.active.append(row)
    book.save(tmp_path / "m.xlsx")
    table = manifest.load(tmp_path / "m.xlsx")
    assert table.frame["likes"].to_list() == [5, 6] and "repeats the header" in table.notes[-1]
    book.active.append(["id", "likes", "path"])
    book.save(tmp_path / "m.xlsx")
    with pytest.raises(SelfieError, match="row 4 is another header"):
        manifest.load(tmp_path / "m.xlsx")


# --- few bytes, many values ------------------------------------------------------------------------------------------


def sheet_of(tmp_path: Path, rows: str) -> Path:
    """A workbook with these rows, as XML, behind its header."""
    book, path = openpyxl.Workbook(), tmp_path / "m.xlsx"
    book.active.append(["id", "path", "likes"])
    book.save(tmp_path / "plain.xlsx")
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"</sheetData>", rows.encode() + b"</sheetData>"))
    return path


def parquet_of(tmp_path: Path) -> Path:
    rows = pl.select(id=pl.repeat("a", 30_000_000), path=pl.repeat("b", 30_000_000))
    rows.write_parquet(tmp_path / "m.parquet", row_group_size=30_000_000)
    return tmp_path / "m.parquet"


def text_of(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def keys_of(rows: int) -> list[str]:
    return [json.dumps({f"k{n}": {"likes": 1}}) for n in range(rows)]


WIDE = "id," + ",".join(f"c{n}" for n in range(10_000)) + "\n"
LARGE = {
    "parquet": parquet_of,
    "short rows": lambda tmp_path: text_of(tmp_path, "m.csv", WIDE + "a,b\n" * 30_000),
    "a key for each line": lambda tmp_path: text_of(tmp_path, "m.jsonl", "\n".join(keys_of(20_000))),
    "a key for each object": lambda tmp_path: text_of(tmp_path, "m.json", f"[{','.join(keys_of(20_000))}]"),
    "the last row": lambda tmp_path: sheet_of(tmp_path, '<row r="900000000"><c r="A900000000"><v>1</v></c></row>'),
}


@pytest.mark.parametrize("name", LARGE)
def test_few_bytes_with_many_values_are_refused_in_one_line(tmp_path, monkeypatch, name):
    """In moments, and before the table stands in memory."""
    monkeypatch.setattr(excel_table, "MOST_ROWS", 10_000)
    path = LARGE[name](tmp_path)
    with pytest.raises(SelfieError, match=r"needed|delete the empty rows") as error:
        manifest.load(path)
    assert "\n" not in str(error.value)


# --- other alphabets -------------------------------------------------------------------------------------------------


def test_an_encoding_that_is_neither_utf8_nor_latin1_is_refused(tmp_path):
    """Several of its characters would be one and the same otherwise: two users one."""
    (tmp_path / "m.csv").write_bytes("id,path,user\n1,写真1.jpg,太郎\n2,b.jpg,花子\n".encode("cp932"))
    with pytest.raises(SelfieError, match=r"neither UTF-8 nor Latin-1.*save it as UTF-8"):
        manifest.load(tmp_path / "m.csv")


@pytest.mark.parametrize("encoding, word", [("cp1252", "Jürgen"), ("cp1251", "Èâàí")])
def test_a_word_of_what_is_taken_for_latin1_is_told(tmp_path, encoding, word):
    name = {"cp1252": "Jürgen", "cp1251": "Иван"}[encoding]
    (tmp_path / "m.csv").write_bytes(f"id,path,user\n1,a.jpg,{name}\n".encode(encoding))
    assert manifest.load(tmp_path / "m.csv").notes == [
        "Latin-1",
        f"'{word}' is read so: if that is wrong, save it as UTF-8",
    ]
