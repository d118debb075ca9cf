"""An executor process as the server sees it: started, spoken to without blocking, and reaped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from ..bundle.held import HeldFiles
from ..bundle.store import Bundle
from .arena import Arena
from .wire import FRAME, Job, Ready, Reply, Spec, decode_ready, decode_reply, frame

_SOCKET_BUFFER = 4 << 20
_REAP_SECONDS = 5.0
_SMALL = 16 << 10
_HUGE_PAGES = "glibc.malloc.hugetlb"


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of an executor, from those of the server.

    Weights and what a network computes lie in huge pages where the kernel gives them for the asking: two
    executors side by side share one cache, and look up fewer addresses so (about a twentieth of the requests
    a second of a convolutional network). What `GLIBC_TUNABLES` says already stays; other systems ignore it.
    """
    # ONNX Runtime's and BLAS's own pools would compete with the executors beside this one.
    theirs = {**ours, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    tunables = ours.get("GLIBC_TUNABLES", "")
    if _HUGE_PAGES not in tunables:
        theirs["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, f"{_HUGE_PAGES}=1")))
    return theirs


class ExecutorProcess(asyncio.Protocol):
    """One executor: `start` it, `send` jobs; it calls back on the event loop.

    Args:
        on_ready: called once, with what the executor says of itself.
        on_reply: called with each reply and its payload.
        on_lost: called once when the process is gone, however that came.
    """

    def __init__(
        self,
        *,
        on_ready: Callable[[ExecutorProcess, Ready], None],
        on_reply: Callable[[ExecutorProcess, Reply, memoryview], None],
        on_lost: Callable[[ExecutorProcess], None],
    ) -> None:
        self._on_ready = on_ready
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._reaping: asyncio.Task[None] | None = None
        self.ready = False
        self.wide = False
        """Whether it has a second session, for lone requests, that uses every core."""
        self.jobs: dict[int, Any] = {}
        """What it was given and has not answered, in order: the first runs, the others wait in its socket."""
        self.since = 0.0
        """When it began with the first of `jobs`, on `time.monotonic`'s clock."""

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._process.pid if self._process else 0

    async def start(self, bundle: Bundle, arena: Arena, *, nice: int = 0, **options: Any) -> None:
        """Start the process; `options` are the fields of `Spec` that are not said by bundle and arena.

        Args:
            nice: how far it steps back for those who compute, until it is loaded.

        Raises:
            OSError: no process, or no descriptor, is left to be had.
        """
        ours, theirs = socket.socketpair()
        try:
            self._spawn(bundle, arena, ours, theirs, nice, options)
            ours.setblocking(False)
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise

    def _spawn(
        self,
        bundle: Bundle,
        arena: Arena,
        ours: socket.socket,
        theirs: socket.socket,
        nice: int,
        options: dict[str, Any],
    ) -> None:
        held = bundle.source if isinstance(bundle.source, HeldFiles) else None
        with theirs:
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            spec = Spec(
                bundle=str(bundle.path.absolute()),
                socket=theirs.fileno(),
                arena=arena.descriptor,
                arena_size=arena.size,
                digest=bundle.digest,
                held=held.index if held else None,
                **options,
            )
            told = msgspec.json.encode(spec).decode()
            # -P: what lies in the folder that the server was started in is no module of ours.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __package__ + ".start", str(nice), told],
                pass_fds=(theirs.fileno(), arena.descriptor, *(held.descriptors if held else ())),
                stdin=subprocess.DEVNULL,
                env=environment(os.environ),
            )

    def send(self, job: Job, payload: Sequence[Any], record: Any) -> None:
        """Give it a job; `record` is kept in `jobs` until the reply."""
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs[job.number] = record
        if self._transport is not None:
            parts = frame(job, payload)
            if len(payload) > 1 and len(payload[0]) < _SMALL:
                # One copy of small rows is cheaper than as many vectors for the kernel.
                self._transport.write(b"".join(parts))
            else:
                self._transport.writelines(parts)

    def kill(self) -> None:
        """End it at once; `on_lost` follows."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """Hang up, which ends it when it is through with its job, and wait until it is gone.

        One that still loads has no job, and hears of nothing until it is through with that: it is ended.
        """
        if not self.ready:
            self.kill()
        if self._transport is not None:
            self._transport.close()
        if self._reaping is None and self._process is not None:
            self._reaping = asyncio.ensure_future(self._reap())
        if self._reaping is not None:
            await self._reaping

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: frames, or parts of them."""
        if self._buffer:
            self._buffer += data
            data = bytes(self._buffer) if self._whole(self._buffer) else b""
            if not data:
                return
            self._buffer.clear()
        view = memoryview(data)
        while self._whole(view):
            size, head, _ = FRAME.unpack_from(view)
            middle = FRAME.size + size
            self._frame(view[middle : middle + head], view[FRAME.size : middle])
            view = view[middle + head :]
        if len(view):
            self._buffer += view

    def connection_lost(self, problem: Exception | None) -> None:
        """Called by the event loop: the process is gone, or was told to go."""
        self.ready = False
        if self._reaping is None:
            self._reaping = asyncio.ensure_future(self._reap())
        self._on_lost(self)

    def _frame(self, head: memoryview, payload: memoryview) -> None:
        if not self.ready:
            ready = decode_ready(head)
            self.ready = ready.problem is None
            self._on_ready(self, ready)
            return
        reply = decode_reply(head)
        self.since = time.monotonic()
        self._on_reply(self, reply, payload)

    async def _reap(self) -> None:
        """Wait for the end of the process, and make one."""
        assert self._process is not None
        end = time.monotonic() + _REAP_SECONDS
        while self._process.poll() is None:
            if time.monotonic() > end:
                self.kill()
            await asyncio.sleep(0.01)

    @staticmethod
    def _whole(data: bytearray | memoryview) -> bool:
        if len(data) < FRAME.size:
            return False
        size, head, _ = FRAME.unpack_from(data)
        return len(data) >= FRAME.size + int(size) + int(head)
