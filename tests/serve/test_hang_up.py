"""Who administers a server and hangs up before the answer has done what was asked all the same."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from urllib.parse import urlsplit

from ..colours import pack_colours
from .test_workers import told, until


def test_a_load_is_done_in_every_worker_though_its_caller_hangs_up(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path, name="other")
    pack_colours(tmp_path)
    with told(repo, tmp_path) as server:
        server("POST", "/v2/repository/models/other/unload")
        assert server.answers("other") == {503}
        address = urlsplit(server._admin)
        with socket.create_connection((address.hostname, address.port), timeout=20) as sock:
            head = (
                "POST /v2/repository/models/other/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
            )
            sock.sendall(f"{head}Authorization: {server._key['Authorization']}\r\n\r\n".encode())
            time.sleep(0.2)
            # Reset, and not closed in order: who only sends no more may still read.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: server.answers("other") == {"1"})
