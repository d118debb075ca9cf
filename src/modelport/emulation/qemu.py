"""qemu's user-mode emulation: programs for another processor, run on this Linux."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from functools import cache

LEAST = (7, 2)
"""The first version that emulates AVX2."""
INSTALL = "apt install qemu-user-static (Debian, Ubuntu), dnf install qemu-user-static (Fedora)"


def program(architecture: str) -> str | None:
    """Where `qemu-ARCHITECTURE` is, statically linked or not; None where there is none."""
    return shutil.which(f"qemu-{architecture}-static") or shutil.which(f"qemu-{architecture}")


def refuses(architecture: str) -> str:
    """Why programs for that processor cannot be run here, and what to install; empty where they can."""
    if platform.system() != "Linux":
        return f"qemu's user-mode emulation runs on Linux, and this is {platform.system()}"
    if (found := program(architecture)) is None:
        return f"there is no qemu-{architecture}: {INSTALL}"
    version = _version(found)
    if version < LEAST:
        said = ".".join(map(str, version)) or "unknown"
        return f"{found} is version {said}, and at least {LEAST[0]}.{LEAST[1]} is needed: {INSTALL}"
    return ""


@cache
def _version(found: str) -> tuple[int, ...]:
    try:
        said = subprocess.run(
            [found, "--version"], capture_output=True, text=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"version (\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else ()
