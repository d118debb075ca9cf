"""How a server is set up: everything `modelport serve` can be told, as one value."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .. import plugins
from ..engine.settings import EngineSettings
from ..errors import UsageError, did_you_mean
from .limits import Limits

DEFAULT_APIS = ("v2", "predict", "track", "tfs", "hf", "mlflow", "torchserve", "eas")
"""All of them answer requests; what changes the server is on the port for administration, if there is one."""


class ServeSettings(msgspec.Struct, frozen=True):
    """Times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8000
    apis: tuple[str, ...] = DEFAULT_APIS
    engine: EngineSettings = EngineSettings()
    limits: Limits = Limits()
    keep: int = 1
    """Newest versions of a model that are loaded; 0 for all."""
    watch: float = 2.0
    """Between looks at the repository's folder; 0 for none."""
    workers: int = 1
    """Processes that answer on the same port."""
    home: str | None = None
    """The model whose page is at /; by default the list of all models is."""
    admin_port: int | None = None
    """Where models are loaded and rollouts changed; None for nowhere."""
    grpc_port: int | None = None
    keys: Path | None = None
    """The file of keys; without one everybody may ask for answers, and nobody may administrate."""
    open_to_all: tuple[str, ...] = ()
    rate_per_client: str | None = None
    shared_rates: Path | None = None
    """The file of token buckets that all workers take from; None where one process serves."""
    allow_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    log_format: str = "text"
    access_log: bool = False
    stop_seconds: float = 30.0
    """For requests that were taken, after the server was told to stop."""

    def checked(self) -> ServeSettings:
        """The same, if its parts go together.

        Raises:
            UsageError: an unknown API, a port for administration without keys, or a free port for each of
                several workers.
        """
        known = plugins.table("dialects")
        for api in self.apis:
            if api not in known:
                raise UsageError(f"no API is called {api!r}", hint=did_you_mean(api, known))
        if self.admin_port is not None and self.keys is None:
            raise UsageError(
                "--admin-port needs --keys: nobody administrates without one",
                hint="modelport keys add NAME --scope admin",
            )
        for option, port in (("--grpc-port", self.grpc_port), ("--admin-port", self.admin_port)):
            if self.workers > 1 and port == 0:
                raise UsageError(
                    f"{option} 0 takes a free port, and {self.workers} workers would each take another",
                    hint=f"say which: {option} 8001",
                )
        return self
