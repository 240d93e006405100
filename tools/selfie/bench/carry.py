"""What tools/gpu_check.sh takes on a machine that has a GPU, PyTorch and no network, beside a checkout.

caffe-*.whl                     for GPUs, with upstream's tests inside
protobuf-*.whl                  what Caffe takes beside NumPy, which PyTorch does not bring along
figures/labels.csv, tiles/      the published tiles, for the losses of a training
figures/squares.npz             some of them decoded, for a Python without OpenCV
compressed_SqueezeNet.net       its published weights
carried.json                    the commit and the hashes of these
"""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from selfie.bench import losses, training_peer
from selfie.common import paths
from selfie.common.errors import SelfieError
from selfie.common.worker import last_words
from selfie.net import variants, weights

MOST = 60 << 20  # bytes
PACKAGES = ("protobuf",)
FOR = ("--python-version", "3.12", "--platform", "manylinux2014_x86_64")  # the machine's Python, or a newer one
DECODED = 64  # pictures: two batches of the training, 7 MB

log = logging.getLogger(__name__)


def gather(dist: Path, out: Path) -> Path:
    """Collect the newest wheel of the folder `dist` and what goes with it in the folder `out`, which is made anew.

    What cannot be had but for the wheel is left out, with a warning. SelfieError, and `out` is as it was, if there is
    no wheel, or if it all has more than MOST bytes.
    """
    chosen = wheel(dist)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        stage = Path(folder, out.name)
        stage.mkdir()
        shutil.copy(chosen, stage)
        for add in (_add_packages, _add_tiles, _add_weights):
            try:
                add(stage)
            except SelfieError as error:
                log.warning("left out: %s", error)
        files = sorted(path for path in stage.rglob("*") if path.is_file())
        hashes = {str(path.relative_to(stage)): paths.sha256(path) for path in files if path.suffix != ".png"}
        paths.write_json(stage / "carried.json", {"commit": commit(), "sha256": hashes})
        if (taken := size(stage)) > MOST:
            raise SelfieError(f"{taken / 2**20:.1f} MiB are more than {MOST >> 20}: make the wheel with fewer of ARCH")
        shutil.rmtree(out, ignore_errors=True)
        stage.rename(out)
    return out


def wheel(dist: Path) -> Path:
    """Return the newest wheel for GPUs with upstream's tests inside; SelfieError if there is none."""
    found = sorted(dist.glob("caffe-*.cu13.tests-*.whl"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SelfieError(
            f"{dist} has no wheel for GPUs with upstream's tests inside: TESTS=1 CUDA=13 docker/build_wheels.sh"
        )
    return found[-1]


def size(folder: Path) -> int:
    """Add up the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def commit() -> str:
    """Return the commit of this checkout, "+" behind it if files differ from it; "" outside of one."""
    asked = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    return subprocess.run(asked, cwd=paths.ROOT, capture_output=True, text=True).stdout.strip()


def _add_packages(stage: Path) -> None:
    """Fetch wheels of PACKAGES, in the versions that this Python has."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--only-binary", ":all:", *FOR, "--dest", str(stage), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise SelfieError(f"pip could not fetch {' '.join(wanted)}: {last_words(done.stderr, done.returncode)}")


def _add_tiles(stage: Path) -> None:
    """Cut the published figures into the folder, and decode some."""
    labels = losses.figures(stage)
    training_peer.Pictures(labels, variants.get("squeezenet"), DECODED).decode()


def _add_weights(stage: Path) -> None:
    """Copy SqueezeNet's weights as they are published."""
    source = weights.obtain("squeezenet") / weights.PRETRAINED["squeezenet"][0].file
    shutil.copy(source, stage)
