"""The keys that are valid now: found by what a header says, read again when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Sequence
from math import inf
from pathlib import Path

import msgspec

from ...errors import Unauthorized, UsageError
from .keys import Key, Keys, Stamp, digest, read_keys, stamp_of
from .rate import Bucket, Rate
from .shared import SharedBucket, SharedBuckets

log = logging.getLogger("modelport.serve")
audit = logging.getLogger("modelport.audit")

LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""
MAX_CREDENTIAL = 512
"""Characters; what is longer is no key of ours and is not hashed."""
_INDEX = 8


class Principal(msgspec.Struct, frozen=True):
    """Who asks."""

    name: str
    """The key's name; empty for anybody without one."""
    models: frozenset[str] | None = None
    """The models it may ask; None for all."""
    body_md5: str | None = None
    """Of a signed request: the MD5 (hexadecimal) that its body must have."""

    def may_ask(self, model: str) -> bool:
        """Whether a model is this caller's to ask."""
        return self.models is None or model in self.models

    def check_body(self, body: bytes) -> None:
        """Refuse a body that is not the one that was signed.

        Raises:
            Unauthorized: its MD5 is another.
        """
        if (
            self.body_md5 is not None
            and hashlib.md5(body, usedforsecurity=False).hexdigest() != self.body_md5
        ):
            raise Unauthorized("the body is not the one that was signed")


class Known:
    """A valid key, and what of it changes: its bucket."""

    __slots__ = ("bucket", "digest", "expires", "principal", "scopes")

    def __init__(self, key: Key, bucket: Bucket | None) -> None:
        self.digest = bytes.fromhex(key.hash)
        self.principal = Principal(key.name, None if key.models is None else frozenset(key.models))
        self.scopes = frozenset(key.scopes)
        self.expires = key.expires.timestamp() if key.expires else inf
        self.bucket = bucket


class KeyRing:
    """The keys of one file.

    Looking a key up takes no time that depends on how much of it is right. What arrives is hashed with the
    salt, and the hash's first bytes find the candidate: to steer them one would have to invert SHA-256. The
    whole hash is then compared in constant time. Header values that were right before are remembered, so
    that they need no hash; they are found by Python's own keyed hash, not by their first letters.
    """

    def __init__(self, path: Path, keys: Keys, stamp: Stamp, shared: SharedBuckets | None = None) -> None:
        self._path = path
        self._shared = shared
        self._stamp: Stamp | None = stamp
        self._looked = -inf
        self._seen: dict[str, Known] = {}
        self._fill(keys, {})

    @classmethod
    def open(cls, path: Path, shared: SharedBuckets | None = None) -> KeyRing:
        """Read the file; keys with a rate take from `shared`, if other processes serve with them.

        Raises:
            UsageError: it cannot be read or is damaged: nothing is served with keys that are not known.
        """
        keys, stamp = read_keys(path)
        return cls(path, keys, stamp, shared)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, credential: str) -> Known | None:
        """The key that a header's value holds: `Bearer KEY`, or the key alone.

        It is in the file; whether it has expired is for the caller to say.
        """
        known = self._seen.get(credential)
        if known is None and len(credential) <= MAX_CREDENTIAL:
            bearer = credential[:7].lower() == "bearer "
            known = self._find(credential[7:].strip() if bearer else credential)
            if known is not None:
                if len(self._seen) >= 8 * len(self._known):  # one key in many spellings of `Bearer`
                    self._seen.clear()
                self._seen[credential] = known
        return known

    def signing(self) -> Sequence[tuple[str, Known]]:
        """The keys that are kept themselves, for callers that sign."""
        return self._signing

    def refresh(self, now: float) -> None:
        """Look at the file, at most once in `LOOK_EVERY` seconds; take its keys if it has changed.

        A file that is gone or damaged changes nothing: the keys stay, and one line of the log says why.
        """
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            stamp = stamp_of(os.stat(self._path))
        except OSError as problem:
            if self._stamp is not None:
                self._stamp = None
                log.error("the keys file is gone (%s); the keys before stay valid", problem.strerror)
            return
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys, self._stamp = read_keys(self._path)
        except UsageError as problem:
            log.error("the new keys file is refused and the keys before stay valid: %s", problem)
            return
        before = {known.principal.name: known for known in self._known}
        self._fill(keys, before)
        audit.info(
            "keys_reloaded keys=%d", len(keys.keys), extra={"event": "keys_reloaded", "keys": len(keys.keys)}
        )

    def _find(self, key: str) -> Known | None:
        presented = digest(self._salt, key)
        known = self._by_start.get(presented[:_INDEX])
        if known is not None and hmac.compare_digest(known.digest, presented):
            return known
        return None

    def _fill(self, keys: Keys, before: dict[str, Known]) -> None:
        self._salt = bytes.fromhex(keys.salt)
        self._known = [Known(key, self._bucket(key, before.get(key.name))) for key in keys.keys]
        self._by_start = {known.digest[:_INDEX]: known for known in self._known}
        self._signing = [
            (key.signing, known)
            for key, known in zip(keys.keys, self._known, strict=True)
            if key.signing is not None
        ]
        self._seen.clear()

    def _bucket(self, key: Key, before: Known | None) -> Bucket | None:
        """A key that stays keeps its bucket: a reload is no new allowance."""
        if key.rate is None:
            return None
        rate = Rate.parse(key.rate)
        if self._shared is not None:
            return SharedBucket(rate, f"key {key.name}", self._shared)
        if before is not None and before.bucket is not None and before.bucket.rate == rate:
            return before.bucket
        return Bucket(rate)
