"""`modelport serve`: bundles over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ..bundle.layout import find_bundles
from ..bundle.store import Bundle
from ..errors import NotFound
from .render import json_option, write_json

if TYPE_CHECKING:
    from ..engine.repository import Entry

host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for every one."
)
port_option = click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)


@click.command()
@click.argument("path", type=click.Path())
@host_option
@port_option
@click.option(
    "--max-batch", default=32, show_default=True, type=click.IntRange(1), help="Most rows in one network run."
)
@click.option(
    "--max-body", default=64, show_default=True, type=click.IntRange(1), help="Most MiB in one request body."
)
@json_option
def command(path: str, host: str, port: int, max_batch: int, max_body: int, as_json: bool) -> None:
    """Serve PATH: a bundle, or a model repository (REPO/NAME/VERSION/) with all its models.

    Speaks the Open Inference Protocol under /v2 (NAME is the whole bundle, NAME.net its network),
    answers pictures and JSON at /predict/NAME, and shows a page for each model at /. SIGTERM and Ctrl-C
    finish the requests that were taken and then stop.
    """
    run(open_bundles(path), host, port, max_rows=max_batch, max_body=max_body << 20, as_json=as_json)


def open_bundles(path: str) -> list[Bundle]:
    """Every bundle under a repository, or the one bundle at `path`.

    Raises:
        NotFound, BundleError: nothing there, or a bundle that does not open.
    """
    try:
        found = find_bundles(path)
    except NotFound:
        return [Bundle.open(path)]
    return [Bundle.open(each) for each in found]


def run(
    bundles: list[Bundle],
    host: str,
    port: int,
    *,
    max_rows: int = 32,
    max_body: int = 64 << 20,
    as_json: bool = False,
    home: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Listen first, so that a port in use is told before anything loads; then serve until stopped.

    Args:
        home: the model whose page is at /; by default the list of all models is.
        ready: called with the server's URL when it answers, in place of printing it.
    """
    from ..serve.server import listen, serve

    sock = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{sock.getsockname()[1]}"

    def tell(entries: list[Entry]) -> None:
        if ready:
            ready(url)
        elif as_json:
            models = [{"name": e.name, "version": e.version, "ready": e.model is not None} for e in entries]
            write_json({"schema": "modelport.serve/1", "url": url, "models": models}, lines=True)
        else:
            names = ", ".join(
                f"{e.name}/{e.version}" + ("" if e.model else " (FAILED to load)") for e in entries
            )
            click.echo(f"{url}  serves {names}  (Ctrl-C stops)")

    serve(bundles, sock, max_rows=max_rows, max_body=max_body, home=home, on_ready=tell)
