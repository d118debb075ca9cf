"""The gRPC server alone, in a process of its own: `python -m tests.serve.grpc.running REPO [OPTIONS]`.

Prints its port, and serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace


async def main(options: argparse.Namespace) -> None:
    from modelport.engine.repository import Repository
    from modelport.engine.settings import EngineSettings
    from modelport.serve.grpc.server import start_grpc
    from modelport.serve.grpc.table import GrpcCaller
    from modelport.serve.grpc.tls import TlsFiles
    from modelport.serve.guard.guard import Guard

    settings = EngineSettings(executors=1, max_rows=8, wide=False)
    repository = Repository(Path(options.repo), settings, keep=0)
    await repository.open()
    state = SimpleNamespace(repository=repository, management=options.management, stopping=lambda: False)

    def finished(caller: GrpcCaller, path: str, status: int, seconds: float) -> None:
        told = caller.told
        line = {"path": path, "status": status, "address": caller.address, "id": caller.get("x-request-id")}
        line |= {"model": told.model, "batch": told.batch, "stages": list(told.stages)} if told else {}
        assert seconds > 0
        with Path(options.log).open("a") as file:
            file.write(json.dumps(line) + "\n")

    handle = await start_grpc(
        state,
        options.host,
        0,
        tls=TlsFiles(Path(options.tls)) if options.tls else None,
        guard=Guard.open(Path(options.keys)) if options.keys else None,
        max_message=options.max_message,
        finished=finished if options.log else None,
    )
    print(handle.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await handle.stop(5)
    await repository.close()


@contextmanager
def grpc_served(repo: Path, *options: str) -> Iterator[str]:
    """The server in its process: `127.0.0.1:PORT`."""
    root = Path(__file__).resolve().parents[3]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.serve.grpc.running", str(repo), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
    )
    assert server.stdin is not None and server.stdout is not None
    try:
        line = server.stdout.readline().strip()
        assert line, f"the server ended with {server.wait(10)} before it was ready"
        yield f"localhost:{line.decode()}" if "--tls" in options else f"127.0.0.1:{line.decode()}"
        assert server.poll() is None, f"the server has ended with {server.returncode}"
    finally:
        server.stdin.close()
        assert server.wait(timeout=60) == 0
        server.stdout.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("repo")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--management", action="store_true")
    parser.add_argument("--keys")
    parser.add_argument("--log")
    parser.add_argument("--tls")
    parser.add_argument("--plain-loop", action="store_true")
    parser.add_argument("--max-message", type=int, default=64 << 20)
    chosen = parser.parse_args()
    if chosen.plain_loop:
        asyncio.run(main(chosen))
    else:
        import uvloop

        uvloop.run(main(chosen))
