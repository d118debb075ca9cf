"""Send a running server thousands of damaged requests, and say whether it is still well.

python scripts/fuzz_server.py http://127.0.0.1:8000 [--seconds 60] [--seed 1] [--pid PID] [--keep DIR]

Right requests in every dialect that the server answers are damaged at random (the same seed damages in the
same way) and sent over several connections, in pieces, cut off, or two at once. What has to hold: each
reply is well-formed HTTP; its status is below 500, or 501, 503, 504 or 505; no connection hangs; right
requests are still answered; and the server's memory has not grown beyond a bound. Exit code 0 if so, else 1.

Fuzz only servers of your own.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import h11

FINE = (501, 503, 504, 505)
PATIENCE = 0.5
"""Seconds without a word until we say that nothing more comes from us."""
HANGS = 30.0
"""Seconds after that, in which the server has to answer or to hang up."""
WORDS = [
    b"Content-Length: 0\r\n", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n", b"\r\n\r\n", b"Inference-Header-Content-Length: 0\r\n",
    b"Inference-Header-Content-Length: 99999\r\n", b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Host: x\r\n", b"Accept-Encoding: gzip\r\n",
    b"\0", b"\xff", b"%00", b"%2e%2e%2f", b"..", b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800",
    b"NaN", b"null", b"true", b"-1", b"1e999", b"18446744073709551616", b"-9223372036854775809", b"[]",
    b"{}", b"FP32", b"BYTES", b"BOOL", b"FP16", b"UINT8", b"INT64", b'"binary_data_size":', b'"shape":[0]',
    b'"shape":[-1]', b'"data":[[[]]]', b'"parameters":{}', b'"classification":3', b"image/png",
    b"multipart/form-data; boundary=", b"application/json", b"text/csv", b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
]  # fmt: skip
NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"255",
    b"256",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"9223372036854775808",
    b"1e309",
]


class Asked(NamedTuple):
    """A right request: its head without the length, and its body."""

    head: bytes
    body: bytes

    def whole(self) -> bytes:
        """The bytes to send."""
        return self.head + b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body


def corpus(url: str, headers: dict[str, str]) -> list[Asked]:
    """Right requests for every model of the server, in every dialect; those it does not speak stay in."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    def ask(path: str, body: bytes = b"", *lines: str, method: str = "POST") -> Asked:
        text = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n{more}"
        return Asked((text + "".join(f"{line}\r\n" for line in lines)).encode(), body)

    def get(path: str) -> Any:
        request = urllib.request.Request(url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply) if "json" in reply.headers["Content-Type"] else reply.read()

    kind = "Content-Type: application/json"
    found = [ask(path, method="GET") for path in ("/", "/v2", "/v2/health/ready", "/metrics", "/api/models")]
    found += [ask("/v2/repository/index"), ask("/v2/repository/index", b'{"ready":true}', kind)]
    for model in get("/api/models")["models"]:
        name = model["name"]
        about = get(f"/api/models/{name}")
        found += [ask(f"/v2/models/{name}", method="GET"), ask(f"/v2/models/{name}/config", method="GET")]
        found += network_requests(ask, name, get(f"/v2/models/{name}.net")["inputs"])
        for sample in about.get("samples", [])[:2]:
            found += picture_requests(ask, name, get(sample["url"]))
    return found


def picture_requests(ask: Any, name: str, data: bytes) -> list[Asked]:
    """One picture, as every dialect takes it."""
    text = base64.b64encode(data).decode()
    element = struct.pack("<I", len(data)) + data
    entry = {"name": "image", "shape": [1], "datatype": "BYTES"}
    head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": len(element)}}]}).encode()
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--b--\r\n' % data
    kind = "Content-Type: application/json"
    return [
        ask(f"/predict/{name}", data),
        ask(f"/predict/{name}", gzip.compress(data), "Content-Encoding: gzip"),
        ask(f"/predict/{name}", form, "Content-Type: multipart/form-data; boundary=b"),
        ask(f"/predict/{name}", json.dumps({"image": text}).encode(), kind),
        ask(f"/v2/models/{name}/infer", head + element, f"Inference-Header-Content-Length: {len(head)}"),
        ask(f"/v1/models/{name}:predict", json.dumps({"instances": [{"b64": text}]}).encode(), kind),
        ask(f"/models/{name}", data),
        ask(f"/models/{name}", json.dumps({"inputs": text, "parameters": {"top_k": 2}}).encode(), kind),
        ask(f"/predictions/{name}", data),
        ask(f"/api/predict/{name}", data),
        ask("/invocations", json.dumps({"instances": [text]}).encode(), kind),
    ]


def network_requests(ask: Any, name: str, inputs: list[dict[str, Any]]) -> list[Asked]:
    """Tensors of zeros for the network alone, in JSON and in binary."""
    sizes = {"FP32": 4, "FP64": 8, "INT64": 8, "INT32": 4, "UINT8": 1, "INT8": 1, "BOOL": 1, "FP16": 2}
    plain, binary, blobs = [], [], b""
    for entry in inputs:
        shape = [2 if size < 0 else size for size in entry["shape"]]
        count = 1
        for size in shape:
            count *= size
        base = {"name": entry["name"], "shape": shape, "datatype": entry["datatype"]}
        blob = bytes(4 * count if entry["datatype"] == "BYTES" else sizes.get(entry["datatype"], 4) * count)
        blobs += blob
        zero: Any = "" if entry["datatype"] == "BYTES" else False if entry["datatype"] == "BOOL" else 0
        plain.append(base | {"data": [zero] * count})
        binary.append(base | {"parameters": {"binary_data_size": len(blob)}})
    text = json.dumps({"id": "1", "inputs": plain, "outputs": []}).encode()
    head = json.dumps({"inputs": binary, "parameters": {"binary_data_output": True}}).encode()
    rows = {each["name"]: each["data"] for each in plain}
    kind = "Content-Type: application/json"
    return [
        ask(f"/v2/models/{name}.net/infer", text, kind),
        ask(f"/v2/models/{name}.net/infer", gzip.compress(text), "Content-Encoding: gzip"),
        ask(f"/v2/models/{name}.net/infer", head + blobs, f"Inference-Header-Content-Length: {len(head)}"),
        ask(f"/predict/{name}", json.dumps({"inputs": rows}).encode(), kind),
        ask(f"/v1/models/{name}:predict", json.dumps({"inputs": rows}).encode(), kind),
        ask("/invocations", json.dumps({"inputs": rows}).encode(), kind),
    ]


def damage(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """One random change."""
    place = chance.randrange(len(data) + 1)
    end = min(len(data), place + chance.choice((1, 1, 2, 4, 16, 64, 1024)))
    match chance.randrange(9):
        case 0:
            flipped = bytes(byte ^ 1 << chance.randrange(8) for byte in data[place:end])
            return data[:place] + flipped + data[end:]
        case 1:
            return data[:place] + data[end:]
        case 2:
            return data[:end] + data[place:end] * chance.choice((1, 2, 100)) + data[end:]
        case 3:
            return data[:place] + chance.choice(WORDS) + data[place:]
        case 4:
            return data[:place] + chance.choice(WORDS) + data[end:]
        case 5:
            return data[:place] + chance.randbytes(end - place) + data[end:]
        case 6:
            other = chance.choice(others)
            return data[:place] + other[chance.randrange(len(other) + 1) :]
        case 7:
            spots = [found.span() for found in re.finditer(rb"-?\d+", data[:4096])]
            if not spots:
                return data[:place]
            start, stop = chance.choice(spots)
            return data[:start] + chance.choice(NUMBERS) + data[stop:]
        case _:
            return data[:place]


def damaged(chance: random.Random, right: list[Asked]) -> bytes:
    """A damaged request: in its body (with the length made right), in its head, or anywhere."""
    asked = chance.choice(right)
    times = chance.choice((1, 1, 1, 2, 2, 4, 8))
    where = chance.random()
    if where < 0.55 and asked.body:
        bodies = [other.body for other in right if other.body]
        body = asked.body
        for _ in range(times):
            body = damage(body, chance, bodies)
        return Asked(asked.head, body[: 8 << 20]).whole()
    if where < 0.8:
        head = asked.head
        for _ in range(times):
            head = damage(head, chance, [other.head for other in right])
        return Asked(head, asked.body).whole()
    whole = asked.whole()
    for _ in range(times):
        whole = damage(whole, chance, [other.whole() for other in chance.sample(right, min(4, len(right)))])
    return whole[: 8 << 20]


class Attack:
    """What was sent and what came of it."""

    def __init__(self, address: tuple[str, int], right: list[Asked], keep: Path | None) -> None:
        self.address = address
        self.right = right
        self.keep = keep
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def run(self, seed: int, until: float, most: int) -> None:
        """One connection after another, until the time or the number is up."""
        chance = random.Random(seed)
        for _ in range(most):
            if time.monotonic() > until:
                return
            data = damaged(chance, self.right)
            try:
                said = self.send(data, chance)
            except h11.RemoteProtocolError as problem:
                said = f"malformed reply: {problem}"
            except ConnectionRefusedError:
                said = "the server does not listen any more"
            except OSError as problem:
                said = f"closed ({type(problem).__name__})"
            with self._lock:
                self.counts[said] += 1
            if said.isdigit() and (int(said) < 500 or int(said) in FINE):
                continue
            if not said.startswith(("closed", "left")):
                self.fault(said, data)

    def fault(self, said: str, data: bytes) -> None:
        """Remember what must not happen, and what brought it about."""
        with self._lock:
            self.faults.append(f"{said}: {data[:300]!r}")
            if self.keep is not None:
                self.keep.mkdir(parents=True, exist_ok=True)
                (self.keep / f"{len(self.faults):04}.bin").write_bytes(data)

    def send(self, data: bytes, chance: random.Random) -> str:
        """The status that came back, or how it ended."""
        with socket.create_connection(self.address, HANGS) as sock:
            manner = chance.random()
            if manner < 0.1:
                cut = chance.randrange(len(data) + 1)
                sock.sendall(data[:cut])
                if chance.random() < 0.5:  # a reset in place of an end
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return "left in the middle"
            if manner < 0.2:
                data += chance.choice(self.right).whole()
            try:
                step = chance.choice((len(data) or 1, len(data) or 1, 7, 1460))
                for place in range(0, min(len(data), 200 * step), step):
                    sock.sendall(data[place : place + step])
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has heard enough; what it said is there to read
            return reply_to(sock, data)

    def well(self) -> bool:
        """Whether the right requests that were answered at first are answered now."""
        for asked in self.right:
            with socket.create_connection(self.address, HANGS) as sock:
                sock.sendall(asked.whole())
                if reply_to(sock, asked.whole()) != "200":
                    self.fault("a right request is not answered any more", asked.whole())
                    return False
        return True


def reply_to(sock: socket.socket, data: bytes) -> str:
    """The status of the first reply, read to its end by a strict parser."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    method = "HEAD" if data.lstrip(b"\r\n").startswith(b"HEAD ") else "GET"
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    status, told = "", False
    until = time.monotonic() + HANGS
    while True:
        event = parser.next_event()
        if isinstance(event, h11.Response):
            status = str(event.status_code)
        elif isinstance(event, h11.EndOfMessage):
            return status
        elif event is h11.NEED_DATA:
            sock.settimeout(PATIENCE if not told else max(until - time.monotonic(), 0.01))
            try:
                got = sock.recv(1 << 16)
            except TimeoutError:
                if told:
                    return "the connection hangs"
                told = True
                sock.shutdown(socket.SHUT_WR)
                continue
            if not got and not status and not parser.trailing_data[0]:
                return "closed without a reply"
            parser.receive_data(got)


def memory(pid: int) -> int:
    """Resident bytes of a process and those below it (Linux)."""
    total = 0
    todo = [pid]
    while todo:
        each = todo.pop()
        try:
            status = Path(f"/proc/{each}/status").read_text()
            total += int(status.split("VmRSS:")[1].split()[0]) << 10
            for task in Path(f"/proc/{each}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except (OSError, IndexError):
            continue
    return total


def fuzz(options: argparse.Namespace) -> dict[str, Any]:
    """Fuzz as the options say; what came of it."""
    parts = urlsplit(options.url)
    if not parts.hostname or not parts.port:
        sys.exit("expected http://HOST:PORT")
    address = (parts.hostname, parts.port)
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    attack = Attack(address, corpus(options.url.rstrip("/"), headers), options.keep)
    spoken = []
    for asked in attack.right:
        with socket.create_connection(address, HANGS) as sock:
            sock.sendall(asked.whole())
            if reply_to(sock, asked.whole()) == "200":
                spoken.append(asked)
    if len(spoken) < 5:
        sys.exit(f"only {len(spoken)} right requests are answered: is this the server, and is the key right?")
    attack.right = spoken
    before = memory(options.pid) if options.pid else 0
    until = time.monotonic() + options.seconds
    share = -(-options.requests // options.connections)
    threads = [
        threading.Thread(target=attack.run, args=(options.seed * 1000 + number, until, share))
        for number in range(options.connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    well = attack.well()
    grown = memory(options.pid) - before if options.pid else 0
    return {
        "schema": "modelport.fuzz/1",
        "well": well and not attack.faults and grown < options.growth << 20,
        "corpus": len(spoken),
        "requests": attack.counts.total(),
        "replies": dict(attack.counts.most_common()),
        "grown_mib": round(grown / (1 << 20), 1),
        "faults": attack.faults[:20],
    }


def main() -> None:
    """Fuzz, print what came of it, and exit with 0 or 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=10**9, help="at most so many, over all connections")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--key", help="an API key")
    parser.add_argument("--pid", type=int, help="the server's process, to watch its memory")
    parser.add_argument("--growth", type=int, default=256, help="MiB by which it may grow")
    parser.add_argument("--keep", type=Path, help="a folder for the requests that did what must not happen")
    result = fuzz(parser.parse_args())
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["well"] else 1)


if __name__ == "__main__":
    main()
