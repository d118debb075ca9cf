"""Runs the conformance suite against four servers and writes docs/reference/conformance.md.

    python scripts/conformance_scorecard.py [--only modelport,triton,kserve,mlserver] [--show]

Every contestant serves the four models of scripts/conformance/models.py. The peers run in environments of
their own (benchmarks/serving/README.md says how they are made), under MODELPORT_BENCH or
~/.cache/modelport-bench. One that is gone after a check is started again, so that the other checks count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from modelport.conformance.http import Link
from modelport.conformance.report import counts, printable
from modelport.conformance.run import chosen, run
from modelport.conformance.subject import Subject
from modelport.conformance.verdict import PARTS, Verdict

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "scripts" / "conformance"
PAGE = ROOT / "docs" / "reference" / "conformance.md"
CACHE = Path(os.environ.get("MODELPORT_BENCH", Path.home() / ".cache" / "modelport-bench"))
TITLES = {"modelport": "Modelport", "triton": "Triton", "kserve": "KServe", "mlserver": "MLServer"}
VENVS = {"triton": "pytriton"}
START = "<!-- scorecard: written by scripts/conformance_scorecard.py -->"
END = "<!-- end of the scorecard -->"


class Contestant:
    """One server, in a process group of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.port, self.grpc_port = _free_port(), _free_port()
        self._folder = folder
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again if need be, and wait until it is ready."""
        self.stop()
        self._starts += 1
        venv = VENVS.get(self.name, self.name)
        python = sys.executable if self.name == "modelport" else str(CACHE / "venv" / venv / "bin" / "python")
        folder = self._folder / f"{self.name}-{self._starts}"
        command = [
            python,
            str(HERE / f"{self.name}_start.py"),
            str(folder),
            str(self.port),
            str(self.grpc_port),
        ]
        log = (self._folder / f"{self.name}.log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        log.close()
        for _ in range(600):
            if self._process.poll() is not None:
                raise SystemExit(f"{self.name} ended; see {log.name}")
            try:
                url = f"http://127.0.0.1:{self.port}/v2/models/affine/ready"
                with urllib.request.urlopen(url, timeout=2) as reply:
                    if reply.status == 200:
                        time.sleep(1)  # gRPC may open a moment later
                        return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"{self.name} is not ready after two minutes; see {log.name}")

    def stop(self) -> None:
        """End it and what it started."""
        if self._process is None:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, how)
                self._process.wait(timeout=15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._process.wait()
        self._process = None


def judged(name: str, folder: Path) -> tuple[str, list[Verdict]]:
    """A server's version and the verdicts on it."""
    contestant = Contestant(name, folder)
    contestant.start()
    try:
        link = Link(f"http://127.0.0.1:{contestant.port}", timeout=15)
        subject = Subject(link, model="affine", grpc=f"127.0.0.1:{contestant.grpc_port}")
        version = str(link.get("v2").json()["version"])
        verdicts = []
        for verdict in run(subject, chosen(()), contestant.start):
            verdicts.append(verdict)
        return version, verdicts
    finally:
        contestant.stop()


def scorecard(found: dict[str, tuple[str, list[Verdict]]]) -> str:
    """The tables, in Markdown."""
    names = [f"{TITLES[name]} {version}" for name, (version, _) in found.items()]
    lines = ["| part | checks | " + " | ".join(names) + " |", "|---|--:|" + "--:|" * len(names)]
    for part in [*PARTS, "**all**"]:
        mine = {
            name: [each for each in verdicts if part in (each.check.part, "**all**")]
            for name, (_, verdicts) in found.items()
        }
        size = len(next(iter(mine.values())))
        lines.append(f"| {part} | {size} | " + " | ".join(_cell(each) for each in mine.values()) + " |")
    lines += [
        "",
        'A number is what passed. `✗` broke a "must", `△` a "should"; `–` is not offered.',
        "",
    ]
    for name, (version, verdicts) in found.items():
        lines += [f"### {TITLES[name]} {version}: what failed", ""]
        failures = [each for each in verdicts if each.outcome == "fail"]
        lines += [
            f"- {'△' if each.weight == 'should' else '✗'} `{each.check.name}`: {_told(each)}"
            for each in failures
        ]
        lines += [] if failures else ["Nothing."]
        lines.append("")
    return "\n".join(lines)


def _cell(verdicts: list[Verdict]) -> str:
    found = counts(verdicts)
    marks = [
        f"{found[key]} {sign}"
        for key, sign in (("fail", "✗"), ("should", "△"), ("not offered", "–"))
        if found[key]
    ]
    return ", ".join([str(found["pass"]), *marks])


def _told(verdict: Verdict) -> str:
    """A reason on one line of Markdown; ports, paths and identifiers of this run are left out."""
    text = re.sub(r"127\.0\.0\.1:\d+", "the server", printable(verdict.reason))
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "…", text)
    text = re.sub(r"/[\w./-]*/(site-packages|modelport-bench)/", "…/", text)
    text = text if len(text) <= 150 else text[:149] + "…"
    return re.sub(r"([<>|*_`\[\]{}])", r"\\\1", text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run them one after the other, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(TITLES), help="which, separated by commas")
    parser.add_argument("--show", action="store_true", help="print the tables instead of writing the page")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        found = {name: judged(name, folder) for name in asked.only.split(",")}
    except SystemExit:
        for log in folder.glob("*.log"):
            print(log, log.read_text(errors="replace")[-2000:], file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({name: counts(verdicts) for name, (_, verdicts) in found.items()}))
    if asked.show:
        print(scorecard(found))
        return
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}\n\n{scorecard(found)}\n{END}{after}")


if __name__ == "__main__":
    main()
