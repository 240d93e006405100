"""Our changes of Caffe, as a reviewer needs them: short, dated patches of upstream's files, and files of our own."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

import testlib
from selfie.common import paths

DOCKER = paths.ROOT / "docker"
QUEUES = ("patches", "patches-cuda")  # in the order of application
OURS = ("caffe", "caffe-cuda")
PATCHES = [DOCKER / queue / name for queue in QUEUES for name in (DOCKER / queue / "series").read_text().split()]
MOST_LINES = 200


def header(patch: Path) -> str:
    return patch.read_text(encoding="utf-8").split("\n---\n")[0]


def own_files(folder: str) -> set[str]:
    root = DOCKER / folder
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def upstream() -> set[str]:
    """The names of upstream's files; its home packs them in a folder, Debian does not."""
    with tarfile.open(next((paths.BUILD / "downloads").glob("*.orig.tar.gz"))) as archive:
        names = [os.path.normpath(member.name) for member in archive if member.isfile()]
    top = os.path.commonpath(names)
    return {os.path.relpath(name, top) if top else name for name in names}


# ---[ The queue


@pytest.mark.parametrize("queue", QUEUES)
def test_the_names_tell_the_order(queue):
    """series names all patches of its folder, by their numbers; no number is given twice in both."""
    names = (DOCKER / queue / "series").read_text().split()
    assert names == sorted(path.name for path in (DOCKER / queue).glob("*.patch")) and names
    numbers = [path.name[:5] for path in PATCHES]
    assert len(set(numbers)) == len(numbers) and all(re.fullmatch(r"\d{4}-", number) for number in numbers)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_says_what_it_is_for(patch):
    """In Debian's fields (DEP-3), and in few lines."""
    fields = re.findall(r"^([A-Z][\w-]*): (.*)$", header(patch), re.M)
    names = [name for name, _ in fields if name != "Bug"]
    assert names == ["Description", "Author", "Forwarded", "Last-Update"]
    values = dict(fields)
    assert values["Forwarded"] in ("no", "not-needed")
    bugs = [value for name, value in fields if name == "Bug"]
    assert all(re.fullmatch(r"https://github\.com/\S+/(issues|pull)/\d+", bug) for bug in bugs)
    tomorrow = datetime.date.today() + datetime.timedelta(days=1)  # which is today elsewhere
    assert datetime.date.fromisoformat(values["Last-Update"]) <= tomorrow
    assert len(patch.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_changes_upstreams_files_only(patch, upstream):
    """What is new is a file of its own, and what is ours is changed there."""
    names = re.findall(r"^--- (\S+).*\n\+\+\+ (\S+)", patch.read_text(encoding="utf-8"), re.M)
    assert names and all(old.removeprefix("a/") == new.removeprefix("b/") for old, new in names)
    changed = {new.removeprefix("b/") for _, new in names}
    assert changed <= upstream
    assert not changed & (own_files("caffe") | own_files("caffe-cuda"))


def test_the_documentation_says_what_each_patch_changes_for_a_user():
    """In the tables of docs/caffe.md, by numbers (0001-0003 stands for all from one to the other), and of no other."""
    rows = re.findall(r"^\| (\d{4}[^|]*) \|", (paths.ROOT / "docs" / "caffe.md").read_text(), re.M)
    numbers = {path.name[:4] for path in PATCHES}
    named = set()
    for first, last in re.findall(r"\b(\d{4})(?:-(\d{4}))?\b", " ".join(rows)):
        named |= {number for number in numbers if first <= number <= last} | {first}
    assert named == numbers


def test_our_files_are_in_the_places_of_caffes(upstream):
    """They are new, but for a few of upstream's that they replace: pycaffe's binding, and what was nearly all ours."""
    assert not own_files("caffe") & own_files("caffe-cuda")
    binding = {"python/caffe/_caffe.cpp", "python/CMakeLists.txt", "include/caffe/layers/python_layer.hpp"}
    assert own_files("caffe") & upstream == binding
    folders = {str(Path(name).parent) for name in upstream}
    for folder in OURS:
        assert own_files(folder) and {str(Path(name).parent) for name in own_files(folder)} <= folders
    replaced = own_files("caffe-cuda") & upstream
    assert {Path(name).stem for name in replaced} == {"cudnn_conv_layer", "cudnn_deconv_layer"}


# ---[ Their dates


def git(root: Path, *arguments: str) -> str:
    """What git says; the test is skipped where there is no git, or no history."""
    try:
        return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        testlib.skip("history", getattr(error, "stderr", "") or str(error))


class Change(NamedTuple):
    """The first commit with a certain content: when it was written, and made (amended, rebased)."""

    written: datetime.date
    made: datetime.date
    beginning: bool  # of the history, as in a shallow clone: the content may be older


def changes(root: Path, *folders: str) -> dict[str, Change]:
    """Map each content that a file in `folders` ever had to its first commit: a file that only moved is no younger."""
    options = ("--raw", "--no-abbrev", "--no-renames", "-m", "--full-history", "--topo-order", "--reverse")
    beginnings = git(root, "rev-list", "--max-parents=0", "HEAD").split()
    log = git(root, "log", *options, "--format=commit %H %as %cs", "--", *folders)
    first: dict[str, Change] = {}
    for commit in re.split(r"^commit ", log, flags=re.M)[1:]:
        name, *days = commit.splitlines()[0].split()
        change = Change(*map(datetime.date.fromisoformat, days), beginning=name in beginnings)
        for content in re.findall(r"^:\S+ \S+ \S+ (\S+) ", commit, re.M):
            first.setdefault(content, change)
    return first


def wrong_dates(root: Path, patches: list[Path], *folders: str) -> tuple[list[str], list[str]]:
    """List the patches whose Last-Update is not the day of their last change, and those of which no history tells it.

    For one that is not committed that is the day on which the file was written, or today.
    """
    first = changes(root, *folders)
    contents = git(root, "hash-object", *map(str, patches)).split()
    wrong, unknown = [], []
    for patch, content in zip(patches, contents):
        now = Change(datetime.date.fromtimestamp(patch.stat().st_mtime), datetime.date.today(), beginning=False)
        change = first.get(content, now)
        stated = datetime.date.fromisoformat(re.search(r"^Last-Update: (.*)", header(patch), re.M).group(1))
        if change.beginning and stated < change.written:
            unknown.append(patch.name)
        elif not change.written <= stated <= change.made:
            wrong.append(f"{patch.name}: Last-Update is {stated}, it was changed on {change.written}")
    return wrong, unknown


def test_last_update_is_the_day_of_the_last_change():
    """By the history; a patch that is just being changed is dated today."""
    wrong, unknown = wrong_dates(paths.ROOT, PATCHES, *(f"docker/{queue}" for queue in QUEUES))
    assert not wrong
    if unknown:
        testlib.skip("history", f"it begins with {len(unknown)} of {len(PATCHES)} patches")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """commit(day, dated=None): commit p/1.patch, with that Last-Update or as it is, on that day; returns its path."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "core.hooksPath", "/dev/null")
    (tmp_path / "p").mkdir()
    count = iter(range(100))

    def commit(day: str, dated: str | None = None, *arguments: str) -> Path:
        for role in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{role}_DATE", f"{day}T12:00:00")
        patch = tmp_path / "p" / "1.patch"
        if dated:
            patch.write_text(f"Description: change {next(count)}\nLast-Update: {dated}\n---\n")
        (tmp_path / "other").write_text(day)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", day, *arguments)
        return patch

    commit("2026-01-01")
    return commit


def test_a_wrong_date_is_found(tmp_path, checkout):
    """Of what was committed, and of what was not; and a right one is not taken for wrong."""
    patch = checkout("2026-02-01", "2026-02-01")
    checkout("2026-02-03")
    assert wrong_dates(tmp_path, [patch], "p") == ([], [])
    checkout("2026-02-05", "2026-02-01")
    assert wrong_dates(tmp_path, [patch], "p")[0] == [
        "1.patch: Last-Update is 2026-02-01, it was changed on 2026-02-05"
    ]
    checkout("2026-02-06", "2026-02-07")
    assert len(wrong_dates(tmp_path, [patch], "p")[0]) == 1
    patch.write_text(f"{patch.read_text()}one more line\n")
    assert len(wrong_dates(tmp_path, [patch], "p")[0]) == 1
    patch.write_text(f"Last-Update: {datetime.date.today()}\n---\n")
    assert wrong_dates(tmp_path, [patch], "p") == ([], [])


def test_moves_and_merges_are_no_changes(tmp_path, checkout):
    """But a conflict that a merge resolves in the patch is one; an amended commit may have either date."""
    patch = checkout("2026-02-01", "2026-02-01")
    git(tmp_path, "checkout", "-q", "-b", "side")
    checkout("2026-02-02", "2026-02-02")
    git(tmp_path, "checkout", "-q", "-")
    checkout("2026-02-03", "2026-02-03")
    git(tmp_path, "merge", "-q", "-s", "ours", "--no-commit", "side")
    checkout("2026-02-04")
    assert wrong_dates(tmp_path, [patch], "p") == ([], [])
    git(tmp_path, "checkout", "-q", "side")
    checkout("2026-02-04", "2026-02-04")
    git(tmp_path, "checkout", "-q", "-")
    git(tmp_path, "merge", "-q", "-s", "ours", "--no-commit", "side")
    checkout("2026-02-05", "2026-02-05")  # neither side's
    assert wrong_dates(tmp_path, [patch], "p") == ([], [])
    patch.rename(tmp_path / "p" / "2.patch")
    checkout("2026-02-05")
    patch = tmp_path / "p" / "2.patch"
    assert wrong_dates(tmp_path, [patch], "p") == ([], [])
    patch.write_text("Last-Update: 2026-02-06\n---\n")
    checkout("2026-02-06")
    patch.write_text("Last-Update: 2026-02-08\n---\n")
    checkout("2026-02-08", None, "--amend", "--date=2026-02-06T12:00:00")
    assert wrong_dates(tmp_path, [patch], "p") == ([], [])


def test_a_history_that_does_not_tell_is_no_fault(tmp_path, checkout):
    """A shallow clone begins with patches of which it does not know how old they are; a later one is judged."""
    checkout("2026-02-01", "2026-02-01")
    checkout("2026-02-03")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path}", str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    assert wrong_dates(clone, [clone / "p" / "1.patch"], "p") == ([], ["1.patch"])
    (tmp_path / "none").mkdir()
    with pytest.raises(pytest.skip.Exception, match="history: "):
        git(tmp_path / "none", "--git-dir=.git", "log")
