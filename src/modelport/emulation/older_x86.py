"""A PC's processor of 2013: this Python and this ONNX Runtime on an emulated Haswell, without VNNI.

There 8-bit products of unsigned and signed numbers are added in pairs in 16 bits, which saturate.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from . import qemu

PROGRAM = Path(__file__).parent / "child" / "graphs.py"
# Of what a Haswell has, qemu lacks these, which no program here uses; it would warn of each.
CPU = "Haswell-noTSX,tsc-deadline=off,pcid=off,x2apic=off,invpcid=off"


class OlderX86(msgspec.Struct, frozen=True):
    """Runs the Python that runs this."""

    name: str = "haswell"
    title: str = "a PC of 2013 with AVX2 alone (Intel Haswell)"
    machine: str = "x86_64-avx2"

    def reason(self) -> str:
        """Why it cannot be used here; empty where it can."""
        if platform.machine().lower() not in ("x86_64", "amd64"):
            return f"it runs this Python, which is for {platform.machine()} and not for x86_64"
        return qemu.refuses("x86_64")

    def ready(self) -> bool:
        """Nothing is ever fetched."""
        return True

    def prepare(self, tell: Callable[[str], None]) -> str:
        """The engine that will run."""
        try:
            return f"onnxruntime {version('onnxruntime')}"
        except PackageNotFoundError:
            return "onnxruntime"

    def command(self, jobs: str, seconds: float) -> list[str]:
        """What runs the file of jobs from within its folder."""
        emulated = [qemu.program("x86_64") or "qemu-x86_64", "-cpu", CPU]
        return [*emulated, sys.executable, "-I", str(PROGRAM), jobs, str(seconds)]
