"""How a report is shown: ids in lines, the table of a narrow terminal, numbers beside points."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from rich.progress import Progress

from modelport.cli import optimize as command
from modelport.cli import optimize_table
from modelport.cli import repeat as repeating
from modelport.optimize.candidate import START
from modelport.optimize.clock import Told
from modelport.optimize.front import front
from modelport.optimize.outcome import gained, in_lines, judged_by
from modelport.optimize.report import write_report

from .reports import CHOSEN, entry, made_up, repeated, saved_figures


def test_an_id_is_broken_behind_hyphens() -> None:
    assert in_lines("fp16", 24) == ["fp16"]
    assert in_lines(CHOSEN, 24) == [
        "static-int8-percentile-",
        "u8s8-openvino-on-",
        "openvino-precision-bf16",
    ]
    assert "".join(in_lines(CHOSEN, 10)) == CHOSEN
    assert in_lines("a" * 30 + "-b", 10) == ["a" * 30 + "-", "b"]  # a word is not broken


@pytest.mark.parametrize("width", [80, 130])
def test_every_candidate_and_its_reason_are_printed(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(optimize_table, "console", lambda: Console(highlight=False, width=width))
    report = made_up()
    optimize_table.print_entries(report.entries)
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert max(map(len, lines)) <= width
    table = [line.strip() for line in lines if line.startswith(("static-int8-percentile-", "u8s8-openvino"))]
    assert table[0].split()[:2] == [in_lines(CHOSEN, max(24, width // 4))[0], "chosen"]
    assert said.count("there is nothing to") == 1 and said.count("<b>why</b>") == len(report.entries) - 4
    if width == 130:  # no word of an id is broken in a reason either
        assert any(line.rstrip().endswith(" bf16: the intervals meet") for line in lines)
    else:
        assert "slow (slower): slower than the START" in said
    words = " ".join(said.split())
    assert "loss, points (90 %)" in words or (width == 80 and "(90 %)" in words)
    assert "not p50 over p50" in words
    assert "skipped (there is nothing to simplify): simplify, unused" in words
    assert not any(line.startswith(("simplify  ", "unused  ")) for line in lines)


def test_where_it_was_written_is_said_and_no_note_twice(capsys: pytest.CaptureFixture[str]) -> None:
    report = made_up()
    command._print(report, "out", {report.notes[0]})
    said = capsys.readouterr()
    assert said.err == "" and "written: out/squeezenet/2" in said.out
    assert "2 cores, judged by accuracy, against the known answers in labels.csv" in said.out


def test_what_is_gained_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = made_up()
    line = "3.03 times the items a second, 0.33 of the latency, 1.00 of the size; accuracy 0.9 became 0.9"
    assert gained(report) == line
    command._print(report, "out", set())
    assert f"{CHOSEN} is best: {line}; written: " in capsys.readouterr().out
    write_report(tmp_path, report)
    assert f"<p><b>{line}</b></p>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert gained(msgspec.structs.replace(report, chosen=START)) == ""


def test_a_part_of_the_items_has_its_own_level(capsys: pytest.CaptureFixture[str]) -> None:
    refused = entry("bad", "refused", 0.5, 9.0)
    assert refused.judgement is not None
    part = msgspec.structs.replace(refused.judgement, part=True)
    optimize_table.print_entries([msgspec.structs.replace(refused, judgement=part), entry("b", "tie", 0.5)])
    said = capsys.readouterr().out
    assert said.count("; 98 %)") == 1 and "9.00 (8.00 to 10.00; 98 %)" in said


def test_what_it_was_judged_by_is_said() -> None:
    report = made_up()
    assert judged_by(report) == "accuracy, against the known answers in labels.csv"
    assert judged_by(msgspec.structs.replace(report, labelled="")).startswith("agreement with the answers of")
    assert (report.loss_level, report.latency_level) == (0.90, 0.95)


def test_numbers_of_points_on_one_spot_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    places: list[tuple[float, float]] = []
    original = Axes.annotate

    def annotate(self: Axes, text: str, xy: object, *rest: object, **how: object) -> object:
        if text.isdigit():
            places.append(how["xytext"])  # type: ignore[arg-type]
        return original(self, text, xy, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "annotate", annotate)
    report = made_up()
    assert front(report).startswith(b"\x89PNG")
    assert len(places) == 8 and len(set(places[1:5])) == 4
    alone = msgspec.structs.replace(report, entries=report.entries[:1], chosen="start")
    assert front(alone).startswith(b"\x89PNG")


def test_a_long_legend_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = saved_figures(monkeypatch)
    report = made_up()
    more = [entry(f"{CHOSEN}-{number}", "tie", 0.4 + number / 50) for number in range(24)]
    assert front(msgspec.structs.replace(report, entries=(*report.entries, *more)))
    (legend,) = (axes.get_legend() for axes in figures[0].axes)
    (key,) = figures[0].legends  # what the colours say
    assert [text.get_text() for text in key.get_texts()][:2] == ["as it is", "chosen"]
    assert "(90 % interval)" in figures[0].axes[0].get_ylabel()
    assert legend is not None
    box = legend.get_window_extent()
    assert box.y0 >= 0 and box.x1 <= figures[0].bbox.width


def test_time_left_is_seen_in_a_narrow_terminal() -> None:
    title = "as it is, photos decoded at 1/2, 1/4 or 1/8, on onnxruntime (arena false)"
    for width, told in (
        (80, "as it is, photos deco… (up to 1:20 more)"),
        (300, f"{title}: making it (up to 1:20"),
    ):
        with Progress(console=Console(width=width, force_terminal=True, quiet=True)) as bar:
            bar.add_task("optimize")
            command.Shown(bar)(Told(f"{title}: making it", 1, 30, 80.0))
            assert bar.tasks[0].description.startswith(told)
            assert len(bar.tasks[0].description) <= width // 2


def test_a_repetition_shows_the_start_beside_it_and_what_was_judged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = entry("half", "kept", 0.5)
    again = repeated(before, start_throughput=91.25, before_that=100.5)
    repeating._print(again)
    said = " ".join(capsys.readouterr().out.split())
    assert "p50 of the START, ms 10.00 9.00" in said and "items/s of the START 100.5 91.2" in said
    assert said.endswith(
        "it holds: the verdict is 'passes' again, and the interval of its latency over the START's meets the "
        "one in the report; throughput is shown and not judged"
    )
    unmeasured = msgspec.structs.replace(before, figures=None)
    held = repeating._held(msgspec.structs.replace(again, before=unmeasured))
    assert held == "it holds: the verdict is 'passes' again; throughput is shown and not judged"
    quick = msgspec.structs.replace(unmeasured, judgement=None)
    held = repeating._held(msgspec.structs.replace(again, before=quick))
    assert held == "nothing was judged: the report has neither a verdict nor a latency of it"
    assert "compared with" in repeating._held(msgspec.structs.replace(again, judgement=None))
    refused = msgspec.structs.replace(before.judgement, verdict="fails")
    repeating._print(msgspec.structs.replace(again, judgement=refused, start_throughput_before=None))
    said = " ".join(capsys.readouterr().out.split())
    assert "items/s of the START 91.2" in said
    assert said.endswith("it does not hold: the verdict was 'passes' and is 'fails'")
