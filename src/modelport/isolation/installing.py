"""A virtual environment and pip inside it, as processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import Unsupported

Note = Callable[[str], None]

OFFLINE = re.compile(
    r"name resolution|name or service not known|network is unreachable|connection refused|no route to host"
    r"|failed to establish a new connection|timed out|nodename nor servname|proxyerror|connection broken",
    re.IGNORECASE,
)
# They would put packages elsewhere, or let the caller's own be imported.
FOREIGN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
)
KEPT_LINES = 40


def new(folder: Path, tell: Note) -> None:
    """A virtual environment with the Python that runs this, and pip in it.

    Raises:
        Unsupported: this Python cannot make one.
    """
    tell("making a virtual environment")
    code, lines = _run([sys.executable, "-m", "venv", str(folder)], tell=None)
    if code:
        raise Unsupported(
            f"this Python cannot make virtual environments: {lines[-1] if lines else code}",
            hint="on Debian and Ubuntu: apt install python3-venv",
        )


def install(folder: Path, requirements: Sequence[str], *, alone: bool, tell: Note) -> None:
    """Run the environment's pip; the settings of pip (index, proxy, cache) are the user's own.

    Raises:
        Unsupported: no package index is reached, or pip fails for another reason.
    """
    python = str(folder / "bin" / "python")
    tell(f"installing {', '.join(requirements)}")
    command = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", *(["--no-deps"] if alone else []), *requirements]
    code, lines = _run(command, tell=tell)
    if not code:
        return
    offline = next((line for line in lines if OFFLINE.search(line)), None)
    if offline:
        # Of pip's line the reason alone: the retries and the connection's address in memory say nothing.
        reason = re.search(r">: ([^'\"]+)", offline)
        raise Unsupported(
            "no package index can be reached, so the environment was not made: "
            f"{_short(reason[1] if reason else offline)}",
            hint="go on line and try again, or point pip at a mirror (PIP_INDEX_URL, pip.conf), "
            f"or install into the current environment: {' '.join(requirements)}",
        )
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    raise Unsupported(
        f"pip could not install {', '.join(requirements)}: {_short(errors[-1] if errors else str(code))}",
        hint="is this machine on line, and does its package index hold that? Nothing was kept of it",
    )


def _run(command: Sequence[str], tell: Note | None) -> tuple[int, list[str]]:
    """Exit code and the last lines; `tell` hears what is fetched and installed."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.strip())
                if tell is not None and (step := _step(line.strip())):
                    tell(step)
        except BaseException:
            process.kill()
            raise
    return process.returncode, list(lines)


def _step(line: str) -> str | None:
    """What a line of pip's says is being done; None where it says nothing of that."""
    if match := re.match(r"Downloading (\S+)(.*)", line):
        package, rest = match.groups()
        size = re.search(r"\([\d.]+ [kMG]?B\)", rest)
        name = "-".join(package.rpartition("/")[2].split("-")[:2])
        return f"downloading {name}" + (f" {size.group()}" if size else "")
    return "installing them" if line.startswith("Installing collected packages") else None


def _short(line: str) -> str:
    return line.removeprefix("ERROR: ").removeprefix("WARNING: ")[:300]
