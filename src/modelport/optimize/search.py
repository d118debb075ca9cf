"""The search: candidates are made, judged on the same items, measured by turns, and the best is chosen.

What was found out about a candidate is kept in the work folder at once: a search that was interrupted goes on
where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.store import Bundle
from ..errors import InputError, ModelFailed, ModelportError, Unsupported
from ..evaluate.values import Evaluation
from . import measure
from .calibration import Calibration, read_calibration
from .candidate import START, Candidate, NotApplicable, Pass, apply, network_of
from .choose import gate_reason
from .explain import fused
from .judge import Gate, Judgement, agreement, evaluated, judged
from .outcome import Entry
from .passes.half import Half
from .passes.int8 import DynamicInt8, StaticInt8
from .passes.simplify import Simplify
from .sensitivity import layers

SHARE_OF_MAKING = 0.75
"""Of the time budget; the rest is for measuring."""
FLOAT_STEPS = (1, 2, 4, 8, 16, 32)
"""Layers that are put back to float, until the gate passes."""

Tell = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the search may do."""

    margin: float = 0.5
    """The loss that is accepted, in points."""
    gate: Gate = "interval"
    seconds: float = 600.0
    portable: bool = False
    """Only 8 bits that no processor overflows on."""
    evaluation: dict[str, Any] = {}
    """Settings of `evaluate`: split, target, …"""


class Search:
    """One search in one work folder."""

    def __init__(
        self, bundle: Bundle, data: Path, labelled: Path | None, work: Path, plan: Plan, tell: Tell
    ) -> None:
        self.bundle = bundle
        self.data = data
        self.plan = plan
        self.tell = tell
        self.labelled = labelled
        self._begun = time.monotonic()
        self._work = work / _key(bundle, data, labelled, plan)
        self._work.mkdir(parents=True, exist_ok=True)
        self.start = self._opened(START, lambda place: _plain(bundle, place))
        self.calibration: Calibration = read_calibration(self.start, data)
        self._truth: Evaluation | None = None
        self._seen: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        """Where the candidates are."""
        return self._work

    def passes(self) -> Iterator[Pass]:
        """What is tried, the likeliest first."""
        yield Half()
        yield DynamicInt8()
        if not self.plan.portable:
            for calibrator in ("minmax", "percentile", "entropy"):
                yield StaticInt8(calibrator=calibrator)
        yield StaticInt8(reduced=True)
        yield StaticInt8(weights="u8", per_channel=False)

    def run(self) -> tuple[list[Entry], dict[str, Candidate]]:
        """Every candidate with its judgement, the START first; those that pass are measured."""
        base, simplified = self._simplified()
        entries: list[Entry] = [simplified] if simplified is not None else []
        made: dict[str, Candidate] = {}
        if simplified is not None and simplified.status == "kept":
            made[simplified.id] = self._candidate(Simplify(), self.start)
        for step in self.passes():
            entry, candidate = self._tried(step, base)
            entries.append(entry)
            if candidate is not None:
                made[entry.id] = candidate
        mixed = self._mixed(base, entries, made)
        entries += mixed
        return self._measured(entries, made), made

    def _simplified(self) -> tuple[Bundle, Entry | None]:
        """What the other passes work on: the simplified network where that passes the gate."""
        entry, candidate = self._tried(Simplify(), self.start)
        if candidate is not None and entry.status == "kept":
            return candidate.bundle, entry
        return self.start, entry

    def _tried(self, step: Pass, base: Bundle) -> tuple[Entry, Candidate | None]:
        if self.spent() > SHARE_OF_MAKING * self.plan.seconds:
            return self._skipped(step, "not tried: the time budget was spent"), None
        self.tell(f"{step.title}: making it")
        try:
            candidate = self._candidate(step, base)
        except (NotApplicable, Unsupported) as problem:
            reason = (
                f"{problem.message}; {problem.hint}" if isinstance(problem, Unsupported) else str(problem)
            )
            return self._skipped(step, reason), None
        if (twin := self._twin(candidate)) is not None:
            return self._skipped(step, f"the same network as {twin}, byte for byte"), None
        self.tell(f"{step.title}: comparing its answers")
        try:
            judgement = self._judged(candidate)
        except (ModelFailed, InputError, ModelportError) as problem:
            reason = f"it does not run: {problem}"
            return Entry(id=step.id, title=step.title, status="refused", reason=reason), None
        status = {"passes": "kept", "undecided": "undecided", "fails": "refused"}[judgement.verdict]
        entry = Entry(
            id=candidate.id,
            title=candidate.title,
            status=status,  # type: ignore[arg-type]
            reason=gate_reason(judgement, self.plan.margin),
            passes=candidate.passes,
            notes=candidate.notes,
            explained=fused(candidate.bundle.graph("net")).sentence(),
            judgement=judgement,
        )
        return entry, candidate

    def _twin(self, candidate: Candidate) -> str | None:
        """The candidate with the same network that was there before; None where there is none."""
        manifest = candidate.bundle.manifest
        digest = manifest.files[manifest.graphs.net.file].sha256
        first = self._seen.setdefault(digest, candidate.id)
        return first if first != candidate.id else None

    def _skipped(self, step: Pass, reason: str) -> Entry:
        return Entry(id=step.id, title=step.title, status="skipped", reason=reason)

    def _candidate(self, step: Pass, base: Bundle) -> Candidate:
        kept = self._work / f"{step.id}.json"
        place = self._work / step.id
        if kept.is_file() and place.is_dir():
            notes = msgspec.json.decode(kept.read_bytes(), type=tuple[str, ...])
            return Candidate(step.id, step.title, Bundle.open(place), (step.id,), notes)
        candidate = apply(step, base, self.calibration, self._work)
        kept.write_bytes(msgspec.json.encode(candidate.notes))
        return candidate

    def _judged(self, candidate: Candidate) -> Judgement:
        kept = self._work / f"{candidate.id}.judgement.json"
        if kept.is_file():
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(kept.read_bytes(), type=Judgement)
        if self.labelled is None:
            found = agreement(
                self.start, candidate.bundle, self.calibration, self.plan.margin, self.plan.gate
            )
        else:
            other = evaluated(candidate.bundle, self.labelled, self.plan.evaluation)
            found = judged(self.truth(), other, self.plan.margin, self.plan.gate)
        kept.write_bytes(msgspec.json.encode(found))
        return found

    def truth(self) -> Evaluation:
        """The START on the labelled data."""
        if self._truth is None:
            assert self.labelled is not None
            self.tell("evaluating the START")
            self._truth = evaluated(self.start, self.labelled, self.plan.evaluation)
        return self._truth

    def _mixed(self, base: Bundle, entries: list[Entry], made: dict[str, Candidate]) -> list[Entry]:
        """The best 8-bit candidate that does not pass, with layers put back to float until it does."""
        static = [entry for entry in entries if entry.id.startswith(StaticInt8.name) and entry.id in made]
        if not static or any(entry.status == "kept" for entry in static):
            return []
        nearest = min(static, key=lambda entry: entry.judgement.loss if entry.judgement else 100.0)
        step = next(each for each in self.passes() if each.id == nearest.id)
        assert isinstance(step, StaticInt8)
        self.tell(f"{nearest.title}: which layers lose the answers")
        ranked = layers(network_of(base), network_of(made[nearest.id].bundle), self.calibration)
        found: list[Entry] = []
        for count in FLOAT_STEPS:
            if count >= len(ranked):
                break
            kept = tuple(sorted(layer.name for layer in ranked[:count]))
            entry, candidate = self._tried(msgspec.structs.replace(step, kept=kept), base)
            found.append(entry)
            if candidate is not None:
                made[entry.id] = candidate
            if entry.status == "kept" or entry.status == "skipped":
                break
        return found

    def _measured(self, entries: list[Entry], made: dict[str, Candidate]) -> list[Entry]:
        """The START and those that pass, measured by turns."""
        bundles = {START: self.start}
        bundles |= {entry.id: made[entry.id].bundle for entry in entries if entry.status == "kept"}
        self.tell(f"measuring {len(bundles)} by turns")
        items = self.calibration.items
        times = measure.latencies(bundles, items)
        rates = measure.throughputs(bundles, items)
        figures = {
            name: measure.figures(bundle, times[name], times[START], rates[name], items[0])
            for name, bundle in bundles.items()
        }
        start = Entry(
            id=START,
            title="as it is",
            status="start",
            reason="what all is compared with",
            figures=figures[START],
        )
        return [start] + [
            msgspec.structs.replace(entry, figures=figures[entry.id]) if entry.id in figures else entry
            for entry in entries
        ]

    def spent(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._begun

    def _opened(self, name: str, make: Callable[[Path], Bundle]) -> Bundle:
        place = self._work / name
        return Bundle.open(place) if place.is_dir() else make(place)


def _plain(bundle: Bundle, place: Path) -> Bundle:
    """The bundle without variants: the network as it was packed."""
    variants = {variant.file: None for variant in bundle.manifest.variants}
    version = f"{bundle.manifest.version}-{START}"[:64]
    return bundle.derive(place, variants, version=version, variants=())


def _key(bundle: Bundle, data: Path, labelled: Path | None, plan: Plan) -> str:
    """The same for the same question, so that what was found before still holds."""
    said = [bundle.digest, str(data.resolve()), str(labelled and labelled.resolve())]
    said += [repr(plan.margin), plan.gate, repr(plan.evaluation)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
