"""A1: nothing that comes from outside is ever unpickled, whatever it is called and wherever it hides."""

from __future__ import annotations

import ast
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .wire import Target, as_json, post

SOURCES = Path(__file__).resolve().parents[3] / "src" / "modelport"
PLACES = [
    "/predict/sum",
    "/predict/colours",
    "/v2/models/sum/infer",
    "/v2/models/colours/infer",
    "/v2/repository/index",
    "/invocations",
    "/v1/models/sum:predict",
    "/predictions/sum",
    "/api/predict/sum",
    "/models/sum",
    "/",
]
TYPES = [
    "application/vnd.bentoml+pickle",
    "application/python-pickle",
    "application/x-pickle",
    "application/octet-stream",
    "application/x-npy",
    "application/x-npz",
    "application/x-joblib",
    "application/x-yaml",
    "application/json",
    "application/x-www-form-urlencoded",
]


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def objects(save: Callable[..., None], array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def forms(marker: Path) -> dict[str, bytes]:
    exploit = pickle.dumps(Exploit(marker))
    array = np.array([Exploit(marker)], dtype=object)
    return {
        "pickle": exploit,
        "pickle in ascii": pickle.dumps(Exploit(marker), protocol=0),
        "npy of objects": objects(np.save, array),
        "npz of objects": objects(lambda file, value, **_: np.savez(file, x=value), array),
        "torch": zipped("archive/data.pkl", exploit),
        "npz with a pickle": zipped("x.npy", exploit),
        "joblib": b"\x80\x04" + exploit[2:],
        "yaml": f"!!python/object/apply:os.system ['touch {marker}']".encode(),
        "jsonpickle": as_json(
            {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [f"touch {marker}"]}]}
        ),
        "json": as_json({"inputs": {"x": {"__reduce__": ["os.system", [f"touch {marker}"]]}}}),
    }


@pytest.mark.parametrize("form", forms(Path("x")))
def test_objects_that_run_code_when_read_are_not_read(target: Target, tmp_path: Path, form: str) -> None:
    marker = tmp_path / "owned"
    data = forms(marker)[form]
    for path in PLACES:
        for kind in TYPES:
            reply = target.one(post(path, data, content_type=kind))
            index = path == "/v2/repository/index"
            assert reply.status in (400, 401, 403, 404, 405, 413, 415, 422) or (
                index and reply.status == 200
            ), (
                path,
                kind,
                reply,
            )
    assert not marker.exists()


def test_objects_inside_tensors_are_bytes_and_stay_bytes(target: Target, tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    data = pickle.dumps(Exploit(marker))
    element = len(data).to_bytes(4, "little") + data
    for model, name in (("colours", "image"), ("sum", "x")):
        text = as_json(
            {
                "inputs": [
                    {
                        "name": name,
                        "datatype": "BYTES",
                        "shape": [1],
                        "parameters": {"binary_data_size": len(element)},
                    }
                ]
            }
        )
        reply = target.one(
            post(f"/v2/models/{model}/infer", text + element, inference_header_content_length=len(text))
        )
        assert reply.status in (400, 415)
    assert not marker.exists()


def test_the_exploit_is_one(tmp_path: Path) -> None:
    """The tests above would see it, if it ran."""
    marker = tmp_path / "owned"
    (tmp_path / "data").write_bytes(forms(marker)["pickle"])
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "data")], check=True, timeout=60)
    assert marker.exists()


READERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "yaml"}


def test_the_serving_side_imports_nothing_that_unpickles() -> None:
    """Nor between its own processes: `multiprocessing` queues and connections pickle what passes through."""
    checked = 0
    for folder in ("serve", "engine", "runtimes", "bundle", "monitor", "rollout", "steps", "client"):
        for path in (SOURCES / folder).rglob("*.py"):
            checked += 1
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                for name in names:
                    first, _, rest = name.partition(".")
                    assert first not in READERS, f"{path}:{node.lineno} imports {name}"
                    assert first != "multiprocessing" or rest in ("shared_memory", "resource_tracker"), (
                        f"{path}:{node.lineno} imports {name}"
                    )
    assert checked > 30
