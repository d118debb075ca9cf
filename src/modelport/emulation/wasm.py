"""WebAssembly, as in browsers: onnxruntime-web in Node.js."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..errors import Unsupported
from . import places

PROGRAM = Path(__file__).parent / "child" / "graphs.mjs"
PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
LEAST_NODE = 18


class Wasm(msgspec.Struct, frozen=True):
    """Runs Node.js with a package from npm that is installed once."""

    name: str = "wasm"
    title: str = "a browser's WebAssembly (onnxruntime-web in Node.js)"
    machine: str = "wasm"
    megabytes: int = 150
    licence: str = "onnxruntime-web is under MIT"

    @property
    def folder(self) -> Path:
        """Where the package is, or would be."""
        return places.folder("wasm", VERSION, PROGRAM.read_text(encoding="utf-8"))

    def reason(self) -> str:
        """Why it cannot be used here; empty where it can."""
        if shutil.which("node") is None:
            return "there is no node: install Node.js (apt install nodejs npm, or nodejs.org)"
        if not self.ready() and shutil.which("npm") is None:
            return f"there is no npm, with which {PACKAGE} is installed: apt install npm, or nodejs.org"
        return ""

    def ready(self) -> bool:
        """Whether the package is there."""
        return places.made(self.folder)

    def prepare(self, tell: Callable[[str], None]) -> str:
        """Install the package from npm, once.

        Raises:
            Unsupported: npm does not, as where there is no network.
        """
        with places.making(self.folder, tell) as folder:
            if folder is not None:
                tell(f"installing {PACKAGE} {VERSION} from npm, once (about {self.megabytes} MB in {folder})")
                _install(folder)
                shutil.copyfile(PROGRAM, folder / PROGRAM.name)
        return f"{PACKAGE} {VERSION}"

    def command(self, jobs: str, seconds: float) -> list[str]:
        """What runs the file of jobs from within its folder."""
        return [shutil.which("node") or "node", str(self.folder / PROGRAM.name), jobs, str(seconds)]


def _install(folder: Path) -> None:
    package = {"private": True, "dependencies": {PACKAGE: VERSION}}
    (folder / "package.json").write_text(json.dumps(package))
    command = [shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    command += ["--fetch-retries=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = re.findall(r"npm (?:error|ERR!) code (\w+)", done.stderr)
        raise Unsupported(
            f"npm could not install {PACKAGE} {VERSION}: {said[0] if said else done.returncode}",
            hint="go on line and try again, or point npm at a mirror (npm config set registry …)",
        )
