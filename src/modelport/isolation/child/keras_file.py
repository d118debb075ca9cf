"""A `.keras` archive or an `.h5` file, those of Keras 2 included, to ONNX with Keras's own export.

Keras's safe mode is on, and layers that hold Python are refused before Keras sees them, unless the user
trusts the file: then they run here, in the confined process.
"""

from __future__ import annotations

import inspect
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .converter import FAILURES, NotConverted, Refused, Unclear, first_line
from .frames import Array
from .keras_head import takes_pixels
from .keras_network import NEVER_CALLED, KerasNetwork, Shape
from .tensorflow_graph import Said, import_tensorflow, name_open_axes, packed

PACK_OBJECT = "load it in Python with its classes and pack the object: modelport.pack(model, …)"
MAX_CONFIG = 64 << 20
SIDE = 32
CODE_LAYERS = frozenset({"Lambda", "__lambda__"})
NEUTRAL = {
    "groups": (1,),
    "time_major": (False,),
    "renorm": (False,),
    "virtual_batch_size": (None,),
    "fused": (None, True, False),
    "implementation": (1, 2),
}
"""Parameters that older Keras wrote and newer layers no longer have -> values that change nothing."""


class Converter:
    """`open` loads and exports; `run` computes a batch with the model."""

    def __init__(self) -> None:
        self.network: KerasNetwork | None = None

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which.

        `open` has `form`, `keras` or `h5`, and `trusted`.
        """
        if fields["do"] == "open":
            path, form = Path(fields["path"]), str(fields["form"])
            return self.open(path, form, bool(fields["trusted"]), fields["inputs"])
        assert self.network is not None
        return {}, self.network.compute(arrays)

    def open(
        self, path: Path, form: str, trusted: bool, said: Said
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the model is (JSON), and the ONNX file as uint8[bytes].

        Raises:
            Refused: damaged, or not what newer Keras takes. NotConverted: it holds Python code, layers of
                its own, or weights only; or the export fails. Unclear: nothing says what it takes.
        """
        tf = import_tensorflow()
        import keras

        model = _model(keras, path, form, trusted)
        network = self.network = KerasNetwork(keras, model)
        shapes = _shapes(network, said)
        feeds = {name: _ones(*shape) for name, shape in zip(network.order, shapes, strict=True)}
        outputs = tuple(network.compute(feeds))
        proto = network.export(path.name, outputs, shapes)
        name_open_axes(proto, said)
        framework = f"keras {keras.__version__} on tensorflow {tf.__version__}"
        about: dict[str, Any] = {"kind": form, "framework": framework, "notes": []}
        if reason := takes_pixels(keras, model):
            about["declared"] = {"pixels": reason}
        return about, packed(proto)


def _shapes(network: KerasNetwork, said: Said) -> list[Shape]:
    """What each input takes, as the model and the user say it; the names are kept in `network`."""
    given = [(str(one["name"]), str(one["dtype"]), list(one["shape"])) for one in said]
    inputs = [(name, dtype, list(shape)) for name, dtype, shape in network.inputs()] or given
    if not inputs:
        raise Unclear(NEVER_CALLED, "--input 'x:float32[batch,32,32,3]'")
    names = tuple(name for name, _, _ in inputs)
    if given and tuple(name for name, _, _ in given) != names:
        raise Unclear(f"the model takes {', '.join(names)}, not {', '.join(one[0] for one in given)}")
    network.order = names
    return [(dtype, shape) for _, dtype, shape in given or inputs]


def _ones(dtype: str, shape: Sequence[int | str | None]) -> Array:
    """Two rows, which also settle what a model takes that was never called."""
    return np.ones((2, *(size if isinstance(size, int) else SIDE for size in shape[1:])), dtype)


def _model(keras: Any, path: Path, form: str, trusted: bool) -> Any:
    # Keras tells formats by a name's ending; and what is mended is never the user's own file.
    copy = Path.cwd() / f"model.{form}"
    shutil.copyfile(path, copy)
    copy.chmod(0o600)
    config = _mended_h5(keras, copy, path) if form == "h5" else _archived(copy, path)
    code = _code_in(config)
    if code and not trusted:
        raise NotConverted(
            f"{path.name} has {code}, which is Python code inside the file",
            "if you trust whoever made it: --trust runs it in a process of its own, without network; or load "
            "it in Python and pack the object: modelport.pack(model, …)",
        )
    if form != "h5":
        _refuse_custom(keras, config, path)
    if code:
        _offer_names(keras)
    try:
        return keras.models.load_model(copy, compile=False, safe_mode=not code)
    except (*FAILURES, OSError, zipfile.BadZipFile) as problem:
        reason = first_line(problem)
        if "Unknown layer" in reason or code:
            what = "does not load with its Python code" if code else "has layers of its own"
            raise NotConverted(f"{path.name} {what}: {reason}", PACK_OBJECT) from problem
        raise Refused(f"Keras does not load {path.name}: {reason}") from problem


def _archived(copy: Path, path: Path) -> Any:
    try:
        with zipfile.ZipFile(copy) as archive:
            if archive.getinfo("config.json").file_size > MAX_CONFIG:
                raise Refused(f"the configuration in {path.name} is too large")
            return _parsed(archive.read("config.json"), path)
    except (zipfile.BadZipFile, KeyError, RuntimeError, OSError) as problem:
        raise Refused(f"{path.name} is a damaged archive: {first_line(problem)}") from problem


def _mended_h5(keras: Any, copy: Path, path: Path) -> Any:
    """The configuration of an .h5, with what newer Keras no longer knows taken out of the file.

    Only parameters with a value that changes nothing are taken out.
    """
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(copy, "r+") as file:
            text = file.attrs.get("model_config")
            if text is None:
                raise NotConverted(
                    f"{path.name} holds weights and no network",
                    "build the model in Python, model.load_weights(…), then pack the object",
                )
            config = _parsed(text, path)
            _drop_unknown(keras, config)
            file.attrs["model_config"] = json.dumps(config)
            return config
    except (OSError, RuntimeError, KeyError) as problem:
        raise Refused(f"{path.name} is a damaged HDF5 file: {first_line(problem)}") from problem


def _parsed(text: str | bytes, path: Path) -> Any:
    if len(text) > MAX_CONFIG:
        raise Refused(
            f"the configuration in {path.name} has {len(text)} bytes; at most {MAX_CONFIG} are read"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise Refused(f"the configuration in {path.name} is not JSON: {problem}") from problem


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object of a configuration, without recursion: the file's nesting is its own."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _code_in(config: Any) -> str:
    """The layers that hold Python, in words; empty where there are none."""
    names = []
    for found in _objects(config):
        if found["class_name"] in CODE_LAYERS:
            inner = found.get("config")
            name = found.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
            if name or found["class_name"] == "Lambda":
                names.append(str(name or ""))
    if not names:
        return (
            "a function of its own" if any(o["class_name"] in CODE_LAYERS for o in _objects(config)) else ""
        )
    if len(names) == 1:
        return f"a Lambda layer {names[0]!r}"
    return f"{len(names)} Lambda layers ({', '.join(sorted(names)[:4])})"


def _offer_names(keras: Any) -> None:
    """What code in a Lambda usually names, where Keras looks for it when it brings such code to life."""
    import tensorflow as tf
    from keras.src.utils import python_utils

    usual = {"tf": tf, "tensorflow": tf, "keras": keras, "K": keras.backend, "np": np, "numpy": np}
    for name, value in usual.items():
        if not hasattr(python_utils, name):
            setattr(python_utils, name, value)


def _refuse_custom(keras: Any, config: Any, path: Path) -> None:
    for found in _objects(config):
        name = found.get("registered_name")
        own = name and not str(found.get("module")).startswith(("keras.", "builtins"))
        if own and keras.saving.get_registered_object(name) is None:
            raise NotConverted(f"{path.name} has a layer of its own: {name}", PACK_OBJECT)


def _drop_unknown(keras: Any, config: Any) -> None:
    for found in _objects(config):
        layer = getattr(keras.layers, str(found["class_name"]), None)
        parameters = found.get("config")
        if not isinstance(layer, type) or not isinstance(parameters, dict):
            continue
        known = inspect.signature(layer.__init__).parameters  # type: ignore[misc]
        for key, neutral in NEUTRAL.items():
            if key in parameters and key not in known and parameters[key] in neutral:
                del parameters[key]
