"""What is carried to a machine with a GPU: whole, small enough, and found there by tools/gpu_check.sh."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gpu_carry
import testlib
from selfie.bench import carry
from selfie.common import paths
from selfie.common.errors import SelfieError

NAME = "caffe-1.0.0+selfie.9.cu13.tests-py3-none-any.whl"


def make_wheel(folder: Path) -> Path:
    """Make a wheel that is called as one for GPUs, of a package without a module, with a program."""
    folder.mkdir()
    info = "caffe-1.0.0+selfie.9.cu13.tests.dist-info"
    files = {
        "caffe/__init__.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: caffe\nVersion: 1.0.0+selfie.9.cu13.tests\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ncaffe = caffe.__main__:main\n",
    }
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return folder / NAME


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder from which pip takes its wheels, and from nowhere else: there is an empty protobuf in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    name = f"protobuf-{importlib.metadata.version('protobuf')}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: protobuf\nVersion: {name[9:]}\n")
        archive.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_what_is_collected_is_whole(tmp_path, mirror, index):
    """The newest wheel and protobuf's, the tiles and some decoded, the published weights; anew each time."""
    for name in ("best", "worst", "continuum"):
        mirror(f"grid_render_{name}.jpg")
    mirror("compressed_SqueezeNet.net")
    made = make_wheel(tmp_path / "dist")
    old = tmp_path / "dist" / made.name.replace("selfie.9", "selfie.8")
    old.touch()
    os.utime(old, (0, 0))
    out = tmp_path / "carry"
    out.mkdir()
    (out / "stale").touch()
    result = testlib.command("tools/gpu_carry.py", "--dist", made.parent, "--out", out)
    assert result.returncode == 0, result.stderr
    (protobuf,) = (path.name for path in index.iterdir())
    collected = {NAME, protobuf, "figures", "compressed_SqueezeNet.net", "carried.json"}
    assert {path.name for path in out.iterdir()} == collected
    with np.load(out / "figures" / "squares.npz") as squares:
        assert len(squares.files) == carry.DECODED and squares[squares.files[0]].shape == (256, 256, 3)
    assert len([*(out / "figures" / "tiles").iterdir()]) >= 400 and (out / "figures" / "labels.csv").exists()
    told = paths.read_json(out / "carried.json")
    assert told["sha256"][NAME] == paths.sha256(made) and told["commit"] == carry.commit()


def test_nothing_is_collected_without_a_wheel_or_of_too_much(tmp_path, monkeypatch):
    """In one line that says how a wheel is made; what was there stays."""
    out = tmp_path / "carry"
    out.mkdir()
    (out / "old").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "caffe-1.0.0+selfie.9.cu13-cp312-abi3-linux_x86_64.whl").touch()  # without tests
    result = testlib.command("tools/gpu_carry.py", "--dist", tmp_path / "empty", "--out", out)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "TESTS=1 CUDA=13" in result.stderr
    monkeypatch.setattr(carry, "MOST", 1000)
    for name in ("_add_packages", "_add_tiles", "_add_weights"):
        monkeypatch.setattr(carry, name, lambda stage: (stage / "more").write_bytes(bytes(2000)))
    with pytest.raises(SelfieError, match="MiB are more than"):
        gpu_carry.main(["--dist", str(make_wheel(tmp_path / "dist").parent), "--out", str(out)])
    assert [path.name for path in out.iterdir()] == ["old"] and len([*tmp_path.iterdir()]) == 3


def test_what_was_carried_is_what_is_measured(tmp_path):
    """The wheel goes into a folder of its own, beside this Python's CUDA; the tiles lie where they are looked for."""
    carried = make_wheel(tmp_path / "carry").parent
    (carried / "figures").mkdir()
    (carried / "figures" / "labels.csv").touch()
    paths.write_json(carried / "carried.json", {"commit": "0123"})
    (tmp_path / "python" / "nvidia" / "cu13" / "lib").mkdir(parents=True)
    python = tmp_path / "python3"
    code = (
        "import caffe, importlib.metadata, os; files = importlib.metadata.files('caffe'); "
        "program = next(file.locate() for file in files if file.match('bin/caffe')); "
        "print(caffe.__file__, os.environ['SELFIE_MIRROR'], program.resolve())"
    )
    python.write_text(f"""#!/bin/sh
case "$*" in *bench_gpu.py*) exec {sys.executable} -c "{code}";; *) exec {sys.executable} "$@";; esac
""")
    python.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "SELFIE_MIRROR"}
    environment.update(PYTHON=str(python), CARRY=str(carried), PYTHONPATH=str(tmp_path / "python"))
    out = tmp_path / "out"
    for _ in range(2):  # a second time it is there already
        command = [paths.ROOT / "tools" / "gpu_check.sh", out, "first:60"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        package, mirrored, program = (out / "first.log").read_text().split()
        site = Path(package).parents[1]
        assert site.is_relative_to(out / "own") and mirrored == str(carried)
        assert (site / "nvidia").resolve() == tmp_path / "python" / "nvidia"
        assert Path(program) == out / "own" / "bin" / "caffe" and os.access(program, os.X_OK)
        assert (out / "figures" / "labels.csv").exists()
        assert paths.read_json(out / "carried.json") == {"commit": "0123"}
