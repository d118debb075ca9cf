"""Who is let in: keys, scopes, models, expiry, rates, and the file that changes under a running server."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelport.errors import Forbidden, ModelportError, RateLimited, Unauthorized, UsageError
from modelport.serve.guard import ring as ring_module
from modelport.serve.guard.guard import Guard
from modelport.serve.guard.keys import new_key, update, without
from modelport.serve.guard.rate import Rate
from modelport.serve.guard.ring import KeyRing


class Bench:
    """A keys file, a guard over it, and clocks that stand still until they are moved."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        self.now = 100.0
        self.wall = datetime(2026, 6, 1, tzinfo=UTC).timestamp()

    def add(self, name: str, *scopes: str, **more: object) -> str:
        made: list[str] = []

        def change(keys: object) -> object:
            keys, text = new_key(name, scopes or ("infer",), keys=keys, **more)  # type: ignore[arg-type]
            made.append(text)
            return keys

        update(self.path, change)  # type: ignore[arg-type]
        return made[0]

    def guard(self, **more: object) -> Guard:
        ring = KeyRing.open(self.path)
        return Guard(ring, clock=lambda: self.now, wall=lambda: self.wall, **more)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_without_keys_answers_are_free_and_administration_is_not() -> None:
    guard = Guard()
    assert guard.idle
    assert guard.authorize({}, "infer", model="digits").name == ""
    assert guard.authorize({}, "metrics").name == ""
    with pytest.raises(Forbidden, match="modelport keys add NAME --scope admin"):
        guard.authorize({}, "admin")
    with pytest.raises(Forbidden):
        guard.authorize(bearer("anything"), "admin")


FORMS: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": bearer,
    "bearer in capitals": lambda key: {"authorization": f"BEARER {key}"},
    "bearer with spaces": lambda key: {"authorization": f"Bearer   {key} "},
    "raw, as PAI-EAS": lambda key: {"authorization": key},
    "x-api-key": lambda key: {"x-api-key": key},
    "x-api-key beside another authorization": lambda key: {"authorization": "Basic eDp5", "x-api-key": key},
    "a header of one's own, as Triton's": lambda key: {"admin-key": key},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_taken_in_every_form(bench: Bench, form: str) -> None:
    key = bench.add("ci")
    guard = bench.guard(key_headers=("x-api-key", "admin-key"))
    for _ in range(3):  # hashed, then remembered
        assert guard.authorize(FORMS[form](key), "infer", model="digits").name == "ci"


WRONG: dict[str, Callable[[str], dict[str, str]]] = {
    "none": lambda key: {},
    "empty": lambda key: {"authorization": ""},
    "bearer alone": lambda key: {"authorization": "Bearer "},
    "cut": lambda key: bearer(key[:-1]),
    "longer": lambda key: bearer(key + "A"),
    "last letter": lambda key: bearer(key[:-1] + ("A" if key[-1] != "A" else "B")),
    "in capitals": lambda key: bearer(key.upper()),
    "basic": lambda key: {"authorization": f"Basic {key}"},
    "twice": lambda key: bearer(f"Bearer {key}"),
    "two keys": lambda key: bearer(f"{key},{key}"),
    "in a header that is not asked": lambda key: {"admin-key": key},
    "nul": lambda key: bearer(key + "\0"),
    "not latin": lambda key: bearer("ключ"),
    "surrogates": lambda key: bearer("\udcff\udcfe"),
    "endless": lambda key: bearer(key * 10_000),
    "the hash": lambda key: bearer("0" * 64),
}


@pytest.mark.parametrize("form", WRONG)
def test_everything_else_is_401_with_a_challenge(bench: Bench, form: str) -> None:
    key = bench.add("ci")
    guard = bench.guard()
    guard.authorize(bearer(key), "infer")
    for _ in range(2):
        with pytest.raises(Unauthorized) as refused:
            guard.authorize(WRONG[form](key), "infer")
        assert refused.value.http_status == 401
        assert refused.value.challenge.startswith("Bearer ")
        assert key not in str(refused.value)


def test_scopes_do_not_include_each_other(bench: Bench) -> None:
    keys = {scope: bench.add(scope, scope) for scope in ("infer", "metrics", "admin")}
    guard = bench.guard()
    for mine, key in keys.items():
        for asked in keys:
            if asked == mine:
                assert guard.authorize(bearer(key), asked).name == mine
            else:
                with pytest.raises(Forbidden, match=f"needs the scope {asked}; the key '{mine}' has {mine}"):
                    guard.authorize(bearer(key), asked)  # type: ignore[arg-type]
    both = bench.add("both", "infer", "admin")
    guard = bench.guard()
    assert guard.authorize(bearer(both), "infer") == guard.authorize(bearer(both), "admin")


def test_what_is_open_is_open_and_what_is_opened_too(bench: Bench) -> None:
    bench.add("ci")
    guard = bench.guard()
    assert not guard.idle
    assert guard.authorize({}, "open").name == ""
    with pytest.raises(Unauthorized):
        guard.authorize({}, "metrics")
    guard = bench.guard(open_to_all=("infer", "metrics"))
    assert not guard.idle, "a key that is shown counts"
    assert guard.authorize({}, "infer").name == guard.authorize({}, "metrics").name == ""
    with pytest.raises(Unauthorized):
        guard.authorize({}, "admin")


def test_a_key_that_is_shown_counts_where_none_is_needed(bench: Bench) -> None:
    slow, other, of_one = (
        bench.add("slow", rate="2/s"),
        bench.add("m", "metrics"),
        bench.add("one", models=["a"]),
    )
    guard = bench.guard(open_to_all=("infer",))
    for _ in range(2):
        assert guard.authorize(bearer(slow), "infer").name == "slow"
    with pytest.raises(RateLimited, match="'slow' is over its 2/s"):
        guard.authorize(bearer(slow), "infer")
    for ask in (guard.authorize, guard.check_known):
        ask({}, "infer")
        ask(bearer("wrong"), "open")
        with pytest.raises(Unauthorized, match="not known"):
            ask(bearer("wrong"), "infer")
    # What is open to everybody is open to a key of another scope; and a key for one model stays that.
    assert guard.authorize(bearer(other), "infer").name == "m"
    assert guard.authorize(bearer(of_one), "infer", model="a").name == "one"
    with pytest.raises(Forbidden, match="not for the model"):
        guard.authorize(bearer(of_one), "infer", model="b")


def test_a_key_for_some_models_is_for_no_others(bench: Bench) -> None:
    key = bench.add("ci", models=["digits", "faces"])
    guard = bench.guard()
    for name in ("digits", "faces"):
        assert guard.authorize(bearer(key), "infer", model=name).may_ask(name)
    for name in ("other", "", "Digits", "digits/../other", "digits\0"):
        with pytest.raises(Forbidden, match="not for the model"):
            guard.authorize(bearer(key), "infer", model=name)
    assert not guard.authorize(bearer(key), "infer").may_ask("other")
    none = bench.add("none", models=[])
    with pytest.raises(Forbidden):
        bench.guard().authorize(bearer(none), "infer", model="digits")


def test_a_key_ends_when_it_ends_even_if_it_is_remembered(bench: Bench) -> None:
    key = bench.add("ci", expires=datetime(2026, 6, 2, tzinfo=UTC))
    guard = bench.guard()
    guard.authorize(bearer(key), "infer")
    bench.wall += 24 * 3600 - 0.001
    guard.authorize(bearer(key), "infer")
    bench.wall += 0.001
    with pytest.raises(Unauthorized, match="'ci' has expired"):
        guard.authorize(bearer(key), "infer")


def test_a_key_over_its_rate_is_429_and_told_when_to_come_back(bench: Bench) -> None:
    slow, fast = bench.add("slow", rate="2/s"), bench.add("fast")
    guard = bench.guard()
    for _ in range(2):
        guard.authorize(bearer(slow), "infer")
    with pytest.raises(RateLimited) as refused:
        guard.authorize({"x-api-key": slow}, "infer")  # however it is presented
    assert refused.value.http_status == 429 and refused.value.retry_after == pytest.approx(0.5)
    for _ in range(100):
        guard.authorize(bearer(fast), "infer")
    bench.now += 0.5
    guard.authorize(bearer(slow), "infer")


def test_an_address_over_its_rate_is_429_before_any_key_is_looked_at(bench: Bench) -> None:
    key = bench.add("ci")
    guard = bench.guard(per_client=Rate(3, 1))
    assert not guard.idle and not Guard(per_client=Rate(3, 1)).idle
    for _ in range(3):
        with pytest.raises(Unauthorized):
            guard.authorize(bearer("wrong"), "infer", client="192.0.2.1")
    with pytest.raises(RateLimited, match="address"):
        guard.authorize(bearer(key), "infer", client="192.0.2.1")
    guard.authorize(bearer(key), "infer", client="192.0.2.2")
    # A probe of its health is nobody's quota.
    assert guard.authorize({}, "open", client="192.0.2.1").name == ""


def test_new_and_revoked_keys_are_known_within_a_second(bench: Bench) -> None:
    first = bench.add("first")
    guard = bench.guard()
    guard.authorize(bearer(first), "infer")
    second = bench.add("second")
    update(bench.path, lambda keys: without(keys, "first"))
    with pytest.raises(Unauthorized):
        guard.authorize(bearer(second), "infer")  # the file is looked at once a second
    guard.authorize(bearer(first), "infer")
    bench.now += ring_module.LOOK_EVERY
    guard.authorize(bearer(second), "infer")
    with pytest.raises(Unauthorized):
        guard.authorize(bearer(first), "infer")


def test_a_reload_is_no_new_allowance_and_a_new_rate_is_one(bench: Bench) -> None:
    key = bench.add("ci", rate="1/h")
    guard = bench.guard()
    guard.authorize(bearer(key), "infer")
    bench.add("more")
    bench.now += 1
    with pytest.raises(RateLimited):
        guard.authorize(bearer(key), "infer")
    bench.path.write_text(bench.path.read_text().replace("1/h", "2/h"))
    bench.now += 1
    guard.authorize(bearer(key), "infer")


@pytest.mark.parametrize("damage", ["{", "", None, "everybody's"])
def test_a_damaged_file_keeps_the_keys_and_is_told_once(
    bench: Bench, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    key = bench.add("ci")
    guard = bench.guard()
    guard.authorize(bearer(key), "infer")
    whole = bench.path.read_bytes()
    if damage is None:
        bench.path.unlink()
    elif damage == "everybody's":
        bench.path.chmod(0o666)
    else:
        bench.path.write_text(damage)
    with caplog.at_level(logging.INFO, "modelport"):
        for _ in range(5):
            bench.now += 1.5
            guard.authorize(bearer(key), "infer")
            with pytest.raises(Unauthorized):
                guard.authorize({}, "infer")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "stay valid" in caplog.text and key not in caplog.text
    bench.path.unlink(missing_ok=True)
    bench.path.write_bytes(whole)
    second = bench.add("second")
    bench.now += 1.5
    guard.authorize(bearer(second), "infer")
    guard.authorize(bearer(key), "infer")


def test_a_server_does_not_start_with_keys_it_cannot_read(bench: Bench) -> None:
    with pytest.raises(UsageError):
        Guard.open(bench.path)
    bench.path.write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        Guard.open(bench.path)
    assert Guard.open(None).idle


def test_a_mounted_secret_that_is_swapped_by_its_link_is_seen(bench: Bench, tmp_path: Path) -> None:
    """As Kubernetes does it: the file is a link into a folder that is a link."""
    old, new = Bench(tmp_path / "old"), Bench(tmp_path / "new")
    for each in (old, new):
        each.path.parent.mkdir()
    first, second = old.add("first"), new.add("second")
    current = tmp_path / "current"
    current.symlink_to("old")
    bench.path.symlink_to(Path("current") / "keys.json")
    guard = bench.guard()
    guard.authorize(bearer(first), "infer")
    (tmp_path / "next").symlink_to("new")
    os.replace(tmp_path / "next", current)
    bench.now += 1
    guard.authorize(bearer(second), "infer")


def test_wrong_keys_take_no_memory_and_right_ones_a_bounded_amount(bench: Bench) -> None:
    key = bench.add("ci")
    ring = KeyRing.open(bench.path)
    for number in range(2000):
        assert ring.find(f"Bearer wrong-{number}") is None
    assert len(ring._seen) == 0
    for spaces in range(400):
        assert ring.find("Bearer " + " " * spaces + key) is not None
    assert len(ring._seen) <= 8


def test_keys_are_compared_whole_and_in_constant_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A17. Whatever is compared is a hash of 32 bytes, by the function that does not stop at a difference."""
    key = bench.add("ci")
    compared: list[tuple[bytes, bytes]] = []
    right = ring_module.hmac.compare_digest

    def watched(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return right(a, b)

    monkeypatch.setattr(ring_module.hmac, "compare_digest", watched)
    ring = KeyRing.open(bench.path)
    for wrong in ("", key[:-1], key + "x", "mpk_"):
        assert ring.find(wrong) is None
    assert compared == []  # a wrong key does not even find a candidate
    assert ring.find(key) is not None
    assert [len(side) for pair in compared for side in pair] == [32, 32]
    # A hash that agrees with a known one where the table looks, and differs after, is still refused.
    near = ring._known[0].digest[:8] + bytes(24)
    monkeypatch.setattr(ring_module, "digest", lambda salt, text: near)
    assert ring.find("forged") is None and len(compared) == 2


def test_a_key_in_the_wrong_place_is_told_but_cannot_flood_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    key = bench.add("ci")
    guard = bench.guard()
    with caplog.at_level(logging.INFO, "modelport.audit"):
        for _ in range(1000):
            with pytest.raises(Forbidden):
                guard.authorize(bearer(key), "admin", client="192.0.2.1")
    assert len(caplog.records) == 10
    assert caplog.records[0].event == "key_refused" and "192.0.2.1" in caplog.text  # type: ignore[attr-defined]


def test_every_refusal_is_one_of_modelports(bench: Bench) -> None:
    for kind, status in ((Unauthorized, 401), (Forbidden, 403), (RateLimited, 429)):
        assert issubclass(kind, ModelportError) and kind.http_status == status
