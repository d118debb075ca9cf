"""Where `modelport rollout` looks and writes: the files of a repository, or a running server."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from ..bundle.layout import locate, version_key
from ..bundle.manifest import MANIFEST
from ..bundle.store import Bundle
from ..errors import BundleError, InputError, ModelportError, NotFound, Unavailable, Unsupported, UsageError
from ..rollout import change as changes
from ..rollout.change import Conflict, State
from ..rollout.report import Report, report
from ..rollout.state import change, load
from ..rollout.wanted import Wanted, planned

TIMEOUT = 10.0
MAX_REPLY = 8 << 20


class Place(Protocol):
    """A model's rollout, wherever it is."""

    def show(self) -> Report:
        """The rollout as it is."""
        ...

    def plan(self, wanted: Wanted, reason: str) -> Report:
        """Change the plan."""
        ...

    def promote(self, reason: str) -> Report:
        """Make the candidate the stable version."""
        ...

    def rollback(self, reason: str) -> Report:
        """Drop the candidate, or undo the last promotion."""
        ...

    def clear(self, reason: str) -> Report:
        """No plan any more."""
        ...


class Folder:
    """`REPO/NAME` on this machine."""

    def __init__(self, folder: Path, model: str, versions: tuple[str, ...]) -> None:
        self.folder = folder
        self.model = model
        self.versions = versions

    @classmethod
    def at(cls, path: Path) -> Folder:
        """The model at REPO/NAME, or the only one of REPO.

        Raises:
            NotFound: nothing there. UsageError: one version, or several models. BundleError: no bundles.
        """
        newest = locate(path)
        folder = newest.parent
        if newest.resolve() in (path.resolve(), path.resolve().parent):
            raise UsageError(
                f"{str(path)!r} is one version; a rollout is of a model, REPO/NAME",
                hint=f"modelport rollout {folder}",
            )
        found = [claim for claim in map(_claim, sorted(folder.iterdir())) if claim is not None]
        if not found:
            raise BundleError(f"no version in {str(folder)!r} opens", hint=f"modelport inspect {newest}")
        name = max(found, key=lambda claim: version_key(claim[1]))[0]
        versions = sorted({version for owner, version in found if owner == name}, key=version_key)
        return cls(folder, name, tuple(versions))

    def show(self) -> Report:
        """What the file says; a damaged one is shown as the problem that it is."""
        try:
            return self._report(load(self.folder) or State())
        except BundleError as problem:
            return self._report(State(), str(problem))

    def plan(self, wanted: Wanted, reason: str) -> Report:
        """Change the plan in the file."""

        def edit(state: State) -> State:
            new = planned(state.plan, wanted, model=self.model, versions=self.versions)
            return changes.set_plan(state, new, now=time.time(), by="cli", reason=reason)

        return self._report(change(self.folder, edit))

    def promote(self, reason: str) -> Report:
        """Make the candidate the stable version, in the file."""
        return self._change(changes.promote, reason)

    def rollback(self, reason: str) -> Report:
        """Drop the candidate, or undo the last promotion, in the file."""
        return self._change(changes.rollback, reason)

    def clear(self, reason: str) -> Report:
        """No plan any more; a damaged file is put aside."""
        return self._change(changes.clear, reason, over_damage=True)

    def _change(self, edit: Callable[..., State], reason: str, *, over_damage: bool = False) -> Report:
        filled = partial(edit, now=time.time(), by="cli", reason=reason)
        return self._report(change(self.folder, filled, over_damage=over_damage))

    def _report(self, state: State, problem: str = "") -> Report:
        return report(self.model, self.versions, state, problem=problem)


class Server:
    """A running server, through its admin routes. Redirects are not followed: the key is for this server.

    Args:
        url: `http://host:port`, with a path where the server is behind one.
        key: an API key with the scope `admin`.
    """

    def __init__(self, url: str, model: str, key: str | None) -> None:
        if not model:
            raise UsageError("which model? With --url its name alone will do")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"expected http://HOST:PORT, got {url!r}")
        self.url = url
        self.model = model
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, parts.port)
        self._path = f"{parts.path.rstrip('/')}/api/models/{quote(model, safe='')}/rollout"
        self._key = key

    def show(self) -> Report:
        """What the server says."""
        return self._ask("GET")

    def plan(self, wanted: Wanted, reason: str) -> Report:
        """Change the plan that the server has, if nobody else does meanwhile."""
        present = self.show()
        new = planned(present.plan, wanted, model=present.model, versions=present.versions)
        body: dict[str, Any] = msgspec.to_builtins(new)
        body.pop("model")
        return self._ask("PUT", body | {"reason": reason}, seen=present.revision)

    def promote(self, reason: str) -> Report:
        """Make the candidate the stable version."""
        return self._ask("POST", {"reason": reason}, "/promote")

    def rollback(self, reason: str) -> Report:
        """Drop the candidate, or undo the last promotion."""
        return self._ask("POST", {"reason": reason}, "/rollback")

    def clear(self, reason: str) -> Report:
        """No plan any more."""
        return self._ask("DELETE", {"reason": reason})

    def _ask(self, method: str, body: Any = None, path: str = "", seen: int | None = None) -> Report:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if seen is not None:
            headers["If-Match"] = f'"{seen}"'
        data = None if body is None else msgspec.json.encode(body)
        status, reply = self._send(method, self._path + path, data, headers)
        if status != 200:
            raise self._refusal(status, reply)
        try:
            return msgspec.json.decode(reply, type=Report)
        except msgspec.DecodeError as problem:
            raise Unsupported(
                f"{self.url} does not answer as Modelport does: {problem}", hint="is it another server?"
            ) from problem

    def _send(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        host, port = self._address
        connection: http.client.HTTPConnection
        if self._secure:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        try:
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            return reply.status, reply.read(MAX_REPLY)
        except (OSError, http.client.HTTPException) as problem:
            raise Unavailable(
                f"no answer from {self.url}: {problem}", hint="is `modelport serve` running there?"
            ) from problem
        finally:
            connection.close()

    def _refusal(self, status: int, reply: bytes) -> ModelportError:
        """The server's refusal as the error that it was there."""
        try:
            words = str(msgspec.json.decode(reply, type=dict[str, Any]).get("error") or "")
        except (msgspec.DecodeError, UnicodeDecodeError):
            words = reply[:200].decode(errors="replace")
        text = f"{self.url} says {status}: {words or 'nothing more'}"
        if status in (401, 403):
            return Unsupported(text, hint="--key, or MODELPORT_ROLLOUT_KEY: a key with the scope admin")
        if status == 404 and (words in ("", "Not Found") or "no version 'rollout'" in words):
            return NotFound(
                f"{self.url} has no administration",
                hint="give the address of the server's --admin-port, which `modelport serve` opens where it "
                "and --keys are given; without --url the plan is written to the repository",
            )
        kinds: dict[int, type[ModelportError]] = {400: UsageError, 404: NotFound, 409: Conflict}
        return kinds.get(status, InputError if status < 500 else Unsupported)(text)


def _claim(path: Path) -> tuple[str, str] | None:
    """The name and version of a bundle; None where there is none, or it does not open: serving says why."""
    if path.name.startswith(".") or not ((path / MANIFEST).is_file() or path.suffix == ".zip"):
        return None
    try:
        manifest = Bundle.open(path).manifest
    except BundleError:
        return None
    return manifest.name, manifest.version
