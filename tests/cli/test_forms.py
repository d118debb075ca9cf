"""Which form of a network runs, and on what, as the command line is told and tells it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.importers.pack import pack

from ..runtimes.test_form import times


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `item.npy`, and in `repo` a bundle that doubles its input, whose variants treble it."""
    where = tmp_path_factory.mktemp("forms")
    onnx.save(onnx.load_model_from_string(times(2)), where / "times.onnx")
    plain = pack(where / "times.onnx", out=where / "repo")
    variants = (
        Variant("quick", "other.onnx", chosen=True, runtime="openvino"),
        Variant("thrice", "other.onnx", chosen=True),
        Variant("spare", "other.onnx"),
    )
    plain.derive(where / "repo" / "times" / "2", {"other.onnx": times(3)}, version="2", variants=variants)
    np.save(where / "item.npy", np.ones(3, np.float32))
    return where


def predicted(
    place: Path, capsys: pytest.CaptureFixture[str], *flags: str, version: str = "2"
) -> tuple[dict[str, object], str]:
    """The line of an answer, and what was said beside it."""
    bundle, item = place / "repo" / "times" / version, place / "item.npy"
    assert run(["predict", str(bundle), str(item), "--json", *flags]) == 0
    printed = capsys.readouterr()
    line: dict[str, object] = json.loads(printed.out)
    return line, printed.err


def test_lines_name_the_form_that_answers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, err = predicted(place, capsys, "--runtime", "onnxruntime")
    assert (line["variant"], line["answer"]) == ("thrice", {"y": [3, 3, 3]})
    assert "runtime" not in line
    assert not err
    line, _ = predicted(place, capsys, "--variant", "packed")
    assert (line["variant"], line["answer"]) == ("packed", {"y": [2, 2, 2]})
    line, _ = predicted(place, capsys, version="1")
    assert not {"variant", "runtime"} & line.keys()
    both = [str(place / "item.npy")] * 2
    assert run(["predict", str(place / "repo" / "times"), *both, "--variant", "spare"]) == 0
    printed = capsys.readouterr()
    assert "answer by variant spare" in printed.out
    assert "(median), by variant spare" in printed.err


def test_lines_name_another_runtime(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")
    line, err = predicted(place, capsys)
    assert (line["variant"], line["runtime"]) == ("quick", "openvino")
    assert not err


def test_a_variant_on_another_runtime_than_its_own_is_noted(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--variant", "quick", "--runtime", "onnxruntime"]
    line, err = predicted(place, capsys, *flags)
    assert line["variant"] == "quick"
    assert "note: variant quick was judged on openvino; it is run on onnxruntime" in err
    bundle = str(place / "repo" / "times" / "2")
    quick = ["--batch", "1", "--threads", "1", "--seconds", "0.05"]
    assert run(["bench", bundle, *flags, *quick]) == 0
    assert "note: variant quick was judged on openvino; it is run on onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["predict", "bench", "serve", "evaluate"])
def test_a_misspelt_runtime_is_2_with_those_that_are_known(
    verb: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = {"predict": [str(place / "item.npy")], "evaluate": ["--data", str(place)]}.get(verb, [])
    bundle = str(place / "repo" / "times" / "2")
    assert run([verb, bundle, *items, "--runtime", "onnxrumtime"]) == 2
    said = capsys.readouterr().err
    assert "no runtime named 'onnxrumtime'" in said
    assert "known: onnxruntime, openvino, python" in said


@pytest.mark.parametrize("verb", ["predict", "bench", "serve"])
def test_the_runtime_of_functions_runs_no_graph(
    verb: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [str(place / "item.npy")] if verb == "predict" else []
    for bundle in (
        place / "repo" / "times" / "2",
        place / "repo" if verb == "serve" else place / "repo/times",
    ):
        assert run([verb, str(bundle), *items, "--runtime", "python"]) == 4
        assert "the runtime python runs no ONNX networks" in capsys.readouterr().err


def test_with_trust_a_graph_runs_as_ever(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, _ = predicted(place, capsys, "--trust", "--runtime", "python", "--variant", "spare")
    assert (line["variant"], line["answer"]) == ("spare", {"y": [3, 3, 3]})
    assert "runtime" not in line


def test_a_variant_that_is_not_there_names_packed_too(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = str(place / "item.npy")
    for version, hint in (("2", "known: packed, quick, thrice, spare"), ("1", "it has none but packed")):
        bundle = str(place / "repo" / "times" / version)
        assert run(["predict", bundle, item, "--variant", "zzz"]) == 3
        assert hint in capsys.readouterr().err


def test_inspect_says_which_form_comes_first_and_counts_golden_files(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = place / "repo" / "times" / "2"
    assert run(["inspect", str(bundle)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "quick: other.onnx on openvino, chosen first for any machine" in shown
    assert "thrice: other.onnx on onnxruntime, chosen for any machine if openvino is not here" in shown
    assert "spare: other.onnx on onnxruntime, with --variant alone" in shown
    golden = Bundle.open(bundle).manifest.golden
    assert golden is not None
    assert f"golden/ {len(golden.cases)} cases, {2 * len(golden.cases)} files, " in shown
    assert golden.cases[0].input not in shown
    assert run(["inspect", str(bundle), "--json"]) == 0
    assert golden.cases[0].input in json.loads(capsys.readouterr().out)["manifest"]["files"]
