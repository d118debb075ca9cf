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
from ..errors import ModelportError, Unsupported
from ..sampling import evenly
from .agreement import ByAgreement, answered, same_answers
from .bases import DETECTION, EXACT, bases_of, fitted
from .calibration import Calibration, read_calibration
from .candidate import START, Candidate, NotApplicable, Pass, disk_is_full, identity, in_a_line
from .choose import gate_reason
from .clock import Clock, Tell
from .elsewhere import seconds_kept
from .enough import dear, few_answers, few_labels, seen_few
from .explain import explained
from .found import Found, key_of
from .items import read_items
from .judge import LABELLED, PART, ByLabels, Judge, Judgement, check_defined, evaluated, same
from .measuring import chosen, measured, seconds_needed, seconds_of_starts
from .mixed import fewest, most, nearest, ranked
from .outcome import Entry, Recipe, Status, entry_of, skipped
from .passes import catalogue
from .passes.half import Half
from .passes.reduced import Reduced, reductions
from .passes.runtime import OnRuntime
from .plan import Plan
from .recipe import key_of_making, key_of_network, made_by, recipe_of
from .start import begun_from, gone_on, plain, question, same_items
from .ways import Way, computed_alike, fastest, hardly, in_way, refused, shares, slow, ways, without

AGREEING = 1000
"""Items whose answers are compared where nothing is labelled: half a point needs about 600."""
PREPARED_WAYS = 2
"""Networks that are run in other ways: the fastest that are right."""
ALIKE = 8
"""Items whose answers show that a pass changes no arithmetic: with the same bits no more are asked."""

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
        asked = question(bundle, data, labelled, plan.evaluation.get("split"))
        self.found = Found(work / key_of(*asked, *how))
        self.start = Candidate(
            START, "as it is", self.found.bundle(START, lambda place: plain(bundle, place)), ()
        )
        self.clock.say(f"{bundle.manifest.name} {bundle.manifest.version}: reading the items")
        with self._in_vain():
            self.calibration: Calibration = answered(read_calibration(self.start.bundle, data), self.start)
        for note in self.calibration.notes:
            self.clock.say(note, lasting=True)
        self.notes: list[str] = []
        """What is to be known of the search itself."""
        self.entries: list[Entry] = []
        self.made: dict[str, Candidate] = {}
        self._judge: Judge | None = None
        self._few = ""
        """That the items are too few, where that was said."""
        self._dear = False
        """Whether it was said that judging takes much of the budget."""
        self._an_item = 0.0
        """Seconds that the START takes for one, all cores at work; 0 while that is not known."""
        self._seen = {identity(self.start): START}
        self._bases = set[str]()

    def bases(self) -> Iterator[Pass]:
        """Passes whose results the others work on, each on that of the one before, where that is right.

        Of several of one name the first that is right is taken.
        """
        yield from bases_of(self.bundle.manifest)

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
            entry = self.tried(fitted(step, base), base)
            self._bases.add(entry.id)
            if entry.judgement is not None and entry.judgement.harmless:
                base = self.made[entry.id]
                named.add(step.name)
        # What costs little and is nearly always right is not left to what time remains.
        sooner = [*steps[:1], *(step for step in steps[1:] if isinstance(step, Half))]
        for step in sooner:
            self.tried(step, base)
        self._looked_at(base, list(ways(base)))
        known = {step.id for step in sooner}
        for step in steps:
            if step.id not in known:
                self.tried(step, base)
        self._mix(steps, base)
        self._other_ways(photos, base)
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
        self._note(gone_on(self.found.begun, self.found.before))
        split = self.plan.evaluation.get("split")
        self._note(same_items(self.bundle, self.data, self.labelled, split))
        if self.labelled is None:
            if self.plan.gate == "interval":
                self._note(few_answers(len(self._answered), self.plan.margin, AGREEING))
        elif not self.found.evaluation.is_file():
            self.clock.say("reading the labelled data")
            part = evaluated(self.start, self.labelled, self.plan.evaluation, PART)
            if part[part.main] is None or len(part.outcomes) < LABELLED:
                check_defined(evaluated(self.start, self.labelled, self.plan.evaluation))

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
        if self.over:
            return skipped(step, f"not tried: {self.clock.late}", recipe)
        try:
            candidate = self._made_by(step, base)
        except NotApplicable as problem:
            return skipped(step, str(problem), recipe)
        except Unsupported as problem:
            return skipped(step, f"{problem.message}; {problem.hint}", recipe)
        items = evenly(self.calibration.items, ALIKE)
        alike = isinstance(step, EXACT) and same_answers(base, candidate, items)
        return self._weighed(candidate, recipe, self._judgement(base, len(items)) if alike else None)

    def _made_by(self, step: Pass, base: Candidate) -> Candidate:
        """What a step makes of `base`, now or in an earlier run, which is said."""
        there = self.found.made(step.id, key_of_making(step, base))
        if there is None:
            self.clock.say(f"{step.title}: making it")
            return made_by(step, base, self.calibrated, self.found)
        judged = self.found.judged(there.id, key_of_network(there))
        self.clock.say(f"{step.title}: {'found before' if judged else 'made before'}")
        return there

    def _weighed(self, candidate: Candidate, recipe: Recipe, known: Judgement | None = None) -> Entry:
        """A candidate judged, or refused because it does not run; those that run are kept in `made`."""
        twin = self._seen.setdefault(identity(candidate), candidate.id)
        if twin != candidate.id:
            return skipped(candidate, f"the same network as {twin}, byte for byte", recipe)
        try:
            key = key_of_network(candidate)
            judgement = known or self.found.judgement(candidate.id, key, lambda: self._judged(candidate))
        except Exception as problem:  # a runtime of a third party raises what it likes
            if self._judge is None or disk_is_full(problem):
                raise  # it is the START that cannot be asked
            return entry_of(candidate, recipe, "refused", f"it does not run: {in_a_line(problem)}")
        self.made[candidate.id] = candidate
        if judgement.verdict == "undecided" and judgement.by == "accuracy" and not self._few:
            self._few = seen_few(candidate.id, judgement, self.plan.margin)
            self._note(self._few)
        entry = entry_of(
            candidate, recipe, STATUSES[judgement.verdict], gate_reason(judgement, self.plan.margin)
        )
        said = explained(candidate, self.calibration.items[0])
        return msgspec.structs.replace(entry, judgement=judgement, explained=said)

    def _judged(self, candidate: Candidate) -> Judgement:
        """What the judge says of it; it is said where that takes much of the budget."""
        judge = self.judge
        self.clock.say(f"{candidate.title}: comparing its answers")
        begun = self.clock.spent
        found = judge.judge(candidate)
        if not found.part:
            self._note_dear(self.clock.spent - begun)
        return found

    def _note_dear(self, seconds: float) -> None:
        """That judging once takes much of the time budget, where it was not said."""
        text = "" if self._dear else dear(seconds, self.plan.seconds)
        self._dear = self._dear or bool(text)
        self._note(text)

    @property
    def over(self) -> bool:
        """Whether nothing further is to be made: what measuring takes by now is kept of the budget."""
        if self._an_item:
            starts = self._starts if chosen(self.entries) else 0.0
            least, enough = seconds_needed(self.entries, self._an_item, starts)
            passed = any(each.status == "kept" and each.id not in self._bases for each in self.entries)
            self.clock.keep(least, enough, passed=passed)
        return self.clock.over

    @cached_property
    def _starts(self) -> float:
        """Seconds that starting the START takes: no step, but what all of them are measured by."""
        seconds = seconds_of_starts(self.start, self.calibration.items[0])
        self.clock.once(seconds)
        return seconds

    @property
    def judge(self) -> Judge:
        """Made when it is asked for: the START's answers cost time."""
        if self._judge is None:
            self.clock.say("asking the bundle as it was packed")
            begun, margin, gate = self.clock.spent, self.plan.margin, self.plan.gate
            if self.labelled is None:
                self._judge = ByAgreement(self.start, self._answered, margin, gate)
                self._an_item = (self.clock.spent - begun) / len(self._answered)
            else:
                kept, settings = self.found.evaluation, self.plan.evaluation
                self._judge = by = ByLabels(self.start, self.labelled, kept, settings, margin, gate)
                self._an_item = by.start.seconds / max(1, by.start.items)
                if gate == "interval":
                    self._few = few_labels(by.start, margin)
                    self._note(self._few)
            for note in self._judge.notes:
                self._note(note)
            took = self.clock.spent - begun
            self.clock.once(took)
            self._note_dear(took)
        return self._judge

    def _mix(self, steps: list[Pass], base: Candidate) -> None:
        """The best 8-bit candidate that does not pass, with layers put back to float until it does."""
        step = nearest(steps, self.entries, self.made)
        if step is None:
            return
        if self.over:
            self._note(f"no layers were put back to float: {self.clock.late}")
            return
        self.clock.say(f"{step.title}: which layers lose the answers")
        quantized, items = self.made[step.id], self.calibrated(base)
        try:
            layers = ranked(step, base, quantized, items, self.found, self.clock.left / 4)
        except NotApplicable as problem:
            self._note(f"no layers were put back to float: {problem}")
            return

        def passes(count: int) -> bool:
            kept = tuple(sorted(layer.name for layer in layers[:count]))
            self.clock.expect(1)
            return self.tried(msgspec.structs.replace(step, kept=kept), base).status == "kept"

        fewest(most(layers), passes)

    def _smaller_photos(self) -> list[Reduced]:
        """At which fractions of their sides photos may be decoded for the START; the smallest first."""
        found: list[Reduced] = []
        for step, reason in reductions(self.start.bundle, self.calibration):
            if reason := reason or hardly(step, self.start, self.calibration):
                self.entries.append(skipped(step, reason, recipe_of(step, self.start)))
                continue
            self._looked_at(self.start, [step])
            if self.entries[-1].status == "kept":
                found.insert(0, step)
            else:
                self._note(
                    f"{step.title}: not tried with other networks, as with this one not right, or no faster"
                )
        return found

    def _other_ways(self, photos: Sequence[Reduced], base: Candidate) -> None:
        """The fastest networks that are right, on smaller photos, on other runtimes, with other settings.

        Args:
            base: whose other ways were looked at.
        """
        if self.over:
            self._note(f"no other runtimes, settings or smaller photos were tried: {self.clock.late}")
            return
        right = [self.start] + [self.made[entry.id] for entry in self.entries if entry.status == "kept"]
        for source in self._fastest([each for each in right if not each.reduced]) if photos else ():
            for step in photos if source.id != START else ():
                self._looked_at(source, [step])
                if self.entries[-1].status == "kept":
                    right.append(self.made[self.entries[-1].id])
                    break
        for source in self._fastest(without(right, base)):
            self._looked_at(source, list(ways(source)))

    def _fastest(self, right: Sequence[Candidate]) -> list[Candidate]:
        """Of these the networks that are fastest at a quick look."""
        if len(right) > 1:
            self.clock.say("a quick look at what is fastest")
            right = fastest(right, self.calibration.items)
        return list(right[:PREPARED_WAYS])

    def _looked_at(self, source: Candidate, steps: Sequence[Way]) -> None:
        """Those of a network's other ways that are faster at a quick look are judged."""
        by_id: dict[str, Candidate] = {}
        able: dict[str, Recipe] = {}
        for step in steps:
            recipe = recipe_of(step, source)
            if self.over:
                late = f"not tried: {self.clock.late}"
                self.entries.append(skipped(step.of(source), late, recipe))
                continue
            if isinstance(step, OnRuntime) and (reason := refused(step, source, self.calibration)):
                self.entries.append(skipped(step.of(source), reason, recipe))
                continue
            candidate = in_way(step, source, self.found, self.calibration)
            able[candidate.id] = recipe
            by_id[candidate.id] = candidate
        if not able:
            return
        begun = self.clock.spent
        quick = shares(source, list(by_id.values()), self.calibration.items)
        self.clock.once(self.clock.spent - begun)
        self.clock.expect(len(able))
        for name, recipe in able.items():
            candidate, share = by_id[name], quick[name]
            if isinstance(share, str):
                self.entries.append(entry_of(candidate, recipe, "refused", share))
            elif reason := slow(candidate, source, share):
                self.entries.append(entry_of(candidate, recipe, "dominated", reason))
            else:
                alike = computed_alike(candidate, source)
                known = self._judgement(source, len(self.calibration.items)) if alike else None
                there = known or self.found.judged(name, key_of_network(candidate))
                late = "" if there or not self.over else f"not tried: {self.clock.late}"
                self.entries.append(
                    skipped(candidate, late, recipe) if late else self._weighed(candidate, recipe, known)
                )
            self.clock.step()

    def _judgement(self, source: Candidate, items: int) -> Judgement | None:
        """What is known of another candidate; of the START that so many items are answered alike."""
        if source.id == START:
            return same(items)
        return next((entry.judgement for entry in self.entries if entry.id == source.id), None)

    def _measured(self) -> list[Entry]:
        """The START and those that pass, or may, measured by turns."""
        candidates = {START: self.start} | self.made
        found, notes = measured(self.entries, candidates, self.calibration.items, self.clock)
        self.notes += notes
        return found
