"""Run as a process of its own by the tests: confines itself, tries what must not work, and prints JSON.

python confined.py FOLDER OUTSIDE PORT
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from modelport.isolation.child.sandbox import confine

MEMORY = 1 << 30


def tried(attempt: object) -> str:
    try:
        attempt()  # type: ignore[operator]
    except MemoryError:
        return "MemoryError"
    except OSError as problem:
        return type(problem).__name__
    return "worked"


def main(folder: str, outside: str, port: int) -> None:
    before = tried(lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close())
    report = confine(folder, MEMORY, 60)
    thread = threading.Thread(target=lambda: None)
    results = {
        "before": before,
        "connect": tried(lambda: socket.create_connection(("127.0.0.1", port), timeout=5)),
        "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
        "program": tried(lambda: subprocess.run(["true"], check=False)),
        "fork": tried(os.fork),
        "signal": tried(lambda: os.kill(os.getppid(), 0)),
        "write outside": tried(lambda: Path(outside, "new").write_text("x")),
        "remove outside": tried(lambda: Path(outside, "old").unlink()),
        "read outside": tried(lambda: Path(outside, "old").read_text()),
        "write inside": tried(lambda: Path(folder, "new").write_text("x")),
        "memory": tried(lambda: bytearray(2 * MEMORY)),
        "thread": tried(lambda: (thread.start(), thread.join())),
    }
    print(json.dumps({"report": report, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
