"""What `pack` tells a user on the way to an error, and offers instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from modelport.errors import Unsupported, UsageError
from modelport.importers.isolated import _made
from modelport.importers.pack import pack
from modelport.importers.source import Permission
from modelport.isolation import environments

from .networks import convnet


def test_a_classifier_is_offered_the_recipes_of_classifiers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes a picture by the look of it") as refusal:
        pack(convnet(), out=tmp_path / "repo", name="n")
    hint = str(refusal.value.hint)
    for said in ("--recipe imagenet (", "--recipe imagenet-caffe (", "fit-steps", "--recipe raw"):
        assert said in hint
    assert "yolo" not in hint and "digits" not in hint


def test_what_was_decided_on_the_way_is_told_before_an_error(tmp_path: Path) -> None:
    onnx.save(convnet(batch=1), tmp_path / "net.onnx")
    arguments = ["net.onnx", "-o", "repo", "--recipe", "imagenet", "--golden", "gone"]
    command = [sys.executable, "-m", "modelport", "pack", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    note, *_, error = done.stderr.splitlines()
    assert note == "note: the batch of 1 became a batch of any size"
    assert error == "error: no such file or directory: gone"
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize(("name", "extra"), [("sklearn", True), ("paddle", False)])
def test_a_framework_that_is_not_there_may_be_had_in_two_ways(name: str, extra: bool) -> None:
    with pytest.raises(Unsupported) as refusal:
        _made(environments.table(name), ["gone >= 1"], Permission())
    hint = str(refusal.value.hint)
    assert hint.startswith("--isolate makes")
    assert (f"pip install 'modelport[{name}]'" in hint) == extra
