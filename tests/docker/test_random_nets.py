"""Random nets compute what Caffe's own layers do, however they are used: a slice of `make fuzz-nets`."""

from __future__ import annotations

import os
import subprocess
import sys

from selfie.common import paths


def test_random_nets_compute_what_caffes_own_layers_do(tmp_path):
    """With the CPU's best instructions, and with AVX2; see docker/fuzz_nets.py."""
    command = [sys.executable, paths.ROOT / "docker" / "fuzz_nets.py", "--isa", "AVX512_CORE", "AVX2", "--count", "15"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([*command, "--first", "5000"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == ["15 nets, 0 wrong, 0 undecided"] * 2
