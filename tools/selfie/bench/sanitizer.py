"""Group `sanitizer` of the GPU benchmark: CUDA's compute-sanitizer over one pass of the layers that we changed."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from selfie.bench.gpu_setting import Setting
from selfie.bench.record import Row
from selfie.common.worker import failure, last_words
from selfie.net import pycaffe

PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")  # where it is, if not on the PATH
CHECKED = re.compile(r"ERROR SUMMARY: (\d+) errors?")
LAYERS = (  # type and parameters; each takes what the one before it gives, "in place" over that
    ("Convolution", "convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: 'msra' } }"),
    ("ReLU", "in place"),
    ("LRN", "lrn_param { local_size: 3 }"),
    ("LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"),
    ("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
    ("Convolution", "convolution_param { num_output: 8 kernel_size: 3 group: 2 weight_filler { type: 'msra' } }"),
    ("TanH", ""),
    ("Deconvolution", "convolution_param { num_output: 6 kernel_size: 3 stride: 2 weight_filler { type: 'msra' } }"),
    ("Sigmoid", ""),
    ("Power", "in place power_param { scale: 2 }"),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }"),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
    ("InnerProduct", "inner_product_param { num_output: 2 weight_filler { type: 'msra' } }"),
)

log = logging.getLogger(__name__)


def net() -> str:
    """Return a prototxt of LAYERS, from random numbers to a loss."""
    text = "layer { name: 'data' type: 'DummyData' top: 'data' top: 'label' dummy_data_param { "
    text += "shape { dim: 2 dim: 3 dim: 25 dim: 25 } shape { dim: 2 } "
    text += "data_filler { type: 'gaussian' } data_filler { type: 'constant' } } }\n"
    blob = "data"
    for number, (kind, parameters) in enumerate(LAYERS):
        top = blob if parameters.startswith("in place") else f"blob{number}"
        text += f"layer {{ name: 'layer{number}' type: '{kind}' bottom: '{blob}' top: '{top}' "
        text += parameters.removeprefix("in place") + " }\n"
        blob = top
    return text + f"layer {{ name: 'loss' type: 'SoftmaxWithLoss' bottom: '{blob}' bottom: 'label' top: 'loss' }}\n"


def sanitizer(setting: Setting) -> Iterable[Row]:
    """Let compute-sanitizer watch a forward and a backward pass; how many wrong accesses to memory it finds."""
    program = next(filter(None, (shutil.which("compute-sanitizer", path=path) for path in (None, *PLACES))), None)
    if setting.gpu is None or program is None:
        log.warning("no measurement of sanitizer: it needs a GPU, and compute-sanitizer of CUDA's toolkit")
        return
    setting.folder.mkdir(parents=True, exist_ok=True)
    file = setting.folder / "sanitizer.prototxt"
    file.write_text(net())
    watch = [program, "--tool", "memcheck", "--target-processes", "all"]
    said = timed(file, [*watch, str(pycaffe.binary())], setting.caffe_flags)
    found = [int(number) for number in CHECKED.findall(said)]
    if not found:
        raise failure("compute-sanitizer failed", last_words(said, 1))
    yield Row("sanitizer", "wrong accesses to memory", "errors", sum(found), wanted=0, detail={"said": said[-20_000:]})


def timed(file: Path, caffe: list[str], flags: list[str]) -> str:
    """Run one pass of a prototxt by `caffe time`; all that it says. SelfieError if it fails."""
    command = [*caffe, "time", "-model", str(file), "-iterations", "1", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise failure("caffe time failed", last_words(done.stdout, done.returncode))
    return done.stdout
