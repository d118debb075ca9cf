"""What a scenario finds, as JSON and as Markdown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import machine
from .measure import Row
from .places import HERE, RESULTS

SCHEMA = "modelport.benchmark/1"
BARE = "a bare socket"
"""No peer, but what a machine allows."""


@dataclass(frozen=True)
class Table:
    """Cells as they are printed."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """A table with its title above."""
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.columns, *self.rows)]
        lines.insert(1, "|" + "---|" * len(self.columns))
        return "\n".join([f"**{self.title}**", "", *lines, ""])


@dataclass(frozen=True)
class Goal:
    """A figure that was wished for beforehand."""

    what: str
    wanted: float
    got: float | None
    """None where it was not measured."""
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is there."""
        if self.got is None:
            return False
        return self.got <= self.wanted if self.at_most else self.got >= self.wanted

    def cells(self) -> list[str]:
        """A line of a table."""
        bound = "at most" if self.at_most else "at least"
        met = "yes" if self.met else "**no**"
        return [self.what, f"{bound} {_short(self.wanted)}", _short(self.got), met]


@dataclass
class Result:
    """One scenario's tables, with what they stand on."""

    name: str
    title: str
    about: str
    """How it was measured, in a paragraph."""
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    """Every round of every row, for whoever wants to work it out again."""
    command: str = ""
    settings: str = ""
    date: str = ""
    commit: str = ""
    machine: dict[str, str] = field(default_factory=dict)

    def keep(self, rows: Sequence[Row]) -> None:
        """Take rows with their rounds, and their notes once each."""
        self.measured += [asdict(row) for row in rows]
        self.notes += sorted({f"{row.server}: {row.note}" for row in rows if row.note} - set(self.notes))

    def save(self, folder: Path = RESULTS) -> Path:
        """Write `folder/NAME.json`, with the date, the commit and the machine."""
        self.date, self.machine = datetime.now(UTC).strftime("%Y-%m-%d"), machine.about()
        self.commit = _commit()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps({"schema": SCHEMA} | _rounded(asdict(self)), indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read what `save` wrote.

        Raises:
            ValueError: another schema.
        """
        data = json.loads(path.read_text())
        if data.pop("schema", None) != SCHEMA:
            raise ValueError(f"{path}: expected the schema {SCHEMA}")
        data["tables"] = [Table(**table) for table in data["tables"]]
        data["goals"] = [Goal(**goal) for goal in data["goals"]]
        return cls(**data)

    def markdown(self) -> str:
        """A section of the report."""
        parts = [f"## {self.title}", "", self.about, "", f"`{self.command}`", ""]
        parts += [table.markdown() for table in self.tables]
        if self.goals:
            cells = [goal.cells() for goal in self.goals]
            parts.append(Table("Goals", ["what", "goal", "measured", "met"], cells).markdown())
        parts += [f"- {note}" for note in self.notes]
        told = "; ".join(self.machine.values())
        parts += ["", f"*{self.settings}; {self.date}, commit {self.commit}; {told}.*", ""]
        return "\n".join(parts)


def _rate(row: Row) -> str:
    return f"{row.rate:,.0f}" if row.rate >= 100 else f"{row.rate:.1f}"


def _name(row: Row) -> str:
    return row.server if row.others < 0.3 else f"{row.server} (others used {row.others:.1f} cores)"


def _errors(row: Row) -> str:
    return f"{row.lost} lost, {row.refused} refused" if row.lost or row.refused else "0"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "server": _name,
    "wire": lambda row: row.wire,
    "clients": lambda row: str(row.connections),
    "answers/s": _rate,
    "of one core": lambda row: f"{row.of_one:.2f}",
    "of two cores": lambda row: f"{row.of_two:.2f}",
    "p50 ms": lambda row: f"{row.p50 * 1e3:.2f}",
    "p99 ms": lambda row: f"{row.p99 * 1e3:.2f}",
    "CPU us": lambda row: f"{row.cpu * 1e6:,.0f}",
    "beyond the network us": lambda row: f"{row.overhead * 1e6:,.0f}",
    "MiB": lambda row: f"{row.memory:.0f}",
    "start s": lambda row: f"{row.started:.1f}",
    "errors": _errors,
}


def standard(title: str, rows: Sequence[Row], **renamed: str | None) -> Table:
    """The usual columns; `of_one="of the ideal"` calls one otherwise, None leaves it out."""
    columns = {renamed.get(name.replace(" ", "_"), name): cell for name, cell in COLUMNS.items()}
    shown = {name: cell for name, cell in columns.items() if name is not None}
    return Table(title, list(shown), [[cell(row) for cell in shown.values()] for row in rows])


def pick(rows: Sequence[Row], server: str, connections: int) -> Row | None:
    """The row of a server under a load."""
    return next((row for row in rows if row.server == server and row.connections == connections), None)


def best(rows: Sequence[Row], connections: int, *, own: bool) -> Row | None:
    """The fastest of Modelport's rows, or of the peers'."""
    of_kind = [
        row
        for row in rows
        if row.connections == connections
        and row.server.startswith("modelport") == own
        and not row.server.startswith(BARE)
    ]
    return max(of_kind, key=lambda row: row.rate, default=None)


def figure(row: Row | None, key: str) -> float | None:
    """One of a row's figures; None where the row is missing."""
    return None if row is None else float(getattr(row, key))


def over(ours: Row | None, theirs: Row | None) -> float | None:
    """The ratio of two rows' rates; None where one is missing."""
    return ours.rate / theirs.rate if ours and theirs else None


def ahead(rows: Sequence[Row], connections: int, where: str = "") -> Goal:
    """The goal to answer more requests than every peer that was measured."""
    peer = best(rows, connections, own=False)
    words = f"answers a second over the fastest peer's ({peer.server if peer else 'none measured'}){where}"
    return Goal(words, 1.0, over(best(rows, connections, own=True), peer))


def _short(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    """Floats at five digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def _commit() -> str:
    """The commit, and `-dirty` where what runs differs from it; earlier results do not."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(HERE.parents[1]), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/**/*.py")
        return git("rev-parse", "--short=9", "HEAD") + "-dirty" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
