"""The Makefile: what its targets do and refuse, in copies where Python and docker/*.sh only say what they are given."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from selfie.common import paths

MAKEFILE = (paths.ROOT / "Makefile").read_text()
TARGETS = re.search(r"^\.PHONY: (.*)$", MAKEFILE.replace("\\\n", ""), re.M).group(1).split()
SETTING_UP = ["setup", "system", "caffe", "dev", "caffe-test", "demo", "test"]
CHECKS = ["ready", "ready-python", "ready-dev", "wheel-setup"]  # what targets ask for; nobody calls them
USING = [name for name in TARGETS if name not in [*SETTING_UP, *CHECKS, "help", "clean", "distclean"]]
WITHOUT_CAFFE = ["gather", "lint", "prototxt"]
PYTHON = Path("/usr/bin/python3").resolve().name
SCRIPTS = ("setup_system.sh", "build_caffe.sh")


def tell(path: Path) -> None:
    """Make an executable that prints its name and its arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{path.name} $*"\n')
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with the Makefile and what it needs to set up."""
    for name in ("Makefile", "pyproject.toml", *(path.name for path in paths.ROOT.glob("requirements*.txt"))):
        shutil.copy(paths.ROOT / name, tmp_path)
    for name in SCRIPTS:
        tell(tmp_path / "docker" / name)
    return tmp_path


@pytest.fixture
def ready(checkout) -> Path:
    """The same after set-up."""
    tell(checkout / ".venv" / "bin" / "python")
    tell(checkout / "build" / "caffe" / "bin" / "caffe")
    tell(checkout / ".venv" / "bin" / "ruff")
    for stamp in (".installed", ".for-dev"):
        (checkout / ".venv" / f"{stamp}-{PYTHON}").touch()
    return checkout


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run make in `folder`, in an environment that holds nothing of the make and the variables around the tests."""
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def commands(result: subprocess.CompletedProcess) -> list[str]:
    """Return what was called, in order, without the lines in which make says so."""
    assert result.returncode == 0, result.stderr
    return [line for line in result.stdout.splitlines() if re.match(r"python |setup_system\.sh|build_caffe\.sh", line)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# --- set-up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", USING)
def test_without_set_up_a_target_says_what_to_run(checkout, target):
    """In one line, and nothing is built, fetched or written."""
    before = files(checkout)
    result = make(checkout, target, "GPU=0")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "make setup" in result.stderr
    assert files(checkout) == before


@pytest.mark.parametrize("target", USING)
def test_without_caffe_only_what_needs_none_goes_on(ready, target):
    """.venv alone is enough for lint, and for writing prototxts."""
    shutil.rmtree(ready / "build")
    result = make(ready, target)
    if target in WITHOUT_CAFFE:
        assert commands(result)
    else:
        assert result.returncode == 2 and "Caffe" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("target", USING)
def test_using_never_builds(ready, target):
    """With a GPU named, too, and when the requirements have changed since."""
    for stamp in (ready / ".venv").glob(".[if]*"):
        os.utime(stamp, (0, 0))
    called = commands(make(ready, target, "GPU=0,1"))
    assert called and not [line for line in called if not line.startswith("python ") or " pip " in line]


@pytest.mark.parametrize("target", SETTING_UP)
def test_set_up_is_the_same_for_every_use(checkout, target):
    """GPU has no say in what is installed or built."""
    with_gpu, without = (make(checkout, "-n", target, *more).stdout for more in (["GPU=0,1"], []))
    installs = "setup_system|build_caffe|pip|-m venv"
    assert re.findall(f".*(?:{installs}).*", with_gpu) == re.findall(f".*(?:{installs}).*", without) != []


def test_set_up_names_its_price_once(checkout, ready):
    """Time and disk, before anything happens; not when all is there."""
    assert "GB" not in make(ready, "setup").stdout
    shutil.rmtree(checkout / "build")
    first, *_ = make(checkout, "setup").stdout.splitlines()
    assert "minutes" in first and "GB of disk" in first


def test_set_up_does_only_what_is_missing(ready):
    """Packages of Python only when what lists them has changed."""
    assert commands(make(ready, "setup")) == ["setup_system.sh ", "build_caffe.sh caffe"]
    touch_after_set_up(ready, "requirements-serve.txt")
    called = commands(make(ready, "setup"))
    assert [line for line in called if "requirements-all.txt" in line] and called[-1] == "build_caffe.sh caffe"
    assert len(commands(make(ready, "setup"))) == 2


def test_what_tests_and_lint_take_comes_with_them(ready):
    """Not with the set-up; and once."""
    touch_after_set_up(ready, "requirements-dev.txt")
    assert len(commands(make(ready, "setup"))) == 2
    for target, calls in ("test", 1), ("test", 0), ("dev", 0), ("caffe-test", 0):
        assert sum("requirements-dev.txt" in line for line in commands(make(ready, target))) == calls
    (ready / ".venv" / "bin" / "ruff").unlink()
    for target in ("lint", "faults", "wheel"):
        result = make(ready, target)
        assert (result.returncode, result.stdout) == (2, "") and "make dev" in result.stderr
        assert result.stderr.count("\n") == 1


def touch_after_set_up(ready: Path, name: str) -> None:
    """Change a list of packages."""
    stamps, changed = list((ready / ".venv").glob(".[if]*")), ready / name
    while changed.stat().st_mtime_ns <= max(stamp.stat().st_mtime_ns for stamp in stamps):
        changed.touch()  # the kernel's clock ticks every few milliseconds


def test_a_wheel_sets_up_without_root_or_compiler(ready):
    """Into .venv, and from then on every set-up leaves it at that, until Caffe is built. No dev packages."""
    shutil.rmtree(ready / "build")
    (ready / "caffe.whl").touch()
    first = commands(make(ready, "setup", "CAFFE_WHEEL=caffe.whl"))
    assert first and not [line for line in first if not line.startswith("python ") or "requirements-dev" in line]
    assert "caffe.whl" in first[-1] and [line for line in first if "requirements-all.txt" in line]
    tell(ready / ".venv" / "bin" / "caffe")
    assert commands(make(ready, "setup")) == []
    assert commands(make(ready, "score"))
    assert commands(make(ready, "caffe"))[-1] == "build_caffe.sh caffe"


def test_a_wheel_that_cannot_be_used_is_told_at_once(ready):
    """In the linker's own words: one line, and make's."""
    (ready / "caffe.whl").touch()
    code = '#!/bin/sh\n[ "$1" != -c ] || { printf "Traceback\\nImportError: no libX11\\n" >&2; exit 1; }\n'
    (ready / ".venv" / "bin" / "python").write_text(code)
    result = make(ready, "setup", "CAFFE_WHEEL=caffe.whl")
    assert result.returncode == 2 and "This wheel cannot be used here: ImportError: no libX11\n" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wheel_that_is_not_there_is_one_line(checkout):
    """Before anything is installed."""
    before = files(checkout)
    result = make(checkout, "setup", "CAFFE_WHEEL=none.whl")
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "none.whl: no such file" in result.stderr and files(checkout) == before


def test_a_prebuilt_image_sets_nothing_up(checkout):
    """There, Python and Caffe need no check, and nothing could be installed."""
    tell(checkout / ".venv" / "bin" / "python")
    for target in ("setup", "score", "test"):
        assert not [line for line in commands(make(checkout, target, PREBUILT="1")) if ".sh" in line]


# --- what the commands are given -------------------------------------------------------------------------------------


def line(result: subprocess.CompletedProcess, word: str) -> str:
    """Return the one command with that word."""
    (found,) = [command for command in commands(result) if word in command]
    return found


@pytest.mark.parametrize("target", ["eval", "report", "compare", "score"])
def test_without_run_the_commands_choose(ready, target):
    """They take the newest finished run; RUN or VARIANT, on the command line or in the environment, names one."""

    def runs(*arguments: str, **environment: str) -> set[str]:
        called = commands(make(ready, target, *arguments, **environment))
        return {" ".join(re.findall(r"--run \S+", line)) for line in called if "fetch_weights" not in line}

    assert runs() == {""} and runs("RUN=") == {""}
    assert runs("RUN=runs/mine") == runs(RUN="runs/mine") == {"--run runs/mine"}
    assert runs("VARIANT=demo") == runs(VARIANT="demo") == {"--run runs/demo"}
    assert runs("VARIANT=demo", "RUN=runs/mine") == {"--run runs/mine"}


def test_a_training_is_resumed_with_the_line_that_began_it(ready):
    """Of all that stood in it, the run folder and the GPU are handed on; the variant only to name the folder."""
    words = ["EPOCHS=3", "BATCH=8", "SOLVER=s", "WEIGHTS=w", "LMDB=l", "REPLACE=1", "TRAIN_FLAGS=--seed 1", "GPU=0"]
    options = "--lmdb l --replace --epochs 3 --batch 8 --solver s --weights w --seed 1"

    def trains(*arguments: str) -> str:
        return " ".join(line(make(ready, "train", *arguments), "train.py").split())

    begin = ["RUN=runs/mine", "VARIANT=demo", *words]
    assert trains(*begin) == f"python tools/train.py --variant demo --run runs/mine --gpu 0 {options}"
    assert trains(*begin, "RESUME=1") == "python tools/train.py --run runs/mine --gpu 0 --resume"
    assert trains("VARIANT=demo", "RESUME=1") == "python tools/train.py --variant demo --run runs/demo --resume"


def test_gpus_and_batch_are_handed_on(ready):
    """make train GPU=0,1 BATCH=8; scoring takes the first."""
    assert re.search(r"--gpu 0,1 .*--batch 8", line(make(ready, "train", "GPU=0,1", "BATCH=8"), "train.py"))
    assert "--gpu 0 " in line(make(ready, "score", "GPU=0,1"), "score.py")


def test_one_bad_picture_is_no_error_of_make(ready):
    """The command says so by itself; make would only add its own noise."""
    assert "--lenient" in line(make(ready, "score"), "score.py")


@pytest.mark.parametrize("name", ["my photos", "it's me (1)", 'a"b', "a`b`", "a\\b;c&d", "plain"])
def test_a_name_is_one_word_whatever_is_in_it(ready, tmp_path, name):
    """Folders of phones and cameras have spaces and brackets in their names."""
    python = ready / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "python [%s]\\n" "$@"\n')
    (tmp_path / name).mkdir()
    word = f"python [{tmp_path / name}]"
    for target in ("faces", "label", "lmdb", "score"):
        assert word in commands(make(ready, target, f"IMAGES={tmp_path / name}"))
    for target, variable in (("label", "LABELS"), ("train", "RUN"), ("train", "LMDB"), ("report", "MANIFEST")):
        assert word in commands(make(ready, target, f"{variable}={tmp_path / name}"))


def test_several_pictures_are_scored(ready):
    """As a list, or by a pattern."""
    assert line(make(ready, "score", "IMAGES=a.jpg b.jpg"), "score.py").endswith("--lenient a.jpg b.jpg")
    assert "requirements.txt" in line(make(ready, "score", "IMAGES=require*.txt"), "score.py")


def test_commands_know_that_make_called_them(ready):
    """They speak of RESUME=1 instead of --resume; the tests call them by themselves."""
    python = ready / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "python ${SELFIE_MAKE:-by itself}"\n')
    assert commands(make(ready, "eval")) == ["python 1"]
    assert commands(make(ready, "test"))[-1] == "python by itself"


def test_a_report_is_made_of_all_its_parts(ready):
    """Between the evaluation and the page, one after the other or at the same time."""
    for jobs in ("-j1", "-j4"):
        called = [command.split()[1] for command in commands(make(ready, "report", "CROPS=a.jpg", jobs))]
        assert called[0] == "tools/evaluate.py" and called[-1] == "tools/report.py"
        assert sorted(called[1:-1]) == [
            *("pycaffe_scripts/crops.py", "pycaffe_scripts/filters.py", "tools/findings.py"),
            *(["tools/grids.py"] * 4 + ["tools/tsne_map.py"]),
        ]


def test_demo_makes_two_parts_of_its_report_at_a_time(ready):
    """One, where JOBS or the memory of a GPU is for one."""

    def at_a_time(*arguments: str) -> str:
        return re.search(r"--jobs (\d+) .*report RUN=runs/demo", make(ready, "-n", "demo", *arguments).stdout)[1]

    assert at_a_time("JOBS=2") == at_a_time("JOBS=16") == "2"
    assert at_a_time("JOBS=1") == at_a_time("JOBS=2", "GPU=0") == "1"


def test_demo_ends_with_what_to_open(ready):
    """The last of its lines, after the best possible accuracy."""
    *_, best, last = make(ready, "demo").stdout.splitlines()
    assert "--best" in best and last.endswith("open runs/demo/report/index.html")


# --- help ------------------------------------------------------------------------------------------------------------


def test_help_lists_every_target(checkout):
    """But for those that only check; help is what make alone prints."""
    text = make(checkout).stdout
    assert text == make(checkout, "help").stdout
    assert [name for name in TARGETS if f"  make {name} " not in text] == CHECKS


def test_help_names_every_variable(checkout):
    """Those that the Makefile reads, and those of the build that hold under make; with their defaults."""
    text = make(checkout, "help").stdout
    fixed = re.findall(r"^([A-Z]+) +:=", MAKEFILE, re.M)
    own = set(re.findall(r"\$\(([A-Z_]+)\)|\$\(if \$\(([A-Z]+)\)", MAKEFILE))
    names = {name for pair in own for name in pair if name} - {*fixed, "MAKE"}
    names |= set(re.findall(r"^#   ([A-Z_]+)[ =]", (paths.ROOT / "docker" / "build_caffe.sh").read_text(), re.M)) - {
        "VENV",
        "BUILD",
    }
    assert len(names) > 30
    assert [name for name in sorted(names) if not re.search(rf"^  .*\b{name}\b", text, re.M)] == []
    for name, value in re.findall(r"^([A-Z]+) +\?= ([\w./]+)$", MAKEFILE, re.M):
        assert f"  {name}={value}" in text
