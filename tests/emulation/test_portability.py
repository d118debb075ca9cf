"""A bundle on other machines: the same bits, nearly the same, or other answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.cli import verify as verb
from modelport.cli.demo import DIGITS
from modelport.cli.main import run
from modelport.cli.verify_on import _code
from modelport.emulation import machine as machines
from modelport.emulation.machine import Ran
from modelport.isolation import environments
from modelport.runtimes.machine import machine_class
from modelport.verify.emulated import same_bits
from modelport.verify.portability import Replay, _too_short, badged, everywhere, portable, replay

from .native import Native
from .networks import FULL, REDUCED, packed

NAMES = [each.name for each in machines.EMULATORS]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its products overflow 16 bits."""
    return packed(tmp_path_factory.mktemp("full"), FULL)


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same with weights of 7 bits."""
    return packed(tmp_path_factory.mktemp("reduced"), REDUCED)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ./test fetched for other machines; skips what was not fetched, and so needs a network."""
    monkeypatch.setenv(environments.VARIABLE, str(cache()))


def cache() -> Path:
    """Where ./test keeps what it makes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelport-bench/environments"


def needed(name: str) -> None:
    """Skip where the machine cannot be emulated, or what it needs was not fetched."""
    there = machines.machine(name)
    if there.reason:
        pytest.skip(there.reason)
    if not there.ready:
        pytest.skip(f"what {name} needs was not fetched: ./test does that")


@pytest.mark.usefixtures("emulated")
def test_products_that_saturate_are_found_on_the_older_pc(full: Bundle) -> None:
    needed("haswell")
    if "vnni" not in machine_class() and "amx" not in machine_class():
        pytest.skip("this machine saturates as well")
    found = replay(full, "", "haswell")
    assert (found.verdict, found.differs_at, found.eight_bit) == ("differs", "net", True)
    assert (found.labels_changed, found.labels_compared) == (3, 3)
    assert found.changes
    assert not found.same
    assert found.stages["pre"].same
    assert found.stages["post"].same, "given what this machine gives, it gives the same"
    assert found.stages["net"].share > 0.3
    assert "net differs by at most" in found.sentence()
    assert "3 of 3 answers changed" in found.sentence()
    assert portable([found]) == ()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("name", NAMES)
def test_seven_bits_give_the_same_bits_everywhere(reduced: Bundle, name: str) -> None:
    needed(name)
    found = replay(reduced, "", name)
    assert (found.verdict, found.cases, found.labels_changed) == ("equal", 3, 0), found.sentence()
    assert all(stage.same and stage.max_abs == 0 for stage in found.stages.values())
    assert portable([found]) == tuple(sorted({found.machine_class, machine_class()}))
    assert "every stage gives the same bits" in found.sentence()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("name", ["aarch64", "wasm"])
def test_a_network_in_floats_gives_the_same_answers(name: str) -> None:
    """Pictures, ink and labels go through programs in C and JavaScript."""
    needed(name)
    found = replay(Bundle.open(DIGITS), "", name, most=2)
    assert found.verdict in ("equal", "close"), found.sentence()
    assert found.stages["pre"].same
    assert (found.labels_compared, found.labels_changed) == (2, 0)
    assert found.stages["net"].max_abs < 1e-4


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, and one that prepares a little differently, in place of emulated ones."""
    both = (Native(), Native(name="faulty", machine="there", fault="0.0.out"))
    monkeypatch.setattr(machines, "EMULATORS", both)


@pytest.mark.usefixtures("native")
def test_the_same_machine_gives_the_same_bits(full: Bundle, tmp_path: Path) -> None:
    told: list[str] = []
    counted: list[tuple[int, int]] = []
    found = replay(
        full, "", "native", most=2, tell=told.append, count=lambda done, whole: counted.append((done, whole))
    )
    assert counted[-1] == (2, 2)
    assert (found.verdict, found.cases, found.asked) == ("equal", 2, 2)
    assert told == ["nothing to do"]
    with_items = replay(full, "", "native", items=[full.read(full.manifest.golden.cases[0].input)] * 9)
    assert with_items.cases == 4
    assert with_items.same


@pytest.mark.usefixtures("native")
def test_what_is_prepared_otherwise_goes_on_to_the_answer(full: Bundle) -> None:
    found = replay(full, "", "faulty", most=1)
    assert found.differs_at == "pre"
    assert not found.stages["pre"].same
    assert found.stages["net"].same, "it was given what this machine prepares"
    assert found.verdict in ("close", "differs")


@pytest.mark.usefixtures("native")
def test_a_form_that_other_machines_cannot_be_asked_with_is_not_replayed(
    full: Bundle, tmp_path: Path
) -> None:
    other = Variant("elsewhere", full.manifest.graphs.net.file, runtime="openvino")
    derived = full.derive(tmp_path / "derived", {}, version="2", variants=(other,))
    found = replay(derived, "elsewhere", "native")
    assert (found.verdict, found.changes) == ("not replayed", False)
    assert "openvino" in found.sentence()
    bare = full.derive(tmp_path / "bare", {}, version="3", golden=None)
    assert "no golden cases" in replay(bare, "", "native").reason


def test_the_badge_is_for_all_machines() -> None:
    same = [
        Replay(machine=each.name, machine_class=each.machine, variant="", same=True, cases=1)
        for each in machines.EMULATORS
    ]
    assert everywhere(portable(same))
    assert machine_class() in portable(same)
    assert not everywhere(portable(same[1:]))
    assert portable([]) == ()


def test_a_time_that_was_too_short_comes_with_another() -> None:
    early = Ran([{}], "onnxruntime", 80.2)
    assert _too_short(40, early, 4) == (
        "not one item was done in 40 s, but 1 of its 4 stages: give it more time, perhaps --seconds 400"
    )
    network = Ran([{}, {}], "onnxruntime", 71.4)
    assert _too_short(40, network, 4).endswith("2 of its 4 stages: give it more time, perhaps --seconds 290")


def test_bits_are_the_same_or_not() -> None:
    one = {"a": np.array([1.0, np.nan, 0.0], np.float32)}
    assert same_bits(one, {"a": one["a"].copy()})
    assert not same_bits(one, {"a": np.array([1.0, np.nan, -0.0], np.float32)})
    assert not same_bits(one, {"a": one["a"].astype(np.float64)})
    assert not same_bits(one, {"b": one["a"]})
    assert same_bits({"a": np.array(["x"], object)}, {"a": np.array(["x"], object)})


def test_the_exit_code_is_the_worst_of_what_was_asked() -> None:
    equal = Replay(machine="wasm", machine_class="wasm", variant="", same=True, cases=1)
    changed = msgspec.structs.replace(equal, same=False, labels_changed=1)
    missing = msgspec.structs.replace(equal, same=False, cases=0, reason="there is no node")
    assert _code([equal], every=True) == 0
    assert _code([equal, changed, missing], every=False) == 1
    assert _code([equal, missing], every=False) == 0
    assert _code([equal, missing], every=True) == 4
    assert _code([missing], every=False) == 4


def test_the_command_line_knows_the_machines() -> None:
    assert (*NAMES, machines.ALL) == verb.MACHINES


@pytest.mark.usefixtures("native")
def test_all_machines_from_the_command_line(full: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(full.path), "--on", "all", "--cases", "1", "--json"]) in (0, 1)
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "modelport.portability/1"
    assert [each["machine"] for each in report["machines"]] == ["native", "faulty"]
    assert report["machines"][0]["verdict"] == "equal"
    assert report["machines"][1]["differs_at"] == "pre"
    assert report["portable"] == sorted(["here", machine_class()])
    assert run(["verify", str(full.path), "--on", "all", "--cases", "1"]) in (0, 1)
    assert "every stage gives the same bits" in capsys.readouterr().out


@pytest.mark.usefixtures("native")
def test_items_of_a_folder_are_evenly_picked(
    full: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "SOURCE.txt").write_text("where the items are from")
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.full(64, number / 5, np.float32))
    command = ["verify", str(full.path), "--on", "all", "--cases", "4", "--json", "--data"]
    assert run([*command, str(tmp_path)]) in (0, 1)
    out, err = capsys.readouterr()
    assert "note: 4 of 5 items, evenly picked" in err
    assert json.loads(out)["machines"][0]["cases"] == 4
    assert run([*command, str(tmp_path / "SOURCE.txt")]) == 3
    assert "none of 1 items can be read" in capsys.readouterr().err


@pytest.mark.usefixtures("native")
def test_the_badge_is_written_into_a_new_version(
    full: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "2"
    run(["verify", str(full.path), "--on", "all", "--cases", "1", "--out", str(out)])
    assert "the same bits on here" in capsys.readouterr().err
    made = Bundle.open(out)
    assert made.manifest.version == "2"
    assert made.manifest.portable == ("here", machine_class())
    assert made.manifest.lineage.parent == full.digest
    assert run(["inspect", str(out)]) == 0
    assert "the same bits on" in capsys.readouterr().out
    net = full.manifest.graphs.net.file
    both = full.derive(tmp_path / "3", {}, version="3", variants=(Variant("one", net), Variant("two", net)))
    again = badged(both, "two", ["wasm"], tmp_path / "4", "4")
    assert [each.portable for each in again.manifest.variants] == [(), ("wasm",)]


def test_without_tools_the_command_line_says_what_to_install(
    full: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    assert run(["verify", str(full.path), "--on", "wasm"]) == 4
    assert "nothing can be emulated here: wasm: there is no node" in capsys.readouterr().err
    assert run(["verify", str(full.path), "--variant", "x"]) == 2
