"""Verdicts as a scorecard: text for a terminal, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .verdict import PARTS, Verdict


def failed(verdicts: Sequence[Verdict]) -> bool:
    """Whether any check failed, by a "must" or by a "should"."""
    return any(verdict.outcome == "fail" for verdict in verdicts)


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many passed, failed by a "must", failed by a "should", and were not offered."""
    found = {"pass": 0, "fail": 0, "should": 0, "not offered": 0}
    for verdict in verdicts:
        lesser = verdict.outcome == "fail" and verdict.weight == "should"
        found["should" if lesser else verdict.outcome] += 1
    return found


def text(verdicts: Sequence[Verdict], *, all_checks: bool = False) -> str:
    """What failed with its reason (everything with `all_checks`), then the scorecard by part."""
    lines: list[str] = []
    for verdict in verdicts:
        if verdict.outcome == "fail" or all_checks:
            word = "should" if verdict.outcome == "fail" and verdict.weight == "should" else verdict.outcome
            lines.append(f"{word:<12}{verdict.check.name}")
            lines.append(f"            rule    {verdict.check.rule} [{verdict.check.source}]")
            if verdict.reason:
                lines.append(f"            reason  {printable(verdict.reason)}")
    if lines:
        lines.append("")
    lines.append(f"{'part':<16}{'pass':>6}{'fail':>6}{'should':>8}{'not offered':>13}")
    for part in PARTS:
        mine = [verdict for verdict in verdicts if verdict.check.part == part]
        if mine:
            lines.append(_row(part, mine))
    lines.append(_row("all", verdicts))
    return "\n".join(lines)


def as_json(server: dict[str, Any], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Everything, for a program."""
    return {
        "server": server,
        "counts": counts(verdicts),
        "checks": [
            {
                "name": verdict.check.name,
                "part": verdict.check.part,
                "rule": verdict.check.rule,
                "source": verdict.check.source,
                "outcome": verdict.outcome,
                "weight": verdict.weight,
                "reason": verdict.reason,
            }
            for verdict in verdicts
        ],
    }


def printable(words: str) -> str:
    """A server's words without control characters, which a terminal would obey."""
    return "".join(sign if sign.isprintable() else "·" for sign in words)


def _row(name: str, verdicts: Sequence[Verdict]) -> str:
    found = counts(verdicts)
    return f"{name:<16}{found['pass']:>6}{found['fail']:>6}{found['should']:>8}{found['not offered']:>13}"
