"""`modelport rollout`: how shares are written, and what is said before a shadow is promoted."""

from __future__ import annotations

import pytest

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.cli.rollout_places import Server
from modelport.rollout.plan import Canary, Plan, Shadow
from modelport.rollout.report import Report, Seen
from modelport.rollout.state import load

from ..colours import pack_colours


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of two versions."""
    where = tmp_path_factory.mktemp("shares")
    pack_colours(where, version="1")
    return str(pack_colours(where, version="2") / "colours")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weight", "10"], "10 is more than all requests; did you mean 10%?"),
        (["--weight", "100"], "did you mean 100%?"),
        (["--weight", "half"], "expected a share such as 0.1 or 10%"),
        (["--weight", "x%"], "expected a share such as 0.1 or 10%"),
        (["--sample", "25"], "did you mean 25%?"),
        (["--weight", "1.5"], "$.canary.weight"),
        (["--weight", "150%"], "$.canary.weight"),
    ],
)
def test_a_share_that_is_none(
    model: str, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run(["rollout", model, "--canary", "2", *words]) == 2
    assert said in capsys.readouterr().err


def test_shares_as_percentages(model: str) -> None:
    for text, weight in (("10%", 0.1), ("0.1", 0.1), ("1", 1.0), ("100 %", 1.0), ("0.5%", 0.005)):
        assert run(["rollout", model, "--canary", "2", "--weight", text]) == 0
        state = load(Bundle.open(f"{model}/2").path.parent)
        assert state is not None and state.plan is not None
        assert state.plan.canary == Canary(version="2", weight=weight)
    assert run(["rollout", model, "--canary", "2", "--weight", "5%", "--auto", "--steps", "5%,0.5,100%"]) == 0
    state = load(Bundle.open(f"{model}/2").path.parent)
    assert state is not None and state.plan is not None and state.plan.policy is not None
    assert state.plan.policy.steps == (0.05, 0.5, 1.0)


def row(agreement: float | None, difference: float | None = None) -> Seen:
    return Seen(
        version="2",
        role="shadow",
        requests=112,
        errors=0,
        error_rate=0.0,
        p50=None,
        p99=None,
        agreement=agreement,
        max_difference=difference,
    )


SHADOW = Plan(model="m", stable="1", shadow=Shadow(version="2"))


@pytest.mark.parametrize(
    ("plan", "seen", "said"),
    [
        (SHADOW, (row(0.0),), "note: version 2, the shadow, had the stable version's labels in 0.00% of"),
        (SHADOW, (row(None, 3.5),), "note: the numbers of version 2, the shadow, were off by up to 3.5"),
        (SHADOW, (row(None),), "note: no answer of version 2, the shadow, was compared"),
        (SHADOW, (), "note: no answer of version 2, the shadow, was compared"),
        (Plan(model="m", stable="1", canary=Canary(version="2", weight=0.5)), (), ""),
        (None, (), ""),
    ],
)
def test_promoting_a_shadow_says_how_it_answered(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    plan: Plan | None,
    seen: tuple[Seen, ...],
    said: str,
) -> None:
    promoted: list[str] = []

    def promote(server: Server, reason: str) -> Report:
        promoted.append(server.model)
        return Report(model="m", versions=("1", "2"), plan=Plan(model="m", stable="2"))

    monkeypatch.setattr(
        Server, "show", lambda _: Report(model="m", versions=("1", "2"), plan=plan, seen=seen)
    )
    monkeypatch.setattr(Server, "promote", promote)
    assert run(["rollout", "m", "--url", "http://127.0.0.1:1", "--promote"]) == 0
    err = capsys.readouterr().err
    assert (said in err if said else "note" not in err) and promoted == ["m"]
