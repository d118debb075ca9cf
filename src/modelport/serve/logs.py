"""One line for each request, and the words of every logger, as JSON or as text. On stderr, never in the way.

What a caller chose (path, request id) is bounded and escaped, so that it forges no line and moves no
terminal; bodies, queries and keys are in none of it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

import msgspec

LogFormat = Literal["json", "text"]

MAX_PATH = 256
"""Characters of a path that are written; the rest is cut off, and three dots say so."""
MAX_ID = 64
MAX_PENDING = 4 << 20
"""Bytes that may wait to be written; further lines are counted instead, and the count is written."""
ATOMIC = 4096
"""Bytes that a pipe takes as one piece (PIPE_BUF): lines of several processes then never mix."""
PAUSE = 0.05
"""Seconds for which lines are gathered before they are written together."""

_PROBE = re.compile(
    r"/(?:v2/health/(?:live|ready)|v2/models/[^/]+(?:/versions/[^/]+)?/ready|ping|health"
    r"|grpc\.health\.v1\.Health/Check|inference\.GRPCInferenceService/(?:Server(?:Live|Ready)|ModelReady))"
).fullmatch
_PLAIN = re.compile(r"[!#-\[\]-~]*").fullmatch
_SAFE = "/:@!$&'()*+,;=~._-?%[]{}|^#<>"


class Line(msgspec.Struct, omit_defaults=True):
    """One request; what is empty is left out."""

    time: str
    event: str
    method: str
    path: str
    status: int
    ms: float
    model: str = ""
    version: str = ""
    batch: int = 0
    """Rows that ran together with it, itself included."""
    request_id: str = ""
    trace_id: str = ""
    client: str = ""


class AccessLog:
    """A line a request, written by a thread of its own: whoever reads stderr slowly keeps nobody waiting.

    Args:
        form: `json` or `text`.
        fd: where the lines go; stderr unless told otherwise.
    """

    def __init__(self, form: LogFormat = "json", fd: int = 2) -> None:
        self._encode = _as_json if form == "json" else _as_text
        self._fd = fd
        self._stamp = Stamp()
        self._lines: list[bytes] = []
        self._pending = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._closed = False
        self._deaf = False
        self._thread = threading.Thread(target=self._drain, name="modelport-log", daemon=True)
        self._thread.start()

    def write(
        self,
        method: str,
        path: str,
        status: int,
        seconds: float,
        *,
        model: str = "",
        version: str = "",
        batch: int = 0,
        request_id: str = "",
        trace_id: str = "",
        client: str = "",
    ) -> None:
        """One request that came to its end after `seconds`. A query behind the path is not written."""
        line = Line(
            self._stamp(time.time()),
            "request",
            clean(method, 16) if method != "POST" else method,
            _clean_path(path[: MAX_PATH + 1].partition("?")[0]),
            status,
            round(seconds * 1e3, 3),
            model,
            version,
            batch,
            clean(request_id, MAX_ID) if request_id else "",
            trace_id,
            client,
        )
        data = self._encode(line)
        with self._lock:
            if self._pending + len(data) > MAX_PENDING:
                self._dropped += 1
                return
            self._lines.append(data)
            self._pending += len(data)
        if not self._awake.is_set():
            self._awake.set()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            lines, dropped = self._lines, self._dropped
            self._lines, self._dropped, self._pending = [], 0, 0
        if dropped:
            now = Stamp()(time.time())
            said = {"time": now, "event": "dropped", "lines": dropped}
            text = f"{now} dropped {dropped} lines".encode()
            lines.append((msgspec.json.encode(said) if self._encode is _as_json else text) + b"\n")
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if size + len(line) > ATOMIC and piece:
                self._put(b"".join(piece))
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        self._put(b"".join(piece))

    def _put(self, data: bytes) -> None:
        while data and not self._deaf:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody made it non-blocking
                time.sleep(PAUSE)
            except OSError:
                self._deaf = True  # nobody reads any more; serving goes on

    def close(self) -> None:
        """Write what waits and stop."""
        self._closed = True
        self._awake.set()
        self._thread.join(timeout=5)

    def _drain(self) -> None:
        while not self._closed:
            self._awake.wait()
            if not self._closed:
                time.sleep(PAUSE)
            self._awake.clear()
            self.flush()
        self.flush()


class Stamp:
    """Seconds since 1970 as `2026-11-21T03:12:00.123Z`; most of it is kept for the rest of its second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, now: float) -> str:
        """The text of `now`."""
        second = int(now)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((now - second) * 1000):03d}Z"


def is_probe(path: str) -> bool:
    """Whether a path, or a gRPC method, is asked for health alone: by orchestrators, every few seconds."""
    return _PROBE(path) is not None


def clean(text: str, most: int) -> str:
    """A caller's words as printable ASCII without spaces or quotes, at most `most` characters of them."""
    if len(text) > most:
        return clean(text[:most], most) + "..."
    return text if _PLAIN(text) else quote(text, safe=_SAFE, errors="replace")


@lru_cache(512)
def _clean_path(path: str) -> str:
    # Most requests are for one of few paths.
    return clean(path, MAX_PATH)


def _as_json(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _as_text(line: Line) -> bytes:
    parts = [line.time, str(line.status), line.method, line.path, f"{line.ms:.3f}ms"]
    if line.model:
        parts.append(f"{clean(line.model, MAX_ID)}/{clean(line.version, MAX_ID)}")
    named = {"batch": line.batch, "id": line.request_id, "trace": line.trace_id, "client": line.client}
    parts += [f"{name}={value}" for name, value in named.items() if value]
    return (" ".join(parts) + "\n").encode()


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest is what its caller put into `extra`."""


class JsonLines(logging.Formatter):
    """Records of any logger as one JSON object a line.

    A record that was given an `event` (those of the audit log) has it there, with what else came in `extra`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Stamp()

    def format(self, record: logging.LogRecord) -> str:
        """The record, with its traceback as one text if it has one."""
        line = {
            "time": self._stamp(record.created),
            "event": "log",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _printable(record.getMessage()),
        }
        if isinstance(getattr(record, "event", None), str):
            given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            line |= {name: _printable(v) if isinstance(v, str) else v for name, v in given.items()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class TextLines(logging.Formatter):
    """Records as `time level logger: message`, one line each but for tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Stamp()

    def format(self, record: logging.LogRecord) -> str:
        """The record; control characters of its message are escaped."""
        message = _printable(record.getMessage())
        text = f"{self._stamp(record.created)} {record.levelname.lower()} {record.name}: {message}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(form: LogFormat, level: int = logging.INFO) -> None:
    """Send all loggers' records to stderr in this form. For the command to call, not for a library."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("modelport").setLevel(level)


def _printable(text: str) -> str:
    """`text` with what would start a line or move a terminal written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
