"""A pass that fails, or does not load, is an entry of the report and not the end of the search."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar

import msgspec
import onnx
import pytest

from modelport import plugins
from modelport.bundle.store import Bundle
from modelport.errors import BundleError
from modelport.optimize import passes
from modelport.optimize.calibration import Calibration
from modelport.optimize.candidate import Made
from modelport.optimize.clock import silent
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.runtime import OnRuntime
from modelport.optimize.plan import Plan
from modelport.optimize.search import Search
from modelport.optimize.ways import refused, ways


class Failing(msgspec.Struct, frozen=True):
    """It raises what it is given."""

    name: ClassVar[str] = "failing"
    id: ClassVar[str] = name
    title: ClassVar[str] = "one that fails"
    problem: type[BaseException] = ValueError
    said: tuple[object, ...] = ("a shape\nof its own",)

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        raise self.problem(*self.said)


class Own:
    """A pass that is no struct; it gives something else than a network."""

    name = id = "own"
    title = "no struct"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        return Made(None)  # type: ignore[arg-type]


class Renamed(msgspec.Struct, frozen=True):
    """The same network from another maker."""

    name: ClassVar[str] = "renamed"
    id: ClassVar[str] = name
    title: ClassVar[str] = "of another name"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        network.producer_name = self.name
        return Made(network)


class Misnamed(msgspec.Struct, frozen=True):
    """Its id is no part of a version."""

    name: ClassVar[str] = "misnamed"
    id: ClassVar[str] = "int8+smooth"
    title: ClassVar[str] = "one with a strange id"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        network.producer_name = self.name
        return Made(network)


@pytest.fixture
def search(start: Bundle, data: Path, tmp_path: Path) -> Search:
    return Search(start, data, data, tmp_path, Plan(gate="estimate", margin=2.0), silent)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (Failing(), "the pass failed: ValueError: a shape"),
        (
            Failing(OSError, (errno.ENOENT, "no file")),
            "the pass failed: FileNotFoundError: [Errno 2] no file",
        ),
        (Failing(BundleError, ("damaged",)), "the pass failed: damaged"),
        (Failing(AssertionError, ()), "the pass failed: AssertionError: it says no more"),
        (Own(), "the pass failed: AttributeError: "),
        (Misnamed(), "modelport.json: Expected `str` matching regex"),
    ],
)
def test_a_pass_that_fails_is_skipped(search: Search, problem: Failing, said: str) -> None:
    entry = search.tried(problem, search.start)
    assert entry.status == "skipped" and entry.reason.startswith(said)
    assert search.tried(Half(), search.start).status == "kept"


@pytest.mark.parametrize("fatal", [Failing(OSError, (errno.ENOSPC, "full")), Failing(KeyboardInterrupt, ())])
def test_a_full_disk_and_an_interruption_end_it(search: Search, fatal: Failing) -> None:
    with pytest.raises(fatal.problem):
        search.tried(fatal, search.start)


def test_a_pass_that_does_not_load_is_told(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in (("absent", "no_such_module:A"), ("needs-more", f"{__name__}:Made")):
        monkeypatch.setitem(plugins.BUILT_IN["passes"], name, target)
    plugins.table.cache_clear()
    try:
        found = {step.id: step for step in passes.catalogue(Plan())}
    finally:
        monkeypatch.undo()
        plugins.table.cache_clear()
    for name, said in (
        ("absent", "this plugin does not load: ModuleNotFoundError: No module named 'no_such_module'"),
        ("needs-more", "this plugin does not load: TypeError: Missing required argument 'network'"),
    ):
        entry = search.tried(found[name], search.start)
        assert (entry.status, entry.reason, entry.title) == ("skipped", said, f"the pass {name}")


class Unmade:
    """A runtime that fails in its own way where it is made."""

    def __init__(self) -> None:
        raise RuntimeError("no device\nof its kind")


class Unopened:
    """The same where it is to open a network."""

    settings: ClassVar[dict[str, object]] = {}

    def refuses(self, bundle: Bundle) -> None:
        return None

    def describe(self) -> str:
        return "1.0"

    def open(self, graph: bytes, **given: object) -> None:
        raise RuntimeError("no memory")


@pytest.mark.parametrize(
    ("kind", "said"), [(Unmade, "RuntimeError: no device"), (Unopened, "RuntimeError: no memory")]
)
def test_a_runtime_that_fails_in_its_own_way_is_told(
    search: Search, monkeypatch: pytest.MonkeyPatch, kind: type[object], said: str
) -> None:
    monkeypatch.setitem(plugins.BUILT_IN["runtimes"], "theirs", f"{__name__}:{kind.__name__}")
    plugins.table.cache_clear()
    try:
        assert OnRuntime("theirs") in list(ways(search.start))
        reason = refused(OnRuntime("theirs"), search.start, search.calibration)
        assert reason == f"the runtime theirs failed: {said}"
    finally:
        monkeypatch.undo()
        plugins.table.cache_clear()


def test_a_candidate_names_all_its_steps(search: Search) -> None:
    search.tried(Renamed(), search.start)
    assert search.tried(Half(), search.made["renamed"]).passes == ("renamed", "fp16")
