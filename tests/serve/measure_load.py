"""Throughput and latency beside the bare net, as a command: measure_load.py RUN [SECONDS] [PICTURE].

The bare net scores the same picture in batches of 16 in a process of its own: decoded beforehand, and decoded each
time. Then 32 clients ask a server as fast as they get answers (closed loop), and at half of what those got requests
arrive at random times (Poisson, open loop). Rounds are interleaved, CPU time is counted: compare it on a busy machine.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tools")]  # as a command

from servers import Server, serving  # noqa: E402

ROUNDS, CLIENTS = 3, 32
BARE = """if True:
    import sys, time
    import numpy as np
    from selfie.data import image
    from selfie.runs import run_folder
    net = run_folder.load(sys.argv[1]).net()
    data, size, decodes = image.load(sys.argv[2]), net.preprocessing.size, sys.argv[4] == "True"
    batch = np.stack([image.decode_square(data, size)] * 16)
    net.scores(batch)
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < float(sys.argv[3]):
        if decodes:
            batch = np.stack([image.decode_square(data, size) for _ in range(16)])
        net.scores(batch)
        count += 16
    print(count / (time.perf_counter() - start), (time.process_time() - cpu) / count)
"""


def bare(run: str, picture: str, seconds: float, decodes: bool) -> tuple[float, float]:
    """Pictures a second, and CPU seconds a picture."""
    tools = Path(__file__).parents[2] / "tools"
    environment = {"PYTHONPATH": str(tools), "PATH": "/usr/bin:/bin"}
    arguments = [sys.executable, "-c", BARE, run, picture, str(seconds), str(decodes)]
    answer = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    rate, cpu = map(float, answer.stdout.split())
    return rate, cpu


def cpu_of(server: Server) -> float:
    """CPU seconds that the server and its children have taken."""
    fields = [Path(f"/proc/{pid}/stat").read_text().split() for pid in (server.process.pid, *server.children())]
    return sum(int(one[13]) + int(one[14]) for one in fields) / 100


async def ask(session: aiohttp.ClientSession, server: Server, data: bytes) -> float:
    """Ask once; return the seconds to the answer."""
    form = aiohttp.FormData()
    form.add_field("picture", data, filename="a.jpg")
    start = time.perf_counter()
    async with session.post(server.address + "score", data=form) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
    return time.perf_counter() - start


async def closed(server: Server, data: bytes, seconds: float) -> tuple[float, float]:
    """32 clients, each asking again at once: pictures a second, CPU seconds of the server a picture."""
    count, start, cpu = 0, time.perf_counter(), cpu_of(server)

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal count
        while time.perf_counter() - start < seconds:
            await ask(session, server, data)
            count += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
    return count / (time.perf_counter() - start), (cpu_of(server) - cpu) / count


async def opened(server: Server, data: bytes, rate: float, seconds: float) -> list[float]:
    """Requests at random times, `rate` a second: the seconds to each answer."""
    generator, asked, end = random.Random(0), [], time.perf_counter() + seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        while time.perf_counter() < end:
            await asyncio.sleep(generator.expovariate(rate))
            asked.append(asyncio.create_task(ask(session, server, data)))
        return list(await asyncio.gather(*asked))


def main(run: str, seconds: str = "10", picture: str | None = None) -> None:
    if picture is None:
        import skimage

        picture = str(Path(skimage.__file__).parent / "data" / "astronaut.png")
    data, run, length = Path(picture).read_bytes(), str(Path(run).resolve()), float(seconds)
    print(f"{picture}, {len(data)} bytes; rounds of {length:.0f} s")
    rates: dict[str, list[float]] = {"bare": [], "decoded": [], "served": []}
    with serving(Path(run), "--per-minute", 0, "--no-explain") as server:
        asyncio.run(closed(server, data, 2))
        for _ in range(ROUNDS):
            for name, (rate, cpu) in (
                ("bare", bare(run, picture, length, False)),
                ("decoded", bare(run, picture, length, True)),
                ("served", asyncio.run(closed(server, data, length))),
            ):
                rates[name].append(rate)
                print(f"{name:7} {rate:7.1f} pictures/s, {1000 * cpu:6.2f} ms of CPU each")
        net, decoded, served = (statistics.median(rates[name]) for name in rates)
        print(f"served / bare: {served / net:.1%}, served / decoded: {served / decoded:.1%} (medians)")
        batch = 16 / net
        times = sorted(asyncio.run(opened(server, data, served / 2, 3 * length)))
        p50, p99 = (times[int(share * len(times))] for share in (0.5, 0.99))
        print(f"half load: p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms = {p99 / batch:.2f} batch times of "
              f"{1000 * batch:.0f} ms ({len(times)} requests)")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
