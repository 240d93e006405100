"""Dask's scheduler and workers: those of this machine, or those that somebody started at an address."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Callable

from selfie.cluster import shards
from selfie.cluster.shards import Problem, Shard
from selfie.cluster.store import Store
from selfie.common import parallel
from selfie.common.errors import SelfieError

TOPIC = "selfie-progress"
PATIENCE = 600  # seconds without a scheduler after which a run gives up
SILENT = (
    dict.fromkeys(  # loggers that have levels of their own, and who tells of connections that are closed while made
        ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio"), "critical"
    )
)
LOCAL = {  # of the workers of this machine
    "distributed.scheduler.allowed-failures": 0,  # whoever ends its worker is cut at once, not tried again whole
    "distributed.scheduler.worker-saturation": 1.0,  # so a worker's death concerns the one shard that it had
    "distributed.scheduler.worker-ttl": "60s",  # a stopped process loses its shard to another one after that
    "distributed.worker.memory.target": False,  # results are files: there is nothing to spill, and Caffe's memory
    "distributed.worker.memory.spill": False,  # is not Dask's to free, so waiting for less would be for ever
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.memory.monitor-interval": "500ms",
    # What Dask does all the time, in each process, for a dashboard: a fortieth of two cores, which here are all.
    "distributed.worker.profile.enabled": False,  # a hundred looks a second at what a worker does
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.client.scheduler-info-interval": "10s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.comm.timeouts.connect": "30s",
    "distributed.deploy.lost-worker-timeout": "10m",  # its nanny starts another one, which may take more than 15 s
    "logging": SILENT,
}

log = logging.getLogger(__name__)


class Cluster:
    """Workers that shards can be given to, and how far those say that they are.

    progress   shard's name -> rows of it that are written
    """

    def __init__(self, connect: Callable[[], Any], where: str, mend: Callable[[], None] = lambda: None) -> None:
        """`connect` returns a dask.distributed.Client, OSError where there is nobody; `mend` replaces lost workers."""
        self._connect, self.where, self._mend = connect, where, mend
        self.progress: dict[str, int] = {}
        try:
            self._open()
        except OSError as error:
            raise SelfieError(f"no scheduler answers at {where}: {error or type(error).__name__}") from error

    def _open(self) -> None:
        self.client = self._connect()
        self.client.subscribe_topic(TOPIC, self._told)

    def _told(self, event: tuple[Any, dict]) -> None:
        self.progress[event[1]["shard"]] = event[1]["rows"]

    @property
    def alive(self) -> bool:
        """Tell whether the scheduler answers."""
        return bool(self.client.status == "running")

    def reconnect(self) -> None:
        """Wait for a scheduler after the old one has gone. SelfieError after PATIENCE seconds."""
        log.warning("the scheduler at %s is gone: waiting for it, up to %d minutes", self.where, PATIENCE // 60)
        deadline = time.monotonic() + PATIENCE
        self.close()
        while True:
            try:
                self._open()
                log.warning("the scheduler at %s is there again", self.where)
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SelfieError(
                        f"the scheduler at {self.where} does not come back: start it, then the same command again, it "
                        f"goes on where it stopped"
                    ) from error
                time.sleep(1)

    def workers(self) -> dict[str, dict]:
        """Ask for the workers that are there: address -> what Dask knows of each."""
        return dict(self.client.scheduler_info(n_workers=-1)["workers"])

    def ready(self) -> int:
        """Wait until there is a worker; return how many there are. Those that ended for good are replaced."""
        self._mend()
        if not self.workers():
            log.info("no worker is at %s yet: waiting for the first", self.where)
        while not (workers := self.workers()):
            time.sleep(0.5)
            self._mend()
        return len(workers)

    def submit(self, shard: Shard, store: Store, attempt: int, avoid: Collection[str]) -> Any:
        """Give a shard to a worker, best to none of those in `avoid`; returns the future of its receipt or problem."""
        others = [address for address in self.workers() if address not in avoid] if avoid else None
        return self.client.submit(
            task,
            shard,
            store,
            shards.hash_of_library(),
            key=f"{shard.name}-{attempt}",
            pure=False,
            workers=others or None,
            allow_other_workers=bool(others),
        )

    def withdraw(self, futures: list[Any]) -> None:
        """Take shards back, and wait a little for workers that are at one, so that they leave nothing later."""
        if futures:
            self.client.cancel(futures, force=True)
        deadline = time.monotonic() + 5
        while any(self.client.processing().values()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def close(self) -> None:
        """Leave the scheduler."""
        with suppress(Exception):  # it may be gone
            self.client.close(timeout=5)


def task(shard: Shard, store: Store, library: str) -> dict[str, Any]:
    """In a worker: do a shard; its receipt is in the store then. Returns {"worker"}, with "problem" if it cannot."""
    from distributed import get_worker

    worker = get_worker()
    try:
        _settle()
        _check_fit(worker, shard.work.memory)
        shards.compute(shard, store, library, lambda rows: worker.log_event(TOPIC, {"shard": shard.name, "rows": rows}))
    except Problem as problem:
        return {"worker": worker.address, "problem": str(problem)}
    return {"worker": worker.address}


@cache
def _settle() -> None:
    """Wait a little before the first work: a process that ends before its nanny knows it well is not started again."""
    time.sleep(0.5)


def _check_fit(worker: Any, memory: int) -> None:
    """Raise Problem unless a worker has one thread, and memory for the bytes that a process takes."""
    if worker.state.nthreads != 1:
        raise Problem(
            f"it has {worker.state.nthreads} threads, and a net computes in one at a time: start it with --nthreads 1, "
            f"and with --nworkers as many as there are cores"
        )
    limit = worker.memory_manager.memory_limit or 0
    if 0 < 0.95 * limit < memory:
        raise Problem(
            f"it has {limit / 1e9:.1f} GB, and this work takes about {memory / 1e9:.1f} GB in each process: give fewer "
            f"workers, or more memory (dask worker --memory-limit)"
        )


def _silence() -> None:
    """Keep to ourselves what Dask logs of workers and schedulers that go: what matters is told in our words."""
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def local(workers: int) -> Iterator[Cluster]:
    """Start `workers` processes on this machine, which share its cores and memory; they end with the block."""
    import dask
    from distributed import Client, LocalCluster, Status
    from distributed.system import MEMORY_LIMIT

    threads = str(max(1, parallel.cores() // workers))
    # Without Dask's own MALLOC_TRIM_THRESHOLD_, under which every picture is new pages from the kernel.
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    with dask.config.set({**LOCAL, "distributed.nanny.pre-spawn-environ": environment}):
        _silence()
        with parallel.processes_start():
            machines = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=MEMORY_LIMIT // workers,
                dashboard_address="127.0.0.1:0",  # Dask listens somewhere in any case
                silence_logs=logging.CRITICAL,
                preload=["selfie.cluster.worker_setup"],
            )
        with machines:

            def mend() -> None:
                """Replace the workers whose nanny gave up, as it does when one ends while it starts, or is gone."""
                gone = [
                    name for name, nanny in machines.workers.items() if nanny.status in (Status.closed, Status.failed)
                ]
                for name in gone:
                    machines.worker_spec.pop(name, None)
                if set(machines.workers) != set(machines.worker_spec):
                    machines.scale(workers)

            cluster = Cluster(lambda: Client(machines), "this machine", mend)
            try:
                yield cluster
            finally:
                cluster.close()


@contextmanager
def remote(scheduler: str) -> Iterator[Cluster]:
    """Use the workers of a scheduler: its address (tcp://host:8786), or the file that it wrote (--scheduler-file)."""
    import dask
    from distributed import Client

    def connect() -> Client:
        try:
            if scheduler.endswith(".json"):
                return Client(scheduler_file=scheduler, timeout=5)
            return Client(scheduler, timeout=5)
        except ValueError as error:
            raise SelfieError(f"{scheduler} is no address of a scheduler ({error}): give tcp://HOST:PORT") from error

    with dask.config.set({"logging": SILENT}):
        _silence()
        cluster = Cluster(connect, scheduler)
        try:
            yield cluster
        finally:
            cluster.close()
