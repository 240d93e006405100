"""Posts as other programs save them become a manifest, and what does not is counted with its reason."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

import import_posts
import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import manifest
from selfie.data.posts.collect import collect

TIME = 1420070400  # 2015-01-01T00:00:00Z
POST = "2015-01-01_00-00-00_UTC"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), 99, np.uint8))


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(value).encode()
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
    return path


def instaloader(code: str, likes: object = 5, **node: object) -> dict:
    return {
        "instaloader": {"version": "4.9", "node_type": "Post"},
        "node": {
            "shortcode": code,
            "owner": {"username": "ann", "id": "7"},
            "edge_media_preview_like": {"count": likes},
            "taken_at_timestamp": TIME,
            "edge_media_to_caption": {"edges": [{"node": {"text": "me #selfie,#sun & #selfie"}}]},
            **node,
        },
    }


def apify(code: str, likes: object = 5, **fields: object) -> dict:
    return {
        "shortCode": code,
        "likesCount": likes,
        "ownerUsername": "ann",
        "hashtags": ["selfie", "sun"],
        "timestamp": "2015-01-01T00:00:00.000Z",
        "displayUrl": f"https://cdn.example/v/t51/{code}_n.jpg?x=1",
        "type": "Image",
        **fields,
    }


def row(found, identity: str) -> dict:
    return found.frame.filter(pl.col("id") == identity).row(0, named=True)


def full(identity: str, path: str, followers: object = 70) -> dict:
    return {
        "id": identity,
        "path": path,
        "user": "ann",
        "followers": followers,
        "likes": 5,
        "tags": "selfie sun",
        "posted_at": "2015-01-01T00:00:00Z",
    }


def test_instaloader(tmp_path):
    """Compressed or not, with followers from a profile among the posts; carousels give their first picture."""
    picture(tmp_path / "ann" / f"{POST}.jpg")
    write(tmp_path / "ann" / f"{POST}.json.xz", instaloader("A"))
    for number in (2, 3):
        picture(tmp_path / "ann" / f"b_{number}.jpg")
    picture(tmp_path / "ann" / "b_1.jpg")  # of the video
    (tmp_path / "ann" / "b_1.mp4").write_bytes(b"")
    newer = {"code": "B", "like_count": 8, "taken_at": TIME, "user": {"username": "bob"}}
    write(tmp_path / "ann" / "b.json", {"node": {"iphone_struct": newer}, "instaloader": {"node_type": "Post"}})
    profile = {"username": "Ann", "id": "7", "edge_followed_by": {"count": 70}}
    write(tmp_path / "ann_7.json.xz", {"node": profile, "instaloader": {"node_type": "Profile"}})
    write(tmp_path / "ann" / "film.json", instaloader("C", is_video=True))
    picture(tmp_path / "ann" / "film.jpg")
    found = collect(tmp_path)
    assert row(found, "A") == full("A", f"ann/{POST}.jpg")
    assert row(found, "B")["path"] == "ann/b_2.jpg" and row(found, "B")["likes"] == 8
    assert row(found, "B")["followers"] is None and row(found, "B")["tags"] is None
    assert found.entries.counts == {"a profile, whose followers are taken": 1, "a video": 1}
    assert found.files.counts == {"a video": 1}
    assert found.pictures.counts == {"further pictures of carousels": 1, "that no post used here names": 2}


def test_a_sidecar_takes_no_picture_of_another_folder(tmp_path):
    """Instaloader names files by the second, so two users' are often called alike."""
    write(tmp_path / "ann" / f"{POST}.json", instaloader("A"))
    picture(tmp_path / "bob" / f"{POST}.jpg")
    write(tmp_path / "bob" / f"{POST}.json", instaloader("B"))
    found = collect(tmp_path)
    assert found.frame["id"].to_list() == ["B"]
    assert found.entries.counts == {"whose picture is not there": 1}


@pytest.mark.parametrize("name", ["posts.json", "posts.jsonl", "posts.csv", "posts.parquet", "posts.json.xz"])
def test_apify(tmp_path, name):
    """By short code or by the name in its address, in every format that Apify exports."""
    for path in ("A.jpg", "deep/B_n.jpg", "A_1.png"):
        picture(tmp_path / path)
    posts = [apify("A"), apify("B", followersCount=70), apify("C"), apify("D", type="Video")]
    if name.endswith(".csv"):
        flat = [
            {
                **{key: value for key, value in post.items() if key != "hashtags"},
                "hashtags/0": "selfie",
                "hashtags/1": "sun",
            }
            for post in posts
        ]
        pl.DataFrame(flat).write_csv(tmp_path / name)
    elif name.endswith(".parquet"):
        pl.DataFrame(posts).write_parquet(tmp_path / name)
    elif name.endswith(".jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, posts)))
    else:
        write(tmp_path / name, posts)
    found = collect(tmp_path / name)
    assert row(found, "A") == full("A", "A.jpg", None)
    assert row(found, "B") == full("B", "deep/B_n.jpg")
    assert found.entries.counts == {"whose picture is not there": 1, "a video": 1}
    assert found.pictures.counts == {"further pictures of carousels": 1}


def test_bright_data(tmp_path):
    """With numbers as people write them."""
    picture(tmp_path / "A.jpg")
    (tmp_path / "posts.csv").write_text(
        "url,user_posted,hashtags,date_posted,likes,followers,photos,videos,content_type\n"
        'https://www.instagram.com/p/A/,ann,"[""#selfie"",""#sun""]",2015-01-01T00:00:00.000Z,5,"1,234",[],[],Image\n'
        "https://www.instagram.com/p/B/,ann,,2015-01-01,5,7,[],[],Reel\n"
    )
    found = collect(tmp_path / "posts.csv")
    expected = {**full("https://www.instagram.com/p/A/", "A.jpg", 1234)}
    assert found.frame.rows(named=True) == [expected]
    assert found.entries.counts == {"a video": 1}


def test_gallery_dl(tmp_path):
    """Sidecars carry the whole name of their picture; a post's further pictures are counted."""
    common = {"category": "instagram", "subcategory": "user", "extension": "jpg", "post_shortcode": "A"}
    post = {**common, "username": "ann", "likes": 5, "tags": ["#selfie", "#sun"], "date": "2015-01-01 00:00:00"}
    for number in (1, 2):
        picture(tmp_path / f"A_{number}.jpg")
        write(tmp_path / f"A_{number}.jpg.json", {**post, "num": number, "count": 2})
    tweet = {"category": "twitter", "subcategory": "media", "extension": "png", "tweet_id": 9, "favorite_count": 3}
    author = {"name": "bob", "followers_count": 4}
    picture(tmp_path / "9_1.png")
    write(tmp_path / "9_1.png.json", {**tweet, "author": author, "hashtags": ["x"], "date": "2015-01-01 00:00:00"})
    write(tmp_path / "f.mp4.json", {**post, "post_shortcode": "F", "extension": "mp4"})
    found = collect(tmp_path)
    assert row(found, "A") == full("A", "A_1.jpg", None)
    assert row(found, "9")["user"] == "bob" and row(found, "9")["followers"] == 4 and row(found, "9")["likes"] == 3
    assert found.entries.counts == {"a further picture of its post": 1, "a video": 1}


@pytest.mark.parametrize("wrapped", [False, True])
def test_mastodon(tmp_path, wrapped):
    """Statuses in a list, or in an object that has the list."""
    picture(tmp_path / "11.jpg")
    media = [{"id": "11", "type": "image", "url": "https://files.example/original/ab.jpg"}]
    status = {
        "id": "A",
        "created_at": "2015-01-01T00:00:00.000Z",
        "account": {"acct": "ann", "followers_count": 70},
        "favourites_count": 5,
        "tags": [{"name": "selfie"}, {"name": "sun"}],
        "media_attachments": media,
        "reblog": None,
    }
    statuses = [status, {**status, "id": "B", "media_attachments": []}, {**status, "id": "C", "reblog": {"id": "A"}}, 3]
    write(tmp_path / "s.json", {"statuses": statuses, "search": "selfie"} if wrapped else statuses)
    found = collect(tmp_path)
    assert found.frame.rows(named=True) == [full("A", "11.jpg")]
    assert set(found.entries.counts.values()) == {1} and found.entries.total == 3


def test_img2dataset(tmp_path):
    """Its table and its sidecars tell of the same pictures; shards that are archives are named."""
    table = {"key": ["000000000", "000000001"], "url": ["u", "v"], "caption": ["#a #b", None], "likes": [5, 6]}
    status = {"status": ["success", "failed_to_download"], "followers": [7, 8]}
    pl.DataFrame({**table, **status}).write_parquet(tmp_path / "00000.parquet")
    picture(tmp_path / "00000" / "000000000.jpg")
    beside = {"key": "000000000", "url": "u", "status": "success", "width": 8, "username": "ann"}
    write(tmp_path / "00000" / "000000000.json", beside)
    write(tmp_path / "00000_stats.json", {"count": 2})
    (tmp_path / "00001.tar").write_bytes(b"")
    found = collect(tmp_path)
    one = row(found, "000000000")
    assert (one["path"], one["likes"], one["followers"], one["tags"]) == ("00000/000000000.jpg", 5, 7, "a b")
    assert one["user"] == "ann"
    assert found.files.counts["of no known shape"] == 1 and found.files.total == 2
    assert found.entries.total == 2


@pytest.mark.parametrize(
    "likes, note",
    [
        (-1, "below zero"),
        (None, "1 of 2 rows lack it"),
        ([3], "no whole number"),
        ({"count": 3}, "no whole number"),
        (True, "no whole number"),
        (10**40, "no whole number"),
        (1.234, "no whole number"),
        ("x\x1b[2J", "no whole number"),
    ],
)
def test_likes_that_are_none_stay_missing(tmp_path, likes, note):
    for code in "AB":
        picture(tmp_path / f"{code}.jpg")
    found = collect(write(tmp_path / "p.json", [apify("A", likes), apify("B", 6)]))
    assert found.frame["likes"].to_list() == [None, 6]
    line = next(line for line in found.notes if line.startswith("likes: "))
    assert note in line and "\x1b" not in line


def test_likes_that_their_owner_hides_are_none(tmp_path):
    """Instagram then gives a small number, 3 for example."""
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", instaloader("A", 3, like_and_view_counts_disabled=True))
    assert collect(tmp_path).frame["likes"].to_list() == [None]


@pytest.mark.parametrize(
    "table",
    [
        "userName,followersCount\n@ANN,70\nbob,\n",
        "Owner_Username;Followers\nann;70\n",
        "account,id,followers\nx,7,1\nann,8,70\nann,9,71\n",
    ],
)
def test_followers_are_joined_from_a_table_of_profiles(tmp_path, table):
    picture(tmp_path / "A.jpg")
    (tmp_path / "profiles.csv").write_text(table)
    write(tmp_path / "p.json", [apify("A")])
    found = collect(tmp_path, profile_table=tmp_path / "profiles.csv")
    assert found.frame["followers"].to_list() == [70]
    assert not found.files.total  # the table itself is no file of posts that was left


def test_profiles_without_such_columns_are_refused(tmp_path):
    (tmp_path / "profiles.csv").write_text("name,size\na,1\n")
    write(tmp_path / "p.json", [apify("A")])
    with pytest.raises(SelfieError, match="it has: name, size"):
        collect(tmp_path, profile_table=tmp_path / "profiles.csv")


def test_nothing_vanishes(tmp_path):
    """Broken, foreign and odd files are counted; so is each record that gives no row."""
    picture(tmp_path / "good.jpg")
    write(tmp_path / "good.json", instaloader("G"))
    picture(tmp_path / "lonely.jpg")
    write(tmp_path / "twin.json", instaloader("G"))
    picture(tmp_path / "twin.jpg")
    write(tmp_path / "alone.json", instaloader("X"))
    write(tmp_path / "noid.json", instaloader("", shortcode=None))
    (tmp_path / "cut.json").write_text('{"node": {')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "digits.json").write_text("[" + "9" * 5000 + "]")
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xff"}')
    (tmp_path / "bad.json.xz").write_bytes(b"\xfd7zXZ\0broken")
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "list.json").write_text("[1, null, {}]")
    (tmp_path / "odd\x1b\n.json").write_text("{}")
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    (tmp_path / "cut.csv").write_text('a,b\n1,"2\n')
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "note.txt").write_text("me")
    (tmp_path / ".hidden").write_text("")
    found = collect(tmp_path)
    assert found.frame["id"].to_list() == ["G"]
    assert found.frame.height + found.entries.total == 4
    assert 1 + 3 + found.files.total == sum(1 for each in tmp_path.iterdir() if each.suffix != ".jpg")
    assert found.pictures.total == 2
    assert all(line.isprintable() for tally in (found.entries, found.files) for line in tally.lines())


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"a": 1}, [[]], True, 10**30, "\ud800", -1.5])
@pytest.mark.parametrize("make", [instaloader, apify])
def test_wrong_types_are_no_traceback(tmp_path, make, value):
    """Any value at any place of a record gives a row or is counted."""
    picture(tmp_path / "A.jpg")
    records = []
    for key in make("A"):
        records.append({**make("A"), key: value})
    if "node" in make("A"):
        records += [make("A", **{key: value}) for key in make("A")["node"]]
    write(tmp_path / "p.json", [make("A"), *records])
    if make is instaloader:
        picture(tmp_path / "p.jpg")
    found = collect(tmp_path)
    assert found.frame.height + found.entries.total == len(records) + 1
    found.frame.write_csv(tmp_path / "again.csv")


def test_a_table_cannot_lead_out_of_the_folder(tmp_path):
    picture(tmp_path / "secret.jpg")
    picture(tmp_path / "in" / "B.jpg")
    posts = [apify("A", path="../secret.jpg"), apify("C", path=str(tmp_path / "secret.jpg")), apify("B")]
    found = collect(write(tmp_path / "in" / "p.json", posts))
    assert found.frame["path"].to_list() == ["B.jpg"]


def test_the_command_writes_what_label_reads(tmp_path, capsys):
    """The manifest, whole; again gives the same; names that a terminal obeys are escaped."""
    folder = tmp_path / "in"
    for code in "AB":
        picture(folder / f"{code}.jpg")
    write(folder / "p.json", [apify("A", followersCount=9), apify("B\x1b"), apify("B", 4)])
    out = folder / "manifest.csv"
    import_posts.main([str(folder), "--out", str(out)])
    first, told = out.read_bytes(), capsys.readouterr().out
    import_posts.main([str(folder), "--out", str(out)])
    assert out.read_bytes() == first and capsys.readouterr().out == told
    assert "\x1b" not in told and "likes: from likesCount (2); 0 of 2 rows lack it" in told
    frame = manifest.read(out, needs=("id", "path", "likes", "followers", "posted_at"))
    assert frame.columns == ["id", "path", "user", "followers", "likes", "tags", "posted_at"]
    assert frame["id"].to_list() == ["A", "B"]


@pytest.mark.parametrize("content", [None, "[]", "{", '[{"shortCode": "A", "likesCount": 3}]'])
def test_nothing_to_import_is_one_line(tmp_path, content):
    folder = tmp_path / "in"
    folder.mkdir()
    if content is not None:
        (folder / "a.json").write_text(content)
    result = testlib.command(paths.ROOT / "tools" / "import_posts.py", folder, "--out", tmp_path / "m.csv")
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 1 and lines[-1].startswith("error: no post with a picture") and len(lines) == 2
    assert not (tmp_path / "m.csv").exists()


def test_apify_profiles_give_followers_and_their_newest_posts(tmp_path):
    picture(tmp_path / "A.jpg")
    profile = {"username": "ann", "id": "7", "followersCount": 70, "latestPosts": [apify("A"), apify("B"), 3]}
    for value in ([profile], profile):
        found = collect(write(tmp_path / "p.json", value))
        assert found.frame.rows(named=True) == [full("A", "A.jpg")]
        assert sorted(found.entries.counts.values()) == [1, 1, 1]


def test_numbers_that_may_be_two_are_asked_for(tmp_path):
    """12.000 in a table is twelve or twelve thousand."""
    picture(tmp_path / "A.jpg")
    file = write(tmp_path / "p.json", [apify("A", "12.000")])
    with pytest.raises(SelfieError, match="--decimal"):
        collect(file)
    assert collect(file, decimal=",").frame["likes"].to_list() == [12000]


def test_typed_tables(tmp_path):
    """Parquet has dates and decimals of its own."""
    picture(tmp_path / "A.jpg")
    frame = pl.DataFrame([apify("A", 5)]).with_columns(
        pl.col("timestamp").str.slice(0, 10).str.to_date(), pl.col("likesCount").cast(pl.Decimal(10, 2))
    )
    frame.write_parquet(tmp_path / "p.parquet")
    assert collect(tmp_path / "p.parquet").frame.rows(named=True) == [full("A", "A.jpg", None)]


@pytest.mark.parametrize(
    "row",
    [{"username": "ann", "followers": [1]}, {"username": {"a": 1}, "followers": 1}],
)
def test_profiles_of_wrong_types_give_no_followers(tmp_path, row):
    """What is no number is counted, what is no column of numbers or names refused; JSON and Parquet have both."""
    picture(tmp_path / "A.jpg")
    posts = write(tmp_path / "p.json", [apify("A")])
    profiles = write(tmp_path / "profiles.json", [row])
    if isinstance(row["username"], str):
        assert collect(posts, profile_table=profiles).frame["followers"].to_list() == [None]
    else:
        with pytest.raises(SelfieError, match="no column the names of users"):
            collect(posts, profile_table=profiles)
    pl.DataFrame([row]).write_parquet(tmp_path / "profiles.parquet")
    with pytest.raises(SelfieError, match="holds no numbers"):
        collect(posts, profile_table=tmp_path / "profiles.parquet")


def test_where_pictures_were_looked_for_is_told(tmp_path):
    """A table without its pictures is what many begin with."""
    file = write(tmp_path / "p.json", [apify("A")])
    with pytest.raises(SelfieError, match="--images"):
        collect(file)
    picture(tmp_path / "elsewhere" / "deep" / "A.webp")
    assert collect(file, tmp_path / "elsewhere").frame["path"].to_list() == ["deep/A.webp"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(SelfieError, match="is not a file"):
        collect(tmp_path / "pipe.json")
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.json", instaloader("A"))
    assert collect(tmp_path).files.counts == {"not a file that can be read": 1}


def test_profiles_that_are_read_a_second_way(tmp_path):
    """NaN is none of JSON's, so another reader takes over: as if it had been the first."""
    (tmp_path / "profiles.jsonl").write_text(
        '{"username": "ann", "followers": 70}\n{"username": "bob", "followers": NaN}\n'
    )
    picture(tmp_path / "A.jpg")
    found = collect(write(tmp_path / "p.json", [apify("A")]), profile_table=tmp_path / "profiles.jsonl")
    assert found.frame["followers"].to_list() == [70] and "by username, followers from" in found.notes[0]


@pytest.mark.parametrize(
    "value",
    [
        {"data": {"user": {"edges": [{"post": apify("A")}, {"post": apify("B")}]}}},
        {"1": apify("A"), "2": apify("B")},
        json.dumps(apify("A"), indent=1) + "\n" + json.dumps(apify("B"), indent=1),
    ],
    ids=["deep in an answer", "by number", "one after the other, as jq writes them"],
)
def test_posts_are_found_wherever_they_stand(tmp_path, value):
    (tmp_path / "posts.json").write_text(value if isinstance(value, str) else json.dumps(value))
    for code in "AB":
        picture(tmp_path / f"{code}.jpg")
    found = collect(tmp_path)
    assert [row(found, code) for code in "AB"] == [full(code, f"{code}.jpg", None) for code in "AB"]


def test_what_gallery_dl_prints(tmp_path):
    """--dump-json: [2, of the page], [3, address, of a picture]; a retweet's followers are its author's."""
    tweet = {"category": "twitter", "subcategory": "timeline", "extension": "jpg", "filename": "x", "tweet_id": 9}
    tweet |= {"author": {"name": "bob", "followers_count": 4}, "user": {"name": "ann", "followers_count": 70}}
    write(tmp_path / "dump.json", [[2, {"category": "twitter"}], [3, "https://x.example/x.jpg", tweet]])
    picture(tmp_path / "x.jpg")
    found = row(collect(tmp_path), "9")
    assert (found["user"], found["followers"]) == ("bob", 4)


def test_a_user_with_name_and_number_is_one(tmp_path):
    """Some records of a program have only the number; as two users, they could be in two splits."""
    write(tmp_path / "a.json", instaloader("A", owner={"id": "7"}))
    write(tmp_path / "b.json", instaloader("B"))
    write(tmp_path / "c.json", instaloader("C", owner={"id": "8"}))
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    found = collect(tmp_path)
    assert [row(found, code)["user"] for code in "ABC"] == ["ann", "ann", "8"]


def test_a_table_of_another_kind_needs_no_import(tmp_path):
    (tmp_path / "posts.csv").write_text("Filename,Likes\na.jpg,5\n")
    with pytest.raises(SelfieError, match=r"no known shape.*needs no import: name its columns with --map"):
        collect(tmp_path)
