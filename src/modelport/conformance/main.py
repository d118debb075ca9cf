"""`modelport-conformance URL`: how well a server keeps to the Open Inference Protocol."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ..errors import ModelportError, UsageError
from .http import Link
from .report import as_json, failed, text
from .run import chosen, run
from .subject import Subject
from .verdict import PARTS, Wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 where nothing failed, 1 where something did, else the error's code."""
    asked = _parser().parse_args(arguments)
    try:
        link = Link(asked.url, timeout=asked.timeout, headers=dict(map(_header, asked.header)))
        checks = chosen(asked.only)
        subject = Subject(link, model=asked.model, grpc=asked.grpc)
    except ModelportError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    server = _server(subject)
    verdicts = []
    for verdict in run(subject, checks):
        verdicts.append(verdict)
        if sys.stderr.isatty():
            print(f"\r{len(verdicts)}/{len(checks)}", end="\r", file=sys.stderr)
    if subject.rpc:
        subject.rpc.close()
    if asked.json:
        print(json.dumps(as_json(server, verdicts), indent=1))
    else:
        print(f"{server['name']} {server['version']} at {asked.url}, model {subject.model.name}\n")
        print(text(verdicts, all_checks=asked.all))
    return int(failed(verdicts))


def _server(subject: Subject) -> dict[str, object]:
    try:
        data = subject.link.get("v2").json()
        found = {"name": data.get("name"), "version": data.get("version")}
    except (Wrong, AttributeError):
        found = {"name": None, "version": None}
    return {**found, "model": subject.model.name, "extensions": sorted(subject.extensions)}


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or "\n" in line or "\r" in line:
        raise UsageError(f"--header {line!r} is not NAME: VALUE")
    return name.strip(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelport-conformance",
        description="Check any server against the Open Inference Protocol v2, over the wire.",
        epilog=f"parts: {', '.join([*dict.fromkeys(PARTS.values()), *PARTS])}",
    )
    parser.add_argument("url", metavar="URL", help="the server, http://HOST:PORT")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="its gRPC side; without, gRPC is not offered")
    parser.add_argument("--model", metavar="NAME", help="the model to use; without, one is looked for")
    parser.add_argument(
        "--only", metavar="PART", action="append", default=[], help="a part, group or check; several times"
    )
    parser.add_argument("--header", metavar="NAME: VALUE", action="append", default=[], help="sent each time")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for a reply (20)")
    parser.add_argument("--all", action="store_true", help="show what passed, too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
