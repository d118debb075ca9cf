"""The search: candidates are made, judged on the same items, measured by turns, and the best is chosen.

What was found out about a candidate is kept in the work folder at once: a search that was interrupted goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import msgspec

from ..bundle.store import Bundle
from ..engine.settings import usable_cores
from ..errors import ModelportError, Unsupported
from ..sampling import evenly
from . import measure
from .bench.noise import disturbed, look
from .calibration import Calibration, read_calibration
from .candidate import START, Candidate, NotApplicable, Pass, apply, identity, network_of
from .choose import gate_reason
from .clock import Clock, Tell
from .elsewhere import seconds_kept
from .enough import dear, few_answers, few_labels, seen_few
from .explain import explained
from .found import Found, key_of
from .items import read_items
from .judge import PART, ByAgreement, ByLabels, Judge, Judgement, evaluated, same, same_answers
from .mixed import fewest, most
from .outcome import Entry, Recipe, Status
from .passes import catalogue
from .passes.frame import Frame
from .passes.heads import Heads
from .passes.int8 import StaticInt8
from .passes.reduced import Reduced, reductions
from .passes.runtime import OnRuntime
from .passes.shapes import StaticShapes
from .passes.simplify import Simplify
from .passes.unused import Unused
from .plan import Plan
from .sensitivity import layers
from .start import begun_from, plain, question
from .ways import Way, computed_alike, fastest, in_way, medians, refused, ways

DETECTION = "object-detection"
AGREEING = 1000
"""Items whose answers are compared where nothing is labelled: half a point needs about 600."""
SHARE_OF_LATENCY = 0.45
"""Of the time that is left for measuring when every candidate has been started once."""
GAIN = 0.97
"""Of the latency of the same network run in the usual way: another way with less is looked at closely."""
OPEN = 4
"""Undecided candidates that are measured, those that lose least."""
PREPARED_WAYS = 2
"""Networks that are run in other ways: the fastest that are right."""

EXACT, ALIKE = (Unused, StaticShapes), 8
"""Passes that change no arithmetic, and the items whose answers show it: where the bits are the same, no more
are asked."""

LATE = "not tried: the time budget was spent"
STATUSES: dict[str, Status] = {"passes": "kept", "undecided": "undecided", "fails": "refused"}


class Search:
    """One search in one work folder.

    Args:
        work: where it keeps what it found; one folder for each question in it.
        tell: told at each step.
    """

    def __init__(
        self, bundle: Bundle, data: Path, labelled: Path | None, work: Path, plan: Plan, tell: Tell
    ) -> None:
        self.bundle, self.plan = bundle, plan
        self.data, self.labelled = data, labelled
        self.clock = Clock(plan.seconds, tell, seconds_kept(plan.seconds, plan.portable))
        how = (plan.margin, plan.gate, plan.evaluation)
        self.found = Found(work / key_of(*question(bundle, data, labelled), *how))
        self.start = Candidate(
            START, "as it is", self.found.bundle(START, lambda place: plain(bundle, place)), ()
        )
        self.clock.say(f"{bundle.manifest.name} {bundle.manifest.version}: reading the items")
        with self._in_vain():
            self.calibration: Calibration = read_calibration(self.start.bundle, data)
        for note in self.calibration.notes:
            self.clock.say(note, lasting=True)
        self.notes: list[str] = []
        """What is to be known of the search itself."""
        self.entries: list[Entry] = []
        self.made: dict[str, Candidate] = {}
        self._judge: Judge | None = None
        self._few = ""
        """That the items are too few, where that was said."""
        self._seen = {identity(self.start): START}

    def bases(self) -> Iterator[Pass]:
        """Passes whose results the others work on, each on that of the one before, where that is right.

        Of several of one name the first that is right is taken.
        """
        manifest = self.bundle.manifest
        yield Unused(steps=manifest.steps.post)
        yield StaticShapes(shapes={spec.name: spec.shape for spec in manifest.graphs.pre.signature.outputs})
        yield Simplify()
        if manifest.task == DETECTION:
            yield Heads(steps=manifest.steps.post, channels_last=True)
            yield Heads(steps=manifest.steps.post)
            yield Frame(prepares=manifest.steps.pre, steps=manifest.steps.post)

    def passes(self) -> Iterator[Pass]:
        """What is tried on the base, the likeliest first."""
        yield from catalogue(self.plan, detector=self.bundle.manifest.task == DETECTION)

    def run(self) -> tuple[list[Entry], dict[str, Candidate]]:
        """Every candidate with its judgement, the START first; those that pass are measured.

        Raises:
            ModelportError: the labelled data cannot be read, as `evaluate` says; nothing was made then.
        """
        with self._in_vain():
            self._check()
        bases, steps = list(self.bases()), list(self.passes())
        self.clock.expect(len(bases) + len(steps))
        photos = self._smaller_photos()
        base, named = self.start, set[str]()
        for step in bases:
            if step.name in named:
                continue
            if isinstance(step, Heads | Frame):  # others than the START's, where something was changed
                step = msgspec.structs.replace(step, steps=base.bundle.manifest.steps.post)
            entry = self.tried(step, base)
            if entry.judgement is not None and _harmless(entry.judgement):
                base = self.made[entry.id]
                named.add(step.name)
        for step in steps:
            self.tried(step, base)
        self._mix(steps, base)
        self._other_ways(photos)
        return self._measured(), self.made

    @contextmanager
    def _in_vain(self) -> Iterator[None]:
        """What is refused before anything was made leaves nothing."""
        try:
            yield
        except ModelportError:
            if not self.found.before:
                self.found.forget()
            raise

    def _check(self) -> None:
        """What would be in vain is refused, or said, before anything is made."""
        self._note(begun_from(self.bundle))
        if self.found.before:
            many = "1 candidate" if self.found.before == 1 else f"{self.found.before} candidates"
            self._note(f"going on from {many} found before")
        if self.labelled is None:
            if self.plan.gate == "interval":
                self._note(few_answers(len(self._answered), self.plan.margin, AGREEING))
        elif not self.found.evaluation.is_file():
            self.clock.say("reading the labelled data")
            evaluated(self.start, self.labelled, self.plan.evaluation, PART)

    def _note(self, text: str) -> None:
        """Say what is to be known of the search itself; nothing where there is nothing."""
        if text:
            self.notes.append(text)
            self.clock.say(text, lasting=True)

    @cached_property
    def _answered(self) -> tuple[bytes, ...]:
        """The items whose answers are compared where nothing is labelled."""
        return read_items(self.start.bundle, self.data, most=AGREEING).encoded

    def tried(self, step: Pass, base: Candidate) -> Entry:
        """What one pass makes of `base`, made and judged; added to the entries."""
        entry = self._tried(step, base)
        self.entries.append(entry)
        self.clock.step()
        return entry

    def calibrated(self, base: Candidate) -> Calibration:
        """The items as this candidate prepares them; those of the last one that was asked for are kept."""
        self.calibration = self.calibration.of(base.bundle)
        return self.calibration

    def _tried(self, step: Pass, base: Candidate) -> Entry:
        recipe = recipe_of(step, base)
        if self.clock.over:
            return self._skipped(step, LATE, recipe)
        self.clock.say(f"{step.title}: making it")
        try:
            candidate = self.found.candidate(
                step.id, lambda folder: apply(step, base.bundle, self.calibrated(base), folder)
            )
        except NotApplicable as problem:
            return self._skipped(step, str(problem), recipe)
        except Unsupported as problem:
            return self._skipped(step, f"{problem.message}; {problem.hint}", recipe)
        items = evenly(self.calibration.items, ALIKE)
        alike = isinstance(step, EXACT) and same_answers(base, candidate, items)
        return self._weighed(candidate, recipe, self._judgement(base, len(items)) if alike else None)

    def _weighed(self, candidate: Candidate, recipe: Recipe, known: Judgement | None = None) -> Entry:
        """A candidate judged, or refused because it does not run; those that run are kept in `made`."""
        twin = self._seen.setdefault(identity(candidate), candidate.id)
        if twin != candidate.id:
            return self._skipped(candidate, f"the same network as {twin}, byte for byte", recipe)
        self.clock.say(f"{candidate.title}: comparing its answers")
        try:
            judgement = known or self.found.judgement(candidate.id, lambda: self.judge.judge(candidate))
        except ModelportError as problem:
            return self._entry(candidate, recipe, "refused", f"it does not run: {problem}")
        self.made[candidate.id] = candidate
        if judgement.verdict == "undecided" and judgement.by == "accuracy" and not self._few:
            self._few = seen_few(candidate.id, judgement, self.plan.margin)
            self._note(self._few)
        entry = self._entry(
            candidate, recipe, STATUSES[judgement.verdict], gate_reason(judgement, self.plan.margin)
        )
        said = explained(candidate, self.calibration.items[0])
        return msgspec.structs.replace(entry, judgement=judgement, explained=said)

    @property
    def judge(self) -> Judge:
        """Made when it is asked for: the START's answers cost time."""
        if self._judge is None:
            self.clock.say("asking the START")
            begun, margin, gate = self.clock.spent, self.plan.margin, self.plan.gate
            if self.labelled is None:
                self._judge = ByAgreement(self.start, self._answered, margin, gate)
            else:
                kept, settings = self.found.evaluation, self.plan.evaluation
                self._judge = by = ByLabels(self.start, self.labelled, kept, settings, margin, gate)
                if gate == "interval":
                    self._few = few_labels(by.start, margin)
                    self._note(self._few)
            took = self.clock.spent - begun
            self.clock.once(took)
            self._note(dear(took, self.plan.seconds))
        return self._judge

    def _mix(self, steps: list[Pass], base: Candidate) -> None:
        """The best 8-bit candidate that does not pass, with layers put back to float until it does."""
        static = [step for step in steps if isinstance(step, StaticInt8) and step.id in self.made]
        by_id = {entry.id: entry for entry in self.entries}
        if not static or any(by_id[step.id].status == "kept" for step in static):
            return
        if self.clock.over:
            self._note("no layers were put back to float: the time budget was spent")
            return
        step = min(static, key=lambda each: _loss(by_id[each.id]))
        self.clock.say(f"{step.title}: which layers lose the answers")
        ranked = layers(
            network_of(base.bundle),
            network_of(self.made[step.id].bundle),
            self.calibrated(base),
            self.clock.left / 4,
        )

        def passes(count: int) -> bool:
            kept = tuple(sorted(layer.name for layer in ranked[:count]))
            self.clock.expect(1)
            return self.tried(msgspec.structs.replace(step, kept=kept), base).status == "kept"

        fewest(most(ranked), passes)

    def _smaller_photos(self) -> list[Reduced]:
        """At which fractions of their sides photos may be decoded for the START; the smallest first."""
        found: list[Reduced] = []
        for step, reason in reductions(self.start.bundle, self.calibration):
            if reason:
                self.entries.append(self._skipped(step, reason, recipe_of(step, self.start)))
                continue
            self._looked_at(self.start, [step])
            if self.entries[-1].status in ("kept", "dominated"):  # what gains little may gain more of 8 bits
                found.insert(0, step)
        return found

    def _other_ways(self, photos: Sequence[Reduced]) -> None:
        """The fastest networks that are right, on smaller photos, on other runtimes, with other settings."""
        if self.clock.over:
            self.entries += [self._late(step, self.start) for step in ways(self.start)]
            return
        for source in self._fastest(whole=True) if photos else ():
            for step in photos if source.id != START else ():
                self._looked_at(source, [step])
                if self.entries[-1].status == "kept":
                    break
        for source in self._fastest():
            self._looked_at(source, list(ways(source)))

    def _fastest(self, *, whole: bool = False) -> list[Candidate]:
        """Of the networks that are right those that are fastest at a quick look; `whole`: on whole photos."""
        self.clock.say("a quick look at what is fastest")
        right = [self.start] + [self.made[entry.id] for entry in self.entries if entry.status == "kept"]
        right = [each for each in right if not (whole and each.reduced)]
        return fastest(right, self.calibration.items)[:PREPARED_WAYS]

    def _looked_at(self, source: Candidate, steps: Sequence[Way]) -> None:
        """Those of a network's other ways that are faster at a quick look are judged."""
        by_id: dict[str, Candidate] = {source.id: source}
        able: dict[str, Recipe] = {}
        for step in steps:
            if self.clock.over:
                self.entries.append(self._late(step, source))
                continue
            recipe = recipe_of(step, source)
            if isinstance(step, OnRuntime) and (reason := refused(step, source, self.calibration)):
                self.entries.append(self._skipped(step.of(source), reason, recipe))
                continue
            candidate = in_way(step, source, self.found, self.calibration)
            able[candidate.id] = recipe
            by_id[candidate.id] = candidate
        if not able:
            return
        quick = medians(by_id, self.calibration.items)
        self.clock.expect(len(able))
        for name, recipe in able.items():
            candidate, share = by_id[name], quick[name] / quick[source.id]
            if share > GAIN:
                reason = f"no faster than {source.id} at a quick look: {share:.2f} of its latency"
                self.entries.append(self._entry(candidate, recipe, "dominated", reason))
            else:
                alike = computed_alike(candidate, source)
                known = self._judgement(source, len(self.calibration.items)) if alike else None
                self.entries.append(self._weighed(candidate, recipe, known))
            self.clock.step()

    def _late(self, step: Way, source: Candidate) -> Entry:
        """Another way of running a network that there was no time for."""
        return self._skipped(step.of(source), LATE, recipe_of(step, source))

    def _judgement(self, source: Candidate, items: int) -> Judgement | None:
        """What is known of another candidate; of the START that so many items are answered alike."""
        if source.id == START:
            return same(items)
        return next((entry.judgement for entry in self.entries if entry.id == source.id), None)

    def _measured(self) -> list[Entry]:
        """The START and those that pass, or may, measured by turns."""
        undecided = sorted((entry for entry in self.entries if entry.status == "undecided"), key=_loss)
        chosen = [entry.id for entry in self.entries if entry.status == "kept"]
        chosen += [entry.id for entry in undecided[:OPEN]]
        candidates = {START: self.start} | {name: self.made[name] for name in chosen}
        self.clock.say(f"measuring {len(candidates)} by turns")
        items, begun = self.calibration.items, self.clock.spent
        measure.start_up(self.start, items[0])
        left = max(0.0, self.clock.left_to_measure - len(candidates) * (self.clock.spent - begun))

        def tick() -> None:
            self.clock.say(f"measuring {len(candidates)} by turns")

        before, begun = look(), self.clock.spent
        times = measure.latencies(candidates, items, seconds=SHARE_OF_LATENCY * left, tick=tick)
        rates = measure.throughputs(candidates, items, seconds=SHARE_OF_LATENCY * left, tick=tick)
        self.notes += disturbed(before, look(), self.clock.spent - begun, usable_cores())
        figures = {
            name: measure.figures(candidate, times[name], times[START], rates[name], items[0])
            for name, candidate in candidates.items()
        }
        start = Entry(id=START, title="as it is", status="start", reason="what all is compared with")
        return [
            msgspec.structs.replace(entry, figures=figures.get(entry.id)) for entry in (start, *self.entries)
        ]

    def _entry(self, candidate: Candidate, recipe: Recipe, status: Status, reason: str) -> Entry:
        return Entry(
            id=candidate.id,
            title=candidate.title,
            status=status,
            reason=reason,
            recipe=recipe,
            passes=candidate.passes,
            notes=candidate.notes,
        )

    def _skipped(self, step: Pass | Way | Candidate, reason: str, recipe: Recipe) -> Entry:
        return Entry(id=step.id, title=step.title, status="skipped", reason=reason, recipe=recipe)


def recipe_of(step: Pass | Way, source: Candidate) -> Recipe:
    """What makes of `source` what `step` makes of it."""
    return Recipe(step.name, msgspec.to_builtins(step), source.id)


def _harmless(judgement: Judgement) -> bool:
    """Whether nothing is lost by a change that should change nothing."""
    return judgement.verdict == "passes" or (judgement.verdict == "undecided" and judgement.loss <= 0)


def _loss(entry: Entry) -> float:
    return entry.judgement.loss if entry.judgement is not None else float("inf")
