"""TLS for gRPC: the same files as for HTTPS, read again when they have changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from ...errors import UsageError
from ..guard.tls import ssl_context

log = logging.getLogger("modelport.serve")


class TlsFiles(NamedTuple):
    """PEM files, as `ssl_context` takes them."""

    cert: Path
    key: Path | None = None
    client_ca: Path | None = None


def credentials(files: TlsFiles) -> Any:
    """grpc's credentials for a server that shows what is in `files` at each new connection.

    Raises:
        UsageError: a file that is missing, is no PEM, is encrypted, or does not belong to the others.
    """
    first = _read(files)
    return grpc.dynamic_ssl_server_credentials(
        first, _renewed(files), require_client_authentication=files.client_ca is not None
    )


def _renewed(files: TlsFiles) -> Callable[[], Any]:
    """What grpc asks, in a thread of its own, at each new connection: a new configuration, or None."""
    stamps = _look(files)

    def fetch() -> Any:
        nonlocal stamps
        now = _look(files)
        if now == stamps:
            return None
        stamps = now
        try:
            return _read(files)
        except UsageError as problem:
            log.error("the new certificate is refused and the one before stays in use: %s", problem)
            return None

    return fetch


def _read(files: TlsFiles) -> Any:
    # OpenSSL through Python judges the files, with words for what is wrong; grpc would only not answer.
    ssl_context(files.cert, files.key, client_ca=files.client_ca)
    return grpc.ssl_server_certificate_configuration(
        [((files.key or files.cert).read_bytes(), files.cert.read_bytes())],
        root_certificates=None if files.client_ca is None else files.client_ca.read_bytes(),
    )


def _look(files: TlsFiles) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            status = os.stat(path) if path is not None else None
        except OSError:
            status = None
        found.append(status and (status.st_ino, status.st_mtime_ns, status.st_size))
    return found
