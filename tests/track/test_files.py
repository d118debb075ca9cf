"""MOTChallenge's format, the scores beside TrackEval's, and what embedding bundles see."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import modelport
from benchmarks.tracking import by_trackeval
from modelport.errors import InputError, NotFound, UsageError
from modelport.runtimes.pipeline import Pipeline
from modelport.track.appearance import Appearance, cut_out, unit
from modelport.track.mot import by_frame, read_rows, write_rows
from modelport.track.scores import score

from ..colours import pack_colours

NUMBER = st.floats(-500, 4000, allow_nan=False).map(lambda value: round(value, 2))
SIDE = st.floats(1, 900).map(lambda value: round(value, 2))


def pack_looks(folder: Path, out: Path | None = None) -> Path:
    """`looks` answers a picture with its mean colour: a vector of three."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["vector"]),
        ],
        "looks",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["N", 3])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        folder / "looks.onnx",
    )
    (folder / "looks.toml").write_text(
        'description = "Mean colour"\ntask = "embedding"\n'
        "pre = [{ resize = { size = 16 } }, { scale = { divide = 255 } }, "
        '{ layout = "chw" }]\npost = []\n'
    )
    out = out or folder / "looks"
    modelport.pack(folder / "looks.onnx", out=out, name="looks", recipe=folder / "looks.toml")
    return out


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 99), NUMBER, NUMBER, SIDE, SIDE), max_size=20))
def test_what_is_written_is_read_again(objects: list[tuple[int, int, float, float, float, float]]) -> None:
    file = io.StringIO()
    for frame, track, x, y, width, height in objects:
        write_rows(file, frame, [{"track": track, "box": [x, y, x + width, y + height], "score": 0.5}])
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.txt"
        path.write_text(file.getvalue())
        rows = read_rows(path)
    assert [(row.frame, row.track) for row in rows] == [each[:2] for each in objects]
    for row, (_, _, x, y, width, height) in zip(rows, objects, strict=True):
        assert row.box == pytest.approx((x, y, x + width, y + height), abs=0.011)


def test_the_files_of_the_challenge(tmp_path: Path) -> None:
    """Frames and pixels count from 1 there and from 0 here; commas or spaces; scores and classes at will."""
    path = tmp_path / "det.txt"
    path.write_text("1,-1,11,21,30,40,0.5,-1,-1,-1\n\n# a remark\n2 7 1 1 5 6\n")
    one, two = read_rows(path)
    assert (one.frame, one.track, one.box, one.score) == (0, -1, (10, 20, 40, 60), 0.5)
    assert (two.frame, two.track, two.box, two.score) == (1, 7, (0, 0, 5, 6), 1.0)
    assert by_frame([one], "person")[0] == [
        {"label": "person", "class": 0, "score": 0.5, "box": [10, 20, 40, 60]}
    ]


@pytest.mark.parametrize("line", ["a,b,c", "1,1,1,1,1", "0,1,1,1,5,5", "1,1,1,1,-5,5", "1,1,nan,1,5,5"])
def test_lines_that_are_none_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "det.txt"
    path.write_text(f"1,1,1,1,5,5\n{line}\n")
    with pytest.raises(InputError, match=r"det\.txt:2"):
        read_rows(path)
    with pytest.raises(NotFound):
        read_rows(tmp_path / "none.txt")


def made_up(path: Path, seed: int, *, noise: float = 0.0) -> None:
    """Six objects cross the picture; with noise some are missed, false, or change identity."""
    random = np.random.default_rng(seed)
    with path.open("w") as file:
        for frame in range(60):
            for number in range(6):
                x, y = 20 + 8 * frame + 30 * number, 40 + 70 * number
                track = number + 1
                if noise and random.random() < 0.2:
                    continue
                if noise and frame > 30 and number < 2:
                    track = 2 - number
                x, y = x + random.normal(0, noise), y + random.normal(0, noise)
                file.write(f"{frame + 1},{track},{x:.2f},{y:.2f},40,60,1,1,1\n")
            if noise and random.random() < 0.4:
                file.write(f"{frame + 1},99,{random.uniform(0, 500):.2f},5,40,60,1,1,1\n")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_scores_are_those_of_trackeval(tmp_path: Path, seed: int) -> None:
    truth, result = tmp_path / "gt.txt", tmp_path / "result.txt"
    made_up(truth, 0)
    made_up(result, seed, noise=3.0)
    ours = score(truth, result)
    for name, value in by_trackeval(read_rows(truth), read_rows(result)).items():
        assert getattr(ours, name) == pytest.approx(value, abs=1e-6), name
    assert 0 < ours.idf1 < 1 and ours.id_switches > 0


def test_a_perfect_result_scores_one(tmp_path: Path) -> None:
    truth = tmp_path / "gt.txt"
    made_up(truth, 0)
    ours = score(truth, truth)
    assert (ours.mota, ours.idf1, ours.hota) == pytest.approx((1, 1, 1))
    ignored = tmp_path / "ignored.txt"
    ignored.write_text("1,1,1,1,5,5,0\n")
    with pytest.raises(InputError, match="counts"):
        score(ignored, truth)


def test_looks_are_vectors_of_length_one(tmp_path: Path) -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:, :50] = (200, 0, 0)
    picture[:, 50:] = (0, 0, 90)
    with Pipeline.open(pack_looks(tmp_path) / "looks" / "1") as pipeline:
        seen = Appearance(pipeline).vectors(
            picture, [{"box": [5, 5, 40, 90]}, {"box": [60, 5, 200, 90]}, {"box": [-50, -50, -20, -20]}]
        )
        assert Appearance(pipeline).vectors(picture, []).shape[0] == 0
    assert seen == pytest.approx(np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]]), abs=1e-4)
    with Pipeline.open(pack_colours(tmp_path) / "colours" / "1") as pipeline, pytest.raises(UsageError):
        Appearance(pipeline)
    with pytest.raises(InputError, match="zeros"):
        unit(np.zeros((2, 3)))
    assert cut_out(picture, [98.7, 99.9, 150, 150]).shape == (2, 2, 3)
