"""A process that prints the bytes a net takes and the bytes that selfie.net.memory expects: VARIANT MODE BATCH LMDB."""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from selfie.common import paths
from selfie.net import architectures, caffe_net, memory, pycaffe, variants
from selfie.net.prototxt import dump

SOLVER = (
    'net: "{net}"\nbase_lr: 1e-5\nlr_policy: "fixed"\nmomentum: 0.9\ntest_iter: 1\ntest_interval: 1\nmax_iter: 100\n'
)


def main(variant: str, mode: str, batch: str, lmdb: str) -> None:
    described, count = variants.get(variant), int(batch)
    small = caffe_net.load(paths.PROTOTXT / variant / "deploy.prototxt")
    small.forward()  # OpenBLAS takes its own memory now
    need = memory.scoring(small) if mode == "scoring" else memory.training(small, described.test_batch)
    with tempfile.TemporaryDirectory() as folder:
        before, file = resident(), Path(folder, "net.prototxt")
        if mode == "scoring":
            file.write_text(dump(architectures.with_input(described, count, training=False)))
            kept = caffe_net.load(file)
            kept.blobs["data"].data[...] = 0
            kept.forward()
        else:
            file.write_text(dump(architectures.build(replace(described, batch=count), "train_val", lmdb)))
            Path(folder, "solver.prototxt").write_text(SOLVER.format(net=file))
            kept = pycaffe.caffe().SGDSolver(str(Path(folder, "solver.prototxt")))
            kept.step(2)
        print(resident() - before, need.total(count))


def resident() -> int:
    """Count the bytes of memory that are this process's own, without mapped files."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
