"""The server processes beside this one, on the same port: their figures, and what one of them was told.

Each listens on a socket in a folder that only this user can enter. A question is one line of JSON, its
answer msgpack (JSON has no infinity); nothing of it comes from the network.

What one is told by name (load, unload, a default version) it tells the others. One that starts asks what they
were told and which versions answer there, and does that, and what it is told meanwhile, before it listens to
callers.

Of a rollout that one of them changed they are told that it did, and read it: what it is, its file says.

What one has counted it writes into a file beside its socket, each second and before it says it to anybody.
One that is not there is counted by its file, and the one that is started in its place goes on from it: no
counter that was told falls because a process died.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from .._version import __version__
from ..engine.repository import Repository
from ..errors import ModelportError
from ..monitor.metrics import Metrics
from ..monitor.process import Processes, Usage

log = logging.getLogger("modelport.serve")

_SECONDS = 600.0
"""For doing what another was told: loading a model takes its time, and a process that starts loads all."""
_ASKING_SECONDS = 2.0
"""For a question that needs no work."""
_KEEP_SECONDS = 1.0
"""How often a process writes down what it has counted: so much is lost where it dies."""
_LINE = 64 << 20


class _Question(msgspec.Struct):
    do: str
    name: str = ""
    version: str | None = None


class _Counted(msgspec.Struct):
    """What a process says of itself."""

    metrics: dict[str, Any]
    usage: list[Usage]
    release: str = __version__
    """Another one counts otherwise."""


class _Standing(msgspec.Struct):
    """What was told by name and holds."""

    versions: list[tuple[str, str, bool | None, bool]]
    """Model, version, whether it was loaded or unloaded by name (None: neither), and whether it answers."""
    defaults: dict[str, str]
    """The version that a model's bare name was made to mean."""


class Siblings:
    """This process among `count`, number `number`.

    Args:
        folder: where the sockets are.
        patience: seconds that another process has for what it is told.
    """

    def __init__(self, folder: Path, number: int, count: int, *, patience: float = _SECONDS) -> None:
        self._own = folder / f"{number}.sock"
        self._folder = folder
        self._number = number
        self._others = {other: folder / f"{other}.sock" for other in range(count) if other != number}
        self._patience = patience
        self._repository: Repository | None = None
        self._server: asyncio.Server | None = None
        self._defaults: dict[str, str] = {}
        self._caught_up = asyncio.Event()
        self._usage: list[Usage] = []
        self._keeping: asyncio.TimerHandle | None = None
        self.processes = Processes(self._executors, lambda: self._usage)
        """This process, the others and their executors, as they were at the last `collect`."""
        self.look: Callable[[str], None] = lambda name: None
        """Called with a model whose rollout another process has changed."""

    async def open(self, repository: Repository) -> None:
        """Answer the others from now on, tell them what this process is told, and learn what they were.

        Args:
            repository: has looked at its folder, and loaded nothing yet.
        """
        self._repository = repository
        repository.tell_others = self._tell
        repository.metrics.keeps = True
        if (before := self._kept(self._number)) is not None:
            repository.metrics.go_on(before.metrics)
            self.processes.go_on(before.usage)
        self._keep_on()
        self._own.unlink(missing_ok=True)
        # Before the others are asked: what they are told after that comes here, and waits for `catch_up`.
        self._server = await asyncio.start_unix_server(self._answer, str(self._own), limit=_LINE)
        for answer in await self._ask_all(_Question("standing")):
            if answer is not None:
                standing = msgspec.convert(answer, _Standing)
                self._defaults = standing.defaults
                for name, version, wanted, answers in standing.versions:
                    if name in repository and version in repository.versions(name):
                        entry = repository.entry(name, version)
                        entry.wanted, entry.elsewhere = wanted, answers
                    elif wanted is False:
                        repository.let_go.add((name, version))
                return

    async def catch_up(self) -> None:
        """Do what is left of what the others were told, now that the models are loaded."""
        assert self._repository is not None
        for name, version in list(self._defaults.items()):
            try:
                await _set_default(self._repository, name, version)
            except ModelportError as problem:
                del self._defaults[name]
                log.error("the default version of %s is not set again: %s", name, problem)
        self._caught_up.set()

    def close(self) -> None:
        """Answer no more."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._server is not None:
            self._server.close()

    async def follow(self, name: str) -> None:
        """Have the others go by a model's rollout as it is on disk; one that is silent reads it by itself."""
        await self._ask_all(_Question("rollout", name))

    async def collect(self) -> Metrics:
        """The counts of all processes as one; of those that do not answer what they wrote down last."""
        answers = await self._ask_all(_Question("dump"))
        others = [msgspec.convert(each, _Counted) for each in answers if each is not None]
        silent = [number for number, each in zip(self._others, answers, strict=True) if each is None]
        ended = [each for each in map(self._kept, silent) if each is not None]
        there = [self._keep(), *others]
        self._usage = [usage for each in there for usage in each.usage]
        self._usage += [Usage(u.role, cpu_seconds=u.cpu_seconds) for each in ended for u in each.usage]
        return Metrics.merge([each.metrics for each in there], [each.metrics for each in ended])

    # -- kept ----------------------------------------------------------------------------------------------

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.counted"

    def _kept(self, number: int) -> _Counted | None:
        """What a process wrote down last; None where it is the first of its number."""
        try:
            found = msgspec.msgpack.decode(self._file(number).read_bytes(), type=_Counted)
        except (OSError, msgspec.DecodeError):
            return None
        return found if found.release == __version__ else None

    def _keep(self, *, files: bool = True) -> _Counted:
        """Write down what this process has counted by now, and return it."""
        assert self._repository is not None
        counted = _Counted(self._repository.metrics.dump(), self.processes.own(files=files))
        new = self._file(self._number).with_suffix(".new")
        with suppress(OSError):  # a full disk: the figures are told all the same
            new.write_bytes(msgspec.msgpack.encode(counted))
            new.replace(self._file(self._number))
        return counted

    def _keep_on(self) -> None:
        self._keep(files=False)  # of one that ended no open files are told
        self._keeping = asyncio.get_running_loop().call_later(_KEEP_SECONDS, self._keep_on)

    # -- asking --------------------------------------------------------------------------------------------

    async def _tell(self, what: str, name: str, version: str | None) -> None:
        """Have the others do what was done here.

        Raises:
            ModelportError: one of them did not.
        """
        self._note(what, name, version)
        question = _Question(what, name, version)
        said = await asyncio.gather(*(self._told(each, question) for each in self._others))
        problems = [each for each in said if each]
        if problems:
            raise ModelportError(
                f"done by the worker that was asked, and not by all: {'; '.join(problems)}. Ask again: until "
                "all have done it, the answer depends on the worker that takes the connection"
            )

    async def _told(self, number: int, question: _Question) -> str:
        """What kept another one from doing it; empty where it is done."""
        try:
            answer = await self._ask(number, question, self._patience)
        except TimeoutError:
            return f"worker {number} has not answered for {self._patience:g} s"
        # One that is not there learns it when it starts.
        return "" if answer is None else f"worker {number}: {answer}"

    async def _ask_all(self, question: _Question) -> list[Any]:
        async def asked(number: int) -> Any:
            try:
                return await self._ask(number, question, _ASKING_SECONDS)
            except TimeoutError:
                log.warning("worker %d does not answer", number)
                return None

        return await asyncio.gather(*map(asked, self._others))

    async def _ask(self, number: int, question: _Question, seconds: float) -> Any:
        """Another one's answer; None also where there is nobody, or it ended before it answered.

        Raises:
            TimeoutError: it is there, and does not answer.
        """
        async with asyncio.timeout(seconds):
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._others[number]), limit=_LINE)
                try:
                    writer.write(msgspec.json.encode(question) + b"\n")
                    data = await reader.read()
                finally:
                    writer.close()
                return msgspec.msgpack.decode(data)
            except (OSError, msgspec.DecodeError):
                return None

    # -- asked ---------------------------------------------------------------------------------------------

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):  # who asked may wait no more
            answer = await self._said(await reader.readline())
            writer.write(msgspec.msgpack.encode(answer))
            await writer.drain()

    async def _said(self, line: bytes) -> Any:
        """The answer to a question; of what was to be done the text that says why it is not."""
        try:
            return await self._done(msgspec.json.decode(line, type=_Question))
        except ModelportError as problem:
            log.error("as another worker was told: %s", problem)
            return problem.message
        except Exception:
            log.exception("a question from another worker")
            return "it failed, and its log says why"

    async def _done(self, question: _Question) -> Any:
        """The answer to a question; None where it was to do something, and that is done."""
        repository = self._repository
        assert repository is not None
        if question.do == "dump":
            return self._keep()
        if question.do == "standing":
            return self._standing(repository) if self._caught_up.is_set() else None
        if question.do == "rollout":
            self.look(question.name)
            return None
        doing: dict[str, Callable[..., Awaitable[None]]] = {
            "load": repository.load,
            "unload": repository.unload,
            "set_default": repository.set_default,
        }
        await self._caught_up.wait()
        await doing[question.do](question.name, question.version, tell=False)
        self._note(question.do, question.name, question.version)
        return None

    def _executors(self) -> dict[str, list[int]]:
        return {"executor": self._repository.pids() if self._repository else []}

    # -- what was told -------------------------------------------------------------------------------------

    def _note(self, what: str, name: str, version: str | None) -> None:
        """Remember a default version for as long as the repository goes by it: until it is unloaded."""
        if what == "set_default" and version is not None:
            self._defaults[name] = version
        elif what == "set_default" or (what == "unload" and version in (None, self._defaults.get(name))):
            self._defaults.pop(name, None)

    def _standing(self, repository: Repository) -> _Standing:
        versions = [
            (entry.name, entry.version, entry.wanted, entry.model is not None)
            for entry in repository.entries()
        ]
        versions += [(name, version, False, False) for name, version in repository.let_go]
        return _Standing(versions, self._defaults)


async def _set_default(repository: Repository, name: str, version: str) -> None:
    """Set a default version that the others have, and keep it loaded for that reason alone, as they do.

    Raises:
        ModelportError: there is no such version, or it does not load.
    """
    entry = repository.entry(name, version)
    wanted = entry.wanted
    try:
        if entry.model is None:
            await repository.load(name, version, tell=False)
        await repository.set_default(name, version, tell=False)
    finally:
        repository.entry(name, version).wanted = wanted
