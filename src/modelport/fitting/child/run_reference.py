"""Stand-alone: calls a user's preprocessing function on pictures and writes what it gives as .npz.

    PYTHON run_reference.py FOLDER

FOLDER/request.json says which function and which items; FOLDER/reply.json and FOLDER/outputs.npz are the
answer. It needs NumPy, and whatever the function needs; Python 3.8 is enough. No pickle is read or written.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from typing import Any


class Refused(Exception):
    """What is told to the user; `kind` says whose fault it is."""

    def __init__(self, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.told: dict[str, Any] = {**more, "kind": kind, "message": message}


def main(folder: str) -> None:
    with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
        request = json.load(file)
    # What the function prints is no answer.
    os.dup2(2, 1)
    sys.path[0] = os.path.dirname(os.path.abspath(request["file"]))
    try:
        reply, outputs = answer(request, folder)
    except Refused as problem:
        reply, outputs = {"refused": problem.told}, {}
    import numpy

    numpy.savez(os.path.join(folder, "outputs.npz"), **outputs)
    with open(os.path.join(folder, "reply.json"), "w", encoding="utf-8") as file:
        json.dump(reply, file)


def answer(request: dict[str, Any], folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reply and the arrays: `i` for item i, `again.i` for the further calls on the first item."""
    function = load(request["file"], request["function"])
    items = request["items"]
    way, tried = choose(function, request["ways"], items[0], folder)
    outputs, failed = {}, {}
    for index, item in enumerate(items):
        try:
            outputs[str(index)] = call(function, way, item, folder)
        except Refused as problem:
            if not item["probe"]:
                problem.told["item"] = index
                raise
            failed[str(index)] = problem.told["message"]
    for again in range(request["repeats"]):
        outputs[f"again.{again}"] = call(function, way, items[0], folder)
    packages = {}
    for name in ("torch", "torchvision", "tensorflow", "keras", "PIL", "cv2", "skimage", "albumentations"):
        if name in sys.modules:
            packages[name] = str(getattr(sys.modules[name], "__version__", ""))
    return {"way": way, "tried": tried, "failed": failed, "packages": packages}, outputs


def load(path: str, name: str) -> Any:
    """The function `name`, which may be dotted, of the file at `path`."""
    try:
        spec = importlib.util.spec_from_file_location("reference", path)
        assert spec is not None and spec.loader is not None, "not a .py file"
        module = importlib.util.module_from_spec(spec)
        sys.modules["reference"] = module
        spec.loader.exec_module(module)
    except BaseException as problem:
        raise Refused("import", "importing it fails: " + last_line(problem)) from problem
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            own = [
                key
                for key, value in vars(module).items()
                if callable(value) and not key.startswith("_") and not isinstance(value, type)
            ]
            raise Refused("missing", f"there is no {name!r} in it", known=own)
        found = getattr(found, part)
    if not callable(found):
        raise Refused("missing", f"{name!r} is a {type(found).__name__} and cannot be called", known=[])
    return found


def choose(function: Any, ways: list[str], item: dict[str, Any], folder: str) -> tuple[str, list[Any]]:
    """The first way of giving a picture that the function can take, and what the others before it said."""
    tried: list[Any] = []
    for way in ways:
        try:
            call(function, way, item, folder)
            return way, tried
        except Refused as problem:
            tried.append([way, problem.told["message"]])
    if len(tried) == 1:
        raise Refused("call", tried[0][1], item=0)
    ways_of: dict[str, list[str]] = {}
    for way, message in tried:
        ways_of.setdefault(message, []).append(way)
    told = "; ".join(f"as {', '.join(same)}: {message}" for message, same in ways_of.items())
    raise Refused("call", "it takes the picture in no way. " + told, item=0)


def call(function: Any, way: str, item: dict[str, Any], folder: str) -> Any:
    """One answer, as an array."""
    try:
        result = function(given(way, item, folder))
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        raise Refused("call", last_line(problem)) from problem
    return as_array(result)


def given(way: str, item: dict[str, Any], folder: str) -> Any:
    """The picture as the function takes it."""
    if way == "path":
        return item["path"]
    if way == "bytes":
        with open(item["path"], "rb") as file:
            return file.read()
    if way == "pil":
        from PIL import Image

        image = Image.open(item["path"])
        return image if image.mode == "RGB" else image.convert("RGB")
    import numpy

    pixels = numpy.load(os.path.join(folder, item["pixels"]), allow_pickle=False)
    return pixels if way == "rgb" else numpy.ascontiguousarray(pixels[:, :, ::-1])


def as_array(result: Any) -> Any:
    """A tensor of any framework as a NumPy array of numbers.

    One tensor in a list or tuple, and `pixel_values` or the only value of a mapping, are taken for it.
    """
    import numpy

    if hasattr(result, "keys") and not hasattr(result, "shape"):
        keys = list(result.keys())
        key = "pixel_values" if "pixel_values" in keys else keys[0] if len(keys) == 1 else None
        if key is None:
            raise Refused(
                "result", f"it returns a mapping of {', '.join(map(str, keys))}; one tensor is expected"
            )
        result = result[key]
    if isinstance(result, (list, tuple)) and len(result) == 1:
        result = result[0]
    if result is None or isinstance(result, (str, bytes, bool)):
        text = "None (is there a `return`?)" if result is None else f"a {type(result).__name__}"
        raise Refused("result", f"it returns {text}; an array or a tensor is expected")
    try:
        if hasattr(result, "detach"):
            result = result.detach().cpu()
            if str(result.dtype) == "torch.bfloat16":
                result = result.float()
            array = result.numpy()
        elif hasattr(result, "numpy") and callable(result.numpy):
            array = numpy.asarray(result.numpy())
        else:
            array = numpy.asarray(result)
    except Exception as problem:
        text = f"it returns a {type(result).__name__}, which is no array: {problem}"
        raise Refused("result", text) from problem
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise Refused("result", f"it returns {type(result).__name__} of {array.dtype}; numbers are expected")
    if array.ndim < 1 or array.size == 0:
        raise Refused("result", f"it returns an array of shape {list(array.shape)}")
    return numpy.ascontiguousarray(array)


def last_line(problem: BaseException) -> str:
    """What was raised, and the last line of the user's own code on the way to it."""
    here = os.path.abspath(__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(problem.__traceback__)
        if os.path.abspath(frame.filename) != here and not frame.filename.startswith("<frozen")
    ]
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    first = str(problem).strip().split("\n")[0]
    text = f"{type(problem).__name__}: {first[:300]}"
    if isinstance(problem, SyntaxError) and problem.filename:
        return f"{text} ({os.path.basename(problem.filename)}:{problem.lineno})"
    if own:
        frame = own[-1]
        text += f" ({os.path.basename(frame.filename)}:{frame.lineno}: {frame.line})"
    return text


if __name__ == "__main__":
    main(sys.argv[1])
