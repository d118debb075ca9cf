"""`modelport serve`: bundles over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ModelportError, Unsupported
from .bundle_options import runtime_of, runtime_option, trust_option
from .groups import Grouped
from .render import json_option, write_json

if TYPE_CHECKING:
    from ..engine.entry import Entry
    from ..serve.settings import ServeSettings

_F = Callable[..., Any]

host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for every one."
)
port_option = click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)


class Seconds(click.ParamType[float]):
    """A time with its unit: `50ms`, `2s`, `5min`; or 0."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):  # an option's own default, converted before
            return value
        text = str(value).strip()
        if text in ("0", "0.0"):
            return 0.0
        for suffix, scale in (("ms", 1e-3), ("min", 60.0), ("s", 1.0)):
            if text.endswith(suffix):
                try:
                    seconds = float(text.removesuffix(suffix)) * scale
                except ValueError:
                    break
                if 0 <= seconds < 1e9:
                    return seconds
                break
        self.fail(f"{value!r} is not a time; 50ms, 2s and 5min are", param, ctx)
        return None


_OPTIONS: list[_F] = [
    click.option(
        "--slo",
        type=Seconds(),
        help="Answer within this time (50ms, say) or refuse at once; a request's own deadline overrides it.",
    ),
    click.option(
        "--executors",
        default=0,
        type=click.IntRange(0),
        help="Processes that run the network, of each model; 0: one a core.",
    ),
    click.option(
        "--workers",
        default=1,
        show_default=True,
        type=click.IntRange(1, 256),
        help="Processes that take requests, each with executors of its own; --port is shared.",
    ),
    click.option(
        "--max-batch",
        default=64,
        show_default=True,
        type=click.IntRange(1),
        help="Most rows in one run of the network.",
    ),
    runtime_option,
    trust_option,
    click.option("--api", default="", help="Dialects to speak, separated by commas; by default all."),
    click.option(
        "--versions",
        default="1",
        show_default=True,
        help="How many of a model's newest versions to load, or `all`; and those that its rollout names.",
    ),
    click.option(
        "--watch",
        default="2s",
        type=Seconds(),
        show_default=True,
        help="How often to look for new versions and plans; 0: never.",
    ),
    click.option(
        "--golden-every",
        default="5min",
        type=Seconds(),
        show_default=True,
        help="How often to replay a golden case on what answers; 0: never.",
    ),
    click.option("--grpc-port", type=click.IntRange(0, 65535), help="Also answer gRPC there."),
    click.option(
        "--admin-port", type=click.IntRange(0, 65535), help="Load, unload and roll out there (needs --keys)."
    ),
    click.option("--keys", type=click.Path(path_type=Path), help="File of keys; see modelport keys."),
    click.option(
        "--open",
        "open_to_all",
        multiple=True,
        type=click.Choice(["infer", "metrics"]),
        help="With --keys: let this be asked without one. May be given twice.",
    ),
    click.option("--rate-per-client", help="Most requests of one address: 100/s, say."),
    click.option(
        "--allow-host", multiple=True, help="Another name that this server is called by (its Host header)."
    ),
    click.option("--cors-origin", multiple=True, help="Whose pages may ask: https://example.com."),
    click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM."),
    click.option("--tls-key", type=click.Path(path_type=Path), help="Its key, PEM."),
    click.option(
        "--tls-client-ca",
        type=click.Path(path_type=Path),
        help="Only clients with a certificate of these authorities, PEM.",
    ),
    click.option(
        "--max-body", default=64, show_default=True, type=click.IntRange(1), help="Most MiB of a body."
    ),
    click.option(
        "--header-timeout",
        default="15s",
        type=Seconds(),
        show_default=True,
        help="Longest time for a request's head to arrive.",
    ),
    click.option(
        "--body-timeout",
        default="30s",
        type=Seconds(),
        show_default=True,
        help="Over each such time a body must come at 1 KiB/s or more.",
    ),
    click.option(
        "--max-connections",
        default=8192,
        show_default=True,
        type=click.IntRange(1),
        help="Most connections at once.",
    ),
    click.option(
        "--log-format", default="text", type=click.Choice(["text", "json"]), help="Lines on stderr."
    ),
    click.option(
        "--access-log",
        is_flag=True,
        help="A line on stderr for each request, but for health probes that succeed.",
    ),
]


def _with_options(command: _F) -> _F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


GROUPS = {
    "Where": ("host", "port", "grpc_port", "admin_port", "workers"),
    "Answering": ("slo", "executors", "max_batch", "runtime", "trust", "api"),
    "Versions": ("versions", "watch", "golden_every"),
    "Who may ask": (
        *("keys", "open_to_all", "rate_per_client", "allow_host", "cors_origin"),
        *("tls_cert", "tls_key", "tls_client_ca"),
    ),
    "Limits": ("max_body", "header_timeout", "body_timeout", "max_connections"),
    "Output": ("log_format", "access_log", "as_json"),
}
"""The headings of `modelport serve --help`."""


@click.command(cls=Grouped, groups=GROUPS)
@click.argument("path", type=click.Path())
@host_option
@port_option
@_with_options
@json_option
def command(path: str, host: str, port: int, as_json: bool, **options: Any) -> int:
    """Serve PATH: a model repository (REPO/NAME/VERSION/) with all its models, one model of it (REPO/NAME)
    with its versions and its rollout, or one bundle.

    Speaks the Open Inference Protocol under /v2 (NAME is the whole bundle, NAME.net its network), the
    dialects of other servers, answers pictures and JSON at /predict/NAME, and shows a page for each model
    at /. New versions in the repository take over when they answer. SIGTERM and Ctrl-C finish the requests
    that were taken and then stop.
    """
    settings = settings_of(host, port, options)
    if options["runtime"] == "python" and not options["trust"]:
        _check_runtime(Path(path), options["runtime"])
    return run(Path(path), settings, as_json=as_json)


def _check_runtime(path: Path, runtime: str) -> None:
    """Refuse a runtime that no bundle there can be run on; those of a repository may be of both kinds.

    Raises:
        Unsupported: it is such a one. NotFound, BundleError: there is nothing to serve.
    """
    from ..bundle.layout import find_bundles
    from ..bundle.store import Bundle
    from ..runtimes.form import check_runtime
    from ..serve.server import source_of

    source = source_of(path)
    if not isinstance(source, Path):
        check_runtime(source[0], runtime)
        return
    refused: Unsupported | None = None
    for found in find_bundles(source, claims=False):
        try:
            check_runtime(Bundle.open(found), runtime)
        except Unsupported as problem:
            refused = refused or problem
        except ModelportError:
            continue  # damaged, which the server says of it
        else:
            return
    if refused is not None:
        raise refused


def settings_of(host: str, port: int, options: dict[str, Any]) -> ServeSettings:
    """The flags as one value.

    Raises:
        UsageError: they do not go together.
    """
    from ..engine.settings import EngineSettings
    from ..errors import UsageError
    from ..serve.guard.origin import check_origin
    from ..serve.limits import Limits
    from ..serve.settings import DEFAULT_APIS, ServeSettings

    versions = options["versions"]
    if versions != "all" and not (versions.isdigit() and int(versions) > 0):
        raise UsageError(f"--versions is {versions!r}; expected a number above 0, or all")
    slo = options["slo"]
    engine = EngineSettings(
        executors=options["executors"],
        max_rows=options["max_batch"],
        runtime=runtime_of(options["trust"], options["runtime"]),
        timeout=slo or 30.0,
        slo=slo or 0.0,
        golden_every=options["golden_every"],
    )
    limits = Limits(
        max_body=options["max_body"] << 20,
        head_seconds=options["header_timeout"],
        body_seconds=options["body_timeout"],
        max_connections=options["max_connections"],
    )
    apis = tuple(each.strip() for each in options["api"].split(",") if each.strip())
    return ServeSettings(
        host=host,
        port=port,
        apis=apis or DEFAULT_APIS,
        engine=engine,
        limits=limits,
        keep=0 if versions == "all" else int(versions),
        allow_hosts=options["allow_host"],
        cors_origins=tuple(check_origin(each) for each in options["cors_origin"]),
        **{
            name: options[name]
            for name in (
                *("watch", "workers", "admin_port", "grpc_port", "keys", "open_to_all", "rate_per_client"),
                *("tls_cert", "tls_key", "tls_client_ca", "log_format", "access_log"),
            )
        },
    ).checked()


def run(
    path: Path,
    settings: ServeSettings,
    *,
    as_json: bool = False,
    ready: Callable[[str], None] | None = None,
) -> int:
    """Listen first, so that a port in use is told before anything loads; then serve until stopped.

    Args:
        ready: called with the server's URL when it answers, in place of printing it.

    Returns:
        The exit code.
    """
    from ..serve.logs import configure
    from ..serve.server import listen, serve, source_of
    from ..serve.workers import State, supervise

    source = source_of(path)
    configure("json" if settings.log_format == "json" else "text")
    sock = listen(settings.host, settings.port, shared=settings.workers > 1)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{'https' if settings.tls_cert else 'http'}://{shown}:{sock.getsockname()[1]}"

    def tell(states: list[State], grpc: int | None = None) -> None:
        if ready:
            ready(url)
        elif as_json:
            models = [{"name": s.name, "version": s.version, "ready": s.ready} for s in states]
            also = {} if grpc is None else {"grpc": f"{shown}:{grpc}"}
            write_json({"schema": "modelport.serve/1", "url": url, **also, "models": models}, lines=True)
        else:
            names = ", ".join(
                f"{s.name}/{s.version}" + ("" if s.ready else " (FAILED to load)")
                for s in states
                if s.ready or s.reason
            )
            also_grpc = "" if grpc is None else f", gRPC at {shown}:{grpc}"
            click.echo(f"{url}{also_grpc}  serves {names}  (Ctrl-C stops)")

    def tell_entries(entries: list[Entry], grpc: int | None) -> None:
        tell([State(e.name, e.version, e.model is not None, e.reason) for e in entries], grpc)

    if settings.workers > 1:
        # Several share a port, so it is one that was given.
        return supervise(path, sock, settings, lambda states: tell(states, settings.grpc_port))
    serve(source, sock, settings, on_ready=tell_entries)
    return 0
