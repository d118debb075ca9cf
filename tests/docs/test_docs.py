"""What the documentation says is executed: every block of shell or Python in README.md and docs/.

A block is preceded by `<!-- run -->`, or by `<!-- not run: why -->`. The blocks of a page run in order, in
one shell, in a folder that holds what the pages assume: model.onnx (and model.pt, model.h5 where a block
says `frameworks`; detector.onnx, classes.txt, a folder `scenes` and film.mp4 where one says `detector`),
labels.txt, and a folder `photos`.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from .models import write_detector, write_frameworks, write_onnx, write_photos

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "README.zh.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"^(?:<!-- (?P<mode>(?:not )?run)(?P<about>[^\n]*) -->\n)?```(?P<lang>bash|python)\n(?P<code>.*?)^```$",
    re.M | re.S,
)
PORT = re.compile(r"\b81[0-9]{2}\b")


class Block(NamedTuple):
    mode: str | None
    about: str
    lang: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    return [
        Block(m["mode"], m["about"] or "", m["lang"], m["code"]) for m in FENCE.finditer(page.read_text())
    ]


def runs(page: Path) -> bool:
    return any(block.mode == "run" for block in blocks_of(page))


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_says_whether_it_is_run(page: Path) -> None:
    for block in blocks_of(page):
        assert block.mode, f"add <!-- run --> or <!-- not run: why --> before:\n{block.code}"
        assert block.mode == "run" or len(block.about) > 4, "say why it is not run"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def shell(blocks: list[Block], port: int) -> str:
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for block in blocks:
        code = PORT.sub(str(port), block.code)
        lines.append(f"python - <<'END_OF_BLOCK'\n{code}END_OF_BLOCK" if block.lang == "python" else code)
    return "\n".join(lines)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def of_frameworks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What only PyTorch and Keras can write, made for the first page that asks for it."""
    folder = tmp_path_factory.mktemp("frameworks")
    write_frameworks(folder)
    return folder


@pytest.mark.frameworks
@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=page_id)
def test_the_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    blocks = [block for block in blocks_of(page) if block.mode == "run"]
    if not shutil.which("curl"):
        pytest.skip("the pages use curl, which is not installed")
    write_onnx(tmp_path)
    write_photos(tmp_path / "photos")
    if any("frameworks" in block.about for block in blocks):
        shutil.copytree(request.getfixturevalue("of_frameworks"), tmp_path, dirs_exist_ok=True)
    if any("detector" in block.about for block in blocks):
        write_detector(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin")
    done = subprocess.run(
        ["bash", "-c", shell(blocks, free_port())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_command_line_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "reference" / "cli.md").read_text()
    out = subprocess.run(
        [sys.executable, "-c", "from cli_reference import page; print(page(), end='')"],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=True,
    )
    assert written == out.stdout, "run python scripts/cli_reference.py"
