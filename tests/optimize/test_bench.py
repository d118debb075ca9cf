"""`modelport bench`: what it measures is what answers, by turns; and what it says where it cannot."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
from PIL import Image

import modelport
from modelport import plugins
from modelport.bundle.store import Bundle
from modelport.cli.bench import _best
from modelport.cli.main import run
from modelport.engine.cores import usable_cores
from modelport.errors import Unsupported, UsageError
from modelport.optimize import intervals
from modelport.optimize.bench import timing
from modelport.optimize.bench.forms import forms_of
from modelport.optimize.bench.memory import check_memory, free_memory
from modelport.optimize.bench.noise import Look, disturbed, swinging
from modelport.optimize.bench.outcome import Bench, Point, bench_schema
from modelport.optimize.bench.plot import plot
from modelport.optimize.bench.profilers import OnnxProfiled
from modelport.optimize.bench.run import bench
from modelport.optimize.bench.timing import Configuration, Turns
from modelport.optimize.intervals import Interval
from modelport.optimize.items import items_of
from modelport.optimize.stages import STAGES, settle, staged
from modelport.runtimes.form import form_of
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.runtimes.pipeline import Pipeline
from modelport.runtimes.session import Session
from modelport.steps.lowering import TRIALS

from ..boxes import pack_boxes
from ..tables.conftest import pack_tables
from ..text import networks as texts
from .benched import QUICK, fixed, twice


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return twice(tmp_path_factory.mktemp("bench"))


class Absent:
    """A runtime that is not installed."""

    def refuses(self, bundle: Bundle) -> str:
        return "absent is not installed here; pip install absent"


class Fails(Absent):
    """A runtime that takes every bundle and loads no graph."""

    settings: dict[str, object] = {}  # noqa: RUF012

    def refuses(self, bundle: Bundle) -> None:  # type: ignore[override]
        return None

    def open(self, graph: bytes, **settings: object) -> Session:
        raise Unsupported("no such operator: Conv")


@pytest.fixture(scope="module")
def found(bundle: Bundle) -> Bench:
    return bench(bundle, **QUICK)


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more runtimes: `absent` and `fails`."""
    here = f"{__name__}:"
    more = {"absent": f"{here}Absent", "fails": f"{here}Fails"}
    monkeypatch.setitem(plugins.BUILT_IN, "runtimes", plugins.BUILT_IN["runtimes"] | more)
    plugins.table.cache_clear()
    yield
    plugins.table.cache_clear()


def same(answers: list[dict[str, np.ndarray]], whole: list[dict[str, np.ndarray]]) -> None:
    """Batches hold the rows that `answer_many` gives."""
    rows = [{n: a[row, ...] for n, a in batch.items()} for batch in answers for row in range(_length(batch))]
    assert len(rows) == len(whole)
    for got, want in zip(rows, whole, strict=True):
        assert got.keys() == want.keys()
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])


def _length(batch: dict[str, np.ndarray]) -> int:
    return len(next(iter(batch.values())))


@pytest.mark.parametrize("kind", ["colours", "boxes", "houses", "mood"])
def test_what_is_timed_is_what_answers(kind: str, tmp_path: Path, bundle: Bundle) -> None:
    if kind == "colours":
        own = bundle
    elif kind == "boxes":
        pack_boxes(tmp_path)
        own = Bundle.open(tmp_path / "repo" / "boxes")
    elif kind == "houses":
        own = Bundle.open(pack_tables(tmp_path) / "houses")
    else:
        (tmp_path / "words.txt").write_text("\n".join(texts.WORDS) + "\n", encoding="utf-8")
        (tmp_path / "mood.toml").write_text(texts.MOOD)
        source = texts.mood(tmp_path / "mood.onnx")
        own = modelport.pack(source, out=tmp_path / "repo", recipe=tmp_path / "mood.toml")
    items = items_of(own, None).encoded[:4]
    with Pipeline.open(own) as pipeline:
        answers, seconds = staged(pipeline, items)
        same(answers, pipeline.answer_many([pipeline.decode(item) for item in items]))
    assert seconds.shape == (4,)
    assert (seconds > 0).all()


def test_every_variant_batch_and_stage_is_measured(found: Bench) -> None:
    assert [form.title for form in found.forms] == ["onnxruntime packed", "onnxruntime other"]
    assert [(p.form, p.threads, p.batch) for p in found.points] == [
        (0, 1, 1),
        (0, 1, 3),
        (1, 1, 1),
        (1, 1, 3),
    ]
    assert found.rounds >= 2
    for point in found.points:
        assert list(point.stages_ms) == list(STAGES)
        for figure in (point.p50_ms, point.p95_ms, point.throughput, point.throughput_ratio):
            assert 0 < figure.low <= figure.value <= figure.high
        assert point.p50_ms.value <= point.p95_ms.value
        assert len(point.rounds_ms) == len(point.rounds_per_second) == found.rounds
        assert point.calls % found.rounds == 0
    assert [point.latency_ratio is None for point in found.points] == [True, True, False, False]
    assert found.points[0].throughput_ratio.value == 1
    assert found.fastest() in found.points
    assert found.soonest().batch == 1
    assert found.data == "generated"
    assert any("made up" in note for note in found.notes)


def test_the_report_is_json_and_comes_back(found: Bench) -> None:
    data = msgspec.json.encode(found.to_dict())
    assert json.loads(data)["schema"] == "modelport.bench/1"
    assert msgspec.json.decode(data, type=Bench) == found
    jsonschema.validate(json.loads(data), bench_schema())


def test_the_schema_of_the_report_is_published() -> None:
    """To renew it: `print(json.dumps(bench_schema(), indent=2))`."""
    published = Path(__file__).parents[2] / "docs" / "reference" / "bench.schema.json"
    assert published.read_text() == json.dumps(bench_schema(), indent=2) + "\n"


def test_the_order_of_a_round_is_drawn_anew_and_by_the_seed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms, _ = forms_of(bundle, ["onnxruntime"], [], trust=False)
    items = items_of(bundle, None).encoded
    wanted = [Configuration(form, 1, batch, 1) for form in (0, 1) for batch in (1, 2)]

    def orders(seed: int) -> list[tuple[Configuration, ...]]:
        asked: list[Configuration] = []
        with Turns(bundle, forms, items, seed) as turns:
            turn = turns._turn
            monkeypatch.setattr(
                turns, "_turn", lambda each, number: (asked.append(each), turn(each, number))[1]
            )
            turns.measure(wanted, 0.05, lambda what, done, whole: None, lambda: False)
        return [tuple(asked[at : at + 4]) for at in range(0, len(asked), 4)]

    first, again, other = orders(1)[:2], orders(1)[:2], orders(2)[:2]
    assert first == again != other
    assert len(set(first)) > 1
    assert all(Counter(order) == Counter(wanted) for order in first)


def test_only_finished_rounds_count_where_it_is_stopped(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "TURN", 1e-6)
    ticks: list[tuple[int, int]] = []
    a_round = 4 if usable_cores() == 1 else 8

    def tick(what: str, done: int, whole: int) -> None:
        if what == "measuring":
            ticks.append((done, whole))

    found = bench(bundle, **QUICK | {"seconds": 60}, tick=tick, stopped=lambda: len(ticks) > 2 * a_round)
    assert found.interrupted
    assert found.rounds == 2, "two whole rounds; the third was not finished"
    assert any("only 2 rounds" in note for note in found.notes)
    assert [done for done, _ in ticks] == list(range(1, 2 * a_round + 2))
    assert ticks[0][1] % a_round == 0
    with pytest.raises(KeyboardInterrupt):
        bench(bundle, **QUICK, stopped=lambda: True)


def test_runtimes_that_are_not_here_are_left_out_or_refused(bundle: Bundle, runtimes: None) -> None:
    forms, left = forms_of(bundle, [], ["packed"], trust=False)
    assert "absent" not in {form.runtime for form in forms}
    assert {each.what: each.reason for each in left}["absent"].endswith("pip install absent")
    with pytest.raises(Unsupported, match="pip install absent"):
        bench(bundle, **QUICK | {"runtimes": ("absent",)})
    found = bench(bundle, **QUICK | {"runtimes": ("onnxruntime", "fails"), "variants": ("packed",)})
    assert [each.what for each in found.left] == ["fails packed"]
    assert {point.form for point in found.points} == {0}
    with pytest.raises(Unsupported, match="could be measured: fails packed: no such operator"):
        bench(bundle, **QUICK | {"runtimes": ("fails",), "variants": ("packed",)})


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--variant", "othr"], 3, "did you mean 'other'?"),
        (["--runtime", "onnxrumtime"], 2, "no runtime named 'onnxrumtime'"),
        (["--batch", "1,x"], 2, "--batch 1,x: expected whole numbers"),
        (["--threads", "0"], 2, "expected whole numbers of at least 1"),
        (["--data", "nowhere"], 3, "no such file or directory: nowhere"),
        (["--variant", "other", "--variant", "other"], 2, "names one twice"),
        (["--seconds", "0"], 2, "--seconds"),
        (["-o", "/dev/null/here"], 2, "--out /dev/null/here: "),
    ],
)
def test_what_makes_no_sense_is_said(
    bundle: Bundle, flags: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", str(bundle.path), *flags]) == code
    assert said in capsys.readouterr().err


def test_a_network_of_a_fixed_batch_takes_no_other(tmp_path: Path) -> None:
    own = fixed(tmp_path)
    with pytest.raises(UsageError, match="takes exactly 2 items a run; --batch 1 would be run in parts"):
        bench(own, **QUICK | {"batches": (1, 2)})
    found = bench(own, **QUICK | {"batches": ()})
    assert {point.batch for point in found.points} == {2}
    assert "the network takes exactly 2 items a run" in found.notes


def test_what_does_not_fit_into_memory_is_refused_before(bundle: Bundle) -> None:
    forms, _ = forms_of(bundle, ["onnxruntime"], [], trust=False)
    wanted = [Configuration(form, 1, batch, 2) for form in (0, 1) for batch in (1, 4)]
    check_memory(bundle, forms, wanted, None)
    check_memory(bundle, forms, wanted, 1 << 30)
    with pytest.raises(Unsupported, match="4 copies of the network would be loaded") as raised:
        check_memory(bundle, forms, wanted, 1 << 10)
    assert "--variant" in (raised.value.hint or "")
    assert (free_memory() or 1) > 0


def test_intervals_hold_the_value_and_narrow_with_rounds() -> None:
    random = np.random.default_rng(0)
    few, many = (intervals.interval(random.normal(10, 1, count)) for count in (5, 500))
    assert few.low <= few.value <= few.high
    assert many.high - many.low < 0.3 < few.high - few.low
    assert many.low < 10.1
    calls = np.tile(np.arange(1.0, 101.0), (20, 1))
    assert intervals.percentile(calls, 95).value == pytest.approx(95.05)
    assert intervals.percentile(calls, 50).value == pytest.approx(50.5)
    steady = intervals.interval(np.full(9, 3.0))
    assert (steady.low, steady.value, steady.high) == (3, 3, 3)


def test_a_noisy_machine_is_said() -> None:
    before = Look(busy=100, stolen=1, own=10, throttled=4)
    assert disturbed(before, Look(busy=120, stolen=1, own=30, throttled=4), 10, 2) == []
    others = disturbed(before, Look(busy=118, stolen=1, own=20, throttled=4), 10, 2)
    assert others
    assert "used 40% of the 2 cores" in others[0]
    host = disturbed(before, Look(busy=112, stolen=3, own=20, throttled=7), 10, 2)
    assert "took 10%" in host[0]
    assert "used up 3 times" in host[1]
    assert disturbed(None, None, 10, 2) == []
    assert swinging(np.full(9, 2.0)) == []
    assert "swing by" in swinging(np.array([1.0, 2.0, 3.0, 4.0]))[0]


def test_the_command_prints_writes_and_draws(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ["--runtime", "onnxruntime", "--batch", "1,2", "--seconds", "0.05", "--profile", "-o", str(out)]
    assert run(["bench", str(bundle.path), *flags]) == 0
    said = capsys.readouterr()
    for word in ("p50 ms", "items/s", "decode", "first + relu", "shortest:", "most:"):
        assert word in said.out
    assert "made up" in said.err
    report = msgspec.json.decode((out / "bench.json").read_bytes(), type=Bench)
    assert {point.batch for point in report.points} == {1, 2}
    with Image.open(out / "bench.png") as picture:
        assert picture.size == (1500, 690)
    full = tmp_path / "a file"
    full.write_text("")
    assert run(["bench", str(bundle.path), "-o", str(full / "x")]) == 2
    assert f"cannot write to --out {full / 'x'}: " in capsys.readouterr().err
    assert run(["bench", str(bundle.path), "--json", *flags[:-3]]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "modelport.bench/1"


def test_the_best_throughput_is_compared_with_the_first_line(found: Bench) -> None:
    first, other = found.points[:2]

    def said(*points: Point) -> str:
        return _best(msgspec.structs.replace(found, points=points))[1]

    def with_ratio(value: float, low: float, high: float) -> Point:
        fast = Interval(1e6, 1e6, 1e6)
        ratio = Interval(value, low, high)
        return msgspec.structs.replace(other, throughput=fast, throughput_ratio=ratio)

    assert "at a time" in said(first) and "first line" not in said(first)
    assert said(first, with_ratio(2.0, 1.9, 2.1)).endswith(": 2.00 (1.90-2.10) times the first line")
    assert said(first, with_ratio(0.94, 0.77, 1.15)).endswith(
        ": round by round 0.940 (0.770-1.15) of the first line, which it cannot be told apart from"
    )


def test_one_point_is_drawn_as_well(found: Bench) -> None:
    one = msgspec.structs.replace(found, points=found.points[:1])
    with Image.open(io.BytesIO(plot(one))) as picture:
        assert picture.format == "PNG"


def test_what_a_pipeline_tries_out_is_over_before_it_is_timed(bundle: Bundle, tmp_path: Path) -> None:
    """The first pictures of every size are prepared by the graph and natively, and compared."""
    items = []
    for side in (10, 11, 40, 90):
        file = io.BytesIO()
        Image.new("RGB", (side, side), (200, 10, 10)).save(file, "PNG")
        items.append(file.getvalue())
    form = form_of(bundle, "")
    pre = OnnxProfiled(bundle.graph("pre"), 1, {}, tmp_path)
    net, post = (OnnxRuntime().open(bundle.graph(name)) for name in ("net", "post"))
    with Pipeline(bundle, pre, net, post, form=form) as pipeline:
        settle(pipeline, items)
        assert pre.runs == 3 * TRIALS, "10 and 11 pixels count as one size"
        before = pre.runs
        staged(pipeline, items)
        each = pre.runs - before
        staged(pipeline, items)
        assert pre.runs - before == 2 * each
        pre.ran(0)
