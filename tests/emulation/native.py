"""This machine as if it were another one: what runs graphs elsewhere, run here without an emulator."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

from modelport.emulation.older_x86 import PROGRAM

# Runs the program, and then moves the last value of the first output by the smallest step that there is.
WITH_A_FAULT = """
import runpy, sys
import numpy as np
program, file = sys.argv[1], sys.argv[4]
sys.argv = [program, *sys.argv[2:4]]
runpy.run_path(program, run_name="__main__")
values = np.fromfile(file, np.float32)
values[-1] = np.nextafter(values[-1], np.float32(9))
values.tofile(file)
"""


class Native(msgspec.Struct, frozen=True):
    """Runs the same program as the emulated PC does."""

    name: str = "native"
    title: str = "this machine"
    machine: str = "here"
    fault: str = ""
    """The file whose last value is changed after a run."""

    def reason(self) -> str:
        return ""

    def ready(self) -> bool:
        return True

    def prepare(self, tell: Callable[[str], None]) -> str:
        tell("nothing to do")
        return "onnxruntime"

    def command(self, jobs: str, seconds: float) -> list[str]:
        python = [sys.executable, "-I"]
        if self.fault:
            return [*python, "-c", WITH_A_FAULT, str(PROGRAM), jobs, str(seconds), self.fault]
        return [*python, str(PROGRAM), jobs, str(seconds)]
