"""HTTPS: a context with today's defaults, whose certificate is replaced while it is in use."""

from __future__ import annotations

import logging
import os
import ssl
from math import inf
from pathlib import Path
from typing import NoReturn

from ...errors import UsageError
from .keys import Stamp, stamp_of

log = logging.getLogger("modelport.serve")

LOOK_EVERY = 10.0
"""Seconds between two looks at the files."""

# TLS 1.3 has its own; of 1.2 only what is forward secret and authenticated (RFC 9325, 4.2).
_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def ssl_context(cert: Path, key: Path | None = None, *, client_ca: Path | None = None) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or later, no compression, no renegotiation, HTTP/1.1.

    Args:
        cert: PEM, the server's certificate and then the chain above it.
        key: PEM, its private key, unencrypted; None if it is in `cert`.
        client_ca: PEM, the authorities of whom one must have signed the client's certificate; None asks
            clients for none.

    Raises:
        UsageError: a file that is missing, is no PEM, is encrypted, or does not belong to the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    key = key or cert
    for path in (cert, key, *([client_ca] if client_ca else [])):
        _check_readable(path)
    try:
        # Without a function OpenSSL would ask at the terminal, and a server has none.
        context.load_cert_chain(cert, key, password=lambda: _encrypted(key))
    except ssl.SSLError as problem:
        raise UsageError(_reason(problem, cert, key), hint="both are PEM files") from problem
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as problem:
            raise UsageError(f"no certificate in {client_ca}: {problem.reason or problem}") from problem
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would not show its certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


class Certificate:
    """A server's certificate and key in their files, and the context that shows what is in them now.

    `context` stays one object as long as the server listens. Each handshake takes certificate, key and
    authorities from the newest files that fit together, so that there is no moment with a new
    certificate and an old key. Connections that stand go on as they are.
    """

    def __init__(self, cert: Path, key: Path | None = None, *, client_ca: Path | None = None) -> None:
        self._files = (cert, key, client_ca)
        self._stamps = self._look()
        self._looked = -inf
        self.context = self._newest = self._load()
        self.context.sni_callback = self._choose

    def refresh(self, now: float, *, at_once: bool = False) -> None:
        """Look at the files, at most once in `LOOK_EVERY` seconds or (SIGHUP, say) at once; take new ones.

        Files that are missing or do not fit together change nothing, and one line of the log says why.

        Args:
            now: seconds on a monotonic clock.
        """
        if now - self._looked < LOOK_EVERY and not at_once:
            return
        self._looked = now
        stamps = self._look()
        if stamps == self._stamps and not at_once:
            return
        self._stamps = stamps
        try:
            self._newest = self._load()
        except UsageError as problem:
            log.error("the new certificate is refused and the one before stays in use: %s", problem)
        else:
            log.info("the certificate was read again")

    def _load(self) -> ssl.SSLContext:
        cert, key, client_ca = self._files
        return ssl_context(cert, key, client_ca=client_ca)

    def _look(self) -> list[Stamp | None]:
        return [_stamp(path) for path in self._files if path is not None]

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in every handshake, whether or not the client names a server."""
        connection.context = self._newest


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(os.stat(path))
    except OSError:
        return None


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror}") from problem


def _encrypted(key: Path) -> NoReturn:
    raise UsageError(
        f"the private key {key} is encrypted, and nobody is there to type its password",
        hint=f"openssl pkey -in {key} -out plain.pem, readable by the server alone",
    )


def _reason(problem: ssl.SSLError, cert: Path, key: Path) -> str:
    if problem.reason == "KEY_VALUES_MISMATCH":
        return f"the private key {key} does not belong to the certificate {cert}"
    return f"no usable certificate and key in {cert} and {key}: {problem.reason or problem}"
