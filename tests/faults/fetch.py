"""tools/fetch_weights.py with the downloads' server and the folder of weights that the first two arguments name."""

from __future__ import annotations

import selfie.common.quiet_start  # noqa: F401

import runpy
import sys
from dataclasses import replace
from pathlib import Path

from selfie.common import paths
from selfie.net import weights


def main() -> None:
    """Take the two arguments away, then be the command."""
    address, folder = sys.argv[1], Path(sys.argv[2])
    paths.WEIGHTS = folder
    for sources in weights.PRETRAINED.values():
        sources[:] = [replace(source, url=f"{address}/{source.file}") for source in sources]
    sys.argv[0:3] = [str(paths.ROOT / "tools" / "fetch_weights.py")]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
