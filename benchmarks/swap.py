"""What callers notice when a model's version changes under full load: failures, p99, and the server's memory.

    python benchmarks/swap.py --swaps 50

Serves the shipped digits bundle, keeps `--clients` connections busy with OIP binary requests, and puts a new
version into the repository again and again. Latencies are compared between the seconds before a swap and the
time in which the new version loads and takes over; what two seconds without a swap differ by, one after the
other, is printed beside that. Memory is that of the server and its executors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from modelport import AsyncClient, Bundle, ModelportError

DIGITS = Path(__file__).parents[1] / "src" / "modelport" / "models" / "digits" / "1"
CALM_SECONDS = 1.0
LONGEST_SWAP = 180.0
"""A version that loads steps back for those that answer: on a machine that is full this takes seconds."""


async def load(url: str, clients: int, stop: asyncio.Event, seen: list[tuple[float, float, str]]) -> int:
    """Ask without a pause; (when, seconds, version) of each answer goes to `seen`. Returns the failures."""
    rows = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)

    async def caller() -> int:
        failed = 0
        async with AsyncClient(url, retries=0) as client:
            while not stop.is_set():
                began = time.perf_counter()
                try:
                    result = await client.infer("digits.net", {"input": rows})
                except ModelportError as problem:
                    print("failed:", problem, file=sys.stderr)
                    failed += 1
                    continue
                seen.append((began, time.perf_counter() - began, str(result.version)))
        return failed

    return sum(await asyncio.gather(*(caller() for _ in range(clients))))


def memory(pid: int) -> float:
    """MiB of the server and its children, shared pages once."""
    server = psutil.Process(pid)
    return sum(each.memory_full_info().pss for each in (server, *server.children())) / 2**20


def p99(seconds: list[float]) -> float:
    """Seconds that 99 of 100 answers took at most."""
    return float(np.percentile(seconds, 99))


async def measure(repo: Path, server: subprocess.Popen[bytes], url: str, options: argparse.Namespace) -> None:
    """Swap, and print what was seen."""
    seen: list[tuple[float, float, str]] = []
    stop = asyncio.Event()
    loading = asyncio.ensure_future(load(url, options.clients, stop, seen))
    await asyncio.sleep(2)
    all_before: list[float] = []
    all_during: list[float] = []
    ratios: list[float] = []
    without: list[float] = []
    sizes: list[float] = []
    took: list[float] = []
    first = Bundle.open(repo / "digits" / "1")
    for version in range(2, options.swaps + 2):
        # Made before the clock starts: it is this process, which asks, that would have to make it.
        made = repo.parent / "made" / str(version)
        await asyncio.to_thread(first.derive, made, {}, version=str(version))
        calm = time.perf_counter()
        await asyncio.sleep(CALM_SECONDS)
        middle = time.perf_counter()
        await asyncio.sleep(CALM_SECONDS)
        start = time.perf_counter()
        made.rename(repo / "digits" / str(version))
        while not any(answered == str(version) for _, _, answered in seen[-50:]):
            if time.perf_counter() - start > LONGEST_SWAP:
                raise SystemExit(f"version {version} did not answer within {LONGEST_SWAP:g} s")
            await asyncio.sleep(0.02)
        took.append(time.perf_counter() - start)
        await asyncio.sleep(0.5)  # the old one drains and ends
        first_calm = [seconds for when, seconds, _ in seen if calm <= when < middle]
        before = [seconds for when, seconds, _ in seen if middle <= when < start]
        during = [seconds for when, seconds, _ in seen if start <= when]
        ratios.append(p99(during) / p99(before))
        without.append(p99(before) / p99(first_calm))
        all_before += before
        all_during += during
        sizes.append(memory(server.pid))
        seen.clear()
    stop.set()
    failed = await loading
    print(f"swaps                          {options.swaps}")
    print(f"failed requests                {failed}")
    print(f"p99 during / before, all       {p99(all_during) / p99(all_before):.2f}")
    print(f"... of each swap, median       {statistics.median(ratios):.2f}")
    print(f"... of each swap, worst        {max(ratios):.2f}")
    print(f"... without a swap, worst      {max(without):.2f}")
    print(f"seconds to take over, median   {statistics.median(took):.1f}")
    early = statistics.median(sizes[1:6])
    print(f"memory after the last 5 / 2-6  {statistics.median(sizes[-5:]) / early:.3f}  ({early:.0f} MiB)")


def main() -> None:
    """Serve, measure, stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder) / "repo"
        (Path(folder) / "made").mkdir()
        Bundle.open(DIGITS).save_as(repo / "digits" / "1")
        command = [sys.executable, "-m", "modelport", "serve", str(repo), "--port", "0", "--json"]
        server = subprocess.Popen([*command, "--watch", "100ms"], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            asyncio.run(measure(repo, server, url, options))
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
