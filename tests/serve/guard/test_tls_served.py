"""HTTPS on the real server: answers, a new certificate by SIGHUP, and callers who do not speak it."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from ...colours import pack_colours, picture, served
from .test_tls import made, refused  # noqa: F401
from .test_tls import pytestmark as pytestmark


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_colours(tmp_path_factory.mktemp("tls-served"))


def ask(url: str, trusted: Path, client: tuple[str, str] | None = None) -> str:
    """The label of a red picture, over a connection of its own."""
    context = ssl.create_default_context(cafile=str(trusted))
    if client:
        context.load_cert_chain(*client)
    with httpx.Client(base_url=url, verify=context, timeout=30) as http:
        return str(http.post("/predict/colours", content=picture("red")).json()["answer"][0]["label"])


def test_answers_a_new_certificate_and_silence(repo: Path, made: Path, tmp_path: Path) -> None:  # noqa: F811
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    shutil.copy(made / "first.pem", cert)
    shutil.copy(made / "first.key", key)
    options = ("--tls-cert", str(cert), "--tls-key", str(key), "--header-timeout", "2s")
    with served(repo, *options) as (url, process):
        assert url.startswith("https://")
        assert ask(url, made / "first.pem") == "red"
        host, port = urlsplit(url).hostname, urlsplit(url).port
        with socket.create_connection((host, port), 30) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"HTTP/1.1 200" not in plain.recv(1000)
        silent = [socket.create_connection((host, port), 30) for _ in range(20)]
        shutil.copy(made / "second.pem", cert)
        shutil.copy(made / "second.key", key)
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 20
        while True:
            try:
                assert ask(url, made / "second.pem") == "red"
                break
            except httpx.ConnectError:
                assert time.monotonic() < until
                time.sleep(0.1)
        # Who never begins to speak TLS is not waited for.
        for sock in silent:
            with sock:
                sock.settimeout(30)
                assert sock.recv(100) == b""


def test_callers_show_a_certificate(repo: Path, made: Path) -> None:  # noqa: F811
    options = ("--tls-cert", str(made / "first.pem"), "--tls-key", str(made / "first.key"))
    with served(repo, *options, "--tls-client-ca", str(made / "authority.pem")) as (url, _):
        right = (str(made / "client.pem"), str(made / "client.key"))
        assert ask(url, made / "first.pem", right) == "red"
        port = urlsplit(url).port
        assert port and refused(port, made / "first.pem", None)
        assert refused(port, made / "first.pem", (made / "second.pem", made / "second.key"))
        assert ask(url, made / "first.pem", right) == "red"
