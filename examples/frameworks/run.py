"""Every framework's example: made, packed, replayed, and written into a table.

python examples/frameworks/run.py                 all of them, and the table in docs/reference/frameworks.md
python examples/frameworks/run.py --only onnx     one; the others' lines stay
python examples/frameworks/run.py --real DIR      real models instead (real.toml), into the second table

A folder beside this file with a `row.toml` is an example:

    title = "…"           what the row is called
    environment = ""      the private environment that make.py runs in; "" is the current one
    source = "model"      the file or folder in OUT that is packed
    pack = ["--recipe", "raw"]    what `modelport pack` is given beside it; paths are relative to OUT
    samples = "photos"    a file or folder in OUT for --golden; left out where inputs are made up

and `make.py OUT`, which trains or builds the model in some seconds. Rows of real.toml have no `environment`;
their paths are relative to DIR, and a file that lies beside real.toml is written {here}/NAME.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modelport.isolation import environments

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "reference" / "frameworks.md"
HEADER = "| source | read by | seconds | peak memory | largest difference | allowed | same class | size |"
SECONDS = 900


class Row(NamedTuple):
    """An example, or a real model."""

    name: str
    title: str
    source: str
    pack: tuple[str, ...] = ()
    samples: str = ""
    environment: str = ""


class Failed(Exception):
    """A step that ended with another exit code than 0; the message is what it said."""


def examples() -> list[Row]:
    """The rows of the folders beside this file, by name."""
    return [_row(path.parent.name, _read(path)) for path in sorted(HERE.glob("*/row.toml"))]


def real() -> list[Row]:
    """The rows of real.toml, in its order."""
    return [_row(name, each) for name, each in _read(HERE / "real.toml").items()]


def run(row: Row, out: Path, data: Path | None = None, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Make (unless `data` holds it), pack and replay one row: the `conversion` object of `pack --json`.

    Args:
        row: what.
        out: an empty folder, for the model and the repository.
        data: the folder of real models.
        tell: told of every step.

    Raises:
        Failed: a step failed; nothing of it is hidden.
    """
    folder = data or out / "model"
    if data is None:
        folder.mkdir(parents=True)
        tell(f"{row.name}: making the model")
        _call([str(_python(row.environment, tell)), str(HERE / row.name / "make.py"), str(folder)], out)
    tell(f"{row.name}: packing")
    repo = out / "repo"
    arguments = [word.replace("{here}", str(HERE)) for word in row.pack]
    if row.samples:
        arguments += ["--golden", str(folder / row.samples)]
    command = [sys.executable, "-m", "modelport"]
    pack = [*command, "pack", str(folder / row.source), "-o", str(repo), "--name", row.name, "--json"]
    packed = json.loads(_call([*pack, "--isolate", *arguments], folder))
    tell(f"{row.name}: replaying")
    trust = ["--trust"] if packed["conversion"]["format"] == "python" else []
    replayed = json.loads(_call([*command, "verify", packed["path"], "--json", *trust], folder))
    if not replayed["ok"]:
        raise Failed(f"{row.name}: {replayed['reason']}")
    conversion: dict[str, Any] = packed["conversion"]
    return conversion


def line(row: Row, conversion: dict[str, Any]) -> str:
    """One row of the table."""
    compared, inputs = conversion["labels_compared"], "made-up" if conversion["generated"] else "recorded"
    agreeing = f"{conversion['labels_agreeing']} of {compared} {inputs}" if compared else "–"
    size, own = conversion["bytes"], "" if conversion["own_process"] else " (with Modelport)"
    cells = [
        row.title,
        conversion["source"],
        f"{conversion['seconds']:.1f}",
        f"{(conversion['peak_bytes'] or 0) / 2**20:.0f} MB{own}",
        f"{conversion['max_difference']:.1e}" if conversion["max_difference"] else "0",
        _allowed(conversion),
        agreeing,
        f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB",
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _allowed(conversion: dict[str, Any]) -> str:
    """The tolerance; of outputs without floats, that they are equal or not."""
    if not any(dtype.startswith("float") for dtype in conversion["dtypes"]):
        return "nothing: they are whole numbers or text"
    allowed = conversion["tolerance"]
    return f"{allowed['absolute']:.1e} + {allowed['relative']:.0e} of the value"


def write(marker: str, rows: Sequence[Row], lines: Mapping[str, str]) -> None:
    """Put lines into the page's table, in the order of `rows`; those of rows that were not run stay."""
    page = PAGE.read_text()
    pattern = re.compile(rf"(<!-- {marker}: begin -->\n)(.*?)(<!-- {marker}: end -->)", re.S)
    found = pattern.search(page)
    if found is None:
        raise Failed(f"{PAGE} has no markers for {marker!r}")
    there = {each.split(" | ")[0][2:]: each for each in found[2].splitlines()}
    kept = [lines.get(row.name) or there.get(row.title) for row in rows]
    table = "\n".join([HEADER, "|" + "---|" * 8, *(each for each in kept if each)])
    PAGE.write_text(page[: found.start()] + found[1] + table + "\n" + found[3] + page[found.end() :])


def main() -> int:
    """Run what the arguments say; 1 where a row failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="this row; the others stay as they are"
    )
    parser.add_argument("--real", type=Path, metavar="DIR", help="the real models of real.toml, in DIR")
    given = parser.parse_args()
    rows = real() if given.real else examples()
    chosen = [row for row in rows if not given.only or row.name in given.only]
    if not chosen:
        parser.error(f"no such row; there are {', '.join(row.name for row in rows)}")
    lines: dict[str, str] = {}
    failed: list[str] = []
    for row in chosen:
        with tempfile.TemporaryDirectory() as folder:
            data = given.real.resolve() if given.real else None
            try:
                measured = run(row, Path(folder), data, lambda step: print(step, file=sys.stderr))
                lines[row.name] = line(row, measured)
            except Failed as problem:
                failed.append(row.name)
                print(f"{row.name} FAILED: {problem}", file=sys.stderr)
    print("\n".join([HEADER, "|" + "---|" * 8, *lines.values()]))
    write("real" if given.real else "examples", rows, lines)
    if failed:
        print(f"failed: {', '.join(failed)}; their rows stay as they were", file=sys.stderr)
    return 1 if failed else 0


def _row(name: str, data: dict[str, Any]) -> Row:
    unknown = set(data) - {"title", "environment", "source", "pack", "samples"}
    if unknown:
        raise SystemExit(f"{name}: unknown in its row: {', '.join(sorted(unknown))}")
    pack = tuple(str(word) for word in data.get("pack", []))
    samples, environment = data.get("samples", ""), data.get("environment", "")
    return Row(name, data["title"], data["source"], pack, samples, environment)


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def _python(environment: str, tell: Callable[[str], None]) -> Path:
    """The interpreter that an example is made with; the environment is made where it is missing."""
    if not environment:
        return Path(sys.executable)
    table = environments.table(environment)
    if not environments.lacks(table):
        return Path(sys.executable)
    return environments.python_of(table) or environments.make(table, tell)


def _call(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        said = done.stderr.strip()[-2000:]
        raise Failed(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{said}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
