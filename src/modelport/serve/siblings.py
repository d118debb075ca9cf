"""The server processes beside this one, on the same port: their figures, and what one of them was told.

Each listens on a socket in a folder that only this user can enter. A question is one line of JSON, its
answer msgpack (JSON has no infinity); nothing of it comes from the network.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec

from ..engine.repository import Repository
from ..errors import ModelportError
from ..monitor.metrics import Metrics

log = logging.getLogger("modelport.serve")

_SECONDS = 60.0
"""For an answer: loading a model takes its time."""
_LINE = 64 << 20


class _Question(msgspec.Struct):
    do: str
    name: str = ""
    version: str | None = None


class Siblings:
    """This process among `count`, number `number`.

    Args:
        folder: where the sockets are.
    """

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._own = folder / f"{number}.sock"
        self._others = [folder / f"{other}.sock" for other in range(count) if other != number]
        self._repository: Repository | None = None
        self._server: asyncio.Server | None = None

    async def open(self, repository: Repository) -> None:
        """Answer the others from now on, and tell them what this process is told."""
        self._repository = repository
        repository.tell_others = self._tell
        self._own.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, str(self._own), limit=_LINE)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def collect(self) -> Metrics:
        """The counts of all processes as one; those that do not answer in time are left out."""
        assert self._repository is not None
        answers = await asyncio.gather(*(self._ask(each, _Question("dump"), 2.0) for each in self._others))
        dumps = [self._repository.metrics.dump(), *(each for each in answers if each is not None)]
        return Metrics.merge(dumps)

    async def _tell(self, what: str, name: str, version: str | None) -> None:
        question = _Question(what, name, version)
        await asyncio.gather(*(self._ask(each, question, _SECONDS) for each in self._others))

    async def _ask(self, path: Path, question: _Question, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(str(path), limit=_LINE)
                try:
                    writer.write(msgspec.json.encode(question) + b"\n")
                    answer = msgspec.msgpack.decode(await reader.read())
                finally:
                    writer.close()
        except (OSError, TimeoutError, msgspec.DecodeError, ValueError) as problem:
            log.warning("another worker does not answer: %s", type(problem).__name__)
            return None
        return answer

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        repository = self._repository
        assert repository is not None
        found: Any = None
        try:
            question = msgspec.json.decode(await reader.readline(), type=_Question)
            if question.do == "dump":
                found = repository.metrics.dump()
            elif question.do == "load":
                await repository.load(question.name, question.version, tell=False)
            elif question.do == "unload":
                await repository.unload(question.name, question.version, tell=False)
            elif question.do == "set_default":
                await repository.set_default(question.name, question.version, tell=False)
        except ModelportError as problem:
            log.error("%s, as another worker was told: %s", question.do, problem)
        except msgspec.DecodeError:
            log.error("a question from another worker that is none")
        writer.write(msgspec.msgpack.encode(found))
        await writer.drain()
        writer.close()
