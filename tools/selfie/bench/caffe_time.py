"""Group `layers` of the GPU benchmark: Caffe's own measurement, `caffe time`, layer by layer."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence

from selfie.bench.gpu_setting import PRECISIONS, Setting
from selfie.bench.record import Row
from selfie.common import paths
from selfie.common.worker import OutOfMemory, failure, last_words
from selfie.net import architectures, pycaffe
from selfie.net.prototxt import dump

log = logging.getLogger(__name__)


def layers(setting: Setting) -> Iterable[Row]:
    """Time each layer's forward and backward pass (Caffe waits for each, so the sum is more than a whole pass)."""
    batch, iterations = (2, 2) if setting.quick else (32, 20)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(dump(architectures.with_input(setting.variant, batch, training=True)))
        file.flush()
        for precision in setting.precisions:
            try:
                times = caffe_time(file.name, iterations, setting.caffe_flags, precision)
            except OutOfMemory as error:
                log.warning("no measurement of layers, %s: %s", precision, error)
                continue
            for name in ("Forward pass", "Backward pass"):
                title = f"caffe time, {setting.variant.name}, batch {batch}, {precision}: {name.lower()}"
                yield Row("layers", title, "ms", times[name], detail=times)


def caffe_time(model: str, iterations: int, flags: Sequence[str], precision: str) -> dict:
    """Run `caffe time` on a prototxt; its times, see parse. SelfieError if it fails, OutOfMemory if that was why."""
    done = subprocess.run(
        [pycaffe.binary(), "time", "-model", model, "-iterations", str(iterations), *flags],
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
        env={**os.environ, "CAFFE_TF32": PRECISIONS[precision], "GLOG_minloglevel": "0"},
    )
    if done.returncode:
        raise failure("caffe time failed", last_words(done.stderr, done.returncode))
    return parse(done.stderr)


def parse(log_text: str) -> dict:
    """Read the log: {"Forward pass": ms, "Backward pass": ms, "layers": {name: {"forward": ms, "backward": ms}}}."""
    times: dict = {"layers": {}}
    for name, way, ms in re.findall(r"\] +(\S+)\t(forward|backward): ([\d.e+-]+) ms\.", log_text):
        times["layers"].setdefault(name, {})[way] = float(ms)
    for name, ms in re.findall(r"Average (Forward pass|Backward pass): ([\d.e+-]+) ms\.", log_text):
        times[name] = float(ms)
    return times
