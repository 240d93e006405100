#!/usr/bin/env python3
"""Keep N workers of this project in SLURM's queue, and tell where their scheduler is, until Ctrl-C or SIGTERM.

    .venv/bin/pip install dask-jobqueue==0.9.0
    .venv/bin/python docs/cluster/slurm.py 64 --interface eth0 --memory 3GB --scheduler-file ~/selfie.json
    .venv/bin/python tools/filter_faces.py ... --scheduler ~/selfie.json          (in another terminal)

Each worker is a job of one core. A job that SLURM ends, or whose node fails, is replaced; what it was at is done again.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

from dask_jobqueue import SLURMCluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workers", type=int, help="jobs of one core to keep in the queue")
    parser.add_argument("--interface", required=True, help="network interface that the nodes reach each other by")
    parser.add_argument("--memory", default="3GB", help="of each worker (default: %(default)s; VGG16 takes 2)")
    parser.add_argument("--walltime", default="24:00:00", help="of each job (default: %(default)s)")
    parser.add_argument("--partition", help="SLURM's partition")
    parser.add_argument("--scheduler-file", type=Path, required=True, help="file to write, for --scheduler")
    args = parser.parse_args()
    cluster = SLURMCluster(
        **{"cores": 1, "processes": 1, "memory": args.memory, "walltime": args.walltime, "queue": args.partition},
        **{"interface": args.interface, "local_directory": "/tmp", "death_timeout": 600},
        job_extra_directives=["--requeue"],
    )
    cluster.adapt(minimum=args.workers, maximum=args.workers)  # unlike scale, it replaces jobs that ended
    args.scheduler_file.write_text(json.dumps({"address": cluster.scheduler_address}))
    print(f"{cluster.scheduler_address}, in {args.scheduler_file}", flush=True)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    over.wait()
    cluster.close()


if __name__ == "__main__":
    main()
