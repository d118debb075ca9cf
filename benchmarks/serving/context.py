"""What every scenario is given: the limit's processes, how long to measure, and whom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .contestants import missing, peers
from .limit import Limit
from .measure import Baseline, Row, Say, Settings, measure
from .models import Model
from .process import Failed, Server
from .result import Result


@dataclass(frozen=True)
class Context:
    """One run of `python -m benchmarks.serving`."""

    limit: Limit
    settings: Settings
    only: str
    """A regular expression: servers whose name it does not match are passed over."""
    say: Say
    failures: list[str] = field(default_factory=list)
    """Servers that could not be measured, and why; they end up below the tables."""

    def rows(
        self, servers: Sequence[Server], model: str, connections: Sequence[int], baseline: Baseline
    ) -> list[Row]:
        """Measure one server after the other."""
        rows: list[Row] = []
        for server in servers:
            if re.search(self.only, server.name):
                try:
                    rows += measure(server, model, connections, baseline, self.settings, self.say)
                except Failed as problem:
                    self.failed(problem)
        return rows

    def failed(self, problem: Failed) -> None:
        """Say so, and go on without that server."""
        self.failures.append(f"not measured: {problem}")
        self.say(f"FAILED {problem} (its log: {problem.log})")

    def peers(self, names: Sequence[str], model: Model, workers: int, result: Result) -> list[Server]:
        """The peers that are installed; those that are not are noted in the result."""
        found, left_out = peers(names, model, workers)
        result.notes += [line for line in left_out if line not in result.notes]
        return found

    def lacks(self, names: Sequence[str], result: Result) -> None:
        """Note which peers are not installed."""
        result.notes += [line for line in missing(names) if line not in result.notes]
