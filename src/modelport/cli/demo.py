"""`modelport demo`: the digits model that ships inside the package, served and opened."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click
import msgspec
from click.core import ParameterSource

from ..bundle.store import Bundle
from ..errors import BundleError, Unavailable
from .serve import host_option, port_option, run

DIGITS = Path(__file__).parents[1] / "models" / "digits" / "1"
"""The bundle inside the package; `examples/digits` is how it was made."""


@click.command()
@host_option
@port_option
@click.option(
    "--once", is_flag=True, help="Post one handwritten digit to the server, print the answer, exit."
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def command(host: str, port: int, once: bool, no_browser: bool) -> int:
    """Serve the digits model and open its page: draw a digit and see it read.

    With --once nothing is opened: one real handwritten digit goes to the running server over HTTP, the
    answer, the true digit and the latency are printed, and the exit code is 0 only if they agree.
    """
    bundle = Bundle.open(DIGITS)
    if once:
        said = click.get_current_context().get_parameter_source("port")
        return _once(bundle, host, 0 if said is ParameterSource.DEFAULT else port)

    def open_page(url: str) -> None:
        click.echo(f"Draw a digit: {url}")
        if not no_browser and _has_screen():
            # A browser that blocks (a text one, say) must not hold the server up.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    from ..serve.settings import ServeSettings

    run(DIGITS, ServeSettings(host=host, port=port, home="digits"), ready=open_page)
    return 0


def _has_screen() -> bool:
    """Whether a browser would have somewhere to show; a text browser would take over the terminal."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _once(bundle: Bundle, host: str, port: int) -> int:
    """Start a real server as its own process, ask it over HTTP, and stop it."""
    case = bundle.manifest.golden.cases[0] if bundle.manifest.golden else None
    if case is None:
        raise BundleError("the digits bundle has no sample picture")
    truth = case.name[0]  # a sample is named after its digit: 7-a
    command = [sys.executable, "-P", "-m", "modelport", "serve", str(DIGITS)]
    server = subprocess.Popen(
        [*command, "--host", host, "--port", str(port), "--json"], stdout=subprocess.PIPE
    )
    try:
        address = urlsplit(_first_line(server)["url"])
        picture = bundle.read(case.input)
        _post(address, picture)  # the first answer also pays for what is loaded on first use
        start = time.perf_counter()
        reply = _post(address, picture)
        ms = (time.perf_counter() - start) * 1e3
    finally:
        server.terminate()
        server.wait(timeout=60)
    best = reply["answer"][0]
    click.echo(
        f"posted {case.name} to {address.geturl()}/predict/digits: answer {best['label']} "
        f"({best['score']:.1%}), true digit {truth}, {ms:.1f} ms"
    )
    return 0 if best["label"] == truth else 1


def _first_line(server: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the server says once it is ready.

    Raises:
        Unavailable: it ended instead; its own message is on standard error.
    """
    line = server.stdout.readline() if server.stdout else b""
    if not line:
        raise Unavailable("the server ended before it was ready")
    return msgspec.json.decode(line, type=dict[str, Any])


def _post(address: SplitResult, picture: bytes) -> dict[str, Any]:
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request("POST", "/predict/digits", picture, {"Content-Type": "image/png"})
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise Unavailable(f"the server answered {reply.status}: {body[:200].decode(errors='replace')}")
    return msgspec.json.decode(body, type=dict[str, Any])
