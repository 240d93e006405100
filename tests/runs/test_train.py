"""Training with real Caffe: run folders, determinism, stopping, resuming, and mistakes caught before they cost time."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import testlib
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.data import lmdb_writer
from selfie.net import caffe_net, pycaffe, solver, variants
from selfie.runs import caffe_log, evaluate, prepare, run_folder, snapshots, train


def test_a_run_folder_tells_everything(tiny_run):
    """Prototxts, log, metrics, curves, scores and run.json are there, and the net has learnt bright from dark."""
    for name in (
        "train_val.prototxt",
        "solver.prototxt",
        "deploy.prototxt",
        "log.txt",
        "metrics.csv",
        "curves.png",
        "val_scores.csv",
        "run.json",
    ):
        assert (tiny_run.folder / name).stat().st_size > 0, name
    assert tiny_run.finished and tiny_run.info["iterations"] == 30
    assert tiny_run.info["lmdb"]["train"]["count"] == 64 and tiny_run.info["parameters"] == 488_066
    last = (tiny_run.folder / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert float(last[-1]) > 0.9


def test_the_solver_in_the_run_folder_keeps_its_comments_and_is_the_one_that_ran(tiny_run):
    """The exact solver is kept: paths and --set values changed in place, the reasons for the numbers still there."""
    text = (tiny_run.folder / "solver.prototxt").read_text()
    assert "# " in text
    parsed = solver.parse(text)
    assert (parsed.max_iter, parsed.momentum, list(parsed.test_iter)) == (30, pytest.approx(0.9), [1])


def test_one_seed_gives_one_loss_curve(tiny_lmdb, tmp_path):
    """Two CPU runs with the same seed log the same numbers; another seed does not."""
    curves = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train.train(testlib.job(tiny_lmdb, tmp_path / name, max_iter=6, random_seed=seed))
        curves.append((tmp_path / name / "metrics.csv").read_text())
    assert curves[0] == curves[1] != curves[2]


def begin(lmdb: Path, run: Path, *more: object) -> list:
    """The command line of a training from scratch in `run`."""
    return ["tools/train.py", "--variant", "demo", "--weights", "none", "--lmdb", lmdb, "--run", run, *more]


ENDLESS = ("--set", "display=1", "--set", "max_iter=100000")


def logged(run: Path, text: str) -> bool:
    """Whether Caffe has logged `text` by now."""
    file = run / "log.txt"
    return file.exists() and text in file.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_snapshots_and_resume_goes_on(tiny_lmdb, tmp_path, number):
    """Ctrl-C or SIGTERM leaves a snapshot; --resume finishes the run from there, and says so when it is finished."""
    folder = tmp_path / "run"
    with testlib.started(*begin(tiny_lmdb, folder, *ENDLESS), stderr=subprocess.PIPE) as process:
        testlib.wait_until(lambda: logged(folder, "Iteration 3 ("))
        process.send_signal(number)
        assert "go on with --resume" in process.communicate(timeout=60)[1]
        assert process.returncode == 1
    iteration = snapshots.snapshots(folder)[0][0]
    assert iteration >= 3
    text = (folder / "solver.prototxt").read_text()
    (folder / "solver.prototxt").write_text(solver.change(text, {"max_iter": iteration + 4}))
    run_folder.load(folder).save(max_iter=iteration + 4)
    resume = ["tools/train.py", "--run", folder, "--resume"]
    testlib.assert_one_line_error(testlib.command(*resume, "--variant", "squeezenet"), "a run of demo, not of squeeze")
    result = testlib.command(*resume)  # the run knows its variant
    assert result.returncode == 0, result.stderr
    assert run_folder.load(folder).info["iterations"] == iteration + 4
    assert "is finished already" in testlib.command(*resume, "--variant", "demo").stderr
    wrong = testlib.command(*resume, "--epochs", 2)
    assert wrong.returncode == 2 and "options of the start" in wrong.stderr


def test_caffe_does_not_outlive_a_killed_train_py(tiny_lmdb, tmp_path):
    """SIGKILL of the Python side stops Caffe too, with a snapshot, so that nothing trains on unseen."""
    folder = tmp_path / "run"
    with testlib.started(*begin(tiny_lmdb, folder, *ENDLESS), stderr=subprocess.DEVNULL) as process:
        testlib.wait_until(lambda: logged(folder, "Iteration 3 ("))
        [caffe] = testlib.children(process.pid)
        process.kill()
    testlib.wait_until(lambda: not Path(f"/proc/{caffe}/cmdline").exists())
    assert snapshots.snapshots(folder), (folder / "log.txt").read_text()[-3000:]


def test_a_resumed_training_shows_where_it_is(tiny_lmdb, tmp_path):
    """Its bar begins where it goes on and ends at max_iter, though Caffe logs every other iteration only."""
    run = train.train(testlib.job(tiny_lmdb, tmp_path / "run", max_iter=13))
    for path in (run.folder / "snapshots").glob("*_iter_1[23].*"):
        path.unlink()
    run.save(state="started")
    code, shown = testlib.in_terminal("tools/train.py", "--run", run.folder, "--resume")
    bars = re.findall(r" (\d+)/13 ", "\n".join(shown))
    assert code == 0 and (bars[0], bars[-1]) == ("6", "13"), shown


def test_an_error_stands_below_the_bar(tiny_lmdb, tmp_path):
    """A training that diverges has a bar on the screen: the error begins a line."""
    code, shown = testlib.in_terminal(*begin(tiny_lmdb, tmp_path / "run", "--set", "display=1", "--set", "base_lr=1e6"))
    assert code == 1 and shown[-1].startswith("error: ") and "diverged" in shown[-1]
    assert "run: " in shown[-2] and not [line for line in shown[:-1] if "error" in line], shown


def test_under_make_messages_speak_of_its_variables(tiny_run, tiny_lmdb, tmp_path):
    """Options that have a variable are called by it; others go into the variable of their command."""
    under_make = {**os.environ, "SELFIE_MAKE": "1"}
    result = testlib.command(*begin(tiny_lmdb, tiny_run.folder), env=under_make)
    testlib.assert_one_line_error(result, "go on with RESUME=1, start over with REPLACE=1, or give another RUN")
    build = ["tools/make_lmdb.py", "--images", tiny_lmdb.parent / "images", "--out", tmp_path / "lmdb", "--labels"]
    labels = testlib.pictures(tmp_path / "new", {"train": 4, "val": 2, "test": 2})
    lmdb_writer.build(labels, labels.parent / "images", tmp_path / "lmdb", jobs=1)
    result = testlib.command(*build, tiny_lmdb.parent / "labels.csv", env=under_make)
    testlib.assert_one_line_error(result, "LMDB_FLAGS=--force")
    testlib.assert_one_line_error(testlib.command(*build, tiny_lmdb.parent / "labels.csv"), " --force")


def test_resume_passes_over_a_damaged_snapshot(tiny_lmdb, tmp_path, caplog):
    """A truncated newest snapshot is named and the one before it is used."""
    train.train(testlib.job(tiny_lmdb, tmp_path / "run"))
    run = run_folder.load(tmp_path / "run").save(state="started")
    newest = snapshots.snapshots(run.folder)[0][1]
    os.truncate(newest, newest.stat().st_size // 2)
    assert snapshots.newest_intact(run)[0] == 6
    assert newest.name in caplog.text
    newest.with_suffix(".caffemodel").write_bytes(b"nonsense")
    assert train.resume(run.folder, run.variant.name).info["iterations"] == 12


@pytest.fixture(scope="module")
def whole(tiny_lmdb, tmp_path_factory) -> run_folder.Run:
    """A run that was never stopped, on JPEG databases as `make lmdb` builds them. Its validation batches (50) do not
    divide the 24 selfies, its logged losses are means over more iterations than there are between two snapshots."""
    folder = tmp_path_factory.mktemp("whole")
    images = tiny_lmdb.parent / "images"
    lmdb_writer.build(tiny_lmdb.parent / "labels.csv", images, folder / "lmdb", jobs=1)
    settings = {"snapshot": 5, "test_interval": 4, "display": 1, "average_loss": 7, "max_iter": 16}
    return train.train(testlib.job(folder / "lmdb", folder / "run", **settings))


@pytest.mark.parametrize("stops", [(5,), (10,), (15, 5), (16,)], ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(whole, tmp_path, stops):
    """Bit by bit, weights and metrics: same records, crops, mirrors, validation selfies and mean losses.

    What is lost is what a killed run loses: the snapshots after the stop, and metrics.csv since the last test.
    """
    weights = whole.caffemodel.read_bytes()
    shutil.copytree(whole.folder, tmp_path / "run")
    for path in tmp_path.rglob("*.prototxt"):
        path.write_text(path.read_text().replace(str(whole.folder), str(tmp_path / "run")))
    run = run_folder.load(tmp_path / "run")
    for stop in stops:
        for path in (run.folder / "snapshots").iterdir():
            if int(re.search(r"_iter_(\d+)\.", path.name)[1]) > stop:
                path.unlink()
            elif path.suffix == ".solverstate":
                state = pycaffe.parse_binary(pycaffe.caffe_pb2().SolverState(), path)
                state.learned_net = str(path.with_suffix(".caffemodel"))
                path.write_bytes(state.SerializeToString())
        rows = (run.folder / "metrics.csv").read_text().splitlines()
        (run.folder / "metrics.csv").write_text("\n".join(rows[: stop // 2]) + "\n")
        run.save(state="started")
        run = train.resume(run.folder)
    assert run.caffemodel.read_bytes() == weights
    assert (run.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
    assert pl.read_csv(run.folder / "metrics.csv").drop_nulls("val_loss")["iteration"].to_list() == [0, 4, 8, 12, 16]


def test_a_killed_run_that_is_resumed_has_the_metrics_of_an_uninterrupted_one(whole, tmp_path):
    """SIGKILL of train.py and Caffe in the middle; nothing of the curve is lost."""
    folder, job = tmp_path / "run", Path(whole.info["lmdb"]["path"])
    settings = ("snapshot=5", "test_interval=4", "display=1", "average_loss=7", "max_iter=16")
    options = [part for setting in settings for part in ("--set", setting)]
    with testlib.started(*begin(job, folder, *options), stderr=subprocess.DEVNULL) as process:
        testlib.wait_until(lambda: logged(folder, "Iteration 7 ("))
        [caffe] = testlib.children(process.pid)
        os.kill(int(caffe), signal.SIGKILL)
        process.kill()
        process.wait()
    testlib.wait_until(lambda: not Path(f"/proc/{caffe}/cmdline").exists())
    assert train.resume(folder).caffemodel.read_bytes() == whole.caffemodel.read_bytes()
    assert (folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()


def test_a_log_that_a_kill_cut_off_is_read_as_far_as_it_goes(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text(
        "I1 s.cpp:1] Iteration 2, loss = 0.5\nI1 s.cpp:1] Iteration 4, loss = 0.25\nI1 Iteration 6, loss = -"
    )
    (tmp_path / "metrics.csv").write_text("iteration,lr,train_loss,val_loss,val_accuracy\n2,0.1,,\nrubbish,,\n9,,1\n")
    follower = caffe_log.LogFollower(tmp_path, 4, 10)
    follower.recover()
    assert follower.metrics.rows == {2: {"lr": 0.1, "train_loss": 0.5}, 4: {"train_loss": 0.25}}
    assert log.read_text().endswith("loss = -\n"), "what Caffe appends begins a line"


def test_a_clock_that_is_set_back_costs_no_row(tmp_path):
    """Caffe logs a negative time and rate then."""
    follower = caffe_log.LogFollower(tmp_path, 0, 10)
    line = "I1128 02:59:59.9 1 solver.cpp:243] Iteration 8 (-0.00028 iter/s, -7199.5s/2 iters), loss = 0.25\n"
    assert follower.note(line) == {"iteration": 8, "train_loss": 0.25}


def test_a_signal_while_caffe_starts_ends_it_in_order(tiny_lmdb, tmp_path):
    """It is passed on once Caffe catches it: earlier it would end Caffe, or train.py, as a signal does."""
    folder = tmp_path / "run"
    with testlib.started(*begin(tiny_lmdb, folder, *ENDLESS), stderr=subprocess.PIPE) as process:
        testlib.wait_until(lambda: (folder / "log.txt").exists())
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "go on with --resume" in said or "stopped before the first iteration" in said


def test_a_caffe_that_ends_without_a_word_is_named(tmp_path):
    """By the signal that ended it, and with what to try."""
    follower = caffe_log.LogFollower(tmp_path, 0, 10)
    for name, words in (("BUS", "SIGBUS.*--verify"), ("KILL", "SIGKILL, most likely for memory")):
        with pytest.raises(SelfieError, match=f"caffe train failed: it was ended by {words}"):
            follower.run(["sh", "-c", f"kill -{name} $$"], resumed=False, lock=0)


# --- killed at the beginning, and two at once ------------------------------------------------------------------------


def leave(folder: Path, *names: str) -> None:
    """Make a folder of files with these names; those that end in / are folders."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("x")


def test_a_start_that_was_killed_before_run_json_can_be_made_again(tiny_lmdb, tmp_path):
    """At any moment of it, also of version 0.2, which wrote run.json last."""
    for number, names in enumerate(
        [
            (".lock",),
            ("snapshots/",),
            ("snapshots/", "train_val.prototxt", ".deploy.tmp-0a_1b2c3.prototxt"),
            ("snapshots/", "train_val.prototxt", "deploy.prototxt", "deploy_conv.prototxt", "solver.prototxt"),
        ]
    ):
        folder = tmp_path / str(number)
        leave(folder, *names)
        prepare.prepare(testlib.job(tiny_lmdb, folder))
        assert run_folder.load(folder).info["state"] == "started"
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("kib", "again"), [(4, ""), (40, "--replace")])
def test_a_start_on_a_full_disk_can_be_made_again(tiny_lmdb, tmp_path, kib, again):
    """When there is room: by the same command if it came no further than its folder, else with --replace."""
    disk, run = tmp_path / "disk", tmp_path / "disk" / "run"
    disk.mkdir()
    start = f"{sys.executable} tools/train.py --variant demo --weights none --lmdb {tiny_lmdb} --run {run}"
    start += " --set max_iter=2 --set test_interval=2 --set display=1 --set average_loss=1"
    script = f"""mount -t tmpfs -o size={kib}k none {disk} || exit 77
                 {start}; echo "code $?"; mount -o remount,size=100m {disk}; {start} {again}"""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    result = subprocess.run([*namespace, "sh", "-c", script], capture_output=True, text=True, cwd=paths.ROOT)
    if "code" not in result.stdout:
        testlib.skip("root", f"no small file system can be mounted here: {result.stderr.strip()}")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "code 1" in result.stdout and "Traceback" not in result.stderr
    assert len(errors) == 1 and "No space left on device" in errors[0], result.stderr
    assert result.returncode == 0 and "2 iterations" in result.stdout


def test_what_is_left_of_a_run_needs_replace_and_other_folders_are_never_touched(tiny_lmdb, tmp_path):
    job = testlib.job(tiny_lmdb, tmp_path / "run")
    leave(job.run, "snapshots/x_iter_5.caffemodel")
    with pytest.raises(SelfieError, match="what is left of a run: start over with --replace"):
        prepare.prepare(job)
    job.replace = True
    prepare.prepare(job)
    assert not list((job.run / "snapshots").iterdir())
    for names in (("a.jpg",), ("snapshots/", "a.jpg"), ("train_val.prototxt", "deploy.prototxt"), ("log.txt",)):
        job.run = tmp_path / "-".join(names).replace("/", "")
        leave(job.run, *names)
        with pytest.raises(SelfieError, match="not a run folder"):
            prepare.prepare(job)
        assert {path.name for path in job.run.iterdir()} == {name.strip("/") for name in names}


DIES = """
import os, sys
from pathlib import Path
import testlib
from selfie.runs import prepare
job = testlib.job(Path(sys.argv[1]), Path(sys.argv[2]))
job.replace = True
steps = int(sys.argv[3])
def count(event, arguments):
    global steps
    names = [str(one) for one in arguments if isinstance(one, (str, os.PathLike))]
    changes = event in ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir")
    if changes and any(sys.argv[2] in name for name in names):
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), 9)
plan = prepare.plan(job)
sys.addaudithook(count)
with prepare.locked(plan):
    pass
"""


def test_replace_can_be_killed_at_any_moment_and_made_again(tiny_run, tiny_lmdb, tmp_path):
    """Before each of its file operations: --replace, or a plain start where nothing of the old run is left, works."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    killed = 0
    for steps in (1, 4, 7, 12, 18, 30):
        folder = tmp_path / str(steps)
        shutil.copytree(tiny_run.folder, folder)
        killed += testlib.command("-c", DIES, tiny_lmdb, folder, steps, env=environment).returncode == -signal.SIGKILL
        job = testlib.job(tiny_lmdb, folder)
        job.replace = True
        prepare.prepare(job)
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert killed >= 5


def test_a_run_that_was_killed_while_it_was_prepared_says_so(tiny_lmdb, tmp_path):
    run = prepare.prepare(testlib.job(tiny_lmdb, tmp_path / "run")).save(state="preparing")
    with pytest.raises(SelfieError, match="start it again, without --resume"):
        train.resume(run.folder)
    assert prepare.prepare(testlib.job(tiny_lmdb, run.folder)).info["state"] == "started"


def test_one_process_trains_in_a_folder_and_others_are_told_which(tiny_lmdb, tmp_path):
    """--resume, --replace and a second start beside a training that runs; afterwards the training is what it was."""
    folder = tmp_path / "run"
    with testlib.started(*begin(tiny_lmdb, folder, *ENDLESS), stderr=subprocess.DEVNULL) as process:
        testlib.wait_until(lambda: logged(folder, "Iteration 3 ("))
        for more in (["tools/train.py", "--run", folder, "--resume"], begin(tiny_lmdb, folder, "--replace")):
            result = testlib.command(*more)
            testlib.assert_one_line_error(
                result, f"at work in {folder}: process {process.pid} (tools/train.py", "since"
            )
        assert process.poll() is None
        [caffe] = testlib.children(process.pid)
        process.kill()
        process.wait()
        os.kill(int(caffe), signal.SIGSTOP)  # it takes its time over the snapshot
        testlib.assert_one_line_error(testlib.command("tools/train.py", "--run", folder, "--resume"), "still ending")
        os.kill(int(caffe), signal.SIGCONT)
    assert (folder / "log.txt").read_text().count("Iteration 0 (") == 1


def test_a_refused_gpu_leaves_the_run_as_it_is(tiny_lmdb, tmp_path):
    """And a run that was begun on a GPU can go on on the CPU."""
    run = train.train(testlib.job(tiny_lmdb, tmp_path / "run", max_iter="8"))
    run = run.save(state="started", gpu="7")
    before = (run.folder / "run.json").read_bytes()
    for gpu in (None, "9"):
        with pytest.raises(SelfieError, match="GPU"):
            train.resume(run.folder, run.variant.name, gpu)
        assert (run.folder / "run.json").read_bytes() == before
    assert train.resume(run.folder, run.variant.name, "cpu").info["gpu"] is None


def test_resume_says_that_another_number_of_gpus_reads_other_batches(tiny_lmdb, tmp_path, caplog):
    """Two GPUs read two batches per iteration, the CPU one; nothing is said where nothing changes."""
    run = train.train(testlib.job(tiny_lmdb, tmp_path / "run", max_iter="8"))
    for gpu, warned in (("0,1", True), ("0", False)):
        caplog.clear()
        train.resume(run.save(state="started", gpu=gpu).folder, run.variant.name, "cpu")
        assert (f"reads {run.info['batch']} selfies, not {2 * run.info['batch']}" in caplog.text) == warned


def test_resume_notices_another_database(tiny_lmdb, tmp_path):
    """A database that was built anew since would silently change what the run is about."""
    shutil.copytree(tiny_lmdb, tmp_path / "lmdb")
    train.train(testlib.job(tmp_path / "lmdb", tmp_path / "run"))
    run = run_folder.load(tmp_path / "run").save(state="started")
    lmdb_writer.build(
        testlib.pictures(tmp_path / "new", seed=9), tmp_path / "new" / "images", tmp_path / "lmdb", jobs=1, force=True
    )
    with pytest.raises(SelfieError, match="another database"):
        train.resume(run.folder, run.variant.name)


def test_evaluation_refuses_a_test_split_of_other_labels(tiny_lmdb, tmp_path):
    """After a new split the 'held-out' selfies may have been trained on."""
    shutil.copytree(tiny_lmdb, tmp_path / "lmdb")
    run = train.train(testlib.job(tmp_path / "lmdb", tmp_path / "run"))
    labels = testlib.pictures(tmp_path / "new", {"train": 30, "val": 10, "test": 40})
    lmdb_writer.build(labels, tmp_path / "new" / "images", tmp_path / "lmdb", jobs=1, force=True)
    with pytest.raises(SelfieError, match="other labels"):
        evaluate.evaluate(run)


def test_replace_removes_an_older_run_only_when_all_is_well(tiny_lmdb, tmp_path):
    """A mistake in the new options must not cost the old run; a folder that is no run is never touched."""
    old = train.train(testlib.job(tiny_lmdb, tmp_path / "run"))
    for fault in ({"nonsense": 1}, {"max_iter": 0}, {"snapshot_prefix": "x"}):
        job = testlib.job(tiny_lmdb, old.folder, **fault)
        job.replace = True
        with pytest.raises(SelfieError):
            train.train(job)
    job = testlib.job(tiny_lmdb, old.folder)
    job.replace, job.pretrained = True, old.caffemodel
    with pytest.raises(SelfieError, match="holds the weights"):
        train.train(job)
    assert run_folder.load(old.folder) == old
    job.pretrained = None
    assert train.train(job).info["started"] >= old.info["started"]
    with pytest.raises(SelfieError, match="not a run folder"):
        train.train(testlib.job(tiny_lmdb, tiny_lmdb))


def test_weights_of_another_net_are_refused_before_anything_is_written(tiny_run, tiny_lmdb, tmp_path):
    """Caffe would train such layers from scratch and only log it."""
    job = testlib.job(tiny_lmdb, tmp_path / "run")
    job.variant = variants.get("squeezenet")
    job.pretrained = tiny_run.caffemodel
    with pytest.raises(SelfieError, match="another net: it has no weights for conv1"):
        train.train(job)
    assert not (tmp_path / "run").exists()


def test_the_head_may_be_new_and_nothing_else(tiny_run):
    """Of the demo net's weights only the head may be missing in the caffemodel that training starts from."""
    wanted = caffe_net.learned_layers(variants.get("demo_pretrain"))
    caffe_net.check_weights(wanted, tiny_run.caffemodel, fresh=("fc8",))
    with pytest.raises(SelfieError, match="no weights for fc8"):
        caffe_net.check_weights(wanted, tiny_run.caffemodel)
    wanted["fc7"] = [(128, 64), (128,)]
    with pytest.raises(SelfieError, match="fc7 has weights of shape"):
        caffe_net.check_weights(wanted, tiny_run.caffemodel, fresh=("fc8",))


def test_an_unfinished_database_is_refused(tiny_lmdb, tmp_path):
    """Without meta.json a database may be cut short anywhere."""
    shutil.copytree(tiny_lmdb, tmp_path / "lmdb")
    (tmp_path / "lmdb" / "val" / "meta.json").unlink()
    result = testlib.command(*begin(tmp_path / "lmdb", tmp_path / "run"))
    testlib.assert_one_line_error(result, "val is not a finished database")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "option, value, words",
    [
        ("--epochs", "1e15", r"--epochs 1e\+15: that is 2e\+15 iterations, and Caffe counts up to 2,147,483,647: give"),
        ("--epochs", "1e300", r"--epochs 1e\+300: .* give [\d,]+ or fewer"),
        ("--batch", "99999999999", r"--batch 99999999999: Caffe keeps at most [\d,]+ pictures"),
        ("--set", "max_iter=1e15", "--set max_iter=1e15: Couldn't parse integer: 1e15"),
        ("--set", "iter_size=99999999999", "--set iter_size=99999999999: Value out of range"),
    ],
)
def test_numbers_beyond_caffes_are_told_of_the_option_that_was_given(tiny_lmdb, tmp_path, option, value, words):
    """In the user's own words, before anything is written."""
    job = testlib.job(tiny_lmdb, tmp_path / "run")
    if option == "--set":
        job.settings.update([value.split("=")])
    else:
        setattr(job, option[2:], float(value) if option == "--epochs" else int(value))
    with pytest.raises(SelfieError, match=words) as error:
        prepare.prepare(job)
    assert ("--set" in str(error.value)) is (option == "--set") and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"base_lr": "1e6"}, "diverged"),
        ({"nonsense": "1"}, "nonsense"),
        ({"lr_policy": "no_such_policy"}, "Unknown learning rate policy"),
    ],
)
def test_what_goes_wrong_in_training_is_one_line(tiny_lmdb, tmp_path, settings, words):
    """Divergence, an unknown solver field, and Caffe's own fatal errors are errors of ours, not buried in a log."""
    with pytest.raises(SelfieError, match=words):
        train.train(testlib.job(tiny_lmdb, tmp_path / "run", **{"display": 1, **settings}))


def test_labels_that_the_net_has_no_class_for_are_refused(tiny_lmdb, tmp_path):
    """Caffe would read beside its blob."""
    rows = (tiny_lmdb.parent / "labels.csv").read_text().replace(",1,train", ",2,train")
    (tmp_path / "labels.csv").write_text(rows)
    lmdb_writer.build(tmp_path / "labels.csv", tiny_lmdb.parent / "images", tmp_path / "lmdb", raw=True, jobs=1)
    with pytest.raises(SelfieError, match="label 2, but the net has 2 classes"):
        train.train(testlib.job(tmp_path / "lmdb", tmp_path / "run"))


def test_an_existing_run_is_not_overwritten(tiny_run, tiny_lmdb):
    """A second `make train` with the same name must not destroy a night's work."""
    with pytest.raises(SelfieError, match="exists"):
        train.train(testlib.job(tiny_lmdb, tiny_run.folder))


def test_epochs_set_the_length_of_the_run(tiny_lmdb, tmp_path):
    """An epoch is once through the training split, however many iterations that takes."""
    job = testlib.job(tiny_lmdb, tmp_path / "run")
    del job.settings["max_iter"]
    job.epochs = 3
    assert prepare.prepare(job).info["max_iter"] == 6  # 3 x 64 selfies in batches of 32
