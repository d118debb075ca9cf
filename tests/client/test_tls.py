"""Secure connections: whom the client trusts, and what it shows of itself."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from modelport.client import TLS, AsyncClient, Client
from modelport.errors import Unavailable

from .faults import Act, faulty, in_turn, metadata

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="certificates are made with openssl")


def openssl(*arguments: object, cwd: Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], cwd=cwd, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server.pem and other.pem (for another name), client.pem, each with its .key, signed by it."""
    path = tmp_path_factory.mktemp("tls")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", 2, "-subj", "/CN=ca",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign", cwd=path,
    )  # fmt: skip
    names = {"server": "IP:127.0.0.1", "other": "DNS:elsewhere.example", "client": "DNS:client.example"}
    for name, subject in names.items():
        (path / f"{name}.ext").write_text(f"subjectAltName={subject}\nauthorityKeyIdentifier=keyid\n")
        openssl(
            "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=path
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", 2, "-extfile", f"{name}.ext", "-out", f"{name}.pem", cwd=path,
        )  # fmt: skip
    return path


def context(folder: Path, name: str = "server", *, ask: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    if ask:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(folder / "ca.pem")
    return made


def ask(url: str, tls: TLS | None, kind: str, connect_timeout: float = 5.0) -> str:
    """The server's name, by two calls on one connection."""
    if kind == "blocking":
        with Client(url, tls=tls, retries=0, connect_timeout=connect_timeout) as client:
            client.server()
            return client.server().name

    async def run() -> str:
        async with AsyncClient(url, tls=tls, retries=0, connect_timeout=connect_timeout) as client:
            await client.server()
            return (await client.server()).name

    return asyncio.run(run())


KINDS = pytest.mark.parametrize("kind", ["blocking", "asyncio"])


@KINDS
def test_a_server_that_an_authority_of_ours_vouches_for(folder: Path, kind: str) -> None:
    with faulty(in_turn(Act(metadata())), tls=context(folder)) as server:
        assert ask(server.url, TLS(ca=folder / "ca.pem"), kind) == "stand-in"
    assert (len(server.requests), server.connections) == (2, 1)


@KINDS
@pytest.mark.parametrize("name", ["unknown authority", "another name"])
def test_a_server_that_is_not_trusted_gets_no_request(folder: Path, kind: str, name: str) -> None:
    shown = "other" if name == "another name" else "server"
    tls = TLS(ca=folder / "ca.pem") if name == "another name" else None
    with (
        faulty(in_turn(Act(metadata())), tls=context(folder, shown)) as server,
        pytest.raises(Unavailable, match=r"no secure connection.*certificate"),
    ):
        ask(server.url, tls, kind)
    assert not server.requests


@KINDS
def test_a_server_that_waits_for_something_else_than_tls(folder: Path, kind: str) -> None:
    with (
        faulty(in_turn(Act(b"HTTP/1.1 400 No\r\n\r\n", "close"))) as server,
        pytest.raises(Unavailable, match="in time"),
    ):
        ask(server.url.replace("http", "https"), TLS(ca=folder / "ca.pem"), kind, connect_timeout=0.3)


@KINDS
def test_a_server_that_speaks_no_tls(folder: Path, kind: str) -> None:
    def refuse(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1 << 16)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        with pytest.raises(Unavailable, match="no secure connection"):
            ask(f"https://127.0.0.1:{listener.getsockname()[1]}", TLS(ca=folder / "ca.pem"), kind)
        thread.join(10)
    assert not thread.is_alive()


@KINDS
def test_the_client_shows_its_certificate_where_it_is_asked(folder: Path, kind: str) -> None:
    own = TLS(ca=folder / "ca.pem", cert=folder / "client.pem", key=folder / "client.key")
    with faulty(in_turn(Act(metadata())), tls=context(folder, ask=True)) as server:
        assert ask(server.url, own, kind) == "stand-in"
        with pytest.raises(Unavailable):
            ask(server.url, TLS(ca=folder / "ca.pem"), kind)
    assert len(server.requests) == 2


def test_bodies_larger_than_a_record(folder: Path) -> None:
    import numpy as np

    from .test_pool import echo

    sent = np.random.default_rng(1).integers(0, 256, 3_000_000, np.uint8)

    async def run(url: str) -> bool:
        async with AsyncClient(url, tls=TLS(ca=folder / "ca.pem")) as client:
            return np.array_equal((await client.infer("m", {"x": sent}))["y"], sent)

    with faulty(echo, tls=context(folder)) as server:
        with Client(server.url, tls=TLS(ca=folder / "ca.pem")) as client:
            assert np.array_equal(client.infer("m", {"x": sent})["y"], sent)
        assert asyncio.run(run(server.url))
