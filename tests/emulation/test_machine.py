"""Jobs as files, the program that runs them, and what is said where a machine cannot be emulated."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelport.emulation import jobs as files
from modelport.emulation import machine as machines
from modelport.emulation import qemu
from modelport.emulation.jobs import NUMBERS, Earlier, Job
from modelport.errors import ModelFailed, NotFound, Unsupported
from modelport.tensors import Array

from .native import Native


def said(text: str) -> None:
    """What is told of the way."""


def graph(op: str, dtype: int = TensorProto.FLOAT, shape: tuple[int | str, ...] = ("n", 2)) -> bytes:
    """One node, `y` of `x`."""
    tensors = [helper.make_tensor_value_info(name, dtype, shape) for name in ("x", "the y")]
    made = helper.make_graph([helper.make_node(op, ["x"], ["the y"])], "one", tensors[:1], tensors[1:])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Native:
    """This machine among those that can be emulated."""
    here = Native()
    monkeypatch.setattr(machines, "EMULATORS", (here,))
    return here


def test_every_type_goes_there_and_back(native: Native) -> None:
    texts = np.array([["a b", ""], ["é\nü", "z"]], object)
    numbers = np.array([[0, 1], [1, 0]])
    arrays: list[Array] = [texts if name == "string" else numbers.astype(name) for name in NUMBERS]
    graphs = [graph("Identity", NUMBERS[name], (2, 2)) for name in NUMBERS]
    made = [Job(one, {"x": array}, ("the y",)) for one, array in zip(graphs, arrays, strict=True)]
    ran = machines.run("native", made, seconds=60, tell=said)
    assert len(ran.outputs) == len(arrays)
    for got, want in zip(ran.outputs, arrays, strict=True):
        assert got["the y"].dtype == want.dtype
        assert got["the y"].tolist() == want.tolist()


def test_a_job_takes_the_first_rows_of_what_an_earlier_one_gives(native: Native) -> None:
    x = np.array([[1, -2], [3, 4]], np.float32)
    first = Job(graph("Neg"), {"x": x}, ("the y",))
    second = Job(graph("Abs"), {"x": Earlier(0, 0, x[:1])}, ("the y",), level=0, settings={"a.b": "1"})
    outputs = machines.run("native", [first, second], seconds=60, tell=said).outputs
    np.testing.assert_array_equal(outputs[0]["the y"], -x)
    np.testing.assert_array_equal(outputs[1]["the y"], [[1, 2]])


def test_no_job_is_begun_when_the_time_is_over(native: Native) -> None:
    job = Job(graph("Neg"), {"x": np.ones((1, 2), np.float32)}, ("the y",))
    assert machines.run("native", [job], seconds=1e-9 + 1e3, tell=said).outputs
    with pytest.raises(ModelFailed, match="not one graph was run") as refusal:
        machines._ran([sys.executable, "-c", "import time; time.sleep(60)"], ".", 0.2)
    assert "perhaps --seconds 1" in (refusal.value.hint or "")


def test_jobs_are_counted_while_they_run_and_after_the_end_of_the_time() -> None:
    program = "import time; print('ran'); print('ran', flush=True); time.sleep({})"
    for rest, limit in ((0, 60.0), (60, 4.0)):
        counted: list[int] = []
        command = [sys.executable, "-c", program.format(rest)]
        assert machines._ran(command, ".", limit, counted.append).split() == ["ran", "ran"]
        assert counted == [2]


def test_what_was_done_before_the_end_counts(tmp_path: Path) -> None:
    (tmp_path / "0.0.out").write_bytes(np.ones(2, np.float32).tobytes())
    job = Job(b"", {}, ("y",))
    printed = "output 1 1 2 0.0.out\nran\noutput 1 1 2 0."
    (only,) = files.read(tmp_path, [job, job], printed)
    np.testing.assert_array_equal(only["y"], [1, 1])
    assert files.read(tmp_path, [job], "") == []


def test_a_graph_that_does_not_run_there_says_why(native: Native) -> None:
    job = Job(b"no graph", {"x": np.ones(1, np.float32)}, ("y",))
    with pytest.raises(ModelFailed, match=r"(?i)protobuf"):
        machines.run("native", [job], seconds=60, tell=said)


def test_what_files_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="one line"):
        files.write(tmp_path, [Job(b"", {"a\nb": np.ones(1)}, ())])
    with pytest.raises(Unsupported, match="zero character"):
        files.write(tmp_path, [Job(b"", {"a": np.array(["\0"], object)}, ())])


def test_without_tools_the_reason_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MODELPORT_ENVIRONMENTS", str(tmp_path / "environments"))
    there = {one.name: one for one in machines.machines()}
    assert set(there) == {"haswell", "aarch64", "aarch64-dotprod", "wasm"}
    assert not any(one.available for one in there.values())
    if sys.platform == "linux":
        assert "apt install qemu-user-static" in there["aarch64"].reason
    assert "nodejs" in there["wasm"].reason
    with pytest.raises(Unsupported, match="cannot be emulated here: there is no node"):
        machines.run("wasm", [], seconds=1, tell=said)
    with pytest.raises(NotFound, match="no machine is called 'arm'"):
        machines.machine("arm")


@pytest.mark.skipif(sys.platform != "linux", reason="qemu's user-mode emulation is for Linux")
def test_a_qemu_that_does_not_know_avx2_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "qemu-x86_64"
    old.write_text("#!/bin/sh\necho qemu-x86_64 version 6.2.0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "is version 6.2, and at least 7.2 is needed" in qemu.refuses("x86_64")
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "qemu-x86_64-static").write_text("#!/bin/sh\necho qemu-x86_64 version 10.0.2\n")
    (tmp_path / "newer" / "qemu-x86_64-static").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "newer"))
    assert qemu.refuses("x86_64") == ""


def test_names_of_types_are_onnx_s() -> None:
    for name, number in NUMBERS.items():
        tensor = onnx.helper.tensor_dtype_to_np_dtype(number)
        assert tensor == np.dtype("object" if name == "string" else name)
