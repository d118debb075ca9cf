"""The keys file: who may call, each known by a hash of its key. Reads and writes it; serves nobody.

A key is 32 random bytes, which nobody guesses, so that one salted SHA-256 (about a microsecond) is enough.
bcrypt and its kin are slow on purpose, to protect what people make up: here they would cost 50 ms and more
for each request, and make every wrong key an attack on the server's time. The salt, one for each file, is
there so that equal keys in two files do not look equal and tables made in advance are of no use.

The file is JSON, since it is written by a program: `modelport keys`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from ...errors import UsageError, did_you_mean
from .rate import Rate

Scope = Literal["infer", "metrics", "admin"]
"""What a key is for: answers and the models' descriptions; figures; loading, unloading and rollouts."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "mpk_"
"""Begins every key, so that scanners for leaked secrets can know one."""
KEY_BYTES = 32
MAX_FILE_BYTES = 4 << 20

Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One caller."""

    name: Name
    hash: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    """SHA-256 of the file's salt and the key, hexadecimal."""
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] | None = None
    """The models it may ask; None for all."""
    rate: str | None = None
    """At most so often, as `100/s`; None for no limit."""
    created: Time | None = None
    expires: Time | None = None
    signing: str | None = None
    """The key itself, only for callers that sign (PAI-EAS): an HMAC cannot be checked without it."""

    def __post_init__(self) -> None:
        if not self.scopes:
            raise ValueError("a key without a scope is of no use")
        if self.rate is not None:
            try:
                Rate.parse(self.rate)
            except UsageError as problem:
                raise ValueError(problem.message) from problem


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A keys file."""

    schema: Literal["modelport.keys/1"]
    salt: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32,128}\Z")]
    keys: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        names = [key.name for key in self.keys]
        if len(set(names)) != len(names):
            raise ValueError("two keys have the same name")
        if len({key.hash for key in self.keys}) != len(names):
            raise ValueError("one key stands there under two names")

    def digest(self, key: str) -> bytes:
        """What the file keeps of a key."""
        return digest(bytes.fromhex(self.salt), key)

    def find(self, name: str) -> Key:
        """The key of that name.

        Raises:
            UsageError: there is none, with the nearest spelling.
        """
        for key in self.keys:
            if key.name == name:
                return key
        names = [key.name for key in self.keys]
        raise UsageError(
            f"no key is called {name!r}", hint=did_you_mean(name, names) if names else "there are none"
        )


Stamp = tuple[int, int, int, int]
"""What changes when a file is replaced or written: device's inode, size, and two times in nanoseconds."""


def digest(salt: bytes, key: str) -> bytes:
    """SHA-256 of salt and key."""
    return hashlib.sha256(salt + key.encode("utf-8", "surrogateescape")).digest()


def new_keys() -> Keys:
    """A file without keys, with a salt of its own."""
    return Keys("modelport.keys/1", secrets.token_hex(16))


def new_key(name: str, scopes: tuple[Scope, ...], *, keys: Keys, **more: Any) -> tuple[Keys, str]:
    """`keys` with one more, and the key itself, which is nowhere else.

    Args:
        more: the other fields of `Key`; `signing=True` keeps the key itself.

    Raises:
        UsageError: the name is taken, or a field that makes no sense.
    """
    if any(key.name == name for key in keys.keys):
        raise UsageError(f"there is a key called {name!r} already", hint="revoke it, or choose another name")
    text = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    more["signing"] = text if more.pop("signing", False) else None
    fields = {"name": name, "hash": keys.digest(text).hex(), "scopes": scopes, **more}
    try:
        # Made by the same rules that a file is read by.
        key = msgspec.convert({n: v for n, v in fields.items() if v is not None}, Key)
    except msgspec.ValidationError as problem:
        raise UsageError(f"such a key cannot be: {problem}") from problem
    return msgspec.structs.replace(keys, keys=(*keys.keys, key)), text


def without(keys: Keys, name: str) -> Keys:
    """`keys` with one less.

    Raises:
        UsageError: there is none of that name.
    """
    gone = keys.find(name)
    return msgspec.structs.replace(keys, keys=tuple(key for key in keys.keys if key is not gone))


def read_keys(path: Path) -> tuple[Keys, Stamp]:
    """The keys in a file, and the stamp of exactly what was read.

    Raises:
        UsageError: it cannot be read, is damaged, or can be written by everybody.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as problem:
        raise UsageError(
            f"cannot read the keys file {path}: {problem.strerror}",
            hint="`modelport keys add NAME` makes one",
        ) from problem
    if status.st_mode & 0o002 and os.name == "posix":
        raise UsageError(f"everybody may write the keys file {path}", hint=f"chmod 600 {path}")
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"the keys file {path} is over {MAX_FILE_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=Keys), stamp_of(status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UsageError(f"the keys file {path} is damaged: {problem}") from problem


def stamp_of(status: os.stat_result) -> Stamp:
    """What to compare to see that a file has changed."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def update(path: Path, change: Callable[[Keys], Keys]) -> Keys:
    """Change a keys file: one change at a time, and readers see the old file or the new one, never half.

    Args:
        change: from the file's keys (of a file that is not there: none) to the new ones.

    Raises:
        UsageError: it cannot be read or written.
    """
    target = path.resolve()
    try:
        with _locked(target.parent):
            keys = change(read_keys(target)[0] if target.exists() else new_keys())
            _write(target, keys)
    except OSError as problem:
        raise UsageError(f"cannot write the keys file {path}: {problem.strerror}") from problem
    return keys


def _write(path: Path, keys: Keys) -> None:
    """To a temporary name that only its owner may read, then renamed."""
    data = msgspec.json.format(msgspec.json.encode(keys), indent=2) + b"\n"
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(name, path.stat().st_mode & 0o664)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in changing the keys files of a folder. (The file itself is replaced, so it holds no lock.)"""
    try:
        import fcntl
    except ImportError:  # Windows: two changes in the same millisecond may lose one
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
