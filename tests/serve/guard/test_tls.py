"""HTTPS: what is offered, what is refused, and certificates that change while connections stand."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from modelport.errors import UsageError
from modelport.serve.guard.tls import Certificate, ssl_context

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="certificates are made with openssl")


def openssl(*arguments: object, cwd: Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], cwd=cwd, check=True, capture_output=True, timeout=60)


def make(folder: Path, name: str, *, ca: str | None = None) -> tuple[Path, Path]:
    """A certificate for localhost and its key, signed by itself or by `ca`."""
    openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.pem",
        "-subj",
        f"/CN={name}",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        *(["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key"] if ca else []),
        cwd=folder,
    )
    return folder / f"{name}.pem", folder / f"{name}.key"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("first", "second", "authority"):
        make(folder, name)
    make(folder, "client", ca="authority")
    openssl("pkcs8", "-topk8", "-in", "first.key", "-out", "locked.key", "-passout", "pass:x", cwd=folder)
    (folder / "both.pem").write_text((folder / "first.pem").read_text() + (folder / "first.key").read_text())
    (folder / "empty.pem").write_text("")
    return folder


@contextmanager
def listening(context: ssl.SSLContext, loop_factory: type = uvloop.Loop) -> Iterator[int]:
    """An echo server on a loop of its own."""
    started: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
        stop = asyncio.Event()
        started.append((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    port, loop, stop = started[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


def connect(
    port: int, trusted: Path, *, name: str | None = "localhost", client: tuple[Path, Path] | None = None,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLSocket:  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted)
    context.check_hostname = name is not None
    context.minimum_version, context.maximum_version = oldest, newest
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client:
        context.load_cert_chain(*client)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 30), server_hostname=name)


def says(tls: ssl.SSLSocket) -> bytes:
    tls.sendall(b"hello")
    return tls.recv(100)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_today_s_versions_are_spoken_without_compression(made: Path, version: ssl.TLSVersion) -> None:
    context = ssl_context(made / "first.pem", made / "first.key")
    with listening(context) as port, connect(port, made / "first.pem", newest=version) as tls:
        assert says(tls) == b"hello"
        assert tls.version() == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
        assert tls.compression() is None
        assert tls.selected_alpn_protocol() == "http/1.1"
        cipher = tls.cipher()
        assert cipher and ("GCM" in cipher[0] or "CHACHA20" in cipher[0])


def test_yesterday_s_are_not(made: Path) -> None:
    context = ssl_context(made / "both.pem")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    weak = [c["name"] for c in context.get_ciphers() if "CBC" in c["name"] or "-SHA" in c["name"][-4:]]
    assert not weak
    with listening(context) as port, socket.create_connection(("127.0.0.1", port), 30) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)
        with connect(port, made / "first.pem") as tls:
            assert says(tls) == b"hello"


@pytest.mark.parametrize(
    ("cert", "key", "ca", "words"),
    [
        ("none.pem", None, None, "cannot read .*none.pem: No such file"),
        ("first.pem", "none.key", None, "cannot read .*none.key"),
        ("first.pem", "second.key", None, "does not belong to the certificate"),
        ("first.pem", None, None, "no usable certificate and key"),
        ("empty.pem", "first.key", None, "no usable certificate and key"),
        ("first.key", "first.key", None, "no usable certificate and key"),
        ("first.pem", "locked.key", None, "locked.key is encrypted"),
        (".", None, None, "Is a directory"),
        ("first.pem", "first.key", "empty.pem", "no certificate in .*empty.pem"),
        ("first.pem", "first.key", "none.pem", "cannot read .*none.pem"),
    ],
)
def test_wrong_files_are_named(made: Path, cert: str, key: str | None, ca: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ssl_context(made / cert, made / key if key else None, client_ca=made / ca if ca else None)


@pytest.mark.parametrize("loop", [uvloop.Loop, asyncio.SelectorEventLoop])
@pytest.mark.parametrize("name", ["localhost", None])
def test_a_new_certificate_is_shown_to_new_connections(
    made: Path, tmp_path: Path, loop: type, name: str
) -> None:
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"

    def put(which: str) -> None:
        shutil.copy(made / f"{which}.pem", cert)
        shutil.copy(made / f"{which}.key", key)

    put("first")
    certificate = Certificate(cert, key)
    with (
        listening(certificate.context, loop) as port,
        connect(port, made / "first.pem", name=name) as standing,
    ):
        assert says(standing) == b"hello"
        certificate.refresh(0.0)
        put("second")
        certificate.refresh(1.0)  # too soon to look
        with connect(port, made / "first.pem", name=name) as tls:
            assert says(tls) == b"hello"
        certificate.refresh(10.0)
        with connect(port, made / "second.pem", name=name) as tls:
            assert says(tls) == b"hello"
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(port, made / "first.pem", name=name)
        assert says(standing) == b"hello"


def test_files_that_do_not_fit_yet_change_nothing(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Certificate and key are two files, so for a moment they are of two generations."""
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    shutil.copy(made / "first.pem", cert)
    shutil.copy(made / "first.key", key)
    certificate = Certificate(cert, key)
    with listening(certificate.context) as port:
        shutil.copy(made / "second.pem", cert)
        with caplog.at_level(logging.INFO, "modelport.serve"):
            certificate.refresh(0.0)
            certificate.refresh(100.0)
        assert [r.levelname for r in caplog.records] == ["ERROR"] and "stays in use" in caplog.text
        with connect(port, made / "first.pem") as tls:
            assert says(tls) == b"hello"
        shutil.copy(made / "second.key", key)
        certificate.refresh(100.1, at_once=True)  # SIGHUP
        with connect(port, made / "second.pem") as tls:
            assert says(tls) == b"hello"
        key.unlink()
        certificate.refresh(200.0)
        with connect(port, made / "second.pem") as tls:
            assert says(tls) == b"hello"


def refused(port: int, trusted: Path, client: tuple[Path, Path] | None) -> bool:
    """In TLS 1.3 the client is done before the server has judged it: the refusal comes with the data."""
    try:
        with connect(port, trusted, client=client) as tls:
            return says(tls) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def test_clients_show_a_certificate_where_one_is_asked(made: Path, tmp_path: Path) -> None:
    trusted, authority = made / "first.pem", tmp_path / "authority.pem"
    shutil.copy(made / "authority.pem", authority)
    certificate = Certificate(trusted, made / "first.key", client_ca=authority)
    right = (made / "client.pem", made / "client.key")
    foreign = (made / "second.pem", made / "second.key")
    with listening(certificate.context) as port:
        for _ in range(2):
            with connect(port, trusted, client=right) as tls:
                assert says(tls) == b"hello"
        assert refused(port, trusted, None) and refused(port, trusted, foreign)
        # Another authority: who came with the first one's word is refused from now on.
        shutil.copy(made / "second.pem", authority)
        certificate.refresh(0.0, at_once=True)
        assert refused(port, trusted, right)
        with connect(port, trusted, client=foreign) as tls:
            assert says(tls) == b"hello"
