"""The variants of a new version: which of them a machine takes, also where the best form cannot run."""

from __future__ import annotations

from pathlib import Path

from modelport.bundle.store import Bundle
from modelport.optimize.candidate import Candidate
from modelport.optimize.choose import in_order, settled
from modelport.optimize.variants import write_version
from modelport.runtimes.machine import ANY, choose_variant, machine_class

from .test_choose import START, made


def test_without_the_best_ones_runtime_the_fastest_of_the_others_runs(start: Bundle, tmp_path: Path) -> None:
    """Not the form that the version has for machines of other classes."""
    on_openvino = "static-int8-on-openvino"
    entries, best = settled(
        [
            START,
            made("fp16", (0.80, 0.78, 0.82), (120.0, 118.0, 122.0)),
            made("static-int8", (0.50, 0.48, 0.52), (200.0, 195.0, 205.0), loss=0.3),
            made(on_openvino, (0.30, 0.28, 0.32), (300.0, 295.0, 305.0), loss=0.3),
        ]
    )
    assert [entry.status for entry in entries] == ["start", "kept", "dominated", "chosen"]
    forms = {name: Candidate(name, name, start, (name,)) for name in ("fp16", "static-int8")}
    forms[best] = Candidate(best, best, start, (best,), runtime="openvino", machine_bound=True)
    written = write_version(start, tmp_path / "2", in_order(entries), forms, best).manifest
    taken = [(each.name, each.machine) for each in written.variants if each.chosen]
    assert taken == [(on_openvino, machine_class()), ("static-int8", machine_class()), ("fp16", ANY)]
    chosen = choose_variant(written, None, lambda each: each.runtime != "openvino")
    assert chosen is not None and chosen.name == "static-int8"
