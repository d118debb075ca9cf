"""The one question at the door: may this caller do this? Knows headers and keys, no HTTP and no models."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Literal, NoReturn

from ...errors import Forbidden, RateLimited, Unauthorized
from . import eas
from .eas import Headers
from .origin import check_site
from .rate import Bucket, Callers, Rate, network
from .ring import KeyRing, Known, Principal
from .shared import SharedBuckets

Needs = Literal["open", "infer", "metrics", "admin"]
"""What a route asks of its caller; `open` is for everybody, always: health, pages and their files."""

audit = logging.getLogger("modelport.audit")

ANYBODY = Principal("")
KEY_HEADERS = ("x-api-key",)
_REFUSALS_LOGGED = Rate(10, 1.0)


class Guard:
    """Who may call.

    Args:
        ring: the keys; None where none are configured. Then everybody may ask for answers and figures, and
            nobody may administrate.
        open_to_all: scopes that need no key although there are keys (`infer` and `metrics`, say); one that is
            shown counts there all the same.
        per_client: how often one address may ask, whatever key it has; None for no limit.
        shared: buckets that other processes of this server take from too; None where it is the only one.
        key_headers: lower-case names of headers that may hold a key, beside `Authorization`.
        clock: seconds, monotonic. wall: seconds since 1970, for what expires.
    """

    def __init__(
        self,
        ring: KeyRing | None = None,
        *,
        open_to_all: Collection[str] = (),
        per_client: Rate | None = None,
        shared: SharedBuckets | None = None,
        key_headers: Iterable[str] = KEY_HEADERS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ring = ring
        self._open = frozenset(open_to_all) | {"open"} | ({"infer", "metrics"} if ring is None else set())
        self._callers = _callers(per_client, shared)
        self._key_headers = ("authorization", *key_headers)
        self._clock = clock
        self._wall = wall
        self._refusals = Bucket(_REFUSALS_LOGGED)
        self.refused: Callable[[str], None] = lambda reason: None
        """Called with the reason, one of the metrics' REASONS, where a caller is turned away."""
        self.idle = self._callers is None and ring is None
        """Whether answers need no question at all: a hot path may skip `authorize` for `infer`."""

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        open_to_all: Collection[str] = (),
        per_client: Rate | None = None,
        shared: SharedBuckets | None = None,
    ) -> Guard:
        """A guard with the keys of a file.

        Raises:
            UsageError: the file cannot be read or is damaged.
        """
        ring = KeyRing.open(path, shared) if path else None
        return cls(ring, open_to_all=open_to_all, per_client=per_client, shared=shared)

    def authorize(
        self,
        headers: Headers,
        scope: Needs,
        *,
        model: str | None = None,
        client: str = "",
        method: str = "POST",
        path: str = "",
    ) -> Principal:
        """Who asks, if they may.

        Args:
            headers: anything with `.get(lower-case name)`; gRPC metadata will do.
            model: the model that is asked, if the route names one.
            client: the caller's IP address.
            method, path: of the request line, the path without the query and as it was sent; they are part of
                what PAI-EAS signs.

        Raises:
            Unauthorized: no key, or one that is not known or has expired.
            Forbidden: the key is not for this scope or model, or there are no keys and this needs one.
            RateLimited: too often, by this key or from this address.
        """
        if scope == "open":
            return ANYBODY
        try:
            return self._judged(headers, scope, model, client, method, path)
        except RateLimited:
            self.refused("rate_limited")
            raise
        except (Unauthorized, Forbidden):
            self.refused("unauthorized")
            raise

    def check_known(self, headers: Headers, scope: Needs, *, method: str = "POST", path: str = "") -> None:
        """Refuse who shows no valid key where one is needed, before the body of the request is read.

        It takes nothing from any rate and looks at no scope: `authorize`, with the same arguments, has to
        follow. What is refused is counted as there.

        Raises:
            Unauthorized: no key, or one that is not known or has expired.
        """
        if self._ring is None or self._is_free(scope, headers):
            return
        self._ring.refresh(self._clock())
        try:
            self._identify(self._ring, headers, method, path)
        except Unauthorized:
            self.refused("unauthorized")
            raise

    def check_site(self, method: str, headers: Headers, origins: Collection[str] = ()) -> None:
        """As `origin.check_site`, and counted."""
        try:
            check_site(method, headers, origins)
        except Forbidden:
            self.refused("origin")
            raise

    def check_unbound(self, principal: Principal) -> None:
        """Refuse a key for some models what names none: it may be, or tell, of another one.

        Raises:
            Forbidden: it is such a key.
        """
        if principal.models is not None:
            self.refused("unauthorized")
            names = ", ".join(sorted(principal.models))
            raise Forbidden(f"the key {principal.name!r} is for {names} alone, and this path names no model")

    def check_body(self, principal: Principal, body: bytes) -> None:
        """As `Principal.check_body`, and counted."""
        try:
            principal.check_body(body)
        except Unauthorized:
            self.refused("unauthorized")
            raise

    def _judged(
        self, headers: Headers, scope: Needs, model: str | None, client: str, method: str, path: str
    ) -> Principal:
        now = self._clock()
        if self._callers is not None and (wait := self._callers(client, now)):
            raise RateLimited("too many requests from this address", retry_after=wait)
        ring = self._ring
        if self._is_free(scope, headers):
            return ANYBODY
        if ring is None:
            raise Forbidden(
                f"this needs a key with the scope {scope}, and this server has no keys",
                hint=f"modelport keys add NAME --scope {scope}, and serve with --keys",
            )
        ring.refresh(now)
        known, principal = self._identify(ring, headers, method, path)
        if known.bucket is not None and (wait := known.bucket.take(now)):
            raise RateLimited(f"the key {principal.name!r} is over its {known.bucket.rate}", retry_after=wait)
        if scope not in known.scopes and scope not in self._open:
            self._refuse(known, scope, client)
        if model is not None and not principal.may_ask(model):
            raise Forbidden(f"the key {principal.name!r} is not for the model {model[:80]!r}")
        return principal

    def _is_free(self, scope: Needs, headers: Headers) -> bool:
        """Whether this needs no key, and shows none whose rate and models would hold."""
        if scope not in self._open:
            return False
        return scope == "open" or self._ring is None or not any(map(headers.get, self._key_headers))

    def _identify(self, ring: KeyRing, headers: Headers, method: str, path: str) -> tuple[Known, Principal]:
        presented = False
        for name in self._key_headers:
            credential = headers.get(name)
            if credential:
                presented = True
                known = ring.find(credential)
                if known is not None:
                    if known.expires <= self._wall():
                        raise Unauthorized(f"the key {known.principal.name!r} has expired")
                    return known, known.principal
                if signed := self._signed(ring, credential, headers, method, path):
                    return signed
        if presented:
            raise Unauthorized("this key is not known here")
        raise Unauthorized("this needs a key", hint="send the header `Authorization: Bearer KEY`")

    def _signed(
        self, ring: KeyRing, credential: str, headers: Headers, method: str, path: str
    ) -> tuple[Known, Principal] | None:
        if not credential.startswith(eas.SCHEME):
            return None
        valid = [(token, known) for token, known in ring.signing() if known.expires > self._wall()]
        found = eas.signer(headers, method, path, [token for token, _ in valid])
        if found is None:
            return None
        known = valid[found[0]][1]
        return known, Principal(known.principal.name, known.principal.models, found[1])

    def _refuse(self, known: Known, scope: str, client: str) -> NoReturn:
        name = known.principal.name
        # A key in the wrong place is worth a line, but not as many lines as somebody cares to cause.
        if not self._refusals.take(self._clock()):
            audit.warning(
                "key_refused principal=%s scope=%s client=%s",
                name,
                scope,
                client,
                extra={"event": "key_refused", "principal": name, "scope": scope, "client": client},
            )
        scopes = ", ".join(sorted(known.scopes))
        raise Forbidden(f"this needs the scope {scope}; the key {name!r} has {scopes}")


def _callers(rate: Rate | None, shared: SharedBuckets | None) -> Callable[[str, float], float] | None:
    """Takes a token of the caller at an address at a moment: 0.0, or the seconds until there is one."""
    if rate is None:
        return None
    if shared is None:
        return Callers(rate).take
    return lambda client, now: shared.take(f"client {network(client)}", rate, now)
