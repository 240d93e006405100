"""Scoring and evaluation with a run that real Caffe trained."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest

import testlib
from faults import waits
from selfie.common import stats
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.runs import evaluate, run_folder, score, trust
from selfie.runs.run_folder import Run
from selfie.runs.score import Scored


def test_a_file_scores_the_same_as_its_record_in_the_database(tiny_run, tiny_lmdb):
    """One preprocessing: the picture in the database and the file on disk give the same score."""
    recorded = evaluate.score_database(tiny_run, tiny_lmdb / "test")
    names = [str(tiny_lmdb.parent / "images" / f"{key.split('_', 1)[1]}.png") for key in recorded["key"]]
    scored = list(score.score(tiny_run, names))
    np.testing.assert_allclose([one.score for one in scored], recorded["score"], atol=1e-6)


def test_scores_do_not_depend_on_the_batch(tiny_run, tiny_lmdb):
    """One by one or many at once."""
    names = [str(path) for path in sorted((tiny_lmdb.parent / "images").glob("test*"))[:10]]
    many, single = ([one.score for one in score.score(tiny_run, names, batch=batch)] for batch in (7, 1))
    np.testing.assert_allclose(many, single, atol=1e-6)


@pytest.fixture
def mixed(tiny_lmdb, tmp_path) -> list:
    """Names of good pictures, more than a few batches, with broken, missing and empty ones among them."""
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    good = [str(path) for path in sorted((tiny_lmdb.parent / "images").glob("*.png"))]
    bad = [str(tmp_path / "broken.jpg"), "no_such.jpg", Scored("empty", error="holds no pictures")]
    return [
        name
        for number, first in enumerate(good)
        for name in ([first, bad[number // 9 % 3]] if number % 9 == 4 else [first])
    ]


def test_scores_and_their_order_do_not_depend_on_the_jobs(tiny_run, mixed):
    """However many threads read the files: the very same scores."""
    one, two, three = (list(score.score(tiny_run, mixed, batch=4, jobs=jobs)) for jobs in (1, 2, 3))
    assert one == two == three
    names = [name.path if isinstance(name, Scored) else name for name in mixed]
    assert [scored.path for scored in one] == [scored.path for scored in two] == names
    assert [scored.error for scored in one] == [scored.error for scored in two]
    assert {scored.error for scored in one} == {None, "broken or truncated", "no such file", "holds no pictures"}


def test_scores_can_be_left_before_the_end(tiny_run, mixed):
    """Who takes only some, `| head` say, waits for nothing, and no thread is left."""
    running = threading.active_count()
    scores = score.score(tiny_run, mixed, batch=2, jobs=2)
    assert next(scores).score is not None
    scores.close()
    assert threading.active_count() == running


def test_pictures_from_a_slow_disk_have_the_same_scores(tiny_run, tiny_lmdb, tmp_path, monkeypatch):
    """Some reads take a second."""
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((tiny_lmdb.parent / "images").iterdir())[:12]:
        shutil.copy(path, images)
    command = ("tools/score.py", "--run", tiny_run.folder, "--csv", images)
    expected = testlib.command(*command)
    monkeypatch.setattr(waits, "LONGEST", 1.0)
    disk = waits.SlowDisk(images, random.Random(0))
    try:
        disk.__enter__()
    except (OSError, subprocess.CalledProcessError):
        testlib.skip("root", "no leave to mount, or no fanotify")
    try:
        slow = testlib.command(*command)
    finally:
        disk.__exit__()
    assert disk.delays and slow.stdout == expected.stdout and slow.stderr == ""


def test_ctrl_c_ends_scoring_in_one_line(tiny_run, tiny_lmdb):
    """In the middle of thousands of pictures: at once, with exit code 130 and no traceback."""
    names = "\n".join([str(tiny_lmdb.parent / "images" / "test0001.png")] * 20000)
    arguments = ("tools/score.py", "--run", tiny_run.folder, "-", "--csv")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with testlib.started(*arguments, **pipes) as process:
        process.stdin.write(names)
        process.stdin.close()
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=60) == 130
        assert process.stderr.read().splitlines()[-1] == "error: interrupted"


def test_a_run_of_an_older_preprocessing_says_so(tiny_run, tiny_lmdb, tmp_path, caplog):
    """Its scores of large pictures are not quite what its training saw."""
    info = json.loads(json.dumps(tiny_run.info))
    name = str(tiny_lmdb.parent / "images" / "test0001.png")
    list(score.score(tiny_run, [name]))
    assert "older version" not in caplog.text
    del info["lmdb"]["train"]["inputs"]["preprocessing"]
    list(score.score(Run(tiny_run.folder, info), [name]))
    assert "older version" in caplog.text


def test_bad_files_are_named_and_the_rest_is_scored(tiny_run, tiny_lmdb, tmp_path):
    """Exit code 1, a line for the broken file, a row for the good one."""
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    good = tiny_lmdb.parent / "images" / "test0001.png"
    result = testlib.command("tools/score.py", "--run", tiny_run.folder, tmp_path / "broken.jpg", good)
    assert result.returncode == 1
    assert "broken.jpg" in result.stderr and "Traceback" not in result.stderr
    assert "test0001.png" in result.stdout and "%" in result.stdout


def test_bad_files_are_named_on_lines_of_their_own(tiny_run, tiny_lmdb, tmp_path):
    """Above the progress bar, which goes on below them."""
    names = [str(path) for path in sorted((tiny_lmdb.parent / "images").glob("*.png"))]
    names[3] = names[70] = "no_such.jpg"
    listing = tmp_path / "names.txt"
    listing.write_text("\n".join(names))
    with open(listing) as file:
        code, shown = testlib.in_terminal("tools/score.py", "--run", tiny_run.folder, "-", stdin=file)
    bars, others = ([line for line in shown if ("selfie/s" in line) == wanted] for wanted in (True, False))
    assert code == 1 and others == ["error: no_such.jpg: no such file"] * 2, shown
    assert len(bars) > 2 and "error" not in "".join(bars) and f"{len(names)}/{len(names)} " in bars[-1], shown


def test_what_ends_a_command_stands_below_the_bar_that_it_was_drawing():
    """Whatever ends it, wherever the bar is."""
    code = """if True:
        import sys
        sys.path.insert(0, "tools")
        import tqdm
        from selfie.common import cli, errors
        def main():
            bar = tqdm.tqdm(total=9, desc="drawing")
            bar.update(4)
            bar.refresh()
            raise {error}
        cli.run(main)
    """
    for error, exit_code, line in (
        ("errors.SelfieError('no more')", 1, "error: no more"),
        ("KeyboardInterrupt", 130, "error: interrupted"),
    ):
        returned, shown = testlib.in_terminal("-c", code.format(error=error))
        assert returned == exit_code and shown[-1] == line, shown
        assert "drawing:" in shown[-2] and " 4/9 " in shown[-2], shown


def test_a_lenient_run_fails_only_where_nothing_was_scored(tiny_run, tiny_lmdb):
    """Then there is no table either, not even its heading."""
    good = tiny_lmdb.parent / "images" / "test0001.png"
    score_py = ("tools/score.py", "--run", tiny_run.folder)
    for arguments, code, rows in (
        (["no.jpg", good], 1, 2),
        (["--lenient", "no.jpg", good], 0, 2),
        (["--lenient", "--sort", "no.jpg", "nowhere.png"], 1, 0),
    ):
        result = testlib.command(*score_py, *arguments)
        assert (result.returncode, len(result.stdout.splitlines())) == (code, rows), arguments
        assert result.stderr.count("error: no.jpg: no such file\n") == 1


def test_every_bad_file_among_many_good_ones_is_named(tiny_run, tmp_path):
    """Nothing vanishes: decoders silence their own chatter, never our messages; missing names do not stop the rest."""
    picture = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    for number in range(20):
        image.write(tmp_path / f"good{number}.jpg", picture)
        data = (tmp_path / f"good{number}.jpg").read_bytes()
        (tmp_path / f"bad{number}.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty").mkdir()
    result = testlib.command(
        "tools/score.py", "--run", tiny_run.folder, tmp_path, tmp_path / "no.jpg", tmp_path / "empty"
    )
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == len(lines) == 22, result.stderr
    assert result.stdout.count("good") == 20


def test_json_and_csv_say_the_same(tiny_run, tiny_lmdb):
    """Other programs can read both; the score is in [0, 1], the percentile in [0, 100]."""
    arguments = ["tools/score.py", "--run", tiny_run.folder, tiny_lmdb.parent / "images"]
    rows = list(csv.DictReader(io.StringIO(testlib.command(*arguments, "--csv").stdout)))
    objects = [json.loads(line) for line in testlib.command(*arguments, "--json").stdout.splitlines()]
    assert len(rows) == len(objects) == sum(testlib.SPLITS.values())
    for row, one in zip(rows, objects):
        assert row["path"] == one["path"] and float(row["score"]) == pytest.approx(one["score"])
        assert 0 <= one["score"] <= 1 and 0 <= one["percentile"] <= 100


def test_an_ensemble_says_how_sure_it_is(heads_run, tiny_lmdb):
    """By what its heads say (runs.heads); other columns stay as they are."""
    files = sorted((tiny_lmdb.parent / "images").glob("test*"))[:7]
    squares = np.stack([image.square(image.read(file)) for file in files])
    judged = trust.of(heads_run).judge(heads_run.net(), squares)
    wanted = zip(judged.low, judged.high, judged.scores)
    arguments = ["tools/score.py", "--run", heads_run.folder, *files]
    rows = list(csv.DictReader(io.StringIO(testlib.command(*arguments, "--csv").stdout)))
    assert list(rows[0]) == ["path", "score", "percentile", "error", "low", "high", "unlike"]
    for row, (low, high, score_) in zip(rows, wanted):
        values = [float(row[name]) for name in ("low", "score", "high")]
        np.testing.assert_allclose(values, (low, score_, high), atol=1e-5)
        assert low < score_ < high
    objects = [json.loads(line) for line in testlib.command(*arguments, "--json").stdout.splitlines()]
    assert [(one["low"], one["high"]) for one in objects] == [(float(row["low"]), float(row["high"])) for row in rows]
    line = testlib.command(*arguments).stdout.splitlines()[1]
    low, high, score_ = (100 * objects[0][name] for name in ("low", "high", "score"))
    assert line.startswith(f"{score_:5.1f}%  {objects[0]['percentile']:9.1f}%  {low:5.1f} - {high:5.1f}%  ")


def test_a_single_net_has_no_interval(tiny_run, tiny_lmdb):
    """Then the columns are what they always were."""
    arguments = ["tools/score.py", "--run", tiny_run.folder, tiny_lmdb.parent / "images" / "test0001.png"]
    assert testlib.command(*arguments, "--csv").stdout.splitlines()[0] == "path,score,percentile,error"
    assert list(json.loads(testlib.command(*arguments, "--json").stdout)) == ["path", "score", "percentile", "error"]


def test_a_list_on_standard_input_and_best_first(tiny_run, tiny_lmdb):
    """`find ... | score.py -`; --sort puts the best on top."""
    names = [str(path) for path in sorted((tiny_lmdb.parent / "images").glob("val*"))]
    result = testlib.command(
        "tools/score.py", "--run", tiny_run.folder, "-", "--json", "--sort", input="\n".join(names)
    )
    scores = [json.loads(line)["score"] for line in result.stdout.splitlines()]
    assert len(scores) == len(names) and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["no_such.jpg"], "no_such.jpg: no such file"),
        (["README.md", "--run", "no_such_run"], "no such run folder"),
        (["README.md", "--run", "tests"], "is not a run folder"),
    ],
)
def test_mistakes_are_one_line(tiny_run, arguments, words):
    """What a user can mistype."""
    if "--run" not in arguments:
        arguments = [*arguments, "--run", tiny_run.folder]
    testlib.assert_one_line_error(testlib.command("tools/score.py", *arguments), words)


def test_an_unfinished_run_does_not_score(tiny_run, tmp_path):
    """It says how to finish it."""
    (tmp_path / "run").mkdir()
    Run(tmp_path / "run", {**tiny_run.info, "state": "started"}).save()
    with pytest.raises(SelfieError, match="not finished"):
        list(score.score(run_folder.load(tmp_path / "run"), ["x"]))


def test_evaluation_of_a_learnt_net(own_run):
    """Bright against dark is learnt: accuracy near 1, in its interval; files are written; the confusion adds up."""
    result = testlib.command("tools/evaluate.py", "--run", own_run.folder, "--json")
    assert result.returncode == 0, result.stderr
    reported = json.loads(result.stdout)
    assert reported == json.loads((own_run.folder / "test_evaluation.json").read_text())
    assert (
        reported["accuracy"] > 0.9 and reported["accuracy_95"][0] < reported["accuracy"] <= reported["accuracy_95"][1]
    )
    assert sum(reported["confusion"].values()) == reported["selfies"] == testlib.SPLITS["test"]
    assert (own_run.folder / "test_evaluation.png").stat().st_size > 1000


def test_auc_against_counting_all_pairs():
    """The rank formula equals its definition, ties counted half."""
    generator = np.random.default_rng(3)
    scores, labels = generator.integers(0, 20, 200) / 20, generator.integers(0, 2, 200)
    good, bad = scores[labels == 1][:, None], scores[labels == 0][None]
    assert stats.auc(scores, labels) == pytest.approx(((good > bad) + 0.5 * (good == bad)).mean())
    with pytest.raises(SelfieError, match="both good and bad"):
        stats.auc(scores, np.ones(200))


def test_spearman_and_percentiles_against_scipy():
    """Against an independent implementation."""
    import scipy.stats

    generator = np.random.default_rng(4)
    first, second = generator.normal(size=50), generator.integers(0, 5, 50)
    assert stats.spearman(first, second) == pytest.approx(scipy.stats.spearmanr(first, second).statistic)
    expected = [scipy.stats.percentileofscore(second, value, "mean") for value in range(5)]
    np.testing.assert_allclose(stats.percentiles(np.arange(5), second), expected)


def test_wilson_interval():
    """Against scipy's, at a round place and at the edge."""
    import scipy.stats

    for hits, trials in ((60, 100), (0, 10), (10, 10)):
        expected = scipy.stats.binomtest(hits, trials).proportion_ci(method="wilson")
        np.testing.assert_allclose(stats.wilson(hits, trials), (expected.low, expected.high), atol=1e-4)
