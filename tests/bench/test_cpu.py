"""What the benchmark reports is what it measured; its speed is not tested."""

from __future__ import annotations

import json
from typing import ClassVar

import cv2
import numpy as np
import pytest

import bench as bench_command
import testlib
from selfie.bench import contenders, cpu, net_files, nets, workload
from selfie.bench.contenders import Contender
from selfie.bench.record import Row, in_turns, median_ratio, table
from selfie.bench.workload import command, make_manifest, make_pictures, make_run
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import lmdb_writer
from selfie.net import caffe_net


@pytest.mark.parametrize(
    ("row", "fine"),
    [
        (Row("g", "w", "s", 1.0), None),
        (Row("g", "w", "s", 0.2, wanted=0.3), True),
        (Row("g", "w", "s", 0.4, wanted=0.3), False),
        (Row("g", "w", "MB", 600, wanted=500), False),
        (Row("g", "w", "images/s", 90, 50, "peer", 1.8, wanted=1.8), True),
        (Row("g", "w", "images/s", 90, 60, "peer", 1.5, wanted=1.8), False),
        (Row("g", "w", "s", 1, 2, "peer", 2.0, wanted=1.8), True),
    ],
)
def test_a_bound_is_kept_or_missed(row, fine):
    """Times and memory below it, ratios and rates above it."""
    assert row.fine is fine


def test_contenders_take_turns():
    """Round by round, so that a slow minute slows all, and nobody always follows the same one; the ratio is the median
    of the rounds' ratios."""
    calls = []
    values = in_turns(
        9,
        {
            "ours": lambda number: calls.append(("ours", number)) or 2.0,
            "peer": lambda number: calls.append(("peer", number)) or 4.0,
        },
    )
    assert [number for _, number in calls] == [number for number in range(9) for _ in range(2)]
    assert {name for name, _ in calls[::2]} == {name for name, _ in calls[1::2]} == {"ours", "peer"}
    assert values == {"ours": [2.0] * 9, "peer": [4.0] * 9}
    assert median_ratio([1, 10, 4], [1, 5, 1]) == 2


def test_a_command_that_fails_is_an_error_with_its_text():
    """Not a quick success."""
    with pytest.raises(SelfieError, match="no such"):
        command("tools/evaluate.py", "--run", "nowhere")
    assert command("tools/score.py", "--help").seconds > 0


def test_memory_is_that_of_the_command_alone():
    """However much the benchmark itself holds at that moment."""
    held = np.ones(60_000_000)
    assert 5 < command("-c", "pass").megabytes < held.nbytes / 2**20 / 4


def test_the_pictures_are_large_different_and_usable(tmp_path, monkeypatch):
    """JPEGs of the size that is asked for; copies count as selfies of their own; drawn alike twice."""
    monkeypatch.setattr(workload, "DIFFERENT", 3)
    labels = make_pictures(tmp_path / "a", 8, 300)
    make_pictures(tmp_path / "b", 8, 300)
    for number in range(8):
        first, second = ((tmp_path / name / "images" / f"{number:06d}.jpg").read_bytes() for name in "ab")
        assert first == second
    assert cv2.imread(str(labels.parent / "images" / "000007.jpg")).shape == (300, 300, 3)
    assert lmdb_writer.build(labels, labels.parent / "images", tmp_path / "lmdb", jobs=1)["train"]["count"] == 8


def test_a_random_run_scores(tmp_path, skimage_data):
    """The stand-in for a trained run is a run to every command."""
    run = make_run(tmp_path, "demo")
    result = testlib.command("tools/score.py", "--run", run.folder, skimage_data / "astronaut.png", "--json")
    assert 0 <= json.loads(result.stdout)["score"] <= 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_invented_manifest_can_be_labelled(tmp_path, suffix):
    """With the same labels from both formats."""
    source = make_manifest(tmp_path, 3000, suffix)
    result = testlib.command("tools/label.py", "--manifest", source, "--out", tmp_path / "labels.csv")
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "labels.csv").read_text().splitlines()) > 1000


def test_the_report_keeps_what_was_measured_before(tmp_path, monkeypatch):
    """A group measured again replaces itself only; the table has all, and says what was missed."""
    monkeypatch.setattr(
        cpu,
        "GROUPS",
        {
            "one": lambda setting: [Row("one", "first", "s", 1.0, wanted=0.5)],
            "two": lambda setting: [Row("two", "second", "s", 2.0, 3.0, "peer", 1.5)],
        },
    )
    cpu.measure(tmp_path, ["one", "two"], quick=True)
    report = cpu.measure(tmp_path, ["two"], quick=False)
    assert report == paths.read_json(tmp_path / "bench.json")
    assert (report["groups"]["one"]["quick"], report["groups"]["two"]["quick"]) == (True, False)
    lines = table(report, cpu.GROUPS)
    assert lines[2] == "| first | 1.00 s |  |  | 0.5 **missed** |"
    assert lines[3] == "| second | 2.00 s | 3.00 (peer) | 1.50 |  |"


def test_a_group_that_is_cut_off_keeps_its_rows(tmp_path, monkeypatch):
    """Each of them as soon as it is there, beside older ones that are not measured again yet; the rest as it was."""
    seen = []

    def group(setting):
        for number, peer in enumerate(("", "a", "b")):
            if number == setting.count:
                raise KeyboardInterrupt
            yield Row("one", "same title", "s", setting.side + number, peer_name=peer)
            seen.append([row["ours"] for row in kept()["rows"]])

    def kept():
        return paths.read_json(tmp_path / "bench.json")["groups"]["one"]

    monkeypatch.setattr(cpu, "GROUPS", {"one": group, "two": lambda setting: [Row("two", "second", "s", 2.0)]})
    with pytest.raises(KeyboardInterrupt):
        cpu.measure(tmp_path, ["two", "one"], quick=True, count=1, side=10)
    assert seen == [[10]] and kept()["unfinished"]
    cpu.measure(tmp_path, ["one"], quick=True, count=9, side=20)
    assert seen[1:] == [[20], [20, 21], [20, 21, 22]] and "unfinished" not in kept()
    with pytest.raises(KeyboardInterrupt):
        cpu.measure(tmp_path, ["one"], quick=False, count=2, side=30)
    assert [row["ours"] for row in kept()["rows"]] == [30, 31, 22] and kept()["unfinished"]
    assert [row["quick"] for row in kept()["rows"]] == [False, False, True]
    report = cpu.measure(tmp_path, ["one"], quick=False, count=9, side=40)
    assert [row["ours"] for row in report["groups"]["one"]["rows"]] == [40, 41, 42]
    assert report == paths.read_json(tmp_path / "bench.json") and report["groups"]["two"]["rows"][0]["ours"] == 2


def test_an_unknown_group_is_a_usage_error():
    """It lists the known ones, which are those of the library."""
    result = testlib.command("tools/bench.py", "--only", "nothing")
    assert result.returncode == 2 and "scoring" in result.stderr
    assert tuple(cpu.GROUPS) == (*bench_command.GROUPS, *bench_command.NAMED)


@pytest.mark.parametrize("work", ["forward", "training"])
def test_all_contenders_run_the_same_net(tmp_path, work):
    """Ours, Caffe's own code, and the other libraries that are installed, with and without all of the CPU: same answer,
    a time for each pass, memory."""
    run = make_run(tmp_path, "squeezenet")
    data = np.random.default_rng(0).normal(0, 50, (2, 3, 99, 99)).astype(np.float32)
    net_files.prepare(run.deploy, run.folder / "random.caffemodel", data, tmp_path / "nets")
    able = contenders.MODULES if work == "forward" else contenders.CAN_TRAIN
    others = [name for name in able if name not in contenders.missing()]
    held = [name + contenders.HELD for name in others if name not in contenders.NOT_HELD]
    scores = []
    for name in (*contenders.CAFFES, *others, *held):
        with Contender(name, tmp_path / "nets", work) as contender:
            assert contender.seconds() > 0 and len(contender.processor) == 1 and contender.megabytes() > 10
            scores.append(contender.scores)
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=1e-4, atol=1e-4 * np.abs(scores[0]).max(initial=0))
    assert len(scores[0]) == (4 if work == "forward" else 0)
    if work == "forward":  # not only with each other: with the net itself, fed with the same input
        net = caffe_net.load(run.deploy, run.folder / "random.caffemodel")
        net.blobs["data"].reshape(*data.shape)
        net.reshape()
        net.blobs["data"].data[...] = data
        odds = np.log(net.forward()["prob"].reshape(2, 2)[:, 1] / net.blobs["prob"].data.reshape(2, 2)[:, 0])
        np.testing.assert_allclose(np.diff(scores[0].reshape(2, 2))[:, 0], odds, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["open_nsfw", "googlenet", "det2"])
def test_all_contenders_run_the_same_form(tmp_path, name):
    """Of the nets that the benchmark makes itself, with all kinds of layers: one picture, one answer."""
    folder = nets._prepared(tmp_path, name, 1)
    installed = [other for other in contenders.MODULES if other not in contenders.missing()]
    scores = []
    for contender in (contenders.OURS, contenders.STOCK, *installed):
        with Contender(contender, folder, "forward") as entered:
            scores.append(entered.scores)
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=1e-4, atol=1e-4 * np.abs(scores[0]).max())
    assert np.ptp(scores[0]) > 0


def test_a_contender_that_fails_is_an_error_in_one_line(tmp_path):
    """With its name and its last words, whether it raises or Caffe aborts; it does not hang."""
    np.save(tmp_path / "input.npy", np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(SelfieError, match=r"Caffe failed in the benchmark of nets: .*forward\.prototxt"):
        Contender(contenders.OURS, tmp_path, "forward")
    (tmp_path / "forward.prototxt").write_text('layer { name: "x" type: "Nonsense" }')
    (tmp_path / "net.caffemodel").touch()
    with pytest.raises(SelfieError, match=r"Caffe failed in the benchmark of nets: .*Unknown layer type: Nonsense"):
        Contender(contenders.OURS, tmp_path, "forward")


class FakeContender:
    """A contender without a process: 1 s an iteration, and twice that for who has "slow" in its name."""

    SCORES: ClassVar[dict[str, list[float]]] = {}

    def __init__(self, name, folder, work):
        self.name, self.processor = name, [1.0]
        self.scores = np.array(self.SCORES.get(name, [3.0, -4.0]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def seconds(self):
        return 2.0 if "slow" in self.name else 1.0

    def megabytes(self):
        return 100.0


@pytest.fixture
def race(tmp_path, monkeypatch):
    """A race of contenders without processes, of batches of two."""
    np.save(tmp_path / "input.npy", np.zeros((2, 3, 8, 8), np.float32))
    monkeypatch.setattr(nets, "Contender", FakeContender)
    monkeypatch.setattr(nets, "PAUSE", 0)
    wanted = {"stock": 1.0, "fastest": 2.5, "memory": 0.8}
    others = ["slower", "slow", "equal"]
    return nets.Race("vgg16", "forward", tmp_path, 2, contenders.OURS, contenders.STOCK, others, wanted)


def test_a_bound_is_that_of_the_fastest_other_library(race):
    """And a ratio that of times; both sides are milliseconds per image."""
    rows = {row.peer_name: row for row in list(nets._run(race))[:-1]}
    assert {name: row.ratio for name, row in rows.items()} == {
        contenders.STOCK: 1,
        "slower": 2,
        "slow": 2,
        "equal": 1,
    }
    assert {name: row.wanted for name, row in rows.items() if row.wanted} == {contenders.STOCK: 1.0, "equal": 2.5}
    assert (rows["slow"].ours, rows["slow"].peer, rows["equal"].fine) == (500, 1000, False)


def test_contenders_that_do_not_compute_the_same_are_refused(race, monkeypatch):
    """A hundredth of the largest score is no rounding."""
    monkeypatch.setattr(FakeContender, "SCORES", {"equal": [3.0, -4.04]})
    with pytest.raises(SelfieError, match="not all compute the same"):
        list(nets._run(race))
