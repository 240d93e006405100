"""A database knows whose its selfies are, and how clear their labels, without the labels file it was built from."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest
from test_lmdb import corpus

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import lmdb_posts, lmdb_writer
from selfie.data.lmdb_reader import Database, id_of


def owned(folder, rows: int = 20, users: int = 4):
    """Labels of noise pictures with users, groups and likes, and the folder of pictures."""
    labels, images = corpus(folder, rows)
    table = pl.read_csv(labels)
    count = pl.int_range(pl.len())
    table.with_columns(user=pl.format("u{}", count % users), group=0, likes=10 * pl.col("label") + count % 7).write_csv(
        labels
    )
    return labels, images


def posts_of(folder):
    with Database(folder) as records:
        return records.keys(), lmdb_posts.read(folder, records.keys())


def test_users_and_places_are_those_of_the_labels(tmp_path):
    """Record by record, as numbers; they are counted, and outlive the labels; other keys, other order."""
    labels, images = owned(tmp_path)
    metas = lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    rows = {row["id"]: row for row in pl.read_csv(labels).to_dicts()}
    labels.unlink()
    keys, posts = posts_of(tmp_path / "lmdb" / "train")
    users = [rows[id_of(key)]["user"] for key in keys]
    assert posts.known and len(set(zip(users, posts.users))) == len(set(users)) == metas["train"]["users"]
    assert "u1" not in (tmp_path / "lmdb" / "train" / "posts.csv").read_text()
    likes = np.array([rows[id_of(key)]["likes"] for key in keys])
    assert (np.diff(posts.place[np.argsort(likes, kind="stable")]) > 0).sum() >= len(set(likes)) - 1
    assert [place > 0.5 for place in posts.place] == [rows[id_of(key)]["label"] == 1 for key in keys]
    backwards = lmdb_posts.read(tmp_path / "lmdb" / "train", keys[::-1])
    assert (backwards.users == posts.users[::-1]).all() and (backwards.place == posts.place[::-1]).all()
    with pytest.raises(SelfieError, match="has no record 00000000_nobody: the database was rebuilt"):
        lmdb_posts.read(tmp_path / "lmdb" / "train", ["00000000_nobody"])


@pytest.mark.parametrize("change", [lambda table: table.drop("user"), lambda table: table.with_columns(user="id")])
def test_where_the_labels_have_no_users_each_selfie_is_its_own(tmp_path, change):
    """Also where label.py put the id in the user's place. The places stay."""
    labels, images = owned(tmp_path)
    change(pl.read_csv(labels)).write_csv(labels)
    assert lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)["train"]["users"] is None
    _, posts = posts_of(tmp_path / "lmdb" / "train")
    assert not posts.known and len(set(posts.users)) == 12 and not np.isnan(posts.place).any()


def test_a_row_without_a_user_is_its_own(tmp_path):
    """An empty field among users."""
    labels, images = owned(tmp_path, users=2)
    pl.read_csv(labels).with_columns(user=pl.when(pl.col("user") == "u0").then("user")).write_csv(labels)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    keys, posts = posts_of(tmp_path / "lmdb" / "train")
    named = sum(int(id_of(key)[1:]) % 2 == 0 for key in keys)
    assert posts.known and len(set(posts.users)) == 12 - named + 1


def test_hostile_ids_keep_their_users(tmp_path):
    """Control characters, ids too long for a key, quotes; and a picture that repeats another is nobody's record."""
    images = tmp_path / "images"
    ids = ["tab\tid", "tab_id", 'quo"te', "comma,id", "x" * 600, "x" * 601, " blank "]
    extra = [(row_id, f"{number}.png", number % 2, "train") for number, row_id in enumerate(ids)]
    labels, images = corpus(tmp_path, len(ids))
    pl.DataFrame(extra, schema=["id", "path", "label", "split"], orient="row").with_columns(
        user=pl.Series([f"u{number}" for number in range(len(ids))])
    ).write_csv(labels)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    _, posts = posts_of(tmp_path / "lmdb" / "train")
    assert posts.known and len(set(posts.users)) == len(ids)


def test_an_older_database_says_so_and_is_completed(tmp_path, caplog):
    """Without posts.csv each selfie is its own user, and that is told; building again adds it, and reads no picture."""
    caplog.set_level(logging.INFO)
    labels, images = owned(tmp_path)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    file = tmp_path / "lmdb" / "train" / "posts.csv"
    before = file.read_bytes()
    file.unlink()
    _, posts = posts_of(file.parent)
    assert not posts.known and len(set(posts.users)) == 12 and np.isnan(posts.place).all()
    assert "does not say whose its selfies are" in caplog.text and "make lmdb" in caplog.text
    images.rename(tmp_path / "elsewhere")
    images.mkdir()
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    assert file.read_bytes() == before and "posts.csv is new" in caplog.text


def test_it_follows_labels_that_say_otherwise_now(tmp_path, caplog):
    """The same labels with other users are the same database; who is who is written again, and told."""
    caplog.set_level(logging.INFO)
    labels, images = owned(tmp_path)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    pl.read_csv(labels).with_columns(user=pl.lit("one")).write_csv(labels)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    assert "posts.csv is written again" in caplog.text and set(posts_of(tmp_path / "lmdb" / "train")[1].users) == {0}


def test_a_damaged_file_is_one_line(tmp_path):
    """And building again mends it."""
    labels, images = owned(tmp_path)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    file = tmp_path / "lmdb" / "train" / "posts.csv"
    before = file.read_bytes()
    for damage in (b"", b"key,user\n", b"key,user,place\na,b,c\n"):
        file.write_bytes(damage)
        with pytest.raises(SelfieError, match=r"posts\.csv is damaged"):
            posts_of(file.parent)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    assert file.read_bytes() == before


def test_a_forced_build_and_a_resumed_one_have_it_too(tmp_path):
    """Equal to the first build's; labels of a folder that is replaced leave nothing behind."""
    labels, images = owned(tmp_path)
    lmdb_writer.build(labels, images, tmp_path / "lmdb", size=16, jobs=1)
    whole = (tmp_path / "lmdb" / "train" / "posts.csv").read_bytes()
    done = testlib.command(
        *("tools/make_lmdb.py", "--labels", labels, "--images", images, "--out", tmp_path / "lmdb"),
        *("--size", "16", "--force"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lmdb" / "train" / "posts.csv").read_bytes() == whole
    assert paths.read_json(tmp_path / "lmdb" / "train" / "meta.json")["users"] == 4
