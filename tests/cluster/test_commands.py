"""The commands as users give them: workers of this machine, a scheduler at an address, pictures in a store like S3."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import testlib
from selfie.common import paths

DASK = [sys.executable, "-m"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running(*arguments: object, **options: object) -> Iterator[subprocess.Popen]:
    """Run `python -m <arguments>` beside the test, quietly."""
    with testlib.started("-m", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as process:
        yield process


@pytest.fixture(scope="module")
def dask(packages, tmp_path_factory) -> Iterator[str]:
    """The address of a scheduler that has one worker: what the containers of docs/cluster/kubernetes.yaml run."""
    yaml = pytest.importorskip("yaml")  # Dask needs it, too
    documents = yaml.safe_load_all((paths.ROOT / "docs/cluster/kubernetes.yaml").read_text())
    places = {"8786": str(free_port()), "selfie-scheduler": "127.0.0.1"}
    scratch = str(tmp_path_factory.mktemp("dask"))
    with ExitStack() as processes:
        for deployment in (each for each in documents if each["kind"] == "Deployment"):
            (container,) = deployment["spec"]["template"]["spec"]["containers"]
            python, *arguments = container["command"] + container.get("args", [])
            assert python == "/selfie/.venv/bin/python"  # as docker/Dockerfile has it
            arguments = [re.sub("|".join(places), lambda found: places[found[0]], each) for each in arguments]
            given = {each["name"]: each["value"] for each in container.get("env", [])}
            environment = {**os.environ, "DASK_TEMPORARY_DIRECTORY": scratch, **given}
            processes.enter_context(running(*arguments[1:], env=environment))
        yield f"tcp://127.0.0.1:{places['8786']}"


@pytest.fixture(scope="module")
def store(packages) -> Iterator[dict[str, str]]:
    """A server that speaks S3's protocol: the environment for those who use it."""
    port = free_port()
    with running("moto.server", "-H", "127.0.0.1", "-p", port):

        def answers() -> bool:
            try:
                return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=1))
            except OSError:
                return False

        testlib.wait_until(answers)
        yield {
            **os.environ,
            "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            **{"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"},
        }


def test_workers_of_this_machine_score_as_one_process_does(packages, tiny_run, tiny_lmdb, tmp_path):
    """The same lines on standard output; the shards are gone."""
    images, scored = tiny_lmdb.parent / "images", ("tools/score.py", "--run", tiny_run.folder, "--csv")
    one = testlib.command(*scored, images)
    many = testlib.command(*scored, "--workers", 2, "--shard-rows", 32, "--shards", tmp_path / "shards", images)
    assert many.returncode == 0, many.stderr
    assert many.stdout == one.stdout and many.stdout.count("\n") == 113
    assert not (tmp_path / "shards").exists()


def test_a_scheduler_at_an_address_filters_faces(dask, tiny_lmdb, tmp_path):
    filtered = (
        "tools/filter_faces.py",
        "--manifest",
        tiny_lmdb.parent / "labels.csv",
        "--detector",
        "lbp",
        "--keep-all",
    )
    filtered = (*filtered, "--images", tiny_lmdb.parent / "images")
    for name, more in (("one", ()), ("cluster", ("--scheduler", dask, "--shard-rows", 32))):
        result = testlib.command(*filtered, "--out", tmp_path / f"{name}.csv", *more)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "cluster.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_pictures_and_shards_in_a_store(store, tiny_lmdb, tmp_path):
    """The records are those made of files; the reason of a picture that is missing is the same."""
    import boto3

    from selfie.data.lmdb_reader import Database

    images, labels = tiny_lmdb.parent / "images", tiny_lmdb.parent / "labels.csv"
    rows = [line for line in labels.read_text().splitlines() if line.endswith(("split", "val"))]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    bucket = boto3.resource("s3", endpoint_url=store["FSSPEC_S3_ENDPOINT_URL"], **keys).create_bucket(Bucket="bucket")
    for path in list(images.glob("val*"))[1:]:
        bucket.put_object(Key=f"images/{path.name}", Body=path.read_bytes())
    place = ("--images", "s3://bucket/images", "--shards", "s3://bucket/shards")
    made = ("tools/make_lmdb.py", "--labels", tmp_path / "labels.csv", "--raw", *place)
    result = testlib.command(*made, "--out", tmp_path / "lmdb", "--workers", 1, "--shard-rows", 16, env=store)
    assert result.returncode == 0, result.stderr
    assert "1 rejects" in result.stdout and "1 x no such file" in result.stdout
    ours, those_of_files = [], []
    for folder, records in ((tmp_path / "lmdb", ours), (tiny_lmdb, those_of_files)):
        with Database(folder / "val") as database:
            records += [(key[9:], value) for key, value in database.items()]
    assert len(ours) == testlib.SPLITS["val"] - 1 and set(ours) < set(those_of_files)
    assert not list(bucket.objects.filter(Prefix="shards/")), "shards were left behind"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--scheduler", "tcp://127.0.0.1:1"), ["no scheduler answers at tcp://127.0.0.1:1"]),
        (("--scheduler", "nonsense://x"), ["nonsense"]),
        (("--workers", 1, "--shards", "nonsense://x/y"), ["nonsense://"]),
    ],
)
def test_mistakes_are_one_line(packages, tiny_run, tiny_lmdb, more, words):
    result = testlib.command("tools/score.py", "--run", tiny_run.folder, *more, tiny_lmdb.parent / "images")
    testlib.assert_one_line_error(result, *words)


def test_ctrl_c_is_one_line(packages, tiny_lmdb, tmp_path):
    """A terminal sends it to all processes: the workers end with the command, and say nothing."""
    inputs = ("--manifest", tiny_lmdb.parent / "labels.csv", "--images", tiny_lmdb.parent / "images")
    command = (
        "tools/filter_faces.py",
        *inputs,
        "--out",
        tmp_path / "faces.csv",
        "--detector",
        "lbp",
        "--shard-rows",
        1,
    )
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
    with testlib.started(*command, "--workers", 1, **pipes) as process:
        testlib.wait_until((tmp_path / "faces.csv.shards").exists)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and told == "error: interrupted\n"


def test_a_worker_with_threads_is_refused(packages, tiny_lmdb, tmp_path):
    """A net computes in one thread at a time."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with (
        running("distributed.cli.dask_scheduler", "--port", address.rpartition(":")[2], "--no-dashboard"),
        running("distributed.cli.dask_worker", address, "--nthreads", 2, "--no-nanny", "--local-directory", tmp_path),
    ):
        label = ("tools/filter_faces.py", "--manifest", tiny_lmdb.parent / "labels.csv", "--scheduler", address)
        images = ("--images", tiny_lmdb.parent / "images", "--out", tmp_path / "faces.csv", "--detector", "lbp")
        result = testlib.command(*label, *images)
    assert result.returncode == 1
    assert "it has 2 threads" in result.stderr.strip().splitlines()[-1]
